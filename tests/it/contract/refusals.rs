use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::server::Server;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Case, ask, check};
use crate::replica::answer;
use crate::world::World;

#[tokio::test]
async fn every_refusal_has_the_contracts_status_and_words() {
    let world = World::start().await;
    let image = world.publish("steady", &["1.0.0"]).await;
    let steady = world.run("steady", &image, &[]).await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let app = world.run("app", &image, &[]).await;
    world.watch(&app).await;
    world.watch(&steady).await;
    let none = || Value::Null;
    let not_found = "Container not found";
    let at = |id: &str, what: &str| format!("/api/v1/containers/{id}{what}");
    let unknown = |what: &str| at("unknown", what);
    let rollback = "Confirmation required: X-DD-Confirm-Action=container-rollback";
    let delete = "Confirmation required: X-DD-Confirm-Action=container-delete";
    let nothing = "No update available for this container";
    let invalid = "Invalid request parameters";
    let watch = || "/api/v1/containers/watch".to_owned();
    let many: Vec<String> = (0..201).map(|n| n.to_string()).collect();
    let ids = "containerIds must be an array of non-empty strings";
    let mut cases = vec![
        ("GET", unknown(""), none(), 404, not_found),
        ("GET", unknown("/triggers"), none(), 404, not_found),
        ("GET", unknown("/backups"), none(), 404, not_found),
        ("GET", unknown("/update-operations"), none(), 404, not_found),
        ("POST", unknown("/watch"), none(), 404, not_found),
        ("POST", unknown("/preview"), none(), 404, not_found),
        ("POST", unknown("/update"), none(), 404, not_found),
        ("PATCH", unknown("/update-policy"), none(), 404, not_found),
        (
            "PATCH",
            unknown("/update-policy"),
            json!({"action": "x"}),
            404,
            not_found,
        ),
        ("POST", unknown("/rollback"), none(), 428, rollback),
        ("DELETE", unknown(""), none(), 428, delete),
        ("POST", at(&app, "/rollback"), json!({}), 428, rollback),
        ("DELETE", at(&app, ""), none(), 428, delete),
        ("POST", at(&steady, "/update"), none(), 400, nothing),
        ("POST", at(&steady, "/preview"), none(), 400, nothing),
        (
            "POST",
            watch(),
            json!([]),
            400,
            "Request body must be an object",
        ),
        (
            "POST",
            watch(),
            json!({"a": 1, "b": 2}),
            400,
            "Unknown request properties: a, b",
        ),
        ("POST", watch(), json!({"containerIds": "x"}), 400, ids),
        ("POST", watch(), json!({"containerIds": [""]}), 400, ids),
        (
            "POST",
            watch(),
            json!({"containerIds": []}),
            400,
            "containerIds must not be empty",
        ),
        (
            "POST",
            watch(),
            json!({"containerIds": many}),
            400,
            "containerIds must contain at most 200 entries",
        ),
        (
            "POST",
            watch(),
            json!({"containerIds": ["unknown"]}),
            404,
            not_found,
        ),
        ("POST", "/api/v1/tokens".into(), json!({}), 400, invalid),
        (
            "DELETE",
            "/api/v1/tokens/unknown".into(),
            none(),
            404,
            "Token not found",
        ),
        (
            "GET",
            "/api/v1/update-operations/unknown".into(),
            none(),
            404,
            "Update operation not found",
        ),
        ("POST", "/auth/login".into(), none(), 400, invalid),
        ("POST", "/auth/remember".into(), json!({}), 400, invalid),
        (
            "POST",
            "/api/v1/webhook/watch".into(),
            none(),
            403,
            "Webhooks are disabled",
        ),
    ];
    for (query, what) in [
        ("sort=x", "sort"),
        ("order=x", "order"),
        ("status=x", "status filter"),
        ("kind=x", "kind filter"),
        ("watcher=", "watcher filter"),
        ("maturity=x", "maturity filter"),
    ] {
        let text: &str = Box::leak(format!("Invalid {what} value").into_boxed_str());
        cases.push((
            "GET",
            format!("/api/v1/containers?{query}"),
            none(),
            400,
            text,
        ));
    }
    for what in ["triggers", "watchers", "registries"] {
        let path = format!("/api/v1/{what}/x/y");
        cases.push(("GET", path.clone(), none(), 404, "Component not found"));
        cases.push((
            "GET",
            format!("{path}/z"),
            none(),
            404,
            "Component not found",
        ));
    }
    let policy = at(&steady, "/update-policy");
    let kind = "Invalid remove-skip kind; expected \"tag\" or \"digest\"";
    let value = "Invalid remove-skip value; expected a non-empty string";
    let days = "Invalid snooze days value";
    let mode = "Invalid maturity mode; expected \"all\" or \"mature\"";
    let age = "Invalid maturity minAgeDays value";
    for (body, text) in [
        (none(), "Action is required"),
        (json!({}), "Action is required"),
        (json!([]), "Action is required"),
        (json!({"action": "x"}), "Unknown action x"),
        (
            json!({"action": "skip-current"}),
            "No current update available to skip",
        ),
        (
            json!({"action": "remove-skip", "kind": "x", "value": "y"}),
            kind,
        ),
        (
            json!({"action": "remove-skip", "kind": "tag", "value": " "}),
            value,
        ),
        (
            json!({"action": "snooze", "snoozeUntil": "soon"}),
            "Invalid snoozeUntil date",
        ),
        (json!({"action": "snooze", "days": 0}), days),
        (json!({"action": "snooze", "days": 366}), days),
        (json!({"action": "set-maturity-policy"}), mode),
        (
            json!({"action": "set-maturity-policy", "mode": "mature", "minAgeDays": 0}),
            age,
        ),
    ] {
        cases.push(("PATCH", policy.clone(), body, 400, text));
    }
    let before = world.get("/api/v1/containers").await.text;
    let cases: Vec<Case<'_>> = cases
        .iter()
        .map(|(method, path, body, status, text)| (*method, &**path, body.clone(), *status, *text))
        .collect();
    check(&world, &cases).await;
    assert_eq!(
        world.get("/api/v1/containers").await.text,
        before,
        "nothing was changed"
    );

    // With the confirmation: container, then backup.
    for (id, body, text) in [
        ("unknown", json!({}), not_found),
        (&*app, json!({}), "No backups found for this container"),
        (
            &*app,
            json!({"backupId": "x"}),
            "Backup not found for this container",
        ),
    ] {
        let request = world
            .authorised(Method::POST, &at(id, "/rollback"))
            .header("x-dd-confirm-action", "container-rollback")
            .json(&body);
        let refused = answer(request).await;
        assert_eq!((refused.status, &*refused.error()), (404, text));
    }
    let forget = |id: &str| {
        world
            .authorised(Method::DELETE, &at(id, ""))
            .header("x-dd-confirm-action", "container-delete")
    };
    assert_eq!(answer(forget("unknown")).await.error(), not_found);
    let forgotten = answer(forget(&steady)).await;
    assert_eq!((forgotten.status, &*forgotten.text), (204, ""));
    assert_eq!(answer(forget(&steady)).await.status, 404);
    assert!(
        world.docker.inspect(&steady).await.is_some(),
        "only forgotten"
    );
}

