//! Commands before and after an update: what runs, how often, and what a failure means.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::RestartPolicyNameEnum as Restart;
use futures::StreamExt;
use plimsoll_domain::{hooks::AllowedCommands, ids::OperationId};
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::wait;
use plimsoll_worker::operations::{CrashPoint, Manner, Side};
use serde_json::Value;
use tempfile::TempDir;

use crate::world::{Deployed, World};

struct Hooked {
    world: World,
    directory: TempDir,
    app: Deployed,
}

impl Hooked {
    /// Hooks may run `note`, which writes its arguments and environment into a file and ends with
    /// the code that the file `code` holds, if there is one.
    async fn new(labels: &[(&str, &str)], image: Image) -> Self {
        let mut world = World::new().await;
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("note");
        let home = directory.path().display();
        let script = format!(
            "#!/bin/sh\necho \"$@\" $DD_CONTAINER_NAME $DD_IMAGE_TAG $DD_UPDATE_KIND \
             $DD_UPDATE_FROM-$DD_UPDATE_TO ${{HOME:-no home}} >> {home}/notes\n\
             [ \"$2\" != hang ] || sleep 100\necho sorry >&2\nexit \"${{3:-0}}\"\n"
        );
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
        let allowed = AllowedCommands::parse(&program.display().to_string()).unwrap();
        world.hooks = Some(Arc::new(allowed));
        let labels: HashMap<String, String> = labels
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
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

    fn notes(&self) -> Vec<String> {
        let notes = std::fs::read_to_string(self.directory.path().join("notes"));
        notes
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// What the audit trail says of hooks, in order.
    async fn audited(&self, operation: OperationId) -> Vec<String> {
        let sql = "SELECT action FROM audit WHERE operation_id = $1 AND action LIKE 'hook-%'
                    ORDER BY at, id";
        let rows = self.world.rows.query(sql, &[&operation.as_uuid()]).await;
        rows.unwrap().iter().map(|row| row.get(0)).collect()
    }

    async fn run(&self) -> (End, Value, OperationId) {
        let _worker = self.world.worker();
        let operation = self.update().await;
        let (end, row) = self.world.judged(operation).await;
        (end, row, operation)
    }
}

#[tokio::test]
async fn hooks_run_around_an_update_and_are_told_of_it() {
    let labels = [
        ("dd.hook.pre", "note before 'the update'"),
        ("dd.hook.post", "note after"),
    ];
    let hooked = Hooked::new(&labels, Image::app("1.0.0")).await;
    let (end, _, operation) = hooked.run().await;
    assert_eq!(end, End::Succeeded);
    let name = &hooked.app.name;
    assert_eq!(
        hooked.notes(),
        [
            format!("before the update {name} 1.1.0 tag 1.0.0-1.1.0 no home"),
            format!("after {name} 1.1.0 tag 1.0.0-1.1.0 no home"),
        ]
    );
    assert_eq!(
        hooked.audited(operation).await,
        ["hook-configured", "hook-pre-success", "hook-post-success"]
    );
}

#[tokio::test]
async fn a_failing_pre_hook_ends_the_update_before_anything_is_touched_unless_labels_say_otherwise()
{
    let hang = ("dd.hook.timeout", "300");
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[("dd.hook.pre", "note x y 7")], "code 7: sorry"),
        (
            &[("dd.hook.pre", "note x hang"), hang],
            "did not end within 0.3 s",
        ),
        (
            &[("dd.hook.pre", "/bin/sh -c reboot")],
            "does not name `/bin/sh`",
        ),
    ];
    for (labels, reason) in cases {
        let hooked = Hooked::new(labels, Image::app("1.0.0")).await;
        let before = hooked.world.docker.containers().await;
        let (end, row, operation) = hooked.run().await;
        assert_eq!(end, End::Failed, "{row:#}");
        let error = row["last_error"].as_str().unwrap_or_default();
        assert!(error.contains(reason), "{error}");
        assert_eq!(hooked.world.docker.containers().await, before);
        assert_eq!(
            hooked.audited(operation).await,
            ["hook-configured", "hook-pre-failed"]
        );
    }
    let goes_on = [
        ("dd.hook.pre", "note x y 7"),
        ("dd.hook.pre.abort", "false"),
    ];
    let hooked = Hooked::new(&goes_on, Image::app("1.0.0")).await;
    assert_eq!(hooked.run().await.0, End::Succeeded);
}

