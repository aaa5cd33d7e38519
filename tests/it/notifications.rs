//! Telling people: rules, the outbox, and what arrives, with a real worker and a server that
//! answers what a test tells it to.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use plimsoll_support::hostile::{Answer, Hostile};
use plimsoll_support::{postgres::Database, redis::Redis, server::Server, trivy::Trivy, wait};
use reqwest::Method;
use serde_json::{Value, json};

use crate::replica::answer;
use crate::world::{SOON, World};

/// A service that can be switched off.
pub struct Service {
    pub server: Hostile,
    up: Arc<AtomicBool>,
}

impl Service {
    pub async fn start() -> Self {
        let up = Arc::new(AtomicBool::new(true));
        let is_up = up.clone();
        let server = Hostile::start(move |_| match is_up.load(Ordering::SeqCst) {
            true => Answer::json("{}"),
            false => Answer::new(503, "down"),
        })
        .await;
        Self { server, up }
    }

    pub fn switch(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook/hunter2hunter2", self.server.host())
    }

    /// The names of the containers that it was told of by this event, one for each request.
    pub fn told(&self, event: &str) -> Vec<String> {
        let received = self.server.received();
        let of_event = received
            .iter()
            .filter(|r| r.header("x-plimsoll-event") == Some(event));
        of_event
            .map(|r| {
                let body: Value = serde_json::from_str(&r.body).unwrap_or_default();
                body["name"].as_str().unwrap_or_default().to_owned()
            })
            .collect()
    }
}

pub async fn world(service: &Service, more: &[(&str, &str)]) -> World {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url());
    World::with(database, redis, api, |worker| {
        let worker = worker.env("DD_TRIGGER_HTTP_HOOK_URL", service.url());
        more.iter()
            .fold(worker, |worker, (name, value)| worker.env(name, value))
    })
    .await
}

pub async fn outbox(world: &World) -> Vec<Value> {
    let answer = world.get("/api/v1/notifications/outbox?limit=200").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["data"].as_array().unwrap().clone()
}

/// The only message of that event, once it is in that state.
async fn in_state(world: &World, event: &str, state: &str) -> Value {
    wait::until(&format!("{event} to be {state}"), SOON, async || {
        let all = outbox(world).await;
        let mut found = all.into_iter().filter(|m| m["rule"] == event);
        let one = found.next()?;
        assert!(found.next().is_none(), "only one message: {event}");
        (one["state"] == state).then_some(one)
    })
    .await
}

