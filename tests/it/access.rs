//! Sign-in, sessions, tokens, and the plumbing of every request (reference/drydock.md 1.1, 1.2;
//! reliability.md S-1 to S-26).

use std::time::{Duration, Instant};

use plimsoll_api::ApiSettings;
use plimsoll_app::{AppSettings, access::AnonymousAccess};
use plimsoll_domain::access::Role;
use plimsoll_support::{
    postgres::Database,
    proxy::{Fault, Proxy, Upstream},
    redis::Redis,
    wait,
};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::replica::{Answer, PASSWORD, Replica, answer, api_settings, cookie_of, users};

async fn login(replica: &Replica, username: &str, password: &str) -> Answer {
    let credentials = json!({"username": username, "password": password});
    answer(
        replica
            .request(Method::POST, "/auth/login")
            .json(&credentials),
    )
    .await
}

async fn whoami(replica: &Replica, cookie: &str) -> Answer {
    answer(
        replica
            .request(Method::GET, "/auth/user")
            .header("cookie", cookie),
    )
    .await
}

#[tokio::test]
async fn a_session_works_on_every_replica_and_ends_on_all_of_them() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let one = Replica::start(&database, &redis).await;
    let other = Replica::start(&database, &redis).await;
    let cookie = one.session("operator").await;
    assert_eq!(
        whoami(&other, &cookie).await.json(),
        json!({"username": "operator"})
    );
    redis.flush_all().await;
    assert_eq!(whoami(&other, &cookie).await.status, 200);

    let out = one
        .request(Method::POST, "/auth/logout")
        .header("cookie", &cookie)
        .header("origin", one.origin());
    let out = answer(out).await;
    assert_eq!((out.status, out.json()), (200, json!({})));
    assert!(out.header("set-cookie").contains("Max-Age=0"));
    let refused = whoami(&other, &cookie).await;
    assert_eq!(
        (refused.status, refused.error().as_str()),
        (401, "Unauthorized")
    );
}

#[tokio::test]
async fn the_session_cookie_is_what_the_transport_allows() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let plain = Replica::start(&database, &redis).await;
    let cookie = login(&plain, "owner", PASSWORD).await;
    let cookie = cookie.header("set-cookie").to_owned();
    assert!(cookie.starts_with("drydock.sid="), "{cookie}");
    assert!(
        cookie.contains("HttpOnly; Max-Age=604800; SameSite=Lax"),
        "{cookie}"
    );
    assert!(!cookie.contains("Secure"));

    let https = ApiSettings {
        public_url: Some("https://dock.example".to_owned()),
        ..api_settings()
    };
    let secure = Replica::start_with(database.url(), &redis.url(), users(), https).await;
    let body = json!({"username": "owner", "password": PASSWORD, "remember": true});
    let response = secure
        .request(Method::POST, "/auth/login")
        .json(&body)
        .send()
        .await
        .unwrap();
    let value = response.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(
        value.contains("Max-Age=2592000; SameSite=Lax; Secure"),
        "{value}"
    );
    assert!(response.headers().contains_key("strict-transport-security"));

    let cookie = cookie_of(&response).unwrap();
    let forget = secure
        .request(Method::POST, "/auth/remember")
        .header("cookie", &cookie)
        .header("origin", "https://dock.example")
        .json(&json!({"remember": false}));
    let forget = answer(forget).await;
    assert_eq!((forget.status, forget.json()), (200, json!({"ok": true})));
    assert!(forget.header("set-cookie").contains("Max-Age=604800"));
}

#[tokio::test]
async fn a_user_has_at_most_five_sessions() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let mut cookies = Vec::new();
    for _ in 0..6 {
        cookies.push(replica.session("viewer").await);
    }
    assert_eq!(whoami(&replica, &cookies[0]).await.status, 401);
    for cookie in &cookies[1..] {
        assert_eq!(whoami(&replica, cookie).await.status, 200);
    }
    let stored: i64 = database
        .client()
        .await
        .query_one("SELECT count(*) FROM sessions", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(stored, 5);
}

