//! The removal job: objects of the engine go, one after another.
//!
//! What is to go is decided once and written down first. Before each step it is judged again by
//! what is there then, and after it what became of the object is written down; a worker that takes
//! over goes on with what is left of the plan. What was planned and is not there any more is gone.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use plimsoll_app::{
    removals::{AMBIGUOUS, ENGINE, Failure, Item, ItemState, NO_OBJECT, Removal, STALE},
    store::{StoreError, journal::FencedError},
};
use plimsoll_domain::{
    explorer::{
        Contents, Keep, Obstacle,
        removal::{ObjectKind, PlanError, Planned, RemovalRequest, judge, plan},
    },
    ids::{ContainerId, RemovalId},
    job::JobSpec,
    spec::stop_grace,
};
use serde_json::Value;

use super::{JobContext, Outcome};
use crate::{
    docker::{EngineError, Usage},
    explorer::{ExploreError, Explorer, container_id},
    operations::{Side, run_of},
};

/// The kind of these jobs, `JobSpec::kind`.
pub const KIND: &str = "removal";
/// How long an engine may take to finish a removal that it has begun.
const GOING: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(200);

/// Why a removal did not come to its end.
#[derive(Debug, thiserror::Error)]
enum RemovalError {
    #[error(transparent)]
    Fenced(#[from] FencedError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Explore(#[from] ExploreError),
    #[error("the process ends")]
    Shutdown,
}

impl From<EngineError> for RemovalError {
    fn from(error: EngineError) -> Self {
        Self::Explore(error.into())
    }
}

/// Runs the removal that the job names, to its end.
pub async fn run(explorer: Explorer, context: JobContext) -> Outcome {
    let JobSpec::Removal { removal } = context.job.spec else {
        let kind = context.job.spec.kind();
        return Outcome::Failed(format!("a job of kind {kind} removes nothing"));
    };
    let later = |why: String| Outcome::Later {
        after: Duration::from_secs(1),
        why,
    };
    match remove(&explorer, &context, removal).await {
        Ok(()) => Outcome::Done,
        Err(RemovalError::Fenced(FencedError::LeaseLost)) => Outcome::LeaseLost,
        Err(RemovalError::Shutdown) => Outcome::HandedOver,
        Err(
            error @ (RemovalError::Fenced(FencedError::Store(_))
            | RemovalError::Store(_)
            | RemovalError::Explore(ExploreError::Store(_))),
        ) => later(error.to_string()),
        // An engine that is away is not waited for: what is unused now may be missed then.
        Err(error @ RemovalError::Explore(ExploreError::Engine(_))) => {
            let why = error.to_string();
            let failure = failure(ENGINE, why.clone());
            match finish(&explorer, &context, removal, failure).await {
                Ok(()) => Outcome::Failed(why),
                Err(RemovalError::Fenced(FencedError::LeaseLost)) => Outcome::LeaseLost,
                Err(error) => later(error.to_string()),
            }
        }
    }
}

async fn remove(
    explorer: &Explorer,
    context: &JobContext,
    id: RemovalId,
) -> Result<(), RemovalError> {
    let Some(removal) = explorer.app.store().removal(id, STALE).await? else {
        return Ok(());
    };
    if removal.completed_at.is_some() {
        return Ok(());
    }
    let items = match removal.planned_at {
        Some(_) => removal.items.clone(),
        None if removal.is_old => {
            let why = "no worker began it in time, so nothing was removed; ask again";
            return finish(explorer, context, id, failure("stale", why.to_owned())).await;
        }
        None => match decide(explorer, &removal).await? {
            Ok(items) => {
                let lease = context.lease.lease();
                let store = explorer.app.store();
                explorer.crash_point("plan-removal", Side::Before);
                store.plan_removal(lease, id, &items).await?;
                explorer.crash_point("plan-removal", Side::After);
                items
            }
            Err(error) => {
                let code = match error {
                    PlanError::NotFound { .. } => NO_OBJECT,
                    PlanError::Ambiguous { .. } => AMBIGUOUS,
                };
                return finish(explorer, context, id, failure(code, error.to_string())).await;
            }
        },
    };
    let kinds: BTreeSet<ObjectKind> = items.iter().map(|item| item.kind).collect();
    for kind in kinds {
        let mut seen = None;
        for item in &items {
            if item.kind != kind || item.state != ItemState::Planned {
                continue;
            }
            if context.shutdown.is_cancelled() {
                return Err(RemovalError::Shutdown);
            }
            if !context.lease.is_held() {
                return Err(FencedError::LeaseLost.into());
            }
            // Once for each kind: the engine refuses what is taken into use after that, but for
            // networks of containers that do not run.
            if seen.is_none() || kind == ObjectKind::Network {
                let contents = explorer.contents(&BTreeSet::from([kind])).await?;
                let keep = explorer.keep(&contents).await?;
                seen = Some((contents, keep));
            }
            if let Some((contents, keep)) = &mut seen {
                let lease = context.lease.lease();
                let store = explorer.app.store();
                let ended = if kind == ObjectKind::Container
                    && !store.reserve_removed(lease, &removal, item).await?
                {
                    kept(item, Obstacle::Operation)
                } else {
                    explorer.crash_point("reserve-removed", Side::After);
                    // What an operation was asked for meanwhile is the removal's until it is
                    // settled.
                    keep.give_up(&item.id);
                    step(explorer, item, &removal.request, contents, keep).await?
                };
                explorer.crash_point("settle-removed", Side::Before);
                store.settle_removal(lease, id, &ended).await?;
                explorer.crash_point("settle-removed", Side::After);
            }
        }
    }
    finish(explorer, context, id, None).await
}

async fn finish(
    explorer: &Explorer,
    context: &JobContext,
    id: RemovalId,
    failure: Option<Failure>,
) -> Result<(), RemovalError> {
    let Some(removal) = explorer.app.store().removal(id, STALE).await? else {
        return Ok(());
    };
    let lease = context.lease.lease();
    let app = &explorer.app;
    explorer.crash_point("end-removal", Side::Before);
    app.complete_removal(lease, &removal, failure.as_ref())
        .await?;
    explorer.crash_point("end-removal", Side::After);
    Ok(())
}

const fn failure(code: &'static str, message: String) -> Option<Failure> {
    Some(Failure { code, message })
}

/// What the request comes to now.
async fn decide(
    explorer: &Explorer,
    removal: &Removal,
) -> Result<Result<Vec<Item>, PlanError>, RemovalError> {
    let kinds = match &removal.request {
        RemovalRequest::One { kind, volumes, .. } => {
            let volumes = volumes.then_some(ObjectKind::Volume);
            volumes.into_iter().chain([*kind]).collect()
        }
        RemovalRequest::Unused { kinds, .. } => kinds.clone(),
    };
    let contents = explorer.contents(&kinds).await?;
    let keep = explorer.keep(&contents).await?;
    let planned = match plan(&removal.request, &contents, &keep) {
        Ok(planned) => planned,
        Err(error) => return Ok(Err(error)),
    };
    let sizes = sizes(explorer, &planned).await;
    let items = planned.into_iter().zip(0..).map(|(one, place)| Item {
        place,
        size: sizes.get(&(one.kind, one.id.clone())).copied(),
        state: match one.obstacle {
            None => ItemState::Planned,
            Some(_) => ItemState::Kept,
        },
        reason: one.obstacle.map(|why| why.as_str().to_owned()),
        message: one.obstacle.map(|why| why.stays(one.kind, &one.name)),
        kind: one.kind,
        id: one.id,
        name: one.name,
        tag: one.tag,
        is_reserved: false,
    });
    Ok(Ok(items.collect()))
}

/// What each takes alone, as far as the engine says. Not knowing costs the figure and nothing else.
async fn sizes(explorer: &Explorer, planned: &[Planned]) -> BTreeMap<(ObjectKind, String), i64> {
    let going = |kind| {
        planned
            .iter()
            .any(|one| one.kind == kind && one.obstacle.is_none())
    };
    let of: Vec<Usage> = [
        (ObjectKind::Container, Usage::Containers),
        (ObjectKind::Image, Usage::Images),
        (ObjectKind::Volume, Usage::Volumes),
    ]
    .into_iter()
    .filter_map(|(kind, usage)| going(kind).then_some(usage))
    .collect();
    let mut sizes = BTreeMap::new();
    if of.is_empty() {
        return sizes;
    }
    let usage = match explorer.engine.disk_usage(&of).await {
        Ok(usage) => usage,
        Err(error) => {
            tracing::debug!(%error, "what is freed is not known");
            return sizes;
        }
    };
    let all = |key: &str| usage[key].as_array().cloned().unwrap_or_default();
    let id = |one: &Value, key: &str| one[key].as_str().unwrap_or_default().to_owned();
    for one in all("Containers") {
        let size = one["SizeRw"].as_i64().unwrap_or_default();
        sizes.insert((ObjectKind::Container, id(&one, "Id")), size);
    }
    for one in all("Images") {
        let shared = one["SharedSize"].as_i64().unwrap_or(-1);
        if let Some(size) = one["Size"].as_i64().filter(|_| shared >= 0) {
            sizes.insert((ObjectKind::Image, id(&one, "Id")), (size - shared).max(0));
        }
    }
    for one in all("Volumes") {
        let size = one["UsageData"]["Size"].as_i64();
        if let Some(size) = size.filter(|size| *size >= 0) {
            sizes.insert((ObjectKind::Volume, id(&one, "Name")), size);
        }
    }
    sizes
}

/// Removes one object, unless something stands in the way now.
async fn step(
    explorer: &Explorer,
    item: &Item,
    request: &RemovalRequest,
    contents: &Contents,
    keep: &Keep,
) -> Result<Item, RemovalError> {
    let planned = item.planned();
    match judge(&planned, request, contents, keep) {
        None => return gone(explorer, item).await,
        Some(Err(why)) => return Ok(kept(item, why)),
        Some(Ok(())) => {}
    }
    explorer.crash_point("remove", Side::Before);
    let removed = match planned.kind {
        ObjectKind::Container => container(explorer, &planned, request).await,
        ObjectKind::Network => explorer.engine.remove_network(&planned.id).await,
        ObjectKind::Volume => explorer.engine.remove_volume(&planned.id).await,
        ObjectKind::Image => image(explorer, &planned, contents).await,
    };
    explorer.crash_point("remove", Side::After);
    match removed {
        Ok(()) => {
            tracing::info!(kind = planned.kind.as_str(), name = planned.name, "removed");
            Ok(ended(item, ItemState::Removed, None, None))
        }
        Err(error) if error.is_not_found() => gone(explorer, item).await,
        Err(error) if error.is_engine_away() => Err(error.into()),
        Err(error) => {
            let (reason, message) = (ENGINE.to_owned(), error.to_string());
            Ok(ended(item, ItemState::Kept, Some(reason), Some(message)))
        }
    }
}

/// It is not there: a worker that died removed it, or somebody else was faster. An update between
/// the plan and the reservation made the container anew: then what was to go has not gone.
async fn gone(explorer: &Explorer, item: &Item) -> Result<Item, RemovalError> {
    if item.kind == ObjectKind::Container && !item.is_reserved {
        let other = explorer.engine.find_by_name(&item.name).await?;
        if other.is_some_and(|other| other["Id"] != item.id.as_str()) {
            let reason = Obstacle::Operation.as_str().to_owned();
            let message = format!(
                "The container {} stays: it was made anew after its removal was asked for",
                item.name
            );
            return Ok(ended(item, ItemState::Kept, Some(reason), Some(message)));
        }
    }
    Ok(ended(item, ItemState::Removed, None, None))
}

fn kept(item: &Item, why: Obstacle) -> Item {
    let (reason, message) = (why.as_str().to_owned(), why.stays(item.kind, &item.name));
    ended(item, ItemState::Kept, Some(reason), Some(message))
}

fn ended(item: &Item, state: ItemState, reason: Option<String>, message: Option<String>) -> Item {
    Item {
        state,
        reason,
        message,
        ..item.clone()
    }
}

/// Stops it first where it runs and that was asked for: with its own grace, so that what it writes
/// is written.
async fn container(
    explorer: &Explorer,
    planned: &Planned,
    request: &RemovalRequest,
) -> Result<(), EngineError> {
    let Some(id) = container_id(&planned.id) else {
        return Ok(());
    };
    if matches!(request, RemovalRequest::One { force: true, .. }) {
        let inspect = explorer.engine.inspect(&id).await?;
        if run_of(&inspect).is_alive() {
            explorer.engine.stop(&id, stop_grace(&inspect)).await?;
            explorer.crash_point("stop-removed", Side::After);
        }
    }
    match explorer.engine.remove(&id).await {
        Err(error) if error.is_conflict() => is_going(explorer, &id, error).await,
        removed => removed,
    }
}

/// One that removes itself, or whose removal a worker began that died, goes without us.
async fn is_going(
    explorer: &Explorer,
    id: &ContainerId,
    refusal: EngineError,
) -> Result<(), EngineError> {
    let begun = Instant::now();
    loop {
        match explorer.engine.inspect(id).await {
            Ok(inspect) if inspect["State"]["Status"] == "removing" => {}
            Ok(_) => return Err(refusal),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error),
        }
        if begun.elapsed() > GOING {
            return Err(refusal);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Lets go of its names one by one, because an engine removes an image with several only by force.
async fn image(
    explorer: &Explorer,
    planned: &Planned,
    contents: &Contents,
) -> Result<(), EngineError> {
    let engine = &explorer.engine;
    if let Some(tag) = &planned.tag {
        return engine.remove_image(tag).await;
    }
    let found = contents.images.iter().find(|one| one.id == planned.id);
    let names: Vec<&String> = match found {
        Some(one) => one.tags.iter().chain(&one.digests).collect(),
        None => Vec::new(),
    };
    for name in names {
        match engine.remove_image(name).await {
            // A digest goes with the last tag of its repository.
            Err(error) if error.is_not_found() => {}
            removed => removed?,
        }
    }
    engine.remove_image(&planned.id).await
}
