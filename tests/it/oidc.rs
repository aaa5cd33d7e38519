//! Signing in with an identity provider: a real one, real Postgres, two replicas
//! (reference/drydock.md 1.2; reliability.md S-8).

use std::time::Duration;

use plimsoll_app::{
    AppSettings,
    access::{ConfiguredUser, OidcSettings, password::PasswordHash},
};
use plimsoll_domain::{access::Role, identity::RoleRule};
use plimsoll_outbound::{Reach, Tls};
use plimsoll_support::{
    oidc::{Browser, CLIENT_ID, CLIENT_SECRET, IdentityProvider},
    postgres::Database,
    redis::Redis,
    wait,
};
use reqwest::{Method, Url};
use serde_json::{Value, json};

use crate::replica::{Answer, PASSWORD, Replica, answer, api_settings, users};

/// How browsers reach the replicas, in the world of these tests.
const HOME: &str = "http://plimsoll.test/";
const CALLBACK: &str = "http://plimsoll.test/auth/oidc/corp/cb";

struct Scene {
    database: Database,
    _redis: Redis,
    provider: IdentityProvider,
    one: Replica,
    other: Replica,
}

fn viewers() -> RoleRule {
    RoleRule {
        claim: None,
        roles: Vec::new(),
        otherwise: Some(Role::Viewer),
    }
}

fn by_groups(otherwise: Option<Role>) -> RoleRule {
    RoleRule {
        claim: Some("groups".to_owned()),
        roles: vec![
            ("dock-operators".to_owned(), Role::Operator),
            ("dock-admins".to_owned(), Role::Admin),
        ],
        otherwise,
    }
}

fn with_provider(
    mut settings: AppSettings,
    provider: &IdentityProvider,
    roles: RoleRule,
) -> AppSettings {
    settings.access.oidc = vec![OidcSettings {
        name: "corp".to_owned(),
        issuer: Url::parse(&provider.issuer()).unwrap(),
        client_id: CLIENT_ID.to_owned(),
        client_secret: Some(CLIENT_SECRET.to_owned().into()),
        callback: Url::parse(CALLBACK).unwrap(),
        home: Url::parse(HOME).unwrap(),
        redirect: false,
        logout_url: None,
        scopes: vec!["email".into(), "profile".into(), "groups".into()],
        roles,
        timeout: Duration::from_secs(5),
        reach: Reach::HOME,
        tls: Tls::default(),
    }];
    settings
}

impl Scene {
    async fn new(roles: RoleRule) -> Self {
        Self::with(users(), roles).await
    }

    async fn with(settings: AppSettings, roles: RoleRule) -> Self {
        let (database, redis) = (Database::migrated().await, Redis::start().await);
        let provider = IdentityProvider::start(&[CALLBACK]).await;
        let settings = with_provider(settings, &provider, roles);
        let start = || {
            Replica::start_with(
                database.url(),
                redis_url(&redis),
                settings.clone(),
                api_settings(),
            )
        };
        let (one, other) = (start().await, start().await);
        Self {
            database,
            _redis: redis,
            provider,
            one,
            other,
        }
    }

    /// Leaves from one replica, and is sent back by the provider.
    async fn leave(&self, who: &str) -> Return {
        let begun = answer(self.one.request(Method::GET, "/auth/oidc/corp/redirect")).await;
        assert_eq!(begun.status, 200, "{}", begun.text);
        let cookie = begun.header("set-cookie").split(';').next().unwrap();
        let redirect = begun.json()["redirect"].as_str().unwrap().to_owned();
        Return {
            cookie: cookie.to_owned(),
            url: Browser::default().sign_in(&redirect, who).await,
        }
    }

    /// Leaves from one replica and comes back to the other.
    async fn sign_in(&self, who: &str) -> Answer {
        self.leave(who).await.to(&self.other).await
    }

    async fn count(&self, what: &str) -> i64 {
        let client = self.database.client().await;
        let statement = format!("SELECT count(*) FROM {what}");
        client.query_one(&statement, &[]).await.unwrap().get(0)
    }
}

