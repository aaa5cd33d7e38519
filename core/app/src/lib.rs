//! Use cases: authorise, decide, store in one transaction, enqueue. The only thing that handlers
//! and jobs call.

mod error;
pub mod observations;
mod settings;

use std::sync::Arc;

pub use error::AppError;
pub use plimsoll_queue::{self as queue, Queue};
pub use plimsoll_store::{self as store, Store};
pub use settings::{AppSettings, Feature, WebhookTokens};

/// What every use case works with. Cheap to clone; holds nothing that another replica would need.
#[derive(Clone)]
pub struct App {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    queue: Queue,
    settings: AppSettings,
}

impl App {
    pub fn new(store: Store, queue: Queue, settings: AppSettings) -> Self {
        Self {
            inner: Arc::new(Inner {
                store,
                queue,
                settings,
            }),
        }
    }

    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    pub fn queue(&self) -> &Queue {
        &self.inner.queue
    }

    pub fn settings(&self) -> &AppSettings {
        &self.inner.settings
    }
}
