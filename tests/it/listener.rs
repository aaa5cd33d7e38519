//! The listener's own TLS, and pages of other origins: the real binary, as it is configured.

use std::{path::Path, process::Command};

use plimsoll_support::{
    postgres::Database,
    redis::Redis,
    server::{Server, binary},
};
use reqwest::{Certificate, Client, Method};

/// A certificate of our own for this machine, and its key.
fn certificate(directory: &Path) -> (String, String) {
    let path = |name: &str| directory.join(name).display().to_string();
    let (certificate, key) = (path("cert.pem"), path("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=plimsoll.test"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .expect("openssl runs");
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    (certificate, key)
}

#[tokio::test]
async fn the_listener_speaks_tls_with_the_configured_certificate() {
    plimsoll_support::init();
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(directory.path());
    let mut api = Server::api(database.url(), &redis.url())
        .env("DD_SERVER_TLS_ENABLED", "true")
        .env("DD_SERVER_TLS_CERT", &certificate)
        .env("DD_SERVER_TLS_KEY", &key)
        .spawn();
    let trusted = Certificate::from_pem(&std::fs::read(&certificate).unwrap()).unwrap();
    let client = Client::builder().tls_certs_only([trusted]).build().unwrap();
    let url = |path: &str| format!("https://127.0.0.1:{}{path}", api.port());
    plimsoll_support::wait::until(
        "the listener",
        std::time::Duration::from_secs(30),
        async || {
            let answer = client.get(url("/health")).send().await.ok()?;
            answer.status().is_success().then_some(answer)
        },
    )
    .await;
    let refused = client.get(url("/api/v1/app")).send().await.unwrap();
    assert_eq!(refused.status(), 401);
    assert!(refused.headers().contains_key("strict-transport-security"));

    // What a container's health check runs finds its way, too.
    let probe = Command::new(binary("plimsoll-api"))
        .arg("healthcheck")
        .env("PLIMSOLL_LISTEN", format!("127.0.0.1:{}", api.port()))
        .env("DD_SERVER_TLS_ENABLED", "true")
        .env("DD_SERVER_TLS_CERT", &certificate)
        .env("DD_SERVER_TLS_KEY", &key)
        .output()
        .unwrap();
    assert!(
        probe.status.success(),
        "{}",
        String::from_utf8_lossy(&probe.stderr)
    );

    // Plain HTTP is no way in, and half a handshake holds nobody up.
    let plain = format!("http://127.0.0.1:{}/health", api.port());
    assert!(client.get(plain).send().await.is_err());
    let _silent = tokio::net::TcpStream::connect(("127.0.0.1", api.port()))
        .await
        .unwrap();
    assert!(client.get(url("/health")).send().await.is_ok());
    let ended = api.terminate(std::time::Duration::from_secs(20)).await;
    assert!(ended.success(), "{}", api.log());
}

#[tokio::test]
async fn files_that_do_not_fit_end_the_start_with_their_names() {
    plimsoll_support::init();
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (certificate, _) = self::certificate(one.path());
    let (_, key) = self::certificate(other.path());
    let mut api = Server::api(database.url(), &redis.url())
        .env("DD_SERVER_TLS_ENABLED", "true")
        .env("DD_SERVER_TLS_CERT", &certificate)
        .env("DD_SERVER_TLS_KEY", &key)
        .spawn();
    plimsoll_support::wait::until_true("the end", std::time::Duration::from_secs(20), async || {
        api.log().contains("are not a certificate and its key")
    })
    .await;
    assert!(api.log().contains(&key), "{}", api.log());
    api.kill();
}

#[tokio::test]
async fn other_origins_read_only_where_they_are_named() {
    plimsoll_support::init();
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let start = |origins: Option<&str>| {
        let api = Server::api(database.url(), &redis.url());
        match origins {
            Some(origins) => api
                .env("DD_SERVER_CORS_ENABLED", "true")
                .env("DD_SERVER_CORS_ORIGIN", origins)
                .ready(),
            None => api.ready(),
        }
    };
    let origin = "https://dash.example";
    let client = Client::new();
    let ask = |api: &Server| {
        client
            .get(api.url("/auth/strategies"))
            .header("origin", origin)
    };
    let off = start(None).await;
    let closed = ask(&off).send().await.unwrap();
    assert!(!closed.headers().contains_key("access-control-allow-origin"));

    let on = start(Some("https://other.example, https://dash.example")).await;
    let open = ask(&on).send().await.unwrap();
    assert_eq!(open.headers()["access-control-allow-origin"], origin);
    let preflight = client
        .request(Method::OPTIONS, on.url("/api/v1/containers"))
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .send()
        .await
        .unwrap();
    assert_eq!(preflight.status(), 204);
    assert_eq!(
        preflight.headers()["access-control-allow-credentials"],
        "true"
    );
    // Reading is one thing; changing with cookies stays with our own pages.
    let change = client
        .post(on.url("/auth/logout"))
        .header("origin", origin)
        .header("cookie", "drydock.sid=x");
    assert_eq!(change.send().await.unwrap().status(), 403);
}
