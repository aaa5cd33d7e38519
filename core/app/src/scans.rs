//! Asking for scans, keeping what they find, and showing it (contract/drydock-container-api.md,
//! "Run an on-demand security scan", "Get security vulnerability overview").

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_domain::{
    access::Scope,
    assessment::assess,
    container::ContainerState,
    ids::{ContainerId, JobId, WatcherRef},
    image::ImageRef,
    job::JobSpec,
    security::{ScanReport, SecurityView, Subject, Vulnerability},
    target::candidate_image,
};
use plimsoll_store::{
    StoreError, Transaction,
    audit::{self, AuditStatus, NewAudit},
    begin, commit, containers, events,
    image_reports::{self, ONE_SCAN, Written},
    jobs::{self, NewJob},
    retrying,
};
use serde_json::json;
use uuid::Uuid;

use crate::{
    App, AppError, freshness::Snapshot, inventory::Entry, observations::rendered, requests::Caller,
    watches::WatchAnswer,
};

const NOT_CONFIGURED: &str = "Security scanner is not configured";
const BUSY: &str = "Too many concurrent security scans in progress";

/// What is to be scanned of a container.
#[derive(Clone, Debug)]
pub enum ScanTarget {
    /// The image that an update goes to, by its tag where its digest is not known yet.
    Candidate(ImageRef, Option<String>),
    /// What runs.
    Running(Subject),
}

/// The candidate where there is one, as the contract says, else what runs.
pub fn scan_target(state: &ContainerState, now: DateTime<Utc>) -> ScanTarget {
    if assess(state, &Default::default(), now).raw
        && let Some(image) = candidate_image(state)
    {
        let digest = state
            .current_result()
            .and_then(|found| found.digest.clone());
        return ScanTarget::Candidate(image, digest);
    }
    ScanTarget::Running(Subject::running(&state.facts))
}

/// What scanning everything will do.
#[derive(Clone, Debug)]
pub struct ScanCycle {
    pub id: Uuid,
    /// Containers that will be scanned.
    pub scheduled: usize,
}

impl App {
    /// Scans the container's update, or what it runs, and waits up to `patience`.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` without a scanner, `TooManyRequests` while its engine has a scan under
    /// way.
    pub async fn scan_container(
        &self,
        container: &str,
        patience: Duration,
        caller: &Caller<'_>,
    ) -> Result<WatchAnswer, AppError> {
        caller.authorise(Scope::ContainersWatch)?;
        let entry = self.get_container(container).await?;
        self.needs_scanner()?;
        let facts = &entry.state.facts;
        let containers = vec![facts.id.clone()];
        let job = self.ask_for_scan(&facts.watcher, containers).await?;
        let job = job.ok_or_else(|| AppError::TooManyRequests {
            message: BUSY.to_owned(),
            retry_after: Duration::from_secs(5),
        })?;
        self.wait_for_jobs(&[job], patience).await
    }

    /// Scans every container, one after the other on each engine. Engines that have a scan under
    /// way are left out.
    ///
    /// # Errors
    /// `Invalid` without a scanner.
    pub async fn scan_all(&self, caller: &Caller<'_>) -> Result<ScanCycle, AppError> {
        caller.authorise(Scope::ContainersWatch)?;
        self.needs_scanner()?;
        let snapshot = self.snapshot().await?;
        let mut targets: BTreeMap<WatcherRef, Vec<ContainerId>> = BTreeMap::new();
        for entry in snapshot.inventory.entries() {
            let facts = &entry.state.facts;
            let of_engine = targets.entry(facts.watcher.clone()).or_default();
            of_engine.push(facts.id.clone());
        }
        let mut scheduled = 0;
        for (watcher, containers) in targets {
            let number = containers.len();
            if self.ask_for_scan(&watcher, containers).await?.is_some() {
                scheduled += number;
            }
        }
        Ok(ScanCycle {
            id: Uuid::now_v7(),
            scheduled,
        })
    }

    fn needs_scanner(&self) -> Result<(), AppError> {
        match self.settings().scanner.is_enabled() {
            true => Ok(()),
            false => Err(AppError::Invalid(NOT_CONFIGURED.to_owned())),
        }
    }

