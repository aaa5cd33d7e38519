//! What update and rollback requests share: who asks, the idempotency key, and making the
//! operation durable.

use plimsoll_domain::{
    access::{Principal, Scope},
    compose::FileUse,
    container::ContainerState,
    ids::{BackupId, JobId, OperationGroupId, OperationId, RemovalId},
    operation::{OperationKind, Phase},
};
use plimsoll_store::{
    StoreError,
    operation_inputs::OperationInput,
    requests::{KEY_TAKEN, NewRequest},
    reservations::REMOVED,
    update_operations::{self, NewOperation},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tracing::Instrument;

use crate::{App, AppError};

/// Who asks, and under which ids.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    pub principal: &'a Principal,
    pub request_id: Option<&'a str>,
    pub idempotency: Option<IdempotencyKey>,
}

impl Caller<'_> {
    /// Refuses principals without `scope`.
    pub fn authorise(&self, scope: Scope) -> Result<(), AppError> {
        if self.principal.may(scope) {
            Ok(())
        } else {
            Err(AppError::Forbidden(format!(
                "This needs the permission {}",
                scope.as_str()
            )))
        }
    }

    /// The name under which audit rows and idempotency keys are kept.
    pub(crate) fn actor(&self) -> &str {
        self.principal.name()
    }
}

/// An `Idempotency-Key` header with what it was sent for. The same key for something else is 422.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    key: String,
    request_hash: [u8; 32],
}

/// What is said of a key that cannot be one.
pub const BAD_KEY: &str = "Idempotency-Key must have 1 to 255 visible ASCII characters";

impl IdempotencyKey {
    /// # Errors
    /// `Invalid` unless the key has 1-255 visible ASCII characters.
    pub fn new(key: &str, target: &str, body: &[u8]) -> Result<Self, AppError> {
        let visible = key.bytes().all(|b| (0x20..0x7f).contains(&b));
        if key.is_empty() || key.len() > 255 || !visible {
            return Err(AppError::Invalid(BAD_KEY.to_owned()));
        }
        let mut hash = Sha256::new();
        hash.update(target.as_bytes());
        hash.update([0]);
        hash.update(body);
        Ok(Self {
            key: key.to_owned(),
            request_hash: hash.finalize().into(),
        })
    }
}

impl IdempotencyKey {
    /// As it is written with what it made.
    pub(crate) fn parts(&self) -> (&str, &[u8]) {
        (self.key(), self.request_hash())
    }

    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    pub(crate) fn request_hash(&self) -> &[u8] {
        &self.request_hash
    }
}

/// What an operation is asked to do to a container.
pub(crate) struct Request<'a> {
    pub kind: OperationKind,
    pub state: &'a ContainerState,
    pub trigger_name: &'a str,
    pub from_version: Option<&'a str>,
    pub to_version: Option<&'a str>,
    /// Repository and tag, as a person reads it.
    pub target_image: &'a str,
    pub target_digest: Option<&'a str>,
    pub backup: Option<BackupId>,
    /// Beyond what the trigger does.
    pub compose_file: Option<FileUse>,
    /// Why Plimsoll itself asks; also in the audit trail.
    pub rollback_reason: Option<&'a str>,
    pub audit_action: &'a str,
}

impl Request<'_> {
    pub(crate) fn operation(&self, caller: &Caller<'_>) -> NewOperation {
        let facts = &self.state.facts;
        let text = |s: &str| s.to_owned();
        NewOperation {
            id: OperationId::generate(),
            kind: self.kind,
            watcher: facts.watcher.clone(),
            container: facts.id.clone(),
            container_name: facts.name.clone(),
            identity: self.state.identity_key.clone(),
            trigger_name: Some(self.trigger_name.to_owned()),
            from_version: self.from_version.map(text),
            to_version: self.to_version.map(text),
            target_image: self.target_image.to_owned(),
            target_digest: self.target_digest.map(text),
            backup: self.backup,
            rollback_reason: self.rollback_reason.map(text),
            compose_file: self.compose_file,
            actor: caller.actor().to_owned(),
            request_id: caller.request_id.map(text),
        }
    }
}

/// What is asked for beside the target, for the audit trail.
fn details(input: &OperationInput<'_>) -> Option<String> {
    if let Some(labels) = input.labels {
        let change = &labels.change;
        let set = change
            .set()
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let removed = change.remove().iter().map(|key| format!("without {key}"));
        return Some(set.chain(removed).collect::<Vec<_>>().join(", "));
    }
    if let Some(grace) = input.stop_grace {
        return Some(format!("with {} s to stop", grace.seconds()));
    }
    input.script.map(|script| format!("checked by {script}"))
}

/// The event that tells clients about a new operation.
pub(crate) fn accepted_event(operation: &NewOperation) -> String {
    accepted(operation).to_string()
}

