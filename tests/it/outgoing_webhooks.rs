//! Outgoing webhooks: what receivers get, whatever becomes of them and of the workers that send.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use plimsoll_domain::{ids::WatcherRef, webhook::PASSING};
use plimsoll_support::{
    hostile::{Answer as Reply, Hostile, Received},
    postgres::Database,
    redis::Redis,
    server::Server,
    standard_webhooks::verify,
    wait,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    reads::{container, observe},
    replica::{Answer, Replica, answer},
    stream::Client,
    world::{SOON, World},
};

const ENDPOINTS: &str = "/api/v1/webhook-endpoints";

/// A receiver that answers with the status it is told to.
struct Receiver {
    server: Hostile,
    status: Arc<AtomicU16>,
}

impl Receiver {
    async fn start() -> Self {
        let status = Arc::new(AtomicU16::new(204));
        let now = status.clone();
        let server = Hostile::start(move |_| {
            let status = now.load(Ordering::SeqCst);
            let reply = Reply::new(status, "x".repeat(2000));
            match status {
                302 => reply.with("location", "/elsewhere"),
                200 => Reply::endless(1 << 40),
                204 => Reply::new(204, ""),
                _ => reply,
            }
        })
        .await;
        Self { server, status }
    }

    fn answers(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn url(&self) -> String {
        format!("http://{}/hooks/hunter2hunter2", self.server.host())
    }

    fn received(&self) -> Vec<Received> {
        self.server.received()
    }

    /// Once there are so many.
    async fn has(&self, number: usize) -> Vec<Received> {
        wait::until(&format!("{number} webhooks"), SOON, async || {
            let received = self.received();
            (received.len() >= number).then_some(received)
        })
        .await
    }
}

fn id(request: &Received) -> &str {
    request.header("webhook-id").expect("an id")
}

fn types(bodies: &[Value]) -> Vec<&str> {
    bodies.iter().map(|b| b["type"].as_str().unwrap()).collect()
}

/// An API replica, and workers that watch nothing.
struct Scene {
    replica: Replica,
    token: String,
    rows: plimsoll_support::postgres::Client,
    database: Database,
    redis: Redis,
}

impl Scene {
    async fn start() -> Self {
        let (database, redis) = (Database::migrated().await, Redis::start().await);
        let replica = Replica::start(&database, &redis).await;
        Self {
            token: replica.owner_token(&database).await,
            rows: database.client().await,
            replica,
            database,
            redis,
        }
    }

