//! A container's name as the last part of a path or in a body.

use std::sync::Arc;

use plimsoll_app::{AppError, Snapshot, inventory::Entry, names::named};

/// The container that a client of Docksmith means. There is one host in Docksmith; here a name may
/// be on several, and then `name@watcher` or the id says which.
///
/// # Errors
/// 404, or 400 with what to say instead.
pub fn container<'a>(snapshot: &'a Snapshot, name: &str) -> Result<&'a Arc<Entry>, AppError> {
    named(&snapshot.inventory, name)
}