fn redis_url(redis: &Redis) -> &'static str {
    Box::leak(redis.url().into_boxed_str())
}

/// A browser on its way back.
struct Return {
    cookie: String,
    url: Url,
}

impl Return {
    async fn to(&self, replica: &Replica) -> Answer {
        let path = format!("{}?{}", self.url.path(), self.url.query().unwrap());
        // A browser follows no redirect here: the answer itself is looked at.
        let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
        let request = client.build().unwrap().get(replica.url(&path));
        answer(request.header("cookie", &self.cookie)).await
    }
}

fn session(answer: &Answer) -> String {
    assert_eq!(answer.status, 302, "{}", answer.text);
    let cookie = answer.header("set-cookie").split(';').next().unwrap();
    assert!(cookie.starts_with("drydock.sid="), "{cookie}");
    cookie.to_owned()
}

async fn get(replica: &Replica, path: &str, cookie: &str) -> Answer {
    answer(replica.request(Method::GET, path).header("cookie", cookie)).await
}

#[tokio::test]
async fn somebody_leaves_from_one_replica_and_comes_back_to_another() {
    let scene = Scene::new(viewers()).await;
    let back = scene.sign_in("ann").await;
    assert_eq!(back.header("location"), HOME);
    let cookie = session(&back);
    let who = get(&scene.one, "/auth/user", &cookie).await;
    assert_eq!(who.json(), json!({"username": "corp:ann@example.org"}));
    assert_eq!(get(&scene.one, "/api/v1/server", &cookie).await.status, 200);
    assert_eq!(get(&scene.one, "/api/v1/audit", &cookie).await.status, 403);

    // The same person is the same account, and another one is not.
    session(&scene.sign_in("ann").await);
    session(&scene.sign_in("adam").await);
    assert_eq!(scene.count("users WHERE issuer IS NOT NULL").await, 2);
    assert_eq!(scene.count("oidc_logins").await, 0);
    let audited = "audit WHERE action = 'auth-login' AND status = 'success'
                      AND actor = 'corp:ann@example.org'";
    assert_eq!(scene.count(audited).await, 2);
}

#[tokio::test]
async fn a_browser_that_follows_a_link_is_sent_to_the_provider() {
    let scene = Scene::new(viewers()).await;
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let url = scene.one.url("/auth/oidc/corp/redirect");
    let request = client.build().unwrap().get(url);
    // Whatever the browser calls us, the provider sends it to where we really are.
    let request = request
        .header("accept", "text/html,*/*")
        .header("x-forwarded-host", "evil.example");
    let sent = answer(request).await;
    assert_eq!(sent.status, 302);
    let to = Url::parse(sent.header("location")).unwrap();
    let value = |name: &str| {
        let mut pairs = to.query_pairs();
        pairs.find(|(n, _)| n == name).map(|(_, v)| v.into_owned())
    };
    assert_eq!(value("redirect_uri").as_deref(), Some(CALLBACK));
    assert_eq!(value("code_challenge_method").as_deref(), Some("S256"));
    assert_eq!(value("response_type").as_deref(), Some("code"));
    assert_eq!(
        value("scope").as_deref(),
        Some("openid email profile groups")
    );
    assert!(value("nonce").is_some() && value("state").is_some());
    let cookie = sent.header("set-cookie");
    let attributes = "; Path=/auth/oidc; HttpOnly; Max-Age=600; SameSite=Lax";
    assert!(cookie.ends_with(attributes), "{cookie}");

    let unknown = answer(scene.one.request(Method::GET, "/auth/oidc/other/redirect")).await;
    assert_eq!(unknown.status, 404);
    unknown.error();
}

