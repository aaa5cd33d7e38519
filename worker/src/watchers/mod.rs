//! Watchers: one Docker engine each. What this worker knows how to do with it: keep its inventory,
//! check its containers, follow its schedule.

mod events;
pub mod facts;
mod inventory;
mod schedule;
mod settings;

use std::sync::Arc;

pub use events::follow;
pub use inventory::{Depth, Inventory, InventoryError};
use plimsoll_app::{
    App, AppError,
    store::jobs::{self, Inserted, NewJob},
};
use plimsoll_domain::{
    candidate::is_watched,
    container::ContainerFacts,
    ids::{ContainerId, WatcherRef},
    job::{JobSpec, WatchCause},
};
pub use schedule::keep_schedule;
pub use settings::{LabelScope, ScanSchedule, WatcherSettings};

use crate::{docker::Engine, registry::Registries};

/// One watcher. Cheap to clone.
#[derive(Clone)]
pub struct Watcher {
    inner: Arc<Inner>,
}

struct Inner {
    app: App,
    settings: WatcherSettings,
    engine: Engine,
    registries: Registries,
    inventory: Inventory,
}

impl Watcher {
    pub fn new(
        app: App,
        settings: WatcherSettings,
        engine: Engine,
        registries: Registries,
    ) -> Self {
        let inventory = Inventory::new(
            app.clone(),
            settings.clone(),
            engine.clone(),
            registries.clone(),
        );
        Self {
            inner: Arc::new(Inner {
                app,
                settings,
                engine,
                registries,
                inventory,
            }),
        }
    }

    pub fn app(&self) -> &App {
        &self.inner.app
    }

    pub fn reference(&self) -> &WatcherRef {
        &self.inner.settings.reference
    }

    pub fn settings(&self) -> &WatcherSettings {
        &self.inner.settings
    }

    pub fn engine(&self) -> &Engine {
        &self.inner.engine
    }

    pub fn registries(&self) -> &Registries {
        &self.inner.registries
    }

    pub fn inventory(&self) -> &Inventory {
        &self.inner.inventory
    }

    /// Whether a cycle over all containers checks this one: watched, and running unless `watchall`
    /// says otherwise.
    pub fn selects(&self, facts: &ContainerFacts) -> bool {
        let alive = matches!(facts.status.as_str(), "running" | "paused" | "restarting");
        is_watched(&facts.rules, self.settings().watch_by_default)
            && (alive || self.settings().watch_all)
    }

    /// Enqueues a watch of containers (of all, if none is named) and wakes a worker for it.
    /// `slot` makes it one job, however many workers ask.
    pub async fn enqueue_watch(
        &self,
        containers: Vec<ContainerId>,
        slot: Option<String>,
        cause: WatchCause,
    ) -> Result<Inserted, AppError> {
        let job = NewJob {
            slot,
            // Someone may be waiting for the other ones.
            priority: 10,
            ..NewJob::now(
                self.reference().clone(),
                JobSpec::Watch {
                    containers,
                    fresh: false,
                    cause,
                },
            )
        };
        let client = self.app().store().client().await?;
        let inserted = jobs::insert(&client, &job).await?;
        if inserted == Inserted::Written
            && let Err(error) = self
                .app()
                .queue()
                .wake_workers(self.reference(), &[job.id])
                .await
        {
            tracing::debug!(%error, "no worker was woken; the sweep finds the job");
        }
        Ok(inserted)
    }

    /// Checks what was discovered and has never been checked, with one job for all of it.
    pub(super) async fn check_unchecked(&self) {
        let unchecked = match self
            .app()
            .store()
            .unchecked_containers(self.reference())
            .await
        {
            Ok(unchecked) => unchecked,
            Err(error) => {
                tracing::debug!(watcher = %self.reference(), %error, "the next cycle checks what is new");
                return;
            }
        };
        let mut ids: Vec<ContainerId> = unchecked
            .into_iter()
            .filter(|facts| self.selects(facts))
            .map(|facts| facts.id)
            .collect();
        if ids.is_empty() {
            return;
        }
        ids.sort();
        let slot = format!("discovered:{}:{}", self.reference(), fingerprint(&ids));
        if let Err(error) = self.enqueue_watch(ids, Some(slot), WatchCause::Other).await {
            tracing::debug!(watcher = %self.reference(), %error, "the next cycle checks what is new");
        }
    }
}

/// The same for the same containers, on every worker.
fn fingerprint(ids: &[ContainerId]) -> String {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    for id in ids {
        hasher.update(id.as_str());
    }
    hex::encode(&hasher.finalize()[..16])
}
