//! Signatures of images: with a recorded cosign, the real engine and a real registry.

use plimsoll_support::{cosign::Cosign, postgres::Database, redis::Redis, server::Server};
use reqwest::Method;
use serde_json::Value;

use crate::{
    replica::{Answer, answer},
    world::World,
};

const KEY: &str = "/keys/cosign.pub";

async fn world(command: &str) -> World {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url());
    World::with(database, redis, api, |worker| {
        worker
            .env("DD_SECURITY_VERIFY_SIGNATURES", "true")
            .env("DD_SECURITY_COSIGN_COMMAND", command)
            .env("DD_SECURITY_COSIGN_KEY", KEY)
            .env("PLANTED_SECRET", "hunter2")
    })
    .await
}

async fn update(world: &World, id: &str) -> Answer {
    let path = format!("/api/v1/containers/{id}/update");
    answer(world.authorised(Method::POST, &path)).await
}

async fn deploy(world: &World) -> (String, String) {
    let labels = [("dd.update.stability", "1"), ("dd.security.gate", "off")];
    let reference = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world.run("app", &reference, &labels).await;
    let shown = world.watch(&id).await;
    let digest = shown["result"]["digest"].as_str().map(str::to_owned);
    (id, digest.expect("the candidate's digest"))
}

async fn signature(world: &World, id: &str) -> Value {
    let shown = world.get(&format!("/api/v1/containers/{id}")).await.json();
    shown["security"]["updateSignature"].clone()
}

#[tokio::test]
async fn only_what_is_signed_by_the_key_is_updated_to() {
    let cosign = Cosign::install();
    let world = world(cosign.command().to_str().unwrap()).await;
    let (id, digest) = deploy(&world).await;
    let before = world.docker.containers().await;

    let unsigned = update(&world, &id).await;
    assert_eq!(unsigned.status, 500, "{}", unsigned.text);
    assert!(
        unsigned.text.contains("is not signed by"),
        "{}",
        unsigned.text
    );
    assert!(
        unsigned.text.contains("no signatures found"),
        "{}",
        unsigned.text
    );
    let report = signature(&world, &id).await;
    assert_eq!(report["status"], "unverified", "{report:#}");

    cosign.sign(&digest, "/keys/somebody.pub");
    let other = update(&world, &id).await;
    assert_eq!(other.status, 500, "{}", other.text);
    assert!(
        other.text.contains("no matching signatures"),
        "{}",
        other.text
    );

    cosign.sign(&digest, KEY);
    cosign.fails("Get \"https://rekor.sigstore.dev\": dial tcp: lookup failed");
    let unknown = update(&world, &id).await;
    assert_eq!(unknown.status, 500, "{}", unknown.text);
    assert!(
        unknown.text.contains("could not be verified"),
        "{}",
        unknown.text
    );
    assert_eq!(world.docker.containers().await, before);

    cosign.works();
    let updated = update(&world, &id).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    let report = &updated.json()["result"]["security"]["signature"];
    assert_eq!(report["verifier"], "cosign", "{report:#}");
    assert_eq!(report["status"], "verified");
    assert_eq!(report["signatures"], 1);
    assert_eq!(report["keyless"], false);
    assert_eq!(report["imageDigest"], digest);
    assert!(report["image"].as_str().unwrap().ends_with(":1.1.0"));

    let repository = world
        .registry
        .reference("app", "1.1.0")
        .replace(":1.1.0", "");
    let line = format!(
        "verify --output json --timeout 60s --key {KEY} --allow-http-registry -- {repository}@{digest}"
    );
    assert_eq!(cosign.calls(), vec![line; 4]);
    let environment = cosign.environment();
    for secret in ["hunter2", "DATABASE_URL", "REDIS_URL"] {
        assert!(!environment.contains(secret), "{environment}");
    }
    let runtime = world.get("/api/v1/server/security/runtime").await.json();
    assert_eq!(runtime["signature"]["enabled"], true);
    assert_eq!(runtime["signature"]["status"], "ready");
    assert_eq!(runtime["signature"]["commandAvailable"], true);
}

#[tokio::test]
async fn without_cosign_nothing_passes() {
    let world = world("/nowhere/cosign").await;
    let (id, _) = deploy(&world).await;
    let before = world.docker.containers().await;
    let refused = update(&world, &id).await;
    assert_eq!(refused.status, 500, "{}", refused.text);
    assert!(
        refused.text.contains("is not installed"),
        "{}",
        refused.text
    );
    assert_eq!(world.docker.containers().await, before);
    assert_eq!(signature(&world, &id).await["status"], "error");
    let runtime = world.get("/api/v1/server/security/runtime").await.json();
    assert_eq!(runtime["signature"]["status"], "missing");
    assert_eq!(runtime["ready"], false);
    let requirements = runtime["requirements"][0].as_str().unwrap();
    assert!(requirements.starts_with("/nowhere/cosign is not installed"));
}