pub async fn deploy(world: &World) -> (String, String) {
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world.run("web", &image, &[]).await;
    let shown = world.get(&format!("/api/v1/containers/{id}")).await.json();
    (id, shown["name"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_update_is_told_of_once_and_its_end_too() {
    let service = Service::start().await;
    let world = world(&service, &[]).await;
    let (id, name) = deploy(&world).await;
    world.watch(&id).await;
    in_state(&world, "update-available", "delivered").await;
    // Again by a second look, and by a worker that knows nothing of the first.
    world.watch(&id).await;
    assert_eq!(service.told("update-available"), [name.as_str()]);

    let path = format!("/api/v1/containers/{id}/update");
    let updated = answer(world.authorised(Method::POST, &path)).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    in_state(&world, "update-applied", "delivered").await;
    assert_eq!(service.told("update-applied"), [name.as_str()]);
    assert_eq!(service.told("update-available").len(), 1);
    // What is told is not how it is told.
    let text = world.get("/api/v1/notifications/outbox").await.text;
    let triggers = world.get("/api/v1/triggers").await.text;
    assert!(!text.contains("hunter2") && !triggers.contains("hunter2"));
    let trigger = world.get("/api/v1/triggers/http/hook").await.json();
    assert_eq!(trigger["configuration"]["url"], "[REDACTED]");
    assert_eq!(trigger["configuration"]["mode"], "simple");
    let of_container = world
        .get(&format!("/api/v1/containers/{id}/triggers"))
        .await;
    assert!(of_container.status == 404 || of_container.text.contains("http.hook"));
}

#[tokio::test]
async fn what_a_service_refuses_is_sent_again_and_given_up_in_the_end() {
    let service = Service::start().await;
    service.switch(false);
    let world = world(&service, &[]).await;
    let (id, name) = deploy(&world).await;
    world.watch(&id).await;
    let waiting = wait::until("a failed attempt", SOON, async || {
        let all = outbox(&world).await;
        all.into_iter().find(|m| m["error"].is_string())
    })
    .await;
    assert_eq!(waiting["state"], "pending");
    assert_eq!(waiting["attempts"], 1);
    let error = waiting["error"].as_str().unwrap();
    assert!(
        error.contains("503") && !error.contains("hunter2"),
        "{error}"
    );

    // As if the waits had passed.
    let rows = world.database.client().await;
    let dead = wait::until("a dead letter", SOON, async || {
        let hurry = "UPDATE notification_outbox SET due_at = now() WHERE state = 'pending'";
        rows.execute(hurry, &[]).await.unwrap();
        let all = outbox(&world).await;
        all.into_iter().find(|m| m["state"] == "dead")
    })
    .await;
    assert_eq!(dead["attempts"], 5);
    assert_eq!(service.told("update-available").len(), 5);

    service.switch(true);
    let path = format!(
        "/api/v1/notifications/outbox/{}",
        dead["id"].as_str().unwrap()
    );
    let retried = answer(world.authorised(Method::POST, &format!("{path}/retry"))).await;
    assert_eq!(retried.status, 200, "{}", retried.text);
    in_state(&world, "update-available", "delivered").await;
    assert_eq!(service.told("update-available"), vec![name; 6]);

    let again = answer(world.authorised(Method::POST, &format!("{path}/retry"))).await;
    assert_eq!(again.status, 409, "{}", again.text);
    let deleted = answer(world.authorised(Method::DELETE, &path)).await;
    assert_eq!(deleted.status, 204);
    let deleted = answer(world.authorised(Method::DELETE, &path)).await;
    assert_eq!(deleted.status, 404);
    assert!(outbox(&world).await.is_empty());
}

#[tokio::test]
async fn a_worker_that_dies_loses_no_message() {
    let service = Service::start().await;
    service.switch(false);
    let mut world = world(&service, &[]).await;
    let (id, name) = deploy(&world).await;
    world.watch(&id).await;
    wait::until_true("a failed attempt", SOON, async || {
        outbox(&world).await.iter().any(|m| m["error"].is_string())
    })
    .await;
    world.worker.kill();
    // It died in the middle of an attempt, whose claim has run out since.
    let rows = world.database.client().await;
    let dying = "UPDATE notification_outbox SET state = 'sending', claim = gen_random_uuid(),
                        claim_expires_at = now() - interval '1 second'";
    rows.execute(dying, &[]).await.unwrap();
    service.switch(true);
    world.worker.start();
    in_state(&world, "update-available", "delivered").await;
    world.watch(&id).await;
    assert_eq!(service.told("update-available"), vec![name; 2]);
    assert_eq!(outbox(&world).await.len(), 1);
}

#[tokio::test]
async fn a_security_alert_is_told_of_once_for_what_was_found() {
    let (service, trivy) = (Service::start().await, Trivy::install());
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url()).env("DD_SECURITY_SCANNER", "trivy");
    let world = World::with(database, redis, api, |worker| {
        worker
            .env("DD_TRIGGER_HTTP_HOOK_URL", service.url())
            .env("DD_SECURITY_SCANNER", "trivy")
            .env("DD_SECURITY_TRIVY_COMMAND", trivy.command().display())
    })
    .await;
    let (id, name) = deploy(&world).await;
    let scan = async || {
        let path = format!("/api/v1/containers/{id}/scan");
        let scanned = answer(world.authorised(Method::POST, &path)).await;
        assert_eq!(scanned.status, 200, "{}", scanned.text);
    };
    let alerts = async || {
        let all = outbox(&world).await;
        all.iter().filter(|m| m["rule"] == "security-alert").count()
    };
    let audited = async || {
        let entries = world.get("/api/v1/audit?action=security-alert").await;
        entries.json()["total"].as_u64().unwrap()
    };
    trivy.finds(&[("CVE-2024-1", "MEDIUM")]);
    scan().await;
    assert_eq!((alerts().await, audited().await), (0, 0), "nothing serious");

    trivy.finds(&[("CVE-2024-1", "CRITICAL"), ("CVE-2024-2", "LOW")]);
    scan().await;
    in_state(&world, "security-alert", "delivered").await;
    assert_eq!(service.told("security-alert"), [name.as_str()]);
    let received = service.server.received();
    let body: Value = serde_json::from_str(&received.last().unwrap().body).unwrap();
    assert_eq!(
        body["security"]["scan"]["summary"]["critical"], 1,
        "{body:#}"
    );

    // The same, whatever else was found, is no news; as many others are.
    trivy.finds(&[("CVE-2024-1", "CRITICAL")]);
    scan().await;
    assert_eq!((alerts().await, audited().await), (1, 1));
    trivy.finds(&[("CVE-2024-3", "HIGH")]);
    scan().await;
    assert_eq!((alerts().await, audited().await), (2, 2));

    // Nobody hears of it once the rule is switched off.
    let path = "/api/v1/notifications/security-alert";
    let off = world.authorised(Method::PATCH, path);
    assert_eq!(
        answer(off.json(&json!({"enabled": false}))).await.status,
        200
    );
    trivy.finds(&[("CVE-2024-4", "HIGH")]);
    scan().await;
    assert_eq!((alerts().await, audited().await), (2, 3));
}

#[tokio::test]
async fn a_digest_waits_and_leaves_out_what_is_done() {
    let service = Service::start().await;
    let world = world(&service, &[("DD_TRIGGER_HTTP_HOOK_MODE", "batch+digest")]).await;
    let (id, _) = deploy(&world).await;
    world.watch(&id).await;
    wait::until_true("the batch to be delivered", SOON, async || {
        let all = outbox(&world).await;
        all.iter()
            .any(|m| m["form"] == "batch" && m["state"] == "delivered")
    })
    .await;
    let batch: Value = serde_json::from_str(&service.server.received()[0].body).unwrap();
    assert_eq!(batch.as_array().map(Vec::len), Some(1), "a batch is a list");
    let path = format!("/api/v1/containers/{id}/update");
    let updated = answer(world.authorised(Method::POST, &path)).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    // Its hour has come.
    let rows = world.database.client().await;
    let hurry = "UPDATE notification_outbox SET due_at = now() WHERE form = 'digest'";
    rows.execute(hurry, &[]).await.unwrap();
    wait::until_true("the digest to be withdrawn", SOON, async || {
        let all = outbox(&world).await;
        all.iter()
            .any(|m| m["form"] == "digest" && m["state"] == "withdrawn")
    })
    .await;
}

#[tokio::test]
async fn rules_choose_who_is_told() {
    let service = Service::start().await;
    let world = world(&service, &[]).await;
    let rules = world.get("/api/v1/notifications").await.json();
    assert_eq!(rules["total"], 5);
    let ids: Vec<&str> = rules["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| rule["id"].as_str().unwrap())
        .collect();
    assert_eq!(
        ids,
        [
            "update-available",
            "update-applied",
            "update-failed",
            "security-alert",
            "agent-disconnect"
        ]
    );
    assert_eq!(
        rules["data"][4],
        json!({
            "id": "agent-disconnect", "name": "Agent Disconnected",
            "description": "When a remote agent loses connection", "enabled": false, "triggers": [],
        })
    );
    wait::until_true("the trigger to be known", SOON, async || {
        world.get("/api/v1/triggers/http/hook").await.status == 200
    })
    .await;
    let change = async |id: &str, body: Value| {
        let path = format!("/api/v1/notifications/{id}");
        answer(world.authorised(Method::PATCH, &path).json(&body)).await
    };
    for (id, body, status, error) in [
        (
            "update-available",
            json!({}),
            400,
            "Invalid request parameters",
        ),
        (
            "update-available",
            json!({"name": "x"}),
            400,
            "Invalid request parameters",
        ),
        (
            "update-available",
            json!({"enabled": "yes"}),
            400,
            "Invalid request parameters",
        ),
        (
            "update-available",
            json!({"triggers": "x"}),
            400,
            "Invalid request parameters",
        ),
        (
            "nothing",
            json!({"enabled": true}),
            404,
            "Notification rule not found",
        ),
        (
            "update-available",
            json!({"triggers": ["slack.x", "http.hook", "docker.local"]}),
            400,
            "Unsupported notification triggers: slack.x, docker.local",
        ),
    ] {
        let answered = change(id, body.clone()).await;
        assert_eq!(answered.status, status, "{body}: {}", answered.text);
        assert_eq!(answered.json()["error"], error, "{body}");
    }
    let changed = change(
        "update-available",
        json!({"triggers": ["http.hook"], "x": 1}),
    )
    .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.json()["triggers"], json!(["http.hook"]));
    assert_eq!(changed.json()["enabled"], true);
    change("update-available", json!({"enabled": false})).await;
    let audit = world
        .get("/api/v1/audit?action=notification-rule-change")
        .await
        .json();
    assert_eq!(audit["total"], 2);

    let (id, _) = deploy(&world).await;
    world.watch(&id).await;
    assert!(outbox(&world).await.is_empty(), "the rule is switched off");
    // What was known before is no news.
    change("update-available", json!({"enabled": true})).await;
    world.watch(&id).await;
    assert!(outbox(&world).await.is_empty());
    let preview = world
        .authorised(
            Method::POST,
            "/api/v1/notifications/update-available/preview",
        )
        .json(&json!({ "containerId": id }));
    let preview = answer(preview).await.json();
    assert_eq!(preview["data"][0]["trigger"], "http.hook");
    let title = preview["data"][0]["title"].as_str().unwrap();
    assert!(title.starts_with("New tag found for container "), "{title}");
}

#[tokio::test]
async fn a_trigger_is_run_by_hand() {
    let service = Service::start().await;
    let world = world(&service, &[]).await;
    let (id, name) = deploy(&world).await;
    let run = async |path: &str, body: Option<Value>| {
        let request = world.authorised(Method::POST, path);
        answer(match body {
            Some(body) => request.json(&body),
            None => request,
        })
        .await
    };
    let done = run(&format!("/api/v1/containers/{id}/triggers/http/hook"), None).await;
    assert_eq!((done.status, done.text.as_str()), (200, "{}"));
    assert_eq!(service.told("run"), [name.as_str()]);
    let simulated = json!({"id": "x", "name": "simulated"});
    let done = run("/api/v1/triggers/http/hook", Some(simulated.clone())).await;
    assert_eq!((done.status, done.text.as_str()), (200, "{}"));
    assert_eq!(service.told("run"), [name.as_str(), "simulated"]);

    let of_agent = json!({"id": "x", "agent": "nas"});
    for (path, body, status, error) in [
        (
            "/api/v1/triggers/http/hook",
            json!({}),
            400,
            "Invalid trigger request body",
        ),
        (
            "/api/v1/triggers/http/hook",
            of_agent.clone(),
            400,
            "Cannot execute local trigger http.hook on remote container nas.x",
        ),
        (
            "/api/v1/triggers/http/no",
            simulated.clone(),
            404,
            "Error when running trigger http.no (trigger not found)",
        ),
        (
            "/api/v1/triggers/http/hook/other",
            of_agent,
            409,
            "The container x does not belong to the agent other",
        ),
    ] {
        let answered = run(path, Some(body)).await;
        assert_eq!(answered.status, status, "{path}: {}", answered.text);
        assert_eq!(answered.json()["error"], error);
    }
    let missing = run(&format!("/api/v1/containers/{id}/triggers/http/no"), None).await;
    assert_eq!(
        (missing.status, &missing.json()["error"]),
        (404, &json!("Trigger not found"))
    );
    service.switch(false);
    let failed = run("/api/v1/triggers/http/hook", Some(simulated)).await;
    assert_eq!(failed.status, 500, "{}", failed.text);
    assert_eq!(
        failed.json()["error"],
        "Error when running trigger http.hook"
    );
    let reason = failed.json()["details"]["reason"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(reason.contains("503"), "{reason}");
    let failed = run(&format!("/api/v1/containers/{id}/triggers/http/hook"), None).await;
    assert_eq!(failed.status, 500, "{}", failed.text);
    assert_eq!(
        failed.json()["error"],
        "Error when running trigger (type=http, name=hook)"
    );
}
