//! Removals by workers that die in the middle, and beside operations on the same container.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, RestartPolicyNameEnum as Restart, VolumeCreateRequest};
use bollard::query_parameters::{InspectNetworkOptions, RemoveVolumeOptions};
use futures::StreamExt;
use plimsoll_app::removals::{ItemState, Removal};
use plimsoll_app::store::reservations::REMOVED;
use plimsoll_app::store::{begin, commit, jobs, jobs::NewJob, removals, removals::NewRemoval};
use plimsoll_domain::explorer::removal::{ObjectKind, RemovalRequest};
use plimsoll_domain::{ids::RemovalId, job::JobSpec, operation::OperationKind};
use plimsoll_support::docker::LABEL;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::wait;
use plimsoll_worker::operations::{CrashPoint, Manner, Side};

use crate::world::{Deployed, Worker, World};

async fn ask(world: &World, request: &RemovalRequest) -> RemovalId {
    let id = RemovalId::generate();
    let new = NewRemoval {
        id,
        watcher: &world.watcher,
        request,
        actor: "tester",
        request_id: None,
        batch: None,
    };
    let job = NewJob::now(world.watcher.clone(), JobSpec::Removal { removal: id });
    let mut client = world.app.store().client().await.unwrap();
    let tx = begin(&mut client).await.unwrap();
    removals::insert(&tx, &new).await.unwrap();
    jobs::insert(&tx, &job).await.unwrap();
    commit(tx).await.unwrap();
    id
}

fn forced(container: &Deployed) -> RemovalRequest {
    RemovalRequest::One {
        kind: ObjectKind::Container,
        reference: container.name.clone(),
        force: true,
        volumes: true,
    }
}

async fn over(world: &World, id: RemovalId) -> Removal {
    wait::until("the removal to be over", wait::SOON, async || {
        let removal = world.app.store().removal(id, 600.0).await.unwrap().unwrap();
        removal.completed_at.is_some().then_some(removal)
    })
    .await
}

/// A worker that dies there, once it has.
async fn dies(world: &World, point: &str, side: Side, asked: impl AsyncFnOnce()) {
    let crash = CrashPoint::new(point, side, Manner::Panic);
    let worker = world.worker_that(Some(crash.clone()));
    asked().await;
    let what = format!("the worker to die {side:?} {point}");
    wait::until_true(&what, wait::SOON, async || crash.is_spent()).await;
    drop(worker);
}

async fn app(world: &World) -> Deployed {
    let image = Image::app("1.0.0");
    world.deploy("1.0.0", image, Restart::ALWAYS).await
}

