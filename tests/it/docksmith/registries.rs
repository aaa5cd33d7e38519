//! What is said of tags that cannot be had.

use plimsoll_support::{
    image::Image, postgres::Database, redis::Redis, registry::Registry, server::Server,
};

use crate::world::World;

#[tokio::test]
async fn a_registry_that_gives_no_tags_is_no_failure_of_ours() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let (closed, gone) = (
        Registry::start_with_basic_auth().await,
        Registry::start().await,
    );
    let url = format!("http://{}", closed.host());
    let api = Server::api(database.url(), &redis.url());
    let world = World::with(database, redis, api, |worker| {
        worker
            .env("DD_REGISTRY_CUSTOM_CLOSED_URL", url)
            .env("DD_REGISTRY_CUSTOM_CLOSED_LOGIN", "reader")
            .env("DD_REGISTRY_CUSTOM_CLOSED_PASSWORD", "wrong")
    })
    .await;
    world.publish("app", &["1.0.0"]).await;
    // What a container runs is asked at its registry, wherever that is; until the registry is gone.
    for registry in [&world.registry, &gone] {
        registry.push("app", "1.0.0", &Image::app("1.0.0")).await;
        let reference = registry.reference("app", "1.0.0");
        world.docker.pull(&reference).await;
        world
            .run(&format!("of-{}", registry.port()), &reference, &[])
            .await;
    }
    let (here, away) = (world.registry.host(), gone.host());
    drop(gone);
    for (reference, status, code) in [
        (format!("{here}/app"), 200, ""),
        (format!("{here}/nothing/there"), 404, "NOT_FOUND"),
        (format!("{}/app", closed.host()), 404, "NOT_FOUND"),
        (format!("{away}/app"), 503, "UNAVAILABLE"),
        // Nobody here runs anything of it, and it is in our own network.
        ("127.0.0.1:9/app".to_owned(), 503, "UNAVAILABLE"),
        ("no such thing".to_owned(), 400, "BAD_REQUEST"),
    ] {
        let path = format!(
            "/docksmith/api/registry/tags/{}",
            reference.replace(' ', "%20")
        );
        let found = world.get(&path).await;
        assert_eq!(found.status, status, "{reference}: {}", found.text);
        let json = found.json();
        if status == 200 {
            assert_eq!(json["data"]["count"], 1, "{}", found.text);
            continue;
        }
        assert_eq!(json["error"]["code"], code, "{}", found.text);
        let message = json["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(' '), "{reference}: a sentence: {message}");
        if status == 503 {
            assert_ne!(found.header("retry-after"), "", "{}", found.text);
        }
    }
}
