//! The worker as a process of its own.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerCreateBody;
use plimsoll_support::docker::Docker;
use plimsoll_support::image::Image;
use plimsoll_support::postgres::Database;
use plimsoll_support::proxy::{Fault, Proxy, Upstream};
use plimsoll_support::redis::Redis;
use plimsoll_support::registry::Registry;
use plimsoll_support::server::Server;
use plimsoll_support::wait;

const SOON: Duration = wait::SOON;

/// Watches only what is labelled so: the engine has others' containers too.
fn worker(database_url: &str, redis_url: &str) -> Server {
    Server::worker(database_url, redis_url).env("PLIMSOLL_WATCHER_LOCAL_WATCHBYDEFAULT", "false")
}

async fn exists(database: &Database, query: &str, argument: &str) -> bool {
    let client = database.client().await;
    let found = client.query_opt(query, &[&argument]).await;
    found.expect("the query is valid").is_some()
}

#[tokio::test]
async fn a_worker_watches_from_its_start_and_leaves_in_order() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let (docker, registry) = (Docker::connect().await, Registry::start().await);
    for version in ["1.0.0", "1.1.0"] {
        let image = Image::app(version).label("plimsoll.test", docker.id());
        registry.push("app", version, &image).await;
    }
    let reference = registry.reference("app", "1.0.0");
    docker.pull(&reference).await;
    let watched = || ContainerCreateBody {
        image: Some(reference.clone()),
        labels: Some(HashMap::from([("dd.watch".into(), "true".into())])),
        ..Default::default()
    };
    let first = docker.run_with(&docker.name("first"), watched()).await;

    let mut worker = worker(database.url(), &redis.url());
    worker.start();
    let found = "SELECT 1 FROM containers WHERE id = $1 AND result->>'tag' = '1.1.0'";
    wait::until_true("the cycle at start to find 1.1.0", SOON, async || {
        exists(&database, found, &first).await
    })
    .await;
    let present = "SELECT 1 FROM watchers w, workers v
                    WHERE w.connected AND w.name = $1 AND w.next_run_at IS NOT NULL
                      AND w.engine->>'version' IS NOT NULL";
    wait::until_true("the worker to be registered", SOON, async || {
        exists(&database, present, "local").await
    })
    .await;
    let component =
        "SELECT 1 FROM components WHERE kind = 'trigger' AND type = $1 AND name = 'local'";
    assert!(exists(&database, component, "docker").await);

    // What appears later is checked without waiting for the schedule.
    let second = docker.run_with(&docker.name("second"), watched()).await;
    wait::until_true("the new container to be checked", SOON, async || {
        exists(&database, found, &second).await
    })
    .await;

    let status = worker.terminate(SOON).await;
    assert!(status.success(), "{status}");
    assert!(!exists(&database, "SELECT 1 FROM workers WHERE version <> $1", "").await);
}

#[tokio::test]
async fn a_worker_waits_for_what_is_away_and_goes_on_when_it_is_back() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let postgres = Proxy::tcp(Upstream::Unix(database.socket())).await;
    let cache = Proxy::tcp(Upstream::Unix(redis.socket())).await;
    let engine = Proxy::unix(Upstream::Unix("/var/run/docker.sock".into())).await;
    let parts = [&postgres, &cache, &engine];
    for part in parts {
        part.set(Fault::Refuse);
    }
    let redis_url = format!("redis://127.0.0.1:{}", cache.port());
    let mut worker = worker(&database.url_through(postgres.port()), &redis_url)
        .env("PLIMSOLL_WATCHER_LOCAL_SOCKET", engine.path().display());
    worker.start();
    wait::until_true("the worker to ask for its services", SOON, async || {
        postgres.accepted() > 0 && cache.accepted() > 0
    })
    .await;
    let connected = "SELECT 1 FROM watchers WHERE connected AND name = $1";
    for _ in 0..2 {
        assert!(worker.exited().is_none());
        for part in parts {
            part.set(Fault::None);
        }
        wait::until_true("the engine to be connected", 2 * SOON, async || {
            exists(&database, connected, "local").await
        })
        .await;
        engine.set(Fault::Refuse);
        wait::until_true("the loss of the engine to be noted", SOON, async || {
            let lost = "SELECT 1 FROM watchers WHERE NOT connected AND name = $1
                           AND last_error IS NOT NULL";
            exists(&database, lost, "local").await
        })
        .await;
        postgres.set(Fault::Refuse);
        cache.set(Fault::Refuse);
    }
    let status = worker.terminate(SOON).await;
    assert!(status.success(), "{status}");
}
