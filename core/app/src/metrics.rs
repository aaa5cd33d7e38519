//! What `GET /metrics` shows of the whole installation: the same on every replica.

use std::{collections::BTreeMap, sync::Arc};

use plimsoll_domain::job::JobSpec;
use plimsoll_queue::{DEADLINE, budget::Budget};
use plimsoll_store::{jobs::Backlog, totals::AUDIT};

use crate::{App, AppError, Snapshot, totals::Total, turns::Turns};

/// Totals by what they count, and the inventory, counted.
#[derive(Debug)]
pub struct FleetMetrics {
    totals: BTreeMap<String, BTreeMap<Vec<String>, f64>>,
    containers: Vec<(ContainerKind, usize)>,
    backlog: Vec<Backlog>,
    /// Empty while Redis is away.
    budgets: Vec<Budget>,
}

/// One read for all who scrape at the same time.
pub(crate) type Scrapes = Turns<(), Result<Arc<FleetMetrics>, AppError>>;

/// Containers that have these in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerKind {
    pub agent: String,
    pub watcher: String,
    pub status: String,
    pub update_available: bool,
}

/// An entry of the audit trail, as far as entries are counted.
#[derive(Clone, Copy, Debug)]
pub struct AuditTotal<'a> {
    pub action: &'a str,
    pub status: &'a str,
    /// `type.name`, or empty.
    pub trigger: &'a str,
    pub value: f64,
}

impl FleetMetrics {
    /// Labels and value of each counter of a kind.
    pub fn totals(&self, total: Total) -> impl Iterator<Item = (&[String], f64)> {
        self.named(total.as_str())
    }

    /// How often each kind of entry was written to the audit trail, ever.
    pub fn audit(&self) -> impl Iterator<Item = AuditTotal<'_>> {
        self.named(AUDIT).filter_map(|(labels, value)| {
            let [action, status, trigger] = labels else {
                return None;
            };
            Some(AuditTotal {
                action,
                status,
                trigger,
                value,
            })
        })
    }

    /// How many containers there are of each kind: a few kinds, whatever the number of containers.
    pub fn containers(&self) -> &[(ContainerKind, usize)] {
        &self.containers
    }

    /// Jobs that are not over, for each kind that there is.
    pub fn backlog(&self) -> impl Iterator<Item = Backlog> {
        JobSpec::KINDS.into_iter().map(|kind| {
            let known = self.backlog.iter().find(|backlog| backlog.kind == kind);
            known.cloned().unwrap_or_else(|| Backlog {
                kind: kind.to_owned(),
                waiting: 0,
                running: 0,
                oldest: 0.0,
            })
        })
    }

    /// What may still be asked of registries.
    pub fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    fn named(&self, name: &str) -> impl Iterator<Item = (&[String], f64)> {
        let counters = self.totals.get(name).into_iter().flatten();
        counters.map(|(labels, value)| (labels.as_slice(), *value))
    }
}

impl App {
    /// Three round trips to the database at the same time, and one to Redis, shared by everybody who
    /// asks at that moment; nothing is read per container.
    pub async fn fleet_metrics(&self) -> Result<Arc<FleetMetrics>, AppError> {
        let read = async { self.read_fleet_metrics().await.map(Arc::new) };
        self.inner.scrapes.take(&(), read).await
    }

    async fn read_fleet_metrics(&self) -> Result<FleetMetrics, AppError> {
        let (snapshot, stored, backlog, budgets) = tokio::join!(
            self.snapshot(),
            self.store().totals(),
            self.store().backlog(),
            tokio::time::timeout(DEADLINE, self.queue().registry_budgets()),
        );
        let mut totals: BTreeMap<String, BTreeMap<Vec<String>, f64>> = BTreeMap::new();
        for total in stored? {
            totals
                .entry(total.name)
                .or_default()
                .insert(total.labels, total.value);
        }
        Ok(FleetMetrics {
            totals,
            containers: counted(&*snapshot?),
            backlog: backlog?,
            budgets: budgets.ok().and_then(Result::ok).unwrap_or_default(),
        })
    }
}

fn counted(snapshot: &Snapshot) -> Vec<(ContainerKind, usize)> {
    let mut counted: BTreeMap<_, usize> = BTreeMap::new();
    for entry in snapshot.inventory.entries() {
        let facts = &entry.state.facts;
        let watcher = &facts.watcher;
        let kind = (
            &watcher.agent,
            &watcher.name,
            &facts.status,
            entry.update_available,
        );
        *counted.entry(kind).or_default() += 1;
    }
    let owned = counted
        .into_iter()
        .map(|((agent, watcher, status, update_available), number)| {
            let kind = ContainerKind {
                agent: agent.clone(),
                watcher: watcher.clone(),
                status: status.clone(),
                update_available,
            };
            (kind, number)
        });
    owned.collect()
}
