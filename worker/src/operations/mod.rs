//! The update and rollback program (DESIGN.md 3, 4).
//!
//! One loop ([`program`]): observe, ask `domain::recovery` for the next step, write the intent,
//! have the effect, and observe again. A worker that takes an operation over enters the same loop.
//!
//! * `action`: start, stop and restart, which need none of the phases
//! * `prepare`: everything slow, before anything is touched
//! * `handover`: which operations a worker must not run itself
//! * `helper`: the container that runs an operation on the worker's own
//! * `observe`: what the engine shows
//! * `effects`: one function per action; each can be repeated
//! * `compose`: the Compose file that the container came from
//! * `group`: coming after others
//! * `hooks`: commands before and after an update
//! * `labels`: making a container anew with other labels
//! * `steps`: the check before an update, and what follows it
//! * `dependants`: those that live in the container's namespaces (reliability.md S17)
//! * `gate`: the health gate's observations
//! * `own`: which container is the worker's own
//! * `prune`: removing images that were replaced
//! * `record`: the fenced writes
//! * `turning`: failing, turning round, and trying again later

mod action;
mod compose;
mod counts;
mod crash_point;
mod dependants;
mod effects;
mod error;
mod gate;
mod group;
mod handover;
mod helper;
mod hooks;
mod labels;
mod observe;
mod own;
mod plan;
mod prepare;
mod program;
mod prune;
mod record;
mod security;
mod spans;
mod steps;
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
pub use helper::HelperCommand;
pub(crate) use helper::is_helper;
pub(crate) use observe::{ROLE_DEPENDANT, own_name, run_of};
pub use own::Own;
pub use plan::{Plan, Snapshot};

use crate::{
    compose::{Access, ComposeOptions},
    docker::Engine,
    jobs::{JobContext, Outcome},
    registry::Registries,
    scan::Tools,
    scripts::Scripts,
    watchers::Watcher,
};

/// The repository of the local tags that keep the images of backups.
pub const PIN_REPOSITORY: &str = "plimsoll-backup";

/// How operations are run.
#[derive(Clone, Debug)]
pub struct OperationSettings {
    /// By id: `docker.local`. A trigger that is not here has the defaults.
    pub triggers: HashMap<String, TriggerOptions>,
    /// Which Compose files may be edited where somebody asks for that, whatever trigger there is.
    pub compose: Access,
    /// How long a new container must run, where no label says otherwise. At least 1 s.
    pub stability: Duration,
    /// How long a healthcheck may take; the check's own times may allow longer.
    pub health_deadline: Option<Duration>,
    /// What hooks may run; `None` where they are off.
    pub hooks: Option<Arc<AllowedCommands>>,
    /// Where the scripts are that check updates; `None` where there are none.
    pub scripts: Option<Scripts>,
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
            compose: Access::Within(Vec::new()),
            stability: DEFAULT_STABILITY,
            health_deadline: None,
            hooks: None,
            scripts: None,
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
    /// Where this process runs.
    own: Own,
    /// How it is started as a helper; `None` where there can be none.
    helper: Option<HelperCommand>,
    tools: Tools,
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
                own: Own::default(),
                helper: None,
                tools: Tools::default(),
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

    /// With the container that this process runs in, and how a helper of it is started, if there
    /// can be one. Before the first clone. A helper does not say so: it works on that container.
    pub fn inside(mut self, own: Own, helper: Option<HelperCommand>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.own = own;
            inner.helper = helper;
        }
        self
    }

    /// With what looks into the images of updates. Before the first clone.
    pub fn scanned_by(mut self, tools: Tools) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.tools = tools;
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
        let span = tracing::Span::current();
        span.record("container", operation.container_name.as_str());
        if let Some(request) = &operation.request_id {
            span.record("request_id", request.as_str());
        }
        let Some(engine) = self.inner.engines.get(&operation.watcher) else {
            return Outcome::Later {
                after: Duration::from_secs(5),
                why: format!("this worker has no engine named {}", operation.watcher),
            };
        };
        match self.handed_over(engine, &operation, context).await {
            Ok(None) => {}
            Ok(Some(outcome)) => return outcome,
            Err(error) => {
                return Outcome::Later {
                    after: Duration::from_secs(1),
                    why: error.to_string(),
                };
            }
        }
        let (id, in_group) = (operation.id, operation.group.is_some());
        match program::Program::new(&self.inner, engine, context, operation, now) {
            Ok(program) => {
                let outcome = program.run().await;
                if in_group && outcome == Outcome::Done {
                    self.hurry_followers(id).await;
                }
                outcome
            }
            // Another version of the worker may read it.
            Err(why) => Outcome::Later {
                after: Duration::from_secs(60),
                why,
            },
        }
    }
}

impl Operations {
    /// Those that come after it would find out by themselves, a little later.
    async fn hurry_followers(&self, operation: OperationId) {
        if let Err(error) = self.inner.app.store().hurry_followers(operation).await {
            tracing::debug!(%error, %operation, "what comes after it was not told");
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
