//! Images for tests, made from nothing but Debian's static busybox, and pushed over HTTP.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::services::checkout_id;
use crate::tar::{Entry, archive};

/// What an image says about itself. Two equal ones have the same digest.
#[derive(Clone, Debug)]
pub struct Image {
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    labels: BTreeMap<String, String>,
    healthcheck: Option<Value>,
    volumes: Vec<String>,
    ports: Vec<String>,
    stop_signal: Option<String>,
    user: String,
    working_dir: String,
    created: String,
    platform: (String, String),
    files: BTreeMap<String, Vec<u8>>,
}

/// An image as it is stored in a registry.
pub struct Built {
    /// Digest and content of the configuration and of each layer.
    pub blobs: Vec<(String, Vec<u8>)>,
    pub manifest: Vec<u8>,
    pub digest: String,
    /// What Docker calls the image's id.
    pub image_id: String,
}

pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const MANIFEST_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

impl Image {
    /// An application that runs until it is told to stop, and then stops at once. `version` is in
    /// the label `org.opencontainers.image.version` and in the environment, so that two versions
    /// are two images.
    pub fn app(version: &str) -> Self {
        Self {
            entrypoint: Vec::new(),
            // busybox's sleep is no init: as PID 1 it would ignore SIGTERM.
            cmd: [
                "sh",
                "-c",
                "trap 'exit 0' TERM INT; echo started; while :; do sleep 1 & wait $!; done",
            ]
            .map(String::from)
            .to_vec(),
            env: vec!["PATH=/bin".into(), format!("APP_VERSION={version}")],
            labels: BTreeMap::from([
                ("org.opencontainers.image.version".into(), version.into()),
                ("plimsoll.test.checkout".into(), checkout_id().into()),
            ]),
            healthcheck: None,
            volumes: Vec::new(),
            ports: Vec::new(),
            stop_signal: None,
            user: String::new(),
            working_dir: String::new(),
            created: "2026-01-01T00:00:00Z".into(),
            platform: ("linux".into(), docker_architecture().into()),
            files: BTreeMap::new(),
        }
    }

    /// An image whose process writes `line` to standard error and exits with `code` at once.
    pub fn exits(version: &str, code: i32, line: &str) -> Self {
        Self::app(version).cmd(["sh", "-c", &format!("echo '{line}' >&2; exit {code}")])
    }

