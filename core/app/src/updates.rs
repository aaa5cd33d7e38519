//! Asking for an update (contract/drydock-container-api.md, "Update a container").

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    access::Scope,
    acting::UpdateTrigger,
    compose::FileUse,
    container::ContainerState,
    eligibility::{self, AdmissionFacts, Blocker, BlockerReason, Severity},
    ids::OperationId,
    image::Tag,
    operation::OperationKind,
    target::{UpdateTarget, candidate_image, update_target},
};
use plimsoll_store::operation_inputs::OperationInput;
use serde_json::json;

use crate::{
    App, AppError,
    requests::{Caller, Request},
    scripts,
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

/// How an update is to be made, beyond what is usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WantedUpdate<'a> {
    /// A tag of the repository that the container runs, instead of the candidate.
    pub version: Option<&'a str>,
    /// The script that checks it, instead of the container's own.
    pub script: Option<&'a str>,
    /// What becomes of the Compose file that the container came from, whatever trigger updates it.
    pub compose_file: Option<FileUse>,
}

/// What a blocker of the candidate is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is what was chosen.
    Candidate,
    AnyTarget,
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
    /// Accepts an update of the container to the candidate that the last watch found, or as
    /// `wanted` says otherwise. Returns the operation, which is durable and will run whatever
    /// happens to this process. Whether there is such a version is found out before anything is
    /// touched, and so is whether a Compose file may be edited: then the operation fails with the
    /// reason.
    ///
    /// # Errors
    /// In this order (reference/drydock.md 1.9): `Forbidden` when actions are off, `Invalid` for
    /// what can be no script, `NotFound`, `Invalid` for the version that runs, `Invalid` without an
    /// available update, `Conflict` for a temporary rollback container, a target that was rolled
    /// back or an active operation, `NotFound` without a docker trigger, `Conflict` for a file of a
    /// container that Compose did not make.
    pub async fn request_update(
        &self,
        container: &str,
        origin: UpdateOrigin,
        wanted: WantedUpdate<'_>,
        caller: &Caller<'_>,
    ) -> Result<OperationId, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
        self.container_actions_allowed()?;
        if let Some(operation) = self.replayed(caller).await? {
            return Ok(operation);
        }
        let script = wanted.script.map(scripts::parse).transpose()?;
        let entry = self.get_container(container).await?;
        let (state, facts) = (&entry.state, &entry.state.facts);
        if wanted.version == Some(&facts.image.tag.value) {
            return Err(AppError::Invalid(format!(
                "{} runs {} already",
                facts.name, facts.image.tag.value
            )));
        }
        let triggers = self.update_triggers(&facts.watcher.agent).await?;
        let admitted = match wanted.version {
            Some(version) => self.admit_update_to(state, &triggers, version),
            None => self.admit_update(state, &triggers),
        };
        let mut admitted = match admitted {
            Ok(admitted) => admitted,
            // What stands in the way may be what the same request made through another replica a
            // moment ago.
            Err(refusal) => return self.replayed(caller).await?.ok_or(refusal),
        };
        if wanted.compose_file.is_some() {
            refuse_without_file(state)?;
            admitted.compose_file = wanted.compose_file;
        }
        let input = OperationInput {
            script: script.as_ref().map(|script| script.as_str()),
            ..OperationInput::default()
        };
        let request = admitted.request(state, origin);
        self.accept_with(request, input, caller).await
    }

    /// The same to the candidate, through one of these triggers.
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

    /// The same to a tag that somebody chose, whatever the last watch found. What stands in the way
    /// of the candidate alone does not stop another one.
    pub(crate) fn admit_update_to(
        &self,
        state: &ContainerState,
        triggers: &[UpdateTrigger],
        version: &str,
    ) -> Result<Admitted, AppError> {
        let tag = Tag::parse(version)
            .ok_or_else(|| AppError::Invalid(format!("{version:?} is not a tag")))?;
        let image = state.facts.image.repository().ok_or_else(|| {
            AppError::Invalid("No registry knows the image of this container".to_owned())
        })?;
        let candidate = candidate_image(state);
        let of = match candidate.is_some_and(|candidate| candidate.tag() == Some(&tag)) {
            true => Refused::Candidate,
            false => Refused::AnyTarget,
        };
        self.refuse_hard(state, triggers, of)?;
        let trigger = chosen(&state.facts, triggers)
            .ok_or_else(|| AppError::NotFound(NO_TRIGGER.to_owned()))?;
        refuse_dry_run(trigger)?;
        let target = UpdateTarget {
            image: image.with_tag(tag),
            seen_digest: None,
            from_version: state.facts.image.tag.value.clone(),
            to_version: version.to_owned(),
        };
        Ok(Admitted {
            trigger_name: trigger.id(),
            target_image: target.familiar(),
            target,
            compose_file: None,
        })
    }

    /// What stands in the way of an update to something that somebody chose.
    pub(crate) fn refuse_hard(
        &self,
        state: &ContainerState,
        triggers: &[UpdateTrigger],
        of: Refused,
    ) -> Result<(), AppError> {
        let admission = AdmissionFacts {
            actions_enabled: self.settings().container_actions.is_enabled(),
            triggers: triggers.to_vec(),
        };
        let eligibility = eligibility::evaluate(state, &admission, Utc::now());
        let hard = eligibility.blockers.iter().find(|blocker| {
            blocker.severity == Severity::Hard
                && match blocker.reason {
                    BlockerReason::NoUpdateAvailable => false,
                    BlockerReason::LastUpdateRolledBack | BlockerReason::SecurityScanBlocked => {
                        of == Refused::Candidate
                    }
                    _ => true,
                }
        });
        match hard {
            Some(blocker) => Err(refusal(blocker, state)),
            None => Ok(()),
        }
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
            compose_file: None,
        })
    }
}

/// An update that nothing stands in the way of.
pub(crate) struct Admitted {
    pub(crate) trigger_name: String,
    target_image: String,
    target: UpdateTarget,
    /// Beyond what the trigger does.
    pub(crate) compose_file: Option<FileUse>,
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
            compose_file: self.compose_file,
            rollback_reason: None,
            audit_action: origin.audit_action(),
        }
    }
}

/// Only what Compose made came from a file.
pub(crate) fn refuse_without_file(state: &ContainerState) -> Result<(), AppError> {
    match state.facts.compose {
        Some(_) => Ok(()),
        None => Err(AppError::conflict(
            "The container was not made by Compose, so there is no file to edit",
        )),
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