    /// `None` while the engine has a scan under way: the database allows one.
    async fn ask_for_scan(
        &self,
        watcher: &WatcherRef,
        containers: Vec<ContainerId>,
    ) -> Result<Option<JobId>, AppError> {
        let job = NewJob::now(watcher.clone(), JobSpec::Scan { containers });
        let client = self.store().client().await?;
        match jobs::insert(&client, &job).await {
            Ok(_) => {}
            Err(error) if error.is_constraint(ONE_SCAN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        drop(client);
        if let Err(error) = self.queue().wake_workers(watcher, &[job.id]).await {
            tracing::warn!(%error, "could not wake a worker; the sweep will");
        }
        Ok(Some(job.id))
    }

    /// What is known of a container that a worker is to scan.
    pub async fn state_of(&self, id: &ContainerId) -> Result<Option<ContainerState>, AppError> {
        let client = self.store().client().await?;
        let states = containers::states(&client, &[id.as_str()]).await?;
        Ok(states.into_iter().next())
    }

    /// Tells clients that a scan of the container begins.
    pub async fn scan_started(&self, id: &ContainerId) -> Result<(), AppError> {
        let client = self.store().client().await?;
        let payload = json!({ "containerId": id.as_str() }).to_string();
        events::append(&client, "dd:scan-started", &payload).await?;
        drop(client);
        self.announce().await;
        Ok(())
    }

    /// Keeps what a scan found, with the events and the alert that tell of it. A result that is
    /// older than the one that is known is dropped.
    pub async fn record_scan(
        &self,
        state: &ContainerState,
        report: &ScanReport,
        found: &[Vulnerability],
    ) -> Result<(), AppError> {
        retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            self.write_scan(&tx, state, report, found).await?;
            commit(tx).await?;
            Ok::<_, AppError>(())
        })
        .await?;
        self.announce().await;
        Ok(())
    }

    async fn write_scan(
        &self,
        tx: &Transaction<'_>,
        state: &ContainerState,
        report: &ScanReport,
        found: &[Vulnerability],
    ) -> Result<(), AppError> {
        let facts = &state.facts;
        let written = image_reports::write_scan(tx, &state.identity_key, report, found).await?;
        let mut told = Vec::new();
        if let Written::Yes(before) = &written {
            let states = containers::states(tx, &[facts.id.as_str()]).await?;
            for state in &states {
                let shown = rendered(state, &self.settings().view_context())?;
                told.push(("dd:container-updated", shown));
            }
            let known = before.as_ref().is_some_and(|b| b.summary == report.summary);
            if report.summary.serious() > 0 && !known {
                let details = format!(
                    "{} critical and {} high vulnerabilities in {}",
                    report.summary.critical,
                    report.summary.high,
                    report.subject().key()
                );
                let entry = NewAudit {
                    container_image: Some(&report.image),
                    identity_key: Some(state.identity_key.as_str()),
                    details: Some(&details),
                    ..NewAudit::new("security-alert", &facts.name, AuditStatus::Info)
                };
                audit::append(tx, &entry).await?;
            }
        }
        let ended = json!({ "containerId": facts.id.as_str(), "status": report.status.as_str() });
        told.push(("dd:scan-completed", ended.to_string()));
        events::append_all(tx, &told).await?;
        Ok(())
    }

    /// The contract's scan object with every vulnerability, as JSON. Without a scan: `not-scanned`.
    pub async fn vulnerabilities(
        &self,
        container: &str,
        caller: &Caller<'_>,
    ) -> Result<Bytes, AppError> {
        caller.authorise(Scope::ContainersRead)?;
        let entry = self.get_container(container).await?;
        let shown = shown(&entry.state);
        // The gate's own scan is the newest one that matters.
        let Some(report) = shown.update_scan.or(shown.scan) else {
            let nothing = json!({
                "scanner": null, "scannedAt": null, "status": "not-scanned",
                "blockSeverities": [], "blockingCount": 0,
                "summary": {"unknown": 0, "low": 0, "medium": 0, "high": 0, "critical": 0},
                "vulnerabilities": [],
            });
            return Ok(nothing.to_string().into());
        };
        let subject = report.subject();
        let identity = entry.state.identity_key.as_str();
        let contents = self
            .store()
            .scan_contents(&[(identity, subject.key())])
            .await?;
        let list = contents.first().map_or("[]", |one| &one.vulnerabilities);
        let json = serde_json::to_vec(report)
            .map_err(|error| AppError::Internal(format!("cannot render a scan: {error}")))?;
        Ok(filled(&json, &[list]))
    }

    /// The containers' JSON with the lists of vulnerabilities in it: one question for all.
    pub async fn with_vulnerabilities(
        &self,
        entries: &[Arc<Entry>],
    ) -> Result<Vec<Bytes>, AppError> {
        let mut wanted: Vec<(&str, &str)> = entries
            .iter()
            .flat_map(|entry| {
                let identity = entry.state.identity_key.as_str();
                entry
                    .scanned
                    .iter()
                    .map(move |subject| (identity, subject.as_str()))
            })
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let contents = self.store().scan_contents(&wanted).await?;
        let lists: HashMap<(&str, &str), &str> = contents
            .iter()
            .map(|one| ((&*one.identity, &*one.subject), &*one.vulnerabilities))
            .collect();
        let whole = |entry: &Arc<Entry>| {
            let identity = entry.state.identity_key.as_str();
            let of = |subject: &String| lists.get(&(identity, subject.as_str())).copied();
            let lists: Vec<&str> = entry
                .scanned
                .iter()
                .map(|s| of(s).unwrap_or("[]"))
                .collect();
            match lists.is_empty() {
                true => entry.json.clone(),
                false => filled(&entry.json, &lists),
            }
        };
        Ok(entries.iter().map(whole).collect())
    }

