//! What processes count of what they do, for `GET /metrics` of whichever replica is asked.
//!
//! Counted in memory, where it costs nothing, and added to the totals in the database every few
//! seconds and at the end. A process that is killed takes its last few seconds along; a counter
//! never goes back.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use plimsoll_store::{StoreError, totals};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::App;

/// Between additions to the database: one statement, and none when nothing was counted.
const FLUSH: Duration = Duration::from_secs(5);
/// Between folds of the audit trail, see `plimsoll_store::totals`.
const FOLD: Duration = Duration::from_secs(60);
/// Distinct counters that are kept while the database is away.
const MAX_PENDING: usize = 10_000;

/// Something that is counted. The text is its name in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Total {
    /// Requests to registries: type, name.
    RegistryResponses,
    /// Seconds that they took together: type, name.
    RegistryResponseSeconds,
    /// Digests that were known and needed no request.
    DigestCacheHits,
    DigestCacheMisses,
    /// Runs of triggers that tell people: type, name, status.
    TriggerRuns,
    /// Updates that were turned round: type, name, outcome, reason.
    TriggerRollbacks,
    /// Watches that were due outside the maintenance window: type, name.
    MaintenanceSkips,
    /// Old names that were used: source, key.
    LegacyInputs,
    /// Attempts to tell an endpoint of an event: outcome.
    WebhookDeliveries,
    /// Jobs whose lease ran out on a worker, and that another one took: kind.
    Takeovers,
    /// Operations that ended: kind, outcome.
    OperationsEnded,
    /// How often operations were in a phase: kind, phase.
    OperationPhases,
    /// Seconds that they were in it together: kind, phase.
    OperationPhaseSeconds,
}

impl Total {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RegistryResponses => "registry-responses",
            Self::RegistryResponseSeconds => "registry-response-seconds",
            Self::DigestCacheHits => "digest-cache-hits",
            Self::DigestCacheMisses => "digest-cache-misses",
            Self::TriggerRuns => "trigger-runs",
            Self::TriggerRollbacks => "trigger-rollbacks",
            Self::MaintenanceSkips => "maintenance-skips",
            Self::LegacyInputs => "legacy-inputs",
            Self::WebhookDeliveries => "webhook-deliveries",
            Self::Takeovers => "takeovers",
            Self::OperationsEnded => "operations-ended",
            Self::OperationPhases => "operation-phases",
            Self::OperationPhaseSeconds => "operation-phase-seconds",
        }
    }
}

/// Where an old name was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacySource {
    Env,
    Label,
    Api,
}

impl LegacySource {
    pub const ALL: [Self; 3] = [Self::Env, Self::Label, Self::Api];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Env => "env",
            Self::Label => "label",
            Self::Api => "api",
        }
    }
}

type Key = (Total, Vec<String>);

/// What this process counted and did not hand on yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pending: Arc<Mutex<HashMap<Key, f64>>>,
}

impl Tally {
    pub fn add(&self, total: Total, labels: &[&str], value: f64) {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        self.put([((total, labels), value)]);
    }

    pub fn legacy(&self, source: LegacySource, key: &str) {
        self.add(Total::LegacyInputs, &[source.as_str(), key], 1.0);
    }

    /// Settings that this process was given by older names.
    pub fn legacy_settings(&self, names: &[String]) {
        for name in names {
            self.legacy(LegacySource::Env, name);
        }
    }

    fn put(&self, added: impl IntoIterator<Item = (Key, f64)>) {
        let mut pending = self.lock();
        for (key, value) in added {
            if pending.len() < MAX_PENDING || pending.contains_key(&key) {
                *pending.entry(key).or_default() += value;
            }
        }
    }

    fn take(&self) -> HashMap<Key, f64> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, f64>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl App {
    /// How often old names were used, ever, by source and name.
    pub async fn legacy_inputs(&self) -> Result<Vec<(String, String, f64)>, StoreError> {
        let found = self.store().totals_of(Total::LegacyInputs.as_str()).await?;
        let named = |(labels, value): (Vec<String>, f64)| match <[String; 2]>::try_from(labels) {
            Ok([source, key]) => Some((source, key, value)),
            Err(_) => None,
        };
        Ok(found.into_iter().filter_map(named).collect())
    }

    /// Counts something that happened in this process.
    pub fn tally(&self) -> &Tally {
        &self.inner.tally
    }

    /// Hands what was counted on to the database.
    ///
    /// # Errors
    /// The database does not answer; nothing is lost.
    pub async fn flush_tally(&self) -> Result<(), StoreError> {
        let taken = self.tally().take();
        let added: Vec<totals::Total> = taken
            .iter()
            .map(|((total, labels), value)| totals::Total {
                name: total.as_str().to_owned(),
                labels: labels.clone(),
                value: *value,
            })
            .collect();
        let written = self.store().add_totals(&added).await;
        if written.is_err() {
            self.tally().put(taken);
        }
        written
    }

    /// Hands on what is counted, until `shutdown` and once more then. Every process does it.
    pub async fn keep_tally(self, shutdown: CancellationToken) {
        let mut tick = interval(FLUSH);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let ends = tokio::select! {
                () = shutdown.cancelled() => true,
                _ = tick.tick() => false,
            };
            if let Err(error) = self.flush_tally().await {
                tracing::debug!(%error, "counters are written later");
            }
            if ends {
                return;
            }
        }
    }

    /// Keeps what has to be counted at `GET /metrics` short. Any number of workers may do it.
    pub async fn keep_folding(self, shutdown: CancellationToken) {
        let mut tick = interval(FOLD);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = tick.tick() => {}
            }
            if let Err(error) = self.store().fold_audit_totals().await {
                tracing::debug!(%error, "the audit trail is counted later");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_adds_up_and_is_taken_once() {
        let tally = Tally::default();
        for _ in 0..3 {
            tally.add(Total::RegistryResponses, &["hub", "public"], 1.0);
        }
        tally.legacy(LegacySource::Label, "wud.group");
        let taken = tally.take();
        let key = |labels: &[&str]| labels.iter().map(|l| (*l).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            taken[&(Total::RegistryResponses, key(&["hub", "public"]))],
            3.0
        );
        assert_eq!(
            taken[&(Total::LegacyInputs, key(&["label", "wud.group"]))],
            1.0
        );
        assert!(tally.take().is_empty());
        tally.put(taken);
        assert_eq!(tally.take().len(), 2, "what could not be written stays");
    }
}