    fn worker(&self) -> Server {
        Server::worker(self.database.url(), &self.redis.url())
            .env("PLIMSOLL_WATCHER_ELSEWHERE_SCOPE", "plimsoll.test=nobody")
            .env("PLIMSOLL_WATCHER_ELSEWHERE_CRON", "0 0 1 1 *")
            .spawn()
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Answer {
        let request = self.replica.request(method, &format!("{ENDPOINTS}{path}"));
        answer(request.bearer_auth(&self.token).json(&body)).await
    }

    /// Its path and its secret.
    async fn endpoint(&self, url: &str, events: &[&str]) -> (String, String) {
        let body = json!({"url": url, "events": events});
        let made = self.ask(Method::POST, "", body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let made = made.json();
        let text = |name: &str| made[name].as_str().unwrap().to_owned();
        (format!("/{}", text("id")), text("secret"))
    }

    async fn test(&self, endpoint: &str) -> Answer {
        let path = format!("{endpoint}/test");
        self.ask(Method::POST, &path, json!({})).await
    }

    async fn get(&self, path: &str) -> Value {
        let path = format!("{ENDPOINTS}{path}");
        self.replica.get(&path, &self.token).await.json()
    }

    /// Of the newest delivery, once it is in that state.
    async fn newest(&self, endpoint: &str, state: &str) -> Value {
        let path = format!("{endpoint}/deliveries?state={state}");
        wait::until(state, SOON, async || {
            let found = self.get(&path).await["data"][0].clone();
            found.is_object().then_some(found)
        })
        .await
    }

    async fn sql(&self, statement: &str) {
        self.rows.execute(statement, &[]).await.unwrap();
    }

    /// As if the waits had passed.
    async fn hurry(&self) {
        self.sql("UPDATE webhook_deliveries SET due_at = now() WHERE state = 'pending'")
            .await;
    }

    async fn happens(&self, name: &str, number: u64) {
        let facts = container(name, number);
        let observed = plimsoll_app::observations::Observed {
            present: vec![facts],
            gone: Vec::new(),
        };
        let watcher = WatcherRef::local("local");
        self.replica.app.observe(&watcher, &observed).await.unwrap();
    }
}

#[tokio::test]
async fn an_update_is_told_as_the_stream_tells_it() {
    let receiver = Receiver::start().await;
    let world = World::start().await;
    let stream = world.authorised(Method::GET, "/api/v1/events/ui");
    let mut stream = Client::open(stream, None).await;
    let hello = stream.next().await.unwrap();
    assert_eq!(hello.name, "dd:connected");
    let body = json!({"url": receiver.url(), "description": "all"});
    let made = answer(world.authorised(Method::POST, ENDPOINTS).json(&body)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    assert_eq!(made["events"], json!(["*"]));
    let secret = made["secret"].as_str().unwrap().to_owned();

    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let container = world
        .run("web", &image, &[("dd.update.stability", "1")])
        .await;
    world.watch(&container).await;
    let path = format!("/api/v1/containers/{container}/update");
    let updated = answer(world.authorised(Method::POST, &path)).await;
    assert_eq!(updated.status, 200, "{}", updated.text);

    let mut told = Vec::new();
    loop {
        let event = stream.next().await.expect("the stream goes on");
        // What has no id is no event: heartbeats. How far something is, no endpoint is told.
        if event.id.is_none() || PASSING.contains(&event.name.as_str()) {
            continue;
        }
        let ends =
            event.name == "dd:update-operation-changed" && event.data["status"] == "succeeded";
        told.push(event);
        if ends {
            break;
        }
    }
    let received = receiver.has(told.len()).await;
    let mut ids: Vec<&str> = Vec::new();
    for (request, event) in received.iter().zip(&told) {
        let body = verify(&secret, request).unwrap();
        assert_eq!(
            (&body["type"], &body["data"]),
            (&json!(event.name), &event.data)
        );
        assert!(body["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert!(!ids.contains(&id(request)), "each has an id of its own");
        ids.push(id(request));
    }

    // The secret was shown once.
    let own = format!("{ENDPOINTS}/{}", made["id"].as_str().unwrap());
    for path in [
        ENDPOINTS,
        &own,
        &format!("{own}/deliveries"),
        "/api/v1/audit",
    ] {
        let page = world.get(path).await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(!page.text.contains(&secret), "{path}");
    }
    let delivered = world.get(&format!("{own}/deliveries")).await.json();
    let last = &delivered["data"][0];
    assert_eq!(
        (&last["state"], &last["statusCode"]),
        (&json!("delivered"), &json!(204))
    );
    for log in [world.api.log(), world.worker.log()] {
        assert!(!log.contains(&secret) && !log.contains("hunter2"));
    }
    wait::until_true("the deliveries to be counted", SOON, async || {
        let metrics = world.get("/metrics").await.text;
        let counted = "plimsoll_webhook_deliveries_total{outcome=\"delivered\"} ";
        let value = metrics.split_once(counted).and_then(|(_, rest)| {
            let (value, _) = rest.split_once('\n')?;
            value.parse::<usize>().ok()
        });
        value.is_some_and(|value| value >= told.len())
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_comes_again_under_the_same_id_and_holds_up_nobody() {
    let scene = Scene::start().await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    let (endpoint, secret) = scene
        .endpoint(&receiver.url(), &["dd:container-added"])
        .await;
    let (_, other_secret) = scene.endpoint(&other.url(), &["*"]).await;
    receiver.answers(503);
    let _worker = scene.worker();
    scene.happens("a", 1).await;
    let failed = wait::until("a failed attempt", SOON, async || {
        let found = scene.get(&format!("{endpoint}/deliveries")).await["data"][0].clone();
        found["error"].is_string().then_some(found)
    })
    .await;
    assert_eq!(
        (&failed["state"], &failed["attempts"]),
        (&json!("pending"), &json!(1))
    );
    assert_eq!(failed["statusCode"], 503);
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("xxx") && error.len() < 300, "{error}");
    assert!(scene.get(&endpoint).await["failingSince"].is_string());
    // The other one has it long since, and so has this one what came later.
    let told = verify(&other_secret, &other.has(1).await[0]).unwrap();
    assert_eq!(told["data"]["name"], "a");
    receiver.answers(302);
    scene.happens("b", 2).await;
    receiver.has(2).await;
    receiver.answers(200);
    scene.hurry().await;
    let received = receiver.has(4).await;
    let names: Vec<Value> = received
        .iter()
        .map(|request| verify(&secret, request).unwrap()["data"]["name"].clone())
        .collect();
    assert_eq!(names, ["a", "b", "a", "b"]);
    assert_eq!(id(&received[0]), id(&received[2]));
    assert_eq!(id(&received[1]), id(&received[3]));
    let paths: Vec<&str> = received.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(
        paths, ["/hooks/hunter2hunter2"; 4],
        "no redirect is followed"
    );
    wait::until_true("both to be noted", SOON, async || {
        let done = scene
            .get(&format!("{endpoint}/deliveries?state=delivered"))
            .await;
        done["total"] == 2
    })
    .await;
    let healthy = scene.get(&endpoint).await;
    assert!(healthy.get("failingSince").is_none(), "{healthy}");

    // The tenth attempt is the last, unless somebody asks for more.
    receiver.answers(500);
    assert_eq!(scene.test(&endpoint).await.status, 202);
    receiver.has(5).await;
    scene.newest(&endpoint, "pending").await;
    scene
        .sql("UPDATE webhook_deliveries SET attempts = 9 WHERE state = 'pending'")
        .await;
    scene.hurry().await;
    let dead = scene.newest(&endpoint, "dead").await;
    assert_eq!(
        (&dead["attempts"], &dead["type"]),
        (&json!(10), &json!("dd:webhook-test"))
    );
    receiver.answers(204);
    let dead = dead["id"].as_str().unwrap();
    let retry = format!("{endpoint}/deliveries/{dead}/retry");
    let retried = scene.ask(Method::POST, &retry, json!({})).await;
    assert_eq!(retried.status, 200, "{}", retried.text);
    assert_eq!(retried.json()["state"], "pending");
    let received = receiver.has(7).await;
    assert!(received[4..].iter().all(|request| id(request) == dead));
    wait::until_true("it to be noted", SOON, async || {
        scene.ask(Method::POST, &retry, json!({})).await.status == 409
    })
    .await;

    // Who is gone is left alone, and so is who fails for days.
    for (status, reason) in [(410, "410 Gone"), (500, "has failed since")] {
        receiver.answers(status);
        scene
            .sql("UPDATE webhook_endpoints SET failing_since = now() - interval '121 hours'")
            .await;
        assert_eq!(scene.test(&endpoint).await.status, 202);
        wait::until_true(reason, SOON, async || {
            let shown = scene.get(&endpoint).await;
            let why = shown["disabledReason"].as_str().unwrap_or_default();
            shown["enabled"] == false && why.contains(reason)
        })
        .await;
        let entries = "/api/v1/audit?action=webhook-endpoint-disabled";
        let entries = scene.replica.get(entries, &scene.token).await;
        assert!(entries.text.contains(reason) && !entries.text.contains("hunter2"));
        assert_eq!(scene.test(&endpoint).await.status, 409);
        let on = scene
            .ask(Method::PATCH, &endpoint, json!({"enabled": true}))
            .await;
        assert_eq!(on.json().get("disabledReason"), None, "{}", on.text);
    }
}

#[tokio::test]
async fn a_worker_that_dies_sends_again_and_two_send_each_event_once_and_in_order() {
    let scene = Scene::start().await;
    let slow = Hostile::start(|_| Reply::new(204, "").after(Duration::from_secs(12))).await;
    let url = format!("http://{}/", slow.host());
    let (endpoint, secret) = scene.endpoint(&url, &["*"]).await;
    let mut worker = scene.worker();
    scene.happens("a", 1).await;
    wait::until_true("the event to be sent", SOON, async || {
        slow.received().len() == 1
    })
    .await;
    worker.kill();
    let under_way = scene.newest(&endpoint, "sending").await;
    scene
        .sql("UPDATE webhook_endpoints SET claim_expires_at = now() - interval '1 second'")
        .await;
    worker.start();
    wait::until_true("the event to be sent again", SOON, async || {
        slow.received().len() == 2
    })
    .await;
    let twice = slow.received();
    assert_eq!(id(&twice[0]), id(&twice[1]));
    assert_eq!(under_way["id"], id(&twice[0]));
    assert_eq!(verify(&secret, &twice[1]).unwrap()["data"]["name"], "a");

    let receiver = Receiver::start().await;
    let (_, secret) = scene.endpoint(&receiver.url(), &["*"]).await;
    let _other = scene.worker();
    wait::until_true("both workers to be at work", SOON, async || {
        let at_work = "SELECT count(*) FROM workers";
        let row = scene.rows.query_one(at_work, &[]).await.unwrap();
        // With the one that was killed.
        row.get::<_, i64>(0) == 3
    })
    .await;
    for number in 1..=30 {
        scene.happens(&format!("c{number}"), number + 10).await;
    }
    receiver.has(30).await;
    let added = "SELECT payload::jsonb->>'name' FROM events WHERE type = 'dd:container-added'
                  AND payload::jsonb->>'name' LIKE 'c%' ORDER BY xid, id";
    let rows = scene.rows.query(added, &[]).await.unwrap();
    let added: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    wait::until_true("everything to be noted", SOON, async || {
        let open = "SELECT count(*) FROM webhook_deliveries d JOIN webhook_endpoints e
                        ON e.id = d.endpoint_id WHERE d.state <> 'delivered' AND e.url LIKE '%hunter2%'";
        scene.rows.query_one(open, &[]).await.unwrap().get::<_, i64>(0) == 0
    })
    .await;
    let received = receiver.received();
    let told: Vec<String> = received
        .iter()
        .map(|request| {
            verify(&secret, request).unwrap()["data"]["name"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(told, added);
}

#[tokio::test]
async fn keys_change_without_a_break_and_a_gap_is_told() {
    let scene = Scene::start().await;
    let receiver = Receiver::start().await;
    let (endpoint, old) = scene
        .endpoint(&receiver.url(), &["dd:container-added"])
        .await;
    let rotate = format!("{endpoint}/rotate-secret");
    let rotated = scene.ask(Method::POST, &rotate, json!({})).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text);
    let rotated = rotated.json();
    assert!(rotated["previousSecretExpiresAt"].is_string());
    let new = rotated["secret"].as_str().unwrap();
    assert_ne!(new, old);
    // All of this happens while nobody sends, and some of it is forgotten by then.
    for number in 1..=4 {
        scene.happens(&format!("c{number}"), number).await;
    }
    let forget = "DELETE FROM events WHERE id <= (SELECT max(id) - 1 FROM events)";
    scene.sql(forget).await;
    let _worker = scene.worker();
    let received = receiver.has(2).await;
    let bodies: Vec<Value> = received.iter().map(|r| verify(new, r).unwrap()).collect();
    assert_eq!(types(&bodies), ["dd:resync-required", "dd:container-added"]);
    assert_eq!(bodies[0]["data"], json!({"reason": "too-old"}));
    assert_eq!(bodies[1]["data"]["name"], "c4");
    for request in &received {
        verify(&old, request).expect("the old key signs too");
    }
    scene
        .sql("UPDATE webhook_endpoints SET old_secret_until = now() - interval '1 second'")
        .await;
    assert_eq!(scene.test(&endpoint).await.status, 202);
    let last = &receiver.has(3).await[2];
    assert_eq!(verify(new, last).unwrap()["type"], "dd:webhook-test");
    verify(&old, last).expect_err("the old key signs no more");

    // What is switched off waits.
    let off = scene
        .ask(Method::PATCH, &endpoint, json!({"enabled": false}))
        .await;
    assert_eq!(off.json()["enabled"], false);
    scene.happens("later", 9).await;
    scene
        .ask(Method::PATCH, &endpoint, json!({"enabled": true}))
        .await;
    let told = verify(new, &receiver.has(4).await[3]).unwrap();
    assert_eq!(told["data"]["name"], "later");
}

#[tokio::test]
async fn endpoints_are_checked_when_they_are_written() {
    let scene = Scene::start().await;
    observe(&scene.replica.app, vec![container("before", 1)]).await;
    let good = "https://127.0.0.1:9/hook";
    for (body, why) in [
        (
            json!({"url": "https://169.254.169.254/latest"}),
            "169.254.169.254",
        ),
        (
            json!({"url": "http://[::ffff:a9fe:a9fe]/"}),
            "does not connect to",
        ),
        (json!({"url": "http://93.184.216.34/"}), "without https"),
        (json!({"url": "https://me:pw@127.0.0.1/"}), "no credentials"),
        (json!({"url": "file:///etc/passwd"}), "https://"),
        (json!({"url": good, "events": []}), "at least one event"),
        (
            json!({"url": good, "events": ["dd:nothing"]}),
            "there is no event",
        ),
        (
            json!({"url": good, "description": "x".repeat(201)}),
            "description",
        ),
    ] {
        let refused = scene.ask(Method::POST, "", body.clone()).await;
        assert_eq!(refused.status, 400, "{body} {}", refused.text);
        assert!(refused.error().contains(why), "{body} {}", refused.text);
    }
    assert_eq!(scene.get("").await["total"], 0);
    let (endpoint, _) = scene
        .endpoint(good, &["dd:scan-started", "dd:scan-started"])
        .await;
    let moved = json!({"url": "https://169.254.169.254/"});
    let nulls = json!({"enabled": false, "url": null});
    for body in [moved, nulls, json!({}), json!({"events": ["no"]})] {
        let refused = scene.ask(Method::PATCH, &endpoint, body.clone()).await;
        assert_eq!(refused.status, 400, "{body} {}", refused.text);
    }
    let shown = scene.get(&endpoint).await;
    assert_eq!(
        (&shown["url"], &shown["events"]),
        (&json!(good), &json!(["dd:scan-started"]))
    );
    assert_eq!(
        scene.get(&format!("{endpoint}/deliveries")).await["total"],
        0
    );
    let nobody = "/00000000-0000-0000-0000-000000000000";
    let retry = format!("{endpoint}/deliveries{nobody}/retry");
    assert_eq!(scene.ask(Method::POST, &retry, json!({})).await.status, 404);
    for (method, path) in [
        (Method::GET, String::new()),
        (Method::DELETE, String::new()),
        (Method::POST, "/test".to_owned()),
        (Method::POST, "/rotate-secret".to_owned()),
        (Method::GET, "/deliveries".to_owned()),
    ] {
        for id in [nobody, "/none"] {
            let path = format!("{id}{path}");
            let lost = scene.ask(method.clone(), &path, json!({})).await;
            assert_eq!(lost.status, 404, "{method} {path}");
        }
    }
    for _ in 1..50 {
        scene.endpoint(good, &["*"]).await;
    }
    let one_more = scene.ask(Method::POST, "", json!({"url": good})).await;
    assert_eq!(one_more.status, 409, "{}", one_more.text);
    let gone = scene.ask(Method::DELETE, &endpoint, json!({})).await;
    assert_eq!(gone.status, 204);
    assert_eq!(scene.get("").await["total"], 49);
}