#[tokio::test]
async fn roles_follow_the_claims_at_each_login_and_for_every_credential() {
    let scene = Scene::new(by_groups(Some(Role::Viewer))).await;
    let ann = session(&scene.sign_in("ann").await);
    assert_eq!(get(&scene.one, "/api/v1/audit", &ann).await.status, 403);
    let olga = session(&scene.sign_in("olga").await);
    assert_eq!(get(&scene.one, "/api/v1/audit", &olga).await.status, 200);
    let token = scene
        .one
        .request(Method::POST, "/api/v1/tokens")
        .header("cookie", &olga)
        .header("origin", scene.one.origin())
        .json(&json!({"name": "ci", "scopes": ["audit:read", "system:read"]}));
    let token = answer(token).await.json()["token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(scene.other.get("/api/v1/audit", &token).await.status, 200);

    // Olga leaves the group: her next login takes the power from all that she has.
    scene
        .provider
        .next_token(json!({"claims": {"groups": []}}))
        .await;
    session(&scene.sign_in("olga").await);
    for replica in [&scene.one, &scene.other] {
        assert_eq!(get(replica, "/api/v1/audit", &olga).await.status, 403);
        assert_eq!(replica.get("/api/v1/audit", &token).await.status, 403);
        assert_eq!(replica.get("/api/v1/server", &token).await.status, 200);
    }
}

#[tokio::test]
async fn people_without_a_role_and_disabled_ones_stay_outside() {
    let scene = Scene::new(by_groups(None)).await;
    let refused = scene.sign_in("ann").await;
    assert_eq!(
        (refused.status, refused.error().as_str()),
        (
            403,
            "corp knows you, but nothing there gives you a role here"
        )
    );
    assert_eq!(scene.count("users WHERE issuer IS NOT NULL").await, 0);
    let cookie = session(&scene.sign_in("adam").await);
    let disable = "UPDATE users SET disabled = true WHERE issuer IS NOT NULL";
    let client = scene.database.client().await;
    client.execute(disable, &[]).await.unwrap();
    assert_eq!(get(&scene.one, "/auth/user", &cookie).await.status, 401);
    let refused = scene.sign_in("adam").await;
    assert_eq!(
        (refused.status, refused.error().as_str()),
        (403, "This account is disabled")
    );
}

#[tokio::test]
async fn a_way_back_works_once_and_for_the_browser_that_left() {
    let scene = Scene::new(viewers()).await;
    let back = scene.leave("ann").await;
    let stranger = |cookie: &str| Return {
        cookie: cookie.to_owned(),
        url: back.url.clone(),
    };
    let name = back.cookie.split('=').next().unwrap().to_owned();
    for (cookie, error) in [
        (
            "a=b",
            "OIDC session is missing or expired. Please retry authentication.",
        ),
        (
            format!("{name}=guessed").as_str(),
            "OIDC session state mismatch or expired. Please retry authentication.",
        ),
    ] {
        let refused = stranger(cookie).to(&scene.other).await;
        assert_eq!((refused.status, refused.error().as_str()), (401, error));
    }
    session(&back.to(&scene.one).await);
    for replica in [&scene.one, &scene.other] {
        let again = back.to(replica).await;
        assert_eq!(
            (again.status, again.error().as_str()),
            (
                401,
                "OIDC session state mismatch or expired. Please retry authentication."
            )
        );
    }
    let nothing = answer(scene.one.request(Method::GET, "/auth/oidc/corp/cb?code=x")).await;
    assert_eq!(
        (nothing.status, nothing.error().as_str()),
        (
            401,
            "OIDC callback is missing state. Please retry authentication."
        )
    );
    assert_eq!(scene.count("sessions").await, 1);

    // What took too long is over.
    let late = scene.leave("ann").await;
    let client = scene.database.client().await;
    let age = "UPDATE oidc_logins SET expires_at = now()";
    client.execute(age, &[]).await.unwrap();
    assert_eq!(late.to(&scene.one).await.status, 401);
}

#[tokio::test]
async fn an_id_token_that_is_wrong_in_any_way_lets_nobody_in() {
    let scene = Scene::new(viewers()).await;
    let now = chrono::Utc::now().timestamp();
    for wrong in [
        json!({"claims": {"nonce": "another one"}}),
        json!({"without": ["nonce"]}),
        json!({"claims": {"iss": "http://127.0.0.1:1"}}),
        json!({"claims": {"aud": "another application"}}),
        json!({"claims": {"aud": ["plimsoll", "another application"]}}),
        json!({"claims": {"azp": "another application"}}),
        json!({"claims": {"exp": now - 120}}),
        json!({"without": ["exp"]}),
        json!({"claims": {"iat": now + 600}}),
        json!({"claims": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}}),
        json!({"without": ["sub"]}),
        json!({"claims": {"sub": "somebody else"}}),
        json!({"alg": "none"}),
        json!({"alg": "HS256"}),
        json!({"foreign": true}),
        json!({"foreign": true, "kid": "unknown"}),
    ] {
        scene.provider.next_token(wrong.clone()).await;
        let refused = scene.sign_in("ann").await;
        assert_eq!(
            (refused.status, refused.error().as_str()),
            (401, "Authentication failed"),
            "{wrong}"
        );
        assert_eq!(refused.header("set-cookie"), "", "{wrong}");
    }
    assert_eq!(scene.count("sessions").await, 0);
    assert_eq!(scene.count("users WHERE issuer IS NOT NULL").await, 0);

    // A clock that is a little wrong is none of these.
    let skewed = json!({"claims": {"exp": now - 30, "iat": now + 30}});
    scene.provider.next_token(skewed).await;
    session(&scene.sign_in("ann").await);
}

