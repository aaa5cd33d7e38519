//! Containers that live in the namespaces of the one that is updated (reliability.md S17), or have
//! its volumes (S18).

use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerInspectResponse, HostConfig, RestartPolicy,
    RestartPolicyNameEnum as Restart,
};
use futures::StreamExt;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::{End, completed};
use plimsoll_support::wait;
use plimsoll_worker::operations::{CrashPoint, Manner, Side};

use crate::world::{Deployed, World};

/// Each needs a registry and waits for a lease to run out.
const AT_A_TIME: usize = 5;

/// A parent and those that live with it.
struct Family {
    world: World,
    parent: Deployed,
    /// Runs, in the parent's network namespace by its id.
    by_id: Deployed,
    /// Does not run, in the parent's network namespace by its name.
    by_name: Deployed,
    /// Runs, in the process namespace of `by_id`.
    grandchild: Deployed,
    /// Runs, with the parent's volumes by its id.
    reader: Deployed,
}

impl Family {
    async fn new() -> Self {
        let world = World::new().await;
        let parent = world
            .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
            .await;
        let shares = |target: &str| HostConfig {
            network_mode: Some(format!("container:{target}")),
            ..always()
        };
        let by_id = create(&world, "by-id", shares(&parent.id)).await;
        start(&world, &by_id).await;
        let by_name = create(&world, "by-name", shares(&parent.name)).await;
        let process = HostConfig {
            pid_mode: Some(format!("container:{}", by_id.id)),
            ..always()
        };
        let grandchild = create(&world, "grandchild", process).await;
        start(&world, &grandchild).await;
        let volumes = HostConfig {
            volumes_from: Some(vec![format!("{}:ro", parent.id)]),
            ..always()
        };
        let reader = create(&world, "reader", volumes).await;
        start(&world, &reader).await;
        Self {
            world,
            parent,
            by_id,
            by_name,
            grandchild,
            reader,
        }
    }

    fn dependants(&self) -> [&Deployed; 4] {
        [&self.by_id, &self.by_name, &self.grandchild, &self.reader]
    }

    async fn now(&self, one: &Deployed) -> ContainerInspectResponse {
        let found = self.world.docker.inspect(&one.name).await;
        found.unwrap_or_else(|| panic!("{} is there", one.name))
    }

    async fn check_that_all_moved(&self) {
        let parent = id(&self.now(&self.parent).await);
        let by_id = self.now(&self.by_id).await;
        let by_name = self.now(&self.by_name).await;
        let grandchild = self.now(&self.grandchild).await;
        let network = |one: &ContainerInspectResponse| host(one).network_mode.unwrap_or_default();
        assert_eq!(network(&by_id), format!("container:{parent}"));
        let by_name_mode = network(&by_name);
        assert!(
            by_name_mode == format!("container:{}", self.parent.name)
                || by_name_mode == format!("container:{parent}"),
            "{by_name_mode}"
        );
        let pid_mode = host(&grandchild).pid_mode.unwrap_or_default();
        assert_eq!(pid_mode, format!("container:{}", id(&by_id)));
        let volumes_from = host(&self.now(&self.reader).await).volumes_from;
        assert_eq!(volumes_from, Some(vec![format!("{parent}:ro")]));
        for was in self.dependants() {
            assert_ne!(id(&self.now(was).await), was.id, "{} is new", was.name);
        }
        self.check_that_all_do_what_they_did().await;
    }

    async fn check_that_none_moved(&self) {
        for was in self.dependants() {
            assert_eq!(id(&self.now(was).await), was.id, "{}", was.name);
        }
        self.check_that_all_do_what_they_did().await;
    }

    async fn check_that_all_do_what_they_did(&self) {
        for (was, runs) in [
            (&self.by_id, true),
            (&self.by_name, false),
            (&self.grandchild, true),
            (&self.reader, true),
        ] {
            let now = self.now(was).await;
            let policy = host(&now).restart_policy.and_then(|policy| policy.name);
            assert_eq!(policy, Some(Restart::ALWAYS), "{}", was.name);
            let running = now.state.and_then(|state| state.running);
            assert_eq!(running, Some(runs), "{} runs", was.name);
        }
        let all = self.world.docker.containers().await;
        assert_eq!(all.len(), 5, "nobody is there twice: {all:#?}");
    }

    async fn audited(&self, one: &Deployed) -> (String, String) {
        let sql = "SELECT status, details FROM audit
                    WHERE container_name = $1 AND action = 'container-restart'";
        let row = self.world.rows.query_one(sql, &[&one.name]).await;
        let row = row.expect("the audit log knows it");
        (row.get(0), row.get(1))
    }
}

fn always() -> HostConfig {
    HostConfig {
        restart_policy: Some(RestartPolicy {
            name: Some(Restart::ALWAYS),
            maximum_retry_count: None,
        }),
        ..HostConfig::default()
    }
}

