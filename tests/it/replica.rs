//! An API replica inside the test process, on a real socket, with real Postgres and Redis; and
//! users and tokens for it.

use std::{net::SocketAddr, sync::LazyLock};

use plimsoll_api::{ApiSettings, Listeners};
use plimsoll_app::{
    App, AppSettings, Queue, Store,
    access::{AccessSettings, ConfiguredUser, password::PasswordHash},
    store::StoreSettings,
};
use plimsoll_domain::access::Role;
use plimsoll_support::{postgres::Database, redis::Redis};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use secrecy::SecretString;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

/// The password of every user of [`users`].
pub const PASSWORD: &str = "correct horse battery";

pub struct Replica {
    pub app: App,
    pub address: SocketAddr,
    /// Where Docksmith's API is at the root.
    pub docksmith: SocketAddr,
    pub client: reqwest::Client,
    shutdown: CancellationToken,
}

/// Everything that the role may do.
pub fn scopes_of(role: Role) -> Vec<&'static str> {
    role.scopes().iter().map(|scope| scope.as_str()).collect()
}

/// Settings that only the rate limits of differ from the default: tests ask often.
pub fn api_settings() -> ApiSettings {
    ApiSettings {
        rate_limit_max: 0,
        rate_limit_auth_max: 0,
        rate_limit_webhook_max: 0,
        rate_limit_socket_max: 0,
        ..ApiSettings::default()
    }
}

/// One user per role, named after it, with [`PASSWORD`].
pub fn users() -> AppSettings {
    // One hash for all: argon2 takes its time by design, and replicas of one installation have the
    // same configuration.
    static HASH: LazyLock<PasswordHash> = LazyLock::new(|| PasswordHash::create(PASSWORD));
    AppSettings {
        access: AccessSettings {
            users: Role::ALL
                .iter()
                .map(|role| ConfiguredUser {
                    strategy: role.to_string(),
                    username: role.to_string(),
                    role: *role,
                    hash: HASH.clone(),
                })
                .collect(),
            ..AccessSettings::default()
        },
        ..AppSettings::default()
    }
}

impl Replica {
    /// With a user per role and no rate limits.
    pub async fn start(database: &Database, redis: &Redis) -> Self {
        Self::start_with(database.url(), &redis.url(), users(), api_settings()).await
    }

    pub async fn start_with(
        database_url: &str,
        redis_url: &str,
        app: AppSettings,
        api: ApiSettings,
    ) -> Self {
        plimsoll_support::init();
        let store = Store::new(&StoreSettings {
            url: SecretString::from(database_url.to_owned()),
            connections: 4,
        })
        .expect("the database's address is valid");
        let queue = Queue::new(&SecretString::from(redis_url.to_owned()))
            .expect("the address of Redis is valid");
        let app = App::new(store, queue, app);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let own = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let docksmith = own.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        tokio::spawn(plimsoll_api::serve(
            app.clone(),
            api,
            Listeners {
                main: listener,
                docksmith: Some(own),
            },
            shutdown.clone(),
        ));
        Self {
            app,
            address,
            docksmith,
            client: reqwest::Client::builder().no_gzip().build().unwrap(),
            shutdown,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.url(path))
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        answer(self.request(Method::GET, path).bearer_auth(token)).await
    }

    pub async fn post(&self, path: &str, token: &str, body: Value) -> Answer {
        answer(
            self.request(Method::POST, path)
                .bearer_auth(token)
                .json(&body),
        )
        .await
    }

    /// The `Cookie` header of a new session.
    pub async fn session(&self, username: &str) -> String {
        let credentials = json!({"username": username, "password": PASSWORD});
        let response = self
            .request(Method::POST, "/auth/login")
            .json(&credentials)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        cookie_of(&response).expect("a login sets a cookie")
    }

    /// A token of the user named after `role`, with `scopes`; written to the database, so that it
    /// may have more than the user could give.
    pub async fn token(&self, database: &Database, role: Role, scopes: &[&str]) -> String {
        self.app.ensure_owner().await.unwrap();
        let secret = format!("plim_{}", plimsoll_support::unique());
        let hash = Sha256::digest(secret.as_bytes()).to_vec();
        let created = database
            .client()
            .await
            .execute(
                "INSERT INTO api_tokens (id, user_id, name, prefix, secret_hash, scopes)
                 SELECT gen_random_uuid(), id, 'test', 'plim_test', $2, $3
                   FROM users WHERE username = $1",
                &[&role.as_str(), &hash, &scopes],
            )
            .await
            .unwrap();
        assert_eq!(created, 1, "there is a user named {role}");
        secret
    }

    /// A token with everything that its owner may do.
    pub async fn owner_token(&self, database: &Database) -> String {
        self.token(database, Role::Owner, &scopes_of(Role::Owner))
            .await
    }

    pub fn stop(&self) {
        self.shutdown.cancel();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// A whole response.
pub struct Answer {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        Self {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.text().await.expect("the body arrives"),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or(Value::Null)
    }

    /// The `error` of the error contract.
    pub fn error(&self) -> String {
        let json = self.json();
        json["error"]
            .as_str()
            .unwrap_or_else(|| panic!("not the error contract: {}", self.text))
            .to_owned()
    }

    /// What an error says, in whichever dialect.
    pub fn refusal(&self) -> String {
        match &self.json()["error"]["message"] {
            Value::String(message) => message.clone(),
            _ => self.error(),
        }
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }
}

pub async fn answer(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await.expect("the replica answers")).await
}

/// `drydock.sid=…` as a browser would send it back.
pub fn cookie_of(response: &Response) -> Option<String> {
    let value = response.headers().get("set-cookie")?.to_str().ok()?;
    Some(value.split(';').next()?.to_owned())
}
