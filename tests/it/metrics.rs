//! `GET /metrics`: each metric counts what it says, wherever it happened.

use std::collections::BTreeMap;

use plimsoll_app::store::{Store, StoreSettings};
use plimsoll_support::image::Image;
use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::server::Server;
use plimsoll_support::wait;
use reqwest::Method;
use secrecy::SecretString;
use serde_json::json;

use crate::replica::answer;
use crate::world::{SOON, World};

const WEBHOOK: &str = "the token of all webhooks";

/// Series with their labels as they are written, and their values.
type Series = BTreeMap<String, f64>;

async fn scrape(api: &Server, token: &str) -> Series {
    let request = reqwest::Client::new().get(api.url("/metrics"));
    let got = answer(request.bearer_auth(token)).await;
    assert_eq!(got.status, 200, "{}", got.text);
    let series = got.text.lines().filter(|line| !line.starts_with('#'));
    series
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect(line);
            (name.to_owned(), value.parse().expect(line))
        })
        .collect()
}

/// Waits until the series has at least this value: processes hand on what they count every few
/// seconds.
async fn reaches(world: &World, series: &str, least: f64) {
    wait::until_true(series, SOON, async || {
        let seen = scrape(&world.api, &world.token).await;
        seen.get(series).is_some_and(|value| *value >= least)
    })
    .await;
}

fn of_the_fleet(series: &Series) -> Series {
    let shared = [
        "dd_",
        "drydock_digest_cache",
        "plimsoll_fleet",
        "plimsoll_lease",
        "plimsoll_operation",
    ];
    let mut series = series.clone();
    series.retain(|name, _| shared.iter().any(|prefix| name.starts_with(prefix)));
    series
}

/// Whether a series counts something: then it must not go back.
fn counts(name: &str) -> bool {
    of_the_fleet(&Series::from([(name.to_owned(), 0.0)])).len() == 1
        && !["dd_containers", "dd_watcher_total", "plimsoll_fleet"]
            .iter()
            .any(|gauge| name.starts_with(gauge))
}