async fn create(world: &World, stem: &str, host: HostConfig) -> Deployed {
    let name = world.docker.name(stem);
    let body = ContainerCreateBody {
        image: Some(world.registry.reference("app", "1.0.0")),
        host_config: Some(host),
        ..ContainerCreateBody::default()
    };
    let id = world.docker.create(&name, body).await;
    Deployed { name, id }
}

async fn start(world: &World, container: &Deployed) {
    let started = world.docker.client().start_container(&container.id, None);
    started.await.expect("it can be started");
}

fn id(inspect: &ContainerInspectResponse) -> String {
    inspect.id.clone().unwrap_or_default()
}

fn host(inspect: &ContainerInspectResponse) -> HostConfig {
    inspect.host_config.clone().unwrap_or_default()
}

fn good() -> Image {
    Image::app("1.1.0")
}

fn bad() -> Image {
    Image::exits("1.1.0", 3, "cannot start")
}

#[tokio::test]
async fn those_that_live_in_a_replaced_container_are_made_again_in_the_new_one() {
    let family = Family::new().await;
    let _worker = family.world.worker();
    let target = family.world.push("1.1.0", good()).await;
    // The tag that the dependants name has moved on; they are not updated.
    let moved = family.world.push("1.0.0", Image::app("1.0.1")).await;
    family.world.docker.pull(&moved).await;
    let newer = family.world.docker.client().inspect_image(&moved).await;
    let operation = family.world.request_update(&family.parent, &target).await;
    let before = family.now(&family.by_id).await.image;
    let (end, row) = family.world.judged(operation).await;
    assert_eq!(end, End::Succeeded, "{row:#}");
    family.check_that_all_moved().await;
    let by_id = family.now(&family.by_id).await;
    assert_eq!(by_id.image, before, "the image that it ran");
    assert_eq!(by_id.config.unwrap().image.as_deref(), Some(moved.as_str()));
    let still = family.world.docker.client().inspect_image(&moved).await;
    assert_eq!(still.unwrap().id, newer.unwrap().id, "no tag was moved");
    let (status, details) = family.audited(&family.by_id).await;
    assert_eq!(status, "success");
    assert!(details.contains("re-created"), "{details}");
}

#[tokio::test]
async fn those_that_live_in_a_container_run_again_after_its_rollback() {
    let family = Family::new().await;
    let _worker = family.world.worker();
    let target = family.world.push("1.1.0", bad()).await;
    let operation = family.world.request_update(&family.parent, &target).await;
    let (end, row) = family.world.judged(operation).await;
    assert_eq!(end, End::RolledBack, "{row:#}");
    family.check_that_none_moved().await;
    let (status, details) = family.audited(&family.by_id).await;
    assert_eq!(status, "success");
    assert!(details.contains("started again"), "{details}");
}

#[tokio::test]
async fn one_that_cannot_be_made_again_keeps_its_home() {
    let world = World::new().await;
    let _worker = world.worker();
    let parent = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let passing = HostConfig {
        network_mode: Some(format!("container:{}", parent.id)),
        auto_remove: Some(true),
        ..HostConfig::default()
    };
    let passing = create(&world, "passing", passing).await;
    start(&world, &passing).await;
    let target = world.push("1.1.0", good()).await;
    let operation = world.request_update(&parent, &target).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::Failed);
    let error = row["last_error"].as_str().unwrap();
    assert!(error.contains(&passing.name), "{error}");
    assert!(error.contains("--rm"), "{error}");
    let untouched = world.docker.inspect(&passing.id).await.unwrap();
    assert_eq!(untouched.state.unwrap().running, Some(true));
}

/// A parent, what is made of it by id, and an update of the parent that is good.
async fn lending(volumes: impl AsyncFnOnce(&World, &Deployed) -> HostConfig) -> (World, Deployed) {
    let world = World::new().await;
    let _worker = world.worker();
    let parent = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let host = volumes(&world, &parent).await;
    let reader = create(&world, "reader", host).await;
    start(&world, &reader).await;
    // Of no use to what has been created.
    if let Some(gone) = world.docker.inspect(&world.docker.name("gone")).await {
        world.docker.remove(&id(&gone)).await;
    }
    let target = world.push("1.1.0", good()).await;
    let operation = world.request_update(&parent, &target).await;
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::Succeeded, "{row:#}");
    (world, reader)
}

#[tokio::test]
async fn a_passing_container_with_volumes_of_another_is_left_as_it_is() {
    let (world, reader) = lending(async |_, parent| HostConfig {
        volumes_from: Some(vec![parent.id.clone()]),
        auto_remove: Some(true),
        ..HostConfig::default()
    })
    .await;
    // Stopped, it would be gone.
    let now = world.docker.inspect(&reader.id).await.expect("it is there");
    assert_eq!(now.state.unwrap().running, Some(true));
}

