//! One test's share of the real engine, in the worker's own words.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bollard::body_full;
use bollard::query_parameters::CreateImageOptions;
use bytes::Bytes;
use futures::StreamExt;
use plimsoll_domain::ids::ContainerId;
use plimsoll_support::docker::Docker;
use plimsoll_support::image::Image;
use plimsoll_worker::docker::{Engine, EngineAddress};
use serde_json::{Value, json};

/// Everything made through it carries the test's label; dropping the last one removes it.
#[derive(Clone)]
pub struct Host {
    pub engine: Engine,
    /// The label's value, and the beginning of every name.
    pub tag: Arc<str>,
    docker: Arc<Docker>,
    next: Arc<AtomicU32>,
}

impl Host {
    pub async fn connect() -> Self {
        let docker = Docker::connect().await;
        let address = std::env::var("DOCKER_HOST").map_or_else(
            |_| EngineAddress::local(),
            |host| EngineAddress::from_docker_host(&host, None).expect("DOCKER_HOST"),
        );
        Self {
            engine: Engine::new(address).expect("engine"),
            tag: docker.id().into(),
            docker: Arc::new(docker),
            next: Arc::new(AtomicU32::new(0)),
        }
    }

    /// A name that no other test uses.
    pub fn name(&self, what: &str) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        format!("{}-{what}{number}", self.tag)
    }

    /// The labels that everything made here must carry.
    pub fn labels(&self) -> std::collections::HashMap<String, String> {
        self.docker.labels()
    }

    /// An image with busybox and these Dockerfile instructions, made by the engine itself.
    /// Answers its id.
    pub async fn image(&self, reference: &str, changes: &[&str]) -> String {
        let (repository, tag) = reference.rsplit_once(':').expect("repo:tag");
        let labels = self.labels().into_iter();
        let mut instructions: Vec<String> = labels
            .map(|(key, value)| format!("LABEL {key}={value}"))
            .collect();
        instructions.extend(changes.iter().map(|change| (*change).to_owned()));
        let options = CreateImageOptions {
            from_src: Some("-".to_owned()),
            repo: Some(repository.to_owned()),
            tag: Some(tag.to_owned()),
            changes: instructions,
            ..CreateImageOptions::default()
        };
        let layer = Image::app("1").build().blobs.remove(0).1;
        let docker = self.engine.docker().await.expect("docker");
        let body = body_full(Bytes::from(layer));
        let mut stream = docker.create_image(Some(options), Some(body), None);
        while let Some(message) = stream.next().await {
            message.expect("import");
        }
        let image = self.engine.inspect_image(reference).await.expect("image");
        image["Id"].as_str().expect("id").to_owned()
    }

    /// Creates a container whose body is `body` plus the test's labels.
    pub async fn create(&self, name: &str, mut body: Value) -> ContainerId {
        for (key, value) in self.labels() {
            body["Labels"][key] = json!(value);
        }
        self.engine.create(name, &body).await.expect("create").id
    }

    /// A bridge network; answers its name.
    pub async fn network(&self) -> String {
        self.try_network(None).await.expect("network")
    }

    /// A bridge network with a /24 of its own; answers its name and the first three numbers of its
    /// addresses. Other tests take subnets at the same time, so it takes what it can get.
    pub async fn addressed_network(&self) -> (String, String) {
        for third in 0..=255 {
            let prefix = format!("10.231.{third}");
            if let Ok(name) = self.try_network(Some(&prefix)).await {
                return (name, prefix);
            }
        }
        panic!("no subnet of 10.231.0.0/16 is free");
    }

    async fn try_network(&self, prefix: Option<&str>) -> Result<String, bollard::errors::Error> {
        let name = self.name("net");
        let ipam = prefix.map(|prefix| bollard::models::Ipam {
            config: Some(vec![bollard::models::IpamConfig {
                subnet: Some(format!("{prefix}.0/24")),
                ..Default::default()
            }]),
            ..Default::default()
        });
        let request = bollard::models::NetworkCreateRequest {
            name: name.clone(),
            labels: Some(self.labels()),
            ipam,
            ..Default::default()
        };
        let docker = self.engine.docker().await.expect("docker");
        docker.create_network(request).await.map(|_| name)
    }

    /// A named volume; answers its name.
    pub async fn volume(&self) -> String {
        let name = self.name("volume");
        let request = bollard::models::VolumeCreateRequest {
            name: Some(name.clone()),
            labels: Some(self.labels()),
            ..Default::default()
        };
        let docker = self.engine.docker().await.expect("docker");
        docker.create_volume(request).await.expect("volume");
        name
    }
}
