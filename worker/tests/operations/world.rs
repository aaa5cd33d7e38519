//! A database, a registry, an engine and workers for one test.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use plimsoll_app::store::operation_inputs::OperationInput;
use plimsoll_app::store::{requests::NewRequest, update_operations::NewOperation};
use plimsoll_app::{App, AppSettings, Queue, Store, store::StoreError, store::StoreSettings};
use plimsoll_domain::hooks::AllowedCommands;
use plimsoll_domain::ids::{BackupId, ContainerId, IdentityKey, JobId, OperationId, WatcherRef};
use plimsoll_domain::operation::OperationKind;
use plimsoll_support::docker::{Docker, LABEL};
use plimsoll_support::image::Image;
use plimsoll_support::oracle::{End, Oracle, completed, row};
use plimsoll_support::postgres::{Client, Database};
use plimsoll_support::registry::Registry;
use plimsoll_support::wait;
use plimsoll_worker::docker::{Engine, EngineAddress};
use plimsoll_worker::explorer::Explorer;
use plimsoll_worker::jobs::{EngineCapacity, Handlers, Runner, operation, removal};
use plimsoll_worker::operations::{CrashPoint, OperationSettings, Operations, Own, TriggerOptions};
use plimsoll_worker::registry::Registries;
use plimsoll_worker::scripts::Scripts;
use plimsoll_worker::watchers::LabelScope;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub struct World {
    pub docker: Docker,
    pub registry: Registry,
    pub database: Database,
    pub rows: Client,
    pub oracle: Oracle,
    pub app: App,
    pub watcher: WatcherRef,
    /// What the triggers of its workers ask for.
    pub triggers: HashMap<String, TriggerOptions>,
    /// What hooks may run, where they are on.
    pub hooks: Option<Arc<AllowedCommands>>,
    /// The directory of scripts, where there is one.
    pub scripts: Option<Scripts>,
}

/// A worker in this process. Dropping it is its sudden death.
pub struct Worker {
    pub shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Worker {
    /// SIGTERM, and what follows.
    pub async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.expect("the worker ends in order");
    }
}

impl World {
    pub async fn new() -> Self {
        let database = Database::migrated().await;
        let app = app(database.url());
        let docker = Docker::connect().await;
        let watcher = WatcherRef::local(format!("engine-{}", docker.id()));
        Self::with(database, docker, app, watcher).await
    }

    /// As the binary finds it: its watcher of the local engine is named `local`.
    pub async fn of_the_binary() -> Self {
        let database = Database::migrated().await;
        let app = app(database.url());
        let docker = Docker::connect().await;
        Self::with(database, docker, app, WatcherRef::local("local")).await
    }

    async fn with(database: Database, docker: Docker, app: App, watcher: WatcherRef) -> Self {
        let oracle = Oracle::follow(&docker).await;
        Self {
            oracle,
            registry: Registry::start().await,
            rows: database.client().await,
            watcher,
            docker,
            database,
            app,
            triggers: HashMap::new(),
            hooks: None,
            scripts: None,
        }
    }

    pub fn worker(&self) -> Worker {
        self.worker_that(None)
    }

    pub fn worker_that(&self, crash_at: Option<CrashPoint>) -> Worker {
        let engine = Engine::new(EngineAddress::local()).expect("the local engine");
        self.worker_on(&self.app, engine, crash_at)
    }

    /// A worker that reaches database and engine its own way.
    pub fn worker_on(&self, app: &App, engine: Engine, crash_at: Option<CrashPoint>) -> Worker {
        let explorer = Explorer {
            app: app.clone(),
            watcher: self.watcher.clone(),
            engine: engine.clone(),
            // Nothing of anybody else's is ever removed.
            scope: Some(LabelScope {
                key: LABEL.to_owned(),
                value: Some(self.docker.id().to_owned()),
            }),
            own: Own::default(),
            crash_at: crash_at.clone(),
        };
        let operations = Operations::new(
            app.clone(),
            HashMap::from([(self.watcher.clone(), engine)]),
            Registries::new(Vec::new(), None).expect("no settings"),
            OperationSettings {
                compose: plimsoll_worker::compose::Access::Within(Vec::new()),
                stability: Duration::from_secs(1),
                health_deadline: Some(Duration::from_secs(20)),
                crash_at,
                triggers: self.triggers.clone(),
                hooks: self.hooks.clone(),
                scripts: self.scripts.clone(),
            },
        );
        let handlers = Handlers::default()
            .with(operation::KIND, move |context| {
                operation::run(operations.clone(), context)
            })
            .with(removal::KIND, move |context| {
                removal::run(explorer.clone(), context)
            });
        let capacity = EngineCapacity {
            watcher: self.watcher.clone(),
            places: vec![(operation::KIND, 4), (removal::KIND, 1)],
        };
        let runner = Runner::new(app.clone(), Uuid::new_v4(), vec![capacity], handlers);
        let shutdown = CancellationToken::new();
        Worker {
            task: tokio::spawn(runner.run(shutdown.clone())),
            shutdown,
        }
    }

