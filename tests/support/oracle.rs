//! Checks the invariants I-1 to I-12 of reliability.md 2.1 after an operation has ended.
//!
//! It reads the rows and the engine by itself, with none of the code that it judges.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bollard::models::{ContainerInspectResponse, EventMessage};
use bollard::query_parameters::{EventsOptionsBuilder, ListContainersOptionsBuilder};
use futures::StreamExt;
use serde_json::Value;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::docker::{Docker, LABEL};
use crate::fidelity::differences;
use crate::wait;

const OPERATION_LABEL: &str = "plimsoll.operation";
const ROLE_LABEL: &str = "plimsoll.role";
const POLL: Duration = Duration::from_millis(100);

/// What an operation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Succeeded,
    RolledBack,
    Failed,
}

/// Follows the engine's event log from its making on, for the invariants that hold at every
/// instant (I-2, I-4).
pub struct Oracle {
    docker_id: String,
    log: Arc<Mutex<Vec<EventMessage>>>,
    /// Whether the test itself ends the new container's process.
    restarts: AtomicBool,
    follower: tokio::task::JoinHandle<()>,
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

impl Oracle {
    /// Begins to follow. Make it before the first operation.
    pub async fn follow(docker: &Docker) -> Self {
        let filters = HashMap::from([
            ("type", vec!["container".to_owned()]),
            ("label", vec![format!("{LABEL}={}", docker.id())]),
        ]);
        let since = chrono::Utc::now().timestamp();
        let options = EventsOptionsBuilder::default()
            .filters(&filters)
            .since(&since.to_string())
            .build();
        let client = docker.client().clone();
        let log = Arc::new(Mutex::new(Vec::new()));
        let follower = tokio::spawn({
            let log = log.clone();
            async move {
                let mut events = client.events(Some(options));
                while let Some(Ok(event)) = events.next().await {
                    log.lock().expect("nobody panics with the lock").push(event);
                }
            }
        });
        Self {
            docker_id: docker.id().to_owned(),
            log,
            restarts: AtomicBool::new(false),
            follower,
        }
    }

    /// The test ends the new container's process itself: that the engine started it again is no
    /// fault.
    pub fn expect_restarts(&self) {
        self.restarts.store(true, Ordering::Relaxed);
    }

    /// Waits until the operation has completed and checks every invariant that can be seen.
    ///
    /// # Panics
    /// With all that is wrong.
    pub async fn check(&self, docker: &Docker, database: &Client, operation: Uuid) -> End {
        self.check_within(Duration::ZERO, docker, database, operation)
            .await
    }

    /// The same, of what may be wrong at first and is put right by itself within that time.
    ///
    /// # Panics
    /// With all that is still wrong then.
    pub async fn check_within(
        &self,
        patience: Duration,
        docker: &Docker,
        database: &Client,
        operation: Uuid,
    ) -> End {
        let deadline = Instant::now() + patience;
        loop {
            let (row, end, wrong) = self.examine(docker, database, operation).await;
            if wrong.is_empty() {
                return end;
            }
            assert!(
                Instant::now() < deadline,
                "operation {operation} ended {end:?} and is wrong: {wrong:#?}\nrow: {row:#}"
            );
            tokio::time::sleep(POLL).await;
        }
    }

    async fn examine(
        &self,
        docker: &Docker,
        database: &Client,
        operation: Uuid,
    ) -> (Value, End, Vec<String>) {
        let row = completed(database, operation).await;
        let mut wrong = Vec::new();
        let end = match row["phase"].as_str() {
            Some("succeeded") => End::Succeeded,
            Some("rolled-back") => End::RolledBack,
            _ => End::Failed,
        };
        self.check_containers(docker, &row, end, &mut wrong).await;
        check_journal(database, operation, &mut wrong).await;
        check_records(database, docker, operation, &row, end, &mut wrong).await;
        let takeovers = "SELECT takeovers::int8 FROM jobs WHERE operation_id = $1";
        let takeovers = database.query_one(takeovers, &[&operation]).await;
        let takeovers = takeovers.expect("the job is kept").get(0);
        self.check_log(&row, takeovers, &mut wrong);
        (row, end, wrong)
    }

