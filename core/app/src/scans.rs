//! Asking for scans, and keeping what they find (contract/drydock-container-api.md, "Run an on-demand
//! security scan").

use std::{collections::BTreeMap, time::Duration};

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    access::Scope,
    assessment::assess,
    container::ContainerState,
    ids::{ContainerId, JobId, WatcherRef},
    image::ImageRef,
    job::JobSpec,
    security::{ScanReport, SignatureReport, Subject, Vulnerability},
    target::candidate_image,
};
use plimsoll_store::{
    Transaction,
    audit::{self, AuditStatus, NewAudit},
    begin, commit, containers, events,
    image_reports::{self, ONE_SCAN},
    jobs::{self, Inserted, NewJob},
    retrying,
};
use serde_json::json;
use tracing::Instrument;
use uuid::Uuid;

use crate::{
    App, AppError, announcements, observations::rendered, requests::Caller, watches::WatchAnswer,
};

/// The contract's words.
pub const NOT_CONFIGURED: &str = "Security scanner is not configured";
const CONTAINER_UPDATED: &str = "dd:container-updated";
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
        let job = self.ask_for_scan(&facts.watcher, containers, None).await?;
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
            let asked = self.ask_for_scan(&watcher, containers, None);
            if asked.await?.is_some() {
                scheduled += number;
            }
        }
        Ok(ScanCycle {
            id: Uuid::now_v7(),
            scheduled,
        })
    }

    /// Scans what a schedule names: once, however many workers keep it, and not while the engine has
    /// a scan under way.
    pub async fn scan_due(
        &self,
        watcher: &WatcherRef,
        containers: Vec<ContainerId>,
        slot: String,
    ) -> Result<(), AppError> {
        let asked = self.ask_for_scan(watcher, containers, Some(slot));
        asked.await.map(drop)
    }

    fn needs_scanner(&self) -> Result<(), AppError> {
        match self.settings().scanner.is_enabled() {
            true => Ok(()),
            false => Err(AppError::Invalid(NOT_CONFIGURED.to_owned())),
        }
    }

    /// `None` while the engine has a scan under way: the database allows one. And where the slot of
    /// a schedule is taken.
    async fn ask_for_scan(
        &self,
        watcher: &WatcherRef,
        containers: Vec<ContainerId>,
        slot: Option<String>,
    ) -> Result<Option<JobId>, AppError> {
        let job = NewJob {
            slot,
            ..NewJob::now(watcher.clone(), JobSpec::Scan { containers })
        };
        let client = self.store().client().await?;
        let span = plimsoll_trace::producing(format_args!("accept scan"));
        match jobs::insert(&client, &job).instrument(span).await {
            Ok(Inserted::Written) => {}
            Ok(Inserted::SlotTaken) => return Ok(None),
            Err(error) if error.is_constraint(ONE_SCAN) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        drop(client);
        self.wake(std::iter::once((watcher, job.id))).await;
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
        if written {
            let states = containers::states(tx, &[facts.id.as_str()]).await?;
            for state in &states {
                let shown = rendered(state, &self.settings().view_context())?;
                told.push((CONTAINER_UPDATED, shown));
            }
            let mut is_news = false;
            for state in &states {
                is_news |= announcements::security_alert(
                    tx,
                    state,
                    report,
                    found,
                    &self.settings().view_context(),
                )
                .await?;
            }
            if is_news {
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

    /// Keeps what was found out about an image's signatures.
    pub async fn record_signature(
        &self,
        state: &ContainerState,
        report: &SignatureReport,
    ) -> Result<(), AppError> {
        let id = state.facts.id.as_str();
        retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            if image_reports::write_signature(&tx, &state.identity_key, report).await? {
                self.tell_of_change(&tx, id).await?;
            }
            commit(tx).await?;
            Ok::<_, AppError>(())
        })
        .await?;
        self.announce().await;
        Ok(())
    }

    /// The event for clients that show the container.
    pub(crate) async fn tell_of_change(
        &self,
        tx: &Transaction<'_>,
        id: &str,
    ) -> Result<(), AppError> {
        for state in &containers::states(tx, &[id]).await? {
            let shown = rendered(state, &self.settings().view_context())?;
            events::append(tx, CONTAINER_UPDATED, &shown).await?;
        }
        Ok(())
    }
}
