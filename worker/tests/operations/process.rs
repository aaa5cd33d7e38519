//! The worker's own binary, killed without warning in the middle of operations, and jobs that panic.
//! Redis is away. `tests/it/crashes.rs` kills workers at every point of the program.

use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use bollard::models::RestartPolicyNameEnum as Restart;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::server::Server;
use plimsoll_support::wait;
use plimsoll_worker::operations::{CRASH_AT, CrashPoint, Manner, Side};

use crate::world::World;

const SOON: Duration = Duration::from_secs(30);
/// From the last word of the dead job to the first of the next (DESIGN.md 3.4).
const TAKEOVER: Duration = Duration::from_secs(15);
const SIGABRT: i32 = 6;

/// Watches nothing by itself, because others use the engine too. Redis is away.
fn worker(world: &World) -> Server {
    Server::worker(world.database.url(), "redis://127.0.0.1:1/")
        .env("PLIMSOLL_WATCHER_LOCAL_WATCHBYDEFAULT", "false")
        .env("PLIMSOLL_UPDATE_POST_START_LIVENESS_GRACE_MS", 1_000)
}

async fn dies_at(point: &str, image: Image, expected: End) {
    let world = World::of_the_binary().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let target = world.push("1.1.0", image).await;
    let operation = world.request_update(&app, &target).await;
    let mut first = worker(&world).env(CRASH_AT, point).spawn();
    let signal = wait::until(point, SOON, || {
        let status = first.exited();
        async move { status.and_then(|status| status.signal()) }
    })
    .await;
    assert_eq!(signal, SIGABRT, "{}", first.log());
    let _second = worker(&world).spawn();
    assert_eq!(world.judged(operation).await.0, expected);
    assert_eq!(world.takeovers(operation).await, 1);
}

/// A panic ends the job and not its worker, which takes the job again when the lease has run out.
async fn panics_at(point: &str, image: Image, expected: End) {
    let world = World::new().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let target = world.push("1.1.0", image).await;
    let crash = CrashPoint::new(point, Side::After, Manner::Panic);
    let _worker = world.worker_that(Some(crash.clone()));
    let operation = world.request_update(&app, &target).await;
    assert_eq!(world.judged(operation).await.0, expected);
    assert!(crash.is_spent(), "{point}");
    assert_eq!(world.takeovers(operation).await, 1, "{point}");
    // By the database's clock.
    let journal = world.app.store().operation_journal(operation).await;
    let journal = journal.expect("the journal can be read");
    let mut pairs = journal.windows(2);
    let change = pairs.find(|pair| pair[0].epoch < pair[1].epoch);
    let change = change.expect("another lease");
    let gap = (change[1].at - change[0].at).to_std();
    assert!(gap.is_ok_and(|gap| gap < TAKEOVER), "{point}: {gap:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_panics_is_taken_again_by_its_own_worker() {
    let bad = Image::exits("1.1.0", 3, "cannot start");
    tokio::join!(
        panics_at("old-stopped", Image::app("1.1.0"), End::Succeeded),
        panics_at("start-new", Image::app("1.1.0"), End::Succeeded),
        panics_at("rename-back", bad, End::RolledBack),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_aborts_with_the_service_down_is_taken_over() {
    dies_at("old-stopped:after", Image::app("1.1.0"), End::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_aborts_between_effect_and_record_is_taken_over() {
    dies_at("create-new:after", Image::app("1.1.0"), End::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_aborts_in_a_rollback_is_taken_over() {
    let bad = Image::exits("1.1.0", 3, "cannot start");
    dies_at("remove-new:after", bad, End::RolledBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_is_killed_at_its_gate_is_taken_over() {
    let world = World::of_the_binary().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let image = Image::app("1.1.0").healthcheck("sleep 0.8");
    let target = world.push("1.1.0", image).await;
    let operation = world.request_update(&app, &target).await;
    let mut first = worker(&world).spawn();
    world.reaches(operation, "phase", "health-gate").await;
    first.kill();
    let _second = worker(&world).spawn();
    assert_eq!(world.judged(operation).await.0, End::Succeeded);
    assert_eq!(world.takeovers(operation).await, 1);
}
