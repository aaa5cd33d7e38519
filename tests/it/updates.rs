//! The main job over HTTP, with the real binaries: a watch finds an image, an update replaces the
//! container or brings the old one back, and a rollback goes back on request.

use std::time::Duration;

use bollard::{models::RestartPolicyNameEnum as Restart, query_parameters::KillContainerOptions};
use futures::future::join_all;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::wait;
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fleet::{Case, Fleet, operation_of, text};
use crate::replica::answer;
use crate::stream;

const PHASES: [&str; 8] = [
    "prepare",
    "renamed",
    "new-created",
    "old-stopped",
    "new-started",
    "health-gate",
    "health-gate-passed",
    "succeeded",
];

/// The phases that the stream tells of the operation, to its end; without repetitions.
async fn told(stream: &mut stream::Client, operation: Uuid) -> Vec<String> {
    let mut phases: Vec<String> = Vec::new();
    loop {
        let event = stream.next().await.expect("the stream goes on");
        let is_ours = event.data["operationId"] == operation.to_string();
        if event.name != "dd:update-operation-changed" || !is_ours {
            continue;
        }
        let phase = text(&event.data, "phase");
        if phases.last() != Some(&phase) {
            phases.push(phase);
        }
        if event.data["status"] != "in-progress" && event.data["status"] != "queued" {
            return phases;
        }
    }
}

#[tokio::test]
async fn an_update_that_a_watch_found_is_made_and_told_everywhere() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let name = fleet.deploy("app", Case::app()).await;
    let old = text(&fleet.listed(&name).await, "id");
    let target = fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    assert_eq!(fleet.watched(&name).await, old);
    let found = fleet.listed(&name).await;
    assert_eq!(found["result"]["tag"], "1.1.0", "{found:#}");
    assert_eq!(found["updateKind"]["semverDiff"], "minor", "{found:#}");

    let events = fleet.request(0, Method::GET, "/events/ui");
    let mut events = stream::Client::open(events, None).await;
    let done = answer(fleet.update(0, &old)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let operation = operation_of(&done);
    let done = done.json();
    assert_eq!(done["message"], "Container updated successfully");
    let new = text(&done["result"], "id");
    assert_ne!(new, old);
    assert_eq!(done["result"]["image"]["tag"]["value"], "1.1.0");
    let runs = fleet.docker.inspect(&name).await.unwrap();
    assert_eq!(runs.id.as_deref(), Some(new.as_str()));
    assert_eq!(runs.config.unwrap().image.as_deref(), Some(target.as_str()));

    assert_eq!(told(&mut events, operation).await, PHASES);
    let path = format!("/containers/{new}/update-operations");
    let operations = fleet.get(0, &path).await;
    assert_eq!(operations["total"], 1);
    let shown = &operations["data"][0];
    let expected = json!({
        "id": operation.to_string(), "kind": "update", "status": "succeeded",
        "phase": "succeeded", "containerName": name, "oldContainerId": old,
        "newContainerId": new, "fromVersion": "1.0.0", "toVersion": "1.1.0",
        "oldContainerWasRunning": true,
    });
    for (key, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[key], value, "{key}: {shown:#}");
    }
    let audit = fleet.get(0, "/audit?limit=200").await;
    let entries = audit["data"].as_array().unwrap();
    for action in ["update-available", "container-update", "update-applied"] {
        let is_there =
            |entry: &&Value| entry["action"] == action && entry["containerName"] == name.as_str();
        assert!(
            entries.iter().any(|entry| is_there(&entry)),
            "{action}: {audit:#}"
        );
    }
    let caused = "SELECT count(*) FROM audit WHERE operation_id = $1 AND request_id IS NOT NULL
                     AND actor IS NOT NULL";
    assert_eq!(
        fleet.count(caused, operation).await,
        2,
        "who asked, in which request"
    );
    let backups = fleet.get(0, &format!("/containers/{new}/backups")).await;
    assert_eq!(backups["total"], 1);
    assert_eq!(backups["data"][0]["imageTag"], "1.0.0");
    assert_eq!(fleet.judged(operation).await.0, End::Succeeded);
    let gone = answer(fleet.request(0, Method::GET, &format!("/containers/{old}"))).await;
    assert_eq!(gone.status, 404, "{}", gone.text);
    let again = answer(fleet.update(0, &new)).await;
    assert_eq!(again.status, 400, "{}", again.text);
    assert_eq!(again.error(), "No update available for this container");
}

