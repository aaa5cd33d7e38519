//! The update and rollback program (DESIGN.md 3, 4).
//!
//! One loop ([`program`]): observe, ask `domain::recovery` for the next step, write the intent,
//! have the effect, and observe again. A worker that takes an operation over enters the same loop.
//!
//! * `action`: start, stop and restart, which need none of the phases
//! * `prepare`: everything slow, before anything is touched
//! * `observe`: what the engine shows
//! * `effects`: one function per action; each can be repeated
//! * `compose`: the Compose file that the container came from
//! * `hooks`: commands before and after an update
//! * `dependants`: those that live in the container's namespaces (reliability.md S17)
//! * `gate`: the health gate's observations
//! * `prune`: removing images that were replaced
//! * `record`: the fenced writes
//! * `turning`: failing, turning round, and trying again later

mod action;
mod compose;
mod crash_point;
mod dependants;
mod effects;
mod error;
mod gate;
mod hooks;
mod observe;
mod plan;
mod prepare;
mod program;
mod prune;
mod record;
mod turning;

use std::{collections::HashMap, sync::Arc, time::Duration};

use plimsoll_app::App;
use plimsoll_domain::{
    gate::DEFAULT_STABILITY,
    hooks::AllowedCommands,
    ids::{IdentityKey, OperationId, WatcherRef},
};
use sha2::{Digest as _, Sha256};

pub use compose::ComposePlan;
pub use crash_point::{CRASH_AT, CrashPoint, Manner, Side};
pub(crate) use gate::unhealthy;
pub(crate) use observe::{ROLE_DEPENDANT, own_name, run_of};
pub use plan::{Plan, Snapshot};

use crate::{
    compose::ComposeOptions,
    docker::Engine,
    jobs::{JobContext, Outcome},
    registry::Registries,
    watchers::Watcher,
};

/// The repository of the local tags that keep the images of backups.
pub const PIN_REPOSITORY: &str = "plimsoll-backup";

/// How operations are run.
#[derive(Clone, Debug)]
pub struct OperationSettings {
    /// By id: `docker.local`. A trigger that is not here has the defaults.
    pub triggers: HashMap<String, TriggerOptions>,
    /// How long a new container must run, where no label says otherwise. At least 1 s.
    pub stability: Duration,
    /// How long a healthcheck may take; the check's own times may allow longer.
    pub health_deadline: Option<Duration>,
    /// What hooks may run; `None` where they are off.
    pub hooks: Option<Arc<AllowedCommands>>,
    /// For tests only.
    pub crash_at: Option<CrashPoint>,
}

/// What the trigger of an operation asks of it.
#[derive(Clone, Debug)]
pub struct TriggerOptions {
    /// Ways back that are kept per container.
    pub backups: i64,
    /// Whether images that were replaced are removed once nothing needs them.
    pub prune: bool,
    /// How long an engine may take to remove a container that removes itself.
    pub auto_remove_timeout: Duration,
    /// Of a dockercompose trigger.
    pub compose: Option<ComposeOptions>,
}

impl Default for TriggerOptions {
    fn default() -> Self {
        Self {
            backups: 3,
            prune: false,
            auto_remove_timeout: Duration::from_secs(60),
            compose: None,
        }
    }
}

impl Default for OperationSettings {
    fn default() -> Self {
        Self {
            triggers: HashMap::new(),
            stability: DEFAULT_STABILITY,
            health_deadline: None,
            hooks: None,
            crash_at: CrashPoint::from_env(),
        }
    }
}

/// Runs operations. Cheap to clone; one per process.
#[derive(Clone)]
pub struct Operations {
    inner: Arc<Inner>,
}

struct Inner {
    app: App,
    engines: HashMap<WatcherRef, Engine>,
    registries: Registries,
    settings: OperationSettings,
    /// Those whose inventory is brought up to date at once; without them events do it.
    watchers: HashMap<WatcherRef, Watcher>,
}

impl Operations {
    pub fn new(
        app: App,
        engines: HashMap<WatcherRef, Engine>,
        registries: Registries,
        settings: OperationSettings,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                app,
                engines,
                registries,
                settings,
                watchers: HashMap::new(),
            }),
        }
    }

    /// With the watchers of the engines. Before the first clone.
    pub fn shown_by(mut self, watchers: HashMap<WatcherRef, Watcher>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.watchers = watchers;
        }
        self
    }

    /// Runs the program of one operation until it ends, is handed over, or must wait.
    pub async fn run(&self, operation: OperationId, context: &JobContext) -> Outcome {
        let loaded = match self.inner.app.store().load_operation(operation).await {
            Ok(loaded) => loaded,
            Err(error) => {
                return Outcome::Later {
                    after: Duration::from_secs(1),
                    why: error.to_string(),
                };
            }
        };
        let Some((operation, now)) = loaded else {
            return Outcome::Failed("the operation does not exist any more".to_owned());
        };
        if operation.completed_at.is_some() {
            return Outcome::Done;
        }
        let Some(engine) = self.inner.engines.get(&operation.watcher) else {
            return Outcome::Later {
                after: Duration::from_secs(5),
                why: format!("this worker has no engine named {}", operation.watcher),
            };
        };
        match program::Program::new(&self.inner, engine, context, operation, now) {
            Ok(program) => program.run().await,
            // Another version of the worker may read it.
            Err(why) => Outcome::Later {
                after: Duration::from_secs(60),
                why,
            },
        }
    }
}

/// The local tag that keeps the image a container ran before this operation.
pub fn pin_tag(identity: &IdentityKey, operation: OperationId) -> (String, String) {
    let hash = hex::encode(Sha256::digest(identity.as_str().as_bytes()));
    (
        format!("{PIN_REPOSITORY}/{}", &hash[..16]),
        operation.as_uuid().simple().to_string(),
    )
}
