//! The real Docker engine, and a guard that removes what a test made on it.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, ContainerInspectResponse, NetworkCreateRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, InspectContainerOptions,
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, ListNetworksOptionsBuilder,
    ListVolumesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
    RemoveVolumeOptionsBuilder,
};
use futures::StreamExt;

use crate::postgres::blocking;
use crate::services::{checkout_id, shared};
use crate::unique;

pub const LABEL: &str = "plimsoll.test";
/// Names of the images that `scripts/images` makes, which other tests need.
const BUILT: &str = "plimsoll-built/*";
pub const CHECKOUT_LABEL: &str = "plimsoll.test.checkout";

/// A test's view of the engine. Dropping it removes every container, network, volume and image
/// that carries its label: also those that Plimsoll made from them, as it keeps labels.
pub struct Docker {
    client: bollard::Docker,
    id: String,
}

impl Docker {
    /// # Panics
    /// When no engine answers at `DOCKER_HOST` or the default socket.
    pub async fn connect() -> Self {
        crate::init();
        // From here on the reaper cleans up even if this process is killed.
        shared();
        let client = client().await;
        if let Err(error) = client.ping().await {
            panic!("no Docker engine answers ({error}); run `make services`");
        }
        Self {
            client,
            id: unique(),
        }
    }

    pub fn client(&self) -> &bollard::Docker {
        &self.client
    }

    /// Unlike any other test's: for names, labels and watchers that must not collide.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A name of a container, network or volume that no other test has.
    pub fn name(&self, stem: &str) -> String {
        format!("plimsoll-test-{}-{stem}", self.id)
    }

    /// The labels that everything a test creates must carry.
    pub fn labels(&self) -> HashMap<String, String> {
        HashMap::from([
            (LABEL.into(), self.id.clone()),
            (CHECKOUT_LABEL.into(), checkout_id().into()),
        ])
    }

    /// Pulls `reference` such as `localhost:5000/app:1.0.0` by its tag.
    pub async fn pull(&self, reference: &str) {
        let (image, tag) = reference.rsplit_once(':').expect("a reference with a tag");
        let options = CreateImageOptionsBuilder::default()
            .from_image(image)
            .tag(tag)
            .build();
        let mut progress = self.client.create_image(Some(options), None, None);
        while let Some(step) = progress.next().await {
            step.unwrap_or_else(|error| panic!("{reference} can be pulled: {error}"));
        }
    }

    /// Creates and starts a container of `image`, which must be there.
    pub async fn run(&self, name: &str, image: &str) -> String {
        let body = ContainerCreateBody {
            image: Some(image.into()),
            ..Default::default()
        };
        self.run_with(name, body).await
    }

    /// As [`Docker::run`], with labels besides the test's own.
    pub async fn run_labelled(&self, name: &str, image: &str, labels: &[(&str, &str)]) -> String {
        let labels = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let body = ContainerCreateBody {
            image: Some(image.into()),
            labels: Some(labels),
            ..Default::default()
        };
        self.run_with(name, body).await
    }

    /// As [`Docker::run`], from a full description; the test's labels are added.
    pub async fn run_with(&self, name: &str, body: ContainerCreateBody) -> String {
        let id = self.create(name, body).await;
        self.client
            .start_container(&id, None)
            .await
            .unwrap_or_else(|error| panic!("{name} can be started: {error}"));
        id
    }

    /// Creates a container without starting it; returns its id.
    pub async fn create(&self, name: &str, mut body: ContainerCreateBody) -> String {
        body.labels.get_or_insert_default().extend(self.labels());
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        self.client
            .create_container(Some(options), body)
            .await
            .unwrap_or_else(|error| panic!("{name} can be created: {error}"))
            .id
    }

    /// By name or id; `None` if there is no such container.
    pub async fn inspect(&self, container: &str) -> Option<ContainerInspectResponse> {
        match self
            .client
            .inspect_container(container, None::<InspectContainerOptions>)
            .await
        {
            Ok(found) => Some(found),
            Err(bollard::errors::Error::DockerResponseServerError {
                status_code: 404, ..
            }) => None,
            Err(error) => panic!("{container} can be inspected: {error}"),
        }
    }

