//! What is left over, or lands late, after an operation has ended.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, RestartPolicyNameEnum as Restart};
use bollard::query_parameters::{ListImagesOptionsBuilder, RenameContainerOptionsBuilder};
use plimsoll_domain::ids::OperationId;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_worker::docker::{Engine, EngineAddress};
use plimsoll_worker::reconcilers::{self, Retention};
use tokio_util::sync::CancellationToken;

use crate::world::{Deployed, World};

fn engine() -> Engine {
    Engine::new(EngineAddress::local()).expect("the local engine")
}

async fn tend(world: &World) {
    reconcilers::tend(&world.app, &world.watcher, &engine())
        .await
        .expect("engine and database answer");
}

/// A container that was rolled back.
async fn rolled_back(world: &World) -> (Deployed, OperationId) {
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let target = world.push("1.1.0", Image::exits("1.1.0", 1, "bad")).await;
    let operation = world.request_update(&app, &target).await;
    assert_eq!(world.judged(operation).await.0, End::RolledBack);
    (app, operation)
}

async fn taken_over(world: &World, operation: OperationId) {
    world
        .rows
        .execute(
            "UPDATE jobs SET takeovers = 1 WHERE operation_id = $1",
            &[&operation.as_uuid()],
        )
        .await
        .unwrap();
}

#[tokio::test]
async fn calls_that_land_after_a_takeover_are_undone() {
    let world = World::new().await;
    let (app, operation) = rolled_back(&world).await;
    taken_over(&world, operation).await;
    let row = world.judged(operation).await.1;
    let client = world.docker.client();
    client.stop_container(&app.id, None).await.unwrap();
    let away = RenameContainerOptionsBuilder::default()
        .name(row["temp_name"].as_str().unwrap())
        .build();
    client.rename_container(&app.id, away).await.unwrap();
    tend(&world).await;
    // Not by the oracle again: it counts the stop that this test made.
    let now = world.docker.inspect(&app.name).await.unwrap();
    assert_eq!(now.id.as_deref(), Some(app.id.as_str()));
    assert!(now.state.unwrap().running.unwrap());
    let policy = now.host_config.unwrap().restart_policy.unwrap();
    assert_eq!(policy.name, Some(Restart::ALWAYS));
}

#[tokio::test]
async fn a_container_that_somebody_stops_after_an_operation_stays_stopped() {
    let world = World::new().await;
    let (app, _) = rolled_back(&world).await;
    world
        .docker
        .client()
        .stop_container(&app.id, None)
        .await
        .unwrap();
    tend(&world).await;
    let state = world.docker.inspect(&app.id).await.unwrap().state.unwrap();
    assert!(!state.running.unwrap());
}

#[tokio::test]
async fn leftovers_go_and_containers_of_unknown_operations_stay() {
    let world = World::new().await;
    let (_, operation) = rolled_back(&world).await;
    let labelled = |name: &str, operation: OperationId| {
        let body = ContainerCreateBody {
            image: Some(world.registry.reference("app", "1.0.0")),
            labels: Some(HashMap::from([
                ("plimsoll.operation".to_owned(), operation.to_string()),
                ("plimsoll.role".to_owned(), "new".to_owned()),
            ])),
            ..Default::default()
        };
        let name = world.docker.name(name);
        let docker = &world.docker;
        async move { docker.run_with(&name, body).await }
    };
    let leftover = labelled("leftover", operation).await;
    let unknown = labelled("unknown", OperationId::generate()).await;
    let seconds_ago = "UPDATE update_operations SET completed_at = now() - interval '10 s'
                        WHERE id = $1";
    let id = operation.as_uuid();
    world.rows.execute(seconds_ago, &[&id]).await.unwrap();
    tend(&world).await;
    assert!(world.docker.inspect(&leftover).await.is_none());
    assert!(world.docker.inspect(&unknown).await.is_some());
}

#[tokio::test]
async fn three_ways_back_are_kept_and_stale_pins_go() {
    let world = World::new().await;
    let worker = world.worker();
    let mut app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let mut last = None;
    for version in ["1.1.0", "1.2.0", "1.3.0", "1.4.0"] {
        let target = world.push(version, Image::app(version)).await;
        let operation = world.request_update(&app, &target).await;
        assert_eq!(world.judged(operation).await.0, End::Succeeded);
        app = world.survivor(&app).await;
        last = Some(operation);
    }
    worker.stop().await;
    let store = world.app.store();
    let kept = store.backups_of(&world.identity(&app)).await.unwrap();
    let tags: Vec<&str> = kept.iter().map(|b| b.image_tag.as_str()).collect();
    assert_eq!(tags, ["1.3.0", "1.2.0", "1.1.0"]);

    // As if the worker had died before it could let go of the pin.
    let last = last.unwrap().as_uuid();
    let forget = "DELETE FROM backups WHERE operation_id = $1";
    world.rows.execute(forget, &[&last]).await.unwrap();
    let pins = async || {
        let options = ListImagesOptionsBuilder::default()
            .filters(&HashMap::from([(
                "label",
                vec![format!("plimsoll.test={}", world.docker.id())],
            )]))
            .build();
        let images = world
            .docker
            .client()
            .list_images(Some(options))
            .await
            .unwrap();
        let tags = images.into_iter().flat_map(|image| image.repo_tags);
        tags.filter(|tag| tag.starts_with("plimsoll-backup/"))
            .count()
    };
    assert_eq!(pins().await, 3);
    tend(&world).await;
    assert_eq!(pins().await, 2);
}

#[tokio::test]
async fn reconciling_ends_when_it_is_told_to() {
    let world = World::new().await;
    let engines = HashMap::from([(world.watcher.clone(), engine())]);
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(reconcilers::run(
        world.app.clone(),
        engines,
        Retention::default(),
        shutdown.clone(),
    ));
    shutdown.cancel();
    running.await.unwrap();
}