#[tokio::test]
async fn what_another_provider_or_none_sent_back_is_refused() {
    let scene = Scene::new(viewers()).await;
    let edit = |back: &mut Return, name: &str, value: Option<&str>| {
        let pairs: Vec<(String, String)> = back.url.query_pairs().into_owned().collect();
        let kept = pairs.iter().filter(|(n, _)| n != name);
        let more = value.map(|value| (name.to_owned(), value.to_owned()));
        let url = back.url.clone();
        back.url
            .query_pairs_mut()
            .clear()
            .extend_pairs(kept.chain(&more));
        assert_ne!(url, back.url);
    };
    let mut mixed_up = scene.leave("ann").await;
    edit(&mut mixed_up, "iss", Some("http://evil.example"));
    let mut invented = scene.leave("ann").await;
    edit(&mut invented, "code", Some("invented"));
    let mut denied = scene.leave("ann").await;
    edit(&mut denied, "code", None);
    edit(&mut denied, "error", Some("access_denied"));
    for back in [mixed_up, invented, denied] {
        let refused = back.to(&scene.one).await;
        assert_eq!(
            (refused.status, refused.error().as_str()),
            (401, "Authentication failed")
        );
    }
    // A code that is too old.
    let late = scene.leave("ann").await;
    scene.provider.later().await;
    let refused = late.to(&scene.one).await;
    assert_eq!(refused.status, 401, "{}", refused.text);
    assert_eq!(scene.count("sessions").await, 0);
}

#[tokio::test]
async fn new_keys_of_the_provider_are_fetched_when_they_are_met() {
    let mut scene = Scene::new(viewers()).await;
    session(&scene.sign_in("ann").await);
    scene.provider.restart().await;
    session(&scene.sign_in("ann").await);
}