    /// Name (without slash), id and state of every container with this test's label, by name.
    pub async fn containers(&self) -> Vec<(String, String, String)> {
        let mut found: Vec<_> = list(&self.client, &self.id)
            .await
            .into_iter()
            .map(|container| {
                let name = container.names.unwrap_or_default().join(",");
                (
                    name.trim_start_matches('/').to_owned(),
                    container.id.unwrap_or_default(),
                    container
                        .state
                        .map(|state| state.to_string())
                        .unwrap_or_default(),
                )
            })
            .collect();
        found.sort();
        found
    }

    /// A user-defined bridge network; returns its id.
    pub async fn network(&self, name: &str) -> String {
        let request = NetworkCreateRequest {
            name: name.into(),
            labels: Some(self.labels()),
            ..Default::default()
        };
        self.client
            .create_network(request)
            .await
            .unwrap_or_else(|error| panic!("network {name} can be created: {error}"))
            .id
    }

    /// Removes a container by force, if it is there.
    pub async fn remove(&self, container: &str) {
        let options = RemoveContainerOptionsBuilder::default()
            .force(true)
            .v(true)
            .build();
        let _ = self.client.remove_container(container, Some(options)).await;
    }

    /// Removes everything that carries this test's label.
    pub async fn clean(&self) {
        clean(&self.client, &self.id).await;
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        let id = self.id.clone();
        // A connection of its own: the pooled ones belong to the test's runtime.
        blocking(async move { clean(&client().await, &id).await });
    }
}

async fn client() -> bollard::Docker {
    bollard::Docker::connect_with_defaults()
        .expect("DOCKER_HOST is well-formed")
        .negotiate_version()
        .await
        .expect("no Docker engine answers; run `make services`")
}

fn filter(id: &str) -> HashMap<&'static str, Vec<String>> {
    HashMap::from([("label", vec![format!("{LABEL}={id}")])])
}

async fn list(client: &bollard::Docker, id: &str) -> Vec<bollard::models::ContainerSummary> {
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filter(id))
        .build();
    client
        .list_containers(Some(options))
        .await
        .expect("containers can be listed")
}

/// Docker names a volume that nobody named like an id.
fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Best effort: what resists is left to the reaper.
async fn clean(client: &bollard::Docker, id: &str) {
    let options = RemoveContainerOptionsBuilder::default()
        .force(true)
        .v(true)
        .build();
    let mut images = Vec::new();
    let mut anonymous = Vec::new();
    for container in list(client, id).await {
        let mounts = container.mounts.iter().flatten();
        anonymous.extend(
            mounts
                .filter_map(|mount| mount.name.clone())
                .filter(|name| is_anonymous(name)),
        );
        if let Some(container_id) = container.id {
            let _ = client
                .remove_container(&container_id, Some(options.clone()))
                .await;
        }
        images.extend(container.image_id);
    }
    // An update mounts the old container's anonymous volumes by name, and what has been mounted by
    // name is not removed with its container.
    for volume in anonymous {
        let options = RemoveVolumeOptionsBuilder::default().build();
        let _ = client.remove_volume(&volume, Some(options)).await;
    }
    let volumes = ListVolumesOptionsBuilder::default()
        .filters(&filter(id))
        .build();
    if let Ok(found) = client.list_volumes(Some(volumes)).await {
        for volume in found.volumes.unwrap_or_default() {
            let force = RemoveVolumeOptionsBuilder::default().force(true).build();
            let _ = client.remove_volume(&volume.name, Some(force)).await;
        }
    }
    let networks = ListNetworksOptionsBuilder::default()
        .filters(&filter(id))
        .build();
    for network in client
        .list_networks(Some(networks))
        .await
        .unwrap_or_default()
    {
        if let Some(network_id) = network.id {
            let _ = client.remove_network(&network_id).await;
        }
    }
    let labelled = ListImagesOptionsBuilder::default()
        .filters(&filter(id))
        .build();
    if let Ok(found) = client.list_images(Some(labelled)).await {
        images.extend(found.into_iter().map(|image| image.id));
    }
    images.sort();
    images.dedup();
    let kept = HashMap::from([("reference", vec![BUILT.to_owned()])]);
    let kept = ListImagesOptionsBuilder::default().filters(&kept).build();
    if let Ok(kept) = client.list_images(Some(kept)).await {
        images.retain(|image| kept.iter().all(|kept| kept.id != *image));
    }
    for image in images {
        let force = RemoveImageOptionsBuilder::default().force(true).build();
        let _ = client.remove_image(&image, Some(force), None).await;
    }
}
