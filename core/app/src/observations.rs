//! What workers see: containers that appear, change and go, and what a watch found for them. Each
//! call is one transaction that also holds the events and audit entries that tell of it.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    assessment::candidate_key,
    container::{ContainerFacts, ContainerState, WatchResult},
    ids::{ContainerId, IdentityKey, WatcherRef},
    view::{ContainerView, ViewContext, view},
};
use plimsoll_store::{
    Transaction,
    audit::{self, AuditStatus, NewAudit},
    begin, commit,
    containers::{self, ContainerChange, NewResult},
    events, image_details, retrying, sightings,
};
pub use plimsoll_store::{
    containers::{KnownContainer, KnownFacts},
    image_details::{ImageDetails, ImageKey},
};
use serde::Serialize;

use crate::{
    App, AppError,
    announcements::{self, Listeners},
};

/// What one look at an engine showed.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Containers as they are now, each at most once.
    pub present: Vec<ContainerFacts>,
    /// Containers that are known to be gone: the engine said so, or a complete listing that began
    /// after they were known no longer showed them.
    pub gone: Vec<ContainerId>,
}

/// What changed by it. Ids only: the events carry the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub added: Vec<ContainerId>,
    pub updated: Vec<ContainerId>,
    pub removed: Vec<ContainerId>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.updated.is_empty() && self.removed.is_empty()
    }
}

/// What a watch found for one container.
#[derive(Clone, Debug)]
pub struct WatchOutcome {
    pub facts: ContainerFacts,
    pub result: WatchResult,
    /// When the first of the questions was asked whose answers it is made of: it takes the place of
    /// no result that was observed later.
    pub observed_at: DateTime<Utc>,
}

/// A result that was written, and what belongs to it since.
#[derive(Clone, Debug)]
pub struct Amended {
    pub before: WatchResult,
    pub outcome: WatchOutcome,
}

impl App {
    /// Writes what an engine showed. Containers whose name another one of `present` has taken are
    /// removed with it. Writes nothing where nothing changed.
    pub async fn observe(
        &self,
        watcher: &WatcherRef,
        observed: &Observed,
    ) -> Result<Changes, AppError> {
        if observed.present.is_empty() && observed.gone.is_empty() {
            return Ok(Changes::default());
        }
        let context = self.settings().view_context();
        let changes = retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            let changes = observe(&tx, watcher, observed, &context).await?;
            commit(tx).await?;
            Ok::<_, AppError>(changes)
        })
        .await?;
        if !changes.is_empty() {
            self.announce().await;
        }
        Ok(changes)
    }

    /// Writes what a watch found, with the details that it fetched on the way. Answers with the
    /// number of containers whose result changed; a result for an image that a container no longer
    /// runs is dropped.
    pub async fn record_watch(
        &self,
        outcomes: &[WatchOutcome],
        details: &[(ImageKey, ImageDetails)],
    ) -> Result<usize, AppError> {
        if outcomes.is_empty() && details.is_empty() {
            return Ok(0);
        }
        let context = self.settings().view_context();
        let changed = retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            let changed = record(&tx, outcomes, details, &context).await?;
            commit(tx).await?;
            Ok::<_, AppError>(changed)
        })
        .await?;
        if changed > 0 {
            self.announce().await;
        }
        Ok(changed)
    }

    /// Adds what was found for results after they were written. A result that another watch has
    /// replaced meanwhile stays as it is; the candidate must be the same.
    pub async fn amend_watch(&self, amended: &[Amended]) -> Result<usize, AppError> {
        if amended.is_empty() {
            return Ok(0);
        }
        let context = self.settings().view_context();
        let changed = retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            let changed = amend(&tx, amended, &context).await?;
            commit(tx).await?;
            Ok::<_, AppError>(changed)
        })
        .await?;
        if changed > 0 {
            self.announce().await;
        }
        Ok(changed)
    }
}

async fn amend(
    tx: &Transaction<'_>,
    amended: &[Amended],
    context: &ViewContext,
) -> Result<usize, AppError> {
    let results: Vec<(NewResult<'_>, &WatchResult)> = amended
        .iter()
        .map(|one| (NewResult::from(&one.outcome), &one.before))
        .collect();
    let changed = containers::amend_results(tx, &results).await?;
    if changed.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&str> = changed.iter().map(ContainerId::as_str).collect();
    let mut told = Vec::with_capacity(ids.len());
    for state in containers::states(tx, &ids).await? {
        told.push(("dd:container-updated", rendered(&state, context)?));
    }
    events::append_all(tx, &told).await?;
    Ok(changed.len())
}

impl<'a> From<&'a WatchOutcome> for NewResult<'a> {
    fn from(outcome: &'a WatchOutcome) -> Self {
        Self {
            id: &outcome.facts.id,
            image_id: &outcome.facts.image.id,
            result: &outcome.result,
            observed_at: outcome.observed_at,
        }
    }
}