async fn is_there(world: &World, container: &Deployed) -> bool {
    world.docker.inspect(&container.name).await.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_that_is_asked_for_during_a_removal_is_refused_whoever_works_on() {
    let world = World::new().await;
    let app = app(&world).await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let mut removal = None;
    let asked = async || removal = Some(ask(&world, &forced(&app)).await);
    dies(&world, "stop-removed", Side::After, asked).await;
    // Nobody works on it, and it is the removal's all the same.
    let update = world.request(&app, OperationKind::Update, &target, None);
    assert!(update.await.unwrap_err().is_constraint(REMOVED));
    let _worker = world.worker();
    let removal = over(&world, removal.unwrap()).await;
    assert_eq!(removal.items[0].state, ItemState::Removed, "{removal:#?}");
    assert!(world.docker.containers().await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_leaves_what_an_update_has_or_has_made_anew() {
    let world = World::new().await;
    let app = app(&world).await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;

    // The update is in the middle of its work: there are two containers, and none of them goes.
    let mut update = None;
    let asked = async || update = Some(world.request_update(&app, &target).await);
    dies(&world, "stop-old", Side::After, asked).await;
    let removal = ask(&world, &forced(&app)).await;
    let worker = world.worker();
    let removal = over(&world, removal).await;
    assert_eq!(removal.items[0].state, ItemState::Kept, "{removal:#?}");
    assert_eq!(removal.items[0].reason.as_deref(), Some("operation"));
    let (end, row) = world.judged(update.unwrap()).await;
    assert_eq!(end, End::Succeeded, "{row:#}");
    drop(worker);

    // The update comes between the plan of the removal and its beginning.
    let app = world.survivor(&app).await;
    let target = world.push("1.2.0", Image::app("1.2.0")).await;
    let mut removal = None;
    let asked = async || removal = Some(ask(&world, &forced(&app)).await);
    dies(&world, "plan-removal", Side::After, asked).await;
    let update = world.request_update(&app, &target).await;
    let _worker = world.worker();
    let (end, row) = world.judged(update).await;
    assert_eq!(end, End::Succeeded, "{row:#}");
    let removal = over(&world, removal.unwrap()).await;
    let item = &removal.items[0];
    assert_eq!(item.state, ItemState::Kept, "{removal:#?}");
    let message = item.message.as_deref().unwrap_or_default();
    assert!(
        ["made anew", "not over"]
            .iter()
            .any(|why| message.contains(why)),
        "{message}"
    );
    let now = world.docker.inspect(&app.name).await.unwrap();
    assert_eq!(now.state.unwrap().running, Some(true));
    assert_eq!(now.config.unwrap().image, Some(target));
}

async fn survives(point: &str, side: Side) {
    let world = World::new().await;
    let app = app(&world).await;
    let mut removal = None;
    let asked = async || removal = Some(ask(&world, &forced(&app)).await);
    dies(&world, point, side, asked).await;
    let _second: Worker = world.worker();
    let removal = over(&world, removal.unwrap()).await;
    assert_eq!(removal.error, None, "{side:?} {point}");
    assert_eq!(removal.items.len(), 1, "{side:?} {point}: {removal:#?}");
    let item = &removal.items[0];
    assert_eq!(item.state, ItemState::Removed, "{side:?} {point}: {item:?}");
    assert!(!is_there(&world, &app).await, "{side:?} {point}");
    let sql = "SELECT count(*) FROM audit WHERE action = 'container-removed-from-host'";
    let told = world.rows.query_one(sql, &[]).await.unwrap();
    assert_eq!(told.get::<_, i64>(0), 1, "{side:?} {point}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_survives_a_death_at_each_of_its_steps() {
    let points = [
        ("plan-removal", Side::Before),
        ("plan-removal", Side::After),
        ("reserve-removed", Side::After),
        ("stop-removed", Side::After),
        ("remove", Side::After),
        ("settle-removed", Side::After),
        ("end-removal", Side::Before),
        ("end-removal", Side::After),
    ];
    futures::stream::iter(points)
        .for_each_concurrent(points.len(), |(point, side)| survives(point, side))
        .await;
}

/// What nobody uses, of each kind, and one of somebody else's.
async fn prune_survives(point: &str, side: Side) {
    let world = World::new().await;
    let docker = &world.docker;
    let reference = world.push("1.0.0", Image::app("1.0.0")).await;
    docker.pull(&reference).await;
    let volume = async |labels: HashMap<String, String>| {
        let request = VolumeCreateRequest {
            labels: Some(labels),
            ..Default::default()
        };
        let made = docker.client().create_volume(request).await;
        made.unwrap().name
    };
    let body = ContainerCreateBody {
        image: Some(reference.clone()),
        ..ContainerCreateBody::default()
    };
    docker.create(&docker.name("idle"), body).await;
    let network = docker.network(&docker.name("net")).await;
    let own = volume(docker.labels()).await;
    let mut others = docker.labels();
    others.insert(LABEL.to_owned(), format!("{}-other", docker.id()));
    let foreign = volume(others).await;
    let request = RemovalRequest::Unused {
        kinds: ObjectKind::ALL.into(),
        all_images: true,
        named_volumes: false,
        label: None,
    };
    let mut removal = None;
    let asked = async || removal = Some(ask(&world, &request).await);
    dies(&world, point, side, asked).await;
    let _second = world.worker();
    let removal = over(&world, removal.unwrap()).await;
    let gone: Vec<ObjectKind> = removal
        .items
        .iter()
        .filter(|item| item.state == ItemState::Removed)
        .map(|item| item.kind)
        .collect();
    assert_eq!(gone, ObjectKind::ALL, "{side:?} {point}: {removal:#?}");
    let client = docker.client();
    assert!(docker.containers().await.is_empty());
    assert!(
        client
            .inspect_network(&network, None::<InspectNetworkOptions>)
            .await
            .is_err()
    );
    assert!(client.inspect_volume(&own).await.is_err());
    assert!(client.inspect_image(&reference).await.is_err());
    assert!(
        client
            .remove_volume(&foreign, None::<RemoveVolumeOptions>)
            .await
            .is_ok()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prune_survives_a_death_at_each_of_its_steps() {
    let points = [
        ("plan-removal", Side::After),
        ("remove", Side::Before),
        ("remove", Side::After),
        ("settle-removed", Side::After),
        ("end-removal", Side::Before),
    ];
    futures::stream::iter(points)
        .for_each_concurrent(points.len(), |(point, side)| prune_survives(point, side))
        .await;
}
