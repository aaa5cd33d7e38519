//! Watchers and what they see (reference/drydock.md 1.5).

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use plimsoll_domain::ids::WatcherRef;

use crate::{App, AppError, components::Component, inventory::Inventory};

/// Every watcher of ours watches a Docker engine.
pub const TYPE: &str = "docker";

/// A watcher with its counts.
#[derive(Clone, Debug)]
pub struct WatcherView {
    pub component: Component,
    pub connected: bool,
    /// Why its engine does not answer.
    pub last_error: Option<String>,
    pub last_run_at: Option<DateTime<Utc>>,
    pub next_run_at: Option<DateTime<Utc>>,
    pub counts: Counts,
}

/// What some containers come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub total: usize,
    pub running: usize,
    pub updates_available: usize,
    /// Distinct images among them.
    pub images: usize,
}

impl Counts {
    pub const fn stopped(&self) -> usize {
        self.total - self.running
    }

    /// Of the containers whose watcher satisfies `of`.
    pub(crate) fn of(inventory: &Inventory, of: impl Fn(&WatcherRef) -> bool) -> Self {
        let mut counts = Self::default();
        let mut images = HashSet::new();
        for entry in inventory.entries() {
            let facts = &entry.state.facts;
            if of(&facts.watcher) {
                counts.total += 1;
                counts.running += usize::from(facts.is_running());
                counts.updates_available += usize::from(entry.update_available);
                images.insert(facts.image.id.as_str());
            }
        }
        counts.images = images.len();
        counts
    }
}

impl App {
    /// By name, then agent.
    pub async fn watchers(&self) -> Result<Vec<WatcherView>, AppError> {
        let snapshot = self.snapshot().await?;
        let rows = self.store().watchers().await?;
        Ok(rows
            .into_iter()
            .map(|row| WatcherView {
                counts: Counts::of(&snapshot.inventory, |watcher| *watcher == row.watcher),
                component: Component::new(
                    row.watcher.agent,
                    TYPE.to_owned(),
                    row.watcher.name,
                    row.configuration,
                ),
                connected: row.connected,
                last_error: row.last_error,
                last_run_at: row.last_run_at,
                next_run_at: row.next_run_at,
            })
            .collect())
    }
}
