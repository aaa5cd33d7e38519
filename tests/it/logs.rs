//! Containers' output through API and worker processes (contract/drydock-container-api.md,
//! "Download container logs", "Stream container logs (WebSocket)").

use std::{
    io::Read,
    time::{Duration, Instant},
};

use bollard::models::{ContainerCreateBody, HostConfig, HostConfigLogConfig};
use plimsoll_support::{image::Image, postgres::Database, redis::Redis, server::Server, wait};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    replica::{Answer, answer},
    socket::Socket,
    world::{SOON, World},
};

/// Runs a shell script in a container, and waits until the API shows it.
async fn script(world: &World, stem: &str, script: &str) -> String {
    script_with(world, stem, script, |body| body).await
}

async fn script_with(
    world: &World,
    stem: &str,
    script: &str,
    change: impl FnOnce(ContainerCreateBody) -> ContainerCreateBody,
) -> String {
    let image = Image::app(stem).label("plimsoll.test", world.docker.id());
    world.registry.push(stem, "1", &image).await;
    let reference = world.registry.reference(stem, "1");
    world.docker.pull(&reference).await;
    let body = change(ContainerCreateBody {
        image: Some(reference),
        cmd: Some(["sh", "-c", script].map(String::from).to_vec()),
        ..Default::default()
    });
    let id = world.docker.run_with(&world.docker.name(stem), body).await;
    world.listed(&id).await;
    id
}

/// After `echo done`, the script's output is all there.
async fn logs_with(world: &World, id: &str, query: &str, end: &str) -> Answer {
    let path = format!("/api/v1/containers/{id}/logs?{query}");
    wait::until("the output to be complete", SOON, async || {
        let logs = world.get(&path).await;
        assert_eq!(logs.status, 200, "{}", logs.text);
        logs.text.contains(end).then_some(logs)
    })
    .await
}

fn stream_url(world: &World, id: &str, query: &str) -> String {
    world
        .api
        .url(&format!("/api/v1/containers/{id}/logs/stream?{query}"))
}

const WAITS: &str = "trap 'exit 0' TERM; echo done; while :; do sleep 1 & wait $!; done";

#[tokio::test]
async fn output_is_downloaded_as_it_was_asked_for() {
    let world = World::start().await;
    // The engine reads the two sources apart: without a pause their order is open.
    let text = format!("echo out; echo err >&2; sleep 0.3; echo 'zw\u{f6}lf \u{20ac}'; {WAITS}");
    let id = script(&world, "plain", &text).await;

    let logs = logs_with(&world, &id, "", "done").await;
    assert_eq!(logs.header("content-type"), "text/plain; charset=utf-8");
    let disposition = logs.header("content-disposition");
    assert!(
        disposition.starts_with("attachment; filename="),
        "{disposition}"
    );
    let lines: Vec<&str> = logs.text.lines().collect();
    assert_eq!(lines.len(), 4, "{}", logs.text);
    for line in &lines {
        let (stamp, _) = line.split_once(' ').unwrap();
        chrono::DateTime::parse_from_rfc3339(stamp).unwrap_or_else(|_| panic!("{line}"));
    }

    let plain = logs_with(&world, &id, "timestamps=false&stderr=false", "done").await;
    assert_eq!(plain.text, "out\nzw\u{f6}lf \u{20ac}\ndone\n");
    let errors = logs_with(&world, &id, "timestamps=false&stdout=false", "err").await;
    assert_eq!(errors.text, "err\n");
    let last = logs_with(&world, &id, "timestamps=false&tail=1", "done").await;
    assert_eq!(last.text, "done\n");
    // Also what is larger than any tail that is given.
    let all = logs_with(&world, &id, "timestamps=false&tail=999999999", "done").await;
    assert_eq!(all.text.lines().count(), 4);
    for future in ["4102444800", "2100-01-01T00:00:00Z"] {
        let path = format!("/api/v1/containers/{id}/logs?since={future}");
        let none = world.get(&path).await;
        assert_eq!((none.status, none.text.as_str()), (200, ""), "{future}");
    }
    for since in ["0", "1700000000", "2024-01-01T00:00:00.5Z"] {
        let since = logs_with(&world, &id, &format!("since={since}"), "done").await;
        assert_eq!(since.text, logs.text);
    }

    let refused = async |query: &str| {
        let answer = world
            .get(&format!("/api/v1/containers/{id}/logs?{query}"))
            .await;
        (answer.status, answer.error())
    };
    let since = refused("since=yesterday").await;
    assert_eq!(since, (400, "Invalid since query parameter".to_owned()));
    let nothing = refused("stdout=false&stderr=false").await.0;
    assert_eq!(nothing, 400);
    assert_eq!(refused("tail=-1").await.0, 400);
    let unknown = world.get("/api/v1/containers/unknown/logs").await;
    assert_eq!(
        (unknown.status, unknown.error()),
        (404, "Container not found".to_owned())
    );
}