#[tokio::test]
async fn an_account_locks_after_five_failures_on_whatever_replica() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let one = Replica::start(&database, &redis).await;
    let other = Replica::start(&database, &redis).await;
    for attempt in 0..5 {
        let replica = if attempt % 2 == 0 { &one } else { &other };
        let wrong = login(replica, "admin", "guess").await;
        assert_eq!(
            (wrong.status, wrong.error().as_str()),
            (401, "Unauthorized")
        );
    }
    let locked = login(&one, "admin", PASSWORD).await;
    assert_eq!(locked.status, 423);
    let after: u64 = locked.header("retry-after").parse().unwrap();
    assert!((890..=900).contains(&after), "{after}");
    // Also for passwords that come with each request, and for nobody else.
    let basic = one
        .request(Method::GET, "/api/v1/app")
        .basic_auth("admin", Some(PASSWORD));
    assert_eq!(answer(basic).await.status, 423);
    assert_eq!(login(&other, "viewer", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn an_unknown_user_and_a_wrong_password_look_the_same() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let unknown = login(&replica, "nobody", "guess").await;
    let wrong = login(&replica, "owner", "guess").await;
    assert_eq!((unknown.status, &unknown.text), (wrong.status, &wrong.text));
    for _ in 0..4 {
        login(&replica, "nobody", "guess").await;
    }
    assert_eq!(login(&replica, "nobody", "guess").await.status, 423);
}

#[tokio::test]
async fn an_address_locks_after_twenty_five_failures() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    for attempt in 0..25 {
        let wrong = login(&replica, &format!("user{attempt}"), "guess").await;
        assert_eq!(wrong.status, 401, "attempt {attempt}");
    }
    assert_eq!(login(&replica, "owner", PASSWORD).await.status, 423);
}

#[tokio::test]
async fn no_more_passwords_are_checked_at_once_than_allowed() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    replica.app.ensure_owner().await.unwrap();
    let attempts = (0..12).map(|n| {
        let replica = &replica;
        async move { login(replica, &format!("user{n}"), "guess").await }
    });
    let answers = futures::future::join_all(attempts).await;
    let refused: Vec<&Answer> = answers.iter().filter(|a| a.status == 429).collect();
    assert!(!refused.is_empty());
    assert!(refused.iter().all(|a| a.header("retry-after") == "1"));
    assert!(answers.iter().all(|a| [401, 429].contains(&a.status)));
}

#[tokio::test]
async fn logins_are_in_the_audit_trail() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    login(&replica, "owner", "guess").await;
    let request = replica
        .request(Method::POST, "/auth/login")
        .header("x-request-id", "request-77")
        .json(&json!({"username": "owner", "password": PASSWORD}));
    assert_eq!(answer(request).await.header("x-request-id"), "request-77");
    let rows = database
        .client()
        .await
        .query(
            "SELECT status, actor, request_id, details FROM audit
              WHERE action = 'auth-login' ORDER BY at",
            &[],
        )
        .await
        .unwrap();
    let statuses: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    assert_eq!(statuses, ["error", "success"]);
    assert_eq!(rows[1].get::<_, String>(1), "owner");
    assert_eq!(rows[1].get::<_, String>(2), "request-77");
    assert!(!rows.iter().any(|r| r.get::<_, String>(3).contains("guess")));
}

