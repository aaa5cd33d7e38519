//! Containers as people name them.

use std::sync::Arc;

use crate::{
    AppError,
    inventory::{Entry, Inventory},
};

/// The shortest beginning of an id that names a container, as Docker's own listings cut it.
const SHORT_ID: usize = 12;

/// A container as people name it: its name, `name@watcher` where several hosts have one of that
/// name, its id, or the first twelve digits of that or more.
///
/// # Errors
/// `NotFound`; `Invalid` where it could be several, with what to say instead.
pub fn named<'a>(inventory: &'a Inventory, name: &str) -> Result<&'a Arc<Entry>, AppError> {
    if let Some(entry) = inventory.get(name) {
        return Ok(entry);
    }
    let name = name.strip_prefix('/').unwrap_or(name);
    let (bare, watcher) = match name.split_once('@') {
        Some((bare, watcher)) => (bare, Some(watcher)),
        None => (name, None),
    };
    let entries = || inventory.entries().iter();
    let mut found: Vec<&Arc<Entry>> = entries()
        .filter(|entry| {
            let facts = &entry.state.facts;
            let there = |watcher: &str| facts.watcher.to_string() == watcher;
            facts.name == bare && watcher.is_none_or(there)
        })
        .collect();
    if found.is_empty() && bare.len() >= SHORT_ID && watcher.is_none() {
        found = entries()
            .filter(|entry| entry.id().starts_with(bare))
            .collect();
    }
    match found[..] {
        [one] => Ok(one),
        [] => Err(AppError::NotFound(format!("Container not found: {name}"))),
        _ => {
            let ways = found.iter().map(|entry| {
                let facts = &entry.state.facts;
                format!("{}@{}", facts.name, facts.watcher)
            });
            let ways = ways.collect::<Vec<_>>().join(", ");
            Err(AppError::Invalid(format!(
                "Several containers are called {bare}: say which one ({ways}), or its id"
            )))
        }
    }
}
