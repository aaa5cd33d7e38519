//! Plimsoll's own container: the real binary in a real container, updated by its helper.

#[allow(dead_code)]
mod operations_support;

use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, RestartPolicy, RestartPolicyNameEnum};
use operations_support::{Deployed, World};
use plimsoll_domain::ids::OperationId;
use plimsoll_support::{image::Image, oracle::End, server::binary, wait};
use plimsoll_worker::operations::CRASH_AT;

/// Reconcilers look every 20 s.
const TIDY: Duration = Duration::from_secs(60);

/// An image of the worker. The binary and the libraries that it needs are the host's.
fn worker_image(version: &str) -> Image {
    Image::app(version)
        .entrypoint(["/plimsoll/plimsoll-worker"])
        .cmd(["run"])
}

struct Own {
    world: World,
    container: Deployed,
}

impl Own {
    /// A worker in a container, which watches nothing by itself, because others use the engine
    /// too. Redis is away.
    async fn start(crash_at: Option<&str>) -> Self {
        let world = World::of_the_binary().await;
        let reference = world.push("1.0.0", worker_image("1.0.0")).await;
        world.docker.pull(&reference).await;
        let program = binary("plimsoll-worker");
        let program = program.parent().expect("it is in a directory").display();
        let socket = world.database.socket();
        let socket = socket.parent().expect("it is in a directory").display();
        let mut binds = vec![
            format!("{program}:/plimsoll:ro"),
            format!("{socket}:{socket}"),
            "/var/run/docker.sock:/var/run/docker.sock".to_owned(),
            "/usr/lib:/usr/lib:ro".to_owned(),
            "/usr/lib:/lib:ro".to_owned(),
        ];
        if std::path::Path::new("/usr/lib64").is_dir() {
            binds.push("/usr/lib64:/lib64:ro".to_owned());
        }
        let mut env = vec![
            format!("DATABASE_URL={}", world.database.url()),
            "REDIS_URL=redis://127.0.0.1:1/".to_owned(),
            "PLIMSOLL_WATCHER_LOCAL_WATCHBYDEFAULT=false".to_owned(),
            "PLIMSOLL_UPDATE_POST_START_LIVENESS_GRACE_MS=1000".to_owned(),
        ];
        env.extend(crash_at.map(|point| format!("{CRASH_AT}={point}")));
        let name = world.docker.name("plimsoll");
        let body = ContainerCreateBody {
            image: Some(reference),
            env: Some(env),
            // As compose files do: the host name says nothing about the container.
            hostname: Some("plimsoll".to_owned()),
            host_config: Some(HostConfig {
                binds: Some(binds),
                network_mode: Some("host".to_owned()),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::ALWAYS),
                    maximum_retry_count: None,
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let id = world.docker.run_with(&name, body).await;
        Self {
            world,
            container: Deployed { name, id },
        }
    }

    async fn request(&self, image: Image) -> OperationId {
        let target = self.world.push("1.1.0", image).await;
        self.world.request_update(&self.container, &target).await
    }

    /// What an invariant test sees in the end: one container, no helper, and clients were told.
    async fn ends(&self, operation: OperationId, expected: End) {
        assert_eq!(self.world.judged(operation).await.0, expected);
        let name = self.container.name.as_str();
        wait::until_true("only the worker is left", TIDY, async || {
            let all = self.world.docker.containers().await;
            all.len() == 1 && all[0].0 == name && all[0].2 == "running"
        })
        .await;
        let sql = "SELECT payload FROM events WHERE type = 'dd:self-update'";
        let told = self.world.rows.query(sql, &[]).await.expect("events");
        assert_eq!(told.len(), 1);
        let payload: &str = told[0].get(0);
        assert!(payload.contains(&operation.to_string()), "{payload}");
    }
}

async fn dies_at(point: &str) {
    let own = Own::start(Some(point)).await;
    let operation = own.request(worker_image("1.1.0")).await;
    own.ends(operation, End::Succeeded).await;
    assert!(own.world.takeovers(operation).await >= 1, "{point}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plimsoll_updates_its_own_container() {
    let own = Own::start(None).await;
    let operation = own.request(worker_image("1.1.0")).await;
    own.ends(operation, End::Succeeded).await;
    assert_eq!(own.world.takeovers(operation).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plimsoll_comes_back_when_its_new_version_does_not_start() {
    let own = Own::start(None).await;
    let bad = Image::app("1.1.0").entrypoint(["sh", "-c", "exit 3"]);
    let operation = own.request(bad).await;
    own.ends(operation, End::RolledBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_before_the_worker_stops_is_started_again() {
    tokio::join!(dies_at("renamed:after"), dies_at("create-new:after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_while_nothing_else_runs_is_started_again() {
    tokio::join!(dies_at("stop-old:after"), dies_at("old-stopped:after"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_beside_the_new_worker_is_started_again() {
    tokio::join!(
        dies_at("new-started:after"),
        dies_at("health-gate-passed:after"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_somebody_removes_is_made_again() {
    let own = Own::start(None).await;
    let operation = own.request(worker_image("1.1.0")).await;
    let helper = format!("plimsoll-helper-{operation}");
    wait::until_true("the helper is there", TIDY, async || {
        own.world.docker.inspect(&helper).await.is_some()
    })
    .await;
    own.world.docker.remove(&helper).await;
    own.ends(operation, End::Succeeded).await;
}