#[tokio::test]
async fn a_token_is_shown_once_and_refused_everywhere_once_revoked() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let one = Replica::start(&database, &redis).await;
    let other = Replica::start(&database, &redis).await;
    let cookie = one.session("operator").await;
    let create = one
        .request(Method::POST, "/api/v1/tokens")
        .header("cookie", &cookie)
        .header("origin", one.origin())
        .json(&json!({"name": "ci", "scopes": ["system:read", "tokens:write"]}));
    let created = answer(create).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let created = created.json();
    let token = created["token"].as_str().unwrap();
    assert!(token.starts_with("plim_") && token.len() == 48, "{token}");

    assert_eq!(other.get("/api/v1/server", token).await.status, 200);
    assert_eq!(
        other.get("/api/v1/app", token).await.json()["name"],
        "drydock"
    );
    let list = other.get("/api/v1/tokens", token).await;
    assert!(!list.text.contains(token));
    assert_eq!(list.json()["data"][0]["prefix"], token[..12]);

    let stored: Vec<u8> = database
        .client()
        .await
        .query_one("SELECT secret_hash FROM api_tokens", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(stored.len(), 32);

    let path = format!("/api/v1/tokens/{}", created["id"].as_str().unwrap());
    let revoke = one.request(Method::DELETE, &path).bearer_auth(token);
    let revoked = answer(revoke).await;
    assert_eq!((revoked.status, revoked.text.as_str()), (204, ""));
    assert_eq!(other.get("/api/v1/server", token).await.status, 401);
    assert_eq!(one.get("/api/v1/server", token).await.status, 401);
}

#[tokio::test]
async fn a_token_loses_what_its_owner_loses() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica
        .token(&database, Role::Operator, &["tokens:write"])
        .await;
    assert_eq!(replica.get("/api/v1/tokens", &token).await.status, 200);
    let client = database.client().await;
    let demote = "UPDATE users SET role = 'viewer' WHERE username = 'operator'";
    client.execute(demote, &[]).await.unwrap();
    let refused = replica.get("/api/v1/tokens", &token).await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.error(), "This needs the permission tokens:write");
    let disable = "UPDATE users SET disabled = true WHERE username = 'operator'";
    client.execute(disable, &[]).await.unwrap();
    assert_eq!(replica.get("/api/v1/app", &token).await.status, 401);
}

#[tokio::test]
async fn a_token_ends_by_itself_and_its_use_is_recorded() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica
        .token(&database, Role::Owner, &["system:read"])
        .await;
    let client = database.client().await;
    assert_eq!(replica.get("/api/v1/server", &token).await.status, 200);
    wait::until_true("the use to be recorded", Duration::from_secs(5), || async {
        client
            .query_one("SELECT last_used_at IS NOT NULL FROM api_tokens", &[])
            .await
            .unwrap()
            .get(0)
    })
    .await;
    let end = "UPDATE api_tokens SET expires_at = now() + interval '300 milliseconds'";
    client.execute(end, &[]).await.unwrap();
    assert_eq!(replica.get("/api/v1/server", &token).await.status, 200);
    wait::until_true("the token to end", Duration::from_secs(5), || async {
        replica.get("/api/v1/server", &token).await.status == 401
    })
    .await;
}

#[tokio::test]
async fn a_token_cannot_be_made_with_more_than_its_maker_has() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica
        .token(&database, Role::Operator, &["tokens:write"])
        .await;
    let more = json!({"name": "x", "scopes": ["containers:read"]});
    assert_eq!(
        replica.post("/api/v1/tokens", &token, more).await.status,
        403
    );
    for bad in [
        json!({"name": "x", "scopes": []}),
        json!({"name": "", "scopes": ["tokens:write"]}),
        json!({"name": "x", "scopes": ["nonsense"]}),
        json!({"name": "x", "scopes": ["tokens:write"], "expiresAt": "2020-01-01T00:00:00Z"}),
        json!({"name": "x", "scopes": "tokens:write"}),
        json!({"name": 1}),
        json!([]),
    ] {
        let refused = replica.post("/api/v1/tokens", &token, bad.clone()).await;
        assert_eq!(refused.status, 400, "{bad}");
        refused.error();
    }
}

#[tokio::test]
async fn passwords_with_each_request_are_hashed_once() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let ask = |password: &'static str| {
        answer(
            replica
                .request(Method::GET, "/api/v1/app")
                .basic_auth("owner", Some(password)),
        )
    };
    assert_eq!(ask(PASSWORD).await.status, 200);
    // More at once than could be hashed.
    let again = futures::future::join_all((0..20).map(|_| ask(PASSWORD))).await;
    assert!(again.iter().all(|answer| answer.status == 200));
    assert_eq!(ask("wrong").await.status, 401);
}

