//! A real registry (Debian's docker-registry) of its own for one test.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bytes::Bytes;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::image::{Image, MANIFEST, MANIFEST_LIST, sha256};
use crate::ports::free_port;
use crate::process::{Process, command};
use crate::services::shared;
use crate::wait;

/// The one account of a registry started with [`Registry::start_with_basic_auth`].
pub const USER: &str = "reader";
pub const PASSWORD: &str = "secret";
/// bcrypt of [`PASSWORD`]: docker-registry reads nothing else.
const HTPASSWD: &str = "reader:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

pub struct Registry {
    _process: Process,
    directory: TempDir,
    port: u16,
    account: Option<(&'static str, &'static str)>,
    client: Client,
}

/// One line of the registry's access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// With the query.
    pub path: String,
    pub status: u16,
}

impl Registry {
    /// An empty registry without authentication that allows deletes.
    pub async fn start() -> Self {
        Self::launch(None, None).await
    }

    /// One that tells `url` of what is pushed and pulled, with a bearer token.
    pub async fn start_telling(url: &str, token: &str) -> Self {
        let endpoint = json!({
            "name": "told",
            "url": url,
            "headers": {"Authorization": [format!("Bearer {token}")]},
            "timeout": "5s", "threshold": 5, "backoff": "1s",
        });
        Self::launch(None, Some(endpoint)).await
    }

    /// An empty registry that answers only to [`USER`] and [`PASSWORD`].
    pub async fn start_with_basic_auth() -> Self {
        Self::launch(Some((USER, PASSWORD)), None).await
    }

