//! Postgres and Redis: ours as children, or the operator's.

use std::time::{Duration, Instant};

use anyhow::bail;
use plimsoll_queue::Queue;
use plimsoll_runtime::Settings;
use plimsoll_store::{Store, StoreSettings};
use secrecy::SecretString;

use crate::directory::DataDir;
use crate::postgres::Postgres;
use crate::redis::Redis;

/// The servers that this process looks after. Dropping it stops them, and then frees the data
/// directory: fields are dropped in this order.
pub struct Services {
    postgres: Option<Postgres>,
    redis: Option<Redis>,
    data: Option<DataDir>,
}

/// Longest start, after a crash with much to recover.
const START: Duration = Duration::from_secs(120);

impl Services {
    /// Takes the data directory if anything is to be kept there.
    ///
    /// # Errors
    /// When another process has it.
    pub fn claim(settings: &Settings) -> anyhow::Result<Self> {
        let needed = settings.database.url.is_none() || settings.redis.url.is_none();
        Ok(Self {
            postgres: None,
            redis: None,
            data: needed
                .then(|| DataDir::open(&settings.data_dir))
                .transpose()?,
        })
    }

    /// Starts the servers that are not configured elsewhere, side by side. Blocks while the
    /// database is made on the first start; does not wait until they answer.
    ///
    /// # Errors
    /// When one cannot be run, saying what to do.
    pub fn start(&mut self, settings: &Settings) -> anyhow::Result<()> {
        let Some(data) = &self.data else {
            return Ok(());
        };
        if settings.redis.url.is_none() {
            self.redis = Some(Redis::start(data)?);
        }
        if settings.database.url.is_none() {
            self.postgres = Some(Postgres::start(data)?);
        }
        Ok(())
    }

    /// Handles on the servers, which both answer.
    ///
    /// # Errors
    /// When an address is malformed, or one of our own servers does not come up.
    pub async fn connect(&self, settings: &Settings) -> anyhow::Result<(Store, Queue)> {
        let store = Store::new(&StoreSettings {
            url: self.database_url(settings)?,
            connections: settings.database.max_connections.into(),
        })?;
        let queue = Queue::new(&self.redis_url(settings)?)?;
        tokio::try_join!(
            answers("Postgres", || store.ping()),
            // A Redis elsewhere may be away: it costs latency, nothing else.
            async {
                match self.redis {
                    Some(_) => answers("Redis", || queue.ping()).await,
                    None => Ok(()),
                }
            },
        )?;
        Ok((store, queue))
    }

    fn database_url(&self, settings: &Settings) -> anyhow::Result<SecretString> {
        match (&settings.database.url, &self.postgres) {
            (Some(url), _) => Ok(url.0.clone()),
            (None, Some(postgres)) => Ok(postgres.url().clone()),
            (None, None) => bail!("the services have not been started"),
        }
    }

    fn redis_url(&self, settings: &Settings) -> anyhow::Result<SecretString> {
        match (&settings.redis.url, &self.redis) {
            (Some(url), _) => Ok(url.0.clone()),
            (None, Some(redis)) => Ok(redis.url().clone()),
            (None, None) => bail!("the services have not been started"),
        }
    }
}

/// Waits for a first answer. Its milliseconds are most of a warm start, so it asks often.
async fn answers<E: std::fmt::Display>(
    name: &str,
    ping: impl AsyncFn() -> Result<(), E>,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut told = Duration::from_secs(3);
    loop {
        let error = match ping().await {
            Ok(()) => {
                tracing::debug!("{name} answered after {:?}", begin.elapsed());
                return Ok(());
            }
            Err(error) => error,
        };
        if begin.elapsed() > START {
            bail!("{name} does not answer: {error}");
        }
        if begin.elapsed() > told {
            told *= 2;
            tracing::warn!("waiting for {name}: {error}");
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
}