#[tokio::test]
async fn a_provider_that_is_away_says_so_and_keeps_nobody_else_out() {
    let mut scene = Scene::new(viewers()).await;
    scene.provider.stop();
    let refused = answer(scene.one.request(Method::GET, "/auth/oidc/corp/redirect")).await;
    assert_eq!(refused.status, 503, "{}", refused.text);
    let error = refused.error();
    assert!(
        error.starts_with("The identity provider corp is not available: 127.0.0.1:"),
        "{error}"
    );
    assert!(!refused.header("retry-after").is_empty());
    scene.one.session("owner").await;
    let status = answer(scene.one.request(Method::GET, "/auth/status"))
        .await
        .json();
    assert_eq!(status["errors"][0]["provider"], "corp");
    let listed = answer(scene.one.request(Method::GET, "/auth/strategies"))
        .await
        .json();
    assert_eq!(
        listed["strategies"],
        json!([
            {"type": "basic", "name": "Login"},
            {"type": "oidc", "name": "corp", "redirect": false},
        ])
    );
    assert_eq!(listed["warnings"].as_array().unwrap().len(), 1);

    scene.provider.restart().await;
    wait::until_true("the provider to be asked again", wait::SOON, || async {
        let begun = answer(scene.one.request(Method::GET, "/auth/oidc/corp/redirect")).await;
        begun.status == 200
    })
    .await;
    session(&scene.sign_in("ann").await);
    let status = answer(scene.one.request(Method::GET, "/api/v1/auth/status"))
        .await
        .json();
    assert_eq!(status["errors"], json!([]));
    assert_eq!(
        status["providers"][1]["logoutUrl"],
        format!("{}/session/end?client_id=plimsoll", scene.provider.issuer())
    );
}

#[tokio::test]
async fn signing_out_goes_on_at_the_provider_for_those_who_came_from_it() {
    let mut scene = Scene::new(viewers()).await;
    let logout = async |scene: &Scene, cookie: &str| {
        let request = scene
            .other
            .request(Method::POST, "/auth/logout")
            .header("cookie", cookie)
            .header("origin", scene.other.origin());
        answer(request).await
    };
    let cookie = session(&scene.sign_in("ann").await);
    let out = logout(&scene, &cookie).await;
    let there = format!("{}/session/end?client_id=plimsoll", scene.provider.issuer());
    assert_eq!((out.status, out.json()), (200, json!({"logoutUrl": there})));
    assert_eq!(get(&scene.one, "/auth/user", &cookie).await.status, 401);
    let local = scene.one.session("owner").await;
    assert_eq!(logout(&scene, &local).await.json(), json!({}));

    // Here it ends also without the provider.
    let cookie = session(&scene.sign_in("ann").await);
    scene.provider.stop();
    assert_eq!(logout(&scene, &cookie).await.status, 200);
    assert_eq!(get(&scene.one, "/auth/user", &cookie).await.status, 401);
}

#[tokio::test]
async fn a_name_or_an_address_makes_nobody_somebody_else() {
    let mut settings = users();
    settings.access.users.push(ConfiguredUser {
        strategy: "ann".to_owned(),
        username: "ann@example.org".to_owned(),
        role: Role::Owner,
        hash: PasswordHash::configured(PASSWORD, "ann@example.org").unwrap(),
    });
    let scene = Scene::with(settings, viewers()).await;
    let client = scene.database.client().await;
    let taken = "INSERT INTO users (id, username, role, source, issuer, subject)
                 VALUES (gen_random_uuid(), 'corp:ann@example.org', 'owner', 'oidc', 'x', 'y')";
    client.execute(taken, &[]).await.unwrap();
    let cookie = session(&scene.sign_in("ann").await);
    let who = get(&scene.one, "/auth/user", &cookie).await.json();
    let name: &str = who["username"].as_str().unwrap();
    assert!(name.starts_with("corp:ann@example.org#"), "{name}");
    assert_eq!(get(&scene.one, "/api/v1/audit", &cookie).await.status, 403);
    let issuers = client
        .query(
            "SELECT username, role FROM users WHERE issuer IS NOT NULL",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(issuers.len(), 2);
    let local: Value = get(&scene.one, "/auth/user", &{
        let body = json!({"username": "ann@example.org", "password": PASSWORD});
        let login = scene.one.request(Method::POST, "/auth/login").json(&body);
        let login = login.send().await.unwrap();
        crate::replica::cookie_of(&login).unwrap()
    })
    .await
    .json();
    assert_eq!(local, json!({"username": "ann@example.org"}));
}
