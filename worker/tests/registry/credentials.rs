//! Passwords, tokens, and Docker's own configuration file.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use plimsoll_domain::component::Component;
use plimsoll_support::{
    image::Image,
    registry::{PASSWORD, Registry, USER},
};
use plimsoll_worker::registry::{Options, Registries, RegistryError, RegistrySettings};
use secrecy::ExposeSecret;

use crate::{
    cached, failures,
    hostile::{Answer, Hostile, Received, tag_page},
    image, now, parsed, registries, repository, settings, words,
};

fn login(url: &str, password: &str) -> RegistrySettings {
    let pairs = [("url", url), ("login", USER), ("password", password)];
    settings("custom", "mine", &pairs)
}

/// A `config.json` of its own, for as long as it is held.
struct DockerConfig(tempfile::TempDir);

impl DockerConfig {
    fn new(content: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory can be made");
        std::fs::write(directory.path().join("config.json"), content).expect("a file");
        Self(directory)
    }

    fn registries(&self) -> Registries {
        plimsoll_support::init();
        let options = Options {
            docker_config: Some(self.0.path().join("config.json")),
            ..Options::default()
        };
        Registries::with_options(vec![], None, options).expect("no settings")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_registry_with_passwords_is_read_with_the_right_one_only() {
    let registry = Registry::start_with_basic_auth().await;
    registry.push("team/app", "1.0.0", &Image::app("1")).await;
    let app = repository(&registry.reference("team/app", "1.0.0"));
    let url = format!("http://{}", registry.host());

    let anonymous = registries(vec![], None);
    let error = anonymous.tags(&app, now()).await.expect_err("no login");
    assert!(
        matches!(error, RegistryError::Unauthorized { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("docker login"), "{error}");

    let wrong = registries(vec![login(&url, "wrong")], None);
    let error = wrong.tags(&app, now()).await.expect_err("a wrong password");
    assert!(
        matches!(error, RegistryError::Unauthorized { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("credentials"), "{error}");
    assert!(!error.to_string().contains("wrong"), "{error}");

    let right = registries(vec![login(&url, PASSWORD)], None);
    let list = right.tags(&app, now()).await.expect("the right password");
    assert_eq!(words(&list), ["1.0.0"]);

    // The challenge is learnt once; from then on a question is one request.
    let before = registry.requests().len();
    right.tags(&app, now()).await.expect("again");
    assert_eq!(registry.requests().len() - before, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_docker_login_left_is_used() {
    let registry = Registry::start_with_basic_auth().await;
    registry.push("team/app", "1.0.0", &Image::app("1")).await;
    let auth = base64_of(&format!("{USER}:{PASSWORD}"));
    let config = DockerConfig::new(
        &serde_json::json!({"auths": {registry.host(): {"auth": auth}}}).to_string(),
    );
    let registries = config.registries();
    let reference = image(&registry.reference("team/app", "1.0.0"));
    let list = registries.tags(&(&reference).into(), now()).await;
    assert_eq!(words(&list.expect("a list of tags")), ["1.0.0"]);

    let auth = registries.pull_auth(&reference).await;
    let auth = auth.expect("no key to exchange").expect("a login");
    assert_eq!(auth.username.as_deref(), Some(USER));
    assert_eq!(auth.password.expect("a password").expose_secret(), PASSWORD);
    assert_eq!(auth.server_address, registry.host());
    let elsewhere = image("ghcr.io/team/app:1");
    let auth = registries.pull_auth(&elsewhere).await;
    assert!(auth.expect("no key to exchange").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_credential_helper_does_not_keep_us_from_public_images() {
    let registry = Registry::start().await;
    registry.push("team/app", "1.0.0", &Image::app("1")).await;
    for content in [r#"{"credsStore":"plimsoll-does-not-exist"}"#, "nonsense"] {
        let config = DockerConfig::new(content);
        let registries = config.registries();
        let app = repository(&registry.reference("team/app", "1.0.0"));
        let list = registries.tags(&app, now()).await.expect("a public image");
        assert_eq!(words(&list), ["1.0.0"]);
    }
}

/// A registry that wants a token from `/token` of its own.
fn token_registry(request: &Received, port: &AtomicUsize) -> Answer {
    if let Some(query) = request.path.strip_prefix("/token?") {
        let with_login = request.header("authorization").is_some();
        assert!(query.contains("service=test"), "{query}");
        let scope = query.split('&').find_map(|p| p.strip_prefix("scope="));
        let scope = scope
            .expect("a scope")
            .replace("%3A", ":")
            .replace("%2F", "/");
        let token = format!("{scope}:{}", if with_login { "member" } else { "guest" });
        return Answer::json(format!(r#"{{"token":"{token}","expires_in":300}}"#));
    }
    let repository = request.path.trim_start_matches("/v2/");
    let repository = repository.split("/tags/").next().unwrap_or_default();
    let wanted = format!("Bearer repository:{repository}:pull:");
    match request.header("authorization") {
        Some(token) if token.starts_with(&wanted) => tag_page([&token[wanted.len()..]]),
        _ => {
            let port = port.load(Ordering::SeqCst);
            let challenge = format!(
                r#"Bearer realm="http://localhost:{port}/token",service="test",scope="repository:{repository}:pull""#
            );
            Answer::new(401, "").with("www-authenticate", &challenge)
        }
    }
}

async fn start_token_registry() -> Hostile {
    let port = Arc::new(AtomicUsize::new(0));
    let known = port.clone();
    let server = Hostile::start(move |request| token_registry(request, &known)).await;
    port.store(server.port().into(), Ordering::SeqCst);
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_once_per_repository_and_used_again() {
    let server = start_token_registry().await;
    let registries = registries(vec![], None);
    let all = || (0..20).map(|n| repository(&format!("{}/team/app{n}:1", server.host())));
    let results = registries.tags_many(all(), now()).await;
    assert!(failures(&results).is_empty(), "{:?}", failures(&results));
    // One refusal to learn from, one token and one list for each.
    assert_eq!(server.received().len(), 1 + 20 + 20);
    registries.tags_many(all(), now()).await;
    assert_eq!(server.received().len(), 1 + 20 + 20 + 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_login_is_shown_to_the_token_service_and_wins_over_anonymous() {
    let server = start_token_registry().await;
    let url = format!("http://{}", server.host());
    let anonymous = settings("custom", "a", &[("url", &url)]);
    let registries = registries(vec![anonymous, login(&url, "x")], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let list = registries.tags(&app, now()).await.expect("a list of tags");
    assert_eq!(words(&list), ["member"]);
    let shown = server.received();
    let to_registry: Vec<_> = shown
        .iter()
        .filter(|r| r.path.starts_with("/v2/"))
        .collect();
    assert!(to_registry.iter().all(|r| {
        r.header("authorization")
            .is_none_or(|a| a.starts_with("Bearer "))
    }));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_token_is_exchanged_for_access() {
    let server = start_identity_registry().await;
    let config = DockerConfig::new(
        &serde_json::json!({"auths": {server.host(): {"identitytoken": "refresh-canary", "auth": ""}}}).to_string(),
    );
    let registries = config.registries();
    let app = repository(&format!("{}/team/app:1", server.host()));
    let list = registries.tags(&app, now()).await.expect("a list of tags");
    assert_eq!(words(&list), ["1"]);
    let posts: Vec<_> = server
        .received()
        .into_iter()
        .filter(|r| r.method == "POST")
        .collect();
    assert_eq!(posts.len(), 1);
    assert!(posts[0].body.contains("grant_type=refresh_token"));
    assert!(posts[0].body.contains("refresh_token=refresh-canary"));
}

async fn start_identity_registry() -> Hostile {
    Hostile::start(|request| {
        if request.method == "POST" {
            return Answer::json(r#"{"access_token":"granted"}"#);
        }
        match request.header("authorization") {
            Some("Bearer granted") => tag_page(["1"]),
            _ => Answer::new(401, "").with(
                "www-authenticate",
                r#"Bearer realm="/oauth2/token",service="s""#,
            ),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_login_is_shown_to_a_foreign_token_service() {
    let challenge = r#"Bearer realm="http://token.example.net/steal",service="x""#;
    let server =
        Hostile::start(move |_| Answer::new(401, "").with("www-authenticate", challenge)).await;
    let url = format!("http://{}", server.host());
    let registries = registries(vec![login(&url, "canary")], None);
    let app = repository(&format!("{}/team/app:1", server.host()));
    let error = registries.tags(&app, now()).await.expect_err("not trusted");
    assert!(matches!(error, RegistryError::Untrusted { .. }), "{error}");
    assert!(error.to_string().contains("token.example.net"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_token_service_is_a_clear_error_and_asked_once_more_at_most() {
    let cases: [(u16, &str, &str); 4] = [
        (200, "<html>Sign in</html>", "web page"),
        (200, "{}", "no token"),
        (200, r#"{"token":"expired","expires_in":0}"#, "private"),
        (
            401,
            r#"{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}"#,
            "private",
        ),
    ];
    for (status, body, words) in cases {
        let server = Hostile::start(move |request| {
            if request.path.starts_with("/token") {
                return Answer::new(status, body);
            }
            Answer::new(401, "").with("www-authenticate", r#"Bearer realm="/token",service="s""#)
        })
        .await;
        let registries = registries(vec![], None);
        let app = repository(&format!("{}/team/app:1", server.host()));
        let error = registries
            .tags(&app, cached(60))
            .await
            .expect_err("no token");
        assert!(error.to_string().contains(words), "{body}: {error}");
        assert!(server.received().len() <= 4, "{body}: {:?}", server.paths());
    }
}

#[test]
fn components_show_no_secret() {
    let registries = registries(
        vec![
            login("http://localhost:1", "canary"),
            settings("ghcr", "work", &[("username", "me"), ("token", "canary")]),
            settings(
                "quay",
                "robot",
                &[("namespace", "n"), ("account", "a"), ("token", "canary")],
            ),
            settings(
                "ecr",
                "prod",
                &[
                    ("accesskeyid", "canary"),
                    ("secretaccesskey", "canary"),
                    ("region", "eu-west-1"),
                ],
            ),
        ],
        None,
    );
    let shown = registries.components(None);
    let ids: Vec<&str> = shown.iter().map(Component::id).collect();
    assert_eq!(
        ids,
        [
            "alicr.public",
            "codeberg.public",
            "custom.mine",
            "dhi.public",
            "docr.public",
            "ecr.prod",
            "ecr.public",
            "gar.public",
            "gcr.public",
            "ghcr.public",
            "ghcr.work",
            "hub.public",
            "ibmcr.public",
            "lscr.public",
            "mau.public",
            "ocir.public",
            "quay.public",
            "quay.robot",
            "trueforge.public"
        ]
    );
    let ecr = shown.iter().find(|one| one.id() == "ecr.prod");
    assert_eq!(
        serde_json::Value::Object(ecr.expect("it is listed").configuration().clone()),
        serde_json::json!({
            "accesskeyid": "[REDACTED]", "secretaccesskey": "[REDACTED]", "region": "eu-west-1",
        })
    );
    let text = format!("{shown:?}");
    assert!(!text.contains("canary"), "{text}");
    assert!(text.contains("[REDACTED]"));
}

#[test]
fn settings_that_cannot_be_used_are_named() {
    let check = |kind: &str, pairs: &[(&str, &str)]| {
        parsed(kind, "x", pairs)
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(check("hub", &[]), Ok(()));
    assert_eq!(check("gitlab", &[("token", "t")]), Ok(()));
    assert_eq!(check("custom", &[("url", "registry.lan:5000")]), Ok(()));
    for (kind, pairs, named) in [
        ("nope", &[][..], "nope"),
        ("custom", &[][..], "url"),
        ("harbor", &[("url", "ftp://x")][..], "url"),
        ("harbor", &[("url", "https://a:b@x")][..], "credentials"),
        ("harbor", &[("url", "https://x/path")][..], "path"),
        ("hub", &[("login", "me")][..], "password"),
        ("hub", &[("password", "canary")][..], "login"),
        ("hub", &[("auth", "%%%")][..], "auth"),
        ("quay", &[("token", "canary")][..], "namespace"),
        ("hub", &[("region", "canary")][..], "region"),
        (
            "ecr",
            &[("accesskeyid", "canary"), ("region", "x")][..],
            "secretaccesskey",
        ),
        (
            "ecr",
            &[
                ("accesskeyid", "canary"),
                ("secretaccesskey", "canary"),
                ("region", "https://x"),
            ][..],
            "region",
        ),
        (
            "gcr",
            &[("clientemail", "a@b"), ("privatekey", "canary")][..],
            "privatekey",
        ),
        ("acr", &[("clientid", "me")][..], "clientsecret"),
        ("hub", &[("login", "me"), ("password", "")][..], "password"),
    ] {
        let error = check(kind, pairs).expect_err("it cannot be used");
        assert!(error.contains(named), "{error}");
        assert!(!error.contains("canary"), "{error}");
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine;
    base64::prelude::BASE64_STANDARD.encode(text)
}
