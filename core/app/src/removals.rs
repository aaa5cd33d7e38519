//! Removing objects of an engine: one of them, or what nobody uses. A removal is durable and runs
//! in a worker, which writes down what goes before it goes: whoever asked hears what became of
//! each, whoever dies meanwhile.

use std::time::Duration;

use plimsoll_domain::{
    access::Scope,
    explorer::{
        Contents, Explored, Keep, LabelFilter, Obstacle, Seen,
        removal::{ObjectKind, RemovalRequest, plan},
    },
    ids::{JobId, OperationGroupId, OperationId, RemovalId, WatcherRef},
    job::JobSpec,
};
pub use plimsoll_store::removals::{Failure, Item, ItemState, PastRemoval, Removal};
use plimsoll_store::{
    audit::{self, AuditStatus, NewAudit},
    begin, commit,
    jobs::{self, Lease, NewJob},
    journal::FencedError,
    removals::{self, NewRemoval},
    reservations,
};
use serde_json::json;
use tracing::Instrument;

use crate::{
    App, AppError, explorer::which_engine, requests::Caller, stacks::Engines, watches::WatchAnswer,
};

pub const NOT_FOUND: &str = "Removal not found";
/// Codes of what ended a removal before anything was decided.
pub const NO_OBJECT: &str = "not-found";
pub const AMBIGUOUS: &str = "ambiguous";
/// Seconds after which one that nobody began is not begun any more: what was unused then may be
/// missed now.
pub const STALE: f64 = 600.0;
const SWITCHED_OFF: &str = "Deletion is disabled";

/// A removal that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedRemoval {
    pub id: RemovalId,
    job: JobId,
}

impl App {
    /// Accepts a removal on the one engine that is meant: the one that has the object, or the only
    /// one there is. `batch`: what else was asked for at once is found by it.
    ///
    /// # Errors
    /// `Forbidden` also where deletion is switched off, `NotFound` without such an engine or, where
    /// several could be meant, without the object on any of them, `Conflict` naming the engines
    /// where there are several or the operation that works on the container, `Invalid`.
    pub async fn request_removal(
        &self,
        request: &RemovalRequest,
        engines: &Engines,
        batch: Option<OperationGroupId>,
        caller: &Caller<'_>,
    ) -> Result<AcceptedRemoval, AppError> {
        caller.authorise(Scope::ContainersDelete)?;
        if !self.settings().container_deletion.is_enabled() {
            return Err(AppError::Forbidden(SWITCHED_OFF.to_owned()));
        }
        check(request)?;
        let watcher = self.engine_of(request, engines, caller).await?;
        let id = RemovalId::generate();
        let job = NewJob::now(watcher.clone(), JobSpec::Removal { removal: id });
        let new = NewRemoval {
            id,
            watcher: &watcher,
            request,
            actor: caller.actor(),
            request_id: caller.request_id,
            batch,
        };
        let what = request_name(request);
        let details = format!("asked for on {watcher}");
        let entry = NewAudit {
            details: Some(&details),
            actor: Some(caller.actor()),
            request_id: caller.request_id,
            ..NewAudit::new(action(request), &what, AuditStatus::Info)
        };
        let span = plimsoll_trace::producing(format_args!("accept removal"));
        let accept = async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            let container = removals::insert(&tx, &new).await?;
            // Of what is asked for from now on, and of a container that is named by less than its
            // id, the worker judges.
            if let (Some(name), RemovalRequest::One { reference, .. }) = (container, request) {
                let user = reservations::user(&tx, &watcher, reference, &name).await?;
                if let Some(user) = user {
                    return Err(in_use(user));
                }
            }
            jobs::insert(&tx, &job).await?;
            audit::append(&tx, &entry).await?;
            commit(tx).await?;
            Ok::<_, AppError>(())
        };
        accept.instrument(span).await?;
        self.wake(std::iter::once((&watcher, job.id))).await;
        Ok(AcceptedRemoval { id, job: job.id })
    }

    /// Waits up to `patience` for its end. `None` while it runs.
    pub async fn removal_outcome(
        &self,
        accepted: AcceptedRemoval,
        patience: Duration,
    ) -> Result<Option<Removal>, AppError> {
        match self.wait_for_jobs(&[accepted.job], patience).await? {
            WatchAnswer::Running { .. } => Ok(None),
            _ => {
                let removal = self.removal(accepted.id).await?;
                Ok(removal.completed_at.is_some().then_some(removal))
            }
        }
    }

    /// How a removal stands.
    pub async fn removal(&self, id: RemovalId) -> Result<Removal, AppError> {
        let removal = self.store().removal(id, STALE).await?;
        removal.ok_or_else(|| AppError::NotFound(NOT_FOUND.to_owned()))
    }

    /// How a removal stands beside operations.
    pub async fn past_removal(&self, id: RemovalId) -> Result<PastRemoval, AppError> {
        let removal = self.store().past_removal(id).await?;
        removal.ok_or_else(|| AppError::NotFound(NOT_FOUND.to_owned()))
    }

    /// The removals that one request asked for.
    pub async fn removals_together(
        &self,
        batch: OperationGroupId,
    ) -> Result<Vec<PastRemoval>, AppError> {
        Ok(self.store().removals_of_batch(batch).await?)
    }

    async fn engine_of(
        &self,
        request: &RemovalRequest,
        engines: &Engines,
        caller: &Caller<'_>,
    ) -> Result<WatcherRef, AppError> {
        let mut watchers = self.watchers_of(engines).await?;
        if let [_] = watchers[..] {
            return Ok(watchers.remove(0));
        }
        let RemovalRequest::One {
            kind, reference, ..
        } = request
        else {
            let message = format!("There are {} engines", watchers.len());
            return Err(which_engine(&message, &watchers));
        };
        let explored = self.explore(engines, &[*kind], caller).await?;
        let has = |one: Explored| plan(request, &contents(one), &Keep::default()).is_ok();
        let mut found: Vec<WatcherRef> = explored
            .into_iter()
            .filter_map(|(watcher, explored)| has(explored).then_some(watcher))
            .collect();
        match found[..] {
            [] => Err(AppError::NotFound(missing(*kind, reference))),
            [_] => Ok(found.remove(0)),
            _ => {
                let message = format!(
                    "There are {} engines with such a {}",
                    found.len(),
                    kind.as_str()
                );
                Err(which_engine(&message, &found))
            }
        }
    }

    /// Writes down how a removal ended, what went, and who had asked for it. May be repeated.
    pub async fn complete_removal(
        &self,
        lease: &Lease,
        removal: &Removal,
        failure: Option<&Failure>,
    ) -> Result<(), FencedError> {
        let entries = entries(removal, failure);
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        removals::complete(&tx, lease, removal.id, failure).await?;
        audit::append_all(&tx, &entries).await?;
        commit(tx).await?;
        Ok(())
    }
}

