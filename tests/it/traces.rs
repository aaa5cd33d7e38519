//! One trace from the client's request to the last call that was made because of it, as a collector
//! sees it; and lines of the log that say what they belong to.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_support::{
    otlp::{Collector, Span},
    postgres::Database,
    redis::Redis,
    server::Server,
    wait,
};
use reqwest::Method;
use serde_json::Value;

use crate::replica::answer;
use crate::world::{SOON, World};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn traced(server: Server, collector: &Collector) -> Server {
    server
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.endpoint())
        // Whatever arrives is sent because the process ends.
        .env("OTEL_BSP_SCHEDULE_DELAY", "600000")
        .env("PLIMSOLL_LOG_FORMAT", "json")
}

/// Lines of the log that are JSON.
fn lines(log: &str) -> Vec<Value> {
    let lines = log.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// Names from the span up to the client.
fn way_up<'a>(spans: &'a BTreeMap<&str, &Span>, from: &'a Span) -> Vec<&'a str> {
    let mut way = vec![from.name.as_str()];
    let mut parent = from.parent.as_str();
    while parent != PARENT {
        let span = spans
            .get(parent)
            .unwrap_or_else(|| panic!("{way:?} is cut off"));
        way.push(&span.name);
        parent = &span.parent;
    }
    way
}

#[tokio::test]
async fn an_update_is_one_trace_over_all_processes_that_work_on_it() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let collector = Collector::start().await;
    let api = traced(Server::api(database.url(), &redis.url()), &collector);
    let mut world = World::with(database, redis, api, |w| traced(w, &collector)).await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world
        .run("app", &image, &[("dd.update.stability", "2")])
        .await;
    assert_eq!(world.watch(&id).await["updateAvailable"], true);

    let path = format!("/api/v1/containers/{id}/update?secret=hunter2");
    let accepted = world
        .authorised(Method::POST, &path)
        .header("prefer", "respond-async")
        .header("traceparent", format!("00-{TRACE}-{PARENT}-01"))
        .header("tracestate", "vendor=1")
        .header("x-request-id", "the-update-0001");
    let accepted = answer(accepted).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let operation = accepted.json()["operationId"].as_str().unwrap().to_owned();
    let status = format!("/api/v1/update-operations/{operation}");
    let reaches = async |phase: &str, world: &World| {
        wait::until_true(phase, SOON, async || {
            world.get(&status).await.json()["phase"] == phase
        })
        .await;
    };
    // The worker goes, and the next one goes on with the same trace.
    reaches("health-gate", &world).await;
    assert!(world.worker.terminate(SOON).await.success());
    world.worker.start();
    reaches("succeeded", &world).await;
    // A live read, and a context that is none.
    let read = world.get(&status).await.json()["newContainerId"].clone();
    let read = format!("/api/v1/containers/{}/logs", read.as_str().unwrap());
    let broken = world.authorised(Method::GET, &read).header(
        "traceparent",
        format!("00-{}-{PARENT}-01", TRACE.to_uppercase()),
    );
    assert_eq!(answer(broken).await.status, 200);
    assert!(world.worker.terminate(SOON).await.success());
    assert!(world.api.terminate(SOON).await.success());

    let all = collector.spans();
    let spans: Vec<&Span> = all.iter().filter(|span| span.trace == TRACE).collect();
    let by_id = spans.iter().map(|span| (span.id.as_str(), *span)).collect();
    for span in &spans {
        assert!(
            way_up(&by_id, span).contains(&"updateContainer"),
            "{span:?}"
        );
        assert_eq!(span.state, "vendor=1");
    }
    let services: BTreeSet<_> = spans.iter().map(|span| span.service.as_str()).collect();
    assert_eq!(services, ["plimsoll-api", "plimsoll-worker"].into());

    let named = |name: &str| -> Vec<&Span> {
        spans
            .iter()
            .copied()
            .filter(|span| span.name == name)
            .collect()
    };
    let request = named("updateContainer")[0];
    assert_eq!((request.kind, request.parent.as_str()), (2, PARENT));
    for (attribute, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/api/v1/containers/{id}/update"),
        ("http.response.status_code", "202"),
        ("request_id", "the-update-0001"),
    ] {
        assert_eq!(request.attributes[attribute], value, "{attribute}");
    }
    let jobs = named("job operation");
    assert_eq!(jobs.len(), 2, "one for each worker");
    for job in &jobs {
        assert_eq!(
            way_up(&by_id, job),
            ["job operation", "accept update", "updateContainer"]
        );
        assert_eq!(
            (job.kind, job.attributes["operation"].as_str()),
            (5, operation.as_str())
        );
    }
    let phases = spans
        .iter()
        .filter_map(|span| span.name.strip_prefix("phase "));
    assert_eq!(
        phases.collect::<Vec<_>>(),
        [
            "prepare",
            "renamed",
            "new-created",
            "old-stopped",
            "new-started",
            "health-gate",
            // By the second worker.
            "health-gate",
            "health-gate-passed",
            "succeeded"
        ]
    );
    let create = named("POST /containers/create")[0];
    assert_eq!(
        way_up(&by_id, create),
        [
            "POST /containers/create",
            "phase renamed",
            "job operation",
            "accept update",
            "updateContainer"
        ]
    );
    assert_eq!(
        (
            create.kind,
            create.attributes["http.response.status_code"].as_str()
        ),
        (3, "201")
    );
    let outside = |span: &&&Span| {
        span.service == "plimsoll-worker"
            && span.kind == 3
            && !span.attributes.contains_key("url.template")
    };
    let registry = spans.iter().find(outside).expect("the registry was asked");
    let host = world.registry.host();
    assert_eq!(
        Some(registry.attributes["server.address"].as_str()),
        host.split(':').next()
    );
    assert_eq!(
        way_up(&by_id, registry)[1..],
        [
            "phase prepare",
            "job operation",
            "accept update",
            "updateContainer"
        ]
    );

    let read = all
        .iter()
        .find(|span| span.name.starts_with("answer "))
        .unwrap();
    let asked = all.iter().find(|span| span.id == read.parent).unwrap();
    assert_eq!(
        (asked.service.as_str(), read.service.as_str()),
        ("plimsoll-api", "plimsoll-worker")
    );
    assert_ne!(read.trace, TRACE);
    // What nobody asked for is a trace of its own.
    let scheduled = all
        .iter()
        .find(|span| span.name == "job watch" && span.parent.is_empty());
    assert!(scheduled.is_some());
    for span in &all {
        let said = format!("{span:?}");
        assert!(
            !said.contains("hunter2") && !said.contains(&world.token),
            "{said}"
        );
    }

    let log = lines(&world.worker.log());
    let about: Vec<_> = log
        .iter()
        .filter(|line| line["operation"] == *operation)
        .collect();
    assert!(about.len() > 5, "{log:#?}");
    for line in about {
        assert_eq!(line["request_id"], "the-update-0001");
        assert_eq!(line["container"], world.docker.name("app"));
        assert_eq!(line["trace_id"], TRACE);
        assert!(line["job"].is_string());
    }
    let log = lines(&world.api.log());
    let line = log
        .iter()
        .find(|line| line["request_id"] == "the-update-0001")
        .unwrap();
    assert_eq!(line["operation_id"], "updateContainer");
}

