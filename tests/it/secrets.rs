//! Two hundred secrets go through a whole installation that updates, fails, refuses and complains,
//! and none of them comes out where people look (reliability.md S-43, T27).

use std::collections::BTreeSet;

use bollard::{models::ContainerCreateBody, query_parameters::TagImageOptionsBuilder};
use plimsoll_support::{
    image::Image, postgres::Database, redis::Redis, registry::Registry, server::Server, unique,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    replica::{Answer, answer},
    world::World,
};

/// Everything that must not come out, and everything that came out.
#[derive(Default)]
struct Inquiry {
    secrets: Vec<(String, String)>,
    seen: Vec<(String, String)>,
}

impl Inquiry {
    /// A new secret.
    fn plant(&mut self, kind: &str) -> String {
        let secret = format!("planted-{kind}-{}", unique());
        self.add(kind, &secret);
        secret
    }

    /// A secret that somebody else made.
    fn add(&mut self, kind: &str, secret: &str) {
        self.secrets.push((kind.to_owned(), secret.to_owned()));
    }

    fn see(&mut self, place: &str, text: impl Into<String>) {
        self.seen.push((place.to_owned(), text.into()));
    }

    fn answer(&mut self, place: &str, answer: &Answer) {
        self.see(place, format!("{:?} {}", answer.headers, answer.text));
    }

    fn verdict(&self) {
        let distinct: BTreeSet<&str> = self.secrets.iter().map(|(_, s)| s.as_str()).collect();
        assert!(distinct.len() >= 200, "{} secrets", distinct.len());
        let mut leaks = Vec::new();
        for (place, text) in &self.seen {
            assert!(
                !text.is_empty(),
                "{place} says nothing, which proves nothing"
            );
            for (kind, secret) in &self.secrets {
                if let Some(at) = text.find(secret.as_str()) {
                    let before: String = text[..at].chars().rev().take(120).collect();
                    let before: String = before.chars().rev().collect();
                    leaks.push(format!("{kind} in {place}, after: {before}"));
                }
            }
        }
        assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    }
}

/// Settings full of secrets, for every process. Nobody answers at the addresses.
fn settings(inquiry: &mut Inquiry, bad_registry: &str) -> Vec<(String, String)> {
    let mut all: Vec<(String, String)> = Vec::new();
    let nowhere = "http://127.0.0.1:9";
    let mut set = |name: &str, value: String| all.push((format!("DD_{name}"), value));
    let mut secret = |kind: &str| inquiry.plant(kind);
    set("SERVER_WEBHOOK_ENABLED", "true".into());
    for name in ["WATCHALL", "WATCH", "UPDATE"] {
        set(&format!("SERVER_WEBHOOK_TOKENS_{name}"), secret("webhook"));
    }
    set("SERVER_WEBHOOK_SECRET", secret("webhook-secret"));
    set("SERVER_WEBHOOK_PREVIOUSSECRET", secret("webhook-secret"));
    set("SERVER_METRICS_TOKEN", secret("metrics"));
    set("SESSION_SECRET", secret("session-secret"));
    set("PUBLIC_URL", "http://127.0.0.1:9".into());
    set("AUTH_OIDC_CORP_DISCOVERY", nowhere.into());
    set("AUTH_OIDC_CORP_CLIENTID", "plimsoll".into());
    set("AUTH_OIDC_CORP_CLIENTSECRET", secret("oidc"));
    set("REGISTRY_CUSTOM_BAD_URL", format!("http://{bad_registry}"));
    set("REGISTRY_CUSTOM_BAD_LOGIN", "robot".into());
    set("REGISTRY_CUSTOM_BAD_PASSWORD", secret("registry"));
    for n in 0..8 {
        set(
            &format!("REGISTRY_CUSTOM_R{n}_URL"),
            format!("http://127.0.0.1:{}", 10 + n),
        );
        set(&format!("REGISTRY_CUSTOM_R{n}_LOGIN"), "robot".into());
        set(
            &format!("REGISTRY_CUSTOM_R{n}_PASSWORD"),
            secret("registry"),
        );
    }
    for n in 0..4 {
        set(
            &format!("TRIGGER_HTTP_H{n}_URL"),
            format!("{nowhere}/{}", secret("http-url")),
        );
        set(&format!("TRIGGER_HTTP_H{n}_AUTH_TYPE"), "bearer".into());
        set(
            &format!("TRIGGER_HTTP_H{n}_AUTH_BEARER"),
            secret("http-bearer"),
        );
        set(&format!("TRIGGER_GOTIFY_G{n}_URL"), nowhere.into());
        set(&format!("TRIGGER_GOTIFY_G{n}_TOKEN"), secret("gotify"));
        set(&format!("TRIGGER_NTFY_N{n}_URL"), nowhere.into());
        set(&format!("TRIGGER_NTFY_N{n}_TOPIC"), "updates".into());
        set(&format!("TRIGGER_NTFY_N{n}_AUTH_TOKEN"), secret("ntfy"));
        for kind in ["TEAMS", "MATTERMOST", "GOOGLECHAT"] {
            let url = format!("{nowhere}/{}", secret("hook-url"));
            set(&format!("TRIGGER_{kind}_X{n}_URL"), url);
        }
    }
    all
}

