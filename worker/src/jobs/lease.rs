//! Keeping leases (reliability.md R-2): one task renews all of the process's leases over a
//! connection that load cannot take away.
//!
//! A worker that could not renew for two thirds of the lease's life stops issuing calls, because
//! another may own the job before it would learn of it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use plimsoll_app::{
    Store,
    store::jobs::{LEASE_RENEWAL, LEASE_TTL, Lease},
};
use plimsoll_domain::ids::JobId;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long a lease may be trusted after its last renewal was asked for.
const TRUST: Duration = Duration::from_millis(LEASE_TTL.as_millis() as u64 * 2 / 3);
/// A renewal that takes longer is asked for again.
const PATIENCE: Duration = Duration::from_millis(1_500);
const TICK: Duration = Duration::from_millis(250);

/// The right to work on one job. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LeaseGuard {
    lease: Lease,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    /// When the last renewal that succeeded was asked for.
    renewed: Mutex<Instant>,
    lost: CancellationToken,
}

impl LeaseGuard {
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// Whether a call may still be issued.
    pub fn is_held(&self) -> bool {
        !self.state.lost.is_cancelled() && lock(&self.state.renewed).elapsed() < TRUST
    }

    /// Cancelled when the lease is lost, or cannot be trusted any more.
    pub(super) fn lost(&self) -> &CancellationToken {
        &self.state.lost
    }
}

/// All leases of one process.
#[derive(Clone)]
pub(super) struct Keeper {
    store: Store,
    owner: Uuid,
    held: Arc<Mutex<HashMap<JobId, LeaseGuard>>>,
}

impl Keeper {
    pub(super) fn new(store: Store, owner: Uuid) -> Self {
        Self {
            store,
            owner,
            held: Arc::default(),
        }
    }

    /// Begins to keep a lease that was asked for at `claimed`.
    pub(super) fn keep(&self, lease: Lease, claimed: Instant) -> LeaseGuard {
        let guard = LeaseGuard {
            lease,
            state: Arc::new(State {
                renewed: Mutex::new(claimed),
                lost: CancellationToken::new(),
            }),
        };
        lock(&self.held).insert(lease.job, guard.clone());
        guard
    }

    pub(super) fn forget(&self, lease: &Lease) {
        let mut held = lock(&self.held);
        // A newer lease of the same job may be kept already.
        if held.get(&lease.job).is_some_and(|g| g.lease == *lease) {
            held.remove(&lease.job);
        }
    }

    pub(super) fn leases(&self) -> Vec<Lease> {
        lock(&self.held).values().map(|guard| guard.lease).collect()
    }

    /// Renews until `stop`.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut next = Instant::now() + LEASE_RENEWAL;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = tick.tick() => {}
            }
            self.distrust();
            if Instant::now() >= next {
                next = match self.renew().await {
                    true => Instant::now() + LEASE_RENEWAL,
                    false => Instant::now() + TICK,
                };
            }
        }
    }

    async fn renew(&self) -> bool {
        let leases = self.leases();
        if leases.is_empty() {
            return true;
        }
        let asked = Instant::now();
        let renewal = self.store.renew_leases(self.owner, &leases);
        let still = match tokio::time::timeout(PATIENCE, renewal).await {
            Ok(Ok(still)) => still,
            Ok(Err(error)) => {
                tracing::warn!(%error, "leases could not be renewed");
                return false;
            }
            Err(_) => {
                tracing::warn!("leases could not be renewed in time");
                return false;
            }
        };
        let held = lock(&self.held);
        for lease in leases {
            let Some(guard) = held.get(&lease.job).filter(|g| g.lease == lease) else {
                continue;
            };
            if still.contains(&lease.job) {
                *lock(&guard.state.renewed) = asked;
            } else {
                guard.state.lost.cancel();
            }
        }
        true
    }

    fn distrust(&self) {
        for guard in lock(&self.held).values() {
            if lock(&guard.state.renewed).elapsed() >= TRUST {
                guard.state.lost.cancel();
            }
        }
    }
}

/// Nothing panics while it holds one of these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
