//! The worlds in which the contract documents' lines are run.

use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::server::Server;
use reqwest::Method;
use serde_json::json;

use super::lines::{Known, run};
use crate::replica::cookie_of;
use crate::world::World;

const WEBHOOK: &str = "the token of all webhooks";

async fn world() -> World {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url())
        .env("DD_SERVER_WEBHOOK_ENABLED", "true")
        .env("DD_SERVER_WEBHOOK_TOKEN", WEBHOOK);
    let triggers = |worker: Server| {
        worker
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
    let world = world().await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    world.run("app", &image, &[]).await;
    world
        .run("grouped", &image, &[("dd.group", "monitoring")])
        .await;
    let mut known = known(&world).await;
    known.insert("name".to_owned(), world.docker.name("app"));
    run(&world, include_str!("lines/app.json"), &mut known).await;
}

#[tokio::test]
async fn every_line_of_the_container_document_is_answered_as_it_says() {
    let world = world().await;
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
