//! Several services of a stack updated in order through their file, and a container that is made
//! what its file says.

use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::wait;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::compose::compose;
use crate::fleet::{Fleet, PATIENCE, operation_of, text};
use crate::replica::answer;

pub struct Stack {
    pub fleet: Fleet,
    pub file: std::path::PathBuf,
    pub project: String,
    _directory: tempfile::TempDir,
}

impl Stack {
    /// `web` comes after `db`, and `proxy` is restarted after `web`.
    pub async fn up() -> Self {
        let fleet = Fleet::start(1).await;
        let app = fleet.publish("app", "1.0.0", Image::app("1.0.0")).await;
        let db = fleet.publish("db", "1.0.0", Image::app("1.0.0-db")).await;
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("compose.yaml");
        let project = fleet.docker.name("shop").to_lowercase();
        let id = fleet.docker.id();
        let labels = format!(
            "plimsoll.test: {id}, plimsoll.test.case: {id}-local, dd.update.stability: '1'"
        );
        let text = format!(
            "name: {project}\nservices:\n  web:\n    image: {app} # the shop\n    \
             depends_on: [db]\n    labels: {{{labels}}}\n  db:\n    image: {db}\n    \
             labels: {{{labels}}}\n  proxy:\n    image: {app}\n    \
             labels: {{{labels}, docksmith.restart-after: {project}-web-1}}\n\
             networks:\n  default:\n    labels: {{plimsoll.test: {id}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        compose(&file, &["up", "--detach"]).await;
        Self {
            fleet,
            file,
            project,
            _directory: directory,
        }
    }

    pub fn name(&self, service: &str) -> String {
        format!("{}-{service}-1", self.project)
    }

    pub fn text(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap()
    }

    async fn started(&self, service: &str) -> String {
        let found = self.fleet.docker.inspect(&self.name(service)).await;
        let state = found.and_then(|found| found.state);
        state.and_then(|state| state.started_at).unwrap_or_default()
    }

    /// Both services to what is newest; the operations of `db`, `web` and `proxy`.
    async fn update(&self, version: Value) -> Vec<Uuid> {
        let web = self.fleet.watched(&self.name("web")).await;
        let db = self.fleet.watched(&self.name("db")).await;
        let mut of_web = json!({ "containerId": web });
        if version != Value::Null {
            of_web["version"] = version;
        }
        let unknown = "0".repeat(64);
        let body = json!({
            "updates": [of_web, { "containerId": db }, { "containerId": unknown }],
            "composeFile": "edit",
        });
        let request = self.fleet.request(0, Method::POST, "/operation-groups");
        let accepted = answer(request.json(&body).header("idempotency-key", &web)).await;
        assert_eq!(accepted.status, 200, "{}", accepted.text);
        let batch = accepted.json();
        assert_eq!(batch["rejected"][0]["statusCode"], 404, "{batch:#}");
        let groups = batch["groups"].as_array().unwrap();
        assert_eq!(groups.len(), 1, "{batch:#}");
        assert_eq!(groups[0]["stack"], self.project.as_str());
        let operations = groups[0]["operations"].as_array().unwrap();
        let shown: Vec<_> = operations
            .iter()
            .map(|one| (text(one, "containerName"), text(one, "kind")))
            .collect();
        let expected = [("db", "update"), ("web", "update"), ("proxy", "restart")];
        let expected = expected.map(|(service, kind)| (self.name(service), kind.to_owned()));
        assert_eq!(shown, expected);
        // The same key names the same group.
        let request = self.fleet.request(0, Method::POST, "/operation-groups");
        let again = answer(request.json(&body).header("idempotency-key", &web)).await;
        assert_eq!(again.json()["groups"], batch["groups"]);
        let ids = operations.iter().map(|one| text(one, "operationId"));
        ids.map(|id| id.parse().unwrap()).collect()
    }
}

#[tokio::test]
async fn a_stack_is_updated_in_order_and_what_comes_after_a_failure_is_left_with_its_file() {
    let stack = Stack::up().await;
    let fleet = &stack.fleet;
    let directory = stack.file.parent().unwrap().display().to_string();
    let worker = fleet.worker("local");
    let _worker = worker
        .env("PLIMSOLL_COMPOSE_DIRECTORIES", directory)
        .spawn();
    let original = stack.text();
    let proxy = stack.started("proxy").await;
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    fleet.publish("db", "1.1.0", Image::app("1.1.0-db")).await;
    let operations = stack.update(Value::Null).await;
    let mut ended = Vec::new();
    for operation in &operations[..2] {
        let (end, row) = fleet.judged(*operation).await;
        assert_eq!(end, End::Succeeded, "{row:#}");
        ended.push(row);
    }
    let restart = &operations[2];
    wait::until_true("the restart", PATIENCE, async || {
        let path = format!("/update-operations/{restart}");
        fleet.get(0, &path).await["status"] == "succeeded"
    })
    .await;
    assert_ne!(stack.started("proxy").await, proxy);
    let updated = original
        .replace("app:1.0.0 # the shop", "app:1.1.0 # the shop")
        .replace("db:1.0.0", "db:1.1.0");
    assert_eq!(stack.text(), updated);

    // The stack by its name: whatever of it has an update, `proxy` too.
    let path = format!("/stacks/{}/update?composeFile=edit", stack.project);
    let asked = async |path: &str| {
        let request = fleet.request(0, Method::POST, path);
        answer(request.header("idempotency-key", path)).await
    };
    for (path, status) in [
        ("/stacks/none/update", 404),
        (&format!("{path}&watcher=nowhere"), 404),
        (&path.replace("edit", "apply"), 400),
    ] {
        let refused = asked(path).await;
        assert_eq!(refused.status, status, "{path}: {}", refused.text);
    }
    fleet.publish("db", "1.1.1", Image::app("1.1.1-db")).await;
    fleet.watched(&stack.name("db")).await;
    fleet.watched(&stack.name("proxy")).await;
    let accepted = asked(&path).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let busy = answer(fleet.request(0, Method::POST, &path)).await;
    assert_eq!(busy.status, 409, "{}", busy.text);
    let group = accepted.json();
    let place = format!("/api/v1/operation-groups/{}", text(&group, "operationId"));
    assert_eq!(accepted.header("location"), place);
    assert_eq!(asked(&path).await.json()["operations"], group["operations"]);
    let operations = group["operations"].as_array().unwrap();
    let mut names: Vec<_> = operations
        .iter()
        .map(|one| text(one, "containerName"))
        .collect();
    names.sort();
    assert_eq!(names, [stack.name("db"), stack.name("proxy")], "{group:#}");
    for operation in operations {
        let id = text(operation, "operationId").parse().unwrap();
        let (end, row) = fleet.judged(id).await;
        assert_eq!(end, End::Succeeded, "{row:#}");
    }
    let updated = updated
        .replace("db:1.1.0", "db:1.1.1")
        .replace("app:1.0.0\n", "app:1.1.0\n");
    assert_eq!(stack.text(), updated);
    wait::until_true("nothing to be left", PATIENCE, async || {
        let shown = fleet.get(0, &format!("/stacks/{}", stack.project)).await;
        shown["updatesAvailable"] == 0
    })
    .await;
    let nothing = answer(fleet.request(0, Method::POST, &path)).await;
    assert_eq!(nothing.status, 400, "{}", nothing.text);

    // The database of the next version does not start.
    let bad = Image::exits("1.2.0-db", 3, "cannot start");
    fleet.publish("db", "1.2.0", bad).await;
    fleet.publish("app", "1.2.0", Image::app("1.2.0")).await;
    let operations = stack.update(json!("1.2.0")).await;
    let (end, _) = fleet.judged(operations[0]).await;
    assert_eq!(end, End::RolledBack);
    let (end, row) = fleet.judged(operations[1]).await;
    assert_eq!(end, End::Failed);
    let why = row["last_error"].as_str().unwrap_or_default();
    assert!(why.contains("comes after"), "{why}");
    assert_eq!(stack.text(), updated, "the file says what runs");

    // Somebody goes back by hand, in the file alone.
    let edited = updated.replace("app:1.1.0 # the shop", "app:1.0.0 # the shop");
    let web = fleet.listed(&stack.name("web")).await;
    let id = text(&web, "id");
    assert_eq!(web["composeMismatch"], Value::Null);
    std::fs::write(&stack.file, &edited).unwrap();
    let mismatch = wait::until("the mismatch", PATIENCE, async || {
        let path = format!("/containers/{id}/watch");
        answer(fleet.request(0, Method::POST, &path)).await;
        let found = fleet.get(0, &format!("/containers/{id}")).await;
        found.get("composeMismatch").cloned()
    })
    .await;
    let specified = text(&mismatch, "composeImage");
    assert!(specified.ends_with("/app:1.0.0"), "{mismatch}");
    let error = text(&mismatch, "error");
    assert!(
        error.contains("differs from compose specification"),
        "{error}"
    );
    let path = format!("/containers/{id}/fix-compose-mismatch");
    let fixed = answer(fleet.request(0, Method::POST, &path)).await;
    assert_eq!(fixed.status, 200, "{}", fixed.text);
    let (end, row) = fleet.judged(operation_of(&fixed)).await;
    assert_eq!(end, End::Succeeded, "{row:#}");
    assert_eq!(stack.text(), edited);
    let id = text(&fixed.json()["result"], "id");
    let found = fleet.get(0, &format!("/containers/{id}")).await;
    assert_eq!(found["composeMismatch"], Value::Null, "{found:#}");
    assert_eq!(found["image"]["tag"]["value"], "1.0.0");
    let path = format!("/containers/{id}/fix-compose-mismatch");
    let nothing = answer(fleet.request(0, Method::POST, &path)).await;
    assert_eq!(nothing.status, 400, "{}", nothing.text);
}