#[tokio::test]
async fn a_failing_post_hook_changes_nothing() {
    let labels = [("dd.hook.post", "note x y 7")];
    let hooked = Hooked::new(&labels, Image::app("1.0.0")).await;
    let (end, _, operation) = hooked.run().await;
    assert_eq!(end, End::Succeeded);
    assert_eq!(
        hooked.audited(operation).await,
        ["hook-configured", "hook-post-failed"]
    );
}

#[tokio::test]
async fn hooks_of_the_image_and_hooks_that_are_off_do_not_run() {
    let image = Image::app("1.0.0").label("dd.hook.pre", "note image");
    let hooked = Hooked::new(&[], image).await;
    let (end, _, operation) = hooked.run().await;
    assert_eq!(end, End::Succeeded);
    assert!(hooked.notes().is_empty());
    assert!(hooked.audited(operation).await.is_empty());

    let labels = [("dd.hook.pre", "note off")];
    let mut hooked = Hooked::new(&labels, Image::app("1.0.0")).await;
    hooked.world.hooks = None;
    assert_eq!(hooked.run().await.0, End::Succeeded);
    assert!(hooked.notes().is_empty());
}

/// How often each of the two runs when a worker dies around one of them.
async fn survives(point: &str, side: Side) {
    let labels = [
        ("dd.hook.pre", "note before"),
        ("dd.hook.post", "note after"),
    ];
    let hooked = Hooked::new(&labels, Image::app("1.0.0")).await;
    let crash = CrashPoint::new(point, side, Manner::Panic);
    let first = hooked.world.worker_that(Some(crash.clone()));
    let operation = hooked.update().await;
    let soon = Duration::from_secs(30);
    wait::until_true("the worker to die", soon, async || crash.is_spent()).await;
    drop(first);
    let _second = hooked.world.worker();
    let (end, row) = hooked.world.judged(operation).await;
    assert_eq!(end, End::Succeeded, "{point} {side:?}: {row:#}");
    let notes = hooked.notes();
    for (word, hook) in [("before", "hook-pre"), ("after", "hook-post")] {
        let runs = notes.iter().filter(|note| note.starts_with(word)).count();
        // Nobody can tell whether one that a death interrupted has done its work.
        let again = point == hook && side == Side::After;
        assert_eq!(runs, 1 + usize::from(again), "{word} at {point} {side:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_death_makes_a_hook_run_at_most_once_more_and_never_not_at_all() {
    let points = ["hook-pre", "hook-post", "rename-old"];
    let cases = points
        .iter()
        .flat_map(|point| [(*point, Side::Before), (*point, Side::After)]);
    futures::stream::iter(cases)
        .for_each_concurrent(6, |(point, side)| survives(point, side))
        .await;
}

#[tokio::test]
async fn a_pre_hook_that_takes_its_workers_with_it_twice_ends_the_update() {
    let labels = [("dd.hook.pre", "note before")];
    let hooked = Hooked::new(&labels, Image::app("1.0.0")).await;
    let operation = {
        let mut operation = None;
        for _ in 0..2 {
            let crash = CrashPoint::new("hook-pre", Side::After, Manner::Panic);
            let _worker = hooked.world.worker_that(Some(crash.clone()));
            if operation.is_none() {
                operation = Some(hooked.update().await);
            }
            let soon = Duration::from_secs(40);
            wait::until_true("the worker to die", soon, async || crash.is_spent()).await;
        }
        operation.unwrap()
    };
    let _worker = hooked.world.worker();
    let (end, row) = hooked.world.judged(operation).await;
    assert_eq!(end, End::Failed);
    let error = row["last_error"].as_str().unwrap_or_default();
    assert!(error.contains("ended twice"), "{error}");
    assert_eq!(hooked.notes().len(), 2);
}
