//! Events that are heard late.

use plimsoll_domain::access::Role;
use plimsoll_support::{postgres::Database, redis::Redis};
use reqwest::Method;
use serde_json::{Value, json};

use super::walk::heard;
use crate::replica::{Replica, scopes_of};

#[tokio::test]
async fn an_event_that_is_heard_late_says_when_it_happened() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let scopes = scopes_of(Role::Viewer);
    let token = replica.token(&database, Role::Viewer, &scopes).await;
    let client = database.client().await;
    let operation = json!({
        "operationId": "o", "kind": "update", "containerName": "nginx", "phase": "succeeded",
    });
    for (kind, payload) in [
        ("dd:update-operation-changed", operation),
        ("dd:container-removed", json!({"name": "last"})),
    ] {
        let sql = "INSERT INTO events (type, payload, created_at)
                   VALUES ($1, $2, '2026-01-02T03:04:05.678Z')";
        let inserted = client.execute(sql, &[&kind, &payload.to_string()]).await;
        inserted.unwrap();
    }
    let stream = replica
        .request(Method::GET, "/docksmith/api/events")
        .bearer_auth(token)
        .header("Last-Event-ID", "0-0");
    let is_last = |event: &Value| event["payload"]["container"] == "last";
    let heard = heard(stream.send().await.unwrap(), is_last).await;
    let told: Vec<_> = heard
        .iter()
        .filter(|one| one["type"] != "connected")
        .collect();
    assert_eq!(told.len(), 3, "{heard:#?}");
    for event in told {
        assert_eq!(
            event["payload"]["timestamp"], "2026-01-02T03:04:05.678Z",
            "{event}"
        );
    }
}