#[tokio::test]
async fn one_with_volumes_that_cannot_be_made_again_runs_on_as_it_was() {
    let (world, reader) = lending(async |world, parent| {
        let gone = create(world, "gone", HostConfig::default()).await;
        HostConfig {
            volumes_from: Some(vec![parent.id.clone(), gone.id]),
            ..always()
        }
    })
    .await;
    let now = world
        .docker
        .inspect(&reader.name)
        .await
        .expect("it is there");
    assert_eq!(id(&now), reader.id);
    let policy = host(&now).restart_policy.and_then(|policy| policy.name);
    assert_eq!(policy, Some(Restart::ALWAYS));
    assert_eq!(now.state.unwrap().running, Some(true));
    let sql = "SELECT details FROM audit
                WHERE container_name = $1 AND action = 'container-restart' AND status <> 'success'";
    let row = world.rows.query_one(sql, &[&reader.name]).await;
    let details: String = row.expect("the audit log says so").get(0);
    assert!(details.contains("No such container"), "{details}");
    assert_eq!(world.docker.containers().await.len(), 2);
}

#[tokio::test]
async fn an_update_of_a_dependant_waits_and_goes_on_with_the_one_that_was_made_again() {
    let family = Family::new().await;
    let _worker = family.world.worker();
    let slow = good().healthcheck("sleep 0.5");
    let target = family.world.push("1.1.0", slow).await;
    let parent = family.world.request_update(&family.parent, &target).await;
    family
        .world
        .reaches(parent, "intent", "stop-dependants")
        .await;
    let own = family.world.push("2.0.0", Image::app("2.0.0")).await;
    let child = family.world.request_update(&family.by_id, &own).await;
    let (end, _) = family.world.judged(parent).await;
    assert_eq!(end, End::Succeeded);
    let row = completed(&family.world.rows, child.as_uuid()).await;
    assert_eq!(row["phase"], "succeeded", "{row:#}");
    family.check_that_all_moved().await;
    let now = family.now(&family.by_id).await;
    assert_eq!(now.config.unwrap().image, Some(own));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_of_a_dependant_that_is_put_aside_waits_until_it_is_back() {
    let family = Family::new().await;
    let world = &family.world;
    let target = world.push("1.1.0", good()).await;
    let point = "re-create-dependant";
    let crash = CrashPoint::new(point, Side::Before, Manner::Panic);
    let first = world.worker_that(Some(crash.clone()));
    let parent = world.request_update(&family.parent, &target).await;
    wait::until_true(
        "the worker to die with the dependant put aside",
        wait::SOON,
        async || crash.is_spent(),
    )
    .await;
    drop(first);
    let mut aside = None;
    for one in family.dependants() {
        let name = world.docker.inspect(&one.id).await.and_then(|one| one.name);
        if name.is_some_and(|name| name != format!("/{}", one.name)) {
            aside = Some(one);
        }
    }
    let aside = aside.expect("one of them is put aside");
    let own = world.push("2.0.0", Image::app("2.0.0")).await;
    let child = world.request_update(aside, &own).await;
    let _second = world.worker();
    let row = completed(&world.rows, child.as_uuid()).await;
    assert_eq!(row["phase"], "succeeded", "{row:#}");
    let (end, _) = world.judged(parent).await;
    assert_eq!(end, End::Succeeded);
    let now = family.now(aside).await;
    assert_eq!(now.config.unwrap().image, Some(own));
    family.check_that_all_do_what_they_did().await;
}

async fn survives(point: &str, side: Side, image: fn() -> Image, expected: End) {
    let family = Family::new().await;
    let world = &family.world;
    let target = world.push("1.1.0", image()).await;
    let crash = CrashPoint::new(point, side, Manner::Panic);
    let first = world.worker_that(Some(crash.clone()));
    let operation = world.request_update(&family.parent, &target).await;
    wait::until_true(
        &format!("the worker to die {side:?} {point}"),
        Duration::from_secs(40),
        async || crash.is_spent(),
    )
    .await;
    drop(first);
    let _second = world.worker();
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, expected, "{side:?} {point}: {row:#}");
    match expected {
        End::Succeeded => family.check_that_all_moved().await,
        _ => family.check_that_none_moved().await,
    }
}

async fn all_survive(points: &[(&str, Side)], image: fn() -> Image, expected: End) {
    futures::stream::iter(points)
        .for_each_concurrent(AT_A_TIME, |(point, side)| {
            survives(point, *side, image, expected)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependants_come_back_after_a_death_in_each_phase_of_an_update() {
    let points = [
        ("renamed", Side::After),
        ("stop-dependants", Side::Before),
        ("stop-dependants", Side::After),
        ("old-stopped", Side::After),
        ("start-new", Side::After),
        ("health-gate", Side::After),
        ("settle-dependants", Side::Before),
        ("re-create-dependant", Side::Before),
        ("re-create-dependant", Side::After),
        ("settle-dependants", Side::After),
        ("remove-old", Side::After),
    ];
    all_survive(&points, good, End::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dependants_come_back_after_a_death_in_each_phase_of_a_rollback() {
    let points = [
        ("rollback-started", Side::After),
        ("remove-new", Side::After),
        ("start-old", Side::After),
        ("settle-dependants", Side::Before),
        ("settle-dependants", Side::After),
        ("rolled-back", Side::Before),
    ];
    all_survive(&points, bad, End::RolledBack).await;
}
