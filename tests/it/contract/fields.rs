use reqwest::Method;
use serde_json::{Value, json};

use super::shape::{alike, shown};
use crate::world::World;

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