    /// The engine's log of the operation's calls, oldest first: `stop old`, `create new`. What
    /// Docker tells of networks, health and commands is left out.
    pub async fn mutations(&self, database: &Client, operation: Uuid) -> Vec<String> {
        let row = row(database, operation).await;
        let mut calls: Vec<(i64, String)> = self
            .events_of(&row)
            .into_iter()
            .filter(|event| {
                let action = event.action.as_str();
                !action.starts_with("health_status") && !action.starts_with("exec_")
            })
            .map(|event| {
                let call = format!("{} {}", event.action, event.role);
                (event.nanoseconds, call)
            })
            .collect();
        calls.sort();
        calls.into_iter().map(|(_, call)| call).collect()
    }

    /// What the engine told of the operation's two containers so far.
    fn events_of(&self, row: &Value) -> Vec<Seen> {
        let old = text(&row["snapshot"]["container"], "Id");
        let operation = text(row, "id");
        let began: chrono::DateTime<chrono::Utc> = text(row, "created_at")
            .parse()
            .expect("an operation has a time");
        let log = self.log.lock().expect("nobody panics with the lock");
        let seen = log.iter().filter_map(|event| {
            let actor = event.actor.clone()?;
            let (id, labels) = (actor.id?, actor.attributes?);
            let label = labels.get(OPERATION_LABEL).map(String::as_str);
            let role = match id == old {
                true => "old",
                false if is_beside(&labels) => return None,
                false if label == Some(operation) => "new",
                false => return None,
            };
            let nanoseconds = event.time_nano?;
            // The old one has a history of its own.
            let is_ours = began.timestamp_nanos_opt()? <= nanoseconds;
            (is_ours && labels.get(LABEL) == Some(&self.docker_id)).then(|| Seen {
                nanoseconds,
                action: event.action.clone().unwrap_or_default(),
                role,
                id,
            })
        });
        seen.collect()
    }

    /// I-1, I-8 (the survivor), I-11, I-12.
    async fn check_containers(
        &self,
        docker: &Docker,
        row: &Value,
        end: End,
        wrong: &mut Vec<String>,
    ) {
        let name = text(row, "container_name");
        let Some(survivor) = docker.inspect(name).await else {
            wrong.push(format!("I-1: nobody bears the name {name}"));
            return;
        };
        let id = survivor.id.clone().unwrap_or_default();
        let state = survivor.state.clone().unwrap_or_default();
        let running = state.running.unwrap_or_default();
        let was_running = row["old_was_running"].as_bool();
        if was_running.is_some_and(|was| was != running) {
            wrong.push(format!(
                "I-1: running is {running}, and was {was_running:?}"
            ));
        }
        for (other, other_id, _) in docker.containers().await {
            if other.starts_with(&format!("{name}-old-")) {
                wrong.push(format!("I-11: {other} is left over"));
            }
            if other == name && other_id != id {
                wrong.push(format!("I-1: {name} is there twice"));
            }
        }
        let operation = text(row, "id");
        for left in labelled(docker, operation).await {
            if left != id {
                wrong.push(format!(
                    "I-11: container {left} of the operation is left over"
                ));
            }
        }
        match end {
            End::Succeeded => {
                let evidence = &row["evidence"];
                if evidence["by"] != "already current" {
                    wrong.extend(unfaithful(docker, row, &survivor).await);
                }
                if evidence["by"] != "already current"
                    && row["new_container_id"].as_str() != Some(id.as_str())
                {
                    wrong.push(format!("I-12: {id} bears the name, not the new container"));
                }
                if survivor.image.as_deref() != evidence["imageId"].as_str() {
                    wrong.push("I-12: another image runs than was observed".to_owned());
                }
                let expected = self.restarts.load(Ordering::Relaxed);
                if survivor.restart_count.unwrap_or_default() != 0 && !expected {
                    wrong.push("I-12: the new container was restarted".to_owned());
                }
            }
            End::RolledBack | End::Failed => {
                let old = row["old_container_id"].as_str();
                let old = old.unwrap_or(text(row, "container_id"));
                if old != id {
                    wrong.push(format!("I-12: {id} bears the name, not the old container"));
                }
            }
        }
        let recorded = &row["snapshot"]["container"]["HostConfig"]["RestartPolicy"]["Name"];
        let policy = survivor
            .host_config
            .and_then(|host| host.restart_policy?.name)
            .map(|name| name.to_string())
            .unwrap_or_default();
        let is_no = |policy: &str| matches!(policy, "" | "no");
        if let Some(recorded) = recorded.as_str()
            && recorded != policy
            && !(is_no(recorded) && is_no(&policy))
        {
            wrong.push(format!(
                "S10: restart policy {policy}, and it was {recorded}"
            ));
        }
    }

