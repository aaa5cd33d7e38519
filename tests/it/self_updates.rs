//! Replacing Plimsoll's own container, as clients see it (contract/drydock-app-api.md, "Self-update
//! acknowledgment").

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use plimsoll_app::self_updates::ACK_TIMEOUT;
use plimsoll_app::store::jobs::Lease;
use plimsoll_app::store::requests::NewRequest;
use plimsoll_app::store::update_operations::NewOperation;
use plimsoll_app::{App, AppSettings, Queue, Store, store::StoreSettings};
use plimsoll_domain::ids::{ContainerId, IdentityKey, JobId, OperationId, WatcherRef};
use plimsoll_domain::operation::OperationKind;
use plimsoll_support::contained;
use plimsoll_support::docker::Docker;
use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::registry::Registry;
use plimsoll_support::services::shared;
use plimsoll_support::wait;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::reads::NO_REDIS;
use crate::replica::{Answer, Replica, answer};
use crate::stream::{Client, Event};

const SOON: Duration = wait::SOON;

/// An operation on a container that nobody has, and the right to run it.
async fn operation(app: &App) -> (OperationId, Lease) {
    let id = OperationId::generate();
    let watcher = WatcherRef::local("local");
    let name = format!("plimsoll-{id}");
    let operation = NewOperation {
        id,
        kind: OperationKind::Update,
        identity: IdentityKey::new(&watcher, &name, None),
        watcher,
        container: ContainerId::parse(&"a".repeat(64)).unwrap(),
        container_name: name,
        trigger_name: None,
        from_version: None,
        to_version: None,
        target_image: "plimsoll:2".to_owned(),
        target_digest: None,
        backup: None,
        compose_file: None,
        rollback_reason: None,
        actor: "tester".to_owned(),
        request_id: None,
    };
    let request = NewRequest {
        operation: &operation,
        job: JobId::generate(),
        audit_action: "container-update",
        audit_details: None,
        event: "{}",
        idempotency: None,
        input: Default::default(),
    };
    app.store().accept_operation(&request).await.unwrap();
    let claimed = app.store().claim_operation_job(id, Uuid::new_v4()).await;
    (id, claimed.unwrap().expect("it is free").lease)
}

/// A client of the events, and what it was given.
async fn connected(request: RequestBuilder) -> (Client, Value) {
    let mut client = Client::open(request, None).await;
    let hello = client.next().await.unwrap();
    assert_eq!(hello.name, "dd:connected");
    (client, hello.data)
}

/// What the client is told of the operation. It may be told of an earlier one first, which it
/// connected in time to hear of.
async fn told(client: &mut Client, operation: OperationId) -> Event {
    loop {
        let event = client.next().await.expect("the stream goes on");
        if event.name == "dd:self-update" && event.data["opId"] == operation.to_string() {
            return event;
        }
    }
}

fn path(operation: impl std::fmt::Display) -> String {
    format!("/api/events/ui/self-update/{operation}/ack")
}

#[tokio::test]
async fn clients_of_all_replicas_are_waited_for_and_answer_to_any() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let one = Replica::start(&database, &redis).await;
    let two = Replica::start(&database, &redis).await;
    let session = one.session("viewer").await;
    let token = one.owner_token(&database).await;
    let of_session = |replica: &Replica, method: Method, path: &str| {
        let request = replica.request(method, path).header("cookie", &session);
        request.header("origin", replica.origin())
    };
    let events = "/api/v1/events/ui";
    let (mut ann, anns) = connected(of_session(&one, Method::GET, events)).await;
    let (mut bob, bobs) = connected(two.request(Method::GET, events).bearer_auth(&token)).await;
    let (id, lease) = operation(&one.app).await;
    let worker = one.app.clone();
    let begun = tokio::spawn(async move { worker.begin_self_update(&lease, id).await });
    for client in [&mut ann, &mut bob] {
        let event = told(client, id).await;
        assert_eq!(event.data["requiresAck"], true);
        assert_eq!(event.data["ackTimeoutMs"], 3000);
        assert!(event.data["startedAt"].is_string());
    }
    let ack = async |replica: &Replica, body: &Value| {
        answer(of_session(replica, Method::POST, &path(id)).json(body)).await
    };
    let answered = |answer: &Answer| (answer.status, answer.json()["status"].clone());
    // Another's, and one that nobody has.
    let mut forged = anns.clone();
    forged["clientToken"] = json!("tok-xyz");
    let unknown = json!({"clientId": "client-1", "clientToken": "tok-xyz"});
    for body in [&bobs, &forged, &unknown] {
        let refused = ack(&two, body).await;
        assert_eq!(
            answered(&refused),
            (403, json!("rejected")),
            "{}",
            refused.text
        );
        assert_eq!(refused.json()["operationId"], id.to_string());
        assert!(!refused.error().is_empty());
    }
    assert!(!begun.is_finished());
    for _ in 0..2 {
        let accepted = ack(&two, &anns).await;
        assert_eq!(answered(&accepted), (202, json!("accepted")));
        assert_eq!(accepted.json()["operationId"], id.to_string());
    }
    let bobs_ack = one.post(&path(id), &token, bobs).await;
    assert_eq!(answered(&bobs_ack), (202, json!("accepted")));
    begun.await.unwrap().unwrap();
    assert!(!one.app.store().awaits_acknowledgment(id).await.unwrap());

    for missing in ["clientId", "clientToken"] {
        let mut body = anns.clone();
        body.as_object_mut().unwrap().remove(missing);
        let refused = ack(&one, &body).await;
        let expected = format!("Missing required field: {missing}");
        assert_eq!((refused.status, refused.error()), (400, expected));
    }
    let blank = one.post(&path("%20"), &token, anns.clone()).await;
    assert_eq!(blank.error(), "Missing required field: operationId");
    let other = one.post(&path("op-abc123"), &token, anns).await;
    assert_eq!(answered(&other), (202, json!("ignored")));
    assert_eq!(other.json()["operationId"], "op-abc123");
}

