//! Registries that tell of pushes: who is believed, what is checked because of it, and how often.

use std::time::{Duration, Instant};

use base64::{Engine, prelude::BASE64_STANDARD};
use futures::{StreamExt, stream};
use plimsoll_app::WebhookTokens;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::registry::Registry;
use plimsoll_support::wait;
use reqwest::{Method, RequestBuilder};
use ring::hmac;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fleet::{Case, Fleet, PATIENCE, text};
use crate::replica::{Answer, Replica, answer, api_settings, users};

const SECRET: &str = "the secret of registries";
const TOKEN: &str = "the token of registries";
const PATH: &str = "/webhooks/registry";

fn hmac_of(key: &str, text: &[u8]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
    hmac::sign(&key, text).as_ref().to_vec()
}

/// As GitHub signs.
fn signed(request: RequestBuilder, key: &str, body: impl Into<String>) -> RequestBuilder {
    let body = body.into();
    let signature = format!("sha256={}", hex::encode(hmac_of(key, body.as_bytes())));
    request
        .header("content-type", "application/json")
        .header("x-hub-signature-256", signature)
        .body(body)
}

async fn fleet() -> Fleet {
    Fleet::start_with(2, |api| {
        api.env("DD_SERVER_WEBHOOK_ENABLED", "true")
            .env("DD_SERVER_WEBHOOK_TOKEN", TOKEN)
            .env("DD_SERVER_WEBHOOK_SECRET", SECRET)
    })
    .await
}

async fn deliver(fleet: &Fleet, api: usize, body: &Value) -> Answer {
    let request = fleet.request(api, Method::POST, PATH);
    answer(signed(request, SECRET, body.to_string())).await
}

async fn checks(fleet: &Fleet) -> i64 {
    let sql = "SELECT count(*) FROM jobs WHERE kind = 'pushed'";
    fleet.rows.query_one(sql, &[]).await.unwrap().get(0)
}

/// Until the container's candidate has this tag.
async fn candidate(fleet: &Fleet, name: &str, tag: &str) {
    wait::until_true("the push to be known", PATIENCE, async || {
        let found = fleet.listed(name).await;
        found["updateAvailable"] == true && found["result"]["tag"] == tag
    })
    .await;
}

#[tokio::test]
async fn a_real_registry_tells_of_a_push_and_what_may_is_updated() {
    let mut fleet = fleet().await;
    // The endpoint by its alias.
    let told = fleet.apis[1].url("/api/webhooks/registry");
    fleet.registry = Registry::start_telling(&told, TOKEN).await;
    let _worker = fleet
        .worker("local")
        .env("DD_TRIGGER_DOCKER_LOCAL_THRESHOLD", "all")
        .spawn();
    let case = |labels| Case {
        labels,
        ..Case::app()
    };
    let name = fleet.deploy("app", case(&[])).await;
    let auto = [("dd.trigger.include", "docker.local")];
    let updated = fleet.deploy("auto", case(&auto)).await;
    fleet.listed(&name).await;
    fleet.listed(&updated).await;
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    candidate(&fleet, &name, "1.1.0").await;
    let update: Uuid = wait::until("the update to be asked for", PATIENCE, async || {
        let sql = "SELECT id FROM update_operations WHERE container_name = $1";
        let row = fleet.rows.query_opt(sql, &[&updated]).await.unwrap();
        row.map(|row| row.get(0))
    })
    .await;
    assert_eq!(fleet.judged(update).await.0, End::Succeeded);
    // The registry tells of what the engine pulls, too, and asks for nothing by it.
    let audit = fleet.get(0, "/audit?action=webhook-registry").await;
    let entry = &audit["data"][0];
    assert_eq!(entry["status"], "success", "{audit:#}");
    assert!(
        text(entry, "details").starts_with("distribution: "),
        "{audit:#}"
    );
    let metrics = answer(fleet.request(0, Method::GET, "/../../metrics")).await;
    let counted = r#"dd_webhook_total{action="webhook-registry"}"#;
    assert!(metrics.text.contains(counted), "{}", metrics.text);
}

