//! Tags that keep images of backups, and that no backup needs any more: their workers died between
//! the transaction and the untagging.

use std::collections::HashSet;

use plimsoll_app::App;
use plimsoll_domain::ids::{OperationId, WatcherRef};
use uuid::Uuid;

use super::ReconcileError;
use crate::{docker::Engine, operations::PIN_REPOSITORY};

pub(super) async fn tend(
    app: &App,
    watcher: &WatcherRef,
    engine: &Engine,
) -> Result<(), ReconcileError> {
    let images = engine.list_images().await?;
    let prefix = format!("{PIN_REPOSITORY}/");
    let pins: Vec<String> = images
        .iter()
        .filter_map(|image| image["RepoTags"].as_array())
        .flatten()
        .filter_map(|tag| tag.as_str())
        .filter(|tag| tag.starts_with(&prefix))
        .map(str::to_owned)
        .collect();
    if pins.is_empty() {
        return Ok(());
    }
    let kept: HashSet<String> = app
        .store()
        .backup_pins(watcher)
        .await?
        .into_iter()
        .collect();
    for pin in pins.into_iter().filter(|pin| !kept.contains(pin)) {
        let Some(operation) = operation_of(&pin) else {
            continue;
        };
        // An operation that is not known here may be another installation's, or was forgotten by
        // a restored database: its image stays.
        match app.store().operation(operation).await? {
            Some(operation)
                if operation.watcher == *watcher && operation.completed_at.is_some() =>
            {
                tracing::info!(pin, "an image is no longer kept");
                match engine.remove_image(&pin).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => {
                        return Err(error.into());
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The operation that set a pin: its tag.
fn operation_of(pin: &str) -> Option<OperationId> {
    let (_, tag) = pin.rsplit_once(':')?;
    Uuid::try_parse(tag).ok().map(OperationId::from_uuid)
}