#[tokio::test]
async fn what_happens_anywhere_is_counted_once_and_shown_by_every_replica() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let other = Server::api(database.url(), &redis.url()).env("WUD_SERVER_RATELIMIT_MAX", "0");
    let api = Server::api(database.url(), &redis.url())
        .env("DD_SERVER_WEBHOOK_ENABLED", "true")
        .env("DD_SERVER_WEBHOOK_TOKEN", WEBHOOK);
    let mut world = World::with(database, redis, api, |worker| {
        worker
            .env("DD_TRIGGER_MOCK_ONE", "")
            .env("DD_TRIGGER_NTFY_ONE_URL", "http://127.0.0.1:9")
            .env("DD_TRIGGER_NTFY_ONE_TOPIC", "updates")
    })
    .await;
    let other = other.ready().await;

    // A digest that one container made known is known for the next.
    let floating = world.publish("floating", &["latest"]).await;
    world.run("floating", &floating, &[]).await;
    reaches(&world, "drydock_digest_cache_misses_total", 1.0).await;
    world.run("again", &floating, &[]).await;
    reaches(&world, "drydock_digest_cache_hits_total", 1.0).await;

    // A container whose update succeeds, and the next one does not.
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let labels = [("wud.group", "shop"), ("dd.update.stability", "1")];
    let id = world.run("app", &image, &labels).await;
    assert_eq!(world.watch(&id).await["updateAvailable"], true);
    let update = async |id: &str| {
        let path = format!("/api/v1/containers/{id}/update");
        answer(world.authorised(Method::POST, &path)).await
    };
    let updated = update(&id).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    let id = updated.json()["result"]["id"].as_str().unwrap().to_owned();
    let bad = Image::exits("1.2.0", 3, "no").label("plimsoll.test", world.docker.id());
    world.registry.push("app", "1.2.0", &bad).await;
    assert_eq!(world.watch(&id).await["updateAvailable"], true);
    assert_eq!(update(&id).await.status, 500);

    let restart = format!("/api/v1/containers/{id}/restart");
    let restarted = answer(world.authorised(Method::POST, &restart)).await;
    assert_eq!(restarted.status, 200, "{}", restarted.text);
    let hook = format!("/api/v1/webhook/watch/{}", world.docker.name("app"));
    let hooked = answer(world.request(Method::POST, &hook).bearer_auth(WEBHOOK)).await;
    assert_eq!(hooked.status, 200, "{}", hooked.text);
    let login = world
        .request(Method::POST, "/auth/login")
        .json(&json!({"username": "owner", "password": "wrong"}));
    assert_eq!(answer(login).await.status, 401);
    let put = world
        .authorised(Method::PUT, "/api/v1/settings")
        .json(&json!({"internetlessMode": false}));
    assert_eq!(answer(put).await.status, 200);

    for (series, least) in [
        (
            r#"dd_registry_response_count{type="custom",name="public"}"#,
            2.0,
        ),
        (
            r#"dd_trigger_count{type="mock",name="one",status="success"}"#,
            1.0,
        ),
        (
            r#"dd_trigger_count{type="ntfy",name="one",status="error"}"#,
            1.0,
        ),
        (
            r#"dd_trigger_rollback_total{type="docker",name="local",outcome="success",reason="health_gate_failed"}"#,
            1.0,
        ),
        (
            r#"plimsoll_operations_total{kind="update",outcome="succeeded"}"#,
            1.0,
        ),
        (
            r#"plimsoll_operations_total{kind="update",outcome="rolled-back"}"#,
            1.0,
        ),
        (
            r#"plimsoll_operations_total{kind="restart",outcome="succeeded"}"#,
            1.0,
        ),
        (
            r#"plimsoll_operation_phase_seconds_count{kind="update",phase="prepare"}"#,
            2.0,
        ),
        (
            r#"dd_legacy_input_total{source="label",key="wud.group"}"#,
            1.0,
        ),
        (
            r#"dd_legacy_input_total{source="env",key="WUD_SERVER_RATELIMIT_MAX"}"#,
            1.0,
        ),
        (
            r#"dd_legacy_input_total{source="api",key="PUT /settings"}"#,
            1.0,
        ),
    ] {
        reaches(&world, series, least).await;
    }
    let seen = scrape(&world.api, &world.token).await;
    for (series, value) in [
        (
            r#"dd_trigger_count{type="docker",name="local",status="success"}"#,
            1.0,
        ),
        (
            r#"dd_trigger_count{type="docker",name="local",status="error"}"#,
            1.0,
        ),
        (r#"dd_audit_entries_total{action="update-applied"}"#, 1.0),
        (r#"dd_audit_entries_total{action="update-failed"}"#, 1.0),
        (
            r#"dd_container_actions_total{action="container-restart"}"#,
            1.0,
        ),
        (
            r#"dd_container_actions_total{action="container-update"}"#,
            2.0,
        ),
        (r#"dd_webhook_total{action="webhook-watch-container"}"#, 1.0),
        (
            r#"dd_watcher_total{type="docker",name="local",agent=""}"#,
            3.0,
        ),
        ("plimsoll_fleet_metrics_up", 1.0),
        (
            r#"drydock_auth_login_total{outcome="invalid",provider="basic"}"#,
            1.0,
        ),
        (
            r#"drydock_auth_login_duration_seconds_count{outcome="invalid",provider="basic"}"#,
            1.0,
        ),
    ] {
        assert_eq!(seen.get(series), Some(&value), "{series} in {seen:#?}");
    }
    let phase = |phase: &str, part: &str| {
        let labels = format!("{{kind=\"update\",phase=\"{phase}\"}}");
        seen[&format!("plimsoll_operation_phase_seconds_{part}{labels}")]
    };
    // One was stable for a second, the other was turned round.
    assert!(phase("health-gate", "sum") >= 1.0, "{seen:#?}");
    assert_eq!(phase("queued", "count"), 2.0);
    assert_eq!(phase("rollback-started", "count"), 1.0);
    for kind in ["operation", "watch", "pushed", "scan", "sbom"] {
        for state in ["waiting", "running"] {
            assert!(seen.contains_key(&format!(
                "plimsoll_jobs{{kind=\"{kind}\",state=\"{state}\"}}"
            )));
        }
    }
    let budget =
        |registry: &str| seen[&format!("plimsoll_registry_budget_left{{registry=\"{registry}\"}}")];
    assert_eq!((budget("docker.io"), budget("ghcr.io")), (10.0, 10.0));
    let time = seen[r#"dd_registry_response_sum{type="custom",name="public"}"#];
    assert!(time > 0.0 && time < 60.0, "{time}");
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(seen[name] > 0.0, "{name}");
    }
    let legacy = world.get("/api/v1/server").await.json();
    let legacy = &legacy["compatibility"]["legacyInputs"];
    assert_eq!(legacy["label"]["keys"], json!(["wud.group"]));
    assert_eq!(legacy["api"]["total"], 1);

    // Containers make no series of their own.
    assert!(!seen.keys().any(|series| series.contains(&id)));
    let kinds = seen
        .iter()
        .filter(|(name, _)| name.starts_with("dd_containers{"));
    let kinds: Vec<_> = kinds.collect();
    assert!(kinds.len() <= 2, "{kinds:?}");
    assert_eq!(kinds.iter().map(|(_, count)| **count).sum::<f64>(), 3.0);
    let running = r#"dd_containers{agent="",watcher="local",status="running","#;
    assert!(kinds.iter().all(|(name, _)| name.starts_with(running)));

    // The other replica says the same, and did none of it.
    let world_token = world.token.clone();
    wait::until_true("the replicas to agree", SOON, async || {
        let (one, two) = (
            scrape(&world.api, &world_token).await,
            scrape(&other, &world_token).await,
        );
        of_the_fleet(&one) == of_the_fleet(&two)
    })
    .await;

    // Nothing goes back: when a worker leaves, when the trail is folded, when it is forgotten.
    assert!(world.worker.terminate(SOON).await.success());
    world.api.kill();
    world.api.start();
    world.api.wait_healthy(SOON).await;
    let before = scrape(&world.api, &world.token).await;
    for (series, value) in seen.iter().filter(|(name, _)| counts(name)) {
        assert!(before[series] >= *value, "{series} went back");
    }
    let url = world.database.url().to_owned();
    let store = Store::new(&StoreSettings {
        url: SecretString::from(url),
        connections: 4,
    })
    .unwrap();
    let folds = (0..4).map(|_| store.fold_audit_totals());
    for folded in futures::future::join_all(folds).await {
        folded.unwrap();
    }
    let rows = world.database.client().await;
    rows.execute("DELETE FROM audit", &[]).await.unwrap();
    let after = scrape(&world.api, &world.token).await;
    assert_eq!(of_the_fleet(&after), of_the_fleet(&before));
}

#[tokio::test]
async fn a_watch_outside_the_maintenance_window_waits_and_is_counted_once() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url());
    // Due at start, in a window that is months away.
    let month = chrono::Utc::now().format("%m").to_string();
    let closed = if month == "07" {
        "* * * 1 *"
    } else {
        "* * * 7 *"
    };
    let change = |worker: Server| {
        worker
            .env("PLIMSOLL_WATCHER_LOCAL_MAINTENANCE_WINDOW", closed)
            .env("PLIMSOLL_WATCHER_LOCAL_WATCHATSTART", "true")
    };
    let world = World::with(database, redis, api, change).await;
    let skips = r#"dd_watcher_maintenance_skip_total{type="docker",name="local"}"#;
    reaches(&world, skips, 1.0).await;
    let seen = scrape(&world.api, &world.token).await;
    assert_eq!(seen[skips], 1.0);
    let rows = world.database.client().await;
    let scheduled = "SELECT count(*) FROM jobs WHERE slot LIKE 'start:%' OR slot LIKE 'watch:%'";
    let count: i64 = rows.query_one(scheduled, &[]).await.unwrap().get(0);
    assert_eq!(count, 0, "nothing is watched by itself");
    // What a person asks for is done.
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world.run("app", &image, &[]).await;
    assert_eq!(world.watch(&id).await["updateAvailable"], true);
    let watcher = world.get("/api/v1/watchers/docker/local").await.json();
    assert_eq!(watcher["configuration"]["maintenancewindow"], closed);
}

