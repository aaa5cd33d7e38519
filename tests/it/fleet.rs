//! Plimsoll as people run it: API and worker processes over services of their own, a registry, and
//! containers on the real engine. Tests speak to it over HTTP.

use std::{collections::HashMap, time::Duration};

use bollard::models::{
    ContainerCreateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum as Restart,
};
use plimsoll_support::docker::Docker;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::{End, Oracle, completed};
use plimsoll_support::postgres::{Client, Database};
use plimsoll_support::redis::Redis;
use plimsoll_support::registry::Registry;
use plimsoll_support::server::Server;
use plimsoll_support::wait;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use uuid::Uuid;

use crate::replica::{Answer, answer};

/// Long enough for a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Tells one case's containers from those of others in the same fleet.
const CASE_LABEL: &str = "plimsoll.test.case";

pub struct Fleet {
    // Stopped before their services: fields are dropped in this order.
    pub apis: Vec<Server>,
    pub oracle: Oracle,
    pub docker: Docker,
    pub registry: Registry,
    pub rows: Client,
    pub database: Database,
    pub redis: Redis,
    http: reqwest::Client,
}

/// A container to be updated.
pub struct Case<'a> {
    /// The watcher that sees it.
    pub watcher: &'a str,
    pub repository: &'a str,
    pub tag: &'a str,
    pub image: Image,
    pub restart: Restart,
    /// Seconds.
    pub stability: u32,
    pub labels: &'a [(&'a str, &'a str)],
}

impl Case<'_> {
    /// `app:1.0.0`, always restarted, stable after a second, seen by the watcher `local`.
    pub fn app() -> Self {
        Self {
            watcher: "local",
            repository: "app",
            tag: "1.0.0",
            image: Image::app("1.0.0"),
            restart: Restart::ALWAYS,
            stability: 1,
            labels: &[],
        }
    }
}

impl Fleet {
    /// With so many API processes, and no worker yet.
    pub async fn start(replicas: usize) -> Self {
        Self::start_with(replicas, |api| api).await
    }

    /// With changes to the settings of the API processes.
    pub async fn start_with(replicas: usize, change: impl Fn(Server) -> Server) -> Self {
        let (database, redis) = (Database::migrated().await, Redis::start().await);
        let docker = Docker::connect().await;
        let mut apis = Vec::new();
        for _ in 0..replicas {
            let api = Server::api(database.url(), &redis.url())
                .env("PLIMSOLL_ANONYMOUS_AUTH_CONFIRM", "true")
                .env("PLIMSOLL_SERVER_RATELIMIT_MAX", "0");
            apis.push(change(api).ready().await);
        }
        Self {
            apis,
            oracle: Oracle::follow(&docker).await,
            docker,
            registry: Registry::start().await,
            rows: database.client().await,
            database,
            redis,
            http: reqwest::Client::new(),
        }
    }

    /// A worker that is not started yet, for the containers of the watcher of that name.
    pub fn worker(&self, watcher: &str) -> Server {
        let of_watcher = |key: &str| format!("PLIMSOLL_WATCHER_{}_{key}", watcher.to_uppercase());
        let scope = format!("{CASE_LABEL}={}", self.case(watcher));
        Server::worker(self.database.url(), &self.redis.url())
            .env(&of_watcher("SCOPE"), scope)
            .env(&of_watcher("CRON"), "0 0 1 1 *")
            .env(&of_watcher("WATCHATSTART"), "false")
    }

    fn case(&self, watcher: &str) -> String {
        format!("{}-{watcher}", self.docker.id())
    }

    pub async fn publish(&self, repository: &str, tag: &str, image: Image) -> String {
        let image = image.label("plimsoll.test", self.docker.id());
        self.registry.push(repository, tag, &image).await;
        self.registry.reference(repository, tag)
    }