    /// I-2 and I-4, from the engine's own log. `takeovers` is how many workers died: each may have
    /// left one call half-way, which the next one makes again.
    fn check_log(&self, row: &Value, takeovers: i64, wrong: &mut Vec<String>) {
        let mut running: HashMap<String, bool> = HashMap::new();
        if row["old_was_running"] == true {
            let old = text(&row["snapshot"]["container"], "Id");
            running.insert(old.to_owned(), true);
        }
        let (mut creations, mut stops) = (0, 0);
        for event in self.events_of(row) {
            match (event.action.as_str(), event.role) {
                ("start", _) => {
                    running.insert(event.id, true);
                    let alive = running.values().filter(|alive| **alive).count();
                    if alive > 1 {
                        wrong.push(format!("I-2: {alive} ran at {}", event.nanoseconds));
                    }
                }
                ("die", _) => {
                    running.insert(event.id, false);
                }
                ("create", "new") => creations += 1,
                ("stop", "old") => stops += 1,
                _ => {}
            }
        }
        if creations > 1 + takeovers {
            wrong.push(format!("I-4: {creations} new containers were created"));
        }
        if stops > 1 {
            wrong.push(format!("I-4: the old container was stopped {stops} times"));
        }
    }
}

/// An event of the engine's log.
struct Seen {
    nanoseconds: i64,
    action: String,
    /// `old` or `new`.
    role: &'static str,
    id: String,
}

/// I-7.
async fn unfaithful(
    docker: &Docker,
    row: &Value,
    survivor: &ContainerInspectResponse,
) -> Vec<String> {
    let image = survivor.image.as_deref().unwrap_or_default();
    let image = match docker.client().inspect_image(image).await {
        Ok(image) => serde_json::to_value(image).expect("JSON"),
        Err(error) => return vec![format!("I-7: its image cannot be inspected: {error}")],
    };
    let survivor = serde_json::to_value(survivor).expect("JSON");
    let snapshot = &row["snapshot"];
    differences(
        &snapshot["container"],
        &snapshot["image"],
        &survivor,
        &image,
    )
}

/// The row of an operation that has completed, as JSON.
pub async fn completed(database: &Client, operation: Uuid) -> Value {
    wait::until(
        "the operation to complete (I-3)",
        Duration::from_secs(120),
        async || {
            let row = row(database, operation).await;
            (!row["completed_at"].is_null()).then_some(row)
        },
    )
    .await
}

/// The row of an operation, as JSON.
pub async fn row(database: &Client, operation: Uuid) -> Value {
    database
        .query_one(
            "SELECT to_jsonb(o) FROM update_operations o WHERE id = $1",
            &[&operation],
        )
        .await
        .expect("the operation exists")
        .get(0)
}

/// Whether it lives in the namespaces of the operation's container.
/// Not one of the operation's own two: one that lives in their namespaces, or a helper.
fn is_beside(labels: &HashMap<String, String>) -> bool {
    let role = labels.get(ROLE_LABEL).map(String::as_str);
    matches!(role, Some("dependant" | "helper"))
}

/// Those of the operation itself, without the ones beside them.
async fn labelled(docker: &Docker, operation: &str) -> Vec<String> {
    let filters = HashMap::from([("label", vec![format!("{OPERATION_LABEL}={operation}")])]);
    let options = ListContainersOptionsBuilder::default()
        .all(true)
        .filters(&filters)
        .build();
    let listed = docker.client().list_containers(Some(options)).await;
    listed
        .expect("containers can be listed")
        .into_iter()
        .filter(|container| !container.labels.as_ref().is_some_and(is_beside))
        .filter_map(|container| container.id)
        .collect()
}

/// I-6: no gap, epochs never fall, phases follow each other.
async fn check_journal(database: &Client, operation: Uuid, wrong: &mut Vec<String>) {
    let rows = database
        .query(
            "SELECT seq, phase, entry, epoch, worker FROM operation_journal
              WHERE operation_id = $1 ORDER BY seq",
            &[&operation],
        )
        .await
        .expect("the journal can be read");
    let mut epoch = 0;
    let mut phase = "prepare".to_owned();
    for (index, row) in rows.iter().enumerate() {
        let seq: i32 = row.get(0);
        if usize::try_from(seq).ok() != Some(index + 1) {
            wrong.push(format!("I-6: journal entry {seq} at place {}", index + 1));
        }
        let now: i64 = row.get(3);
        if now < epoch {
            wrong.push(format!("I-6: epoch {now} after {epoch}"));
        }
        epoch = now;
        let next: String = row.get(1);
        if row.get::<_, &str>(2) == "done" {
            if next != phase && !follows(&phase, &next) {
                wrong.push(format!("I-6: {next} after {phase}"));
            }
            phase = next;
        } else if next != phase {
            wrong.push(format!(
                "I-6: an intent in {next} while the phase is {phase}"
            ));
        }
    }
}

/// The state graph of DESIGN.md 4.
fn follows(phase: &str, next: &str) -> bool {
    let allowed: &[&str] = match phase {
        "prepare" => &["renamed", "failed", "succeeded", "rollback-started"],
        "renamed" => &["new-created", "rollback-started"],
        "new-created" => &["old-stopped", "rollback-started"],
        "old-stopped" => &["new-started", "health-gate-passed", "rollback-started"],
        "new-started" => &["health-gate", "rollback-started"],
        "health-gate" => &["health-gate-passed", "rollback-started"],
        "health-gate-passed" => &["succeeded"],
        "rollback-started" => &["rolled-back", "rollback-failed"],
        "rollback-failed" => &["rollback-started", "rolled-back"],
        _ => &[],
    };
    allowed.contains(&next)
}

/// I-4, I-5, I-8, I-9, I-10.
async fn check_records(
    database: &Client,
    docker: &Docker,
    operation: Uuid,
    row: &Value,
    end: End,
    wrong: &mut Vec<String>,
) {
    let count = async |sql: &str| -> i64 {
        let row = database.query_one(sql, &[&operation]).await;
        row.unwrap_or_else(|error| panic!("{sql}: {error}")).get(0)
    };
    let done =
        count("SELECT count(*) FROM operation_journal WHERE operation_id = $1 AND entry = 'done'")
            .await;
    let events = count(
        "SELECT count(*) FROM events WHERE type = 'dd:update-operation-changed'
            AND payload::jsonb ->> 'operationId' = $1::uuid::text
            AND payload::jsonb ? 'newContainerId'",
    )
    .await;
    if done != events {
        wrong.push(format!("I-9: {done} transitions and {events} events"));
    }
    let audited =
        count("SELECT count(*) FROM audit WHERE operation_id = $1 AND actor IS NOT NULL").await;
    if audited == 0 {
        wrong.push("I-10: the audit log does not know it".to_owned());
    }
    let open = count(
        "SELECT count(*) FROM update_operations o, update_operations me
          WHERE me.id = $1 AND o.completed_at IS NULL AND o.agent = me.agent
            AND o.watcher = me.watcher AND o.container_name = me.container_name",
    )
    .await;
    if open > 1 {
        wrong.push(format!("I-5: {open} operations are open"));
    }
    let backup = database
        .query_opt(
            "SELECT image_id, pinned_as FROM backups WHERE operation_id = $1",
            &[&operation],
        )
        .await
        .expect("backups can be read");
    let is_change = row["evidence"]["by"] != "already current";
    match (end, backup) {
        (End::Succeeded, None) if row["kind"] == "update" && is_change => {
            // Retention may have let go of it, but never of the newest.
            let kept = count(
                "SELECT count(*) FROM backups b, update_operations o
                  WHERE o.id = $1 AND b.identity_key = o.identity_key",
            )
            .await;
            if kept == 0 {
                wrong.push("I-8: no way back".to_owned());
            }
        }
        (End::Succeeded, Some(backup)) => {
            let (image, pin): (String, String) = (backup.get(0), backup.get(1));
            match docker.client().inspect_image(&pin).await {
                Ok(found) if found.id.as_deref() == Some(image.as_str()) => {}
                Ok(_) => wrong.push(format!("I-8: {pin} is another image")),
                Err(error) => wrong.push(format!("I-8: {pin} is gone: {error}")),
            }
        }
        (End::RolledBack | End::Failed, Some(_)) => {
            wrong.push("I-8: a way back to what was never left".to_owned());
        }
        _ => {}
    }
}

fn text<'a>(row: &'a Value, key: &str) -> &'a str {
    row[key].as_str().unwrap_or_default()
}
