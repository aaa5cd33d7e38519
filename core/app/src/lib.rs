//! Use cases: authorise, decide, store in one transaction, enqueue. The only thing that handlers
//! and jobs call.

pub mod access;
pub mod actions;
pub mod agents;
mod announcements;
pub mod audit;
pub mod authentications;
mod automatic_updates;
pub mod backups;
pub mod batch_updates;
pub mod bulk_updates;
pub mod components;
pub mod compose_mismatches;
pub mod container_logs;
pub mod containers;
mod deletions;
pub mod env_reveals;
mod error;
pub mod events;
pub mod explorer;
pub mod freshness;
pub mod groups;
pub mod history;
pub mod inspections;
pub mod inventory;
pub mod labels;
mod live;
pub mod log;
pub mod metrics;
pub mod names;
pub mod notifications;
mod notifier_runs;
pub mod observations;
pub mod operation_groups;
pub mod outcomes;
pub mod previews;
pub mod recent_status;
pub mod registry_tags;
pub mod registry_webhooks;
pub mod release_notes;
pub mod removals;
pub mod requests;
pub mod rollbacks;
pub mod sboms;
pub mod scans;
pub mod scripts;
pub mod security_runtime;
pub mod self_updates;
mod settings;
pub mod stacks;
pub mod stats;
pub mod steps;
pub mod totals;
pub mod trigger_runs;
pub mod triggers;
mod turns;
pub mod ui_settings;
pub mod update_operations;
pub mod update_policies;
mod update_triggers;
pub mod updates;
pub mod users;
pub mod vulnerabilities;
mod wake;
pub mod watchers;
pub mod watches;
pub mod webhook_calls;
pub mod webhook_deliveries;
pub mod webhook_endpoints;
pub mod webhook_signature;
mod webhooks;

use std::sync::Arc;

pub use error::AppError;
pub use events::Events;
pub use freshness::{Freshness, Snapshot};
pub use plimsoll_queue::{self as queue, Queue};
pub use plimsoll_store::{self as store, Store};
pub use settings::{AppSettings, Feature, WebhookTokens};
pub use webhooks::Webhook;

/// What every use case works with. Cheap to clone; holds nothing that another replica would need.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    queue: Queue,
    settings: AppSettings,
    freshness: Freshness,
    events: Events,
    access: access::Access,
    tally: totals::Tally,
    pushes: registry_webhooks::Pushes,
    scrapes: metrics::Scrapes,
}

impl App {
    pub fn new(store: Store, queue: Queue, settings: AppSettings) -> Self {
        let events = Events::new(store.clone(), queue.clone());
        let freshness = Freshness::new(store.clone(), settings.view_context());
        let access = access::Access::new(settings.access.clone());
        Self {
            inner: Arc::new(Inner {
                store,
                queue,
                settings,
                freshness,
                events,
                access,
                tally: totals::Tally::default(),
                pushes: registry_webhooks::Pushes::default(),
                scrapes: metrics::Scrapes::default(),
            }),
        }
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    /// The inventory and the version of the access data, no staler than this call.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, AppError> {
        self.inner.freshness.snapshot().await
    }

    pub(crate) fn pushes(&self) -> &registry_webhooks::Pushes {
        &self.inner.pushes
    }

    pub(crate) fn access(&self) -> &access::Access {
        &self.inner.access
    }

    /// What happens, as it happens.
    pub fn events(&self) -> &Events {
        &self.inner.events
    }

    pub fn settings(&self) -> &AppSettings {
        &self.inner.settings
    }
}
