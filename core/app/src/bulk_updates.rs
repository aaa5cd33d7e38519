//! Updating many containers with one request (reference/drydock.md 1.3).

use std::collections::{BTreeMap, HashMap, HashSet};

use plimsoll_domain::{
    access::Scope,
    acting::UpdateTrigger,
    container::ContainerState,
    ids::{JobId, OperationId, WatcherRef},
};
use plimsoll_store::{
    Transaction, begin, commit,
    requests::{NewRequest, accept_many},
};

use crate::{
    App, AppError,
    containers::NOT_FOUND,
    requests::{Caller, accepted_event},
    updates::{Admitted, UpdateOrigin},
};

/// What became of each container, in the order of the request.
#[derive(Debug, Default)]
pub struct BulkUpdate {
    pub accepted: Vec<Accepted>,
    pub rejected: Vec<Rejected>,
}

#[derive(Debug)]
pub struct Accepted {
    pub container: String,
    pub container_name: String,
    pub operation: OperationId,
}

#[derive(Debug)]
pub struct Rejected {
    pub container: String,
    /// Empty for a container that is not known.
    pub container_name: String,
    pub error: AppError,
}

/// An update that was admitted and is not written yet.
pub(crate) struct Candidate<'a> {
    pub state: &'a ContainerState,
    pub admitted: Admitted,
}

impl App {
    /// Accepts an update of each container for which [`App::request_update`] would: each operation
    /// is durable, and what is refused keeps none of the others from it.
    ///
    /// # Errors
    /// `Forbidden` when actions are off. What is wrong with one container is in the answer.
    pub async fn request_updates(
        &self,
        containers: &[String],
        caller: &Caller<'_>,
    ) -> Result<BulkUpdate, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
        if !self.settings().container_actions.is_enabled() {
            return Err(AppError::Forbidden(
                "Container actions are disabled".to_owned(),
            ));
        }
        let snapshot = self.snapshot().await?;
        let mut triggers: BTreeMap<&str, Vec<UpdateTrigger>> = BTreeMap::new();
        let mut bulk = BulkUpdate::default();
        let mut candidates = Vec::new();
        let mut asked = HashSet::new();
        for id in containers.iter().filter(|id| asked.insert(id.as_str())) {
            let mut reject = |name: &str, error| {
                bulk.rejected.push(Rejected {
                    container: id.clone(),
                    container_name: name.to_owned(),
                    error,
                });
            };
            let Some(entry) = snapshot.inventory.get(id) else {
                reject("", AppError::NotFound(NOT_FOUND.to_owned()));
                continue;
            };
            let state = &entry.state;
            let agent = state.facts.watcher.agent.as_str();
            if !triggers.contains_key(agent) {
                triggers.insert(agent, self.update_triggers(agent).await?);
            }
            match self.admit_update(state, &triggers[agent]) {
                Ok(admitted) => candidates.push(Candidate { state, admitted }),
                Err(error) => reject(&state.facts.name, error),
            }
        }
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let origin = UpdateOrigin::Container;
        let written = self.write_many(&tx, &candidates, origin, caller).await?;
        commit(tx).await?;
        drop(client);
        self.wake_for(&written).await;
        for (candidate, written) in candidates.iter().zip(written) {
            let facts = &candidate.state.facts;
            match written {
                Some((operation, _, _)) => bulk.accepted.push(Accepted {
                    container: facts.id.to_string(),
                    container_name: facts.name.clone(),
                    operation,
                }),
                None => bulk.rejected.push(Rejected {
                    container: facts.id.to_string(),
                    container_name: facts.name.clone(),
                    error: AppError::conflict("Container update already in progress"),
                }),
            }
        }
        Ok(bulk)
    }

    /// Writes the operations; `None` for a container that has an active one.
    pub(crate) async fn write_many(
        &self,
        tx: &Transaction<'_>,
        candidates: &[Candidate<'_>],
        origin: UpdateOrigin,
        caller: &Caller<'_>,
    ) -> Result<Vec<Option<(OperationId, JobId, WatcherRef)>>, AppError> {
        let rows: Vec<_> = candidates
            .iter()
            .map(|candidate| {
                let request = candidate.admitted.request(candidate.state, origin);
                let operation = request.operation(caller);
                let event = accepted_event(&operation);
                (operation, JobId::generate(), event)
            })
            .collect();
        let requests: Vec<NewRequest<'_>> = rows
            .iter()
            .map(|(operation, job, event)| NewRequest {
                operation,
                job: *job,
                audit_action: origin.audit_action(),
                audit_details: None,
                event,
                idempotency: None,
            })
            .collect();
        let accepted: HashSet<OperationId> =
            accept_many(tx, &requests).await?.into_iter().collect();
        Ok(rows
            .iter()
            .map(|(operation, job, _)| {
                let is_accepted = accepted.contains(&operation.id);
                is_accepted.then(|| (operation.id, *job, operation.watcher.clone()))
            })
            .collect())
    }

    /// What was written is durable; this only makes it faster.
    pub(crate) async fn wake_for(&self, written: &[Option<(OperationId, JobId, WatcherRef)>]) {
        let mut jobs: HashMap<&WatcherRef, Vec<JobId>> = HashMap::new();
        for (_, job, watcher) in written.iter().flatten() {
            jobs.entry(watcher).or_default().push(*job);
        }
        for (watcher, jobs) in &jobs {
            if let Err(error) = self.queue().wake_workers(watcher, jobs).await {
                tracing::warn!(%error, %watcher, "could not wake a worker; the sweep will");
            }
        }
        if !jobs.is_empty() {
            self.announce().await;
        }
    }
}