#[tokio::test]
async fn a_storm_of_pushes_is_one_check_and_the_last_push_is_not_lost() {
    let fleet = fleet().await;
    let _worker = fleet.worker("local").spawn();
    let name = fleet.deploy("app", Case::app()).await;
    fleet.listed(&name).await;
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    let push = json!({"image": fleet.registry.reference("app", "1.1.0")});
    let begun = Instant::now();
    let deliveries = (0..1000).map(|number| {
        let (fleet, push) = (&fleet, &push);
        async move {
            let sent = Instant::now();
            let answer = deliver(fleet, number % 2, push).await;
            (answer, sent.elapsed())
        }
    });
    let storm: Vec<_> = stream::iter(deliveries).buffered(200).collect().await;
    let took = begun.elapsed();
    for (answer, _) in &storm {
        assert_eq!(answer.status, 202, "{}", answer.text);
    }
    println!("1000 deliveries, 200 at a time, were answered in {took:?}");
    wait::took_at_most(begun, Duration::from_secs(10));
    let first = &storm[0].0.json()["result"];
    assert_eq!(first["total"], 1, "{first:#}");
    assert_eq!(first["matched"][0]["name"], name);
    assert_eq!(first["checks"], 1);
    assert_eq!(first["provider"], "generic");
    // At once, and then at most one in five seconds.
    let most = 2 + i64::try_from(took.as_secs() / 5).unwrap();
    let asked = checks(&fleet).await;
    assert!((1..=most).contains(&asked), "{asked} checks in {took:?}");
    candidate(&fleet, &name, "1.1.0").await;

    // One that comes while a check runs, or waits.
    fleet.publish("app", "1.2.0", Image::app("1.2.0")).await;
    assert_eq!(deliver(&fleet, 0, &push).await.status, 202);
    candidate(&fleet, &name, "1.2.0").await;
    let audited = fleet.get(0, "/audit?action=webhook-registry").await;
    assert_eq!(
        audited["total"],
        checks(&fleet).await,
        "one entry for each check"
    );
}

#[tokio::test]
async fn a_delivery_counts_once_on_all_replicas_and_again_when_redis_forgot() {
    let fleet = fleet().await;
    let worker = fleet.worker("local").spawn();
    let name = fleet.deploy("app", Case::app()).await;
    let closed = Case {
        labels: &[("dd.webhook.enabled", "false")],
        ..Case::app()
    };
    let closed = fleet.deploy("closed", closed).await;
    for name in [&name, &closed] {
        fleet.listed(name).await;
    }
    // Checks that were asked for stay.
    drop(worker);
    let push = |at: u32, repository: &str| {
        let url = fleet.registry.reference(repository, "1.1.0");
        json!({
            "type": "PUSH_ARTIFACT", "occur_at": at,
            "event_data": {"resources": [{"tag": "1.1.0", "resource_url": url}]},
        })
    };
    let with_id = |api: usize, id: &str, body: &Value| {
        let request = fleet.request(api, Method::POST, PATH);
        let request = request.header("x-github-delivery", id);
        answer(signed(request, SECRET, body.to_string()))
    };
    let result = |answer: &Answer| {
        let json = answer.json();
        let field = |name: &str| json["result"][name].clone();
        (
            answer.status,
            field("total"),
            field("checks"),
            field("duplicate"),
        )
    };
    let accepted = (202, json!(1), json!(1), json!(false));
    let known = (200, json!(1), json!(0), json!(true));
    let first = with_id(0, "one", &push(1, "app")).await;
    assert_eq!(result(&first), accepted, "{}", first.text);
    let matched = first.json()["result"]["matched"].clone();
    assert_eq!(
        matched[0]["name"], name,
        "not the one whose label forbids it"
    );
    // The same again, the same under another id, another under the same id.
    for (api, id, body) in [(1, "one", 1), (1, "two", 1), (0, "one", 2)] {
        let again = with_id(api, id, &push(body, "app")).await;
        assert_eq!(result(&again), known, "{id} {body}: {}", again.text);
    }
    let other = with_id(1, "three", &push(3, "app")).await;
    assert_eq!(result(&other), accepted, "{}", other.text);
    assert_eq!(checks(&fleet).await, 1, "it waits for both");
    let nobody = with_id(0, "four", &push(1, "other")).await;
    assert_eq!(result(&nobody), (200, json!(0), json!(0), json!(false)));
    let mut redis = fleet.redis.connection().await;
    let _: () = redis::cmd("FLUSHALL")
        .query_async(&mut redis)
        .await
        .unwrap();
    let forgotten = with_id(1, "one", &push(1, "app")).await;
    assert_eq!(result(&forgotten), accepted, "{}", forgotten.text);
}

async fn replica(
    limit: u32,
    tokens: WebhookTokens,
    secrets: &[&str],
) -> (Database, Redis, Replica) {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let mut app = users();
    app.webhooks = tokens;
    app.webhook_secrets = secrets.iter().map(|s| (*s).to_owned().into()).collect();
    let mut api = api_settings();
    api.rate_limit_webhook_max = limit;
    let replica = Replica::start_with(database.url(), &redis.url(), app, api).await;
    (database, redis, replica)
}

