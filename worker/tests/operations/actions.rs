//! Start, stop and restart by workers that die in the middle.

use std::time::Duration;

use bollard::models::RestartPolicyNameEnum as Restart;
use futures::StreamExt;
use plimsoll_domain::operation::OperationKind;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::completed;
use plimsoll_support::wait;
use plimsoll_worker::operations::{CrashPoint, Manner, Side};

use crate::world::World;

async fn survives(kind: OperationKind, side: Side) {
    let world = World::new().await;
    let image = Image::app("1.0.0");
    let app = world.deploy("1.0.0", image, Restart::ALWAYS).await;
    if kind == OperationKind::Start {
        let docker = world.docker.client();
        docker.stop_container(&app.name, None).await.unwrap();
    }
    let before = world.docker.inspect(&app.name).await.unwrap();
    let crash = CrashPoint::new(kind.as_str(), side, Manner::Panic);
    let first = world.worker_that(Some(crash.clone()));
    let operation = world.request(&app, kind, "app:1.0.0", None).await.unwrap();
    let died = Duration::from_secs(30);
    wait::until_true("the worker to die", died, async || crash.is_spent()).await;
    let meanwhile = world.docker.inspect(&app.name).await.unwrap();
    drop(first);
    let _second = world.worker();
    let row = completed(&world.rows, operation.as_uuid()).await;
    assert_eq!(row["phase"], "succeeded", "{kind} {side:?}: {row:#}");
    let after = world.docker.inspect(&app.name).await.unwrap();
    assert_eq!(after.id, before.id);
    let (before, after) = (before.state.unwrap(), after.state.unwrap());
    let runs = kind != OperationKind::Stop;
    assert_eq!(after.running, Some(runs), "{kind} {side:?}");
    if kind == OperationKind::Restart {
        assert_ne!(after.started_at, before.started_at);
    }
    if side == Side::After {
        let seen = meanwhile.state.unwrap().started_at;
        assert_eq!(after.started_at, seen, "what was done is not done again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_action_survives_a_death_around_its_call() {
    let kinds = [
        OperationKind::Start,
        OperationKind::Stop,
        OperationKind::Restart,
    ];
    let cases = kinds
        .iter()
        .flat_map(|kind| [(*kind, Side::Before), (*kind, Side::After)]);
    futures::stream::iter(cases)
        .for_each_concurrent(6, |(kind, side)| survives(kind, side))
        .await;
}
