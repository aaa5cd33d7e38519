//! Operations that a worker must not run itself, because they take away what it lives on
//! (reliability.md U1): its own container, or the one that it reaches its engine through. A helper
//! runs them.

use std::time::Duration;

use plimsoll_app::store::update_operations::Operation;
use plimsoll_domain::{
    ids::ContainerId, labels::UserLabels, operation::Phase, spec::OPERATION_LABEL,
};
use serde_json::Value;

use super::{
    Operations,
    error::StepError,
    helper::{self, socket_of},
    own::Own,
    program::{Program, Turn},
};
use crate::{
    docker::{Engine, EngineAddress, EngineError},
    jobs::{JobContext, Outcome},
    json,
};

/// How long the helper has to take the operation before the worker looks again.
const HANDED_OVER: Duration = Duration::from_secs(2);

impl Operations {
    /// What becomes of an operation that is a helper's. `None`: it is not, or there can be no
    /// helper, and the program says why it refuses.
    pub(super) async fn handed_over(
        &self,
        engine: &Engine,
        operation: &Operation,
        context: &JobContext,
    ) -> Result<Option<Outcome>, StepError> {
        if operation.kind.action().is_some() {
            return Ok(None);
        }
        let command = self.inner.helper.as_ref();
        let own = match command {
            Some(_) => self.own_container(engine, operation).await?,
            None => None,
        };
        let prepares = operation.phase == Phase::Prepare;
        let (own, socket) = match own {
            Some(own) => (Some(own), None),
            None => match self.way_to_engine(engine, operation).await {
                Ok(Some((own, socket))) => (own, Some(socket)),
                Ok(None) => return Ok(None),
                // Nothing is touched yet: the program waits, and gives up.
                Err(error) if error.is_engine_away() && prepares => return Ok(None),
                // A helper may be at it, and would wait for the lease.
                Err(error) => return Err(error.into()),
            },
        };
        let (Some(own), Some(command)) = (own, command) else {
            let left = Outcome::Later {
                after: HANDED_OVER,
                why: "only a helper can go on with it".to_owned(),
            };
            return Ok((!prepares).then_some(left));
        };
        let lease = context.lease.lease();
        let app = &self.inner.app;
        app.begin_self_update(lease, operation.id).await?;
        helper::ensure(engine, operation, &own, command, socket.as_deref()).await?;
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
        let of_operation = [
            Some(operation.container_id.as_str()),
            operation.old_container_id.as_deref(),
            operation.new_container_id.as_deref(),
        ];
        for own in here(&self.inner.own, engine).await? {
            let label = own["Config"]["Labels"][OPERATION_LABEL].as_str();
            if of_operation.contains(&own["Id"].as_str())
                || label == Some(operation.id.to_string().as_str())
            {
                return Ok(Some(own));
            }
        }
        if self.inner.own.ids().is_empty() {
            return Ok(None);
        }
        match target(engine, operation).await? {
            Some(target) if self.inner.own.lives_in(&target) => Ok(Some(target)),
            _ => Ok(None),
        }
    }

    /// The engine's socket on its host, if the operation is on a container that the engine may be
    /// reached through; and this process' own container, if it runs in one there.
    async fn way_to_engine(
        &self,
        engine: &Engine,
        operation: &Operation,
    ) -> Result<Option<(Option<Value>, String)>, EngineError> {
        if is_direct(engine) {
            return Ok(None);
        }
        let Some(target) = target(engine, operation).await? else {
            return Ok(None);
        };
        let Some(socket) = socket_of(&target) else {
            return Ok(None);
        };
        if !says_infrastructure(&target)
            || !is_infrastructure(&target, &image_of(engine, &target).await?)
        {
            return Ok(None);
        }
        let own = here(&self.inner.own, engine).await?.into_iter().next();
        Ok(Some((own, socket.to_owned())))
    }
}

impl Program<'_> {
    /// What Plimsoll itself stands on is updated with its engine to itself, and clients are told,
    /// as for Plimsoll's own container. Refused where it would cut the way to the engine.
    pub(super) async fn infrastructure(
        &mut self,
        container: &Value,
        image: &Value,
    ) -> Result<Option<Turn>, StepError> {
        if !is_infrastructure(container, image) {
            return Ok(None);
        }
        if !is_direct(self.engine) && socket_of(container).is_some() {
            let in_container = !here(&self.world.own, self.engine).await?.is_empty();
            if self.world.helper.is_some() && in_container {
                // The engine was away when a helper would have been made.
                return Ok(Some(Turn::End(Outcome::Later {
                    after: HANDED_OVER,
                    why: "a helper is to run it".to_owned(),
                })));
            }
            return Err(StepError::Refused(
                "Plimsoll may reach the engine through it, and runs in no container on that \
                 engine that a helper could be made from: let a worker use the engine's own \
                 socket, or replace the container by hand"
                    .to_owned(),
            ));
        }
        let app = &self.world.app;
        let id = self.operation.id;
        app.begin_self_update(self.lease.lease(), id).await?;
        Ok(None)
    }
}

fn is_direct(engine: &Engine) -> bool {
    matches!(engine.address(), EngineAddress::Unix { .. })
}

/// The inspections of the containers that this process may run in. Empty where it runs in none, or
/// on another engine.
async fn here(own: &Own, engine: &Engine) -> Result<Vec<Value>, EngineError> {
    let mut found = Vec::new();
    for id in own.ids().iter().filter_map(|id| ContainerId::parse(id)) {
        match engine.inspect(&id).await {
            Ok(own) => found.push(own),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

async fn target(engine: &Engine, operation: &Operation) -> Result<Option<Value>, EngineError> {
    let Some(id) = ContainerId::parse(&operation.container_id) else {
        return Ok(None);
    };
    match engine.inspect(&id).await {
        Ok(target) => Ok(Some(target)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn image_of(engine: &Engine, container: &Value) -> Result<Value, EngineError> {
    let image = container["Image"].as_str().unwrap_or_default();
    match engine.inspect_image(image).await {
        Err(error) if error.is_not_found() => Ok(Value::Null),
        other => other,
    }
}

/// Whether the label is there at all, whoever set it.
fn says_infrastructure(container: &Value) -> bool {
    is_infrastructure(container, &Value::Null)
}

/// `dd.update.mode=infrastructure`, from the user.
fn is_infrastructure(container: &Value, image: &Value) -> bool {
    let (own, default) = (json::labels(container), json::labels(image));
    UserLabels::new(&own, &default).rules().infrastructure
}
