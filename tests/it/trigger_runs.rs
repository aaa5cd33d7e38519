//! Running a trigger on a container (contract/drydock-container-api.md).

use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use reqwest::Method;
use serde_json::json;

use crate::fleet::{Case, Fleet, operation_of, text};
use crate::replica::answer;

#[tokio::test]
async fn a_docker_trigger_updates_the_container_it_is_run_on() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let name = fleet.deploy("app", Case::app()).await;
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    let id = fleet.watched(&name).await;
    let run = |trigger: &str| {
        let path = format!("/containers/{id}/triggers/{trigger}");
        fleet.request(0, Method::POST, &path)
    };
    for unknown in [
        "docker/other",
        "dockercompose/local",
        "ntfy/one",
        "docker/local/nas",
    ] {
        let refused = answer(run(unknown)).await;
        assert_eq!(refused.status, 404, "{unknown}: {}", refused.text);
        assert_eq!(refused.error(), "Trigger not found", "{unknown}");
    }
    let path = "/containers/unknown/triggers/docker/local";
    let unknown = answer(fleet.request(0, Method::POST, path)).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.error(), "Container not found");

    let done = answer(run("docker/local")).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.json(), json!({}));
    let runs = fleet.docker.inspect(&name).await.unwrap();
    let new = runs.id.unwrap();
    assert_ne!(new, id);
    let history = fleet
        .get(0, &format!("/containers/{new}/update-operations"))
        .await;
    assert_eq!(history["total"], 1);
    assert_eq!(history["data"][0]["triggerName"], "docker.local");
}

#[tokio::test]
async fn a_trigger_that_comes_to_a_bad_end_says_so() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let name = fleet.deploy("app", Case::app()).await;
    let bad = Image::exits("1.1.0", 7, "no database");
    fleet.publish("app", "1.1.0", bad).await;
    let id = fleet.watched(&name).await;
    let path = format!("/containers/{id}/triggers/docker/local");
    let run = || fleet.request(0, Method::POST, &path);
    let accepted = answer(run().header("prefer", "respond-async")).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let operation = operation_of(&accepted);
    let active = answer(run()).await;
    // Either it is still active, or its target is barred by now.
    assert_eq!(active.status, 409, "{}", active.text);
    assert_eq!(fleet.judged(operation).await.0, End::RolledBack);

    let next = Image::exits("1.2.0", 7, "no database either");
    fleet.publish("app", "1.2.0", next).await;
    let id = fleet.watched(&name).await;
    let path = format!("/containers/{id}/triggers/docker/local");
    let failed = answer(fleet.request(0, Method::POST, &path)).await;
    assert_eq!(failed.status, 500, "{}", failed.text);
    let message = "Error when running trigger (type=docker, name=local)";
    assert_eq!(failed.error(), message);
    let log = text(&failed.json()["details"], "lastLog");
    assert!(log.contains("no database either"), "{}", failed.text);
    let (end, _) = fleet.judged(operation_of(&failed)).await;
    assert_eq!(end, End::RolledBack);
}

#[tokio::test]
async fn a_local_trigger_does_not_act_on_the_container_of_an_agent() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet
        .worker("local")
        .env("PLIMSOLL_WORKER_AGENT", "nas")
        .spawn();
    let name = fleet.deploy("app", Case::app()).await;
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    let id = fleet.watched(&name).await;
    let run = |trigger: &str| {
        let path = format!("/containers/{id}/triggers/{trigger}");
        answer(fleet.request(0, Method::POST, &path))
    };
    let refused = run("docker/local").await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    let message = format!("Cannot execute local docker trigger on remote container nas.{id}");
    assert_eq!(refused.error(), message);
    let done = run("docker/local/nas").await;
    assert_eq!(done.status, 200, "{}", done.text);
    let runs = fleet.docker.inspect(&name).await.unwrap();
    assert_ne!(runs.id.as_deref(), Some(id.as_str()));
}