#[tokio::test]
async fn a_delivery_proves_itself_before_anything_of_it_is_read() {
    let token = || WebhookTokens::One(TOKEN.to_owned().into());
    let (database, _redis, replica) = replica(0, token(), &[SECRET, "the one before it"]).await;
    let ask = || replica.request(Method::POST, "/api/v1/webhooks/registry");
    let json = || ask().header("content-type", "application/json");
    let push = json!({"image": "registry.example.org/shop/web:1.2.0"}).to_string();
    let check = async |request: RequestBuilder, status: u16, expected: &str| {
        let got = answer(request).await;
        assert_eq!(got.status, status, "{expected}: {}", got.text);
        assert!(got.text.contains(expected), "{expected}: {}", got.text);
    };
    let nobody = "No container matches";
    // What proves nothing is not read.
    for body in [push.as_str(), "{ this is no JSON", ""] {
        let bad = "Invalid signature";
        check(signed(ask(), "another secret", body), 401, bad).await;
        check(
            json()
                .header("x-hub-signature-256", "sha256=00")
                .body(body.to_owned()),
            401,
            bad,
        )
        .await;
        let unsigned = json()
            .header("x-hub-signature", "sha1=00")
            .body(body.to_owned());
        check(unsigned, 401, "Missing signature or authorization header").await;
        check(
            json().bearer_auth(SECRET).body(body.to_owned()),
            401,
            "Invalid token",
        )
        .await;
    }
    // A token does not make up for a signature that is wrong.
    let both = signed(ask(), "another secret", push.as_str()).bearer_auth(TOKEN);
    check(both, 401, "Invalid signature").await;
    let in_the_address = ask()
        .query(&[("token", TOKEN)])
        .header("content-type", "application/json");
    check(in_the_address.body(push.clone()), 401, "Missing signature").await;

    for key in [SECRET, "the one before it"] {
        check(signed(ask(), key, push.as_str()), 200, nobody).await;
    }
    let own = format!("sha256={}", hex::encode(hmac_of(SECRET, push.as_bytes())));
    check(
        json()
            .header("x-plimsoll-signature-256", own)
            .body(push.clone()),
        200,
        nobody,
    )
    .await;
    let now = chrono::Utc::now().timestamp().to_string();
    let standard = hmac_of(SECRET, format!("msg_1.{now}.{push}").as_bytes());
    let standard = json()
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", &now)
        .header(
            "webhook-signature",
            format!("v1,{}", BASE64_STANDARD.encode(standard)),
        );
    check(standard.body(push.clone()), 200, nobody).await;
    check(json().bearer_auth(TOKEN).body(push.clone()), 200, nobody).await;
    check(
        json().basic_auth("any", Some(TOKEN)).body(push.clone()),
        200,
        nobody,
    )
    .await;
    let events = "application/vnd.docker.distribution.events.v2+json";
    let told = ask().bearer_auth(TOKEN).header("content-type", events);
    check(told.body(r#"{"events": []}"#), 200, "Nothing was pushed").await;

    check(signed(ask(), SECRET, "{ this is no JSON"), 400, "not JSON").await;
    check(
        signed(ask(), SECRET, r#"{"zen": 1}"#),
        422,
        "expected one of Docker Hub",
    )
    .await;
    check(
        signed(ask(), SECRET, " ".repeat(256 * 1024 + 1)),
        413,
        "larger than 256 kB",
    )
    .await;
    let text = ask()
        .header("content-type", "text/plain")
        .body(push.clone());
    check(text, 415, "Content-Type must be application/json").await;
    let rows = database.client().await;
    for table in ["jobs", "audit"] {
        let sql = format!("SELECT count(*) FROM {table}");
        let count: i64 = rows.query_one(&sql, &[]).await.unwrap().get(0);
        assert_eq!(count, 0, "{table}: nothing was changed");
    }
}

#[tokio::test]
async fn without_secret_and_token_nobody_is_let_in_and_guessing_is_limited() {
    let push = json!({"image": "nginx"}).to_string();
    let send = async |replica: &Replica, key: &str| {
        let request = replica.request(Method::POST, "/api/v1/webhooks/registry");
        answer(signed(request, key, push.as_str())).await.status
    };
    let (_database, _redis, off) = replica(0, WebhookTokens::Disabled, &[]).await;
    assert_eq!(send(&off, SECRET).await, 403);
    let (_database, _redis, limited) = replica(1, WebhookTokens::Disabled, &[SECRET]).await;
    for _ in 0..10 {
        assert_eq!(
            send(&limited, SECRET).await,
            200,
            "good ones are not counted"
        );
    }
    let guesses = [send(&limited, "a").await, send(&limited, "b").await];
    assert_eq!(guesses, [401, 401]);
    assert_eq!(send(&limited, "c").await, 429);
    let bearer = limited.request(Method::POST, "/api/v1/webhook/watch");
    assert_eq!(answer(bearer.bearer_auth(SECRET)).await.status, 403);
}
