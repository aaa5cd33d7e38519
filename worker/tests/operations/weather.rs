//! Databases and engines that go away, workers that lag behind, and people who interfere.

use std::time::Duration;

use bollard::models::{ContainerCreateBody, RestartPolicyNameEnum as Restart};
use plimsoll_app::{AppError, requests::Caller};
use plimsoll_domain::access::{Principal, Role};
use plimsoll_support::image::Image;
use plimsoll_support::oracle::{End, completed, row};
use plimsoll_support::proxy::{Fault, Proxy, Upstream};
use plimsoll_support::wait;
use plimsoll_worker::docker::{Engine, EngineAddress};
use plimsoll_worker::operations::{CrashPoint, Manner, Side};

use crate::world::{World, app as app_on};

fn local() -> Engine {
    Engine::new(EngineAddress::local()).expect("the local engine")
}

/// Takes two seconds to stop.
fn slow_to_stop() -> Image {
    Image::app("1.0.0").shell("trap 'sleep 2; exit 0' TERM; while :; do sleep 0.1; done")
}

/// Lets a worker die at a point and waits until it has.
async fn die_at(world: &World, point: &str, side: Side) -> crate::world::Worker {
    let crash = CrashPoint::new(point, side, Manner::Panic);
    let worker = world.worker_that(Some(crash.clone()));
    wait::until_true(point, Duration::from_secs(30), async || crash.is_spent()).await;
    worker
}

#[tokio::test]
async fn a_worker_that_is_asked_to_end_hands_over_without_a_takeover() {
    let world = World::new().await;
    let first = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let image = Image::app("1.1.0").healthcheck("sleep 0.5");
    let target = world.push("1.1.0", image).await;
    let operation = world.request_update(&app, &target).await;
    world.reaches(operation, "phase", "health-gate").await;
    first.stop().await;
    let _second = world.worker();
    assert_eq!(world.judged(operation).await.0, End::Succeeded);
    assert_eq!(world.takeovers(operation).await, 0);
}

#[tokio::test]
async fn a_worker_that_lags_behind_changes_nothing_any_more() {
    let world = World::new().await;
    let proxy = Proxy::tcp(Upstream::Unix(world.database.socket())).await;
    let behind = app_on(&world.database.url_through(proxy.port()));
    let first = world.worker_on(&behind, local(), None);
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let image = Image::app("1.1.0").healthcheck("sleep 0.5");
    let target = world.push("1.1.0", image).await;
    let operation = world.request_update(&app, &target).await;
    world.reaches(operation, "phase", "new-created").await;
    proxy.set(Fault::Blackhole);
    let _second = world.worker();
    assert_eq!(world.judged(operation).await.0, End::Succeeded);
    assert_eq!(world.takeovers(operation).await, 1);
    proxy.set(Fault::None);
    // The first one wakes up: its next write finds that it has lost.
    first.stop().await;
    assert_eq!(world.judged(operation).await.0, End::Succeeded);
}

#[tokio::test]
async fn time_that_a_write_takes_is_not_time_that_was_watched() {
    let world = World::new().await;
    // Longer than the stability window, which the write opens.
    let slow = "CREATE FUNCTION test_slow() RETURNS trigger LANGUAGE plpgsql AS
                    $$ BEGIN PERFORM pg_sleep(1.5); RETURN NEW; END $$;
                CREATE TRIGGER test_slow BEFORE UPDATE ON update_operations FOR EACH ROW
                    WHEN (NEW.phase = 'health-gate' AND OLD.phase <> 'health-gate')
                    EXECUTE FUNCTION test_slow();";
    world.rows.batch_execute(slow).await.expect("a trigger");
    let _worker = world.worker();
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::NO)
        .await;
    let dies_in_it = Image::app("1.1.0").shell("sleep 0.7; exit 3");
    let target = world.push("1.1.0", dies_in_it).await;
    let operation = world.request_update(&app, &target).await;
    assert_eq!(world.judged(operation).await.0, End::RolledBack);
}

#[tokio::test]
async fn without_the_database_the_new_container_is_started_all_the_same() {
    let world = World::new().await;
    let proxy = Proxy::tcp(Upstream::Unix(world.database.socket())).await;
    let behind = app_on(&world.database.url_through(proxy.port()));
    let _worker = world.worker_on(&behind, local(), None);
    let app = world.deploy("1.0.0", slow_to_stop(), Restart::ALWAYS).await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    world.reaches(operation, "intent", "stop-old").await;
    proxy.set(Fault::Refuse);
    wait::until_true(
        "the new container runs",
        Duration::from_secs(6),
        async || {
            let found = world.docker.inspect(&app.name).await;
            found.and_then(|found| found.state?.running) == Some(true)
        },
    )
    .await;
    let stored = row(&world.rows, operation.as_uuid()).await;
    assert_eq!(stored["phase"], "new-created", "nothing could be written");
    proxy.set(Fault::None);
    assert_eq!(world.judged(operation).await.0, End::Succeeded);
}

#[tokio::test]
async fn an_engine_that_goes_away_while_the_service_is_down_is_waited_for() {
    let world = World::new().await;
    let socket = std::path::PathBuf::from("/var/run/docker.sock");
    let proxy = Proxy::unix(Upstream::Unix(socket)).await;
    let address = EngineAddress::Unix {
        socket: proxy.path().to_owned(),
    };
    let engine = Engine::new(address).expect("an engine");
    let _worker = world.worker_on(&world.app, engine, None);
    let app = world.deploy("1.0.0", slow_to_stop(), Restart::ALWAYS).await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    world.reaches(operation, "intent", "stop-old").await;
    proxy.set(Fault::Refuse);
    wait::until_true(
        "the old container stops",
        Duration::from_secs(20),
        async || {
            let found = world.docker.inspect(&app.id).await;
            found.and_then(|found| found.state?.running) == Some(false)
        },
    )
    .await;
    proxy.set(Fault::None);
    assert_eq!(world.judged(operation).await.0, End::Succeeded);
    assert_eq!(world.takeovers(operation).await, 0);
}

