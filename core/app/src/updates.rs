//! Asking for an update (contract/drydock-container-api.md, "Update a container").

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    access::Scope,
    acting::UpdateTrigger,
    container::ContainerState,
    eligibility::{self, AdmissionFacts, Blocker, BlockerReason},
    ids::OperationId,
    operation::OperationKind,
    target::{UpdateTarget, update_target},
};
use serde_json::json;

use crate::{
    App, AppError,
    requests::{Caller, Request},
    update_triggers::{NO_TRIGGER, chosen, refuse_dry_run},
};

/// Who asked on the user's behalf: decides what is checked and what the audit trail says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateOrigin {
    /// `POST /containers/{id}/update`
    Container,
    /// `POST /webhook/update/{name}`
    Webhook,
    /// `POST /containers/{id}/triggers/docker/{name}`
    Trigger,
    /// A watch, where a trigger acts by itself.
    Watch,
}

impl UpdateOrigin {
    pub(crate) const fn audit_action(self) -> &'static str {
        match self {
            Self::Container | Self::Trigger | Self::Watch => "container-update",
            Self::Webhook => "webhook-update",
        }
    }
}

impl App {
    /// Accepts an update of the container to the candidate that the last watch found. Returns the
    /// operation, which is durable and will run whatever happens to this process.
    ///
    /// # Errors
    /// In this order (reference/drydock.md 1.9): `Forbidden` when actions are off, `NotFound`,
    /// `Invalid` without an available update, `Conflict` for a temporary rollback container, a
    /// target that was rolled back or an active operation, `NotFound` without a docker trigger.
    pub async fn request_update(
        &self,
        container: &str,
        origin: UpdateOrigin,
        caller: &Caller<'_>,
    ) -> Result<OperationId, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
        if !self.settings().container_actions.is_enabled() {
            return Err(AppError::Forbidden(
                "Container actions are disabled".to_owned(),
            ));
        }
        if let Some(operation) = self.replayed(caller).await? {
            return Ok(operation);
        }
        let entry = self.get_container(container).await?;
        let triggers = self
            .update_triggers(&entry.state.facts.watcher.agent)
            .await?;
        self.update_through(&entry.state, &triggers, origin, caller)
            .await
    }

    /// The same through one of these triggers.
    pub(crate) async fn update_through(
        &self,
        state: &ContainerState,
        triggers: &[UpdateTrigger],
        origin: UpdateOrigin,
        caller: &Caller<'_>,
    ) -> Result<OperationId, AppError> {
        let admitted = match self.admit_update(state, triggers) {
            Ok(admitted) => admitted,
            // What stands in the way may be what the same request made through another replica a
            // moment ago.
            Err(refusal) => return self.replayed(caller).await?.ok_or(refusal),
        };
        self.accept(admitted.request(state, origin), caller).await
    }

    /// The update, unless something stands in the way: the first hard blocker is the answer. What
    /// only holds back automatic updates (a threshold) does not stop a person; what makes the
    /// update unavailable (snooze, skip, maturity) does, as the contract says.
    pub(crate) fn admit_update(
        &self,
        state: &ContainerState,
        triggers: &[UpdateTrigger],
    ) -> Result<Admitted, AppError> {
        let now = Utc::now();
        let admission = AdmissionFacts {
            actions_enabled: self.settings().container_actions.is_enabled(),
            triggers: triggers.to_vec(),
        };
        if let Some(blocker) = eligibility::evaluate(state, &admission, now).first_hard() {
            return Err(refusal(blocker, state));
        }
        self.admitted(state, triggers, now)
    }

    /// An update that somebody has to ask for no more: nothing at all stands in its way. That
    /// people may not act through the API does not stop it.
    pub(crate) fn admit_automatic_update(
        &self,
        state: &ContainerState,
        triggers: &[UpdateTrigger],
    ) -> Option<Admitted> {
        let now = Utc::now();
        let admission = AdmissionFacts {
            actions_enabled: true,
            triggers: triggers.to_vec(),
        };
        let acts = chosen(&state.facts, triggers)?.acts_alone_on(&state.facts);
        let is_free = acts && eligibility::evaluate(state, &admission, now).eligible;
        is_free.then(|| self.admitted(state, triggers, now).ok())?
    }

    fn admitted(
        &self,
        state: &ContainerState,
        triggers: &[UpdateTrigger],
        now: DateTime<Utc>,
    ) -> Result<Admitted, AppError> {
        let target = update_target(state, &self.settings().view_context().maturity, now);
        let trigger = chosen(&state.facts, triggers)
            .ok_or_else(|| AppError::NotFound(NO_TRIGGER.to_owned()))?;
        refuse_dry_run(trigger)?;
        let target = target.ok_or_else(|| {
            AppError::Invalid("No update available for this container".to_owned())
        })?;
        Ok(Admitted {
            trigger_name: trigger.id(),
            target_image: target.familiar(),
            target,
        })
    }
}

/// An update that nothing stands in the way of.
pub(crate) struct Admitted {
    pub(crate) trigger_name: String,
    target_image: String,
    target: UpdateTarget,
}

impl Admitted {
    pub(crate) fn request<'a>(
        &'a self,
        state: &'a ContainerState,
        origin: UpdateOrigin,
    ) -> Request<'a> {
        Request {
            kind: OperationKind::Update,
            state,
            trigger_name: &self.trigger_name,
            from_version: Some(&self.target.from_version),
            to_version: Some(&self.target.to_version),
            target_image: &self.target_image,
            target_digest: None,
            backup: None,
            rollback_reason: None,
            audit_action: origin.audit_action(),
        }
    }
}

fn refusal(blocker: &Blocker, state: &ContainerState) -> AppError {
    let message = blocker.message.to_string();
    match blocker.reason {
        BlockerReason::ActionsDisabled => AppError::Forbidden(message),
        BlockerReason::NoUpdateAvailable => AppError::Invalid(message),
        BlockerReason::NoUpdateTriggerConfigured => AppError::NotFound(message),
        BlockerReason::ActiveOperation => AppError::Conflict {
            message,
            details: state
                .operation
                .as_ref()
                .map(|active| json!({ "operationId": active.id.to_string() })),
        },
        _ => AppError::Conflict {
            message,
            details: Some(json!({ "blockers": [blocker] })),
        },
    }
}