#[tokio::test]
async fn a_bad_credential_is_never_anonymous() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let mut app = AppSettings::default();
    app.access.anonymous = AnonymousAccess::Confirmed;
    let replica = Replica::start_with(database.url(), &redis.url(), app, api_settings()).await;
    let user = answer(replica.request(Method::GET, "/auth/user")).await;
    assert_eq!(user.json(), json!({"username": "anonymous"}));
    for value in ["Bearer plim_wrong", "Basic eDp5", "Negotiate abc", "x"] {
        let request = replica
            .request(Method::GET, "/auth/user")
            .header("authorization", value);
        assert_eq!(answer(request).await.status, 401, "{value}");
    }
    assert_eq!(whoami(&replica, "drydock.sid=wrong").await.status, 401);
    let strategies = answer(replica.request(Method::GET, "/auth/strategies")).await;
    assert_eq!(
        strategies.json(),
        json!({"strategies": [{"type": "anonymous", "name": "anonymous"}], "warnings": []})
    );
    assert!(replica.app.ensure_owner().await.unwrap().is_none());
}

#[tokio::test]
async fn the_first_start_makes_one_owner_whose_password_is_told_once() {
    use secrecy::ExposeSecret;
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let settings = AppSettings::default;
    let start = || {
        Replica::start_with(
            database.url(),
            redis_url(&redis),
            settings(),
            api_settings(),
        )
    };
    let (one, other) = (start().await, start().await);
    let (first, second) = tokio::join!(one.app.ensure_owner(), other.app.ensure_owner());
    let made: Vec<_> = [first.unwrap(), second.unwrap()]
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(made.len(), 1);
    let password = made[0].password.expose_secret();
    assert_eq!(login(&other, "owner", password).await.status, 200);
    let hash: String = database
        .client()
        .await
        .query_one("SELECT password_hash FROM users", &[])
        .await
        .unwrap()
        .get(0);
    assert!(
        hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
        "{hash}"
    );
    assert!(start().await.app.ensure_owner().await.unwrap().is_none());

    // Configured users take its place, and it comes back when they go.
    let configured = Replica::start(&database, &redis).await;
    assert_eq!(login(&configured, "viewer", PASSWORD).await.status, 200);
    assert_eq!(login(&configured, "owner", password).await.status, 401);
}

fn redis_url(redis: &Redis) -> &'static str {
    Box::leak(redis.url().into_boxed_str())
}

#[tokio::test]
async fn a_user_who_leaves_the_configuration_is_out_at_once() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let before = Replica::start(&database, &redis).await;
    let cookie = before.session("viewer").await;
    let mut fewer = users();
    fewer.access.users.retain(|user| user.username != "viewer");
    let after = Replica::start_with(database.url(), &redis.url(), fewer, api_settings()).await;
    after.app.ensure_owner().await.unwrap();
    assert_eq!(whoami(&before, &cookie).await.status, 401);
    assert_eq!(login(&before, "viewer", PASSWORD).await.status, 401);
}

