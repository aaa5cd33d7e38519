//! Many containers at once. The engine takes a fraction of a second for each, one after the other.

use bollard::models::{ContainerCreateBody, HostConfig};
use futures::{StreamExt, TryStreamExt, stream};
use plimsoll_support::docker::Docker;

/// Requests that the engine works on at a time.
const AT_ONCE: usize = 8;

/// What a section needs of its containers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Created,
    Running,
}

/// A container that costs nothing while it runs.
pub fn idle(image: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(vec!["sleep".to_owned(), "1000000".to_owned()]),
        host_config: Some(HostConfig {
            // Setting up a network takes most of a start.
            network_mode: Some("none".to_owned()),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// One container for each of `images`, named after `stem`.
pub async fn make(
    docker: &Docker,
    stem: &str,
    wanted: Wanted,
    images: impl IntoIterator<Item = String>,
) -> anyhow::Result<()> {
    let images = images.into_iter().enumerate();
    stream::iter(images)
        .map(async |(n, image)| {
            let name = docker.name(&format!("{stem}-{n}"));
            let id = docker.create(&name, idle(&image)).await;
            if wanted == Wanted::Running {
                docker.client().start_container(&id, None).await?;
            }
            anyhow::Ok(())
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await
}

pub async fn pull(docker: &Docker, images: impl IntoIterator<Item = String>) {
    stream::iter(images)
        .map(async |image| docker.pull(&image).await)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
}

/// Removes the containers of this run, and then what else carries its label.
pub async fn remove_all(docker: &Docker) {
    stream::iter(docker.containers().await)
        .map(async |(_, id, _)| docker.remove(&id).await)
        .buffer_unordered(AT_ONCE)
        .collect::<()>()
        .await;
    docker.clean().await;
}
