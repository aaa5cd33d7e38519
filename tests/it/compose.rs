//! Updates of containers that the real `docker compose` made, through its file.

use std::path::{Path, PathBuf};

use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use serde_json::json;
use tempfile::TempDir;

use crate::fleet::{Fleet, operation_of, text};
use crate::images::succeeded;
use crate::replica::answer;

struct Stack {
    fleet: Fleet,
    directory: TempDir,
    file: PathBuf,
    project: String,
}

impl Stack {
    /// Services `web` and `db` of one image, brought up by Compose.
    async fn up() -> Self {
        let fleet = Fleet::start(1).await;
        let reference = fleet.publish("app", "1.0.0", Image::app("1.0.0")).await;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("compose.yaml");
        let project = fleet.docker.name("shop").to_lowercase();
        let id = fleet.docker.id();
        let labels = format!(
            "labels: &labels\n      plimsoll.test: \"{id}\"\n      plimsoll.test.case: \
             \"{id}-local\"\n      dd.update.stability: '1'"
        );
        let text = format!(
            "# The shop. Edited by hand.\r\nname: {project}\nservices:\n  web:\n    \
             image: \"{reference}\"   # not 1.0.0-alpine\n    container_name: {project}-web\n    \
             environment: {{TAG: '1.0.0', LEVEL: \"${{LEVEL:-1}}\"}}\n    {labels}\n\n  db:\n    \
             image: {reference}\n    container_name: {project}-db\n    labels: *labels\n\
             networks:\n  default:\n    labels:\n      plimsoll.test: \"{id}\"\n"
        );
        std::fs::write(&file, text).unwrap();
        std::fs::write(directory.path().join(".env"), "LEVEL=3\n").unwrap();
        compose(&file, &["up", "--detach"]).await;
        Self {
            fleet,
            directory,
            file,
            project,
        }
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    fn name(&self, service: &str) -> String {
        format!("{}-{service}", self.project)
    }

    async fn ids(&self) -> Vec<Option<String>> {
        let mut ids = Vec::new();
        for service in ["web", "db"] {
            let found = self.fleet.docker.inspect(&self.name(service)).await;
            ids.push(found.and_then(|found| found.id));
        }
        ids
    }

    /// What Compose would do with the file as it is: nothing.
    async fn is_settled(&self) {
        let before = self.ids().await;
        compose(&self.file, &["up", "--detach"]).await;
        assert_eq!(self.ids().await, before, "Compose has nothing to do");
    }
}

pub async fn compose(file: &Path, arguments: &[&str]) {
    let output = tokio::process::Command::new("docker")
        .args(["compose", "--file"])
        .arg(file)
        .args(arguments)
        .output()
        .await
        .expect("docker is there");
    succeeded(output, arguments);
}

#[tokio::test]
async fn an_update_is_written_into_the_file_and_compose_finds_nothing_left_to_do() {
    let stack = Stack::up().await;
    let fleet = &stack.fleet;
    let _worker = fleet
        .worker("local")
        .env("DD_TRIGGER_DOCKERCOMPOSE_STACKS_BACKUP", "true")
        .env(
            "DD_TRIGGER_DOCKERCOMPOSE_STACKS_RECONCILIATIONMODE",
            "block",
        )
        .spawn();
    let original = stack.text();
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    let web = stack.name("web");
    let id = fleet.watched(&web).await;
    let before = stack.ids().await;
    let done = answer(fleet.update(0, &id)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let operation = operation_of(&done);
    let (end, row) = fleet.judged(operation).await;
    assert_eq!(end, End::Succeeded);
    assert_eq!(row["trigger_name"], "dockercompose.stacks");
    let edited = original.replacen("app:1.0.0\"", "app:1.1.0\"", 1);
    assert_ne!(edited, original);
    assert_eq!(stack.text(), edited, "the image and nothing else");
    let backup = stack.directory.path().join("compose.yaml.back");
    assert_eq!(std::fs::read_to_string(backup).unwrap(), original);
    let after = stack.ids().await;
    assert_ne!(after[0], before[0]);
    assert_eq!(after[1], before[1], "the other service is none of ours");
    stack.is_settled().await;

    // And back, byte for byte.
    let new = text(&done.json()["result"], "id");
    let done = answer(fleet.rollback(0, &new)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(stack.text(), original);
    stack.is_settled().await;
}

#[tokio::test]
async fn digests_are_written_where_the_trigger_asks_for_them() {
    let stack = Stack::up().await;
    let fleet = &stack.fleet;
    let _worker = fleet
        .worker("local")
        .env("DD_TRIGGER_DOCKERCOMPOSE_STACKS_DIGESTPINNING", "true")
        .spawn();
    let image = Image::app("1.1.0");
    fleet.publish("app", "1.1.0", image).await;
    let id = fleet.watched(&stack.name("web")).await;
    let path = format!("/containers/{id}/triggers/dockercompose/stacks");
    let done = answer(fleet.request(0, reqwest::Method::POST, &path)).await;
    assert_eq!((done.status, done.json()), (200, json!({})));
    let found = fleet.listed(&stack.name("web")).await;
    let digest = text(&found["image"]["digest"], "repo");
    assert!(digest.starts_with("sha256:"), "{found:#}");
    let written = format!("app:1.1.0@{digest}\"   # not 1.0.0-alpine");
    assert!(stack.text().contains(&written), "{}", stack.text());
    stack.is_settled().await;
}

#[tokio::test]
async fn a_file_that_has_moved_on_blocks_updates_where_the_trigger_asks_for_that() {
    let stack = Stack::up().await;
    let fleet = &stack.fleet;
    let _worker = fleet
        .worker("local")
        .env(
            "DD_TRIGGER_DOCKERCOMPOSE_STACKS_RECONCILIATIONMODE",
            "block",
        )
        .spawn();
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    let id = fleet.watched(&stack.name("web")).await;
    let changed = stack.text().replace("TAG: '1.0.0'", "TAG: '2.0.0'");
    std::fs::write(&stack.file, &changed).unwrap();
    let before = stack.ids().await;
    let refused = answer(fleet.update(0, &id)).await;
    assert_eq!(refused.status, 500, "{}", refused.text);
    let details = &refused.json()["details"];
    assert_eq!(details["status"], "failed");
    let why = text(details, "lastError");
    assert!(why.contains("another configuration"), "{why}");
    assert_eq!(stack.ids().await, before);
    assert_eq!(stack.text(), changed);
}
