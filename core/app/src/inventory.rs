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
    ids::{ContainerId, WatcherRef},
    stack::{Described, Survey},
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
    /// Whether critical or high vulnerabilities are known.
    pub issues: bool,
    /// What was scanned, of the scans that `json` shows, in its order.
    pub scanned: Vec<String>,
    /// What `sort=age` goes by: since when the update is out, or the container known.
    pub since: DateTime<Utc>,
    xid: i64,
    time: TimeState,
    sort_name: String,
}

impl Entry {
    fn new(
        StoredContainer { xid, state }: StoredContainer,
        context: &ViewContext,
        now: DateTime<Utc>,
    ) -> Self {
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
            issues: shown.security.has_issues(),
            scanned: [shown.security.scan, shown.security.update_scan]
                .into_iter()
                .flatten()
                .map(|scan| scan.subject().key().to_owned())
                .collect(),
            since,
            // A copy has no spare room behind it.
            json: Bytes::copy_from_slice(&json),
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
    /// With critical or high vulnerabilities.
    pub issues: usize,
}

impl Totals {
    fn of(entries: &[Arc<Entry>]) -> Self {
        let sum = |totals: Self, entry: &Arc<Entry>| totals.plus(Self::of_one(entry));
        entries.iter().fold(Self::default(), sum)
    }

    fn of_one(entry: &Entry) -> Self {
        Self {
            total: 1,
            running: usize::from(entry.state.facts.is_running()),
            updates_available: usize::from(entry.update_available),
            hot: usize::from(entry.maturity == Some(MaturityLevel::Hot)),
            mature: usize::from(entry.maturity == Some(MaturityLevel::Mature)),
            issues: usize::from(entry.issues),
        }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            running: self.running + other.running,
            updates_available: self.updates_available + other.updates_available,
            hot: self.hot + other.hot,
            mature: self.mature + other.mature,
            issues: self.issues + other.issues,
        }
    }

    /// `part` must be part of it.
    fn minus(self, part: Self) -> Self {
        Self {
            total: self.total - part.total,
            running: self.running - part.running,
            updates_available: self.updates_available - part.updates_available,
            hot: self.hot - part.hot,
            mature: self.mature - part.mature,
            issues: self.issues - part.issues,
        }
    }

    /// With `new` in the place of `old`: nothing else is looked at.
    fn replaced(self, old: &Entry, new: &Entry) -> Self {
        self.minus(Self::of_one(old)).plus(Self::of_one(new))
    }
}

/// All containers at one moment, ordered by name.
#[derive(Debug, Default)]
pub struct Inventory {
    entries: Vec<Arc<Entry>>,
    by_id: Arc<HashMap<String, usize>>,
    totals: Totals,
    everything: OnceLock<Rendered>,
    by_repository: OnceLock<HashMap<String, Vec<usize>>>,
    /// Stacks that directories on the hosts describe.
    described: Arc<[(WatcherRef, Described)]>,
    survey: OnceLock<Survey>,
}

/// An answer that many requests share.
#[derive(Clone, Debug)]
pub struct Rendered {
    pub body: Bytes,
    /// Stands for the content: the same on every replica.
    pub etag: String,
}

impl Inventory {
    pub(crate) fn new(mut entries: Vec<Arc<Entry>>) -> Self {
        entries.sort_by(|a, b| a.by_name(b));
        let by_id = entries
            .iter()
            .enumerate()
            .map(|(position, entry)| (entry.id().to_owned(), position))
            .collect();
        Self {
            totals: Totals::of(&entries),
            by_id: Arc::new(by_id),
            entries,
            everything: OnceLock::new(),
            by_repository: OnceLock::new(),
            described: Arc::default(),
            survey: OnceLock::new(),
        }
    }

    /// This inventory, with other stacks described beside it.
    pub(crate) fn beside(&self, described: Arc<[(WatcherRef, Described)]>) -> Self {
        Self {
            entries: self.entries.clone(),
            by_id: self.by_id.clone(),
            totals: self.totals,
            everything: self.everything.clone(),
            by_repository: OnceLock::new(),
            described,
            survey: OnceLock::new(),
        }
    }

    /// What clients see of `container`. What is known already is shared: a watch of a fleet does
    /// not double what a replica holds.
    pub(crate) fn render(
        &self,
        mut container: StoredContainer,
        context: &ViewContext,
        at: DateTime<Utc>,
    ) -> Arc<Entry> {
        let facts = &mut container.state.facts;
        if let Some(known) = self.get(facts.id.as_str())
            && known.state.facts == *facts
        {
            *facts = known.state.facts.clone();
        }
        Arc::new(Entry::new(container, context, at))
    }

