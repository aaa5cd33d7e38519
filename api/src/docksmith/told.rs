//! From the events of Plimsoll to Docksmith's six.

use chrono::{DateTime, Utc};
use plimsoll_app::events::OPERATION_CHANGED;
use plimsoll_domain::{
    iso,
    operation::{OperationKind, Phase, Status},
    target::is_rollback_name,
    webhook::{OPERATION_PROGRESS, WATCH_PROGRESS},
};
use serde_json::{Map, Value, json};

use super::stages::{pull_percent, stage};

/// One event for clients.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    pub kind: &'static str,
    pub payload: Value,
}

/// What clients are told of what happened then; nothing of most events.
pub fn told(kind: &str, payload: &str, at: DateTime<Utc>) -> Vec<Told> {
    let Ok(Value::Object(payload)) = serde_json::from_str(payload) else {
        return Vec::new();
    };
    let mut all = match kind {
        OPERATION_CHANGED => operation(&payload),
        OPERATION_PROGRESS => vec![pull(&payload)],
        WATCH_PROGRESS => watch(&payload),
        "dd:container-removed" => removed(&payload).into_iter().collect(),
        _ => Vec::new(),
    };
    let at = iso::to_string(at);
    for one in &mut all {
        one.payload["timestamp"] = at.clone().into();
    }
    all
}

fn text<'a>(payload: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    payload.get(name).and_then(Value::as_str)
}

fn number(payload: &Map<String, Value>, name: &str) -> u64 {
    payload.get(name).and_then(Value::as_u64).unwrap_or(0)
}

/// What every event of a container has.
fn about(payload: &Map<String, Value>) -> Value {
    let name = text(payload, "containerName").unwrap_or_default();
    let id = text(payload, "newContainerId").or(text(payload, "containerId"));
    json!({
        "operation_id": text(payload, "operationId"),
        "container": name,
        "container_name": name,
        "container_id": id,
    })
}

fn operation(payload: &Map<String, Value>) -> Vec<Told> {
    let Some(phase) = text(payload, "phase").and_then(Phase::parse) else {
        return Vec::new();
    };
    let kind = text(payload, "kind").and_then(OperationKind::parse);
    let action = kind.is_some_and(|kind| kind.action().is_some());
    let stops = kind == Some(OperationKind::Stop);
    let name = text(payload, "containerName").unwrap_or_default();
    let stage = stage(phase);
    let error = text(payload, "rollbackReason").or(text(payload, "lastError"));
    let over = phase.status() != Status::InProgress;
    let mut progress = about(payload);
    progress["stage"] = stage.name.into();
    progress["progress"] = stage.percent.into();
    progress["percent"] = stage.percent.into();
    progress["message"] = match error.filter(|_| over) {
        Some(error) => format!("{name} {}: {error}", stage.message),
        None => format!("{name} {}", stage.message),
    }
    .into();
    let mut all = vec![Told {
        kind: if action {
            "restart.progress"
        } else {
            "update.progress"
        },
        payload: progress,
    }];
    if !over {
        return all;
    }
    let succeeded = phase == Phase::Succeeded;
    let mut ended = about(payload);
    ended["status"] = match (succeeded, action) {
        (true, _) if stops => "stopped",
        (true, true) => "restarted",
        (true, false) => "updated",
        (false, _) => "failed",
    }
    .into();
    if let Some(error) = error.filter(|_| !succeeded) {
        ended["error"] = error.into();
    }
    all.push(Told {
        kind: match stops && succeeded {
            true => "container.stopped",
            false => "container.updated",
        },
        payload: ended,
    });
    all
}

fn pull(payload: &Map<String, Value>) -> Told {
    let percent = pull_percent(number(payload, "bytesDone"), number(payload, "bytesTotal"));
    let mut progress = about(payload);
    progress["stage"] = "pulling_image".into();
    progress["progress"] = percent.into();
    progress["percent"] = percent.into();
    let image = text(payload, "targetImage").unwrap_or("the image");
    progress["message"] = format!("Pulling {image}").into();
    Told {
        kind: "update.progress",
        payload: progress,
    }
}