    /// Publishes the image and runs it under a name of this test's; answers the name.
    pub async fn deploy(&self, stem: &str, case: Case<'_>) -> String {
        let reference = self.publish(case.repository, case.tag, case.image).await;
        self.docker.pull(&reference).await;
        let name = self.docker.name(stem);
        let mut labels: HashMap<String, String> = [
            (CASE_LABEL.to_owned(), self.case(case.watcher)),
            ("dd.update.stability".to_owned(), case.stability.to_string()),
        ]
        .into();
        let owned = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        labels.extend(case.labels.iter().map(owned));
        let body = ContainerCreateBody {
            image: Some(reference),
            labels: Some(labels),
            host_config: Some(HostConfig {
                restart_policy: Some(RestartPolicy {
                    name: Some(case.restart),
                    maximum_retry_count: None,
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        self.docker.run_with(&name, body).await;
        name
    }

    /// A request to one of the API processes; the path is below `/api/v1`.
    pub fn request(&self, api: usize, method: Method, path: &str) -> RequestBuilder {
        let url = self.apis[api].url(&format!("/api/v1{path}"));
        self.http.request(method, url)
    }

    pub async fn get(&self, api: usize, path: &str) -> Value {
        let answer = answer(self.request(api, Method::GET, path)).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text);
        answer.json()
    }

    /// The container of that name as the API lists it, once it does.
    pub async fn listed(&self, name: &str) -> Value {
        wait::until("the container to be listed", PATIENCE, async || {
            let list = self.get(0, "/containers?limit=0").await;
            let all = list["data"].as_array()?;
            all.iter().find(|one| one["name"] == name).cloned()
        })
        .await
    }

    /// Watches the container of that name and answers its id; an update must be available then.
    pub async fn watched(&self, name: &str) -> String {
        let id = text(&self.listed(name).await, "id");
        let path = format!("/containers/{id}/watch");
        let watched = answer(self.request(0, Method::POST, &path)).await;
        assert_eq!(watched.status, 200, "{}", watched.text);
        let container = self.listed(name).await;
        assert_eq!(container["updateAvailable"], true, "{container:#}");
        id
    }

    pub fn update(&self, api: usize, id: &str) -> RequestBuilder {
        self.request(api, Method::POST, &format!("/containers/{id}/update"))
    }

    pub fn rollback(&self, api: usize, id: &str) -> RequestBuilder {
        self.request(api, Method::POST, &format!("/containers/{id}/rollback"))
            .header("x-dd-confirm-action", "container-rollback")
    }

    /// Starts an update without waiting for its end.
    pub async fn begin_update(&self, api: usize, id: &str) -> Uuid {
        let accepted = self.update(api, id).header("prefer", "respond-async");
        let accepted = answer(accepted).await;
        assert_eq!(accepted.status, 202, "{}", accepted.text);
        operation_of(&accepted)
    }

    /// Waits for the end, has the oracle judge, and gives the row.
    pub async fn judged(&self, operation: Uuid) -> (End, Value) {
        let end = self.oracle.check(&self.docker, &self.rows, operation).await;
        (end, completed(&self.rows, operation).await)
    }

    /// The same once what a late call did to the engine is undone.
    pub async fn settled(&self, operation: Uuid) -> End {
        self.oracle
            .check_within(PATIENCE, &self.docker, &self.rows, operation)
            .await
    }

    /// The one number that the query gives.
    pub async fn count(&self, query: &str, operation: Uuid) -> i64 {
        let row = self.rows.query_one(query, &[&operation]).await;
        row.unwrap_or_else(|error| panic!("{query}: {error}"))
            .get(0)
    }

    /// The image that the container of that name runs, by the engine's id.
    pub async fn running_image(&self, name: &str) -> String {
        let found = self.docker.inspect(name).await.expect("it is there");
        let state = found.state.expect("it has a state");
        assert_eq!(state.running, Some(true), "{name} runs");
        found.image.expect("it has an image")
    }
}

/// Of an accepted or finished request, or of a refusal's details.
pub fn operation_of(answer: &Answer) -> Uuid {
    let json = answer.json();
    [&json["operationId"], &json["details"]["operationId"]]
        .into_iter()
        .find_map(|id| id.as_str()?.parse().ok())
        .unwrap_or_else(|| panic!("no operation is named: {} {}", answer.status, answer.text))
}

pub fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}
