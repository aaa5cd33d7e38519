//! Scripts: which there are, which check what, and what a check and a step after an update do.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use plimsoll_support::{image::Image, oracle::End, wait};
use reqwest::Method;
use serde_json::{Value, json};

use crate::fleet::{Case, Fleet, PATIENCE, text};
use crate::replica::{Answer, answer};

fn script(directory: &Path, name: &str, text: &str) {
    let path = directory.join(name);
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
}

async fn send(fleet: &Fleet, method: Method, path: &str, body: Value) -> Answer {
    answer(fleet.request(0, method, path).json(&body)).await
}

/// Why the update failed, having touched nothing.
fn refused(answer: &Answer) -> String {
    assert_eq!(answer.status, 500, "{}", answer.text);
    let details = &answer.json()["details"];
    assert_eq!(details["phase"], "failed", "{details:#}");
    text(details, "lastError")
}

#[tokio::test]
async fn a_script_bars_an_update_until_it_lets_it_pass_and_others_follow_it() {
    let scripts = tempfile::tempdir().unwrap();
    let here = scripts.path();
    let home = here.display();
    script(here, "label.sh", "echo from the label; exit 4");
    script(
        here,
        "yes.sh",
        &format!("echo \"$@\" $DD_UPDATE_TO >> {home}/asked"),
    );
    script(
        here,
        "check.sh",
        &format!("[ -e {home}/ready ] && exit 0; echo no backup yet >&2; exit 3"),
    );
    let fleet = Fleet::start(1).await;
    let other = fleet.deploy("other", Case::app()).await;
    let labels = [
        ("docksmith.pre-update-check", "/scripts/label.sh"),
        ("docksmith.post-update", &format!("restart:{other},nobody")),
    ];
    let case = Case {
        labels: &labels,
        ..Case::app()
    };
    let name = fleet.deploy("app", case).await;
    let _worker = fleet
        .worker("local")
        .env("PLIMSOLL_SCRIPTS_DIR", home.to_string())
        .spawn();
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    let id = fleet.watched(&name).await;
    let update = format!("/containers/{id}/update");
    let assign = format!("/containers/{id}/script");

    let list = fleet.get(0, "/scripts?limit=2").await;
    let names: Vec<&Value> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| &s["path"])
        .collect();
    assert_eq!(names, ["check.sh", "label.sh"], "{list:#}");
    assert_eq!(
        (&list["total"], &list["hasMore"]),
        (&json!(3), &json!(true))
    );

    // The label's, then the assigned one; neither touches anything.
    let image = fleet.running_image(&name).await;
    let why = refused(&answer(fleet.request(0, Method::POST, &update)).await);
    assert!(
        why.contains("label.sh") && why.contains("from the label"),
        "{why}"
    );
    for path in [
        "../x.sh",
        "/etc/passwd",
        "missing.sh",
        "",
        "/bin/sh",
        "check.sh; id",
    ] {
        let bad = send(&fleet, Method::PUT, &assign, json!({"script": path})).await;
        assert_eq!(bad.status, 400, "{path}: {}", bad.text);
        if path != "missing.sh" {
            let asked = fleet.request(0, Method::POST, &update);
            let bad = answer(asked.query(&[("script", path)])).await;
            assert_eq!(bad.status, 400, "{path}: {}", bad.text);
        }
    }
    assert_eq!(fleet.get(0, "/scripts/assignments").await["total"], 0);
    let assigned = send(
        &fleet,
        Method::PUT,
        &assign,
        json!({"script": "/scripts/check.sh"}),
    )
    .await;
    assert_eq!(assigned.status, 200, "{}", assigned.text);
    let all = fleet.get(0, "/scripts/assignments").await;
    assert_eq!(all["data"][0], assigned.json());
    assert_eq!(all["data"][0]["containerName"], name);
    let theirs = async |path: &str| {
        let url = fleet.apis[0].url(&format!("/docksmith/api{path}"));
        answer(reqwest::Client::new().get(url)).await.json()["data"].clone()
    };
    let scripts = theirs("/scripts").await;
    assert_eq!(scripts["count"], 3, "{scripts:#}");
    assert_eq!(scripts["scripts"][0]["path"], "/scripts/check.sh");
    let assigned = theirs("/scripts/assigned").await;
    assert_eq!(assigned["assignments"][0]["container"], name.as_str());
    assert_eq!(
        assigned["assignments"][0]["script_path"],
        "/scripts/check.sh"
    );
    let why = refused(&answer(fleet.request(0, Method::POST, &update)).await);
    assert!(why.contains("code 3: no backup yet"), "{why}");
    assert_eq!(fleet.running_image(&name).await, image);
    let barred = fleet.get(0, &format!("/containers/{id}")).await;
    let blockers = barred["updateEligibility"]["blockers"].as_array().unwrap();
    assert!(
        blockers
            .iter()
            .any(|one| one["reason"] == "update-check-failed"),
        "{blockers:?}"
    );

    // One that the request names instead; and the step afterwards.
    let started = |found: Option<bollard::models::ContainerInspectResponse>| {
        found
            .and_then(|one| one.state)
            .and_then(|state| state.started_at)
    };
    let before = started(fleet.docker.inspect(&other).await);
    let path = format!("{update}?script=yes.sh");
    let done = answer(fleet.request(0, Method::POST, &path)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    let asked = fs::read_to_string(here.join("asked")).unwrap();
    assert_eq!(asked, format!("{id} {name} 1.1.0\n"));
    wait::until_true("the other one to be restarted", PATIENCE, async || {
        started(fleet.docker.inspect(&other).await) != before
    })
    .await;
    let trail = fleet.get(0, "/audit?action=post-update").await;
    let details = text(&trail["data"][0], "details");
    assert!(details.contains("nobody is not there"), "{trail:#}");

    // The container that is there now has the assignment, and can lose it.
    let new = text(&done.json()["result"], "id");
    let all = fleet.get(0, "/scripts/assignments").await;
    assert_eq!(all["data"][0]["containerId"], new.as_str());
    let path = format!("/containers/{new}/script");
    for status in [204, 404] {
        let gone = answer(fleet.request(0, Method::DELETE, &path)).await;
        assert_eq!(gone.status, status, "{}", gone.text);
    }
}