fn watch(payload: &Map<String, Value>) -> Vec<Told> {
    let total = number(payload, "total");
    let complete = text(payload, "stage") == Some("complete");
    let (stage, checked, percent) = match complete {
        true => ("complete", total, 100),
        false => ("checking", 0, 0),
    };
    let progress = Told {
        kind: "check.progress",
        payload: json!({
            "stage": stage,
            "total": total,
            "checked": checked,
            "percent": percent,
            "watcher": text(payload, "watcher"),
            "message": match complete {
                true => format!("Checked {total} containers"),
                false => format!("Checking {total} containers"),
            },
        }),
    };
    if !complete {
        return vec![progress];
    }
    let results = Told {
        kind: "container.updated",
        payload: json!({
            "source": "background_checker",
            "container_count": total,
        }),
    };
    vec![progress, results]
}

fn removed(payload: &Map<String, Value>) -> Option<Told> {
    let name = text(payload, "name")?;
    // One that an update has replaced is gone under another name, or has left its own to its
    // successor: what clients know by that name is there.
    if is_rollback_name(name) || text(payload, "replacedBy").is_some() {
        return None;
    }
    Some(Told {
        kind: "container.removed",
        payload: json!({
            "container": name,
            "container_name": name,
            "container_id": text(payload, "id"),
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(kind: &str, payload: Value) -> Vec<(&'static str, Value)> {
        let all = told(kind, &payload.to_string(), DateTime::UNIX_EPOCH);
        for one in &all {
            // However late it is told.
            assert_eq!(
                one.payload["timestamp"], "1970-01-01T00:00:00.000Z",
                "{}",
                one.kind
            );
        }
        all.into_iter().map(|one| (one.kind, one.payload)).collect()
    }

    fn changed(kind: &str, phase: &str) -> Vec<(&'static str, Value)> {
        let payload = json!({
            "operationId": "o", "kind": kind, "containerName": "nginx", "containerId": "c",
            "newContainerId": null, "phase": phase, "lastError": null,
        });
        kinds(OPERATION_CHANGED, payload)
    }

    #[test]
    fn an_update_shows_its_progress_and_its_end() {
        let begun = changed("update", "prepare");
        assert_eq!(begun.len(), 1);
        let (kind, progress) = &begun[0];
        assert_eq!(*kind, "update.progress");
        assert_eq!(progress["container"], "nginx");
        assert_eq!(progress["stage"], "validating");
        let ended = changed("update", "succeeded");
        assert_eq!(ended[0].1["progress"], 100);
        assert_eq!(
            (ended[1].0, &ended[1].1["status"]),
            ("container.updated", &json!("updated"))
        );
        let back = changed("update", "rolled-back");
        assert_eq!(back[1].1["status"], "failed");
    }

    #[test]
    fn a_restart_and_a_stop_have_events_of_their_own() {
        assert_eq!(changed("restart", "prepare")[0].0, "restart.progress");
        assert_eq!(changed("restart", "succeeded")[1].1["status"], "restarted");
        assert_eq!(changed("stop", "succeeded")[1].0, "container.stopped");
        assert_eq!(changed("stop", "failed")[1].0, "container.updated");
    }

    #[test]
    fn a_pull_is_told_by_its_bytes() {
        let payload = json!({
            "containerName": "nginx", "targetImage": "nginx:1.25.3", "bytesDone": 2, "bytesTotal": 4,
        });
        let pull = &kinds(OPERATION_PROGRESS, payload)[0].1;
        assert_eq!(pull["stage"], "pulling_image");
        assert_eq!(pull["progress"], 45);
        assert_eq!(pull["message"], "Pulling nginx:1.25.3");
    }

    #[test]
    fn a_check_shows_where_it_is() {
        let at = |stage: &str| kinds(WATCH_PROGRESS, json!({"stage": stage, "total": 7}));
        assert_eq!(at("checking")[0].1["checked"], 0);
        let done = at("complete");
        assert_eq!(
            (done[0].0, &done[0].1["percent"]),
            ("check.progress", &json!(100))
        );
        assert_eq!(done[1].1["container_count"], 7);
    }

    #[test]
    fn only_what_is_really_gone_was_removed() {
        let gone = |name: &str| kinds("dd:container-removed", json!({"name": name, "id": "c"}));
        assert_eq!(gone("nginx")[0].0, "container.removed");
        assert!(gone("nginx-old-1733047200000").is_empty());
        let replaced = json!({"name": "nginx", "id": "c", "replacedBy": "d"});
        assert!(kinds("dd:container-removed", replaced).is_empty());
        assert!(kinds("dd:container-updated", json!({"name": "nginx"})).is_empty());
        assert!(told("dd:container-removed", "not json", DateTime::UNIX_EPOCH).is_empty());
    }
}