#[tokio::test]
async fn everything_that_fails_speaks_the_error_contract() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica.owner_token(&database).await;
    let send = |method: Method, path: &str| replica.request(method, path).bearer_auth(&token);

    for (method, path) in [
        (Method::GET, "/nowhere"),
        (Method::POST, "/api/v1/nowhere"),
        (Method::DELETE, "/api/nowhere"),
        (Method::PUT, "/"),
    ] {
        let missing = answer(send(method, path)).await;
        assert_eq!(
            (missing.status, missing.error().as_str()),
            (404, "Route not found")
        );
    }
    let wrong = answer(send(Method::DELETE, "/api/tokens")).await;
    assert_eq!(
        (wrong.status, wrong.header("allow")),
        (405, "GET, HEAD, POST")
    );
    wrong.error();

    let text = send(Method::POST, "/api/v1/tokens").body("{}");
    let text = answer(text).await;
    assert_eq!(
        (text.status, text.error().as_str()),
        (415, "Content-Type must be application/json")
    );
    let json = |body: String| {
        send(Method::POST, "/api/v1/tokens")
            .header("content-type", "application/json")
            .body(body)
    };
    let malformed = answer(json("{".to_owned())).await;
    assert_eq!(
        (malformed.status, malformed.error().as_str()),
        (400, "Invalid request parameters")
    );
    let deep = answer(json("[".repeat(100_000))).await;
    assert_eq!(deep.status, 400);
    let large = answer(json(" ".repeat(256 * 1024 + 1))).await;
    assert_eq!(large.status, 413);
    large.error();
    let login = replica
        .request(Method::POST, "/auth/login")
        .header("content-type", "application/json")
        .body(" ".repeat(64 * 1024 + 1));
    assert_eq!(answer(login).await.status, 413);

    let anonymous = answer(replica.request(Method::GET, "/api/v1/app")).await;
    assert_eq!(
        (anonymous.status, anonymous.error().as_str()),
        (401, "Unauthorized")
    );
    assert_eq!(anonymous.header("www-authenticate"), "Bearer");
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    for path in ["/health", "/auth/strategies", "/nowhere", "/api/v1/app"] {
        let answer = answer(replica.request(Method::GET, path)).await;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
        assert_eq!(answer.header("x-request-id").len(), 32, "{path}");
        assert!(
            answer
                .header("content-security-policy")
                .contains("frame-ancestors 'none'"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn an_operation_that_goes_away_says_so_however_it_answers() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica.owner_token(&database).await;
    let put = |body: Value| {
        let put = replica.request(Method::PUT, "/api/v1/settings");
        put.json(&body)
    };
    let right = json!({"internetlessMode": false});
    for (request, status) in [
        (put(right.clone()).bearer_auth(&token), 200),
        (
            put(json!({"internetlessMode": "x"})).bearer_auth(&token),
            400,
        ),
        (put(json!([])).bearer_auth(&token), 400),
        (put(right), 401),
    ] {
        let answer = answer(request).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        assert_eq!(answer.header("deprecation"), "@1772323200", "{status}");
        assert!(answer.header("sunset").ends_with(" GMT"), "{status}");
    }
    let patch = replica
        .request(Method::PATCH, "/api/v1/settings")
        .bearer_auth(&token)
        .json(&json!({"internetlessMode": false}));
    assert_eq!(answer(patch).await.header("sunset"), "");
}

#[tokio::test]
async fn the_documentation_needs_nothing_from_elsewhere() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let page = answer(replica.request(Method::GET, "/api/v1/docs")).await;
    assert_eq!(page.status, 200);
    assert!(
        !page
            .header("content-security-policy")
            .contains("script-src 'unsafe-inline'")
    );
    for part in page
        .text
        .split('"')
        .filter(|part| part.starts_with("/api/"))
    {
        let asset = answer(replica.request(Method::GET, part)).await;
        assert_eq!(asset.status, 200, "{part}");
        assert!(!asset.text.is_empty());
    }
    let document = answer(replica.request(Method::GET, "/api/openapi.json")).await;
    assert_eq!(document.json()["openapi"], "3.1.0");
}

#[tokio::test]
async fn browsers_from_elsewhere_change_nothing() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let cookie = replica.session("owner").await;
    let logout = |origin: &str| {
        answer(
            replica
                .request(Method::POST, "/auth/logout")
                .header("cookie", &cookie)
                .header("origin", origin),
        )
    };
    let evil = logout("http://evil.example").await;
    assert_eq!(
        (evil.status, evil.error().as_str()),
        (403, "CSRF validation failed")
    );
    assert_eq!(whoami(&replica, &cookie).await.status, 200);
    assert_eq!(logout(&replica.origin()).await.status, 200);
}

