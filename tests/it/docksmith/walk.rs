//! The document's examples about checking, updating, going back, history and events, one after the
//! other against real containers.

use std::time::Duration;

use plimsoll_support::wait;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    replica::{Answer, answer},
    world::World,
};

const PATIENCE: Duration = Duration::from_secs(120);

async fn get(world: &World, path: &str) -> Answer {
    answer(world.authorised(Method::GET, &format!("/docksmith/api{path}"))).await
}

/// As `curl -d` sends it.
async fn post(world: &World, path: &str, body: Value) -> Answer {
    let request = world.authorised(Method::POST, &format!("/docksmith/api{path}"));
    let form = "application/x-www-form-urlencoded";
    answer(request.header("content-type", form).body(body.to_string())).await
}

/// The `data` of a success.
fn data(answer: &Answer) -> Value {
    let json = answer.json();
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(json["success"], true, "{}", answer.text);
    assert!(json["timestamp"].is_string() && json["version"].is_string());
    json["data"].clone()
}

fn refused(answer: &Answer, status: u16, code: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.json()["error"]["code"], code, "{}", answer.text);
}

/// Waits for the end of an operation, and answers with it.
async fn ended(world: &World, id: &str) -> Value {
    wait::until("the operation to end", PATIENCE, async || {
        let operation = data(&get(world, &format!("/operations/{id}")).await);
        operation["completed_at"].is_string().then_some(operation)
    })
    .await
}

