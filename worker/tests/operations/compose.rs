//! Updates through a Compose file, by workers that die in the middle, and beside people who edit
//! the same file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::RestartPolicyNameEnum as Restart;
use futures::StreamExt;
use plimsoll_domain::{compose::Pinning, ids::OperationId};
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::wait;
use plimsoll_worker::compose::{Access, ComposeOptions, Reconciliation, file::Keep};
use plimsoll_worker::operations::{CrashPoint, Manner, Side, TriggerOptions};
use tempfile::TempDir;

use crate::world::{Deployed, World};

pub struct Stack {
    pub world: World,
    directory: TempDir,
    file: PathBuf,
    pub app: Deployed,
    target: String,
}

pub fn options() -> ComposeOptions {
    ComposeOptions {
        file: None,
        label: "dd.compose.file".to_owned(),
        keep: Keep::Nothing,
        reconciliation: Reconciliation::Warn,
        pinning: Pinning::AsItIs,
        access: Access::Anywhere,
    }
}

impl Stack {
    /// A service `web` of a file of this text, where `{image}` is what it runs.
    async fn new(text: &str, next: Image, options: ComposeOptions) -> Self {
        Self::hashed(text, next, options, async |_| "0".repeat(64)).await
    }

    /// The same, and Compose agrees that the container was made from the file.
    pub async fn agreed(text: &str, next: Image, options: ComposeOptions) -> Self {
        Self::hashed(text, next, options, async |file| compose_hash(file).await).await
    }

    async fn hashed(
        text: &str,
        next: Image,
        options: ComposeOptions,
        hash: impl AsyncFnOnce(&Path) -> String,
    ) -> Self {
        let mut world = World::new().await;
        let of_trigger = TriggerOptions {
            compose: Some(options),
            ..TriggerOptions::default()
        };
        world.triggers.insert("docker.local".to_owned(), of_trigger);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("compose.yaml");
        let image = world.registry.reference("app", "1.0.0");
        std::fs::write(&file, text.replace("{image}", &image)).unwrap();
        let labels = [
            ("com.docker.compose.project", "shop".to_owned()),
            ("com.docker.compose.service", "web".to_owned()),
            (
                "com.docker.compose.project.working_dir",
                directory.path().display().to_string(),
            ),
            (
                "com.docker.compose.project.config_files",
                file.display().to_string(),
            ),
            ("com.docker.compose.config-hash", hash(&file).await),
        ];
        let labels: HashMap<String, String> = labels
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let first = Image::app("1.0.0");
        let app = world
            .deploy_labelled("1.0.0", first, Restart::ALWAYS, labels)
            .await;
        let target = world.push("1.1.0", next).await;
        Self {
            world,
            directory,
            file,
            app,
            target,
        }
    }