#[tokio::test]
async fn large_output_is_packed_as_it_passes_and_refused_past_sixteen_mebibytes() {
    let world = World::start().await;
    // Lines of 1000 bytes: 600 kB with the default tail, 6 MB with the largest.
    let line = "0123456789".repeat(60);
    let text = format!("i=0; while [ $i -lt 9000 ]; do echo $i {line}; i=$((i+1)); done; {WAITS}");
    let id = script(&world, "large", &text).await;
    logs_with(&world, &id, "tail=1", "done").await;

    let path = format!("/api/v1/containers/{id}/logs?tail=10000&timestamps=false");
    let request = world.authorised(Method::GET, &path);
    let response = request
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let packed = response.bytes().await.unwrap();
    assert!(packed.len() < 1_000_000, "{}", packed.len());
    let mut text = String::new();
    let mut unpacked = flate2::read::GzDecoder::new(&packed[..]);
    unpacked.read_to_string(&mut text).unwrap();
    let numbers = text.lines().filter_map(|line| line.split_once(' '));
    let numbers: Vec<u32> = numbers.map(|(number, _)| number.parse().unwrap()).collect();
    assert!(numbers.iter().copied().eq(0..9000));

    let line = "0123456789".repeat(400);
    let text = format!("i=0; while [ $i -lt 5000 ]; do echo {line}; i=$((i+1)); done; {WAITS}");
    let id = script(&world, "too-large", &text).await;
    logs_with(&world, &id, "tail=1", "done").await;
    let path = format!("/api/v1/containers/{id}/logs?tail=10000");
    let refused = world.get(&path).await;
    assert_eq!(refused.status, 413, "{}", refused.text);
    assert!(refused.error().contains("16 MiB"), "{}", refused.error());
}

#[tokio::test]
async fn lines_are_followed_with_their_source_and_time() {
    let world = World::start().await;
    // The euro sign is split over two of Docker's messages, which end after 16 KiB. (Its default log
    // driver loses such characters before anybody reads them.)
    let padding = "x".repeat(16383);
    let text = format!(
        "echo out; sleep 0.1; echo err >&2; sleep 0.1; echo '{padding}\u{20ac} end'; sleep 0.1; {}",
        "while :; do echo tick; sleep 0.2; done"
    );
    let id = script_with(&world, "followed", &text, |body| ContainerCreateBody {
        host_config: Some(HostConfig {
            log_config: Some(HostConfigLogConfig {
                typ: Some("local".to_owned()),
                config: None,
            }),
            ..Default::default()
        }),
        ..body
    })
    .await;
    let mut socket = Socket::with_token(&stream_url(&world, &id, ""), &world.token).await;
    let mut rows = Vec::new();
    for _ in 0..6 {
        rows.push(socket.next().await.expect("a line"));
    }
    let shown = |row: &Value| (row["type"].clone(), row["line"].clone());
    assert_eq!(shown(&rows[0]), (json!("stdout"), json!("out")));
    assert_eq!(shown(&rows[1]), (json!("stderr"), json!("err")));
    assert_eq!(
        shown(&rows[2]),
        (json!("stdout"), json!(format!("{padding}\u{20ac} end")))
    );
    assert_eq!(shown(&rows[5]), (json!("stdout"), json!("tick")));
    for row in &rows {
        assert_eq!(row.as_object().unwrap().len(), 3, "{row}");
        let stamp = row["ts"].as_str().unwrap();
        chrono::DateTime::parse_from_rfc3339(stamp).unwrap_or_else(|_| panic!("{row}"));
    }
    // Only one source, and no more than what is there.
    let query = "follow=false&stdout=false";
    let errors = Socket::with_token(&stream_url(&world, &id, query), &world.token).await;
    let errors = errors.rest().await;
    assert_eq!(errors.code, 1000);
    assert_eq!(errors.rows.len(), 1);
    assert_eq!(errors.rows[0]["line"], "err");

    // The container ends, and so does its output.
    world
        .docker
        .client()
        .kill_container(&id, None)
        .await
        .unwrap();
    let rest = socket.rest().await;
    assert_eq!(rest.code, 1000, "{rest:?}");
    let url = stream_url(&world, &id, "");
    let stopped = Socket::with_token(&url, &world.token).await.rest().await;
    assert_eq!(
        (stopped.code, &*stopped.reason),
        (4001, "Container is not running")
    );
    let url = stream_url(&world, "unknown", "");
    let unknown = Socket::with_token(&url, &world.token).await.rest().await;
    assert_eq!(
        (unknown.code, &*unknown.reason),
        (4004, "Container not found")
    );
}