#[tokio::test]
async fn one_who_does_not_answer_is_not_waited_for_longer_than_was_said() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica.owner_token(&database).await;
    let request = replica.request(Method::GET, "/api/v1/events/ui");
    let (_silent, its) = connected(request.bearer_auth(&token)).await;
    let (id, lease) = operation(&replica.app).await;
    let began = Instant::now();
    replica.app.begin_self_update(&lease, id).await.unwrap();
    let took = began.elapsed();
    assert!(took >= ACK_TIMEOUT - Duration::from_millis(200), "{took:?}");
    assert!(took < ACK_TIMEOUT + Duration::from_secs(10), "{took:?}");
    let late = replica.post(&path(id), &token, its).await;
    assert_eq!(late.status, 202);
    assert_eq!(late.json()["status"], "ignored");
    // A worker that takes it over asks nobody again, and waits no more.
    let began = Instant::now();
    replica.app.begin_self_update(&lease, id).await.unwrap();
    assert!(began.elapsed() < ACK_TIMEOUT);
}

#[tokio::test]
async fn without_clients_or_without_redis_nobody_is_waited_for() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica.owner_token(&database).await;
    let (alone, lease) = operation(&replica.app).await;
    replica.app.begin_self_update(&lease, alone).await.unwrap();

    let request = replica.request(Method::GET, "/api/v1/events/ui");
    let (mut client, _) = connected(request.bearer_auth(&token)).await;
    let store = Store::new(&StoreSettings {
        url: database.url().to_owned().into(),
        connections: 2,
    });
    let queue = Queue::new(&NO_REDIS.to_owned().into()).unwrap();
    let cut_off = App::new(store.unwrap(), queue, AppSettings::default());
    let (id, lease) = operation(&cut_off).await;
    cut_off.begin_self_update(&lease, id).await.unwrap();
    // Whom nobody has asked, nobody waits for.
    let asked = "SELECT count(*) FROM self_update_acks";
    let rows = database.client().await;
    let asked: i64 = rows.query_one(asked, &[]).await.unwrap().get(0);
    assert_eq!(asked, 0);
    // It is told all the same.
    let event = told(&mut client, id).await;
    assert_eq!(event.data["requiresAck"], false);
    assert_eq!(event.data["ackTimeoutMs"], 0);
}

#[tokio::test]
async fn only_what_replaces_plimsoll_has_a_status() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica.owner_token(&database).await;
    let (own, lease) = operation(&replica.app).await;
    let (other, _) = operation(&replica.app).await;
    replica.app.begin_self_update(&lease, own).await.unwrap();
    let status = async |id: &str| {
        let path = format!("/api/v1/self-update/{id}/status");
        replica.get(&path, &token).await
    };
    let found = status(&own.to_string()).await;
    let expected =
        json!({"operationId": own.to_string(), "status": "in-progress", "phase": "prepare"});
    assert_eq!((found.status, found.json()), (200, expected));
    assert_eq!(
        status(&other.to_string()).await.error(),
        "Update operation not found"
    );
    let bad = status("op-abc123").await;
    assert_eq!(bad.status, 400, "{}", bad.text);
}

/// The all-in-one process in a container, on a port of its own.
struct Contained {
    http: reqwest::Client,
    address: String,
    name: String,
    id: String,
    docker: Docker,
    _registry: Registry,
}

