//! Running a trigger on a container (contract/drydock-container-api.md, "Run a trigger on the
//! container").

use plimsoll_domain::{
    access::Scope, acting::ActingKind, container::ContainerState, ids::OperationId,
    target::is_rollback_name,
};

use crate::{App, AppError, requests::Caller, updates::UpdateOrigin};

pub const NOT_FOUND: &str = "Trigger not found";

/// Which trigger: `/{type}/{name}` or `/{type}/{name}/{agent}`.
#[derive(Clone, Copy, Debug)]
pub struct TriggerPath<'a> {
    pub type_: &'a str,
    pub name: &'a str,
    pub agent: Option<&'a str>,
}

/// What running a trigger came to.
#[derive(Clone, Debug)]
pub enum TriggerRun {
    /// It has done what it does.
    Done,
    /// It could not; why.
    Failed(String),
    /// It updates the container: this operation does it.
    Operation(OperationId),
}

impl App {
    /// Runs a trigger on a container. One that acts also needs the permission to update.
    ///
    /// # Errors
    /// In this order (reference/drydock.md 1.9): `NotFound` container, `Invalid` for a local
    /// trigger that should act on an agent's container, `NotFound` trigger, `Conflict` for a
    /// temporary rollback container; then those of [`App::request_update`].
    pub async fn run_trigger(
        &self,
        container: &str,
        trigger: TriggerPath<'_>,
        caller: &Caller<'_>,
    ) -> Result<TriggerRun, AppError> {
        caller.authorise(Scope::TriggersRun)?;
        if let Some(operation) = self.replayed(caller).await? {
            return Ok(TriggerRun::Operation(operation));
        }
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        match ActingKind::parse(trigger.type_) {
            Some(kind) => self.run_acting(kind, state, trigger, caller).await,
            None => self.run_notifier(&entry, trigger).await,
        }
    }

    async fn run_acting(
        &self,
        kind: ActingKind,
        state: &ContainerState,
        wanted: TriggerPath<'_>,
        caller: &Caller<'_>,
    ) -> Result<TriggerRun, AppError> {
        let facts = &state.facts;
        if let (Some(agent), None) = (facts.watcher.agent_name(), wanted.agent) {
            return Err(AppError::Invalid(format!(
                "Cannot execute local {kind} trigger on remote container {agent}.{}",
                facts.id
            )));
        }
        let not_found = || AppError::NotFound(NOT_FOUND.to_owned());
        if wanted.agent != facts.watcher.agent_name() {
            return Err(not_found());
        }
        let mut triggers = self.update_triggers(&facts.watcher.agent).await?;
        triggers.retain(|one| one.kind == kind && one.name == wanted.name && one.suits(facts));
        if triggers.is_empty() {
            return Err(not_found());
        }
        if is_rollback_name(&facts.name) {
            return Err(AppError::conflict(
                "Cannot update temporary rollback container",
            ));
        }
        caller.authorise(Scope::ContainersUpdate)?;
        let operation = self
            .update_through(state, &triggers, UpdateOrigin::Trigger, caller)
            .await?;
        Ok(TriggerRun::Operation(operation))
    }
}
