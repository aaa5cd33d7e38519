//! What containers use, and their environment, through API and worker processes
//! (contract/drydock-container-api.md, "Get container stats" to "Stream container stats", "Reveal
//! container environment variables").

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use bollard::models::ContainerCreateBody;
use futures::{StreamExt, future::join_all};
use plimsoll_support::{
    postgres::Database,
    proxy::{Proxy, Upstream},
    redis::Redis,
    server::Server,
    wait,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    replica::{Answer, answer},
    stream::Client,
    world::{SOON, World},
};

/// Samples each second, and reaches the engine through a proxy that counts.
async fn world(engine: &Proxy) -> World {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url());
    World::with(database, redis, api, |worker| {
        worker
            .env("PLIMSOLL_STATS_INTERVAL", "1")
            .env("PLIMSOLL_STATS_HISTORY_SIZE", "3")
            .env("PLIMSOLL_WATCHER_LOCAL_SOCKET", engine.path().display())
    })
    .await
}

async fn engine() -> Proxy {
    Proxy::unix(Upstream::Unix("/var/run/docker.sock".into())).await
}

/// A number that is there.
fn number(snapshot: &Value, key: &str) -> f64 {
    let number = snapshot[key].as_f64();
    number.unwrap_or_else(|| panic!("{key} in {snapshot}"))
}