/// What the stream says until the `last` that is waited for.
pub(super) async fn heard(
    mut stream: reqwest::Response,
    last: impl Fn(&Value) -> bool,
) -> Vec<Value> {
    let mut text = String::new();
    let mut all = Vec::new();
    loop {
        let chunk = tokio::time::timeout(PATIENCE, stream.chunk()).await;
        let chunk = chunk.expect("an event comes").expect("the stream goes on");
        text.push_str(std::str::from_utf8(&chunk.expect("it is open")).unwrap());
        while let Some((frame, rest)) = text.split_once("\n\n") {
            for line in frame.lines() {
                assert!(!line.starts_with("event:"), "unnamed: {frame}");
                if let Some(data) = line.strip_prefix("data: ") {
                    let event: Value = serde_json::from_str(data).unwrap();
                    all.push(event);
                }
            }
            text = rest.to_owned();
        }
        if all.iter().any(&last) {
            return all;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_checked_updated_and_rolled_back_as_the_document_says() {
    let world = World::start().await;
    let image = world.publish("nginx", &["1.24.0", "1.25.3"]).await;
    let labels = [("docksmith.version-pin-major", "true")];
    let id = world.run("nginx", &image, &labels).await;
    let name = world.docker.name("nginx");

    // curl -N /api/events, from here on.
    let events = world.authorised(Method::GET, "/docksmith/api/events");
    let events = events.send().await.unwrap();
    assert_eq!(events.status(), 200);

    // curl /api/check: what the registry says now, and never an older answer.
    let checked = data(&get(&world, "/check").await);
    assert_eq!(
        (&checked["total"], &checked["updates_available"]),
        (&json!(1), &json!(1))
    );
    let item = &checked["containers"][0];
    for (field, expected) in [
        ("name", json!(name)),
        ("container_name", json!(name)),
        ("id", json!(id)),
        ("current_version", json!("1.24.0")),
        ("latest_version", json!("1.25.3")),
        ("status", json!("UPDATE_AVAILABLE")),
        ("update_available", json!(true)),
        ("change_type", json!(2)),
        ("stack", json!("")),
    ] {
        assert_eq!(item[field], expected, "{field}: {item}");
    }
    assert_eq!(item["labels"]["docksmith.version-pin-major"], "true");
    assert!(item["image"].as_str().unwrap().ends_with("nginx:1.24.0"));

    // Homepage's widget.
    let status = data(&get(&world, "/status").await);
    assert_eq!(
        (&status["total_checked"], &status["updates_found"]),
        (&json!(1), &json!(1))
    );
    assert!(status["last_cache_refresh"].is_string());
    assert!(status["last_background_run"].is_string());
    assert_eq!(
        (&status["checking"], &status["cache_ttl"]),
        (&json!(false), &json!("2m0s"))
    );
    // Its schedule is once a year.
    let years = [json!("8760h0m0s"), json!("8784h0m0s")];
    assert!(years.contains(&status["check_interval"]), "{status:#}");
    assert_eq!(status["update_order"], json!([name]));

    let rechecked = data(&get(&world, &format!("/container/{name}/recheck")).await);
    assert_eq!(rechecked["latest_version"], "1.25.3");
    refused(
        &get(&world, "/container/nobody/recheck").await,
        404,
        "NOT_FOUND",
    );
    let triggered = data(&post(&world, "/trigger-check", Value::Null).await);
    assert!(triggered["message"].is_string());
    assert!(data(&get(&world, "/docker-config").await)["registries"].is_array());

    // What is wrong changes nothing.
    for (body, status, code) in [
        (json!({}), 400, "BAD_REQUEST"),
        (json!({"container": "nobody"}), 404, "NOT_FOUND"),
        (
            json!({"container": name, "version": "../../x"}),
            400,
            "BAD_REQUEST",
        ),
        (
            json!({"container": name, "version": "1.24.0"}),
            400,
            "BAD_REQUEST",
        ),
        (
            json!({"container": name, "script": "/etc/passwd"}),
            400,
            "BAD_REQUEST",
        ),
    ] {
        refused(&post(&world, "/update", body).await, status, code);
    }
    refused(
        &get(&world, "/operations?limit=0").await,
        400,
        "BAD_REQUEST",
    );
    assert_eq!(data(&get(&world, "/operations").await), json!([]));

    // A version that does not exist is found out before anything is touched.
    let body = json!({"container_name": name, "target_version": "9.9.9"});
    let started = data(&post(&world, "/update", body).await);
    let failed = ended(&world, started["operation_id"].as_str().unwrap()).await;
    assert_eq!(failed["status"], "failed");
    assert_eq!(failed["rollback_occurred"], false);

    // -d '{"container":"nginx"}'
    let started = data(&post(&world, "/update", json!({"container": name})).await);
    assert_eq!(
        (&started["container"], &started["status"]),
        (&json!(name), &json!("started"))
    );
    let first = started["operation_id"].as_str().unwrap().to_owned();
    let operation = ended(&world, &first).await;
    for (field, expected) in [
        ("operation_id", json!(first)),
        ("container_name", json!(name)),
        ("operation_type", json!("update")),
        ("status", json!("complete")),
        ("old_version", json!("1.24.0")),
        ("new_version", json!("1.25.3")),
    ] {
        assert_eq!(operation[field], expected, "{field}: {operation}");
    }

    // Filters and the cursor.
    let page = get(&world, "/operations?limit=1").await;
    assert_eq!(data(&page)[0]["operation_id"], json!(first));
    assert_eq!(page.json()["has_more"], true);
    let cursor = page.json()["next_cursor"].as_str().unwrap().to_owned();
    let next = get(&world, &format!("/operations?cursor={cursor}")).await;
    assert_eq!(data(&next)[0]["status"], "failed");
    assert_eq!(next.json()["has_more"], false);
    for (query, expected) in [
        (format!("container={name}"), 2),
        ("container=other".to_owned(), 0),
        ("status=complete".to_owned(), 1),
        ("status=failed".to_owned(), 1),
        ("type=update".to_owned(), 2),
        ("type=rollback".to_owned(), 0),
        ("date_from=2999-01-01".to_owned(), 0),
        ("date_to=2999-01-01".to_owned(), 2),
        ("container=%00".to_owned(), 0),
    ] {
        let found = data(&get(&world, &format!("/operations?{query}")).await);
        assert_eq!(found.as_array().unwrap().len(), expected, "{query}");
    }
    let all = world.get("/api/v1/update-operations").await.json();
    assert_eq!(all["total"], 2, "{all}");

    // The way back.
    let policies = data(&get(&world, "/policies").await);
    let policy = &policies["containers"][&name];
    assert_eq!(policy["can_rollback"], true, "{policies}");
    assert_eq!(policy["last_operation_id"], json!(first));
    assert_eq!(policy["old_version"], "1.24.0");
    refused(
        &post(&world, "/rollback", json!({"operation_id": "op_1"})).await,
        404,
        "NOT_FOUND",
    );
    let back = data(&post(&world, "/rollback", json!({"operation_id": first})).await);
    assert_eq!(back["original_operation_id"], json!(first));
    let second = back["operation_id"].as_str().unwrap();
    let operation = ended(&world, second).await;
    assert_eq!(
        (&operation["status"], &operation["operation_type"]),
        (&json!("complete"), &json!("rollback"))
    );
    wait::until_true("the old version to run again", PATIENCE, async || {
        let status = data(&get(&world, "/status").await);
        status["containers"][0]["current_version"] == "1.24.0"
    })
    .await;

    let history = data(&get(&world, "/history?type=update").await);
    let entries = history["history"].as_array().unwrap();
    assert!(
        entries
            .iter()
            .any(|entry| entry["operation"] == "update-applied"),
        "{history}"
    );
    let found = data(&get(&world, "/history?type=check").await);
    assert_eq!(found["history"][0]["latest_version"], "1.25.3", "{found}");

    // What was heard meanwhile.
    let updated = |event: &Value| {
        event["type"] == "container.updated" && event["payload"]["operation_id"] == json!(first)
    };
    let heard = heard(events, updated).await;
    let is = |kind: &'static str| heard.iter().filter(move |event| event["type"] == kind);
    assert!(is("connected").next().is_some());
    assert!(is("check.progress").any(|event| event["payload"]["stage"] == "complete"));
    let progress = is("update.progress").find(|event| event["payload"]["progress"] == 100);
    assert_eq!(progress.unwrap()["payload"]["container"], json!(name));
    // The old container is gone, and the one of that name is not.
    assert_eq!(is("container.removed").count(), 0, "{heard:#?}");
}
