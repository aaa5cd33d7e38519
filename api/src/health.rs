//! Whether this replica can serve: whether Postgres answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use plimsoll_app::App;
use tokio::sync::Mutex;

/// An observation is used for this long; the next request after it makes a new one.
const FRESH: Duration = Duration::from_secs(1);
/// A dependency that takes longer is away.
const DEADLINE: Duration = Duration::from_millis(800);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    Healthy,
    /// Everything works, some of it slower: Redis is away.
    Degraded,
    /// Postgres is away.
    Unavailable,
    /// Nobody can sign in yet: the accounts were not read, or the schema is not there.
    Starting,
}

/// Observes on request, at most once a second, whatever the number of requests: an idle replica
/// costs the database nothing.
pub struct HealthProbe {
    app: App,
    born: Instant,
    /// Milliseconds since `born` in the upper bits, the state in the lowest three; 0: never.
    last: AtomicU64,
    probing: Arc<Mutex<()>>,
}

impl HealthProbe {
    pub fn new(app: App) -> Self {
        Self {
            app,
            born: Instant::now(),
            last: AtomicU64::new(0),
            probing: Arc::default(),
        }
    }

    /// What was observed at most a second ago.
    pub async fn observe(&self) -> Health {
        if let Some(health) = self.recent() {
            return health;
        }
        let _turn = self.probing.lock().await;
        // Another request may have looked while this one waited for its turn.
        if let Some(health) = self.recent() {
            return health;
        }
        let (postgres, redis) = tokio::join!(
            tokio::time::timeout(DEADLINE, self.app.store().ping()),
            tokio::time::timeout(DEADLINE, self.app.queue().ping()),
        );
        let health = match (postgres, redis) {
            (Ok(Ok(())), _) if self.app.prepare_accounts().await.is_err() => Health::Starting,
            (Ok(Ok(())), Ok(Ok(()))) => Health::Healthy,
            (Ok(Ok(())), _) => Health::Degraded,
            _ => Health::Unavailable,
        };
        self.remember(health);
        health
    }

    fn recent(&self) -> Option<Health> {
        let last = self.last.load(Ordering::Relaxed);
        let age = self.now().saturating_sub(last >> 3);
        if last == 0 || age > FRESH.as_millis() as u64 {
            return None;
        }
        Some(match last & 7 {
            1 => Health::Healthy,
            2 => Health::Degraded,
            3 => Health::Unavailable,
            _ => Health::Starting,
        })
    }

    fn remember(&self, health: Health) {
        let state = match health {
            Health::Healthy => 1,
            Health::Degraded => 2,
            Health::Unavailable => 3,
            Health::Starting => 4,
        };
        self.last.store(self.now() << 3 | state, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }
}