    pub async fn push(&self, tag: &str, image: Image) -> String {
        let image = image.label("plimsoll.test", self.docker.id());
        self.registry.push("app", tag, &image).await;
        self.registry.reference("app", tag)
    }

    /// Publishes `image` and runs it under a restart policy.
    pub async fn deploy(
        &self,
        tag: &str,
        image: Image,
        restart: RestartPolicyNameEnum,
    ) -> Deployed {
        self.deploy_labelled(tag, image, restart, HashMap::new())
            .await
    }

    pub async fn deploy_labelled(
        &self,
        tag: &str,
        image: Image,
        restart: RestartPolicyNameEnum,
        labels: HashMap<String, String>,
    ) -> Deployed {
        let reference = self.push(tag, image).await;
        self.docker.pull(&reference).await;
        let name = self.docker.name("app");
        let body = ContainerCreateBody {
            image: Some(reference),
            labels: Some(labels),
            host_config: Some(HostConfig {
                restart_policy: Some(RestartPolicy {
                    name: Some(restart),
                    maximum_retry_count: None,
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let id = self.docker.run_with(&name, body).await;
        Deployed { name, id }
    }

    pub async fn request_update(&self, container: &Deployed, target: &str) -> OperationId {
        self.request(container, OperationKind::Update, target, None)
            .await
            .expect("the request is accepted")
    }

    pub async fn request(
        &self,
        container: &Deployed,
        kind: OperationKind,
        target: &str,
        backup: Option<BackupId>,
    ) -> Result<OperationId, StoreError> {
        let input = OperationInput::default();
        self.request_with(container, kind, target, backup, input)
            .await
    }

    pub async fn request_with(
        &self,
        container: &Deployed,
        kind: OperationKind,
        target: &str,
        backup: Option<BackupId>,
        input: OperationInput<'_>,
    ) -> Result<OperationId, StoreError> {
        let id = OperationId::generate();
        let operation = NewOperation {
            id,
            kind,
            watcher: self.watcher.clone(),
            container: ContainerId::parse(&container.id).expect("an id"),
            container_name: container.name.clone(),
            identity: self.identity(container),
            trigger_name: Some("docker.local".to_owned()),
            from_version: Some("1.0.0".to_owned()),
            to_version: Some("1.1.0".to_owned()),
            target_image: target.to_owned(),
            target_digest: None,
            backup,
            compose_file: None,
            rollback_reason: None,
            actor: "tester".to_owned(),
            request_id: None,
        };
        let request = NewRequest {
            operation: &operation,
            job: JobId::generate(),
            audit_action: "container-update",
            audit_details: None,
            event: "{}",
            idempotency: None,
            input,
        };
        self.app.store().accept_operation(&request).await?;
        Ok(id)
    }

    pub fn identity(&self, container: &Deployed) -> IdentityKey {
        IdentityKey::new(&self.watcher, &container.name, None)
    }

    /// Waits for the end, has the oracle judge, and gives the row.
    pub async fn judged(&self, operation: OperationId) -> (End, Value) {
        let end = self
            .oracle
            .check(&self.docker, &self.rows, operation.as_uuid())
            .await;
        (end, completed(&self.rows, operation.as_uuid()).await)
    }

    /// Waits for the phase, or the step that is about to be taken.
    pub async fn reaches(&self, operation: OperationId, column: &str, value: &str) {
        wait::glimpse(value, Duration::from_secs(90), async || {
            row(&self.rows, operation.as_uuid()).await[column] == value
        })
        .await;
    }

    pub async fn takeovers(&self, operation: OperationId) -> i32 {
        let sql = "SELECT takeovers FROM jobs WHERE operation_id = $1";
        let row = self.rows.query_one(sql, &[&operation.as_uuid()]).await;
        row.expect("the job is kept").get(0)
    }

    /// What now bears the name.
    pub async fn survivor(&self, container: &Deployed) -> Deployed {
        let found = self.docker.inspect(&container.name).await;
        Deployed {
            name: container.name.clone(),
            id: found.and_then(|found| found.id).expect("it is there"),
        }
    }
}

/// Use cases on a database of their own. Redis is away in all of these tests: the sweep must do.
pub fn app(url: &str) -> App {
    let settings = StoreSettings {
        url: url.to_owned().into(),
        connections: 4,
    };
    let store = Store::new(&settings).expect("the URL is right");
    let queue = Queue::new(&"redis://127.0.0.1:1/".to_owned().into()).expect("a URL");
    App::new(store, queue, AppSettings::default())
}

#[derive(Clone, Debug)]
pub struct Deployed {
    pub name: String,
    pub id: String,
}