fn informed(mut server: Server, settings: &[(String, String)], format: &str) -> Server {
    for (name, value) in settings {
        server = server.env(name, value);
    }
    server
        .env("PLIMSOLL_LOG_LEVEL", "debug")
        .env("PLIMSOLL_LOG_FORMAT", format)
}

/// Names that tell what they hold, and values that tell it themselves.
fn environment(inquiry: &mut Inquiry) -> Vec<String> {
    let names = [
        "PASSWORD",
        "DB_PASSWD",
        "APP_SECRET",
        "API_TOKEN",
        "API_KEY",
        "STRIPE_APIKEY",
        "TLS_PRIVATE_KEY",
        "CREDENTIAL",
        "BASIC_AUTH",
        "AWS_ACCESS_KEY",
        "DB_PASS",
    ];
    let mut all = Vec::new();
    for n in 0..4 {
        for name in names {
            all.push(format!("{name}_{n}={}", inquiry.plant("environment")));
        }
        let password = inquiry.plant("url-password");
        all.push(format!("DATABASE_{n}=postgres://app:{password}@db/app"));
    }
    all
}

async fn run(world: &World, stem: &str, image: &str, env: Vec<String>) -> String {
    let name = world.docker.name(stem);
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        env: Some(env),
        ..Default::default()
    };
    let id = world.docker.run_with(&name, body).await;
    world.listed(&id).await;
    id
}