/// An image that must not stay, and what the answer says of it.
struct Bad {
    stem: &'static str,
    image: Image,
    restart: Restart,
    exit_code: Option<i64>,
    /// Found in the reason.
    reason: &'static str,
    /// Found in the log.
    log: &'static str,
}

fn bad_images() -> Vec<Bad> {
    let bad = |stem, image, restart, exit_code, reason, log| Bad {
        stem,
        image,
        restart,
        exit_code,
        reason,
        log,
    };
    let app = || Image::app("1.1.0");
    let no_program = app()
        .file("bin/broken", "neither a script nor a program\n")
        .cmd(["/bin/broken"]);
    vec![
        bad(
            "exits",
            Image::exits("1.1.0", 7, "no database"),
            Restart::NO,
            Some(7),
            "7",
            "no database",
        ),
        bad(
            "ends",
            Image::exits("1.1.0", 0, "nothing to do"),
            Restart::NO,
            Some(0),
            "0",
            "nothing to do",
        ),
        bad(
            "late",
            app().shell("echo working; sleep 3; echo lost; exit 9"),
            Restart::NO,
            Some(9),
            "9",
            "lost",
        ),
        bad(
            "loops",
            app().shell("echo again; sleep 0.3; exit 5"),
            Restart::ALWAYS,
            None,
            "exiting",
            "again",
        ),
        bad(
            "unhealthy",
            app().healthcheck("echo no route; exit 1"),
            Restart::ALWAYS,
            None,
            "no route",
            "started",
        ),
        bad(
            "missing",
            app().cmd(["/no/such/command"]),
            Restart::ALWAYS,
            None,
            "/no/such/command",
            "",
        ),
        bad(
            "format",
            no_program,
            Restart::NO,
            None,
            "",
            "exec format error",
        ),
    ]
}

#[tokio::test]
async fn bad_images_are_answered_with_their_reason_and_the_old_containers_run_on() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let mut names = Vec::new();
    for bad in bad_images() {
        let case = Case {
            repository: bad.stem,
            restart: bad.restart,
            stability: 5,
            ..Case::app()
        };
        let name = fleet.deploy(bad.stem, case).await;
        fleet.publish(bad.stem, "1.1.0", bad.image).await;
        names.push(name);
    }
    let before = fleet.docker.containers().await;
    let mut ids = Vec::new();
    for name in &names {
        ids.push(fleet.watched(name).await);
    }
    let answers = join_all(ids.iter().map(|id| answer(fleet.update(0, id)))).await;
    for (bad, failed) in bad_images().iter().zip(&answers) {
        let stem = bad.stem;
        assert_eq!(failed.status, 500, "{stem}: {}", failed.text);
        assert_eq!(failed.error(), "Error updating container");
        let details = &failed.json()["details"];
        assert_eq!(details["status"], "rolled-back", "{stem}: {details:#}");
        let reason = text(details, "rollbackReason");
        assert!(
            !reason.is_empty() && reason.contains(bad.reason),
            "{stem}: {details:#}"
        );
        assert!(
            text(details, "lastLog").contains(bad.log),
            "{stem}: {details:#}"
        );
        if let Some(code) = bad.exit_code {
            assert_eq!(details["exitCode"], code, "{stem}: {details:#}");
        }
        let (end, _) = fleet.judged(operation_of(failed)).await;
        assert_eq!(end, End::RolledBack, "{stem}");
    }
    assert_eq!(fleet.docker.containers().await, before, "all as it was");

    // What failed is not offered again to those who only press the button.
    let again = answer(fleet.update(0, &ids[0])).await;
    assert_eq!(again.status, 409, "{}", again.text);
}

