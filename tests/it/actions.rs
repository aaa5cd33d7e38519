//! Start, stop, restart and updates of many containers (contract/drydock-container-api.md;
//! reference/drydock.md 1.3, 1.9).

use bollard::models::RestartPolicyNameEnum as Restart;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::{End, completed};
use plimsoll_support::server::Server;
use reqwest::Method;
use serde_json::{Value, json};

use crate::fleet::{Case, Fleet, operation_of, text};
use crate::replica::{Answer, answer};

async fn act(fleet: &Fleet, id: &str, action: &str) -> Answer {
    let path = format!("/containers/{id}/{action}");
    answer(fleet.request(0, Method::POST, &path)).await
}

/// Docker's own word for it.
async fn state(fleet: &Fleet, name: &str) -> (String, String) {
    let found = fleet.docker.inspect(name).await.expect("it is there");
    let state = found.state.expect("it has a state");
    let status = state.status.map(|status| status.to_string());
    (
        status.unwrap_or_default(),
        state.started_at.unwrap_or_default(),
    )
}

#[tokio::test]
async fn a_container_is_stopped_started_and_restarted_and_the_answer_is_what_was_observed() {
    let fleet = Fleet::start(2).await;
    let _worker = fleet.worker("local").spawn();
    let name = fleet.deploy("app", Case::app()).await;
    let id = text(&fleet.listed(&name).await, "id");
    let steps = [
        ("stop", "stopped", "exited"),
        ("stop", "stopped", "exited"),
        ("start", "started", "running"),
        ("start", "started", "running"),
        ("restart", "restarted", "running"),
        ("stop", "stopped", "exited"),
        ("restart", "restarted", "running"),
    ];
    for (action, participle, status) in steps {
        let (_, started) = state(&fleet, &name).await;
        let done = act(&fleet, &id, action).await;
        assert_eq!(done.status, 200, "{action}: {}", done.text);
        let done = done.json();
        let message = format!("Container {participle} successfully");
        assert_eq!(done["message"], message);
        assert_eq!(done["result"]["id"], id, "{done:#}");
        assert_eq!(done["result"]["status"], status, "{action}: {done:#}");
        let (shown, restarted) = state(&fleet, &name).await;
        assert_eq!(shown, status, "{action}");
        if action == "restart" {
            assert_ne!(started, restarted, "it was really started anew");
        }
    }
    let again = fleet.request(1, Method::POST, &format!("/containers/{id}/restart"));
    let again = again.header("idempotency-key", "once");
    let first = answer(again.try_clone().unwrap()).await;
    let (_, started) = state(&fleet, &name).await;
    let second = answer(again).await;
    assert_eq!(operation_of(&first), operation_of(&second));
    assert_eq!(state(&fleet, &name).await.1, started, "once is once");

    let audit = fleet.get(0, "/audit?limit=200").await;
    let count = |action: &str, status: &str| {
        let entries = audit["data"].as_array().unwrap();
        let is_it = |entry: &&Value| {
            entry["action"] == action
                && entry["status"] == status
                && entry["containerName"] == name.as_str()
        };
        entries.iter().filter(is_it).count()
    };
    assert_eq!(count("container-stop", "success"), 3);
    assert_eq!(count("container-start", "success"), 2);
    assert_eq!(count("container-restart", "success"), 3);
    let history = fleet
        .get(0, &format!("/containers/{id}/update-operations"))
        .await;
    assert_eq!(history["total"], 0, "no updates: {history:#}");
    let path = format!("/update-operations/{}", operation_of(&first));
    assert_eq!(fleet.get(0, &path).await["kind"], "restart");
}

#[tokio::test]
async fn what_cannot_start_is_answered_with_the_cause() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let case = |image| Case {
        image,
        restart: Restart::NO,
        ..Case::app()
    };
    let exits = case(Image::exits("1.0.0", 7, "no database"));
    let name = fleet.deploy("exits", exits).await;
    let id = text(&fleet.listed(&name).await, "id");
    for action in ["start", "restart"] {
        let failed = act(&fleet, &id, action).await;
        assert_eq!(failed.status, 500, "{}", failed.text);
        assert_eq!(
            failed.error(),
            format!("Error performing {action} on container")
        );
        let why = text(&failed.json()["details"], "lastError");
        assert!(why.contains("code 7"), "{}", failed.text);
    }
    let unknown = act(&fleet, &"0".repeat(64), "start").await;
    assert_eq!(
        (unknown.status, unknown.error().as_str()),
        (404, "Container not found")
    );
}

#[tokio::test]
async fn an_action_and_an_update_never_work_on_one_container_at_a_time() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let stubborn = Image::app("1.0.0").shell("trap '' TERM; while :; do sleep 1; done");
    let case = Case {
        image: stubborn,
        ..Case::app()
    };
    let name = fleet.deploy("app", case).await;
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    let id = fleet.watched(&name).await;
    // It takes its ten seconds to stop.
    let path = format!("/containers/{id}/stop");
    let stopping = fleet.request(0, Method::POST, &path);
    let stopping = answer(stopping.header("prefer", "respond-async")).await;
    assert_eq!(stopping.status, 202, "{}", stopping.text);
    let stop = operation_of(&stopping);
    for refused in [
        answer(fleet.update(0, &id)).await,
        act(&fleet, &id, "start").await,
    ] {
        assert_eq!(refused.status, 409, "{}", refused.text);
        assert_eq!(operation_of(&refused), stop, "it names what is active");
    }
    let row = completed(&fleet.rows, stop).await;
    assert_eq!(row["phase"], "succeeded", "{row:#}");
    assert_eq!(state(&fleet, &name).await.0, "exited");
    assert_eq!(act(&fleet, &id, "start").await.status, 200);

    let update = fleet.begin_update(0, &id).await;
    for action in ["start", "stop", "restart"] {
        let refused = act(&fleet, &id, action).await;
        assert_eq!(refused.status, 409, "{}", refused.text);
        assert_eq!(operation_of(&refused), update);
    }
    assert_eq!(fleet.judged(update).await.0, End::Succeeded);
}

