//! A whole installation as processes: API and worker with Postgres and Redis of their own, a
//! registry, and the real engine, of which they see this test's containers only.

use std::time::Duration;

use plimsoll_domain::access::Role;
use plimsoll_support::docker::Docker;
use plimsoll_support::image::Image;
use plimsoll_support::postgres::Database;
use plimsoll_support::redis::Redis;
use plimsoll_support::registry::Registry;
use plimsoll_support::server::Server;
use plimsoll_support::wait;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::replica::{Answer, answer, scopes_of};

pub const SOON: Duration = wait::SOON;

/// Fields are dropped in this order: nobody watches while the containers are removed.
pub struct World {
    pub api: Server,
    pub worker: Server,
    pub docker: Docker,
    pub registry: Registry,
    pub database: Database,
    pub redis: Redis,
    /// The owner's, with everything it may do.
    pub token: String,
    /// Of the user `owner`, as the log told it.
    pub password: String,
    client: reqwest::Client,
}

/// The password of `owner`, from what the first start says.
pub fn password_in(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("password  ")?;
    Some(rest.split_whitespace().next()?.to_owned())
}

/// The worker that watches only what carries `docker`'s label, and only when asked.
pub fn worker(database_url: &str, redis_url: &str, docker: &Docker) -> Server {
    Server::worker(database_url, redis_url)
        .env(
            "PLIMSOLL_WATCHER_LOCAL_SCOPE",
            format!("plimsoll.test={}", docker.id()),
        )
        .env("PLIMSOLL_WATCHER_LOCAL_CRON", "0 0 1 1 *")
        .env("PLIMSOLL_UPDATE_POST_START_LIVENESS_GRACE_MS", "1000")
}

impl World {
    pub async fn start() -> Self {
        let (database, redis) = (Database::migrated().await, Redis::start().await);
        let api = Server::api(database.url(), &redis.url());
        Self::with(database, redis, api, |worker| worker).await
    }

    /// With an API that is not started yet, and changes to the worker's settings.
    pub async fn with(
        database: Database,
        redis: Redis,
        api: Server,
        change: impl FnOnce(Server) -> Server,
    ) -> Self {
        let (docker, registry) = (Docker::connect().await, Registry::start().await);
        let worker = change(worker(database.url(), &redis.url(), &docker)).spawn();
        let api = api.env("PLIMSOLL_SERVER_RATELIMIT_MAX", "0").ready().await;
        let client = reqwest::Client::builder().no_gzip().build().unwrap();
        let password = wait::until("the owner's password", SOON, async || {
            password_in(&api.log())
        })
        .await;
        let mut world = Self {
            api,
            worker,
            docker,
            registry,
            database,
            redis,
            token: String::new(),
            password,
            client,
        };
        let request = world
            .request(Method::POST, "/api/v1/tokens")
            .basic_auth("owner", Some(&world.password))
            .json(&json!({"name": "test", "scopes": scopes_of(Role::Owner)}));
        let created = answer(request).await;
        assert_eq!(created.status, 201, "{}", created.text);
        world.token = created.json()["token"].as_str().unwrap().to_owned();
        wait::until_true("the engine to be connected", SOON, async || {
            let watcher = world.get("/api/v1/watchers/docker/local").await.json();
            watcher["metadata"]["connected"] == true
        })
        .await;
        world
    }

    /// Publishes versions of `repository`, pulls the first, and returns its reference.
    pub async fn publish(&self, repository: &str, versions: &[&str]) -> String {
        for version in versions {
            let image = Image::app(version).label("plimsoll.test", self.docker.id());
            self.registry.push(repository, version, &image).await;
        }
        let reference = self.registry.reference(repository, versions[0]);
        self.docker.pull(&reference).await;
        reference
    }

    /// Runs a container and waits until the API shows it.
    pub async fn run(&self, stem: &str, image: &str, labels: &[(&str, &str)]) -> String {
        let name = self.docker.name(stem);
        let id = self.docker.run_labelled(&name, image, labels).await;
        self.listed(&id).await;
        id
    }

    pub async fn listed(&self, id: &str) {
        wait::until_true("the container to be listed", SOON, async || {
            self.get(&format!("/api/v1/containers/{id}")).await.status == 200
        })
        .await;
    }

    /// Without a credential.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, self.api.url(path))
    }

    pub fn authorised(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path).bearer_auth(&self.token)
    }

    pub async fn get(&self, path: &str) -> Answer {
        answer(self.authorised(Method::GET, path)).await
    }

    /// The container after a check of it.
    pub async fn watch(&self, id: &str) -> Value {
        let path = format!("/api/v1/containers/{id}/watch");
        let watched = answer(self.authorised(Method::POST, &path)).await;
        assert_eq!(watched.status, 200, "{}", watched.text);
        watched.json()
    }
}