#[tokio::test]
async fn without_the_database_a_replica_shows_what_it_counts_itself() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let proxy = plimsoll_support::proxy::Proxy::tcp(plimsoll_support::proxy::Upstream::Unix(
        database.socket(),
    ))
    .await;
    let api = Server::api(&database.url_through(proxy.port()), &redis.url())
        .env("DD_SERVER_METRICS_AUTH", "false")
        .ready()
        .await;
    let up = |series: &Series| series["plimsoll_fleet_metrics_up"];
    wait::until_true("the fleet's metrics", SOON, async || {
        up(&scrape(&api, "").await) == 1.0
    })
    .await;
    proxy.set(plimsoll_support::proxy::Fault::Refuse);
    let alone = scrape(&api, "").await;
    assert_eq!(up(&alone), 0.0);
    assert!(alone["process_open_fds"] > 0.0);
    assert!(
        !alone.keys().any(|name| name.starts_with("dd_")),
        "{alone:#?}"
    );
}

#[tokio::test]
async fn what_waits_what_was_taken_over_and_who_is_left_alone_is_seen() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url())
        .env("DD_SERVER_METRICS_AUTH", "false")
        .ready()
        .await;
    let rows = database.client().await;
    // Of an engine that this test's worker will serve: one waits for a minute, one is not due, and
    // one belongs to a worker that died.
    let insert = "INSERT INTO jobs (id, kind, agent, watcher, spec, state, created_at, run_after,
                                    lease_owner, lease_epoch, lease_expires_at)
                  SELECT gen_random_uuid(), 'scan', '', 'local', $1, state,
                         now() - make_interval(secs => 60), now() + make_interval(secs => after),
                         owner, 1, now() - make_interval(secs => expired)
                    FROM (VALUES ('done', 0.0, NULL::uuid, NULL::float8),
                                 ('running', -60, gen_random_uuid(), 5))
                      AS jobs (state, after, owner, expired)";
    let spec = json!({"kind": "scan", "containers": []});
    rows.execute(insert, &[&spec]).await.unwrap();
    let waiting = "INSERT INTO jobs (id, kind, agent, watcher, spec, created_at, run_after)
                   SELECT gen_random_uuid(), 'watch', '', 'nowhere', $1, now() - interval '1 hour',
                          now() - make_interval(secs => since)
                     FROM (VALUES (60.0), (30), (-3600)) AS jobs (since)";
    let spec = json!({"kind": "watch"});
    rows.execute(waiting, &[&spec]).await.unwrap();
    let queue = plimsoll_app::Queue::new(&SecretString::from(redis.url())).unwrap();
    let minutes = std::time::Duration::from_secs(120);
    queue
        .registry_limited("quay.io", Some(minutes))
        .await
        .unwrap();
    queue
        .registry_limited("ghcr.io", Some(minutes))
        .await
        .unwrap();
    queue.registry_lifted("ghcr.io").await.unwrap();
    for _ in 0..4 {
        let rate = plimsoll_app::queue::budget::rate_of("docker.io");
        queue.registry_admit("docker.io", rate).await.unwrap();
    }

    let seen = scrape(&api, "").await;
    assert_eq!(seen[r#"plimsoll_jobs{kind="watch",state="waiting"}"#], 2.0);
    assert_eq!(seen[r#"plimsoll_jobs{kind="scan",state="running"}"#], 1.0);
    let oldest = seen[r#"plimsoll_job_oldest_wait_seconds{kind="watch"}"#];
    assert!((60.0..90.0).contains(&oldest), "{oldest}");
    let left = seen[r#"plimsoll_registry_budget_left{registry="docker.io"}"#];
    assert!((6.0..=8.0).contains(&left), "{left}");
    let paused = |registry: &str| {
        seen[&format!("plimsoll_registry_paused_seconds{{registry=\"{registry}\"}}")]
    };
    assert!((100.0..=120.0).contains(&paused("quay.io")));
    assert_eq!((paused("ghcr.io"), paused("docker.io")), (0.0, 0.0));

    // A worker takes the dead one's job.
    let docker = plimsoll_support::docker::Docker::connect().await;
    let _worker = crate::world::worker(database.url(), &redis.url(), &docker)
        .env("PLIMSOLL_WATCHER_LOCAL_WATCHATSTART", "false")
        .spawn();
    let series = r#"plimsoll_lease_takeovers_total{kind="scan"}"#;
    wait::until_true(series, SOON, async || {
        scrape(&api, "").await.get(series) == Some(&1.0)
    })
    .await;

    // Requests that are refused before they are routed count for their operation, too.
    let strange = reqwest::Client::new()
        .patch(api.url("/api/v1/containers"))
        .send();
    assert_eq!(strange.await.unwrap().status(), 405);
    let login = reqwest::Client::new()
        .post(api.url("/auth/login"))
        .header("origin", "https://elsewhere.example")
        .header("sec-fetch-site", "cross-site")
        .header("cookie", "connect.sid=s%3Aabc.def")
        .send();
    assert!(login.await.unwrap().status().is_client_error());
    let seen = scrape(&api, "").await;
    let operations: std::collections::BTreeSet<&str> = seen
        .keys()
        .filter_map(|name| name.strip_prefix("plimsoll_http_requests_total{operation=\""))
        .filter_map(|rest| rest.split('"').next())
        .collect();
    assert_eq!(
        operations,
        ["getHealth", "getMetrics", "login", "unmatched"].into()
    );
}
