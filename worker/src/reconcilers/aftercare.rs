//! The watch after the end (reliability.md R-2): a worker that was taken over may have had one call
//! under way, and it may land after the operation has ended. Of those calls a stop and a rename of
//! the old container do harm; here they are undone.
//!
//! Only operations that were taken over are repaired: in all others there is no such worker, and a
//! container that somebody stops after an update stays stopped.

use chrono::{DateTime, Utc};
use plimsoll_app::{
    App,
    store::update_operations::{EndedOperation, Operation},
};
use plimsoll_domain::{
    ids::{ContainerId, WatcherRef},
    operation::Phase,
    recovery::{Prior, Run},
    spec::stop_grace,
};
use serde_json::Value;

use super::ReconcileError;
use crate::{
    docker::{Engine, EngineError},
    operations::{Snapshot, own_name, run_of},
};

/// How long after its end an operation is watched. A call of a worker that was taken over has ended
/// by then: its deadline is 60 s.
const WATCHED: f64 = 90.0;

pub(super) async fn tend(
    app: &App,
    watcher: &WatcherRef,
    engine: &Engine,
) -> Result<(), ReconcileError> {
    for ended in app
        .store()
        .operations_ended_within(watcher, WATCHED)
        .await?
    {
        let EndedOperation {
            operation,
            takeovers,
        } = ended;
        let snapshot = operation.snapshot.clone();
        let Some(snapshot) = snapshot.and_then(|s| serde_json::from_value::<Snapshot>(s).ok())
        else {
            continue;
        };
        match operation.phase {
            Phase::Succeeded => clear_old(engine, &operation).await?,
            Phase::RolledBack | Phase::Failed if takeovers > 0 => {
                repair_old(engine, &operation, &snapshot).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// K9: the old container is still there although the new one has taken its place.
async fn clear_old(engine: &Engine, operation: &Operation) -> Result<(), ReconcileError> {
    let Some((id, old)) = inspect(engine, operation.old_container_id.as_deref()).await? else {
        return Ok(());
    };
    let is_set_aside = operation.temp_name.as_deref() == Some(own_name(&old));
    let new = inspect(engine, operation.new_container_id.as_deref()).await?;
    let has_successor = new.is_some_and(|(_, new)| own_name(&new) == operation.container_name);
    if !is_set_aside || !has_successor {
        return Ok(());
    }
    tracing::warn!(operation = %operation.id, container = %id.short(), "removing a replaced container that was left over");
    if run_of(&old).is_alive() {
        engine.stop(&id, stop_grace(&old)).await?;
    }
    match engine.remove(&id).await {
        Err(error) if !error.is_not_found() => Err(error.into()),
        _ => Ok(()),
    }
}

/// The old container is as the rollback left it, or becomes so again (I-1).
async fn repair_old(
    engine: &Engine,
    operation: &Operation,
    snapshot: &Snapshot,
) -> Result<(), ReconcileError> {
    let Some((id, old)) = inspect(engine, operation.old_container_id.as_deref()).await? else {
        return Ok(());
    };
    if operation.temp_name.as_deref() == Some(own_name(&old))
        && engine
            .find_by_name(&operation.container_name)
            .await?
            .is_none()
    {
        tracing::warn!(operation = %operation.id, "a late call renamed the container; its name is restored");
        engine.rename(&id, &operation.container_name).await?;
    }
    let own = &snapshot.container["HostConfig"]["RestartPolicy"];
    if old["HostConfig"]["RestartPolicy"]["Name"] != own["Name"] {
        tracing::warn!(operation = %operation.id, "a late call changed the restart policy; it is restored");
        engine.set_restart_policy(&id, own).await?;
    }
    if snapshot.prior == Prior::Running
        && run_of(&old) == Run::Exited
        && stopped_after(&old, operation.completed_at)
    {
        tracing::warn!(operation = %operation.id, "a late call stopped the container; it is started");
        engine.start(&id).await?;
    }
    Ok(())
}

fn stopped_after(inspect: &Value, time: Option<DateTime<Utc>>) -> bool {
    let finished = inspect["State"]["FinishedAt"].as_str();
    let finished = finished.and_then(|at| DateTime::parse_from_rfc3339(at).ok());
    finished
        .zip(time)
        .is_some_and(|(finished, time)| finished >= time)
}

async fn inspect(
    engine: &Engine,
    id: Option<&str>,
) -> Result<Option<(ContainerId, Value)>, EngineError> {
    let Some(id) = id.and_then(ContainerId::parse) else {
        return Ok(None);
    };
    match engine.inspect(&id).await {
        Ok(inspect) => Ok(Some((id, inspect))),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