#[tokio::test]
async fn replicas_share_a_rate_limit() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let settings = ApiSettings {
        rate_limit_max: 40,
        ..api_settings()
    };
    let start =
        || Replica::start_with(database.url(), redis_url(&redis), users(), settings.clone());
    let (one, other) = (start().await, start().await);
    let mut allowed = 0;
    let mut last = None;
    for n in 0..60 {
        let replica = if n % 2 == 0 { &one } else { &other };
        let answer = answer(replica.request(Method::GET, "/api/v1/app")).await;
        assert_eq!(answer.header("ratelimit-limit"), "40");
        allowed += u32::from(answer.status == 401);
        last = Some(answer);
    }
    assert!((40..=42).contains(&allowed), "{allowed}");
    let refused = last.unwrap();
    assert_eq!(refused.status, 429);
    refused.error();
    assert_eq!(refused.header("ratelimit-remaining"), "0");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() > 0);
    // Probes, and machines with a token, are not counted.
    assert_eq!(
        answer(one.request(Method::GET, "/health")).await.status,
        200
    );
}

#[tokio::test]
async fn a_replica_limits_alone_while_redis_is_away() {
    let (database, mut redis) = (Database::migrated().await, Redis::start().await);
    let settings = ApiSettings {
        rate_limit_max: 40,
        ..api_settings()
    };
    let replica = Replica::start_with(database.url(), &redis.url(), users(), settings).await;
    redis.stop();
    let mut allowed = 0;
    for _ in 0..60 {
        let answer = answer(replica.request(Method::GET, "/api/v1/app")).await;
        allowed += u32::from(answer.status == 401);
    }
    assert!((18..=22).contains(&allowed), "{allowed}");
    let health = answer(replica.request(Method::GET, "/health")).await;
    assert_eq!(health.status, 200);
    assert_eq!(health.json()["degraded"], json!(["redis"]));
    assert_eq!(login(&replica, "owner", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_lost_database_is_said_within_a_second_and_its_return_is_noticed() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let proxy = Proxy::tcp(Upstream::Unix(database.socket())).await;
    let replica = Replica::start_with(
        &database.url_through(proxy.port()),
        &redis.url(),
        users(),
        api_settings(),
    )
    .await;
    let token = replica.owner_token(&database).await;
    assert_eq!(replica.get("/api/v1/app", &token).await.status, 200);
    for fault in [Fault::Refuse, Fault::Blackhole] {
        proxy.set(fault);
        let asked = Instant::now();
        let refused = replica.get("/api/v1/app", &token).await;
        wait::took_at_most(asked, Duration::from_millis(1500));
        assert_eq!(refused.status, 503, "{fault:?}");
        assert!(!refused.header("retry-after").is_empty());
        refused.error();
        wait::until_true("health to notice", Duration::from_secs(4), || async {
            answer(replica.request(Method::GET, "/health")).await.status == 503
        })
        .await;
        proxy.set(Fault::None);
        wait::until_true("recovery", wait::SOON, || async {
            replica.get("/api/v1/app", &token).await.status == 200
                && answer(replica.request(Method::GET, "/health")).await.status == 200
        })
        .await;
    }
}

#[tokio::test]
async fn a_half_sent_request_is_closed_and_hurts_nobody() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    // A load balancer keeps its connections, and uses them again much later.
    let mut kept = tokio::net::TcpStream::connect(replica.address)
        .await
        .unwrap();
    let mut answered = async || {
        let request = b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n";
        kept.write_all(request).await.unwrap();
        let mut answer = [0; 4096];
        let length = kept.read(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    };
    assert!(answered().await.starts_with("HTTP/1.1 200 "));
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut socket = tokio::net::TcpStream::connect(replica.address)
            .await
            .unwrap();
        socket
            .write_all(b"GET /health HTTP/1.1\r\nHo")
            .await
            .unwrap();
        slow.push(socket);
    }
    assert_eq!(
        answer(replica.request(Method::GET, "/health")).await.status,
        200
    );
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(8), slow[0].read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection was still open after 8 s");
    assert!(answered().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_stopping_replica_finishes_and_ends() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let token = replica.owner_token(&database).await;
    assert_eq!(replica.get("/api/v1/app", &token).await.status, 200);
    replica.stop();
    wait::until_true("the listener to close", Duration::from_secs(3), || async {
        tokio::net::TcpStream::connect(replica.address)
            .await
            .is_err()
    })
    .await;
}

#[tokio::test]
async fn metrics_count_operations_and_ask_for_a_credential() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let settings = ApiSettings {
        metrics: plimsoll_api::MetricsAccess::Token("0123456789abcdef".to_owned().into()),
        ..api_settings()
    };
    let replica = Replica::start_with(database.url(), &redis.url(), users(), settings).await;
    assert_eq!(
        answer(replica.request(Method::GET, "/metrics"))
            .await
            .status,
        401
    );
    assert_eq!(
        replica.get("/metrics", "0123456789abcdeX").await.status,
        401
    );
    let page = replica.get("/metrics", "0123456789abcdef").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/plain"));
    let expected = r#"plimsoll_http_requests_total{operation="getMetrics",status="401"} 2"#;
    assert!(page.text.contains(expected), "{}", page.text);
    // Its token is of a kind of its own.
    assert_eq!(
        replica.get("/api/v1/app", "0123456789abcdef").await.status,
        401
    );
}

#[tokio::test]
async fn large_answers_are_compressed_for_those_who_ask() {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let plain = answer(replica.request(Method::GET, "/api/v1/openapi.json")).await;
    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(plain.json()["openapi"], "3.1.0");
    let packed = replica
        .request(Method::GET, "/api/v1/openapi.json")
        .header("accept-encoding", "gzip")
        .send()
        .await
        .unwrap();
    assert_eq!(packed.headers()["vary"], "Accept-Encoding");
    assert_eq!(packed.headers()["content-encoding"], "gzip");
}

#[tokio::test]
async fn nobody_is_told_that_a_replica_serves_before_anyone_could_sign_in() {
    let (database, redis) = (Database::empty().await, Redis::start().await);
    let replica = Replica::start(&database, &redis).await;
    let starting = answer(replica.request(Method::GET, "/health")).await;
    assert_eq!(starting.status, 503);
    assert_eq!(starting.json()["status"], "starting");
    assert_eq!(starting.json()["reason"], starting.error());
    plimsoll_app::store::migrate(replica.app.store())
        .await
        .unwrap();
    wait::until_true("health", Duration::from_secs(5), || async {
        answer(replica.request(Method::GET, "/health")).await.status == 200
    })
    .await;
    assert_eq!(login(&replica, "owner", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn old_password_hashes_still_let_in_and_are_not_what_the_database_holds() {
    use plimsoll_app::access::{ConfiguredUser, password::PasswordHash};
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let forms = [
        ("sha", "{SHA}mN7MYuzjmaIu0w1JDvMzvn/ec4U="),
        ("apache", "$apr1$8zDVtSAY$FOo9ppRa/p7SrDvI7xKxY."),
        ("crypted", "rlBrzAiotJdIw"),
        ("typed", PASSWORD),
    ];
    let mut app = AppSettings::default();
    app.access.users = forms
        .iter()
        .map(|(name, hash)| ConfiguredUser {
            strategy: (*name).to_owned(),
            username: (*name).to_owned(),
            role: Role::Viewer,
            hash: PasswordHash::configured(hash, name).unwrap(),
        })
        .collect();
    let replica = Replica::start_with(database.url(), &redis.url(), app, api_settings()).await;
    for (name, _) in forms {
        assert_eq!(login(&replica, name, PASSWORD).await.status, 200, "{name}");
        assert_eq!(login(&replica, name, "wrong").await.status, 401, "{name}");
    }
    let rows = database
        .client()
        .await
        .query("SELECT password_hash FROM users", &[])
        .await
        .unwrap();
    for stored in rows.iter().map(|row| row.get::<_, String>(0)) {
        assert!(
            stored.contains("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{stored}"
        );
        assert!(!forms.iter().any(|(_, hash)| stored.contains(hash)));
    }
}