#[tokio::test]
async fn a_terminals_output_is_not_taken_for_frames() {
    let world = World::start().await;
    let text = format!("echo one; echo two >&2; {WAITS}");
    let id = script_with(&world, "terminal", &text, |body| ContainerCreateBody {
        tty: Some(true),
        ..body
    })
    .await;
    let plain = logs_with(&world, &id, "timestamps=false", "done").await;
    assert_eq!(plain.text, "one\r\ntwo\r\ndone\r\n");
    let url = stream_url(&world, &id, "follow=false");
    let socket = Socket::with_token(&url, &world.token).await.rest().await;
    let lines: Vec<&Value> = socket.rows.iter().map(|row| &row["line"]).collect();
    assert_eq!(lines, ["one", "two", "done"]);
    assert!(socket.rows.iter().all(|row| row["type"] == "stdout"));
}

#[tokio::test]
async fn strangers_and_other_sites_hear_no_before_the_upgrade() {
    let world = World::start().await;
    let url = stream_url(&world, "unknown", "");
    let bearer = format!("Bearer {}", world.token);
    let table: [(&[(&str, &str)], u16); 5] = [
        (&[], 401),
        (&[("authorization", "Bearer plim_none")], 401),
        (&[("cookie", "drydock.sid=none")], 401),
        (
            &[
                ("cookie", "drydock.sid=none"),
                ("origin", "https://evil.example"),
            ],
            403,
        ),
        (
            &[
                ("authorization", "Basic YTpi"),
                ("origin", "https://evil.example"),
            ],
            403,
        ),
    ];
    for (headers, status) in table {
        let refused = Socket::open(&url, headers).await.err();
        assert_eq!(refused, Some(status), "{headers:?}");
    }
    let other_site = [
        ("authorization", &*bearer),
        ("origin", "https://evil.example"),
    ];
    assert!(
        Socket::open(&url, &other_site).await.is_ok(),
        "a token is no cookie"
    );
    let no_socket = world.get("/api/v1/containers/unknown/logs/stream").await;
    assert_eq!(no_socket.status, 400, "{}", no_socket.text);
    let bad = stream_url(&world, "unknown", "since=yesterday");
    let refused = Socket::open(&bad, &[("authorization", &bearer)])
        .await
        .err();
    assert_eq!(refused, Some(400));
}

/// The connections that are open to the engine's socket for streams of output.
async fn followers(world: &World) -> usize {
    let worker = world.worker.pid();
    let descriptors = std::fs::read_dir(format!("/proc/{worker}/fd")).unwrap();
    descriptors.count()
}

