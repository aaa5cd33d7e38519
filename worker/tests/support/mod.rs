//! A real engine for tests: images made from busybox, and a clean-up that runs whatever happens.

#![allow(dead_code, reason = "each test binary uses its own part of this")]

use std::fs;
use std::future::Future;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bollard::body_full;
use bollard::query_parameters::{
    CreateImageOptions, ListImagesOptionsBuilder, ListNetworksOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
    RemoveVolumeOptionsBuilder,
};
use bytes::Bytes;
use futures::StreamExt;
use plimsoll_domain::ids::ContainerId;
use plimsoll_worker::docker::{Engine, EngineAddress};
use serde_json::{Value, json};

pub const LABEL: &str = "plimsoll.test";

/// One test's share of the engine. Everything it makes carries its own label value.
#[derive(Clone)]
pub struct Host {
    pub engine: Engine,
    pub tag: Arc<str>,
    next: Arc<AtomicU32>,
}

/// Runs a test against the real engine and removes what it made, also when it fails.
pub async fn with_host<F, Fut>(name: &str, test: F)
where
    F: FnOnce(Host) -> Fut,
    Fut: Future<Output = ()> + Send + 'static,
{
    let address = std::env::var("DOCKER_HOST").map_or_else(
        |_| EngineAddress::local(),
        |host| EngineAddress::from_docker_host(&host, None).expect("DOCKER_HOST"),
    );
    let unique = uuid::Uuid::new_v4().simple().to_string();
    let host = Host {
        engine: Engine::new(address).expect("engine"),
        tag: format!("{name}-{}", &unique[..8]).into(),
        next: Arc::new(AtomicU32::new(0)),
    };
    let outcome = tokio::spawn(test(host.clone())).await;
    host.clean_up().await;
    if let Err(error) = outcome {
        std::panic::resume_unwind(error.into_panic());
    }
}

impl Host {
    /// A name that no other test uses.
    pub fn name(&self, what: &str) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}-{what}{number}", self.tag)
    }

    /// An image with /bin/busybox and these Dockerfile instructions. Answers its id.
    pub async fn image(&self, reference: &str, changes: &[&str]) -> String {
        let (repository, tag) = reference.rsplit_once(':').expect("repo:tag");
        let mut instructions = vec![format!("LABEL {LABEL}={}", self.tag)];
        instructions.extend(changes.iter().map(|change| (*change).to_owned()));
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            changes: instructions,
            ..CreateImageOptions::default()
        };
        let docker = self.engine.docker().await.expect("docker");
        let layer = busybox_layer(&self.name("layer"));
        let mut stream = docker.create_image(Some(options), Some(body_full(layer)), None);
        while let Some(message) = stream.next().await {
            message.expect("import");
        }
        let image = self.engine.inspect_image(reference).await.expect("image");
        image["Id"].as_str().expect("id").to_owned()
    }

    /// Creates a container whose body is `body` plus the clean-up label.
    pub async fn create(&self, name: &str, mut body: Value) -> ContainerId {
        body["Labels"][LABEL] = json!(&*self.tag);
        self.engine.create(name, &body).await.expect("create").id
    }

    pub async fn network(&self, what: &str, subnet: Option<&str>) -> String {
        let name = self.name(what);
        let mut request = bollard::models::NetworkCreateRequest {
            name: name.clone(),
            labels: Some([(LABEL.to_owned(), self.tag.to_string())].into()),
            ..Default::default()
        };
        if let Some(subnet) = subnet {
            request.ipam = Some(bollard::models::Ipam {
                config: Some(vec![bollard::models::IpamConfig {
                    subnet: Some(subnet.to_owned()),
                    ..Default::default()
                }]),
                ..Default::default()
            });
        }
        let docker = self.engine.docker().await.expect("docker");
        docker.create_network(request).await.expect("network");
        name
    }

    /// Polls an inspection until `done` says so.
    pub async fn until(&self, id: &ContainerId, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        loop {
            let inspect = self.engine.inspect(id).await.expect("inspect");
            if done(&inspect) {
                return inspect;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "not reached in time: {}",
                inspect["State"]
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn clean_up(&self) {
        let Ok(docker) = self.engine.docker().await else {
            return;
        };
        let filters =
            std::collections::HashMap::from([("label", vec![format!("{LABEL}={}", self.tag)])]);
        let containers = self
            .engine
            .list_by_label(LABEL, Some(&self.tag))
            .await
            .unwrap_or_default();
        for container in containers {
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true);
            let id = container.id.as_str();
            report(docker.remove_container(id, Some(options.build())).await);
        }
        let options = ListNetworksOptionsBuilder::new().filters(&filters).build();
        for network in docker
            .list_networks(Some(options))
            .await
            .unwrap_or_default()
        {
            let id = network.id.unwrap_or_default();
            report(docker.remove_network(&id).await);
        }
        let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
        let volumes = docker.list_volumes(Some(options)).await;
        let volumes = volumes.ok().and_then(|answer| answer.volumes);
        for volume in volumes.unwrap_or_default() {
            let options = RemoveVolumeOptionsBuilder::new().build();
            report(docker.remove_volume(&volume.name, Some(options)).await);
        }
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        for image in docker.list_images(Some(options)).await.unwrap_or_default() {
            let options = RemoveImageOptionsBuilder::new().force(true).build();
            report(docker.remove_image(&image.id, Some(options), None).await);
        }
    }
}

fn report<T>(result: Result<T, bollard::errors::Error>) {
    if let Err(error) = result {
        eprintln!("clean-up: {error}");
    }
}

/// A layer with /bin/busybox under its usual names, and one file that makes it unique: images of
/// equal content would share an id, and the tests' labels.
fn busybox_layer(unique: &str) -> Bytes {
    let directory = tempfile::tempdir().expect("tempdir");
    let root = directory.path();
    for part in ["bin", "tmp", "etc", "proc", "sys", "dev", "data"] {
        fs::create_dir(root.join(part)).expect("mkdir");
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
    for applet in ["sh", "sleep", "cat", "true", "false", "echo", "httpd", "id"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).expect("link");
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n",
    )
    .expect("passwd");
    fs::write(root.join("etc/unique"), unique).expect("unique");
    let output = Command::new("tar")
        .args([
            "--numeric-owner",
            "--owner=0",
            "--group=0",
            "-cf",
            "-",
            "-C",
        ])
        .arg(root)
        .arg(".")
        .stderr(Stdio::inherit())
        .output()
        .expect("tar");
    assert!(output.status.success());
    Bytes::from(output.stdout)
}
