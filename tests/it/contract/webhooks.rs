use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::server::Server;
use reqwest::Method;
use serde_json::json;

use crate::replica::answer;
use crate::world::World;

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
