//! The inventory in memory: every container rendered once, when it changes, and never per request.
//! A value of this type never changes; a new one shares what did not change with the one before.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_domain::{
    assessment::{MaturityLevel, TimeState, UpdateKindName},
    container::{ContainerState, SemverDiff},
    view::{ViewContext, time_state, view},
};
use plimsoll_store::inventory::{InventoryDelta, StoredContainer};
use sha2::{Digest, Sha256};

/// One container, rendered.
#[derive(Debug)]
pub struct Entry {
    pub state: ContainerState,
    /// `domain::view` as JSON. `updateAge` in it is in whole minutes.
    pub json: Bytes,
    /// The beginning of the SHA-256 of `json`: the same on every replica for the same content.
    pub hash: [u8; 16],
    pub update_available: bool,
    pub kind: UpdateKindName,
    pub semver_diff: SemverDiff,
    pub maturity: Option<MaturityLevel>,
    /// What `sort=age` goes by: since when the update is out, or the container known.
    pub since: DateTime<Utc>,
    xid: i64,
    time: TimeState,
    sort_name: String,
}

impl Entry {
    fn new(xid: i64, state: ContainerState, context: &ViewContext, now: DateTime<Utc>) -> Self {
        let time = time_state(&state, context, now);
        let shown = view(&state, context, now);
        // The view holds strings, numbers and maps with text keys: nothing JSON cannot say.
        let json = serde_json::to_vec(&shown).unwrap_or_default();
        let digest = Sha256::digest(&json);
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        let published = state.current_result().and_then(|r| r.published_at);
        let since = match (shown.update_available, shown.update_detected_at) {
            (true, Some(detected)) => detected,
            _ => state
                .first_seen_at
                .min(published.unwrap_or(state.first_seen_at)),
        };
        Self {
            update_available: shown.update_available,
            kind: shown.update_kind.kind,
            semver_diff: shown.update_kind.semver_diff,
            maturity: shown.update_maturity_level,
            since,
            json: json.into(),
            hash,
            xid,
            time,
            sort_name: state.facts.name.to_lowercase(),
            state,
        }
    }

    pub fn id(&self) -> &str {
        self.state.facts.id.as_str()
    }

    /// The view as a value, for answers that carry one container among other things. Lists use
    /// `json`.
    pub fn to_value(&self) -> serde_json::Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }

    /// The order of `sort=name`, complete, so that every replica pages alike.
    pub fn by_name(&self, other: &Self) -> Ordering {
        let (one, two) = (&self.state.facts, &other.state.facts);
        self.sort_name
            .cmp(&other.sort_name)
            .then_with(|| one.name.cmp(&two.name))
            .then_with(|| one.watcher.cmp(&two.watcher))
            .then_with(|| one.id.cmp(&two.id))
    }
}

/// What the summary counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub total: usize,
    pub running: usize,
    pub updates_available: usize,
    pub hot: usize,
    pub mature: usize,
}

/// All containers at one moment, ordered by name.
#[derive(Debug, Default)]
pub struct Inventory {
    entries: Vec<Arc<Entry>>,
    by_id: HashMap<String, usize>,
    totals: Totals,
    everything: OnceLock<Rendered>,
}

/// An answer that many requests share.
#[derive(Clone, Debug)]
pub struct Rendered {
    pub body: Bytes,
    /// Stands for the content: the same on every replica.
    pub etag: String,
}

impl Inventory {
    pub fn new(containers: Vec<StoredContainer>, context: &ViewContext, at: DateTime<Utc>) -> Self {
        let entries = containers
            .into_iter()
            .map(|c| Arc::new(Entry::new(c.xid, c.state, context, at)))
            .collect();
        Self::of(entries)
    }

    fn of(mut entries: Vec<Arc<Entry>>) -> Self {
        entries.sort_by(|a, b| a.by_name(b));
        let by_id = entries
            .iter()
            .enumerate()
            .map(|(position, entry)| (entry.id().to_owned(), position))
            .collect();
        let mut totals = Totals {
            total: entries.len(),
            ..Totals::default()
        };
        for entry in &entries {
            totals.running += usize::from(entry.state.facts.is_running());
            totals.updates_available += usize::from(entry.update_available);
            totals.hot += usize::from(entry.maturity == Some(MaturityLevel::Hot));
            totals.mature += usize::from(entry.maturity == Some(MaturityLevel::Mature));
        }
        Self {
            entries,
            by_id,
            totals,
            everything: OnceLock::new(),
        }
    }

    /// This inventory, which was true at `before`, with `delta` applied and as it reads at `at`.
    /// `None` when nothing differs.
    pub fn updated(
        &self,
        delta: InventoryDelta,
        context: &ViewContext,
        before: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Option<Self> {
        if delta.changed.is_empty() && delta.gone.is_empty() && before == at {
            return None;
        }
        let mut fresh: HashMap<String, Arc<Entry>> = delta
            .changed
            .into_iter()
            .map(|c| {
                let entry = Entry::new(c.xid, c.state, context, at);
                (entry.id().to_owned(), Arc::new(entry))
            })
            .collect();
        let mut different = !fresh.is_empty();
        let mut entries = Vec::with_capacity(self.entries.len() + fresh.len());
        for old in &self.entries {
            if let Some(new) = fresh.remove(old.id()) {
                entries.push(new);
            } else if delta.gone.iter().any(|gone| *gone == old.state.facts.id) {
                different = true;
            } else if at != before && time_state(&old.state, context, at) != old.time {
                different = true;
                let state = old.state.clone();
                entries.push(Arc::new(Entry::new(old.xid, state, context, at)));
            } else {
                entries.push(old.clone());
            }
        }
        entries.extend(fresh.into_values());
        different.then(|| Self::of(entries))
    }

    /// Whether this holds the row of that very transaction.
    pub(crate) fn has(&self, id: &str, xid: i64) -> bool {
        self.get(id).is_some_and(|entry| entry.xid == xid)
    }

    /// Ordered by name.
    pub fn entries(&self) -> &[Arc<Entry>] {
        &self.entries
    }

    pub fn get(&self, id: &str) -> Option<&Arc<Entry>> {
        self.by_id.get(id).map(|position| &self.entries[*position])
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The answer that lists everything, made by `render` at the first call for this inventory.
    pub fn everything(&self, render: impl FnOnce() -> Rendered) -> &Rendered {
        self.everything.get_or_init(render)
    }
}