    pub fn cmd<'a>(mut self, cmd: impl IntoIterator<Item = &'a str>) -> Self {
        self.cmd = cmd.into_iter().map(String::from).collect();
        self
    }

    /// A command run by busybox's shell.
    pub fn shell(self, script: &str) -> Self {
        self.cmd(["sh", "-c", script])
    }

    pub fn entrypoint<'a>(mut self, entrypoint: impl IntoIterator<Item = &'a str>) -> Self {
        self.entrypoint = entrypoint.into_iter().map(String::from).collect();
        self
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// Every second, at most one second long, unhealthy after two failures.
    pub fn healthcheck(mut self, shell: &str) -> Self {
        self.healthcheck = Some(json!({
            "Test": ["CMD-SHELL", shell],
            "Interval": 1_000_000_000u64,
            "Timeout": 1_000_000_000u64,
            "Retries": 2,
        }));
        self
    }

    pub fn volume(mut self, path: &str) -> Self {
        self.volumes.push(path.into());
        self
    }

    /// Such as `80/tcp`.
    pub fn port(mut self, port: &str) -> Self {
        self.ports.push(port.into());
        self
    }

    pub fn stop_signal(mut self, signal: &str) -> Self {
        self.stop_signal = Some(signal.into());
        self
    }

    pub fn user(mut self, user: &str) -> Self {
        self.user = user.into();
        self
    }

    pub fn working_dir(mut self, path: &str) -> Self {
        self.working_dir = path.into();
        self
    }

    /// RFC 3339.
    pub fn created(mut self, time: &str) -> Self {
        self.created = time.into();
        self
    }

    /// As Docker names them: `linux`, `arm64`.
    pub fn platform(mut self, os: &str, architecture: &str) -> Self {
        self.platform = (os.into(), architecture.into());
        self
    }

    /// A file in a layer of its own; without a leading slash.
    pub fn file(mut self, path: &str, content: impl Into<Vec<u8>>) -> Self {
        self.files.insert(path.into(), content.into());
        self
    }

    pub fn os_and_architecture(&self) -> (&str, &str) {
        (&self.platform.0, &self.platform.1)
    }

    pub fn build(&self) -> Built {
        let mut layers = vec![base_layer().to_vec()];
        if !self.files.is_empty() {
            let entries: Vec<Entry<'_>> = self
                .files
                .iter()
                .map(|(path, content)| Entry::File {
                    path,
                    mode: 0o755,
                    content,
                })
                .collect();
            layers.push(archive(&entries));
        }
        let layers: Vec<(String, Vec<u8>)> = layers
            .into_iter()
            .map(|layer| (sha256(&layer), layer))
            .collect();
        let set = |names: &[String]| -> Value {
            names
                .iter()
                .map(|name| (name.clone(), json!({})))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let mut process = json!({
            "Cmd": self.cmd,
            "Env": self.env,
            "Labels": self.labels,
            "User": self.user,
            "WorkingDir": self.working_dir,
        });
        let optional = [
            (
                "Entrypoint",
                (!self.entrypoint.is_empty()).then(|| json!(self.entrypoint)),
            ),
            ("Healthcheck", self.healthcheck.clone()),
            (
                "Volumes",
                (!self.volumes.is_empty()).then(|| set(&self.volumes)),
            ),
            (
                "ExposedPorts",
                (!self.ports.is_empty()).then(|| set(&self.ports)),
            ),
            ("StopSignal", self.stop_signal.clone().map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                process[name] = value;
            }
        }
        let config = serde_json::to_vec(&json!({
            "architecture": self.platform.1,
            "os": self.platform.0,
            "created": self.created,
            "config": process,
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|(digest, _)| digest).collect::<Vec<_>>(),
            },
            "history": layers
                .iter()
                .map(|_| json!({"created": self.created, "created_by": "plimsoll tests"}))
                .collect::<Vec<_>>(),
        }))
        .expect("JSON can be written");
        let image_id = sha256(&config);
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": config.len(),
                "digest": image_id,
            },
            "layers": layers
                .iter()
                .map(|(digest, layer)| json!({
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": layer.len(),
                    "digest": digest,
                }))
                .collect::<Vec<_>>(),
        }))
        .expect("JSON can be written");
        let mut blobs = layers;
        blobs.push((image_id.clone(), config));
        Built {
            blobs,
            digest: sha256(&manifest),
            manifest,
            image_id,
        }
    }
}

/// `sha256:` and the hexadecimal digest.
pub fn sha256(content: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(content)))
}

fn docker_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Busybox and links for the commands that tests use. Uncompressed: Docker recognises a layer's
/// compression by its first bytes, and compressing would cost more than it saves here.
fn base_layer() -> &'static [u8] {
    static LAYER: OnceLock<Vec<u8>> = OnceLock::new();
    LAYER.get_or_init(|| {
        let busybox = std::fs::read("/bin/busybox")
            .unwrap_or_else(|error| panic!("/bin/busybox: {error}; run `make services`"));
        let links: Vec<String> =
            "cat date dd echo env false hostname httpd id kill ls mkdir nc ps rm \
             sh sleep stat test touch true wc wget"
                .split_whitespace()
                .map(|name| format!("bin/{name}"))
                .collect();
        let mut entries = vec![
            Entry::Directory {
                path: "bin/",
                mode: 0o755,
            },
            Entry::File {
                path: "bin/busybox",
                mode: 0o755,
                content: &busybox,
            },
            Entry::Directory {
                path: "etc/",
                mode: 0o755,
            },
            Entry::File {
                path: "etc/passwd",
                mode: 0o644,
                content: b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n",
            },
            Entry::Directory {
                path: "tmp/",
                mode: 0o1777,
            },
            Entry::Directory {
                path: "data/",
                mode: 0o777,
            },
        ];
        entries.extend(links.iter().map(|path| Entry::Link {
            path,
            target: "busybox",
        }));
        archive(&entries)
    })
}