async fn observe(
    tx: &Transaction<'_>,
    watcher: &WatcherRef,
    observed: &Observed,
    context: &ViewContext,
) -> Result<Changes, AppError> {
    let names: Vec<&str> = observed.present.iter().map(|f| f.name.as_str()).collect();
    let ids: Vec<&str> = observed.present.iter().map(|f| f.id.as_str()).collect();
    let mut gone = observed.gone.clone();
    gone.extend(containers::superseded(tx, watcher, &names, &ids).await?);
    let removed = containers::remove(tx, watcher, &gone).await?;
    let written = containers::upsert(tx, watcher, &observed.present).await?;
    let mut changes = Changes {
        removed,
        ..Changes::default()
    };
    for (id, change) in written {
        match change {
            ContainerChange::Added => changes.added.push(id),
            ContainerChange::Updated => changes.updated.push(id),
        }
    }
    if changes.is_empty() {
        return Ok(changes);
    }
    let touched: Vec<&str> = [&changes.removed, &changes.added, &changes.updated]
        .into_iter()
        .flatten()
        .map(ContainerId::as_str)
        .collect();
    let states = containers::states(tx, &touched).await?;
    let added: HashSet<&ContainerId> = changes.added.iter().collect();
    let removed: HashSet<&ContainerId> = changes.removed.iter().collect();
    let mut told = Vec::with_capacity(states.len());
    let mut entries = Vec::new();
    let images: Vec<String> = states.iter().map(image_shown).collect();
    // Departures first, so that a re-created container is not removed from a client's list by the
    // event of its predecessor.
    let order = |state: &ContainerState| !removed.contains(&state.facts.id);
    let mut sorted: Vec<(&ContainerState, &String)> = states.iter().zip(&images).collect();
    sorted.sort_by_key(|(state, _)| order(state));
    for (state, image) in sorted {
        let (event, action) = if removed.contains(&state.facts.id) {
            ("dd:container-removed", Some("container-removed"))
        } else if added.contains(&state.facts.id) {
            ("dd:container-added", Some("container-added"))
        } else {
            ("dd:container-updated", None)
        };
        let successor = observed
            .present
            .iter()
            .find(|new| removed.contains(&state.facts.id) && new.name == state.facts.name);
        let payload = match successor {
            Some(new) => replaced(state, context, &new.id)?,
            None => rendered(state, context)?,
        };
        told.push((event, payload));
        if let Some(action) = action {
            entries.push(NewAudit {
                container_image: Some(image),
                identity_key: Some(state.identity_key.as_str()),
                ..NewAudit::new(action, &state.facts.name, AuditStatus::Info)
            });
        }
    }
    events::append_all(tx, &told).await?;
    audit::append_all(tx, &entries).await?;
    Ok(changes)
}

async fn record(
    tx: &Transaction<'_>,
    outcomes: &[WatchOutcome],
    details: &[(ImageKey, ImageDetails)],
    context: &ViewContext,
) -> Result<usize, AppError> {
    image_details::save(tx, details).await?;
    let results: Vec<NewResult<'_>> = outcomes.iter().map(NewResult::from).collect();
    let changed = containers::write_results(tx, &results).await?;
    let candidates: Vec<(IdentityKey, String)> = outcomes
        .iter()
        .filter_map(|outcome| {
            let candidate = candidate_key(&outcome.facts, &outcome.result)?;
            Some((outcome.facts.identity_key(), candidate))
        })
        .collect();
    let sighted: Vec<sightings::Sighting<'_>> = candidates
        .iter()
        .map(|(identity, candidate)| (identity, candidate.as_str()))
        .collect();
    let new: HashSet<(IdentityKey, String)> =
        sightings::record(tx, &sighted).await?.into_iter().collect();
    let listeners = Listeners::of(tx).await?;
    if listeners.want_repetition() {
        let all: Vec<&str> = outcomes.iter().map(|one| one.facts.id.as_str()).collect();
        let states = containers::states(tx, &all).await?;
        announcements::available(tx, &listeners, &states, context, true).await?;
    }
    if changed.is_empty() {
        return Ok(0);
    }
    let ids: Vec<&str> = changed.iter().map(ContainerId::as_str).collect();
    let states = containers::states(tx, &ids).await?;
    if !listeners.want_repetition() {
        announcements::available(tx, &listeners, &states, context, true).await?;
    }
    let mut told = Vec::with_capacity(states.len());
    let mut found = Vec::new();
    for state in &states {
        told.push(("dd:container-updated", rendered(state, context)?));
        let candidate = state
            .current_result()
            .and_then(|result| candidate_key(&state.facts, result));
        if let Some(candidate) = candidate
            && new.contains(&(state.identity_key.clone(), candidate.clone()))
        {
            found.push((state, image_shown(state), candidate));
        }
    }
    let entries: Vec<NewAudit<'_>> = found
        .iter()
        .map(|(state, image, candidate)| NewAudit {
            container_image: Some(image),
            identity_key: Some(state.identity_key.as_str()),
            from_version: Some(&state.facts.image.tag.value),
            to_version: Some(candidate),
            ..NewAudit::new("update-available", &state.facts.name, AuditStatus::Info)
        })
        .collect();
    events::append_all(tx, &told).await?;
    audit::append_all(tx, &entries).await?;
    Ok(changed.len())
}

/// The container as events carry it.
pub(crate) fn rendered(state: &ContainerState, context: &ViewContext) -> Result<String, AppError> {
    as_json(state, &view(state, context, Utc::now()))
}

/// One that is gone and has left its name to another.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Replaced<'a> {
    #[serde(flatten)]
    container: ContainerView<'a>,
    replaced_by: &'a ContainerId,
}

fn replaced(
    state: &ContainerState,
    context: &ViewContext,
    replaced_by: &ContainerId,
) -> Result<String, AppError> {
    let container = view(state, context, Utc::now());
    as_json(
        state,
        &Replaced {
            container,
            replaced_by,
        },
    )
}

fn as_json(state: &ContainerState, payload: &impl Serialize) -> Result<String, AppError> {
    serde_json::to_string(payload)
        .map_err(|e| AppError::Internal(format!("cannot render {}: {e}", state.facts.id)))
}

fn image_shown(state: &ContainerState) -> String {
    let image = &state.facts.image;
    format!("{}:{}", image.name, image.tag.value)
}
