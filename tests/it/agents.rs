//! Agents: workers on other hosts (reference/drydock.md 1.4 and 1.5), and logs of processes.

use chrono::Utc;
use plimsoll_app::{observations::Observed, store::workers::NewWorker};
use plimsoll_domain::{access::Role, ids::WatcherRef};
use plimsoll_support::{docker::Docker, postgres::Database, redis::Redis, server::Server, wait};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    reads::container,
    replica::{Replica, answer},
    socket::Socket,
    stream::Client,
    world::{SOON, World, worker},
};

/// The next event of that name.
async fn event(client: &mut Client, name: &str) -> Value {
    loop {
        let event = client.next().await.expect("events go on");
        if event.name == name {
            return event.data;
        }
    }
}

async fn count(database: &Database, query: &str) -> i64 {
    let row = database.client().await.query_one(query, &[]).await;
    row.expect("the query is valid").get(0)
}

fn agent(database: &Database, redis: &Redis, docker: &Docker) -> Server {
    worker(database.url(), &redis.url(), docker).env("PLIMSOLL_WORKER_AGENT", "edge")
}

#[tokio::test]
async fn an_agent_appears_with_its_containers_and_its_leave_is_told_once() {
    let world = World::start().await;
    let mut listener = Client::open(world.authorised(Method::GET, "/api/v1/events/ui"), None).await;
    listener.next().await.expect("a greeting");
    // Another engine, as far as Plimsoll can see: its worker sees other containers.
    let other = Docker::connect().await;
    let mut edge = agent(&world.database, &world.redis, &other).spawn();
    let told = event(&mut listener, "dd:agent-connected").await;
    assert_eq!(told["agentName"], "edge");
    assert_eq!(told["connected"], true);

    let reference = world.publish("app", &["1.0.0"]).await;
    let here = world.run("here", &reference, &[]).await;
    let there = other.run(&other.name("there"), &reference).await;
    world.listed(&there).await;
    let container = async |id: &str| world.get(&format!("/api/v1/containers/{id}")).await.json();
    assert_eq!(container(&there).await["agent"], "edge");
    assert!(container(&here).await.get("agent").is_none());
    // Reads of its containers reach it.
    let logs = format!("/api/v1/containers/{there}/logs?timestamps=false");
    wait::until_true("the agent's container to be read", SOON, async || {
        let logs = world.get(&logs).await;
        logs.status == 200 && logs.text.contains("started")
    })
    .await;

    let agents = world.get("/api/v1/agents").await.json();
    assert_eq!(agents["total"], 1, "{agents}");
    let shown = &agents["data"][0];
    assert_eq!(shown["name"], "edge");
    assert_eq!(shown["connected"], true);
    assert_eq!(shown["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(shown["os"], "linux");
    for key in ["cpus", "memoryGb", "uptimeSeconds", "port", "images"] {
        assert!(shown[key].is_number(), "{key} in {shown}");
    }
    for key in ["host", "arch", "lastSeen", "logLevel"] {
        assert!(shown[key].is_string(), "{key} in {shown}");
    }
    let counts = json!({"total": 1, "running": 1, "stopped": 0, "updatesAvailable": 0});
    assert_eq!(shown["containers"], counts);

    let entries = world
        .get("/api/v1/agents/edge/log/entries?component=worker")
        .await;
    assert_eq!(entries.status, 200, "{}", entries.text);
    let entries = entries.json();
    let working = |entry: &Value| entry["msg"].as_str().unwrap().starts_with("working");
    assert!(entries.as_array().unwrap().iter().any(working), "{entries}");
    let refused = async |path: &str| {
        let answer = world.get(path).await;
        (answer.status, answer.error())
    };
    let unknown = refused("/api/v1/agents/nobody/log/entries").await;
    assert_eq!(unknown, (404, "Agent not found".to_owned()));
    let level = refused("/api/v1/agents/edge/log/entries?level=loud").await;
    assert_eq!(level, (400, "Invalid level query parameter".to_owned()));

    edge.terminate(SOON).await;
    let told = event(&mut listener, "dd:agent-disconnected").await;
    assert_eq!(told["agentName"], "edge");
    assert!(told["reason"].is_string());
    let gone = refused("/api/v1/agents/edge/log/entries").await;
    assert_eq!(gone, (503, "Agent is not connected".to_owned()));
    let agents = world.get("/api/v1/agents").await.json();
    assert_eq!(agents["data"][0]["connected"], false);
    // What it had is still known: nobody has said that it is gone.
    assert_eq!(container(&there).await["agent"], "edge");
    assert_eq!(agents["data"][0]["containers"]["total"], 1);
    let audit = world
        .get("/api/v1/audit?action=agent-disconnect")
        .await
        .json();
    assert_eq!(audit["total"], 1);
    assert_eq!(audit["data"][0]["containerName"], "edge");

    edge.start();
    event(&mut listener, "dd:agent-connected").await;
}

#[tokio::test]
async fn a_change_is_told_once_whoever_sees_it() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replicas = [
        Replica::start(&database, &redis).await,
        Replica::start(&database, &redis).await,
        Replica::start(&database, &redis).await,
    ];
    let workers: Vec<NewWorker> = (0..3)
        .map(|_| NewWorker {
            id: Uuid::now_v7(),
            agent: "edge".to_owned(),
            host: "h".to_owned(),
            version: "1".to_owned(),
            info: json!({}),
        })
        .collect();
    let connected = "SELECT count(*) FROM events WHERE type = 'dd:agent-connected'";
    let disconnected = "SELECT count(*) FROM events WHERE type = 'dd:agent-disconnected'";
    let audited = "SELECT count(*) FROM audit WHERE action = 'agent-disconnect'";
    for round in 1..=3 {
        let seen = replicas.iter().flat_map(|replica| {
            let workers = workers.iter();
            workers.map(|worker| replica.app.worker_seen(worker))
        });
        for seen in futures::future::join_all(seen).await {
            seen.unwrap();
        }
        assert_eq!(count(&database, connected).await, round);
        // Two of three end in order, which is no news, and the last one without a word.
        for worker in &workers[..2] {
            replicas[0].app.worker_left(worker).await.unwrap();
        }
        for replica in &replicas {
            replica.app.note_lost_agents().await.unwrap();
        }
        assert_eq!(count(&database, disconnected).await, round - 1);
        let client = database.client().await;
        let silent = "UPDATE workers SET last_seen_at = now() - interval '1 minute'";
        client.execute(silent, &[]).await.unwrap();
        let looks = replicas
            .iter()
            .map(|replica| replica.app.note_lost_agents());
        for look in futures::future::join_all(looks).await {
            look.unwrap();
        }
        assert_eq!(count(&database, disconnected).await, round);
        assert_eq!(count(&database, audited).await, round);
    }
}

#[tokio::test]
async fn the_loss_of_the_last_worker_is_told_to_those_who_listen() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica.owner_token(&database).await;
    let request = replica.request(Method::GET, "/api/v1/events/ui");
    let mut listener = Client::open(request.bearer_auth(token), None).await;
    listener.next().await.expect("a greeting");
    let docker = Docker::connect().await;
    let mut edge = agent(&database, &redis, &docker).spawn();
    event(&mut listener, "dd:agent-connected").await;
    edge.kill();
    // A worker counts as gone after 15 seconds; `listener` is why somebody looks.
    let told = "SELECT count(*) FROM events WHERE type = 'dd:agent-disconnected'";
    wait::until_true("the loss to be told", 2 * SOON, async || {
        count(&database, told).await == 1
    })
    .await;
    drop(listener);
}

