//! Running a trigger that notifies by hand: a message in the outbox like any other, with one
//! attempt, whose end is waited for.

use std::time::Duration;

use chrono::Utc;
use plimsoll_domain::{access::Scope, acting::ActingKind, notification::Form, view::view};
use plimsoll_store::notifications::{self, NewMessage, RUN};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    App, AppError,
    inventory::Entry,
    requests::Caller,
    trigger_runs::{NOT_FOUND, TriggerPath, TriggerRun},
};

/// How long an answer waits: longer than any service may take.
const PATIENCE: Duration = Duration::from_secs(75);
/// A message that no worker has begun with by then is taken back.
const UNCLAIMED: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(100);

impl App {
    /// Sends one message about a container that is there.
    pub(crate) async fn run_notifier(
        &self,
        entry: &Entry,
        trigger: TriggerPath<'_>,
    ) -> Result<TriggerRun, AppError> {
        let facts = &entry.state.facts;
        let suits = trigger.agent.is_none() || trigger.agent == facts.watcher.agent_name();
        if !suits || !self.is_notifier(trigger).await? {
            return Err(AppError::NotFound(NOT_FOUND.to_owned()));
        }
        let context = self.settings().view_context();
        let container = serde_json::to_value(view(&entry.state, &context, Utc::now()))
            .map_err(|e| AppError::Internal(e.to_string()))?;
        self.send_and_wait(trigger, container).await
    }

    /// Runs a trigger with the container of `body`, which need not exist. A trigger that acts needs
    /// one that does.
    ///
    /// # Errors
    /// In Drydock's words (reference/drydock.md 1.9): `Invalid` body, `Invalid` for a container of
    /// an agent without the agent in the path, `Conflict` for one of another agent, `NotFound`.
    pub async fn run_trigger_with(
        &self,
        trigger: TriggerPath<'_>,
        body: &Value,
        caller: &Caller<'_>,
    ) -> Result<TriggerRun, AppError> {
        caller.authorise(Scope::TriggersRun)?;
        let TriggerPath { type_, name, agent } = trigger;
        let id = body["id"].as_str().filter(|id| !id.is_empty());
        let id = id.ok_or_else(|| AppError::Invalid("Invalid trigger request body".to_owned()))?;
        let owner = body["agent"].as_str().filter(|owner| !owner.is_empty());
        match (owner, agent) {
            (Some(owner), None) => {
                return Err(AppError::Invalid(format!(
                    "Cannot execute local trigger {type_}.{name} on remote container {owner}.{id}"
                )));
            }
            (owner, Some(agent)) if owner.is_some_and(|owner| owner != agent) => {
                return Err(AppError::conflict(format!(
                    "The container {id} does not belong to the agent {agent}"
                )));
            }
            _ => {}
        }
        if ActingKind::parse(type_).is_some() {
            return self.run_trigger(id, trigger, caller).await;
        }
        if !self.is_notifier(trigger).await? {
            return Err(AppError::NotFound(format!(
                "Error when running trigger {type_}.{name} (trigger not found)"
            )));
        }
        self.send_and_wait(trigger, body.clone()).await
    }

    async fn is_notifier(&self, trigger: TriggerPath<'_>) -> Result<bool, AppError> {
        let TriggerPath { type_, name, agent } = trigger;
        let all = self.notifiers().await?;
        Ok(all.iter().any(|one| one.is(type_, name, agent)))
    }

    async fn send_and_wait(
        &self,
        trigger: TriggerPath<'_>,
        container: Value,
    ) -> Result<TriggerRun, AppError> {
        let id = Uuid::now_v7();
        let text = |key: &str| container[key].as_str().unwrap_or_default().to_owned();
        let message = NewMessage {
            id,
            rule: RUN,
            agent: trigger.agent.unwrap_or_default().to_owned(),
            type_: trigger.type_.to_owned(),
            name: trigger.name.to_owned(),
            form: Form::Simple,
            identity: text("identityKey"),
            occasion: id.to_string(),
            subject: text("name"),
            payload: json!({ "event": RUN, "container": container }),
            // Somebody waits for it.
            place: i32::MIN,
            due_at: Utc::now(),
            max_attempts: 1,
        };
        notifications::put(&self.store().client().await?, &[message]).await?;
        let begun = Instant::now();
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(message) = self.store().message(id).await? else {
                return Ok(TriggerRun::Failed("The message was deleted".to_owned()));
            };
            match message.state.as_str() {
                "delivered" => return Ok(TriggerRun::Done),
                "pending" if begun.elapsed() < UNCLAIMED => {}
                "sending" if begun.elapsed() < PATIENCE => {}
                "pending" => {
                    notifications::delete(&self.store().client().await?, id).await?;
                    return Err(AppError::Unavailable {
                        message: "No worker ran the trigger: none that has it is running"
                            .to_owned(),
                        retry_after: Duration::from_secs(5),
                    });
                }
                "sending" => return Ok(TriggerRun::Failed("It has not ended yet".to_owned())),
                _ => return Ok(TriggerRun::Failed(message.error.unwrap_or_default())),
            }
        }
    }
}
