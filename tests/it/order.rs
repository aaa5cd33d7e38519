//! What comes after what where several containers are restarted or updated: as Drydock's labels
//! say, and under the conditions of `depends_on`.

use std::{collections::BTreeMap, path::PathBuf};

use plimsoll_support::{image::Image, oracle::End, wait};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    compose::compose,
    fleet::{Fleet, PATIENCE, text},
    replica::answer,
};

/// So often a container has been asked whether its turn has come.
const ASKED: i64 = 4;

struct Shop {
    fleet: Fleet,
    project: String,
    /// `/gate` of the containers.
    gate: TempDir,
    _directory: TempDir,
}

/// A service of the file.
struct Service<'a> {
    name: &'a str,
    repository: &'a str,
    labels: &'a str,
    rest: &'a str,
}

impl Shop {
    /// Every image is published as 1.0.0 and healthy where `/gate/healthy` is, which it is.
    /// `{project}` and `{gate}` are filled in.
    async fn up(services: &[Service<'_>]) -> Self {
        let fleet = Fleet::start(1).await;
        let (directory, gate) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let project = fleet.docker.name("order").to_lowercase();
        let id = fleet.docker.id();
        let mut text = format!(
            "name: {project}\nnetworks:\n  default:\n    labels: {{plimsoll.test: {id}}}\n\
             services:\n"
        );
        for Service {
            name,
            repository,
            labels,
            rest,
        } in services
        {
            let image = checked(repository, "1.0.0", "healthy");
            let image = fleet.publish(repository, "1.0.0", image).await;
            text += &format!(
                "  {name}:\n    image: {image}\n    volumes: ['{{gate}}:/gate:ro']\n    labels:\n      \
                 plimsoll.test: {id}\n      plimsoll.test.case: {id}-local\n      \
                 dd.update.stability: '1'\n{labels}{rest}"
            );
        }
        let text = text
            .replace("{project}", &project)
            .replace("{gate}", &gate.path().display().to_string());
        let file = directory.path().join("compose.yaml");
        std::fs::write(&file, text).unwrap();
        let shop = Self {
            fleet,
            project,
            gate,
            _directory: directory,
        };
        std::fs::write(shop.healthy(), "").unwrap();
        compose(&file, &["up", "--detach"]).await;
        shop
    }

    fn healthy(&self) -> PathBuf {
        self.gate.path().join("healthy")
    }

    fn name(&self, service: &str) -> String {
        format!("{}-{service}-1", self.project)
    }

    /// When the container was started and what it is by now.
    async fn now(&self, service: &str) -> Seen {
        let found = self.fleet.docker.inspect(&self.name(service)).await;
        let found = found.unwrap_or_else(|| panic!("{service} is there"));
        let state = found.state.unwrap_or_default();
        let health = state.health.and_then(|health| health.status);
        Seen {
            id: found.id.unwrap_or_default(),
            started: state.started_at.unwrap_or_default(),
            health: health.map(|health| health.to_string()).unwrap_or_default(),
        }
    }

    async fn health(&self, service: &str, expected: &str) {
        let what = format!("{service} to be {expected}");
        let is_so = async || self.now(service).await.health == expected;
        wait::until_true(&what, PATIENCE, is_so).await;
    }

    async fn publish(&self, repository: &str, version: &str, gate: &str) {
        let image = checked(repository, version, gate);
        self.fleet.publish(repository, version, image).await;
    }

    /// Asks for something of several containers, and answers their operations by service.
    async fn asked(&self, path: &str, body: Value) -> Asked {
        let mut request = self.fleet.request(0, Method::POST, path);
        if !body.is_null() {
            request = request.json(&body);
        }
        let accepted = answer(request.header("prefer", "respond-async")).await;
        assert!(matches!(accepted.status, 200 | 202), "{}", accepted.text);
        let mut group = accepted.json();
        if let [one] = group["groups"].as_array().map_or(&[][..], Vec::as_slice) {
            group = one.clone();
        }
        let id = ["id", "groupId", "operationId"].map(|key| text(&group, key));
        let id = id.into_iter().find(|id| !id.is_empty()).expect("an id");
        let group = self.fleet.get(0, &format!("/operation-groups/{id}")).await;
        let members = group["members"].as_array().expect("members").iter();
        let operations = members.map(|member| {
            let name = text(member, "containerName");
            let service = name.strip_prefix(&format!("{}-", self.project));
            let service = service.and_then(|name| name.strip_suffix("-1"));
            let id: Uuid = text(member, "id").parse().unwrap();
            (service.expect("a service").to_owned(), id)
        });
        Asked {
            operations: operations.collect(),
            path: format!("/operation-groups/{id}"),
        }
    }

    async fn ended(&self, asked: &Asked) -> Value {
        wait::until("the group to be over", PATIENCE, async || {
            let group = self.fleet.get(0, &asked.path).await;
            (group["status"] != "in-progress").then_some(group)
        })
        .await
    }

    async fn status(&self, operation: Uuid) -> String {
        let path = format!("/update-operations/{operation}");
        text(&self.fleet.get(0, &path).await, "status")
    }

    /// Until a worker has looked several times whether it is the operation's turn.
    async fn waits(&self, operation: Uuid) {
        wait::until_true("it to be looked at ever again", PATIENCE, async || {
            let looks = "SELECT lease_epoch FROM jobs WHERE operation_id = $1";
            self.fleet.count(looks, operation).await >= ASKED
        })
        .await;
        assert_eq!(self.status(operation).await, "in-progress");
    }
}

struct Seen {
    id: String,
    started: String,
    health: String,
}

struct Asked {
    operations: BTreeMap<String, Uuid>,
    path: String,
}

impl Asked {
    fn services(&self) -> Vec<&str> {
        self.operations.keys().map(String::as_str).collect()
    }
}

/// Healthy where there is that file.
fn checked(repository: &str, version: &str, gate: &str) -> Image {
    Image::app(&format!("{version}-{repository}")).healthcheck(&format!("test -e /gate/{gate}"))
}

#[tokio::test]
async fn drydocks_labels_say_what_is_restarted_after_an_update_and_what_only_comes_after_it() {
    let service = |name, labels, rest| Service {
        name,
        repository: name,
        labels,
        rest,
    };
    let shop = Shop::up(&[
        service("db", "", ""),
        service(
            "api",
            "      dd.depends_on.action: restart\n",
            "    depends_on: [db]\n",
        ),
        service("cache", "      dd.depends_on: '{project}-db-1'\n", ""),
        // Comes after, and has nothing to come with.
        service("idle", "      dd.depends_on: '{project}-db-1'\n", ""),
        service(
            "lone",
            "      dd.depends_on: ''\n",
            "    depends_on: {db: {condition: service_started, restart: true}}\n",
        ),
        service(
            "proxy",
            "      dd.depends_on: '{project}-api-1'\n      dd.depends_on.action: restart\n",
            "",
        ),
    ])
    .await;
    let _worker = shop.fleet.worker("local").spawn();
    let (idle, lone) = (shop.now("idle").await, shop.now("lone").await);
    shop.publish("db", "1.1.0", "healthy").await;
    shop.publish("cache", "1.1.0", "healthy").await;
    let cache = shop.fleet.watched(&shop.name("cache")).await;
    let db = shop.fleet.watched(&shop.name("db")).await;
    let updates = json!({ "updates": [{ "containerId": cache }, { "containerId": db }] });
    let asked = shop.asked("/operation-groups", updates).await;
    assert_eq!(asked.services(), ["api", "cache", "db", "proxy"]);
    let ended = shop.ended(&asked).await;
    assert_eq!(ended["status"], "succeeded", "{ended:#}");
    let kinds: BTreeMap<String, String> = ended["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|member| (text(member, "containerName"), text(member, "kind")))
        .collect();
    for (service, kind) in [("db", "update"), ("cache", "update"), ("api", "restart")] {
        assert_eq!(kinds[&shop.name(service)], kind);
    }
    let started = async |service| shop.now(service).await.started;
    let (db, api) = (started("db").await, started("api").await);
    assert!(db < started("cache").await);
    assert!(db < api && api < started("proxy").await);
    assert_eq!(shop.now("idle").await.started, idle.started);
    assert_eq!(shop.now("lone").await.started, lone.started);

    let id = shop.now("db").await.id;
    wait::until_true("the new db to be listed", PATIENCE, async || {
        text(&shop.fleet.listed(&shop.name("db")).await, "id") == id
    })
    .await;
    let path = format!("/containers/{id}/restart?dependents=true");
    let asked = shop.asked(&path, Value::Null).await;
    assert_eq!(asked.services(), ["api", "db", "proxy"]);
    assert_eq!(shop.ended(&asked).await["status"], "succeeded");
}

/// `web` waits until `db` is healthy, and `proxy` follows `web`.
fn chain(db: &'static str) -> [Service<'static>; 3] {
    let service = |name, rest| Service {
        name,
        repository: name,
        labels: "",
        rest,
    };
    [
        service("db", db),
        service(
            "web",
            "    depends_on: {db: {condition: service_healthy}}\n",
        ),
        service(
            "proxy",
            "    depends_on: {web: {condition: service_started, restart: true}}\n",
        ),
    ]
}

#[tokio::test]
async fn a_restart_waits_until_what_it_needs_is_healthy_again() {
    let shop = Shop::up(&chain("")).await;
    let _worker = shop.fleet.worker("local").spawn();
    for service in ["db", "web", "proxy"] {
        shop.fleet.listed(&shop.name(service)).await;
    }
    let path = format!("/stacks/{}/restart", shop.project);
    for is_ever_healthy in [true, false] {
        let before = (shop.now("web").await, shop.now("proxy").await);
        std::fs::remove_file(shop.healthy()).unwrap();
        let asked = shop.asked(&path, Value::Null).await;
        assert_eq!(asked.services(), ["db", "proxy", "web"]);
        let db = asked.operations["db"];
        let is_over = async || shop.status(db).await == "succeeded";
        wait::until_true("db to be restarted", PATIENCE, is_over).await;
        shop.waits(asked.operations["web"]).await;
        shop.health("db", "unhealthy").await;
        let now = (shop.now("web").await, shop.now("proxy").await);
        assert_eq!(now.0.started, before.0.started);
        assert_eq!(now.1.started, before.1.started);
        if is_ever_healthy {
            std::fs::write(shop.healthy(), "").unwrap();
        } else {
            // Two minutes later.
            let sql = "UPDATE update_operations SET completed_at = completed_at - interval '2 min'
                        WHERE id = $1";
            shop.fleet.rows.execute(sql, &[&db]).await.unwrap();
        }
        let ended = shop.ended(&asked).await;
        assert_eq!(ended["status"], "succeeded", "{ended:#}");
        let web = shop.now("web").await.started;
        assert!(before.0.started < web && web < shop.now("proxy").await.started);
        let health = shop.now("db").await.health;
        assert_eq!(health == "healthy", is_ever_healthy, "{health}");
    }
}

#[tokio::test]
async fn an_update_waits_until_what_it_needs_is_healthy_in_its_new_version() {
    let shop = Shop::up(&chain("    healthcheck: {start_period: 60s}\n")).await;
    let _worker = shop.fleet.worker("local").spawn();
    shop.publish("db", "1.1.0", "healthy").await;
    shop.publish("web", "1.1.0", "healthy").await;
    shop.fleet.watched(&shop.name("web")).await;
    shop.fleet.watched(&shop.name("db")).await;
    let (db, web) = (shop.now("db").await, shop.now("web").await);
    std::fs::remove_file(shop.healthy()).unwrap();
    let path = format!("/stacks/{}/update", shop.project);
    let asked = shop.asked(&path, Value::Null).await;
    assert_eq!(asked.services(), ["db", "proxy", "web"]);
    wait::until_true("the new db to run", PATIENCE, async || {
        let found = shop.fleet.docker.inspect(&shop.name("db")).await;
        let is_new = |one: &bollard::models::ContainerInspectResponse| {
            let runs = one.state.as_ref().and_then(|state| state.running);
            one.id.as_ref() != Some(&db.id) && runs == Some(true)
        };
        found.as_ref().is_some_and(is_new)
    })
    .await;
    shop.waits(asked.operations["web"]).await;
    assert_eq!(shop.now("db").await.health, "starting");
    assert_eq!(shop.now("web").await.started, web.started);
    std::fs::write(shop.healthy(), "").unwrap();
    for service in ["db", "web"] {
        let (end, row) = shop.fleet.judged(asked.operations[service]).await;
        assert_eq!(end, End::Succeeded, "{service}: {row:#}");
    }
    assert_eq!(shop.ended(&asked).await["status"], "succeeded");
    let web = shop.now("web").await.started;
    assert!(shop.now("db").await.started < web && web < shop.now("proxy").await.started);
}

#[tokio::test]
async fn what_needs_a_version_that_never_becomes_healthy_is_left_as_it_is() {
    let shop = Shop::up(&chain("")).await;
    let _worker = shop.fleet.worker("local").spawn();
    shop.publish("db", "1.1.0", "never").await;
    shop.publish("web", "1.1.0", "healthy").await;
    shop.fleet.watched(&shop.name("web")).await;
    shop.fleet.watched(&shop.name("db")).await;
    let others = async || {
        let (web, proxy) = (shop.now("web").await, shop.now("proxy").await);
        [web.id, web.started, proxy.id, proxy.started]
    };
    let before = others().await;
    let path = format!("/stacks/{}/update", shop.project);
    let asked = shop.asked(&path, Value::Null).await;
    let (end, row) = shop.fleet.judged(asked.operations["db"]).await;
    assert_eq!(end, End::RolledBack, "{row:#}");
    let ended = shop.ended(&asked).await;
    assert_eq!(ended["status"], "failed");
    for (service, needs) in [("web", "db"), ("proxy", "web")] {
        let members = ended["members"].as_array().unwrap();
        let is_it = |one: &&Value| text(one, "containerName") == shop.name(service);
        let one = members.iter().find(is_it).expect("it is a member");
        assert_eq!(one["status"], "failed");
        let why = text(one, "lastError");
        let expected = format!("left as it is, because it comes after {}", shop.name(needs));
        assert!(why.contains(&expected), "{why}");
    }
    assert_eq!(others().await, before);
}
