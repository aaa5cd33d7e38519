//! Redis, which wakes workers, fans events out and shares limits. The only crate that names
//! `redis`.
//!
//! Nothing here is the truth: Redis may be flushed, restarted or away at any moment, and every
//! function's callers know what to do then (reliability.md B1-B8). No request waits on Redis longer
//! than [`DEADLINE`].

pub mod budget;
mod deliveries;
mod events;
mod jobs;
mod leases;
pub mod limits;
pub mod registry_cache;
pub mod rpc;
mod streams;

use std::{sync::Arc, time::Duration};

pub use jobs::JobReader;
use redis::{
    Client,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use secrecy::{ExposeSecret, SecretString};

/// How long a request path waits for one Redis command before it goes on without.
pub const DEADLINE: Duration = Duration::from_millis(250);

#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The address cannot be used at all.
    #[error("REDIS_URL cannot be used: {0}")]
    Address(String),
    /// Redis is away, slow, loading or read-only. The caller goes on without it.
    #[error("redis is not available: {0}")]
    Unavailable(String),
}

impl From<redis::RedisError> for QueueError {
    fn from(error: redis::RedisError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// A handle on Redis. Cheap to clone; connects lazily and reconnects by itself.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    manager: ConnectionManager,
    replica: Arc<rpc::Hub>,
}

impl Queue {
    /// `redis://`, `rediss://` or `redis+unix://`. Makes no round trip. Must be called inside the
    /// tokio runtime.
    pub fn new(url: &SecretString) -> Result<Self, QueueError> {
        let address = |e: redis::RedisError| QueueError::Address(e.to_string());
        let client = Client::open(url.expose_secret()).map_err(address)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(DEADLINE))
            .set_response_timeout(Some(DEADLINE))
            .set_number_of_retries(1);
        let manager =
            ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(address)?;
        Ok(Self {
            inner: Arc::new(Inner {
                client,
                manager,
                replica: rpc::Hub::new(),
            }),
        })
    }

    /// The shared, multiplexed connection: for commands that answer at once.
    pub(crate) fn manager(&self) -> ConnectionManager {
        self.inner.manager.clone()
    }

    /// For connections of one's own: blocking reads and subscriptions.
    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    /// The streams that this process reads.
    pub(crate) fn replica(&self) -> Arc<rpc::Hub> {
        self.inner.replica.clone()
    }

    /// Asks Redis for a round trip.
    pub async fn ping(&self) -> Result<(), QueueError> {
        let mut connection = self.manager();
        let _: String = redis::cmd("PING").query_async(&mut connection).await?;
        Ok(())
    }
}
