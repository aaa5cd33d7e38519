//! The update and rollback program (DESIGN.md 3, 4).
//!
//! One loop ([`program`]): observe, ask `domain::recovery` for the next step, write the intent,
//! have the effect, and observe again. A worker that takes an operation over enters the same loop.
//!
//! * `action`: start, stop and restart, which need none of the phases
//! * `prepare`: everything slow, before anything is touched
//! * `helper`: the container that runs an operation on the worker's own
//! * `observe`: what the engine shows
//! * `effects`: one function per action; each can be repeated
//! * `compose`: the Compose file that the container came from
//! * `hooks`: commands before and after an update
//! * `dependants`: those that live in the container's namespaces (reliability.md S17)
//! * `gate`: the health gate's observations
//! * `own`: which container is the worker's own
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
mod helper;
mod hooks;
mod observe;
mod own;
mod plan;
mod prepare;
mod program;
mod prune;
mod record;
mod security;
mod turning;

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{SecondsFormat, Utc};
use plimsoll_app::{App, store::update_operations::Operation};
use plimsoll_domain::{
    gate::DEFAULT_STABILITY,
    hooks::AllowedCommands,
    ids::{ContainerId, IdentityKey, OperationId, WatcherRef},
    spec::OPERATION_LABEL,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

pub use compose::ComposePlan;
pub use crash_point::{CRASH_AT, CrashPoint, Manner, Side};
pub(crate) use gate::unhealthy;
pub use helper::HelperCommand;
pub(crate) use helper::is_helper;
pub(crate) use observe::{ROLE_DEPENDANT, own_name, run_of};
pub use own::Own;
pub use plan::{Plan, Snapshot};

use error::StepError;

use crate::{
    compose::ComposeOptions,
    docker::Engine,
    jobs::{JobContext, Outcome},
    registry::Registries,
    scan::Scanner,
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
    /// Where this process runs.
    own: Own,
    /// How it is started as a helper; `None` where there can be none.
    helper: Option<HelperCommand>,
    scanner: Option<Scanner>,
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
                scanner: None,
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
    pub fn scanned_by(mut self, scanner: Option<Scanner>) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.scanner = scanner;
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
        match self.handed_to_helper(engine, &operation, context).await {
            Ok(None) => {}
            Ok(Some(outcome)) => return outcome,
            Err(error) => {
                return Outcome::Later {
                    after: Duration::from_secs(1),
                    why: error.to_string(),
                };
            }
        }
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

impl Operations {
    /// An operation on the container that this process runs in is a helper's: a worker that stops
    /// itself cannot start its successor. `None`: it is not, or there can be no helper, and the
    /// program says why it refuses.
    async fn handed_to_helper(
        &self,
        engine: &Engine,
        operation: &Operation,
        context: &JobContext,
    ) -> Result<Option<Outcome>, StepError> {
        let Some(command) = &self.inner.helper else {
            return Ok(None);
        };
        if operation.kind.action().is_some() {
            return Ok(None);
        }
        let Some(own) = self.own_container(engine, operation).await? else {
            return Ok(None);
        };
        let event = json!({
            "opId": operation.id,
            "requiresAck": false,
            "ackTimeoutMs": 0,
            "startedAt": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
        });
        let app = &self.inner.app;
        let lease = context.lease.lease();
        let told = app
            .store()
            .begin_self_update(lease, operation.id, &event.to_string())
            .await?;
        if told && let Err(error) = app.queue().announce_events().await {
            tracing::debug!(%error, "readers find the event themselves");
        }
        helper::ensure(engine, operation, &own, command).await?;
        Ok(Some(Outcome::Later {
            after: HANDED_OVER,
            why: format!("{} runs it", helper::helper_name(operation.id)),
        }))
    }

    /// The inspection of the container that this process runs in, if the operation stops or starts
    /// it: the old one, the new one, or one whose network it shares.
    async fn own_container(
        &self,
        engine: &Engine,
        operation: &Operation,
    ) -> Result<Option<Value>, StepError> {
        let inner = &self.inner;
        for id in inner
            .own
            .ids()
            .iter()
            .filter_map(|id| ContainerId::parse(id))
        {
            let own = match engine.inspect(&id).await {
                Ok(own) => own,
                // It runs on another engine.
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let of_operation = [
                Some(operation.container_id.as_str()),
                operation.old_container_id.as_deref(),
                operation.new_container_id.as_deref(),
            ];
            let label = own["Config"]["Labels"][OPERATION_LABEL].as_str();
            if of_operation.contains(&Some(id.as_str()))
                || label == Some(operation.id.to_string().as_str())
            {
                return Ok(Some(own));
            }
        }
        if inner.own.ids().is_empty() {
            return Ok(None);
        }
        let Some(id) = ContainerId::parse(&operation.container_id) else {
            return Ok(None);
        };
        match engine.inspect(&id).await {
            Ok(target) if inner.own.lives_in(&target) => Ok(Some(target)),
            Ok(_) => Ok(None),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// How long the helper has to take the operation before the worker looks again.
const HANDED_OVER: Duration = Duration::from_secs(2);

/// The local tag that keeps the image a container ran before this operation.
pub fn pin_tag(identity: &IdentityKey, operation: OperationId) -> (String, String) {
    let hash = hex::encode(Sha256::digest(identity.as_str().as_bytes()));
    (
        format!("{PIN_REPOSITORY}/{}", &hash[..16]),
        operation.as_uuid().simple().to_string(),
    )
}