    /// One page of all that is known to be wrong with what runs, grouped by image. `limit` 0: all.
    pub async fn vulnerability_overview(
        &self,
        snapshot: &Snapshot,
        offset: usize,
        limit: usize,
    ) -> Result<Overview, AppError> {
        let entries = snapshot.inventory.entries();
        let mut overview = Overview {
            total_containers: entries.len(),
            ..Overview::default()
        };
        let mut groups: BTreeMap<(&str, String), Group<'_>> = BTreeMap::new();
        for entry in entries {
            let shown = shown(&entry.state);
            let Some(scan) = shown.scan else { continue };
            overview.scanned_containers += 1;
            overview.latest_scanned_at = overview.latest_scanned_at.max(Some(scan.scanned_at));
            let key = (&*scan.image, scan.subject().key().to_owned());
            let group = groups.entry(key).or_insert_with(|| Group {
                identity: entry.state.identity_key.as_str(),
                scan,
                update: None,
                containers: Vec::new(),
            });
            group.containers.push(entry.id().to_owned());
            if scan.scanned_at > group.scan.scanned_at {
                (group.scan, group.identity) = (scan, entry.state.identity_key.as_str());
            }
            if let Some(update) = shown.update_scan.filter(|update| *update != scan) {
                group.update = Some(update);
            }
        }
        let end = match limit {
            0 => usize::MAX,
            limit => offset.saturating_add(limit),
        };
        // Which part of the flattened list falls into which group, before any list is read.
        let mut at = 0;
        let mut parts = Vec::new();
        for ((_, subject), group) in &groups {
            let number = group.scan.summary.total() as usize;
            let (from, to) = (at.max(offset), (at + number).min(end));
            if from < to {
                parts.push((group, subject.as_str(), from - at..to - at));
            }
            at += number;
        }
        overview.total = at;
        let wanted: Vec<(&str, &str)> = parts.iter().map(|(g, s, _)| (g.identity, *s)).collect();
        let contents = self.store().scan_contents(&wanted).await?;
        for (group, subject, range) in parts {
            let list = contents
                .iter()
                .find(|one| one.identity == group.identity && one.subject == subject)
                .map_or("[]", |one| &one.vulnerabilities);
            let mut found: Vec<Vulnerability> = serde_json::from_str(list)
                .map_err(|error| StoreError::corrupt("vulnerabilities", error))?;
            found.truncate(range.end);
            overview.shown += range.len();
            overview.images.push(ImageOverview {
                image: group.scan.image.clone(),
                container_ids: group.containers.clone(),
                update_summary: group.update.map(|update| update.summary),
                vulnerabilities: found.into_iter().skip(range.start).collect(),
            });
        }
        Ok(overview)
    }
}

struct Group<'a> {
    identity: &'a str,
    scan: &'a ScanReport,
    update: Option<&'a ScanReport>,
    containers: Vec<String>,
}

/// What is known to be wrong with the fleet.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    pub total_containers: usize,
    pub scanned_containers: usize,
    pub latest_scanned_at: Option<DateTime<Utc>>,
    /// Vulnerabilities of all pages.
    pub total: usize,
    /// Vulnerabilities of this page.
    pub shown: usize,
    pub images: Vec<ImageOverview>,
}

#[derive(Clone, Debug)]
pub struct ImageOverview {
    pub image: String,
    pub container_ids: Vec<String>,
    pub update_summary: Option<plimsoll_domain::security::Counts>,
    pub vulnerabilities: Vec<Vulnerability>,
}

fn shown(state: &ContainerState) -> SecurityView<'_> {
    let raw = assess(state, &Default::default(), Utc::now()).raw;
    let candidate = state.current_result().filter(|_| raw);
    SecurityView::of(&state.reports, &state.facts, candidate)
}

/// Where a rendered scan leaves its list out. In JSON this sequence is never part of a text: its
/// quotes would be escaped.
const HOLE: &[u8] = b"\"vulnerabilities\":[]";

/// `json` with `lists`, which are JSON arrays, in the places of its empty lists.
fn filled(json: &[u8], lists: &[&str]) -> Bytes {
    let room: usize = lists.iter().map(|list| list.len()).sum();
    let mut out = Vec::with_capacity(json.len() + room);
    let mut rest = json;
    for list in lists {
        let Some(at) = rest.windows(HOLE.len()).position(|part| part == HOLE) else {
            break;
        };
        out.extend_from_slice(&rest[..at + HOLE.len() - 2]);
        out.extend_from_slice(list.as_bytes());
        rest = &rest[at + HOLE.len()..];
    }
    out.extend_from_slice(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_put_where_they_were_left_out_and_nowhere_else() {
        let label = json!({"a": "\"vulnerabilities\":[]"}).to_string();
        let json = format!(
            "{{\"l\":{label},\"s\":{{\"vulnerabilities\":[]}},\"u\":{{\"vulnerabilities\":[]}}}}"
        );
        let whole = filled(json.as_bytes(), &["[1]", "[2]"]);
        let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole["s"]["vulnerabilities"], json!([1]));
        assert_eq!(whole["u"]["vulnerabilities"], json!([2]));
        assert_eq!(whole["l"]["a"], "\"vulnerabilities\":[]");
    }
}