#[tokio::test]
async fn an_operation_that_kills_its_workers_is_only_rolled_back() {
    let world = World::new().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    drop(die_at(&world, "new-created", Side::After).await);
    let sql = "UPDATE jobs SET takeovers = 4 WHERE operation_id = $1";
    let id = operation.as_uuid();
    world.rows.execute(sql, &[&id]).await.unwrap();
    let _second = world.worker();
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::RolledBack);
    let reason = row["rollback_reason"].as_str().unwrap();
    assert!(reason.contains("too many workers"), "{reason}");
}

#[tokio::test]
async fn two_workers_never_run_the_same_operation() {
    let world = World::new().await;
    let _workers = [world.worker(), world.worker()];
    let first = world.push("1.0.0", Image::app("1.0.0")).await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    world.docker.pull(&first).await;
    let mut operations = Vec::new();
    for number in 0..4 {
        let name = world.docker.name(&format!("app{number}"));
        let id = world.docker.run(&name, &first).await;
        let app = crate::world::Deployed { name, id };
        operations.push(world.request_update(&app, &target).await);
    }
    for operation in operations {
        assert_eq!(world.judged(operation).await.0, End::Succeeded);
        assert_eq!(world.takeovers(operation).await, 0);
    }
}

#[tokio::test]
async fn a_name_that_somebody_takes_is_waited_for_while_the_old_container_runs() {
    let world = World::new().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    drop(die_at(&world, "renamed", Side::After).await);
    let image = world.registry.reference("app", "1.0.0");
    let foreign = world.docker.run(&app.name, &image).await;
    let _second = world.worker();
    world.reaches(operation, "phase", "rollback-failed").await;
    let old = world.docker.inspect(&app.id).await.unwrap();
    assert!(old.state.unwrap().running.unwrap());
    assert!(world.docker.inspect(&foreign).await.is_some());
    world.docker.remove(&foreign).await;
    assert_eq!(world.judged(operation).await.0, End::RolledBack);
}

#[tokio::test]
async fn a_rollback_that_cannot_end_is_left_to_whoever_acknowledges_it() {
    let world = World::new().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    let principal = Principal::anonymous(Role::Operator);
    let caller = Caller {
        principal: &principal,
        request_id: None,
        idempotency: None,
    };
    let early = world.app.acknowledge_operation(operation, &caller).await;
    assert!(matches!(early, Err(AppError::Conflict { .. })), "{early:?}");
    drop(die_at(&world, "renamed", Side::After).await);
    let image = world.registry.reference("app", "1.0.0");
    let foreign = world.docker.run(&app.name, &image).await;
    let _second = world.worker();
    world.reaches(operation, "phase", "rollback-failed").await;

    let taken = world.app.acknowledge_operation(operation, &caller).await;
    assert!(taken.unwrap().acknowledged_at.is_some());
    let row = completed(&world.rows, operation.as_uuid()).await;
    assert_eq!(row["phase"], "rollback-failed");
    // Nothing on the host was changed, and the container is free for the next operation.
    let old = world.docker.inspect(&app.id).await.unwrap();
    assert!(old.state.unwrap().running.unwrap());
    let theirs = crate::world::Deployed {
        name: app.name.clone(),
        id: foreign,
    };
    let next = world.request_update(&theirs, &target).await;
    let row = completed(&world.rows, next.as_uuid()).await;
    assert_eq!(row["phase"], "succeeded");
    assert!(world.docker.inspect(&app.id).await.is_some());
}

#[tokio::test]
async fn a_container_that_replaces_ours_is_left_alone() {
    let world = World::new().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let target = world.push("1.1.0", Image::app("1.1.0")).await;
    let operation = world.request_update(&app, &target).await;
    drop(die_at(&world, "renamed", Side::After).await);
    world.docker.remove(&app.id).await;
    let body = ContainerCreateBody {
        image: Some(world.registry.reference("app", "1.0.0")),
        ..Default::default()
    };
    let theirs = world.docker.run_with(&app.name, body).await;
    let _second = world.worker();
    let row = completed(&world.rows, operation.as_uuid()).await;
    assert_eq!(row["phase"], "rollback-failed");
    assert!(row["last_error"].as_str().unwrap().contains("superseded"));
    assert_eq!(world.survivor(&app).await.id, theirs);
}

#[tokio::test]
async fn an_old_container_that_is_gone_is_made_again_from_its_snapshot() {
    let world = World::new().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let image = Image::exits("1.1.0", 1, "bad");
    let target = world.push("1.1.0", image).await;
    let operation = world.request_update(&app, &target).await;
    drop(die_at(&world, "rollback-started", Side::After).await);
    world.docker.remove(&app.id).await;
    let _second = world.worker();
    let (end, row) = world.judged(operation).await;
    assert_eq!(end, End::RolledBack);
    let now = world.docker.inspect(&app.name).await.unwrap();
    assert_ne!(now.id.as_deref(), Some(app.id.as_str()));
    assert_eq!(
        now.image.as_deref(),
        row["snapshot"]["container"]["Image"].as_str()
    );
}
