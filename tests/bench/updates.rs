//! An update against the same engine calls made back to back.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use bollard::{
    models::{ContainerCreateBody, ContainerUpdateBody, RestartPolicy, RestartPolicyNameEnum},
    query_parameters::{
        CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder,
    },
};
use plimsoll_support::{docker::Docker, image::Image, registry::Registry};
use serde_json::Value;

use crate::{
    engine,
    report::{Report, median},
    setting::{Client, Setting},
};

const ROUNDS: usize = 7;
/// The shortest window that can be configured, in milliseconds; taken off the measured time.
const WINDOW: f64 = 1000.0;

pub async fn run(report: &mut Report) -> anyhow::Result<()> {
    let docker = Docker::connect().await;
    // Containers that no worker looks at.
    let unwatched = Docker::connect().await;
    let measured = measure(report, &docker, &unwatched).await;
    engine::remove_all(&docker).await;
    engine::remove_all(&unwatched).await;
    measured
}

async fn measure(report: &mut Report, docker: &Docker, unwatched: &Docker) -> anyhow::Result<()> {
    let registry = Registry::start().await;
    for version in ["1.0.0", "1.1.0"] {
        registry
            .push("bench/update", version, &Image::app(version))
            .await;
    }
    let old = registry.reference("bench/update", "1.0.0");
    let new = registry.reference("bench/update", "1.1.0");
    docker.pull(&old).await;
    docker.pull(&new).await;

    let setting = Setting::start().await;
    let api = setting.api().ready().await;
    let client = Client::sign_in(&api).await?;
    let _worker = setting.worker(docker).spawn();
    let (mut floors, mut times) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = unwatched.name(&format!("floor-{round}"));
        floors.push(by_hand(unwatched, &name, &old, &new).await?);

        let name = docker.name(&format!("update-{round}"));
        let id = docker.run_with(&name, body(&old)).await;
        client.knows(1).await?;
        client.watch().await?;
        let started = Instant::now();
        let answer = client
            .post(&format!("/containers/{id}/update"))
            .timeout(Duration::from_secs(60))
            .send()
            .await?;
        let time = started.elapsed().as_secs_f64() * 1000.0;
        let status = answer.status();
        let answer: Value = answer.json().await?;
        anyhow::ensure!(status == 200, "the update failed: {status} {answer}");
        times.push(time - WINDOW);
        docker.remove(&name).await;
        client.knows(0).await?;
    }
    let (floor, time) = (median(floors), median(times));
    report.floor("floor: the same engine calls back to back", floor, "ms");
    report
        .at_most(
            "update, stability window excluded / floor",
            time / floor,
            "x",
            1.15,
        )
        .with_floor(floor)
        .note(format!("{time:.0} ms"));
    Ok(())
}

fn body(image: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.to_owned()),
        labels: Some(HashMap::from([(
            "dd.update.stability".to_owned(),
            "1".to_owned(),
        )])),
        ..Default::default()
    }
}

/// Milliseconds of what an update does to the engine, in its order, with nothing between.
async fn by_hand(docker: &Docker, name: &str, old: &str, new: &str) -> anyhow::Result<f64> {
    let id = docker.run_with(name, body(old)).await;
    let client = docker.client();
    let started = Instant::now();
    client.inspect_container(&id, None).await?;
    client.inspect_image(old).await?;
    docker.pull(new).await;
    client.inspect_image(new).await?;
    let aside = RenameContainerOptionsBuilder::default()
        .name(&format!("{name}-old-1"))
        .build();
    client.rename_container(&id, aside).await?;
    let mut create = body(new);
    create
        .labels
        .get_or_insert_default()
        .extend(docker.labels());
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let created = client.create_container(Some(options), create).await?.id;
    let never = ContainerUpdateBody {
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            ..Default::default()
        }),
        ..Default::default()
    };
    client.update_container(&id, never).await?;
    client.stop_container(&id, None).await?;
    client.start_container(&created, None).await?;
    client.inspect_container(&created, None).await?;
    let options = RemoveContainerOptionsBuilder::default().build();
    client.remove_container(&id, Some(options)).await?;
    let time = started.elapsed().as_secs_f64() * 1000.0;
    docker.remove(&created).await;
    Ok(time)
}