    /// This inventory, which was true at `before`, with `delta` applied and as it reads at `at`.
    /// `None` when nothing differs.
    pub fn updated(
        &self,
        delta: InventoryDelta<Arc<Entry>>,
        context: &ViewContext,
        before: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Option<Self> {
        if delta.changed.is_empty() && delta.gone.is_empty() && before == at {
            return None;
        }
        let mut entries = self.entries.clone();
        let mut totals = self.totals;
        let mut different = false;
        // Rows of containers that are gone are read again while an older transaction is open.
        let known = |gone: &ContainerId| self.by_id.contains_key(gone.as_str());
        let mut reordered = delta.gone.iter().any(known);
        let mut added = Vec::new();
        for entry in delta.changed {
            different = true;
            match self.by_id.get(entry.id()) {
                Some(position) => {
                    reordered |= self.entries[*position].by_name(&entry) != Ordering::Equal;
                    totals = totals.replaced(&entries[*position], &entry);
                    entries[*position] = entry;
                }
                None => added.push(entry),
            }
        }
        if before != at {
            for entry in &mut entries {
                if time_state(&entry.state, context, at) != entry.time {
                    different = true;
                    let stored = StoredContainer {
                        xid: entry.xid,
                        state: entry.state.clone(),
                    };
                    let new = Arc::new(Entry::new(stored, context, at));
                    totals = totals.replaced(entry, &new);
                    *entry = new;
                }
            }
        }
        if reordered || !added.is_empty() {
            entries.retain(|entry| !delta.gone.contains(&entry.state.facts.id));
            entries.append(&mut added);
            return Some(Self {
                described: self.described.clone(),
                ..Self::new(entries)
            });
        }
        // The common case under load: what is there changes, and nothing moves.
        different.then(|| Self {
            totals,
            by_id: self.by_id.clone(),
            entries,
            everything: OnceLock::new(),
            by_repository: OnceLock::new(),
            described: self.described.clone(),
            survey: OnceLock::new(),
        })
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

    /// Where the container is in [`Inventory::entries`].
    pub fn position(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// What looks its versions up in this repository (`ImageRef::registry_key`), by name. The index
    /// is made by the first call for this inventory: a storm of webhooks asks often.
    pub fn of_repository(&self, key: &str) -> impl Iterator<Item = &Arc<Entry>> {
        let index = self.by_repository.get_or_init(|| {
            let mut index: HashMap<String, Vec<usize>> = HashMap::new();
            for (position, entry) in self.entries.iter().enumerate() {
                if let Some(image) = entry.state.facts.checked_repository() {
                    index
                        .entry(image.registry_key())
                        .or_default()
                        .push(position);
                }
            }
            index
        });
        let positions = index.get(key).into_iter().flatten();
        positions.map(|position| &self.entries[*position])
    }

    /// Which stacks there are, made by the first call for this inventory. Positions in it are those
    /// in [`Inventory::entries`].
    pub fn survey(&self) -> &Survey {
        self.survey.get_or_init(|| {
            let facts = self.entries.iter().map(|entry| &*entry.state.facts);
            Survey::of(&facts.collect::<Vec<_>>(), &self.described)
        })
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The answer that lists everything, made by `render` at the first call for this inventory.
    pub fn everything(&self, render: impl FnOnce() -> Rendered) -> &Rendered {
        self.everything.get_or_init(render)
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use plimsoll_store::inventory::Mark;
    use serde_json::json;

    use super::*;

    fn start() -> DateTime<Utc> {
        "2026-01-01T00:00:00Z".parse().unwrap()
    }

    fn stored(number: usize, name: &str, status: &str, xid: i64) -> StoredContainer {
        let state = serde_json::from_value(json!({
            "facts": {
                "id": format!("{number:064x}"),
                "name": name,
                "watcher": {"agent": "", "name": "local"},
                "status": status,
                "image": {
                    "id": "sha256:1",
                    "registry": {"name": "hub", "url": "https://x/v2"},
                    "name": "app",
                    "tag": {"value": "1.0.0", "semver": true, "tagPrecision": "specific"},
                    "digest": {"watch": false},
                    "architecture": "amd64",
                    "os": "linux",
                },
            },
            "identityKey": format!("::local::{name}"),
            "firstSeenAt": "2025-12-01T00:00:00.000Z",
        }));
        StoredContainer {
            xid,
            state: state.unwrap(),
        }
    }

    fn rendered(container: StoredContainer) -> Arc<Entry> {
        Inventory::default().render(container, &ViewContext::default(), start())
    }

    fn delta(changed: Vec<StoredContainer>, gone: Vec<ContainerId>) -> InventoryDelta<Arc<Entry>> {
        InventoryDelta {
            mark: Mark {
                xmin: 0,
                access_version: 0,
                stacks_version: 0,
                read_at: start(),
            },
            changed: changed.into_iter().map(rendered).collect(),
            gone,
        }
    }

    /// What a client can see of it.
    fn shown(inventory: &Inventory) -> (Vec<(String, Bytes)>, Totals) {
        let entries = inventory.entries().iter().map(|entry| {
            let found = inventory.get(entry.id()).expect("the index knows it");
            assert!(Arc::ptr_eq(found, entry));
            (entry.id().to_owned(), entry.json.clone())
        });
        (entries.collect(), inventory.totals())
    }

    #[test]
    fn an_inventory_that_was_updated_equals_one_that_was_read_whole() {
        let context = ViewContext::default();
        let mut truth: HashMap<usize, StoredContainer> = HashMap::new();
        let mut inventory = Inventory::default();
        let mut dice = 7u64;
        let mut roll = |sides: u64| {
            dice = dice
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (dice >> 33) % sides
        };
        for xid in 0..300 {
            let (mut changed, mut gone) = (Vec::new(), Vec::new());
            for _ in 0..roll(4) {
                let number = roll(20) as usize;
                let status = ["running", "exited"][roll(2) as usize];
                let name = format!("name-{}", roll(6));
                let container = stored(number, &name, status, xid);
                let id = container.state.facts.id.clone();
                changed.retain(|c: &StoredContainer| c.state.facts.id != id);
                gone.retain(|g| *g != id);
                if roll(4) == 0 {
                    truth.remove(&number);
                    gone.push(id);
                } else {
                    truth.insert(number, container.clone());
                    changed.push(container);
                }
            }
            let delta = delta(changed, gone);
            if let Some(updated) = inventory.updated(delta, &context, start(), start()) {
                inventory = updated;
            }
            let whole = Inventory::new(truth.values().cloned().map(rendered).collect());
            assert_eq!(shown(&inventory), shown(&whole), "after step {xid}");
        }
        assert!(!truth.is_empty());
    }

    #[test]
    fn what_did_not_change_is_held_once() {
        let context = ViewContext::default();
        let first = Inventory::new(vec![rendered(stored(1, "app", "running", 1))]);
        let facts = |entry: &Arc<Entry>| entry.state.facts.clone();
        let known = facts(&first.entries()[0]);
        let same = first.render(stored(1, "app", "running", 2), &context, start());
        assert!(Arc::ptr_eq(&known, &facts(&same)));
        let other = first.render(stored(1, "app", "exited", 3), &context, start());
        assert_eq!(facts(&other).status, "exited");
    }

    #[test]
    fn time_alone_changes_what_depends_on_it_and_nothing_else() {
        let context = ViewContext::default();
        let mut waiting = stored(1, "waiting", "running", 1);
        waiting.state.result = serde_json::from_value(json!({"tag": "1.1.0"})).unwrap();
        waiting.state.update_detected_at = Some(start());
        waiting.state.policy =
            serde_json::from_value(json!({"maturityMode": "mature", "maturityMinAgeDays": 2}))
                .unwrap();
        let quiet = stored(2, "quiet", "running", 1);
        let first = Inventory::new(vec![rendered(waiting), rendered(quiet)]);
        assert_eq!(first.totals().updates_available, 0);

        let nothing = || delta(Vec::new(), Vec::new());
        let soon = start() + TimeDelta::seconds(1);
        assert!(first.updated(nothing(), &context, start(), soon).is_none());
        let later = start() + TimeDelta::days(2);
        let second = first.updated(nothing(), &context, start(), later).unwrap();
        assert_eq!(second.totals().updates_available, 1);
        assert_eq!(second.totals().mature, 1);
        let same = |name: usize| {
            let id = format!("{name:064x}");
            Arc::ptr_eq(first.get(&id).unwrap(), second.get(&id).unwrap())
        };
        assert!(same(2) && !same(1));
    }
}