#[tokio::test]
async fn the_eight_policy_actions_do_what_they_say() {
    let world = World::start().await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world.run("app", &image, &[]).await;
    assert_eq!(world.watch(&id).await["updateAvailable"], true);
    let path = format!("/api/v1/containers/{id}/update-policy");
    let digest = "sha256:abc";
    // Body, whether the update is still available, and the policy.
    let steps = [
        (
            json!({"action": "skip-current"}),
            false,
            json!({"skipTags": ["1.1.0"]}),
        ),
        (
            json!({"action": "remove-skip", "kind": "digest", "value": digest}),
            false,
            json!({"skipTags": ["1.1.0"]}),
        ),
        (
            json!({"action": "remove-skip", "kind": "tag", "value": "1.1.0"}),
            true,
            Value::Null,
        ),
        (
            json!({"action": "skip-current"}),
            false,
            json!({"skipTags": ["1.1.0"]}),
        ),
        (json!({"action": "clear-skips"}), true, Value::Null),
        (
            json!({"action": "snooze", "snoozeUntil": "2100-01-01"}),
            false,
            json!({"snoozeUntil": "2100-01-01T00:00:00.000Z"}),
        ),
        (json!({"action": "unsnooze"}), true, Value::Null),
        (
            json!({"action": "set-maturity-policy", "mode": "mature", "minAgeDays": 14}),
            false,
            json!({"maturityMode": "mature", "maturityMinAgeDays": 14}),
        ),
        (
            json!({"action": "clear-maturity-policy"}),
            true,
            Value::Null,
        ),
        (
            json!({"action": "set-maturity-policy", "mode": "mature"}),
            false,
            json!({"maturityMode": "mature", "maturityMinAgeDays": 7}),
        ),
        (json!({"action": "clear"}), true, Value::Null),
    ];
    for (body, available, policy) in steps {
        let changed = ask(&world, "PATCH", &path, &body).await;
        assert_eq!(changed.status, 200, "{body}: {}", changed.text);
        let changed = changed.json();
        assert_eq!(changed["updateAvailable"], available, "{body}");
        assert_eq!(changed["updatePolicy"], policy, "{body}");
        assert_eq!(
            world.get(&format!("/api/v1/containers/{id}")).await.json(),
            changed,
            "{body}"
        );
    }
    let snoozed = ask(&world, "PATCH", &path, &json!({"action": "snooze"}))
        .await
        .json();
    let until = snoozed["updatePolicy"]["snoozeUntil"].as_str().unwrap();
    let until = chrono::DateTime::parse_from_rfc3339(until).unwrap();
    let week = chrono::Utc::now() + chrono::TimeDelta::days(7);
    assert!(
        (week - until.to_utc()).num_minutes().abs() < 5,
        "7 days where none are given"
    );
    let held = ask(
        &world,
        "POST",
        &format!("/api/v1/containers/{id}/update"),
        &Value::Null,
    )
    .await;
    assert_eq!(held.status, 400, "{}", held.text);
}