#[tokio::test]
async fn what_a_container_uses_is_measured_and_kept_for_a_while() {
    let engine = engine().await;
    let world = world(&engine).await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let body = ContainerCreateBody {
        image: Some(reference.clone()),
        cmd: Some(
            ["sh", "-c", "while :; do :; done"]
                .map(String::from)
                .to_vec(),
        ),
        ..Default::default()
    };
    let busy = world
        .docker
        .run_with(&world.docker.name("busy"), body)
        .await;
    let idle = world.run("idle", &reference, &[]).await;
    world.listed(&busy).await;

    let path = format!("/api/v1/containers/{busy}/stats");
    let stats = wait::until("a full history", SOON, async || {
        let answer = world.get(&path).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let stats = answer.json();
        (stats["history"].as_array()?.len() == 3).then_some(stats)
    })
    .await;
    let snapshot = &stats["data"];
    assert_eq!(snapshot["containerId"], *busy);
    assert!(number(snapshot, "cpuPercent") > 5.0, "{snapshot}");
    assert!(number(snapshot, "memoryUsageBytes") > 0.0);
    assert!(number(snapshot, "memoryLimitBytes") > number(snapshot, "memoryUsageBytes"));
    let share = number(snapshot, "memoryUsageBytes") / number(snapshot, "memoryLimitBytes");
    assert!((number(snapshot, "memoryPercent") - share * 100.0).abs() < 1e-6);
    for key in [
        "networkRxBytes",
        "networkTxBytes",
        "blockReadBytes",
        "blockWriteBytes",
    ] {
        assert!(number(snapshot, key) >= 0.0);
    }
    let times: Vec<&str> = stats["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|snapshot| snapshot["timestamp"].as_str().unwrap())
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    assert_eq!(stats["history"][2], stats["data"]);

    // One question for all of them; the first one begins the sampling of those that were not asked
    // for before, and may be answered without them.
    let all = wait::until("everything to be measured", SOON, async || {
        let all = world.get("/api/v1/containers/stats").await;
        assert_eq!(all.status, 200, "{}", all.text);
        let all = all.json();
        let complete = all["data"]
            .as_array()?
            .iter()
            .all(|one| one["stats"].is_object());
        complete.then_some(all)
    })
    .await;
    let of = |id: &str| {
        let data = all["data"].as_array().unwrap().iter();
        let found = data.into_iter().find(|one| one["id"] == *id);
        found.expect("listed").clone()
    };
    assert_eq!(of(&idle)["stats"]["containerId"], *idle);
    assert!(number(&of(&idle)["stats"], "cpuPercent") < number(&of(&busy)["stats"], "cpuPercent"));
    assert_eq!(of(&idle)["watcher"], "local");
    assert_eq!(of(&idle)["status"], "running");

    world
        .docker
        .client()
        .kill_container(&busy, None)
        .await
        .unwrap();
    wait::until_true("the end to be seen", SOON, async || {
        let stats = world.get(&path).await.json();
        let all = world.get("/api/v1/containers/stats").await.json();
        let data = all["data"].as_array().unwrap().iter();
        let listed = data.into_iter().find(|one| one["id"] == *busy).unwrap();
        stats["data"].is_null() && listed["stats"].is_null()
    })
    .await;
    let unknown = world.get("/api/v1/containers/unknown/stats").await;
    assert_eq!(
        (unknown.status, unknown.error()),
        (404, "Container not found".to_owned())
    );
}

#[tokio::test]
async fn many_who_watch_cost_the_engine_one_sample_each_second() {
    let engine = engine().await;
    let mut world = world(&engine).await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let id = world.run("watched", &reference, &[]).await;
    let path = format!("/api/v1/containers/{id}/stats/stream");
    let open = || Client::open(world.authorised(Method::GET, &path), None);
    let began = Instant::now();
    let mut clients = join_all((0..50).map(|_| open())).await;
    // One sample is one moment: where each client were measured for, they would tell of fifty.
    let mut moments = BTreeSet::new();
    for _ in 0..4 {
        for client in &mut clients {
            let event = client.next().await.expect("snapshots go on");
            assert_eq!(event.name, "dd:container-stats");
            assert_eq!(event.data["containerId"], *id);
            assert!(event.data["cpuPercent"].is_number());
            let moment = event.data["timestamp"].as_str().expect("a moment");
            moments.insert(moment.to_owned());
        }
    }
    let allowed = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    assert!(
        moments.len() <= allowed,
        "{} samples for {allowed} seconds",
        moments.len()
    );

    // The worker's death ends the streams; a new one goes on where it is asked.
    let began = Instant::now();
    world.worker.kill();
    let ends = clients
        .iter_mut()
        .map(async |client| while client.next().await.is_some() {});
    join_all(ends).await;
    wait::took_at_most(began, Duration::from_secs(10));
    world.worker.start();
    let path = format!("/api/v1/containers/{id}/stats");
    wait::until_true("the next worker to sample", SOON, async || {
        world.get(&path).await.status == 200
    })
    .await;
}

#[tokio::test]
async fn one_of_two_workers_samples_and_the_other_takes_over() {
    let (one, two) = (engine().await, engine().await);
    let mut world = world(&one).await;
    let other = crate::world::worker(world.database.url(), &world.redis.url(), &world.docker)
        .env("PLIMSOLL_STATS_INTERVAL", "1")
        .env("PLIMSOLL_WATCHER_LOCAL_SOCKET", two.path().display())
        .spawn();
    let reference = world.publish("app", &["1.0.0"]).await;
    let id = world.run("shared", &reference, &[]).await;
    wait::until_true("the second worker to be there", SOON, async || {
        two.accepted() > 2
    })
    .await;
    let path = format!("/api/v1/containers/{id}/stats");
    let longest = std::cell::Cell::new(0);
    wait::until_true("one history, whoever is asked", SOON, async || {
        let stats = world.get(&path).await.json();
        let length = stats["history"].as_array().map_or(0, Vec::len);
        assert!(length >= longest.get(), "a shorter history: two are kept");
        longest.set(length.max(longest.get()));
        length >= 3
    })
    .await;
    world.worker.kill();
    let path = format!("/api/v1/containers/{id}/stats");
    wait::until_true("the other to take over", SOON, async || {
        world.get(&path).await.status == 200
    })
    .await;
    drop(other);
}

#[tokio::test]
async fn a_stream_of_statistics_beats_and_ends_with_the_container() {
    let engine = engine().await;
    let world = world(&engine).await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let id = world.run("ends", &reference, &[]).await;
    let path = format!("/api/v1/containers/{id}/stats/stream");
    let mut client = Client::open(world.authorised(Method::GET, &path), None).await;
    let mut beats = 0;
    let began = Instant::now();
    while beats == 0 {
        let event = client.next().await.expect("it goes on");
        beats += usize::from(event.name == "dd:heartbeat");
        wait::took_at_most(began, Duration::from_secs(20));
    }
    world.docker.remove(&id).await;
    while client.next().await.is_some() {}
    wait::until_true("the container to be forgotten", SOON, async || {
        world.get(&path).await.status == 404
    })
    .await;
}

#[tokio::test]
async fn an_environment_is_revealed_to_those_who_may_and_written_down() {
    let engine = engine().await;
    let world = world(&engine).await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let secret = format!("hunter2-{}", world.docker.id());
    let body = ContainerCreateBody {
        image: Some(reference),
        env: Some(vec![
            format!("DB_PASSWORD={secret}"),
            "TZ=Europe/Vienna".to_owned(),
        ]),
        ..Default::default()
    };
    let name = world.docker.name("secretive");
    let id = world.docker.run_with(&name, body).await;
    world.listed(&id).await;
    let path = format!("/api/v1/containers/{id}/env/reveal");
    let revealed = answer(world.authorised(Method::POST, &path)).await;
    assert_eq!(revealed.status, 200, "{}", revealed.text);
    assert_eq!(revealed.header("cache-control"), "no-store");
    let env = revealed.json()["env"].as_array().unwrap().clone();
    assert!(env.contains(&json!({"key": "DB_PASSWORD", "value": secret, "sensitive": true})));
    assert!(env.contains(&json!({"key": "TZ", "value": "Europe/Vienna", "sensitive": false})));

    let audit = world.get("/api/v1/audit?action=env-reveal").await.json();
    assert_eq!(audit["total"], 1, "{audit}");
    assert_eq!(audit["data"][0]["containerName"], *name);
    assert_eq!(audit["data"][0]["status"], "success");
    // Nowhere else.
    let container = world.get(&format!("/api/v1/containers/{id}")).await;
    for (place, text) in [
        ("audit", audit.to_string()),
        ("container", container.text),
        ("API log", world.api.log()),
        ("worker log", world.worker.log()),
    ] {
        assert!(!text.contains(&secret), "the value is in the {place}");
    }
    let unknown = answer(world.authorised(Method::POST, "/api/v1/containers/x/env/reveal")).await;
    assert_eq!(unknown.status, 404);
    // The tenth of this minute was not the last one to be asked for.
    let attempts = (0..12).map(|_| answer(world.authorised(Method::POST, &path)));
    let answers = futures::stream::iter(attempts).buffered(1);
    let answers: Vec<Answer> = answers.collect().await;
    let refused = answers.iter().find(|answer| answer.status == 429);
    let refused = refused.expect("refused after ten");
    assert!(refused.header("retry-after").parse::<u32>().unwrap() <= 60);
    // What has refused it, whatever else is counted.
    assert_eq!(refused.header("ratelimit-limit"), "10");
    assert_eq!(refused.header("ratelimit-policy"), "10;w=60");
    assert_eq!(refused.header("ratelimit-remaining"), "0");
    assert!(refused.header("ratelimit-reset").parse::<u32>().unwrap() <= 60);
}
