//! The HTTP surface as the contract documents describe it, on real processes: shapes, statuses,
//! texts, and the order of checks (contract/drydock-*.md; reference/drydock.md 1.1-1.9).

use std::collections::BTreeSet;

use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::server::Server;
use reqwest::Method;
use serde_json::{Value, json};

use crate::replica::{Answer, answer};
use crate::world::World;

/// Method, path, body (`null`: none), and the expected status and `error`.
type Case<'a> = (&'a str, &'a str, Value, u16, &'a str);

async fn ask(world: &World, method: &str, path: &str, body: &Value) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = world.authorised(method, path);
    answer(match body {
        Value::Null => request,
        body => request.json(body),
    })
    .await
}

/// Every case that is answered otherwise, so that one run shows them all.
async fn check(world: &World, cases: &[Case<'_>]) {
    let mut wrong = Vec::new();
    for (method, path, body, status, text) in cases {
        let got = ask(world, method, path, body).await;
        if (got.status, got.json()["error"].as_str()) != (*status, Some(text)) {
            wrong.push(format!(
                "{method} {path} {body}: {} {}",
                got.status, got.text
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Every field of `example` is in `actual`, with the same type of value. A list's first item is the
/// example of each; an empty list stands for any.
fn alike(at: &str, actual: &Value, example: &Value) {
    match (actual, example) {
        (Value::Object(actual), Value::Object(example)) => {
            for (key, example) in example {
                let found = actual
                    .get(key)
                    .unwrap_or_else(|| panic!("{at} lacks {key}"));
                alike(&format!("{at}.{key}"), found, example);
            }
        }
        (Value::Array(items), Value::Array(example)) => {
            assert!(!items.is_empty() || example.is_empty(), "{at} is empty");
            for (item, example) in items.iter().flat_map(|i| example.first().map(|e| (i, e))) {
                alike(&format!("{at}[]"), item, example);
            }
        }
        (Value::String(text), Value::String(example)) if example.ends_with('Z') => {
            let instant = chrono::DateTime::parse_from_rfc3339(text);
            assert!(
                instant.is_ok() && text.len() == example.len(),
                "{at}: {text}"
            );
        }
        _ => assert_eq!(
            std::mem::discriminant(actual),
            std::mem::discriminant(example),
            "{at}: {actual}"
        ),
    }
}

fn document() -> Value {
    serde_json::from_str(plimsoll_api::drydock::spec::COMMITTED).unwrap()
}

/// Checks `value` against a schema of the document: what is not documented is wrong, too.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let found = document.pointer(reference.trim_start_matches('#'));
        return conforms(document, found.expect(reference), value, at);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        conforms(document, part, value, at);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = types.contains(&is) || (is == "integer" && types.contains(&"number"));
    assert!(fits, "{at} is {is}, not {types:?}: {value}");
    if let Some(values) = schema["enum"].as_array() {
        assert!(
            values.contains(value),
            "{at}: {value} is none of {values:?}"
        );
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, &format!("{at}[]"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(name.as_str().unwrap()).is_some(),
            "{at} lacks {name}"
        );
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (
            schema["properties"].get(name),
            schema.get("additionalProperties"),
        ) {
            (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                conforms(document, schema, field, &at);
            }
            (None, _) => assert!(schema.get("properties").is_none(), "{at} is not documented"),
        }
    }
}

/// Asks, and checks the answer against the document and the contract's example.
async fn shown(world: &World, operation: &str, path: &str, body: &Value, example: Value) -> Value {
    let document = document();
    let (method, operation) = operations(&document)
        .into_iter()
        .find(|(_, _, found)| found["operationId"] == operation)
        .map(|(method, _, found)| (method, found))
        .unwrap();
    let got = ask(world, &method, path, body).await;
    assert!(
        (200..300).contains(&got.status),
        "{path}: {} {}",
        got.status,
        got.text
    );
    let value = got.json();
    let media = &operation["responses"][got.status.to_string()]["content"];
    let media = media.as_object().and_then(|media| media.values().next());
    let schema =
        &media.unwrap_or_else(|| panic!("{path}: {} is not documented", got.status))["schema"];
    conforms(&document, schema, &value, path);
    alike(path, &value, &example);
    value
}

/// Method (upper case), path and description of every operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    all
}

fn container() -> Value {
    let instant = "2026-01-01T00:00:00.000Z";
    json!({
        "id": "", "name": "", "displayName": "", "displayIcon": "", "watcher": "", "status": "",
        "includeTags": "",
        "image": {
            "id": "", "registry": {"name": "", "url": ""}, "name": "",
            "tag": {"value": "", "semver": true}, "digest": {"watch": true, "repo": ""},
            "architecture": "", "os": "", "created": instant,
        },
        "result": {"tag": "", "digest": "", "created": instant},
        "updateAvailable": true,
        "updateKind": {"kind": "", "localValue": "", "remoteValue": "", "semverDiff": ""},
        "updateDetectedAt": instant, "firstSeenAt": instant,
        "updateAge": 0, "updateMaturityLevel": "",
        "labels": {}, "details": {"ports": [], "volumes": [], "env": [{"key": "", "value": "", "sensitive": true}]},
        "identityKey": "", "updateEligibility": {"eligible": true, "blockers": []},
    })
}

fn list_of(example: Value) -> Value {
    json!({"data": [example], "total": 0, "limit": 0, "offset": 0, "hasMore": false})
}

fn counts() -> Value {
    json!({"total": 0, "running": 0, "stopped": 0, "updatesAvailable": 0})
}

#[tokio::test]
async fn every_answer_has_the_contracts_fields() {
    let world = World::start().await;
    let world = &world;
    let image = world.publish("team/app", &["1.0.0", "1.1.0"]).await;
    let labels = [("dd.tag.include", r"^\d+\.\d+\.\d+$"), ("dd.group", "web")];
    let id = world.run("app", &image, &labels).await;
    let name = world.docker.name("app");
    let none = Value::Null;
    let show = async |operation: &str, path: &str, example: Value| {
        shown(world, operation, &path.replace("{id}", &id), &none, example).await
    };

    let watched = show(
        "watchContainer",
        "/api/v1/containers/{id}/watch",
        container(),
    )
    .await;
    assert_eq!(watched["result"]["tag"], "1.1.0");
    assert_eq!(watched["image"]["name"], "team/app");
    let url = format!("http://{}/v2", world.registry.host());
    assert_eq!(
        watched["image"]["registry"]["url"], url,
        "plain HTTP on this machine"
    );
    let all = show(
        "watchContainers",
        "/api/v1/containers/watch",
        list_of(container()),
    )
    .await;
    assert_eq!(all["total"], 1);
    let some = json!({"containerIds": [id]});
    shown(
        world,
        "watchContainers",
        "/api/v1/containers/watch",
        &some,
        list_of(container()),
    )
    .await;
    show("listContainers", "/api/v1/containers", list_of(container())).await;
    show("getContainer", "/api/v1/containers/{id}", container()).await;
    let summary = json!({"containers": counts(), "security": {"issues": 0}, "hotUpdates": 0, "matureUpdates": 0});
    let summary = show("getContainerSummary", "/api/v1/containers/summary", summary).await;
    assert_eq!(summary["containers"]["updatesAvailable"], 1);
    let recent = json!({"statuses": {}});
    let recent = show(
        "getRecentContainerStatus",
        "/api/v1/containers/recent-status",
        recent,
    )
    .await;
    assert_eq!(recent["statuses"][&name], "pending");
    let member = json!({"id": "", "name": "", "displayName": "", "updateAvailable": true});
    let group =
        json!({"name": "", "containers": [member], "containerCount": 0, "updatesAvailable": 0});
    show(
        "listContainerGroups",
        "/api/v1/containers/groups",
        json!({"data": [group], "total": 0}),
    )
    .await;
    let component = json!({"id": "", "type": "", "name": "", "configuration": {}});
    let some = json!({"data": [component], "total": 0});
    let own = show(
        "listContainerTriggers",
        "/api/v1/containers/{id}/triggers",
        some,
    )
    .await;
    assert_eq!(own["data"][0]["id"], "docker.local");
    show(
        "listTriggers",
        "/api/v1/triggers",
        list_of(component.clone()),
    )
    .await;
    show(
        "getTrigger",
        "/api/v1/triggers/docker/local",
        component.clone(),
    )
    .await;
    show(
        "listRegistries",
        "/api/v1/registries",
        list_of(component.clone()),
    )
    .await;
    let mut watcher = component;
    watcher["configuration"] = json!({"cron": "", "watchbydefault": true, "scope": ""});
    watcher["metadata"] = json!({"connected": true, "containers": counts(), "images": 0, "lastRunAt": "2026-01-01T00:00:00.000Z"});
    show("listWatchers", "/api/v1/watchers", list_of(watcher.clone())).await;
    show("getWatcher", "/api/v1/watchers/docker/local", watcher).await;
    let agents = show("listAgents", "/api/v1/agents", json!({"total": 0})).await;
    assert_eq!(agents["data"], json!([]));
    let app = show("getApp", "/api/v1/app", json!({"version": ""})).await;
    assert_eq!(app["name"], "drydock");
    let server = json!({
        "configuration": {"enabled": true, "port": 0, "feature": {"delete": true, "containeractions": true}, "webhook": {"enabled": false}},
        "compatibility": {"legacyInputs": {}},
    });
    show("getServer", "/api/v1/server", server).await;
    show("getHealth", "/health", json!({"uptime": 0.5})).await;
    show("getCurrentUser", "/auth/user", json!({"username": ""})).await;
    show(
        "listAuthStrategies",
        "/auth/strategies",
        json!({"strategies": [{"type": "", "name": ""}], "warnings": []}),
    )
    .await;
    let token = json!({"id": "", "name": "", "prefix": "", "scopes": [""], "createdAt": ""});
    show(
        "listTokens",
        "/api/v1/tokens",
        json!({"data": [token], "total": 0}),
    )
    .await;

    let field = json!({"path": "", "source": "", "changed": true});
    let preview = json!({
        "containerName": "", "currentImage": "", "newImage": "", "updateKind": {}, "isRunning": true,
        "networks": [""], "fields": [field],
    });
    show(
        "previewContainerUpdate",
        "/api/v1/containers/{id}/preview",
        preview,
    )
    .await;
    let mut updated = container();
    for field in [
        "result",
        "updateDetectedAt",
        "updateAge",
        "updateMaturityLevel",
    ] {
        updated.as_object_mut().unwrap().remove(field);
    }
    updated["updateKind"] = json!({"kind": "", "semverDiff": ""});
    let updated = json!({"message": "", "result": updated, "operationId": ""});
    let answer = show("updateContainer", "/api/v1/containers/{id}/update", updated).await;
    assert_eq!(answer["message"], "Container updated successfully");
    assert_eq!(answer["result"]["image"]["tag"]["value"], "1.1.0");
    let id = answer["result"]["id"].as_str().unwrap().to_owned();
    let show = async |operation: &str, path: &str, example: Value| {
        shown(world, operation, &path.replace("{id}", &id), &none, example).await
    };
    let instant = "2026-01-01T00:00:00.000Z";
    let operation = json!({
        "id": "", "containerName": "", "status": "", "phase": "", "createdAt": instant,
        "updatedAt": instant, "containerId": "", "triggerName": "", "fromVersion": "",
        "toVersion": "", "targetImage": "",
    });
    let path = "/api/v1/containers/{id}/update-operations";
    let history = show("listUpdateOperations", path, list_of(operation.clone())).await;
    let newest = &history["data"][0];
    assert_eq!(
        (&newest["fromVersion"], &newest["toVersion"]),
        (&json!("1.0.0"), &json!("1.1.0"))
    );
    assert_eq!(
        (&newest["status"], &newest["triggerName"]),
        (&json!("succeeded"), &json!("docker.local"))
    );
    let path = format!(
        "/api/v1/update-operations/{}",
        newest["id"].as_str().unwrap()
    );
    show("getUpdateOperation", &path, operation).await;
    let backup = json!({
        "id": "", "containerId": "", "containerName": "", "imageName": "", "imageTag": "",
        "imageDigest": "", "timestamp": instant, "triggerName": "",
    });
    let backups = json!({"data": [backup], "total": 0});
    show(
        "listContainerBackups",
        "/api/v1/containers/{id}/backups",
        backups.clone(),
    )
    .await;
    let path = format!("/api/v1/containers/backups?containerName={name}");
    let kept = show("listBackups", &path, backups).await;
    assert_eq!(kept["data"][0]["imageTag"], "1.0.0");
    let entry = json!({
        "id": "", "timestamp": instant, "action": "", "containerName": "", "containerImage": "",
        "fromVersion": "", "toVersion": "", "triggerName": "", "status": "",
    });
    let mut audit = list_of(entry);
    audit["limit"] = json!(50);
    let path = format!("/api/v1/audit?action=update-applied&container={name}");
    show("listAuditEntries", &path, audit).await;
    let path = "/api/v1/containers/recent-status";
    let recent = show("getRecentContainerStatus", path, json!({})).await;
    assert_eq!(recent["statuses"][&name], "updated");

    let path = format!("/api/v1/containers/{id}/rollback");
    let confirmed = world
        .authorised(Method::POST, &path)
        .header("x-dd-confirm-action", "Container-Rollback")
        .json(&json!({"backupId": kept["data"][0]["id"]}));
    let back = crate::replica::answer(confirmed).await;
    assert_eq!(back.status, 200, "{}", back.text);
    let expected = json!({"message": "", "backup": backup, "operationId": ""});
    alike("rollback", &back.json(), &expected);
    assert_eq!(back.json()["message"], "Container rolled back successfully");
}

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
async fn webhooks_open_with_their_own_tokens_only() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let mut api =
        Server::api(database.url(), &redis.url()).env("DD_SERVER_WEBHOOK_ENABLED", "true");
    for name in ["watchall", "watch", "update"] {
        let setting = format!("DD_SERVER_WEBHOOK_TOKENS_{}", name.to_uppercase());
        api = api.env(&setting, format!("token of {name}"));
    }
    let world = World::with(database, redis, api, |worker| worker).await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    world.run("app", &image, &[]).await;
    world
        .run("closed", &image, &[("dd.webhook.enabled", "false")])
        .await;
    let (name, closed) = (world.docker.name("app"), world.docker.name("closed"));
    let call = async |path: &str, authorization: &str| {
        let request = world.request(Method::POST, &format!("/api/v1/webhook/{path}"));
        let answer = answer(request.header("authorization", authorization)).await;
        (answer.status, answer.json())
    };
    let error = |status: u16, text: &str| (status, json!({"error": text}));
    let missing = error(401, "Missing or invalid authorization header");
    assert_eq!(call("watch", "").await, missing);
    assert_eq!(call("watch", "Basic b3duZXI6eA==").await, missing);
    let owners = format!("Bearer {}", world.token);
    assert_eq!(call("watch", &owners).await, error(401, "Invalid token"));
    assert_eq!(
        call("watch", "Bearer token of update").await,
        error(401, "Invalid token")
    );
    for (path, token) in [("watch", "watch"), ("update", "update")] {
        let token = format!("Bearer token of {token}");
        let at = |name: &str| format!("{path}/{name}");
        assert_eq!(
            call(&at("unknown"), &token).await,
            error(404, "Container not found")
        );
        let refused = error(403, "Webhooks are disabled for this container");
        assert_eq!(call(&at(&closed), &token).await, refused);
        let elsewhere = format!("{}?watcher=elsewhere", at(&name));
        assert_eq!(
            call(&elsewhere, &token).await,
            error(404, "Container not found")
        );
    }
    let done = json!({"message": "Watch cycle triggered", "result": {"watchers": 1}});
    assert_eq!(call("watch", "Bearer token of watchall").await, (200, done));
    let text = format!("Watch triggered for container {name}");
    let done = json!({"message": text, "result": {"container": name}});
    assert_eq!(
        call(&format!("watch/{name}"), "Bearer token of watch").await,
        (200, done)
    );
    let (status, updated) = call(&format!("update/{name}"), "Bearer token of update").await;
    assert_eq!(status, 200, "{updated}");
    assert_eq!(
        updated["message"],
        format!("Update triggered for container {name}")
    );
    assert_eq!(updated["result"]["container"], name);
    for action in ["webhook-watch", "webhook-watch-container", "webhook-update"] {
        let entries = world
            .get(&format!("/api/v1/audit?action={action}"))
            .await
            .json();
        assert_ne!(entries["total"], 0, "{action} is in the audit trail");
    }
}

#[tokio::test]
async fn what_is_switched_off_is_refused_before_anything_is_looked_up() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url())
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
    let server = world.get("/api/v1/server").await.json();
    let feature = json!({"delete": false, "containeractions": false});
    assert_eq!(server["configuration"]["feature"], feature);
}

#[tokio::test]
async fn every_route_speaks_http_as_documented() {
    let world = World::start().await;
    let document = document();
    let served = answer(world.request(Method::GET, "/api/v1/openapi.json")).await;
    assert_eq!(
        served.json(),
        document,
        "what is served is what is committed"
    );
    assert_eq!(
        answer(world.request(Method::GET, "/api/v1/docs"))
            .await
            .status,
        200
    );
    for (method, path, operation) in operations(&document) {
        let path = path.replace(['{', '}'], "");
        // The alias is the same place.
        if let Some(rest) = path.strip_prefix("/api/v1/")
            && method == "GET"
            && operation["operationId"] != "followEvents"
        {
            let (canonical, alias) = (
                world.get(&path).await,
                world.get(&format!("/api/{rest}")).await,
            );
            assert_eq!(
                (alias.status, alias.text),
                (canonical.status, canonical.text),
                "{path}"
            );
        }
        let Some(_) = operation.get("requestBody") else {
            continue;
        };
        let send = async |kind: &str, body: String| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let request = world
                .authorised(method, &path)
                .header("content-type", kind)
                .body(body);
            let answer = answer(request).await;
            (answer.status, answer.error())
        };
        let json_only = (415, "Content-Type must be application/json".to_owned());
        for kind in [
            "text/plain",
            "application/x-www-form-urlencoded",
            "application/xml",
        ] {
            assert_eq!(
                send(kind, "{}".to_owned()).await,
                json_only,
                "{method} {path}"
            );
        }
        let large = send("application/json", " ".repeat(256 * 1024 + 1)).await;
        assert_eq!(large.0, 413, "{method} {path}");
        let malformed = send("application/json", "{\"a\":".to_owned()).await;
        let confirmed = path.ends_with("/rollback");
        let expected = if confirmed { 428 } else { 400 };
        assert_eq!(malformed.0, expected, "{method} {path}: {}", malformed.1);
    }
    for (path, item) in document["paths"].as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        let mut allowed: BTreeSet<String> = item
            .as_object()
            .unwrap()
            .keys()
            .map(|m| m.to_uppercase())
            .collect();
        if allowed.contains("GET") {
            allowed.insert("HEAD".to_owned());
        }
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            if allowed.contains(method) {
                continue;
            }
            let refused = ask(&world, method, &path, &Value::Null).await;
            assert_eq!(refused.status, 405, "{method} {path}: {}", refused.text);
            refused.error();
            let named: BTreeSet<String> = refused
                .header("allow")
                .split(", ")
                .map(str::to_owned)
                .collect();
            assert_eq!(named, allowed, "{method} {path}");
        }
    }
    for method in [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    ] {
        for path in [
            "/",
            "/nowhere",
            "/api",
            "/api/",
            "/api/v1",
            "/api/v1/",
            "/api/nowhere",
            "/api/v2/app",
            "/auth",
            "/webhook/watch",
        ] {
            let missing = ask(&world, method, path, &Value::Null).await;
            assert_eq!(missing.status, 404, "{method} {path}");
            if method != "HEAD" {
                assert_eq!(missing.error(), "Route not found", "{method} {path}");
            }
        }
    }
}