#[tokio::test]
async fn what_is_switched_off_is_refused_before_anything_is_looked_up() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url())
        .env("DD_SERVER_NAME", "edge")
        .env("DD_SERVER_FEATURE_CONTAINERACTIONS", "false")
        .env("DD_SERVER_FEATURE_DELETE", "false");
    let world = World::with(database, redis, api, |worker| worker).await;
    let path = "/api/v1/containers/unknown";
    check(
        &world,
        &[
            (
                "POST",
                &format!("{path}/update"),
                Value::Null,
                403,
                "Container actions are disabled",
            ),
            (
                "DELETE",
                path,
                Value::Null,
                428,
                "Confirmation required: X-DD-Confirm-Action=container-delete",
            ),
        ],
    )
    .await;
    let delete = world
        .authorised(Method::DELETE, path)
        .header("x-dd-confirm-action", "container-delete");
    let refused = answer(delete).await;
    assert_eq!(
        (refused.status, &*refused.error()),
        (403, "Container deletion is disabled")
    );
    let rollback = world
        .authorised(Method::POST, &format!("{path}/rollback"))
        .header("x-dd-confirm-action", "container-rollback");
    let refused = answer(rollback).await;
    assert_eq!(
        (refused.status, &*refused.error()),
        (403, "Container actions are disabled")
    );
    let server = world.get("/api/v1/server").await.json();
    let feature = json!({"delete": false, "containeractions": false});
    assert_eq!(server["configuration"]["feature"], feature);
    assert_eq!(server["configuration"]["name"], "edge");
}