/// An entry for each object that went or that the engine would not let go, and one where nothing
/// could be done.
fn entries<'a>(removal: &'a Removal, failure: Option<&'a Failure>) -> Vec<NewAudit<'a>> {
    let by = |entry: NewAudit<'a>| NewAudit {
        actor: Some(&removal.actor),
        request_id: removal.request_id.as_deref(),
        ..entry
    };
    let mut entries: Vec<NewAudit<'a>> = removal
        .items
        .iter()
        .filter_map(|item| {
            let (status, details) = match item.state {
                ItemState::Removed => (AuditStatus::Success, Some(item.id.as_str())),
                ItemState::Planned => (AuditStatus::Error, Some("not known to be gone")),
                ItemState::Kept => (AuditStatus::Error, item.message.as_deref()),
            };
            let told = status == AuditStatus::Success
                || matches!(removal.request, RemovalRequest::One { .. })
                || item.reason.as_deref() == Some(ENGINE);
            told.then(|| {
                by(NewAudit {
                    details,
                    ..NewAudit::new(removed_action(item.kind), &item.name, status)
                })
            })
        })
        .collect();
    if let Some(failure) = failure {
        entries.push(by(NewAudit {
            details: Some(&failure.message),
            ..NewAudit::new(
                action(&removal.request),
                &removal.watcher.name,
                AuditStatus::Error,
            )
        }));
    }
    entries
}

/// The reason of an object that the engine did not let go.
pub const ENGINE: &str = "engine";

fn action(request: &RemovalRequest) -> &'static str {
    match request {
        RemovalRequest::One { kind, .. } => match kind {
            ObjectKind::Container => "container-remove",
            ObjectKind::Network => "network-remove",
            ObjectKind::Volume => "volume-remove",
            ObjectKind::Image => "image-remove",
        },
        RemovalRequest::Unused { .. } => "prune",
    }
}

const fn removed_action(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Container => "container-removed-from-host",
        ObjectKind::Network => "network-removed",
        ObjectKind::Volume => "volume-removed",
        ObjectKind::Image => "image-removed",
    }
}

fn request_name(request: &RemovalRequest) -> String {
    match request {
        RemovalRequest::One { reference, .. } => reference.clone(),
        RemovalRequest::Unused { kinds, .. } => {
            let kinds: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            format!("unused: {}", kinds.join(", "))
        }
    }
}

/// What is said of an object that is not there.
pub fn missing(kind: ObjectKind, reference: &str) -> String {
    let mut name = kind.as_str().to_owned();
    name[..1].make_ascii_uppercase();
    format!("{name} not found: {reference}")
}

/// Names and references are short and printable; whether they name anything the engine's list says,
/// so none of them is ever part of a path before that.
fn check(request: &RemovalRequest) -> Result<(), AppError> {
    const LONGEST: usize = 512;
    let is_text = |text: &str| text.len() <= LONGEST && !text.chars().any(char::is_control);
    let is_fine = match request {
        RemovalRequest::One { reference, .. } => !reference.is_empty() && is_text(reference),
        RemovalRequest::Unused { kinds, label, .. } => {
            if kinds.is_empty() {
                return Err(AppError::Invalid("Nothing to prune is named".to_owned()));
            }
            let value = |label: &LabelFilter| label.value.as_deref().is_none_or(is_text);
            let label = label.as_ref();
            label.is_none_or(|label| !label.key.is_empty() && is_text(&label.key) && value(label))
        }
    };
    match is_fine {
        true => Ok(()),
        false => Err(AppError::Invalid(
            "A name has 1 to 512 printable characters".to_owned(),
        )),
    }
}

/// As the worker says of a container that an operation works on.
fn in_use((operation, name): (OperationId, String)) -> AppError {
    let why = Obstacle::Operation;
    AppError::Conflict {
        message: why.stays(ObjectKind::Container, &name),
        details: Some(json!({
            "reason": why.as_str(),
            "operationId": operation.to_string(),
        })),
    }
}

/// As far as finding an object goes.
fn contents(explored: Explored) -> Contents {
    fn objects<T>(seen: Vec<Seen<T>>) -> Vec<T> {
        seen.into_iter().map(|one| one.object).collect()
    }
    Contents {
        containers: objects(explored.containers),
        images: objects(explored.images),
        networks: objects(explored.networks),
        volumes: objects(explored.volumes),
    }
}
