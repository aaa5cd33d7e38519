//! The worlds in which the contract documents' lines are run.

use plimsoll_support::docker::Docker;
use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::server::Server;
use plimsoll_support::syft;
use reqwest::Method;
use serde_json::json;

use super::lines::{Known, run};
use crate::replica::{answer, cookie_of};
use crate::world::{World, worker};

const WEBHOOK: &str = "the token of all webhooks";

async fn world(sbom: &str) -> World {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url())
        .env("DD_SECURITY_SBOM_ENABLED", sbom)
        .env("DD_SERVER_WEBHOOK_ENABLED", "true")
        .env("DD_SERVER_WEBHOOK_TOKEN", WEBHOOK);
    let triggers = |worker: Server| {
        worker
            .env("DD_SECURITY_SBOM_ENABLED", sbom)
            .env("DD_SECURITY_SYFT_COMMAND", syft::command().display())
            .env("DD_TRIGGER_MOCK_ONE", "")
            .env("DD_TRIGGER_NTFY_ONE_URL", "http://127.0.0.1:9")
            .env("DD_TRIGGER_NTFY_ONE_TOPIC", "updates")
    };
    World::with(database, redis, api, triggers).await
}

/// The cookie of a browser that the owner signed in with.
async fn session(world: &World) -> String {
    let login = world
        .request(Method::POST, "/auth/login")
        .json(&json!({"username": "owner", "password": world.password}));
    let response = login.send().await.expect("the replica answers");
    cookie_of(&response).expect("a session")
}

async fn known(world: &World) -> Known {
    Known::from([
        ("webhook".to_owned(), WEBHOOK.to_owned()),
        ("password".to_owned(), world.password.clone()),
        ("session".to_owned(), session(world).await),
    ])
}

#[tokio::test]
async fn every_line_of_the_app_document_is_answered_as_it_says() {
    let world = world("false").await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    world.run("app", &image, &[]).await;
    world
        .run(
            "grouped",
            &image,
            &[("dd.group", "monitoring"), ("wud.group", "older")],
        )
        .await;
    let project = ("com.docker.compose.project", "stack");
    world
        .run("older", &image, &[("wud.group", "older"), project])
        .await;
    world.run("stacked", &image, &[project]).await;
    let mut known = known(&world).await;
    known.insert("name".to_owned(), world.docker.name("app"));
    run(&world, include_str!("lines/app.json"), &mut known).await;
}

/// Homepage asks `{url}/api/containers` with its user's password and counts what is in an array.
#[tokio::test]
async fn homepages_widget_counts_containers_and_updates() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url()).env("DD_COMPAT_WUDCARD", "true");
    let world = World::with(database, redis, api, |worker| worker).await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world.run("app", &image, &[]).await;
    world.watch(&id).await;
    let get = async |path: &str| {
        let request = world.request(Method::GET, path);
        let asked = request.basic_auth("owner", Some(&world.password));
        answer(asked).await.json()
    };
    let bare = get("/api/containers").await;
    let containers = bare.as_array().expect("a bare array");
    assert_eq!(containers.len(), 1);
    assert_eq!(containers[0]["updateAvailable"], true);
    let triggers = get(&format!("/api/containers/{id}/triggers")).await;
    assert_eq!(triggers[0]["type"], "docker");
    // With the version it is what the contract says.
    assert_eq!(get("/api/v1/containers").await["data"], bare);
    assert_eq!(get(&format!("/api/containers/{id}")).await, bare[0]);
}

#[tokio::test]
async fn every_line_of_the_container_document_is_answered_as_it_says() {
    let world = world("true").await;
    let image = world.publish("team/app", &["1.0.0", "1.1.0"]).await;
    let include = [("dd.tag.include", r"^\d+\.\d+\.\d+$")];
    let id = world.run("app", &image, &include).await;
    let image = world.publish("steady", &["1.0.0"]).await;
    let steady = world.run("steady", &image, &[]).await;
    let mut known = known(&world).await;
    known.insert("id".to_owned(), id);
    known.insert("steady".to_owned(), steady);
    known.insert("name".to_owned(), world.docker.name("app"));
    known.insert("registry".to_owned(), world.registry.host().to_owned());
    run(&world, include_str!("lines/container.json"), &mut known).await;
}

#[tokio::test]
async fn triggers_of_an_agent_are_run_on_its_containers() {
    let world = world("false").await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let local = world.run("local", &image, &[]).await;
    // Another engine, as far as Plimsoll can see: its worker sees other containers.
    let other = Docker::connect().await;
    let _agent = worker(world.database.url(), &world.redis.url(), &other)
        .env("PLIMSOLL_WORKER_AGENT", "agent1")
        .env("DD_TRIGGER_MOCK_ONE", "")
        .spawn();
    let id = other.run(&other.name("app"), &image).await;
    world.listed(&id).await;
    world.watch(&id).await;
    let mut known = known(&world).await;
    known.insert("id".to_owned(), id);
    known.insert("local".to_owned(), local);
    run(&world, include_str!("lines/agent.json"), &mut known).await;
}