/// The same about a member of a group.
pub(crate) fn accepted_member_event(operation: &NewOperation, group: OperationGroupId) -> String {
    let mut event = accepted(operation);
    event["groupId"] = group.to_string().into();
    event.to_string()
}

fn accepted(operation: &NewOperation) -> Value {
    json!({
        "operationId": operation.id.to_string(),
        "containerName": operation.container_name,
        "containerId": operation.container.as_str(),
        "kind": operation.kind.as_str(),
        "status": Phase::Prepare.status().as_str(),
        "phase": Phase::Prepare.as_str(),
    })
}

/// What is said to whoever asks for an operation on a container that is being removed.
pub(crate) const BEING_REMOVED: &str = "Container is being removed";

/// A removal is in the way, or was a moment ago.
pub(crate) fn removal_conflict(removal: Option<(RemovalId, String)>) -> AppError {
    AppError::Conflict {
        message: BEING_REMOVED.to_owned(),
        details: removal.map(
            |(removal, name)| json!({ "removalId": removal.to_string(), "containerName": name }),
        ),
    }
}

impl App {
    /// The operation an earlier request with the same key made, if there was one.
    ///
    /// # Errors
    /// `Unprocessable` when the key came with another request.
    pub(crate) async fn replayed(
        &self,
        caller: &Caller<'_>,
    ) -> Result<Option<OperationId>, AppError> {
        let Some(key) = &caller.idempotency else {
            return Ok(None);
        };
        let known = self
            .store()
            .find_idempotency_key(caller.actor(), &key.key)
            .await?;
        match known {
            None => Ok(None),
            Some(known) if known.request_hash == key.request_hash => Ok(Some(known.operation)),
            Some(_) => Err(AppError::Unprocessable(
                "This Idempotency-Key was used for another request".to_owned(),
            )),
        }
    }

    /// Makes the operation durable, then wakes a worker. A second request for a container that has
    /// an active operation gets a conflict that names it, as does one for a container that is being
    /// removed; the same idempotency key gets the operation it made.
    pub(crate) async fn accept(
        &self,
        request: Request<'_>,
        caller: &Caller<'_>,
    ) -> Result<OperationId, AppError> {
        self.accept_with(request, OperationInput::default(), caller)
            .await
    }

    /// The same with what is asked for beside the target.
    pub(crate) async fn accept_with(
        &self,
        request: Request<'_>,
        input: OperationInput<'_>,
        caller: &Caller<'_>,
    ) -> Result<OperationId, AppError> {
        let job = JobId::generate();
        let facts = &request.state.facts;
        let operation = request.operation(caller);
        let event = accepted_event(&operation);
        let details = details(&input);
        let new = NewRequest {
            operation: &operation,
            job,
            audit_action: request.audit_action,
            audit_details: request.rollback_reason.or(details.as_deref()),
            event: &event,
            idempotency: caller.idempotency.as_ref().map(IdempotencyKey::parts),
            input,
        };
        let span = plimsoll_trace::producing(format_args!("accept {}", operation.kind.as_str()));
        match self.store().accept_operation(&new).instrument(span).await {
            Ok(()) => {}
            Err(error) if error.is_constraint(KEY_TAKEN) => {
                return self.replayed(caller).await?.ok_or(AppError::Retry);
            }
            Err(error) if error.is_constraint(update_operations::ACTIVE) => {
                // The same key may have made the operation that is in the way.
                if let Some(known) = self.replayed(caller).await? {
                    return Ok(known);
                }
                return Err(self.active_conflict(request.state, error).await);
            }
            Err(error) if error.is_constraint(REMOVED) => {
                let (id, name) = (facts.id.as_str(), facts.name.as_str());
                let removal = self
                    .store()
                    .removal_at_work(&facts.watcher, &[id], &[name])
                    .await?;
                return Err(removal_conflict(removal));
            }
            Err(error) => return Err(error.into()),
        }
        // Durable from here on: what follows only makes it faster.
        self.wake(std::iter::once((&facts.watcher, job))).await;
        self.announce().await;
        Ok(operation.id)
    }

    /// Tells every replica that there are new events. Without Redis they find them by themselves.
    pub(crate) async fn announce(&self) {
        if let Err(error) = self.queue().announce_events().await {
            tracing::debug!(%error, "could not announce events");
        }
    }

    async fn active_conflict(&self, state: &ContainerState, error: StoreError) -> AppError {
        let facts = &state.facts;
        match self
            .store()
            .active_operation(&facts.watcher, &facts.name)
            .await
        {
            Ok(Some(active)) => AppError::Conflict {
                message: "Container update already in progress".to_owned(),
                details: Some(json!({ "operationId": active.to_string() })),
            },
            // It ended between the two statements: the caller may simply ask again.
            Ok(None) => AppError::conflict("Container update already in progress"),
            Err(_) => error.into(),
        }
    }
}