/// Every list and page that takes no parameters.
fn pages() -> Vec<String> {
    let document: Value = serde_json::from_str(&plimsoll_api::drydock::document()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .filter(|(path, item)| item.get("get").is_some() && !path.contains('{'))
        .map(|(path, _)| path.clone())
        // They do not end.
        .filter(|path| !path.contains("/events/") && !path.ends_with("/stream"))
        .collect()
}

async fn people(world: &World, inquiry: &mut Inquiry) {
    for n in 0..10 {
        let (name, password) = (format!("user{n}"), inquiry.plant("password"));
        let body = json!({"username": name, "password": password, "role": "operator"});
        let made = world.authorised(Method::POST, "/api/v1/users").json(&body);
        inquiry.answer("a made user", &answer(made).await);
        let login = json!({"username": name, "password": password});
        let login = world.request(Method::POST, "/auth/login").json(&login);
        let login = answer(login).await;
        let cookie = login.header("set-cookie").split(';').next().unwrap();
        let (_, session) = cookie.split_once('=').unwrap();
        inquiry.add("session", session);
        inquiry.see("the body of a login", &login.text);
        let token = json!({"name": format!("t{n}"), "scopes": ["system:read"]});
        let token = world
            .authorised(Method::POST, "/api/v1/tokens")
            .json(&token);
        let token = answer(token).await.json()["token"]
            .as_str()
            .unwrap()
            .to_owned();
        inquiry.add("token", &token);
        inquiry.answer("a page for a token", &{
            let page = world
                .request(Method::GET, "/api/v1/server")
                .bearer_auth(&token);
            answer(page).await
        });
        inquiry.answer("a page for a session", &{
            let page = world.request(Method::GET, "/auth/user");
            answer(page.header("cookie", cookie)).await
        });
        // What is wrong may still be somebody's secret elsewhere.
        let wrong = json!({"username": name, "password": inquiry.plant("wrong-password")});
        let wrong = world.request(Method::POST, "/auth/login").json(&wrong);
        inquiry.answer("a refused login", &answer(wrong).await);
        let bad = inquiry.plant("wrong-token");
        let refused = world.request(Method::GET, "/api/v1/app").bearer_auth(bad);
        inquiry.answer("a refused token", &answer(refused).await);
        let bad = inquiry.plant("wrong-webhook");
        let refused = world
            .request(Method::POST, "/api/v1/webhook/watch")
            .bearer_auth(bad);
        inquiry.answer("a refused webhook", &answer(refused).await);
        let bad = inquiry.plant("wrong-session");
        let refused = world.request(Method::GET, "/auth/user");
        let refused = refused.header("cookie", format!("drydock.sid={bad}"));
        inquiry.answer("a refused session", &answer(refused).await);
        let (state, code) = (inquiry.plant("oidc-state"), inquiry.plant("oidc-code"));
        let back = format!("/auth/oidc/corp/cb?state={state}&code={code}");
        inquiry.answer(
            "a refused callback",
            &answer(world.request(Method::GET, &back)).await,
        );
        let malformed = format!("{{\"username\": \"{}", inquiry.plant("malformed"));
        let malformed = world
            .request(Method::POST, "/auth/login")
            .header("content-type", "application/json")
            .body(malformed);
        inquiry.answer("a malformed login", &answer(malformed).await);
    }
    let away = world.request(Method::GET, "/auth/oidc/corp/redirect");
    inquiry.answer("a provider that is away", &answer(away).await);
}

#[tokio::test]
async fn of_two_hundred_secrets_none_comes_out() {
    let mut inquiry = Inquiry::default();
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let closed = Registry::start_with_basic_auth().await;
    let settings = settings(&mut inquiry, &closed.host());
    let api = informed(Server::api(database.url(), &redis.url()), &settings, "text");
    let world = World::with(database, redis, api, |worker| {
        informed(worker, &settings, "json")
    })
    .await;
    let other = Server::api(world.database.url(), &world.redis.url());
    let other = informed(other, &settings, "json").ready().await;
    let other_worker =
        crate::world::worker(world.database.url(), &world.redis.url(), &world.docker);
    let other_worker = informed(other_worker, &settings, "text").spawn();

    // One update succeeds, one fails and goes back, and one registry refuses.
    let image = world.publish("good", &["1.0.0", "1.1.0"]).await;
    let good = run(&world, "good", &image, environment(&mut inquiry)).await;
    let image = world.publish("bad", &["1.0.0"]).await;
    let broken = Image::exits("1.1.0", 3, "cannot start").label("plimsoll.test", world.docker.id());
    world.registry.push("bad", "1.1.0", &broken).await;
    let bad = run(&world, "bad", &image, environment(&mut inquiry)).await;
    let tag = TagImageOptionsBuilder::default()
        .repo(&format!("{}/closed", closed.host()))
        .tag("1.0.0")
        .build();
    world
        .docker
        .client()
        .tag_image(&image, Some(tag))
        .await
        .unwrap();
    let image = format!("{}/closed:1.0.0", closed.host());
    let refused = run(&world, "closed", &image, environment(&mut inquiry)).await;
    for id in [&good, &bad, &refused] {
        let watched = world.watch(id).await;
        inquiry.see("a watched container", watched.to_string());
        for what in ["preview", "update"] {
            let path = format!("/api/v1/containers/{id}/{what}");
            let done = answer(world.authorised(Method::POST, &path)).await;
            inquiry.answer(what, &done);
        }
    }
    people(&world, &mut inquiry).await;

    let mut paths = pages();
    for id in [&good, &bad, &refused] {
        for part in ["", "/backups", "/triggers", "/update-operations"] {
            paths.push(format!("/api/v1/containers/{id}{part}"));
        }
    }
    for path in paths {
        let page = world.get(&path).await;
        inquiry.answer(&path, &page);
        let page = other.url(&path);
        let page = reqwest::Client::new().get(page).bearer_auth(&world.token);
        inquiry.answer(&format!("{path} of the other replica"), &answer(page).await);
    }
    // Not the table of operations: how the old container was made is there, to make it again.
    let rows = world.database.client().await;
    for table in ["events", "audit", "components"] {
        let query = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t");
        let text: String = rows.query_one(&query, &[]).await.unwrap().get(0);
        inquiry.see(table, text);
    }
    for (name, server) in [
        ("the API's log", &world.api),
        ("the other API's log", &other),
        ("the worker's log", &world.worker),
        ("the other worker's log", &other_worker),
    ] {
        inquiry.see(name, server.log());
    }
    inquiry.verdict();
}