impl Contained {
    async fn start(binds: Vec<String>, settings: Vec<String>) -> Self {
        let (docker, registry) = (Docker::connect().await, Registry::start().await);
        let passwd = std::fs::read("/etc/passwd").unwrap();
        let group = std::fs::read("/etc/group").unwrap();
        for version in ["1.0.0", "1.1.0"] {
            let image = contained::image(version, "plimsoll", &[])
                .label("plimsoll.test", docker.id())
                // Whom its Postgres runs as.
                .file("etc/passwd", passwd.clone())
                .file("etc/group", group.clone());
            registry.push("plimsoll", version, &image).await;
        }
        let reference = registry.reference("plimsoll", "1.0.0");
        docker.pull(&reference).await;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let scope = format!("plimsoll.test={}", docker.id());
        let mut env = vec![
            format!("PLIMSOLL_LISTEN={address}"),
            format!("PLIMSOLL_WATCHER_LOCAL_SCOPE={scope}"),
            "PLIMSOLL_WATCHER_LOCAL_CRON=0 0 1 1 *".to_owned(),
            "PLIMSOLL_ANONYMOUS_AUTH_CONFIRM=true".to_owned(),
            "PLIMSOLL_UPDATE_POST_START_LIVENESS_GRACE_MS=1000".to_owned(),
            "PLIMSOLL_DATA_DIR=/data".to_owned(),
            "PATH=/usr/bin:/bin".to_owned(),
        ];
        env.extend(settings);
        let name = docker.name("plimsoll");
        let mut binds = binds;
        binds.push(contained::engine_socket());
        let body = ContainerCreateBody {
            image: Some(reference),
            env: Some(env),
            labels: Some(HashMap::from([(
                "dd.tag.include".to_owned(),
                r"^\d+\.\d+\.\d+$".to_owned(),
            )])),
            host_config: Some(contained::host_config(binds)),
            ..ContainerCreateBody::default()
        };
        let id = docker.run_with(&name, body).await;
        let contained = Self {
            http: reqwest::Client::new(),
            address,
            name,
            id,
            docker,
            _registry: registry,
        };
        let path = format!("/containers/{}", contained.id);
        wait::until_true("Plimsoll to see itself", SOON, async || {
            contained.get(&path).await.is_some()
        })
        .await;
        let path = format!("/containers/{}/watch", contained.id);
        let watched = answer(contained.request(Method::POST, &path)).await;
        assert_eq!(watched.json()["updateAvailable"], true, "{}", watched.text);
        contained
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://{}/api/v1{path}", self.address);
        self.http.request(method, url)
    }

    /// `None` while it does not answer, or otherwise than with 200.
    async fn get(&self, path: &str) -> Option<Value> {
        let answer = self.request(Method::GET, path).send().await.ok()?;
        match answer.status().as_u16() {
            200 => answer.json().await.ok(),
            _ => None,
        }
    }

    async fn update(&self) -> Answer {
        let path = format!("/containers/{}/update", self.id);
        answer(
            self.request(Method::POST, &path)
                .header("prefer", "wait=30"),
        )
        .await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plimsoll_replaces_itself_when_its_clients_have_answered() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let socket = redis.socket();
    let binds = vec![
        contained::directory_of(&database.socket()),
        contained::directory_of(&socket),
    ];
    let settings = vec![
        format!("DATABASE_URL={}", database.url()),
        format!("REDIS_URL={}", redis.url()),
    ];
    let own = Contained::start(binds, settings).await;
    let (mut client, its) = connected(own.request(Method::GET, "/events/ui")).await;
    let path = format!("/containers/{}/update", own.id);
    let request = own.request(Method::POST, &path);
    let accepted = answer(request.header("prefer", "respond-async")).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let operation: OperationId = accepted.json()["operationId"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let event = told(&mut client, operation).await;
    assert_eq!(event.data["requiresAck"], true);
    let path = format!("/events/ui/self-update/{operation}/ack");
    let ack = answer(own.request(Method::POST, &path).json(&its)).await;
    assert_eq!(ack.json()["status"], "accepted", "{}", ack.text);
    // It is away for a moment, and back with the end.
    let path = format!("/self-update/{operation}/status");
    let ended = wait::until("the new Plimsoll", 2 * SOON, async || {
        let status = own.get(&path).await?;
        (status["status"] != "in-progress").then_some(status)
    })
    .await;
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    assert_eq!(ended["phase"], "succeeded");
    assert!(ended["completedAt"].is_string());
    let now = own.docker.inspect(&own.name).await.unwrap();
    assert_ne!(now.id.as_deref(), Some(own.id.as_str()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plimsoll_does_not_replace_the_container_that_its_database_runs_in() {
    let data = shared().scratch();
    let binds = vec![format!("{}:/data", data.path().display())];
    let own = Contained::start(binds, Vec::new()).await;
    let started = own.docker.inspect(&own.id).await.unwrap().state.unwrap();
    let refused = own.update().await;
    assert!(refused.status >= 400, "{}", refused.text);
    let operations = format!("/containers/{}/update-operations", own.id);
    let history = own.get(&operations).await.unwrap();
    let last = &history["data"][0];
    assert_eq!(last["phase"], "failed", "nothing was touched: {last:#}");
    let why = last["lastError"].as_str().unwrap();
    assert!(why.contains("together with its database"), "{why}");
    assert!(
        refused.text.contains("together with its database"),
        "{}",
        refused.text
    );
    let path = format!("/self-update/{}/status", last["id"].as_str().unwrap());
    assert!(own.get(&path).await.is_none(), "nobody was told of it");
    let now = own.docker.inspect(&own.name).await.unwrap();
    assert_eq!(now.id.as_deref(), Some(own.id.as_str()));
    assert_eq!(now.state.unwrap().started_at, started.started_at);
}