#[tokio::test]
async fn a_rollback_of_a_moved_tag_really_goes_back_without_the_registry() {
    let mut fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let case = Case {
        tag: "latest",
        ..Case::app()
    };
    let name = fleet.deploy("app", case).await;
    let reference = fleet.registry.reference("app", "latest");
    let first = fleet.running_image(&name).await;
    fleet.publish("app", "latest", Image::app("2.0.0")).await;
    let id = fleet.watched(&name).await;
    let done = answer(fleet.update(0, &id)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let second = fleet.running_image(&name).await;
    assert_ne!(first, second);
    let id = text(&done.json()["result"], "id");

    let path = format!("/containers/{id}/rollback");
    let unconfirmed = answer(fleet.request(0, Method::POST, &path)).await;
    assert_eq!(unconfirmed.status, 428, "{}", unconfirmed.text);
    assert_eq!(fleet.running_image(&name).await, second);

    fleet.registry = plimsoll_support::registry::Registry::start().await;
    let key = ("idempotency-key", "go-back");
    let request = || fleet.rollback(0, &id).header(key.0, key.1);
    let done = answer(request()).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.json()["message"], "Container rolled back successfully");
    assert_eq!(fleet.running_image(&name).await, first);
    let shown = fleet
        .docker
        .inspect(&name)
        .await
        .unwrap()
        .config
        .unwrap()
        .image;
    assert_eq!(
        shown.as_deref(),
        Some(reference.as_str()),
        "still called by its tag"
    );
    let operation = operation_of(&done);
    assert_eq!(fleet.judged(operation).await.0, End::Succeeded);

    // The same request again is the same rollback, although the container has another id by now.
    let again = answer(request()).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(again.json(), done.json());
    let wanted = json!({"backupId": Uuid::new_v4().to_string()});
    let other = answer(request().json(&wanted)).await;
    assert_eq!(other.status, 422, "{}", other.text);
}

#[tokio::test]
async fn an_update_that_turns_unhealthy_afterwards_goes_back_once_where_labels_ask_for_it() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let case = Case {
        image: Image::app("1.0.0").healthcheck("true"),
        labels: &[("dd.rollback.auto", "true")],
        ..Case::app()
    };
    let name = fleet.deploy("app", case).await;
    let before = fleet.running_image(&name).await;
    let breaks = "trap 'exit 0' TERM; trap 'echo broken > /why' USR1;
                  while :; do sleep 1 & wait $!; done";
    let next = Image::app("1.1.0").shell(breaks);
    let next = next.healthcheck("if [ -e /why ]; then cat /why; exit 1; fi");
    fleet.publish("app", "1.1.0", next).await;
    let id = fleet.watched(&name).await;
    let done = answer(fleet.update(0, &id)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let update = operation_of(&done);
    assert_eq!(fleet.judged(update).await.0, End::Succeeded);

    let signal = KillContainerOptions {
        signal: "USR1".to_owned(),
    };
    let docker = fleet.docker.client();
    docker.kill_container(&name, Some(signal)).await.unwrap();
    let since = "SELECT id FROM update_operations WHERE kind = 'rollback' AND id > $1";
    let rollback = wait::until("a rollback", Duration::from_secs(60), async || {
        let row = fleet.rows.query_opt(since, &[&update]).await.unwrap();
        row.map(|row| row.get::<_, Uuid>(0))
    })
    .await;
    let (end, row) = fleet.judged(rollback).await;
    assert_eq!(end, End::Succeeded, "{row:#}");
    assert_eq!(row["actor"], "plimsoll");
    let reason = text(&row, "rollback_reason");
    assert!(reason.contains(&update.to_string()), "{reason}");
    assert!(reason.ends_with("broken"), "{reason}");
    assert_eq!(fleet.running_image(&name).await, before);

    // The target that did not stand is not tried again.
    let id = text(&fleet.listed(&name).await, "id");
    let watched = fleet.request(0, Method::POST, &format!("/containers/{id}/watch"));
    assert_eq!(answer(watched).await.status, 200);
    let again = answer(fleet.update(0, &id)).await;
    assert_eq!(again.status, 409, "{}", again.text);
    assert!(again.text.contains(reason.as_str()), "{}", again.text);
}