#[tokio::test]
async fn two_hundred_clients_follow_at_once_and_leave_nothing_behind() {
    let world = World::start().await;
    let id = script(&world, "many", "while :; do echo tick; sleep 0.5; done").await;
    let before = followers(&world).await;
    let url = stream_url(&world, &id, "tail=1");
    let opening = (0..200).map(|_| Socket::with_token(&url, &world.token));
    let mut sockets = futures::future::join_all(opening).await;
    for socket in &mut sockets {
        for _ in 0..2 {
            assert_eq!(socket.next().await.unwrap()["line"], "tick");
        }
    }
    // Other reads are not held up.
    let began = Instant::now();
    logs_with(&world, &id, "tail=1", "tick").await;
    wait::took_at_most(began, Duration::from_secs(3));
    assert!(followers(&world).await >= before + 200);
    drop(sockets);
    wait::until_true("the worker to let go", SOON, async || {
        followers(&world).await < before + 10
    })
    .await;
}

#[tokio::test]
async fn a_dead_worker_ends_streams_and_refuses_downloads() {
    let mut world = World::start().await;
    let id = script(&world, "orphan", WAITS).await;
    let mut socket = Socket::with_token(&stream_url(&world, &id, ""), &world.token).await;
    assert_eq!(socket.next().await.unwrap()["line"], "done");
    let began = Instant::now();
    world.worker.kill();
    let rest = socket.rest().await;
    assert_eq!(rest.code, 1011, "{rest:?}");
    wait::took_at_most(began, Duration::from_secs(10));
    let path = format!("/api/v1/containers/{id}/logs");
    let request = world.authorised(Method::GET, &path);
    let refused = answer(request.timeout(Duration::from_secs(40))).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    assert!(!refused.header("retry-after").is_empty());
    // By now the worker is known to be gone, and nobody waits for it.
    let began = Instant::now();
    for what in ["logs", "stats"] {
        let path = format!("/api/v1/containers/{id}/{what}");
        let refused = answer(world.authorised(Method::GET, &path)).await;
        assert_eq!(refused.status, 503, "{}", refused.text);
        assert!(
            refused.error().contains("no worker of local is running"),
            "{}",
            refused.text
        );
    }
    wait::took_at_most(began, Duration::from_secs(6));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_told_so_and_holds_nobody_up() {
    let world = World::start().await;
    let line = "0123456789".repeat(100);
    let lines = format!("i=0; while [ $i -lt 500 ]; do echo {line}; i=$((i+1)); done");
    let id = script(
        &world,
        "flood",
        &format!("while :; do {lines}; sleep 0.1; done"),
    )
    .await;
    let url = stream_url(&world, &id, "");
    let mut slow = Socket::that_buffers_little(&url, &world.token).await;
    slow.next().await.expect("a line");
    // Until the buffers on the way are full and ten seconds have passed, another client reads as
    // much as there is.
    let mut other = Socket::with_token(&url, &world.token).await;
    let until = Instant::now() + Duration::from_secs(18);
    let mut read = 0;
    while Instant::now() < until {
        other.next().await.expect("lines go on");
        read += 1;
    }
    assert!(read > 1000, "{read}");
    other.close().await;
    let rest = slow.rest().await;
    assert_eq!(rest.code, 1013, "{} rows, {}", rest.rows.len(), rest.reason);
}

#[tokio::test]
async fn sockets_are_limited_over_all_replicas() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let settings = |replica: Server| {
        replica
            .env("PLIMSOLL_ANONYMOUS_AUTH_CONFIRM", "true")
            .env("PLIMSOLL_SERVER_RATELIMIT_MAX", "0")
    };
    let replicas = [
        settings(Server::api(database.url(), &redis.url()))
            .ready()
            .await,
        settings(Server::api(database.url(), &redis.url()))
            .ready()
            .await,
    ];
    let mut opened = 0;
    let mut refused = 0;
    let began = Instant::now();
    for attempt in 0..1100 {
        let path = "/api/v1/containers/unknown/logs/stream";
        match Socket::open(&replicas[attempt % 2].url(path), &[]).await {
            Ok(_) => opened += 1,
            Err(status) => {
                assert_eq!(status, 429);
                refused += 1;
            }
        }
    }
    // What a replica has taken of the limit and not used is not given to the other.
    // Of the thousand in fifteen minutes, a few come back while we ask.
    let again = began.elapsed().as_secs() * 1000 / 900;
    assert!((940..=1010 + again).contains(&opened), "{opened}");
    assert!(refused > 0);
}
