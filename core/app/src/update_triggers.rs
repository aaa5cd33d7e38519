//! The triggers that update containers, as the workers have loaded them.

use plimsoll_domain::{
    acting::{ActingKind, Auto, Choice, UpdateTrigger, choose},
    container::{ContainerFacts, ContainerState},
    trigger::Threshold,
};
use plimsoll_store::components::{Component, ComponentKind};
use serde_json::Value;

use crate::{App, AppError};

pub(crate) const NO_TRIGGER: &str = "No docker trigger found for this container";

impl App {
    /// Those that act on containers of this agent.
    pub(crate) async fn update_triggers(
        &self,
        agent: &str,
    ) -> Result<Vec<UpdateTrigger>, AppError> {
        let triggers = self.store().components(ComponentKind::Trigger).await?;
        Ok(triggers
            .iter()
            .filter(|trigger| trigger.agent == agent)
            .filter_map(read)
            .collect())
    }

    /// The name of the trigger that changes the container, whatever its labels say about updates.
    ///
    /// # Errors
    /// `NotFound` without one, `Conflict` when it is a dry run.
    pub(crate) async fn trigger_name(&self, state: &ContainerState) -> Result<String, AppError> {
        let triggers = self.update_triggers(&state.facts.watcher.agent).await?;
        trigger_of(state, &triggers)
    }
}

/// The same among `triggers`, those of the container's agent.
pub(crate) fn trigger_of(
    state: &ContainerState,
    triggers: &[UpdateTrigger],
) -> Result<String, AppError> {
    let trigger = match choose(&state.facts, triggers) {
        Choice::Trigger(trigger, _) => Some(trigger),
        _ => triggers.iter().find(|one| one.suits(&state.facts)),
    };
    let trigger = trigger.ok_or_else(|| AppError::NotFound(NO_TRIGGER.to_owned()))?;
    refuse_dry_run(trigger)?;
    Ok(trigger.id())
}

/// The trigger that updates the container, if its labels let one.
pub(crate) fn chosen<'a>(
    facts: &ContainerFacts,
    triggers: &'a [UpdateTrigger],
) -> Option<&'a UpdateTrigger> {
    match choose(facts, triggers) {
        Choice::Trigger(trigger, _) => Some(trigger),
        _ => None,
    }
}

pub(crate) fn refuse_dry_run(trigger: &UpdateTrigger) -> Result<(), AppError> {
    match trigger.dryrun {
        false => Ok(()),
        true => Err(AppError::conflict(format!(
            "The trigger {} is a dry run: no container is changed; ask for a preview instead",
            trigger.id()
        ))),
    }
}

/// `None` for one that notifies.
fn read(component: &Component) -> Option<UpdateTrigger> {
    let kind = ActingKind::parse(&component.type_)?;
    let configured = &component.configuration;
    let order = configured["order"].as_i64().unwrap_or(100);
    Some(UpdateTrigger {
        threshold: configured["threshold"]
            .as_str()
            .and_then(|text| text.parse().ok())
            .unwrap_or(Threshold::ALL),
        auto: match &configured["auto"] {
            Value::Bool(true) => Auto::True,
            Value::String(text) => Auto::parse(text).unwrap_or_default(),
            _ => Auto::False,
        },
        once: configured["once"] != false,
        order: i32::try_from(order).unwrap_or(i32::MAX),
        dryrun: configured["dryrun"] == true,
        ..UpdateTrigger::new(kind, component.name.as_str())
    })
}
