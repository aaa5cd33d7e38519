//! What the sections share: services, a signed-in client, an application on the same database.

use std::time::{Duration, Instant};

use plimsoll_app::{
    App, AppSettings, Queue, Store, access::password::PasswordHash, store::StoreSettings,
};
use plimsoll_support::{docker::Docker, postgres::Database, redis::Redis, server::Server};
use reqwest::RequestBuilder;
use secrecy::SecretString;
use serde_json::{Value, json};

const USER: &str = "owner";
const PASSWORD: &str = "a bench password";

pub struct Setting {
    pub database: Database,
    pub redis: Redis,
}

impl Setting {
    pub async fn start() -> Self {
        Self {
            database: Database::migrated().await,
            redis: Redis::start().await,
        }
    }

    pub fn api(&self) -> Server {
        owned(Server::api(self.database.url(), &self.redis.url()))
    }

    /// A worker that sees this run's containers only, and watches when it is asked.
    pub fn worker(&self, docker: &Docker) -> Server {
        let label = plimsoll_support::docker::LABEL;
        Server::worker(self.database.url(), &self.redis.url())
            .env(
                "PLIMSOLL_WATCHER_LOCAL_SCOPE",
                format!("{label}={}", docker.id()),
            )
            .env("PLIMSOLL_WATCHER_LOCAL_CRON", "0 0 1 1 *")
            .env("PLIMSOLL_WATCHER_LOCAL_WATCHATSTART", false)
    }

    pub fn app(&self) -> anyhow::Result<App> {
        app(self.database.url(), &self.redis.url())
    }
}

/// The use cases on a database and a queue that a measured process has, too.
pub fn app(database_url: &str, redis_url: &str) -> anyhow::Result<App> {
    let store = Store::new(&StoreSettings {
        url: SecretString::from(database_url.to_owned()),
        connections: 8,
    })?;
    let queue = Queue::new(&SecretString::from(redis_url.to_owned()))?;
    Ok(App::new(store, queue, AppSettings::default()))
}

/// Settings of an owner whose password the benchmark knows, without request limits, which would
/// end it early.
pub fn owned(server: Server) -> Server {
    server
        .env("PLIMSOLL_AUTH_BASIC_OWNER_USER", USER)
        .env(
            "PLIMSOLL_AUTH_BASIC_OWNER_HASH",
            PasswordHash::create(PASSWORD).to_text(),
        )
        .env("PLIMSOLL_SERVER_RATELIMIT_MAX", 0)
}

/// An API as a client with a token sees it.
pub struct Client {
    base: String,
    authorization: String,
    http: reqwest::Client,
}

impl Client {
    /// Signs in and makes a token.
    pub async fn sign_in(api: &Server) -> anyhow::Result<Self> {
        let http = reqwest::Client::builder().no_gzip().build()?;
        let scopes = [
            "containers:read",
            "containers:watch",
            "containers:update",
            "system:read",
        ];
        let answer: Value = http
            .post(api.url("/api/v1/tokens"))
            .basic_auth(USER, Some(PASSWORD))
            .json(&json!({ "name": "bench", "scopes": scopes }))
            .send()
            .await?
            .error_for_status()?
            .json()
            .await?;
        let secret = answer["token"]
            .as_str()
            .ok_or_else(|| anyhow::anyhow!("no token in {answer}"))?;
        Ok(Self {
            base: api.url("/api/v1"),
            authorization: format!("Bearer {secret}"),
            http,
        })
    }

    /// For the `Authorization` header.
    pub fn authorization(&self) -> &str {
        &self.authorization
    }

    /// `path` is below `/api/v1`.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.with_token(self.http.get(format!("{}{path}", self.base)))
    }

    /// `path` is below `/api/v1`.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.with_token(self.http.post(format!("{}{path}", self.base)))
    }

    fn with_token(&self, request: RequestBuilder) -> RequestBuilder {
        request.header("authorization", &self.authorization)
    }

    /// Watches everything and waits until that is done.
    pub async fn watch(&self) -> anyhow::Result<()> {
        let answer = self
            .post("/containers/watch")
            .timeout(Duration::from_secs(120))
            .send()
            .await?
            .error_for_status()?;
        anyhow::ensure!(answer.status() == 200, "the watch took more than a minute");
        answer.bytes().await?;
        Ok(())
    }

    /// Waits until the inventory holds `count` containers.
    pub async fn knows(&self, count: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(180);
        loop {
            let answer = self.get("/containers/summary").send().await?;
            let summary: Value = answer.error_for_status()?.json().await?;
            if summary["containers"]["total"] == count {
                return Ok(());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "never {count} containers: {summary}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
