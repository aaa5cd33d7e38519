//! Workers that die at each point of the program, and others that take over (reliability.md 2.2).

#[allow(dead_code)]
mod operations_support;

use std::time::Duration;

use bollard::models::RestartPolicyNameEnum as Restart;
use futures::StreamExt;
use operations_support::World;
use plimsoll_domain::ids::OperationId;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::wait;
use plimsoll_worker::operations::{CrashPoint, Manner, Side};

/// Each needs a registry and waits for a lease to run out.
const AT_A_TIME: usize = 7;
/// From the last word of the dead worker to the first of the next (DESIGN.md 3.4).
const TAKEOVER: Duration = Duration::from_secs(15);

async fn survives(point: &str, side: Side, image: fn() -> Image, expected: End) {
    let world = World::new().await;
    let app = world
        .deploy("1.0.0", Image::app("1.0.0"), Restart::ALWAYS)
        .await;
    let target = world.push("1.1.0", image()).await;
    let crash = CrashPoint::new(point, side, Manner::Panic);
    let first = world.worker_that(Some(crash.clone()));
    let operation = world.request_update(&app, &target).await;
    wait::until_true(
        &format!("the worker to die {side:?} {point}"),
        Duration::from_secs(30),
        async || crash.is_spent(),
    )
    .await;
    drop(first);
    let _second = world.worker();
    let (end, row) = world.judged(operation).await;
    // Nothing is left to be written after the end, and nothing was written before the first step.
    if let Some(gap) = takeover(&world, operation).await {
        assert!(gap < TAKEOVER, "{side:?} {point}: taken over after {gap:?}");
    }
    assert_eq!(end, expected, "{side:?} {point}: {row:#}");
    if end == End::RolledBack {
        assert!(row["last_log"].as_str().unwrap().contains("cannot start"));
    }
}

/// How long nobody wrote between two leases, by the database's clock.
async fn takeover(world: &World, operation: OperationId) -> Option<Duration> {
    let store = world.app.store();
    let journal = store.operation_journal(operation).await.unwrap();
    let change = journal
        .windows(2)
        .find(|pair| pair[0].epoch < pair[1].epoch)?;
    (change[1].at - change[0].at).to_std().ok()
}

async fn all_survive(points: &[&str], image: fn() -> Image, expected: End) {
    let cases = points
        .iter()
        .flat_map(|point| [(*point, Side::Before), (*point, Side::After)]);
    futures::stream::iter(cases)
        .for_each_concurrent(AT_A_TIME, |(point, side)| {
            survives(point, side, image, expected)
        })
        .await;
}

fn good() -> Image {
    Image::app("1.1.0")
}

fn bad() -> Image {
    Image::exits("1.1.0", 3, "cannot start")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_survives_a_death_around_each_action() {
    let points = [
        "prepare",
        "rename-old",
        "create-new",
        "neutralise-old",
        "stop-old",
        "start-new",
        "remove-old",
    ];
    all_survive(&points, good, End::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_survives_a_death_around_each_phase() {
    let points = [
        "renamed",
        "new-created",
        "old-stopped",
        "new-started",
        "health-gate",
        "health-gate-passed",
        "succeeded",
    ];
    all_survive(&points, good, End::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_survives_a_death_around_each_step() {
    let points = [
        "rollback-started",
        "remove-new",
        "rename-back",
        "restore-policy",
        "start-old",
        "rolled-back",
    ];
    all_survive(&points, bad, End::RolledBack).await;
}