    async fn update(&self) -> OperationId {
        self.world.request_update(&self.app, &self.target).await
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    pub fn files(&self) -> usize {
        std::fs::read_dir(self.directory.path()).unwrap().count()
    }
}

/// What Compose would write on the container of `web`.
async fn compose_hash(file: &Path) -> String {
    let mut command = tokio::process::Command::new("docker");
    command.args(["compose", "--project-name", "shop", "--file"]);
    command.arg(file).args(["config", "--hash=web"]);
    let output = command.output().await.expect("docker is there");
    let hash = String::from_utf8(output.stdout).unwrap();
    let hash = hash.split_whitespace().last().unwrap_or_default();
    assert_eq!(
        hash.len(),
        64,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    hash.to_owned()
}

const TEXT: &str = "# shop\r\nservices:\r\n  web: {image: '{image}'} # 1.0.0\r\n";

async fn survives(point: &str, side: Side) {
    let stack = Stack::new(TEXT, Image::app("1.1.0"), options()).await;
    let before = stack.text();
    let crash = CrashPoint::new(point, side, Manner::Panic);
    let first = stack.world.worker_that(Some(crash.clone()));
    let operation = stack.update().await;
    let soon = Duration::from_secs(30);
    wait::until_true("the worker to die", soon, async || crash.is_spent()).await;
    drop(first);
    let _second = stack.world.worker();
    let (end, row) = stack.world.judged(operation).await;
    assert_eq!(end, End::Succeeded, "{point} {side:?}: {row:#}");
    let expected = before.replace("app:1.0.0'", "app:1.1.0'");
    assert_eq!(stack.text(), expected, "{point} {side:?}");
    assert_eq!(stack.files(), 1, "no litter");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_is_written_once_whoever_dies_on_the_way() {
    let points = ["health-gate-passed", "write-file", "remove-old"];
    let cases = points
        .iter()
        .flat_map(|point| [(*point, Side::Before), (*point, Side::After)]);
    futures::stream::iter(cases)
        .for_each_concurrent(6, |(point, side)| survives(point, side))
        .await;
}

#[tokio::test]
async fn a_bad_image_never_gets_into_the_file() {
    let bad = Image::exits("1.1.0", 3, "cannot start");
    let stack = Stack::new(TEXT, bad, options()).await;
    let before = stack.text();
    let _worker = stack.world.worker();
    let (end, _) = stack.world.judged(stack.update().await).await;
    assert_eq!(end, End::RolledBack);
    assert_eq!(stack.text(), before);
}

#[tokio::test]
async fn what_people_write_meanwhile_stays() {
    let stack = Stack::new(TEXT, Image::app("1.1.0"), options()).await;
    let crash = CrashPoint::new("write-file", Side::Before, Manner::Panic);
    let first = stack.world.worker_that(Some(crash.clone()));
    let operation = stack.update().await;
    let soon = Duration::from_secs(30);
    wait::until_true("the gate to be passed", soon, async || crash.is_spent()).await;
    let edited = format!("{}  db: {{image: db}}\r\n", stack.text());
    std::fs::write(&stack.file, &edited).unwrap();
    drop(first);
    let _second = stack.world.worker();
    let (end, _) = stack.world.judged(operation).await;
    assert_eq!(end, End::Succeeded);
    assert_eq!(stack.text(), edited.replace("app:1.0.0'", "app:1.1.0'"));
}

#[tokio::test]
async fn an_image_that_somebody_else_chose_meanwhile_is_left_to_them_and_told() {
    let stack = Stack::new(TEXT, Image::app("1.1.0"), options()).await;
    let crash = CrashPoint::new("write-file", Side::Before, Manner::Panic);
    let first = stack.world.worker_that(Some(crash.clone()));
    let operation = stack.update().await;
    let soon = Duration::from_secs(30);
    wait::until_true("the gate to be passed", soon, async || crash.is_spent()).await;
    let theirs = stack.text().replace("app:1.0.0'", "app:0.9.0'");
    std::fs::write(&stack.file, &theirs).unwrap();
    drop(first);
    let _second = stack.world.worker();
    let (end, _) = stack.world.judged(operation).await;
    assert_eq!(end, End::Succeeded);
    assert_eq!(stack.text(), theirs);
    assert!(told(&stack, operation).await.contains("app:0.9.0"));
}

/// What the audit trail says of the file.
async fn told(stack: &Stack, operation: OperationId) -> String {
    let sql = "SELECT details FROM audit WHERE operation_id = $1 AND action = 'update-applied'";
    let row = stack
        .world
        .rows
        .query_one(sql, &[&operation.as_uuid()])
        .await;
    row.unwrap().get::<_, Option<String>>(0).unwrap_or_default()
}

#[tokio::test]
async fn a_file_that_cannot_be_written_keeps_no_good_update_from_ending() {
    let stack = Stack::new(TEXT, Image::app("1.1.0"), options()).await;
    let crash = CrashPoint::new("write-file", Side::Before, Manner::Panic);
    let first = stack.world.worker_that(Some(crash.clone()));
    let operation = stack.update().await;
    let soon = Duration::from_secs(30);
    wait::until_true("the gate to be passed", soon, async || crash.is_spent()).await;
    std::fs::remove_file(&stack.file).unwrap();
    drop(first);
    let _second = stack.world.worker();
    let (end, _) = stack.world.judged(operation).await;
    assert_eq!(end, End::Succeeded);
    let told = told(&stack, operation).await;
    assert!(told.contains("could not be written"), "{told}");
}

#[tokio::test]
async fn a_file_that_must_not_be_edited_is_a_reason_to_touch_nothing() {
    let blocking = ComposeOptions {
        reconciliation: Reconciliation::Block,
        ..options()
    };
    let cases = [
        (
            "services:\n  web:\n    image: ${IMAGE}\n",
            options(),
            "variables",
        ),
        (
            "services:\n  web:\n    extends: {file: a.yml, service: b}\n",
            options(),
            "extends",
        ),
        ("include: [a.yml]\n", options(), "includes"),
        (
            "services:\n  web:\n    image: other:1.0.0\n",
            options(),
            "not of the repository",
        ),
        (TEXT, blocking, "do not agree"),
    ];
    for (text, options, reason) in cases {
        let stack = Stack::new(text, Image::app("1.1.0"), options).await;
        let before = stack.text();
        let containers = stack.world.docker.containers().await;
        let _worker = stack.world.worker();
        let (end, row) = stack.world.judged(stack.update().await).await;
        assert_eq!(end, End::Failed);
        let error = row["last_error"].as_str().unwrap_or_default();
        assert!(error.contains(reason), "{error}");
        assert_eq!(stack.text(), before);
        assert_eq!(stack.world.docker.containers().await, containers);
    }
}
