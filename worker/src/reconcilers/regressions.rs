//! The watch after an update (`dd.rollback.auto`; reliability.md H7): a container that turns
//! unhealthy within its window goes back to what ran before, as an operation of its own. Once: after
//! it, the update is not the container's last operation any more.

use std::time::Duration;

use plimsoll_app::{App, AppError, store::update_operations::Operation};
use plimsoll_domain::ids::{ContainerId, WatcherRef};

use super::ReconcileError;
use crate::{docker::Engine, operations::unhealthy};

/// Drydock's default for `dd.rollback.window`.
const WINDOW: Duration = Duration::from_secs(300);

pub(super) async fn tend(
    app: &App,
    watcher: &WatcherRef,
    engine: &Engine,
) -> Result<(), ReconcileError> {
    let updates = app
        .store()
        .regressed_operations(watcher, WINDOW.as_secs_f64())
        .await?;
    for update in updates {
        go_back(app, engine, &update).await?;
    }
    Ok(())
}

async fn go_back(app: &App, engine: &Engine, update: &Operation) -> Result<(), ReconcileError> {
    let id = update.new_container_id.as_deref();
    let Some(id) = id.and_then(ContainerId::parse) else {
        return Ok(());
    };
    // The inventory may be some seconds old.
    let output = match engine.inspect(&id).await {
        Ok(container) => unhealthy(&container),
        Err(error) if error.is_not_found() => None,
        Err(error) => return Err(error.into()),
    };
    let Some(output) = output else {
        return Ok(());
    };
    let mut reason = format!("Unhealthy after the update {}", update.id);
    if !output.is_empty() {
        reason = format!("{reason}: {output}");
    }
    match app.roll_back_regression(update, &reason).await {
        Ok(operation) => {
            tracing::warn!(%operation, container = update.container_name, reason, "rolling back");
        }
        Err(AppError::Conflict { message, .. } | AppError::NotFound(message)) => {
            tracing::warn!(update = %update.id, container = update.container_name, why = message,
                "an update that did not stand cannot be rolled back");
        }
        Err(error) => return Err(ReconcileError::Request(error)),
    }
    Ok(())
}
