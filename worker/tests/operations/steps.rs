//! The check before an update and the step after it, by workers that die in the middle.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;

use bollard::models::RestartPolicyNameEnum as Restart;
use futures::StreamExt;
use plimsoll_domain::ids::OperationId;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::wait;
use plimsoll_worker::operations::{CrashPoint, Manner, Side};
use plimsoll_worker::scripts::Scripts;
use tempfile::TempDir;

use crate::world::{Deployed, World};

/// A container whose check and whose step afterwards write down that they ran.
struct Stepped {
    world: World,
    directory: TempDir,
    app: Deployed,
}

impl Stepped {
    async fn new() -> Self {
        let mut world = World::new().await;
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        for name in ["check", "after"] {
            let (program, notes) = (home.join(name), home.join("notes"));
            let script = format!("#!/bin/sh\necho {name} >> {}\n", notes.display());
            std::fs::write(&program, script).unwrap();
            std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        }
        world.scripts = Some(Scripts::new(home).unwrap());
        let labels = HashMap::from([
            ("docksmith.pre-update-check".to_owned(), "check".to_owned()),
            (
                "docksmith.post-update".to_owned(),
                "script:after".to_owned(),
            ),
        ]);
        let image = Image::app("1.0.0");
        let app = world
            .deploy_labelled("1.0.0", image, Restart::ALWAYS, labels)
            .await;
        Self {
            world,
            directory,
            app,
        }
    }

    async fn update(&self) -> OperationId {
        let target = self.world.push("1.1.0", Image::app("1.1.0")).await;
        self.world.request_update(&self.app, &target).await
    }

    fn runs(&self, name: &str) -> usize {
        let notes = std::fs::read_to_string(self.directory.path().join("notes"));
        let notes = notes.unwrap_or_default();
        notes.lines().filter(|line| *line == name).count()
    }
}

/// How often each of the two runs when a worker dies around one of them.
async fn survives(point: &str, side: Side) {
    let stepped = Stepped::new().await;
    let crash = CrashPoint::new(point, side, Manner::Panic);
    let first = stepped.world.worker_that(Some(crash.clone()));
    let operation = stepped.update().await;
    let what = format!("the worker to die {side:?} {point}");
    wait::until_true(&what, wait::SOON, async || crash.is_spent()).await;
    drop(first);
    let _second = stepped.world.worker();
    let (end, row) = stepped.world.judged(operation).await;
    assert_eq!(end, End::Succeeded, "{what}: {row:#}");
    for (name, step) in [("check", "update-check"), ("after", "post-update")] {
        // Nobody can tell whether one that a death interrupted has done its work.
        let again = point == step && side == Side::After;
        assert_eq!(stepped.runs(name), 1 + usize::from(again), "{name}, {what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_makes_a_step_run_at_most_once_more_and_never_not_at_all() {
    let points = [
        ("update-check", Side::Before),
        ("update-check", Side::After),
        ("rename-old", Side::Before),
        ("remove-old", Side::After),
        ("post-update", Side::Before),
        ("post-update", Side::After),
    ];
    futures::stream::iter(points)
        .for_each_concurrent(points.len(), |(point, side)| survives(point, side))
        .await;
}

#[tokio::test]
async fn a_check_that_takes_its_workers_with_it_twice_bars_the_update() {
    let stepped = Stepped::new().await;
    let mut operation = None;
    for _ in 0..2 {
        let crash = CrashPoint::new("update-check", Side::After, Manner::Panic);
        let _worker = stepped.world.worker_that(Some(crash.clone()));
        if operation.is_none() {
            operation = Some(stepped.update().await);
        }
        wait::until_true("the worker to die", wait::SOON, async || crash.is_spent()).await;
    }
    let _worker = stepped.world.worker();
    let (end, row) = stepped.world.judged(operation.unwrap()).await;
    assert_eq!(end, End::Failed, "{row:#}");
    let error = row["last_error"].as_str().unwrap_or_default();
    assert!(error.contains("ended twice"), "{error}");
    assert_eq!((stepped.runs("check"), stepped.runs("after")), (2, 0));
}