#[tokio::test]
async fn the_same_names_on_two_hosts_are_two_containers() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica
        .token(&database, Role::Owner, &["containers:read"])
        .await;
    let edge = WatcherRef {
        agent: "edge".to_owned(),
        name: "local".to_owned(),
    };
    let (here, mut there) = (container("app", 1), container("app", 2));
    there.watcher = edge.clone();
    let seen = |facts| Observed {
        present: vec![facts],
        gone: Vec::new(),
    };
    let local = here.watcher.clone();
    for watcher in [&local, &edge] {
        let store = replica.app.store();
        store.register_watcher(watcher, &json!({})).await.unwrap();
    }
    replica
        .app
        .observe(&local, &seen(here.clone()))
        .await
        .unwrap();
    replica
        .app
        .observe(&edge, &seen(there.clone()))
        .await
        .unwrap();
    let list = async || replica.get("/api/v1/containers", &token).await.json();
    assert_eq!(list().await["total"], 2);
    let keys: Vec<Value> = list().await["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["identityKey"].clone())
        .collect();
    assert_ne!(keys[0], keys[1]);
    // The one is made again there, and the other stays.
    let mut again = container("app", 3);
    again.watcher = edge.clone();
    replica.app.observe(&edge, &seen(again)).await.unwrap();
    let ids: Vec<Value> = list().await["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].clone())
        .collect();
    assert!(
        ids.contains(&json!(here.id.as_str())) && ids.len() == 2,
        "{ids:?}"
    );
    assert!(!ids.contains(&json!(there.id.as_str())));
}

#[tokio::test]
async fn the_log_of_a_process_is_shown_and_followed_without_secrets() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url()).env("PLIMSOLL_LOG_LEVEL", "debug");
    let world = World::with(database, redis, api, |worker| worker).await;
    let began = Utc::now().timestamp_millis();
    assert_eq!(
        world.get("/api/v1/log").await.json(),
        json!({"level": "debug"})
    );
    let secret = "plim_hunter2hunter2";
    let request = world.request(Method::GET, &format!("/api/v1/{secret}"));
    answer(request.bearer_auth(&world.token)).await;
    let entries = world
        .get("/api/v1/log/entries?component=edge&level=debug")
        .await;
    assert_eq!(entries.status, 200);
    assert!(!entries.text.contains("hunter2"), "{}", entries.text);
    let entries = entries.json();
    let last = entries.as_array().unwrap().last().unwrap();
    assert_eq!(last["component"], "api.edge");
    assert_eq!(last["level"], "debug");
    assert!(
        last["msg"].as_str().unwrap().starts_with("request "),
        "{last}"
    );
    assert!(last["timestamp"].as_i64().unwrap() >= began);
    let none = world.get("/api/v1/log/entries?level=fatal").await;
    assert_eq!(none.json(), json!([]));
    let some = world.get("/api/v1/log/entries?tail=1").await.json();
    assert_eq!(some.as_array().unwrap().len(), 1);
    let components = world.get("/api/v1/log/components").await.json();
    assert!(components.as_array().unwrap().contains(&json!("api.edge")));
    for (query, error) in [
        ("level=loud", "Invalid level query parameter"),
        ("component=a%20b", "Invalid component query parameter"),
    ] {
        let refused = world.get(&format!("/api/v1/log/entries?{query}")).await;
        assert_eq!((refused.status, refused.error()), (400, error.to_owned()));
    }

    let url = world.api.url("/api/v1/log/stream?component=edge&tail=1");
    let mut socket = Socket::with_token(&url, &world.token).await;
    socket.next().await.expect("the last entry");
    world.get("/api/v1/app").await;
    loop {
        let entry = socket.next().await.expect("entries go on");
        assert_eq!(entry["component"], "api.edge");
        if entry["msg"].as_str().unwrap().contains("/api/v1/app") {
            break;
        }
    }
}
