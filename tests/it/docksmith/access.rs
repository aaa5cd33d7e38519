//! Where the dialect is, who may use it, and how it refuses.

use std::net::SocketAddr;

use plimsoll_api::DocksmithAccess;
use plimsoll_domain::access::Role;
use plimsoll_support::{postgres::Database, redis::Redis};
use reqwest::Method;

use crate::replica::{Answer, Replica, answer, api_settings, users};

/// Where a request goes in.
fn own(replica: &Replica) -> SocketAddr {
    replica.docksmith
}

async fn ask(replica: &Replica, at: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    send(replica, Method::GET, at, path, headers).await
}

async fn send(
    replica: &Replica,
    method: Method,
    at: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let url = format!("http://{at}{path}");
    let mut request = replica.client.request(method, url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    answer(request).await
}

/// The whole form of an error, by its code.
fn is_error(answer: &Answer, status: u16, code: &str) {
    let json = answer.json();
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(json["success"], false, "{}", answer.text);
    assert_eq!(json["error"]["code"], code, "{}", answer.text);
    assert!(json["error"]["message"].is_string(), "{}", answer.text);
    assert!(json["timestamp"].is_string() && json["version"].is_string());
}

#[tokio::test]
async fn the_dialect_is_at_its_prefix_and_at_the_root_of_its_own_listener() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    for (at, path) in [
        (replica.address, "/docksmith/api/health"),
        (own(&replica), "/api/health"),
    ] {
        let health = ask(&replica, at, path, &[]).await;
        let json = health.json();
        assert_eq!(health.status, 200, "{}", health.text);
        assert_eq!(json["status"], "ok");
        assert_eq!(json["data"]["services"]["storage"], true);
        assert!(json["version"].is_string() && json["success"] == true);
        let none = ask(&replica, at, &path.replace("health", "nowhere"), &[]).await;
        is_error(&none, 404, "NOT_FOUND");
        let method = send(&replica, Method::PUT, at, path, &[]).await;
        is_error(&method, 405, "METHOD_NOT_ALLOWED");
        assert_eq!(method.header("allow"), "GET, HEAD");
    }
    // Neither is in the other's place.
    let main = ask(&replica, replica.address, "/api/check", &[]).await;
    assert_eq!(main.status, 404);
    assert_eq!(main.error(), "Route not found");
    let own = ask(&replica, own(&replica), "/api/v1/containers", &[]).await;
    is_error(&own, 404, "NOT_FOUND");
}

#[tokio::test]
async fn a_request_keeps_its_own_name_or_gets_one() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let at = own(&replica);
    let named = ask(&replica, at, "/api/health", &[("x-correlation-id", "mine")]).await;
    assert_eq!(named.header("x-correlation-id"), "mine");
    let unnamed = ask(&replica, at, "/api/health", &[]).await;
    assert_eq!(unnamed.header("x-correlation-id").len(), 32);
}

#[tokio::test]
async fn a_credential_is_needed_unless_only_this_machine_can_ask() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica
        .token(&database, Role::Viewer, &["containers:read"])
        .await;
    let bearer = format!("Bearer {token}");
    let session = replica.session("viewer").await;
    let main = replica.address;
    let path = "/docksmith/api/operations";
    is_error(&ask(&replica, main, path, &[]).await, 401, "UNAUTHORIZED");
    for (name, value) in [("authorization", &bearer), ("cookie", &session)] {
        let answer = ask(&replica, main, path, &[(name, value)]).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
    }
    // The dialect's own listener is on loopback here.
    let (own, path) = (own(&replica), "/api/operations");
    assert_eq!(ask(&replica, own, path, &[]).await.status, 200);
    // A wrong credential is never taken for none.
    let wrong = [("authorization", "Bearer plim_wrong")];
    is_error(&ask(&replica, own, path, &wrong).await, 401, "UNAUTHORIZED");
    // A name that somebody else made point here, and a proxy in between.
    for header in [("host", "evil.example"), ("x-forwarded-for", "192.0.2.7")] {
        is_error(&ask(&replica, own, path, &[header]).await, 403, "FORBIDDEN");
        let with = [header, ("authorization", &bearer)];
        assert_eq!(ask(&replica, own, path, &with).await.status, 200);
    }

    for (access, status) in [
        (DocksmithAccess::Nobody, 401),
        (DocksmithAccess::Everybody, 200),
    ] {
        let mut settings = api_settings();
        settings.docksmith = access;
        let url = redis.url();
        let replica = Replica::start_with(database.url(), &url, users(), settings).await;
        for (at, path) in [
            (replica.docksmith, "/api/operations"),
            (replica.address, "/docksmith/api/operations"),
        ] {
            let answer = ask(&replica, at, path, &[]).await;
            assert_eq!(answer.status, status, "{access:?} {path}: {}", answer.text);
        }
        // Drydock's dialect is not opened with it.
        let drydock = ask(&replica, replica.address, "/api/v1/containers", &[]).await;
        assert_eq!(drydock.status, 401);
    }
}

#[tokio::test]
async fn pages_of_other_sites_change_nothing() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let mut settings = api_settings();
    settings.docksmith = DocksmithAccess::Everybody;
    let replica = Replica::start_with(database.url(), &redis.url(), users(), settings).await;
    let at = own(&replica);
    let evil = [
        ("origin", "http://evil.example"),
        ("referer", "http://evil.example/page"),
        ("sec-fetch-site", "cross-site"),
    ];
    for header in evil {
        for (method, path) in [
            (Method::GET, "/api/check"),
            (Method::GET, "/api/container/nginx/recheck"),
            (Method::POST, "/api/trigger-check"),
            (Method::POST, "/api/update"),
        ] {
            let answer = send(&replica, method.clone(), at, path, &[header]).await;
            is_error(&answer, 403, "FORBIDDEN");
        }
        let read = ask(&replica, at, "/api/operations", &[header]).await;
        assert_eq!(read.status, 200, "{}", read.text);
    }
}

#[tokio::test]
async fn what_is_no_request_is_refused_in_the_dialects_words() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let url = format!("http://{}/api/update", own(&replica));
    let post = || replica.client.post(&url);
    for body in ["{", "[]", "", "null", r#"{"container":[7]}"#] {
        is_error(&answer(post().body(body)).await, 400, "BAD_REQUEST");
    }
    let big = format!(r#"{{"container":"{}"}}"#, "x".repeat(10 * 1024 * 1024));
    let answer = answer(post().body(big)).await;
    is_error(&answer, 413, "PAYLOAD_TOO_LARGE");
}