#[tokio::test]
async fn what_follows_an_update_is_restarted_once_when_a_worker_dies_in_it() {
    let fleet = Fleet::start(1).await;
    let other = fleet.deploy("other", Case::app()).await;
    let labels = [("docksmith.post-update", &*format!("restart:{other}"))];
    let case = Case {
        labels: &labels,
        ..Case::app()
    };
    let name = fleet.deploy("app", case).await;
    let mut mortal = fleet
        .worker("local")
        .env("PLIMSOLL_TEST_CRASH_AT", "post-update:after")
        .spawn();
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    fleet.watched(&other).await;
    let id = fleet.watched(&name).await;
    let operation = fleet.begin_update(0, &id).await;
    wait::until_true("the worker to die", PATIENCE, || {
        std::future::ready(mortal.exited().is_some())
    })
    .await;
    let _worker = fleet.worker("local").spawn();
    let (end, row) = fleet.judged(operation).await;
    assert_eq!(end, End::Succeeded, "{row:#}");
    let asked = "SELECT phase FROM update_operations WHERE kind = 'restart'";
    let phases = wait::until("the other one to be restarted", PATIENCE, async || {
        let rows = fleet.rows.query(asked, &[]).await.unwrap();
        let phases: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
        phases
            .iter()
            .any(|phase| phase == "succeeded")
            .then_some(phases)
    })
    .await;
    assert_eq!(phases, ["succeeded"]);
    let begun = "SELECT count(*) FROM operation_journal
                  WHERE entry = 'intent' AND note ->> 'step' = 'restart' AND operation_id <> $1";
    assert_eq!(fleet.count(begun, operation).await, 1);
}