#[tokio::test]
async fn without_container_actions_nothing_is_started_or_stopped() {
    let mut fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let name = fleet.deploy("app", Case::app()).await;
    let id = text(&fleet.listed(&name).await, "id");
    let off = Server::api(fleet.database.url(), &fleet.redis.url())
        .env("PLIMSOLL_ANONYMOUS_AUTH_CONFIRM", "true")
        .env("DD_SERVER_FEATURE_CONTAINERACTIONS", "false");
    fleet.apis.push(off.ready().await);
    let unknown = "0".repeat(64);
    for path in [
        format!("/containers/{id}/stop"),
        format!("/containers/{unknown}/start"),
        format!("/containers/{unknown}/restart"),
        "/containers/update".to_owned(),
    ] {
        let request = fleet.request(1, Method::POST, &path);
        let refused = answer(request.json(&json!({"containerIds": [id]}))).await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text);
        assert_eq!(refused.error(), "Container actions are disabled");
    }
    assert_eq!(state(&fleet, &name).await.0, "running");
}

#[tokio::test]
async fn many_containers_are_updated_by_one_request() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet.worker("local").spawn();
    let mut names = Vec::new();
    for stem in ["one", "two", "current"] {
        let case = Case {
            repository: stem,
            ..Case::app()
        };
        names.push(fleet.deploy(stem, case).await);
    }
    for stem in ["one", "two"] {
        fleet.publish(stem, "1.1.0", Image::app("1.1.0")).await;
    }
    let mut ids = vec![
        fleet.watched(&names[0]).await,
        fleet.watched(&names[1]).await,
    ];
    ids.push(text(&fleet.listed(&names[2]).await, "id"));
    ids.push("unknown".to_owned());
    ids.push(ids[0].clone());
    let body = json!({ "containerIds": ids });
    let ask = || {
        fleet
            .request(0, Method::POST, "/containers/update")
            .json(&body)
    };
    // A client that heard nothing repeats itself, even at the same time.
    let keyed = || answer(ask().header("idempotency-key", "all of them"));
    let (done, twin) = tokio::join!(keyed(), keyed());
    assert_eq!(done.status, 200, "{}", done.text);
    let accepted_by = |answer: &Answer| answer.json()["accepted"].clone();
    assert_eq!(accepted_by(&done), accepted_by(&twin), "{}", twin.text);
    assert_eq!(accepted_by(&done), accepted_by(&keyed().await));
    let other = fleet
        .request(0, Method::POST, "/containers/update")
        .header("idempotency-key", "all of them")
        .json(&json!({ "containerIds": [ids[0]] }));
    assert_eq!(answer(other).await.status, 422);
    // The first answer says why; a repetition only that it was refused then.
    let first = if done.text.contains("No update available") {
        done
    } else {
        twin
    };
    let done = first.json();
    let accepted = done["accepted"].as_array().unwrap();
    assert_eq!(accepted.len(), 2, "{done:#}");
    for (entry, (id, name)) in accepted.iter().zip(ids.iter().zip(&names)) {
        assert_eq!(&entry["containerId"], id);
        assert_eq!(&entry["containerName"], name);
    }
    assert_eq!(
        done["rejected"],
        json!([
            {
                "containerId": ids[2], "containerName": names[2], "statusCode": 400,
                "message": "No update available for this container",
            },
            {
                "containerId": "unknown", "containerName": "", "statusCode": 404,
                "message": "Container not found",
            },
        ])
    );
    let again = answer(ask()).await.json();
    let rejected = again["rejected"].as_array().unwrap();
    let statuses: Vec<_> = rejected.iter().map(|one| &one["statusCode"]).collect();
    assert!(
        statuses.iter().filter(|code| **code == 409).count() <= 2,
        "{again:#}"
    );
    assert_eq!(again["accepted"], json!([]), "{again:#}");
    for entry in accepted {
        let operation = text(entry, "operationId").parse().unwrap();
        assert_eq!(fleet.judged(operation).await.0, End::Succeeded);
    }
    let refused = |body: Value| {
        answer(
            fleet
                .request(0, Method::POST, "/containers/update")
                .json(&body),
        )
    };
    let texts = [
        (
            json!({}),
            "containerIds must be an array of non-empty strings",
        ),
        (
            json!({"containerIds": []}),
            "containerIds must not be empty",
        ),
        (json!({"ids": []}), "Unknown request properties: ids"),
    ];
    for (body, text) in texts {
        let refused = refused(body).await;
        assert_eq!((refused.status, refused.error().as_str()), (400, text));
    }
}
