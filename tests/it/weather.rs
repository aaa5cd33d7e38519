//! Bad weather, on real processes: what fails says so, where it fails; everything
//! else goes on; what comes back is used again without anybody's help.

use std::time::{Duration, Instant};

use futures::future::join_all;
use plimsoll_support::docker::Docker;
use plimsoll_support::hostile::{Answer as Reply, Hostile, tag_page};
use plimsoll_support::ports::free_port;
use plimsoll_support::postgres::Database;
use plimsoll_support::proxy::{Fault, Proxy, Upstream};
use plimsoll_support::redis::Redis;
use plimsoll_support::registry::Registry;
use plimsoll_support::server::Server;
use plimsoll_support::wait;
use reqwest::Method;
use serde_json::{Value, json};

use crate::replica::{Answer, answer};
use crate::world::{SOON, World};

/// The most that the process has ever had in memory, in MiB.
fn peak_memory(process: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.unwrap().trim().trim_end_matches(" kB");
    kilobytes.parse::<u64>().unwrap() / 1024
}

async fn world(worker: impl FnOnce(Server) -> Server) -> World {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url());
    World::with(database, redis, api, worker).await
}

async fn post(world: &World, path: &str) -> Answer {
    answer(world.authorised(Method::POST, path)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_registry_marks_its_own_containers_and_costs_no_memory() {
    let world = world(|worker| worker.env("DD_OUTBOUND_HTTP_TIMEOUT_MS", "2000")).await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let html = Hostile::start(|_| {
        Reply::new(200, "<html>Sign in</html>").with("content-type", "text/html")
    })
    .await;
    let failing = Hostile::start(|_| Reply::new(500, "")).await;
    let large = Hostile::start(|_| Reply::endless(64 * 1024 * 1024)).await;
    let silent = Hostile::start(|_| Reply::silence()).await;
    let cut = Hostile::start(|_| Reply::cut()).await;
    let malformed = Hostile::start(|request| match request.path.contains("/tags/list") {
        true => tag_page(["1.0.0", "1.1.0"]),
        false => Reply::json("{\"schemaVersion\": 2, \"config\": 7}"),
    })
    .await;
    let nobody = format!("localhost:{}", free_port());
    let bad = [
        ("html", html.host(), "web page"),
        ("failing", failing.host(), "500"),
        ("large", large.host(), "more than"),
        ("silent", silent.host(), "in time"),
        ("cut", cut.host(), "closed"),
        ("malformed", malformed.host(), "manifest"),
        ("nobody", nobody, "refused"),
        (
            "unknown",
            "no-such-host.invalid".to_owned(),
            "no-such-host.invalid",
        ),
    ];
    let mut ids = Vec::new();
    for (stem, host, _) in &bad {
        let elsewhere = format!("{host}/team/app");
        let labels = [("dd.registry.lookup.image", &*elsewhere)];
        ids.push(world.run(stem, &image, &labels).await);
    }
    // A label that Postgres cannot store as it is.
    let good = world.run("good", &image, &[("odd", "a\0b")]).await;
    let many: Vec<String> = (0..100_000).map(|n| format!("1.0.{n}")).collect();
    let many = Hostile::start(move |request| match request.path.contains("/tags/list") {
        true => tag_page(many.iter().map(String::as_str)),
        false => Reply::new(404, ""),
    })
    .await;
    let elsewhere = format!("{}/team/app", many.host());
    let labels = [("dd.registry.lookup.image", &*elsewhere)];
    let crowded = world.run("crowded", &image, &labels).await;

    let before = peak_memory(&world.worker);
    let watched = post(&world, "/api/v1/containers/watch").await;
    assert_eq!(watched.status, 200, "{}", watched.text);
    let container = async |id: &str| world.get(&format!("/api/v1/containers/{id}")).await.json();
    let found = container(&good).await;
    assert_eq!(
        (&found["result"]["tag"], &found["error"]),
        (&json!("1.1.0"), &Value::Null)
    );
    let mut wrong = Vec::new();
    for ((stem, host, word), id) in bad.iter().zip(&ids) {
        let shown = container(id).await;
        let message = shown["error"]["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let clear = message.contains(host.as_str())
            && message.to_lowercase().contains(&word.to_lowercase());
        if !clear || shown["status"] != "running" {
            wrong.push(format!("{stem} at {host}: {message:?} {}", shown["result"]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The list was read to its end; what it promised is not there.
    let shown = container(&crowded).await;
    let message = shown["error"]["message"].as_str().unwrap_or_default();
    assert!(
        message.ends_with("does not have the image team/app:1.0.99999"),
        "{shown}"
    );
    let after = peak_memory(&world.worker);
    assert!(after < before + 64, "{before} MiB, then {after} MiB");
    assert!(large.sent() < 20 * 1024 * 1024);
}

#[tokio::test]
async fn an_update_whose_image_cannot_be_had_fails_and_touches_nothing() {
    let world = World::start().await;
    let registry = Registry::start().await;
    let docker: &Docker = &world.docker;
    for version in ["1.0.0", "1.1.0"] {
        let image =
            plimsoll_support::image::Image::app(version).label("plimsoll.test", docker.id());
        registry.push("app", version, &image).await;
    }
    let reference = registry.reference("app", "1.0.0");
    docker.pull(&reference).await;
    let id = world.run("app", &reference, &[]).await;
    assert_eq!(world.watch(&id).await["updateAvailable"], true);
    let host = registry.host();
    drop(registry);
    let failed = post(&world, &format!("/api/v1/containers/{id}/update")).await;
    assert_eq!(
        (failed.status, &*failed.error()),
        (500, "Error updating container")
    );
    let details = &failed.json()["details"];
    assert_eq!(details["status"], "failed", "{details}");
    let reason = details["lastError"].as_str().unwrap_or_default();
    assert!(reason.contains(&host), "{details}");
    let state = docker.inspect(&id).await.unwrap().state.unwrap();
    assert_eq!(state.running, Some(true));
    assert_eq!(docker.containers().await.len(), 1);
    let preview = post(&world, &format!("/api/v1/containers/{id}/preview")).await;
    assert!(preview.error().contains(&host), "{}", preview.text);
}

#[tokio::test]
async fn an_engine_that_is_away_is_shown_and_takes_nothing_with_it() {
    let engine = Proxy::unix(Upstream::Unix("/var/run/docker.sock".into())).await;
    let socket = engine.path().display().to_string();
    let world = world(|worker| worker.env("PLIMSOLL_WATCHER_LOCAL_SOCKET", socket)).await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world.run("app", &image, &[]).await;
    let known = world.watch(&id).await;
    assert_eq!(known["updateAvailable"], true);
    let path = format!("/api/v1/containers/{id}");
    let connected = async |wanted: bool| {
        wait::until_true("the watcher's state to change", SOON, async || {
            let watcher = world.get("/api/v1/watchers/docker/local").await.json();
            let metadata = &watcher["metadata"];
            metadata["connected"] == wanted && metadata["error"].is_string() != wanted
        })
        .await;
    };
    engine.set(Fault::Refuse);
    connected(false).await;
    assert_eq!(world.get(&path).await.json()["result"], known["result"]);
    for what in ["/watch", "/preview"] {
        let asked = Instant::now();
        let failed = post(&world, &format!("{path}{what}")).await;
        assert!(
            [500, 503].contains(&failed.status),
            "{what}: {}",
            failed.text
        );
        assert!(
            failed.error().contains("engine") || failed.error().contains("Docker"),
            "{}",
            failed.text
        );
        wait::took_at_most(asked, Duration::from_secs(45));
    }
    let accepted = world
        .authorised(Method::POST, &format!("{path}/update"))
        .header("prefer", "respond-async");
    let accepted = answer(accepted).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let location = accepted.header("location").to_owned();
    assert_eq!(
        world.get(&path).await.json()["status"],
        "running",
        "as it was last seen"
    );

    engine.set(Fault::None);
    connected(true).await;
    wait::until_true("the operation to end", 2 * SOON, async || {
        let operation = world.get(&location).await.json();
        assert_ne!(operation["status"], "rolled-back", "{operation}");
        operation["status"] != "in-progress"
    })
    .await;
    let name = world.docker.name("app");
    let found = world
        .docker
        .inspect(&name)
        .await
        .expect("no container is lost");
    assert_eq!(found.state.unwrap().running, Some(true));
    assert_eq!(world.docker.containers().await.len(), 1);
}

/// Method, path and id of every operation.
pub fn operations() -> Vec<(Method, String, String, Value)> {
    let document: Value = serde_json::from_str(plimsoll_api::drydock::spec::COMMITTED).unwrap();
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let id = operation["operationId"].as_str().unwrap().to_owned();
            all.push((method, path.clone(), id, operation.clone()));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_postgres_every_operation_says_so_within_a_second() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let postgres = Proxy::tcp(Upstream::Unix(database.socket())).await;
    let api = Server::api(&database.url_through(postgres.port()), &redis.url());
    let world = World::with(database, redis, api, |worker| worker).await;
    for fault in [Fault::Refuse, Fault::Blackhole] {
        postgres.set(fault);
        // A replica that asks often knows; the first to notice may take the whole second.
        let all = operations().into_iter();
        // Health is probed in the background: it notices a little later.
        let asked = all.filter(|(_, _, id, _)| id != "getHealth");
        let asked = asked.map(|(method, path, id, _)| {
            let request = world
                .authorised(method.clone(), &path.replace(['{', '}'], ""))
                .header("x-dd-confirm-action", "container-delete")
                .timeout(Duration::from_secs(20));
            let body = match &*id {
                "login" => json!({"username": "owner", "password": "wrong"}),
                _ => json!({}),
            };
            let request = if method == Method::GET {
                request
            } else {
                request.json(&body)
            };
            async move {
                let began = Instant::now();
                (id, answer(request).await, began.elapsed())
            }
        });
        let mut wrong = Vec::new();
        for (id, got, took) in join_all(asked).await {
            let needs_nothing = [
                "getApiAuthStatus",
                "getAuthStatus",
                "getOpenApiDocument",
                "listAuthMethods",
                "listAuthStrategies",
            ];
            let expected = match &*id {
                id if needs_nothing.contains(&id) => 200,
                // Switched off: nothing has to be looked up.
                id if id.starts_with("webhook") => 403,
                // No provider is configured.
                "beginOidcLogin" | "finishOidcLogin" => 404,
                _ => 503,
            };
            let says_when = expected != 503 || !got.header("retry-after").is_empty();
            let contract = expected != 503 || got.json()["error"].is_string();
            if got.status != expected
                || !says_when
                || !contract
                || took > Duration::from_millis(1500)
            {
                wrong.push(format!("{id} after {took:?}: {} {}", got.status, got.text));
            }
        }
        assert!(wrong.is_empty(), "{fault:?}\n{}", wrong.join("\n"));
        postgres.set(Fault::None);
        wait::until_true("recovery", SOON, async || {
            world.get("/api/v1/containers").await.status == 200
                && world.get("/health").await.status == 200
        })
        .await;
    }
}

#[tokio::test]
async fn without_redis_reads_updates_and_events_go_on() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url());
    // No watch but those that are asked for: a scheduled one answers from what was known before.
    let mut world = World::with(database, redis, api, |worker| {
        worker.env("PLIMSOLL_WATCHER_LOCAL_WATCHATSTART", "false")
    })
    .await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world.run("app", &image, &[]).await;
    world.redis.stop();
    assert_eq!(world.get("/api/v1/containers").await.json()["total"], 1);
    let mut stream = world
        .authorised(Method::GET, "/api/v1/events/ui")
        .send()
        .await
        .unwrap();
    assert_eq!(stream.status(), 200);
    assert_eq!(world.watch(&id).await["updateAvailable"], true);
    let path = format!("/api/v1/containers/{id}");
    let preview = post(&world, &format!("{path}/preview")).await;
    assert_eq!(preview.status, 503, "{}", preview.text);
    assert!(!preview.header("retry-after").is_empty());
    let updated = post(&world, &format!("{path}/update")).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    let reading = async {
        let mut heard = String::new();
        let all = [
            "dd:connected",
            "dd:container-updated",
            "dd:update-operation-changed",
            "\"succeeded\"",
        ];
        while !all.iter().all(|word| heard.contains(word)) {
            let chunk = stream.chunk().await.unwrap().expect("the stream goes on");
            heard.push_str(&String::from_utf8_lossy(&chunk));
        }
    };
    tokio::time::timeout(SOON, reading)
        .await
        .expect("the events arrive");
    world.redis.restart().await;
    let again = world.publish("app", &["1.1.0", "1.2.0"]).await;
    assert!(again.ends_with("1.1.0"));
    let id = updated.json()["result"]["id"].as_str().unwrap().to_owned();
    assert_eq!(world.watch(&id).await["result"]["tag"], "1.2.0");
    wait::until_true("live reads to be back", SOON, async || {
        post(&world, &format!("/api/v1/containers/{id}/preview"))
            .await
            .status
            == 200
    })
    .await;
}
