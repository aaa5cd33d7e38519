//! Updating many containers with one request (reference/drydock.md 1.3).

use std::collections::{BTreeMap, HashSet};

use plimsoll_domain::{
    access::Scope,
    acting::UpdateTrigger,
    container::ContainerState,
    ids::{JobId, OperationId, WatcherRef},
};
use plimsoll_store::{
    Transaction, begin, commit, idempotency,
    requests::{KEY_TAKEN, NewRequest, accept_many},
};
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    App, AppError,
    containers::NOT_FOUND,
    requests::{BEING_REMOVED, Caller, accepted_event},
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
    /// A repeated idempotency key gets the operations that it made, and makes no others.
    ///
    /// # Errors
    /// `Forbidden` when actions are off, `Unprocessable` for a key of another request. What is
    /// wrong with one container is in the answer.
    pub async fn request_updates(
        &self,
        containers: &[String],
        caller: &Caller<'_>,
    ) -> Result<BulkUpdate, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
        self.container_actions_allowed()?;
        if self.replayed(caller).await?.is_some() {
            return self.replay_updates(containers, caller).await;
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
        if let Some(key) = &caller.idempotency {
            let taken = keys_of(key.key(), &candidates, &written);
            let hash = key.request_hash();
            match idempotency::take_many(&tx, caller.actor(), hash, &taken).await {
                Ok(()) => {}
                // The same request came through another replica at the same time.
                Err(error) if error.is_constraint(KEY_TAKEN) => {
                    drop(tx);
                    drop(client);
                    self.replayed(caller).await?;
                    return self.replay_updates(containers, caller).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        commit(tx).await?;
        drop(client);
        self.wake_for(&written).await;
        let refused = candidates.iter().zip(&written);
        let refused: Vec<&str> = refused
            .filter(|(_, written)| written.is_none())
            .map(|(candidate, _)| candidate.state.facts.id.as_str())
            .collect();
        let being_removed = match refused[..] {
            [] => HashSet::new(),
            _ => self.store().being_removed(&refused).await?,
        };
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
                    error: AppError::conflict(match being_removed.contains(facts.id.as_str()) {
                        true => BEING_REMOVED,
                        false => "Container update already in progress",
                    }),
                }),
            }
        }
        Ok(bulk)
    }

    /// What an earlier request with the same key made.
    async fn replay_updates(
        &self,
        containers: &[String],
        caller: &Caller<'_>,
    ) -> Result<BulkUpdate, AppError> {
        let key = caller.idempotency.as_ref().map_or("", |key| key.key());
        let keys: Vec<String> = containers.iter().map(|id| key_for(key, id)).collect();
        let known = self
            .store()
            .find_idempotency_keys(caller.actor(), &keys)
            .await?;
        let snapshot = self.snapshot().await?;
        let mut bulk = BulkUpdate::default();
        let mut asked = HashSet::new();
        for (id, key) in containers.iter().zip(&keys) {
            if !asked.insert(id) {
                continue;
            }
            match known.get(key) {
                // It may have been updated since, and have another id.
                Some((operation, name)) => bulk.accepted.push(Accepted {
                    container: id.clone(),
                    container_name: name.clone(),
                    operation: *operation,
                }),
                None => bulk.rejected.push(Rejected {
                    container: id.clone(),
                    container_name: snapshot
                        .inventory
                        .get(id)
                        .map_or_else(String::new, |entry| entry.state.facts.name.clone()),
                    error: AppError::conflict(
                        "This was rejected when the Idempotency-Key was used first; use another key \
                         to ask again",
                    ),
                }),
            }
        }
        Ok(bulk)
    }

    /// Writes the operations; `None` for a container that has an active one or is being removed.
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
                input: Default::default(),
            })
            .collect();
        let span = plimsoll_trace::producing(format_args!("accept updates"));
        let accepted = accept_many(tx, &requests).instrument(span).await?;
        let accepted: HashSet<OperationId> = accepted.into_iter().collect();
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
        let jobs = written.iter().flatten();
        self.wake(jobs.map(|(_, job, watcher)| (watcher, *job)))
            .await;
        if written.iter().any(Option::is_some) {
            self.announce().await;
        }
    }
}

/// The key itself, so that it is known as used, and one for each container that was accepted.
fn keys_of(
    key: &str,
    candidates: &[Candidate<'_>],
    written: &[Option<(OperationId, JobId, WatcherRef)>],
) -> Vec<(String, Uuid)> {
    let accepted = candidates.iter().zip(written);
    let mut taken: Vec<(String, Uuid)> = accepted
        .filter_map(|(candidate, written)| {
            let (operation, _, _) = written.as_ref()?;
            let id = candidate.state.facts.id.as_str();
            Some((key_for(key, id), operation.as_uuid()))
        })
        .collect();
    // A request of which nothing was accepted has no operation.
    let first = taken.first().map_or(Uuid::nil(), |(_, first)| *first);
    taken.push((key.to_owned(), first));
    taken
}

/// No key of a caller has this form: theirs have visible characters only.
fn key_for(key: &str, container: &str) -> String {
    format!("{key}\n{container}")
}