#[tokio::test]
async fn each_line_of_a_request_names_it_and_its_operation() {
    let database = Database::migrated().await;
    // Nothing listens there: what is said about it is said within a request.
    let collector = Collector::start().await;
    let api = Server::api(database.url(), "redis://127.0.0.1:9")
        .env("OTEL_TRACES_SAMPLER", "parentbased_always_off");
    let mut api = traced(api, &collector).ready().await;
    let request = reqwest::Client::new()
        .get(api.url("/api/v1/containers/some?token=hunter2"))
        .header("x-request-id", "a-request-0001");
    let got = answer(request).await;
    assert_eq!(got.headers["x-request-id"], "a-request-0001");
    let log = lines(&api.log());
    let line = log
        .iter()
        .find(|line| line["request_id"] == "a-request-0001");
    let line = line.unwrap_or_else(|| panic!("{log:#?}"));
    assert_eq!(line["operation_id"], "getContainer");
    assert_eq!(line["level"], "WARN");
    assert!(line["message"].as_str().unwrap().contains("rate limits"));
    assert!(!api.log().contains("hunter2"));

    // Only what its client keeps is kept here.
    for (sampled, id) in [("00", "a-request-0002"), ("01", "a-request-0003")] {
        let request = reqwest::Client::new()
            .get(api.url("/api/v1/app"))
            .header("x-request-id", id)
            .header("traceparent", format!("00-{TRACE}-{PARENT}-{sampled}"));
        assert_eq!(answer(request).await.status, 401);
    }
    assert!(api.terminate(SOON).await.success());
    let spans = collector.spans();
    let kept = spans
        .iter()
        .map(|span| span.attributes["request_id"].as_str());
    assert_eq!(kept.collect::<Vec<_>>(), ["a-request-0003"]);
}