    async fn launch(
        account: Option<(&'static str, &'static str)>,
        endpoint: Option<Value>,
    ) -> Self {
        crate::init();
        let directory = shared().scratch();
        let storage = directory.path().join("storage");
        let password_file = directory.path().join("htpasswd");
        std::fs::write(&password_file, HTPASSWD).expect("the password file can be written");
        let mut config = json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": false}},
            "storage": {
                "filesystem": {"rootdirectory": storage},
                "delete": {"enabled": true},
                "cache": {"blobdescriptor": "inmemory"},
            },
        });
        if account.is_some() {
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": password_file}});
        }
        if let Some(endpoint) = &endpoint {
            config["notifications"] = json!({"endpoints": [endpoint]});
        }
        let client = Client::builder()
            .pool_idle_timeout(Duration::from_secs(5))
            .build()
            .expect("an HTTP client can be made");
        // A port that was free a moment ago may be taken by the time the registry binds it.
        for _ in 0..5 {
            let port = free_port();
            config["http"] = json!({"addr": format!("127.0.0.1:{port}")});
            if endpoint.is_some() {
                // It tells of itself by the name that references have.
                config["http"]["host"] = json!(format!("http://localhost:{port}"));
            }
            // JSON is YAML.
            let path = directory.path().join("config.yml");
            std::fs::write(&path, config.to_string()).expect("the configuration can be written");
            let log = std::fs::File::create(directory.path().join("log"))
                .expect("the registry's log can be created");
            let mut command = command("docker-registry");
            command
                .arg("serve")
                .arg(&path)
                .stdin(Stdio::null())
                .stderr(log.try_clone().expect("a file handle can be copied"))
                .stdout(log);
            let mut process = Process::spawn("docker-registry", command);
            let ready = wait::until("the registry", Duration::from_secs(20), || {
                let ended = process.exited().is_some();
                let answer = client.get(format!("http://127.0.0.1:{port}/v2/")).send();
                async move {
                    match answer.await {
                        Ok(_) => Some(!ended),
                        Err(_) if ended => Some(false),
                        Err(_) => None,
                    }
                }
            })
            .await;
            if ready {
                return Self {
                    _process: process,
                    directory,
                    port,
                    account,
                    client,
                };
            }
        }
        panic!("the registry found no free port in five attempts");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// `localhost:PORT`, which Docker reaches by plain HTTP without being told.
    pub fn host(&self) -> String {
        format!("localhost:{}", self.port)
    }

    /// Such as `localhost:5000/team/app:1.0.0`.
    pub fn reference(&self, repository: &str, tag: &str) -> String {
        format!("{}/{repository}:{tag}", self.host())
    }

    /// Pushes `image` under `tag` and returns the manifest's digest.
    pub async fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        self.push_tags(repository, &[tag], image).await
    }

    /// Pushes `image` once and puts its manifest under every tag.
    pub async fn push_tags(&self, repository: &str, tags: &[&str], image: &Image) -> String {
        let built = image.build();
        for (digest, content) in built.blobs {
            self.push_blob(repository, &digest, content).await;
        }
        for tag in tags {
            self.put_manifest(repository, tag, MANIFEST, built.manifest.clone())
                .await;
        }
        built.digest
    }

    /// Pushes a manifest list with one manifest for each image's platform; returns its digest.
    pub async fn push_list(&self, repository: &str, tag: &str, images: &[Image]) -> String {
        let mut manifests = Vec::new();
        for image in images {
            let built = image.build();
            let digest = built.digest.clone();
            for (digest, content) in built.blobs {
                self.push_blob(repository, &digest, content).await;
            }
            let (os, architecture) = image.os_and_architecture();
            manifests.push(json!({
                "mediaType": MANIFEST,
                "size": built.manifest.len(),
                "digest": digest,
                "platform": {"os": os, "architecture": architecture},
            }));
            self.put_manifest(repository, &digest, MANIFEST, built.manifest)
                .await;
        }
        let list = json!({"schemaVersion": 2, "mediaType": MANIFEST_LIST, "manifests": manifests})
            .to_string()
            .into_bytes();
        let digest = sha256(&list);
        self.put_manifest(repository, tag, MANIFEST_LIST, list)
            .await;
        digest
    }

    pub async fn push_blob(&self, repository: &str, digest: &str, content: Vec<u8>) {
        let path = format!("/v2/{repository}/blobs/{digest}");
        if self.send(Method::HEAD, &path, "", Bytes::new()).await.0 == StatusCode::OK {
            return;
        }
        let path = format!("/v2/{repository}/blobs/uploads/");
        let (status, location) = self.send(Method::POST, &path, "", Bytes::new()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "an upload of {digest} begins");
        let joint = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{joint}digest={digest}");
        let (status, _) = self
            .send(
                Method::PUT,
                &url,
                "application/octet-stream",
                content.into(),
            )
            .await;
        assert_eq!(status, StatusCode::CREATED, "blob {digest} is pushed");
    }

    /// Puts any manifest, well-formed or not, under a tag or digest.
    pub async fn put_manifest(&self, repository: &str, tag: &str, kind: &str, content: Vec<u8>) {
        let path = format!("/v2/{repository}/manifests/{tag}");
        let (status, _) = self.send(Method::PUT, &path, kind, content.into()).await;
        assert_eq!(status, StatusCode::CREATED, "{repository}:{tag} is pushed");
    }

    /// Removes the manifest, and with it every tag that points at it.
    pub async fn delete(&self, repository: &str, digest: &str) {
        let path = format!("/v2/{repository}/manifests/{digest}");
        let (status, _) = self.send(Method::DELETE, &path, "", Bytes::new()).await;
        assert_eq!(
            status,
            StatusCode::ACCEPTED,
            "{repository}@{digest} is deleted"
        );
    }

    /// Every request so far, the pushes of the test itself among them.
    pub fn requests(&self) -> Vec<Request> {
        std::fs::read_to_string(self.log())
            .expect("the registry's log can be read")
            .lines()
            .filter_map(parse_access_line)
            .collect()
    }

    pub fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// The status and the `Location`.
    async fn send(
        &self,
        method: Method,
        url: &str,
        kind: &str,
        body: Bytes,
    ) -> (StatusCode, String) {
        let url = match url.strip_prefix('/') {
            Some(path) => format!("http://127.0.0.1:{}/{path}", self.port),
            None => url.to_owned(),
        };
        let mut request = self.client.request(method, url).body(body);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        if let Some((user, password)) = self.account {
            request = request.basic_auth(user, Some(password));
        }
        let answer = request.send().await.expect("the test's registry answers");
        let location = answer
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        (answer.status(), location)
    }
}

/// Apache's combined format: `… "GET /v2/ HTTP/1.1" 200 2 …`.
fn parse_access_line(line: &str) -> Option<Request> {
    let mut quoted = line.split('"');
    let mut request = quoted.nth(1)?.split(' ');
    let status = quoted.next()?.split_whitespace().next()?.parse().ok()?;
    let (method, path) = (request.next()?, request.next()?);
    request.next()?.starts_with("HTTP/").then(|| Request {
        method: method.into(),
        path: path.into(),
        status,
    })
}
