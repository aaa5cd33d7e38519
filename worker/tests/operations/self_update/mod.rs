//! Plimsoll's own container: the real binary in a real container, updated by its helper.

mod alone;
mod deaths;
mod infrastructure;

use std::time::Duration;

use bollard::models::ContainerCreateBody;
use plimsoll_domain::ids::OperationId;
use plimsoll_support::{contained, image::Image, oracle::End, wait};

use crate::world::{Deployed, World};

/// Reconcilers look every 20 s.
const TIDY: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(60);

fn worker_image(version: &str) -> Image {
    contained::image(version, "plimsoll-worker", &["run"])
}

struct Own {
    world: World,
    container: Deployed,
}

impl Own {
    /// A worker in a container, which watches nothing by itself, because others use the engine
    /// too. Redis is away.
    async fn start() -> Self {
        Self::reaching([contained::engine_socket()], &[]).await
    }

    /// One that reaches the engine in its own way: mounts and settings.
    async fn reaching<const N: usize>(binds: [String; N], settings: &[String]) -> Self {
        let world = World::of_the_binary().await;
        let reference = world.push("1.0.0", worker_image("1.0.0")).await;
        world.docker.pull(&reference).await;
        let mut env = vec![
            format!("DATABASE_URL={}", world.database.url()),
            "REDIS_URL=redis://127.0.0.1:1/".to_owned(),
            "PLIMSOLL_WATCHER_LOCAL_WATCHBYDEFAULT=false".to_owned(),
            "PLIMSOLL_UPDATE_POST_START_LIVENESS_GRACE_MS=1000".to_owned(),
        ];
        env.extend_from_slice(settings);
        let name = world.docker.name("plimsoll");
        let mut binds = binds.to_vec();
        binds.push(contained::directory_of(&world.database.socket()));
        let body = ContainerCreateBody {
            image: Some(reference),
            env: Some(env),
            // As compose files do: the host name says nothing about the container.
            hostname: Some("plimsoll".to_owned()),
            host_config: Some(contained::host_config(binds)),
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

    /// What an invariant test sees in the end: Plimsoll once, no helper, and clients were told.
    async fn ends(&self, operation: OperationId, expected: End) {
        assert_eq!(self.world.judged(operation).await.0, expected);
        let name = self.container.name.as_str();
        wait::until_true("only the worker is left", TIDY, async || {
            let mut all = self.world.docker.containers().await;
            all.retain(|(other, ..)| {
                other.starts_with(name) || other.starts_with("plimsoll-helper-")
            });
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

fn good() -> Image {
    worker_image("1.1.0")
}

impl Own {
    /// From now on the program of that container's operation stops at that write of its row, until
    /// it is let go.
    async fn hold(&self, container: &Deployed, write: &str) {
        let name = &container.name;
        let sql = format!(
            "SELECT pg_advisory_lock(1);
             CREATE FUNCTION test_hold() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END $$;
             CREATE TRIGGER test_hold BEFORE UPDATE ON update_operations
                 FOR EACH ROW WHEN (NEW.container_name = '{name}' AND ({write}))
                 EXECUTE FUNCTION test_hold();"
        );
        self.world
            .rows
            .batch_execute(&sql)
            .await
            .expect("a trigger");
    }

    async fn is_held(&self) {
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_locks JOIN pg_database d ON d.oid = database
                                   WHERE locktype = 'advisory' AND NOT granted
                                     AND objid = 1 AND datname = current_database())";
        wait::until_true("the program is held", SOON, async || {
            let row = self.world.rows.query_one(sql, &[]).await;
            row.expect("locks can be read").get(0)
        })
        .await;
    }

    async fn let_go(&self) {
        let sql = "SELECT pg_advisory_unlock(1)";
        self.world
            .rows
            .batch_execute(sql)
            .await
            .expect("it is held");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plimsoll_updates_its_own_container() {
    let own = Own::start().await;
    let operation = own.request(good()).await;
    own.ends(operation, End::Succeeded).await;
    assert_eq!(own.world.takeovers(operation).await, 0);
}
