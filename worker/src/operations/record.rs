//! The fenced writes, and what belongs into the same transaction as each phase.

use std::time::Duration;

use plimsoll_app::store::Transaction;
use plimsoll_app::store::{
    StoreError,
    audit::{self, AuditStatus, NewAudit},
    backups::{self, NewBackup},
    journal::{self, Changes, Completion, FencedError, Progress},
    rolled_back_targets::{self, RolledBackTarget},
    update_operations::Operation,
};
use plimsoll_domain::{
    ids::ContainerId,
    image::ImageRef,
    notification::Rule,
    operation::{OperationKind, Phase},
    recovery::Action,
};

use super::{
    crash_point::Side,
    error::StepError,
    pin_tag,
    program::{Pending, Program},
};

/// How long to wait before a write is tried again.
const AGAIN: Duration = Duration::from_millis(300);

impl Program<'_> {
    /// Writes what is pending.
    pub(super) async fn flush(&mut self, pending: Pending) -> Result<(), StepError> {
        match pending {
            Some((phase, changes)) => {
                let completion = match phase.is_terminal() {
                    true => Completion::Completed,
                    false => Completion::Open,
                };
                self.write(Some(phase), None, changes, completion).await
            }
            None => Ok(()),
        }
    }

    /// Writes a phase, an intent, or both. While the database is away it tries again, for as long
    /// as the lease can be trusted.
    pub(super) async fn write(
        &mut self,
        phase: Option<Phase>,
        intent: Option<&str>,
        changes: Changes,
        completion: Completion,
    ) -> Result<(), StepError> {
        if let Some(phase) = phase {
            self.crash_point(phase.as_str(), Side::Before);
        }
        let entries = i32::from(phase.is_some()) + i32::from(intent.is_some());
        let mut unsure = false;
        let unpinned = loop {
            if !self.lease.is_held() {
                return Err(StepError::LeaseLost);
            }
            match self.try_write(phase, intent, &changes, completion).await {
                Ok(unpinned) => break unpinned,
                Err(FencedError::LeaseLost) if unsure => {
                    // The connection may have broken between the commit and its answer.
                    let stored = self.world.app.store().operation(self.operation.id).await;
                    match stored {
                        Ok(Some(row)) if row.seq == self.operation.seq + entries => {
                            break Vec::new();
                        }
                        _ => return Err(StepError::LeaseLost),
                    }
                }
                Err(FencedError::LeaseLost) => return Err(StepError::LeaseLost),
                Err(FencedError::Store(StoreError::Unavailable(why))) => {
                    tracing::warn!(why, operation = %self.operation.id, "waiting for the database");
                    unsure = true;
                    if intent == Some(Action::StartNew.as_str()) {
                        self.start_ahead().await;
                    }
                    tokio::time::sleep(AGAIN).await;
                }
                Err(FencedError::Store(StoreError::Retry)) => tokio::time::sleep(AGAIN).await,
                Err(FencedError::Store(error)) => return Err(error.into()),
            }
        };
        self.operation.seq += entries;
        apply(&mut self.operation, phase, intent, changes);
        if let Some(phase) = phase {
            self.spans.reached(phase);
            self.announce();
            tracing::info!(
                operation = %self.operation.id,
                container = self.operation.container_name,
                %phase,
                "operation"
            );
            self.crash_point(phase.as_str(), Side::After);
        }
        if let Some(phase) = phase {
            self.count(phase, completion).await;
        }
        for pin in unpinned {
            // What remains is found by the janitor.
            if let Err(error) = self.engine.remove_image(&pin).await {
                tracing::debug!(%error, pin, "an image could not be unpinned");
            }
        }
        Ok(())
    }

    async fn try_write(
        &self,
        phase: Option<Phase>,
        intent: Option<&str>,
        changes: &Changes,
        completion: Completion,
    ) -> Result<Vec<String>, FencedError> {
        let store = self.world.app.store();
        let lease = *self.lease.lease();
        let done: Vec<Phase> = phase.into_iter().collect();
        let progress = Progress {
            done: &done,
            intent,
            changes,
            completion,
        };
        let Some(phase) = phase else {
            let client = store.client().await?;
            journal::record(&client, &lease, &self.operation, &progress).await?;
            return Ok(Vec::new());
        };
        let mut client = store.client().await?;
        let tx = client.transaction().await.map_err(StoreError::from)?;
        journal::record(&tx, &lease, &self.operation, &progress).await?;
        let unpinned = self.with_phase(&tx, phase, changes, completion).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(unpinned)
    }

    /// What becomes true together with a phase. Answers pins that nothing needs any more.
    async fn with_phase(
        &self,
        tx: &Transaction<'_>,
        phase: Phase,
        changes: &Changes,
        completion: Completion,
    ) -> Result<Vec<String>, StoreError> {
        let operation = &self.operation;
        let is_update = operation.kind == OperationKind::Update;
        let is_rollback = operation.kind == OperationKind::Rollback;
        // In the audit trail: when it is done, when it failed, and when there is a way back.
        let [done, failed, back] = match operation.kind {
            OperationKind::Update => ["update-applied", "update-failed", "auto-rollback"],
            OperationKind::LabelChange => ["label-change"; 3],
            _ => ["rollback"; 3],
        };
        let reason = changes
            .rollback_reason
            .as_deref()
            .or(operation.rollback_reason.as_deref());
        let error = changes.last_error.as_deref().or(reason);
        if let Some(action) = operation.kind.action() {
            let status = match phase {
                Phase::Succeeded => AuditStatus::Success,
                _ => AuditStatus::Error,
            };
            self.audit(tx, action.audit_action(), status, error).await?;
            return Ok(Vec::new());
        }
        if matches!(phase, Phase::Succeeded | Phase::RolledBack) {
            self.audit_dependants(tx).await?;
        }
        let news = match phase {
            Phase::Succeeded => Some(Rule::UpdateApplied),
            Phase::Failed | Phase::RolledBack | Phase::RollbackFailed => Some(Rule::UpdateFailed),
            _ => None,
        };
        if let Some(rule) = news.filter(|_| is_update) {
            let app = &self.world.app;
            app.tell_of_operation(tx, operation, rule, error).await?;
        }
        match phase {
            Phase::HealthGatePassed if is_update => {
                return match self.backup() {
                    Some(backup) => backups::insert(tx, &backup, self.options.backups).await,
                    None => Ok(Vec::new()),
                };
            }
            Phase::Succeeded => {
                let file = self.file_end.as_deref();
                self.audit(tx, done, AuditStatus::Success, file).await?;
                // With other labels it still runs what it ran.
                if is_update || is_rollback {
                    rolled_back_targets::forget(tx, &operation.identity).await?;
                }
                if let (Some(backup), Some(reason)) = (operation.backup, reason) {
                    rolled_back_targets::remember_what_followed(tx, backup, reason).await?;
                }
            }
            Phase::RolledBack if is_update => {
                self.audit(tx, "auto-rollback", AuditStatus::Info, error)
                    .await?;
                self.audit(tx, "update-failed", AuditStatus::Error, error)
                    .await?;
                let digest = operation.target_digest.clone();
                let bad = RolledBackTarget {
                    target: operation.target_image.clone(),
                    target_digest: digest.unwrap_or_default(),
                    reason: reason.unwrap_or_default().to_owned(),
                    last_error: operation.last_error.clone(),
                    recorded_at: self.now(),
                };
                rolled_back_targets::remember(tx, &operation.identity, operation.id, &bad).await?;
                return Ok(self.own_pin());
            }
            Phase::Failed | Phase::RolledBack => {
                self.audit(tx, failed, AuditStatus::Error, error).await?;
                return Ok(self.own_pin());
            }
            Phase::RollbackFailed
                if operation.last_error.is_none() || completion == Completion::Completed =>
            {
                self.audit(tx, back, AuditStatus::Error, error).await?;
            }
            _ => {}
        }
        Ok(Vec::new())
    }

    async fn audit(
        &self,
        tx: &Transaction<'_>,
        action: &str,
        status: AuditStatus,
        details: Option<&str>,
    ) -> Result<(), StoreError> {
        let entry = NewAudit {
            details,
            ..NewAudit::about(&self.operation, action, status)
        };
        audit::append(tx, &entry).await
    }

    async fn audit_dependants(&self, tx: &Transaction<'_>) -> Result<(), StoreError> {
        let operation = &self.operation;
        for end in &self.dependants {
            let (status, details) = match &end.trouble {
                None => (AuditStatus::Success, end.what.to_owned()),
                Some(why) => (
                    AuditStatus::Error,
                    format!("could not be {}: {why}", end.what),
                ),
            };
            let details = format!("{details}, with {}", operation.container_name);
            let entry = NewAudit {
                container_image: Some(&end.image),
                identity_key: Some(end.identity.as_str()),
                trigger_name: operation.trigger_name.as_deref(),
                details: Some(&details),
                actor: Some(&operation.actor),
                request_id: operation.request_id.as_deref(),
                operation_id: Some(operation.id.as_uuid()),
                ..NewAudit::new("container-restart", &end.name, status)
            };
            audit::append(tx, &entry).await?;
        }
        Ok(())
    }

    /// The way back that this update leaves.
    fn backup(&self) -> Option<NewBackup> {
        let operation = &self.operation;
        let snapshot = self.snapshot.as_ref()?;
        let reference = ImageRef::parse(snapshot.reference()).ok();
        let (image_name, image_tag) = match &reference {
            Some(reference) => (reference.familiar_name(), reference.tag_name().to_owned()),
            // The container names its image by id: it has lost its tag.
            None => {
                let target = ImageRef::parse(&operation.target_image).ok()?;
                let tag = operation.from_version.clone();
                (target.familiar_name(), tag.unwrap_or_default())
            }
        };
        let (repository, tag) = pin_tag(&operation.identity, operation.id);
        Some(NewBackup {
            watcher: operation.watcher.clone(),
            identity: operation.identity.clone(),
            container: self.old_id()?,
            container_name: operation.container_name.clone(),
            image_name,
            image_tag,
            image_digest: snapshot.repo_digest.clone(),
            image_id: snapshot.image_id().to_owned(),
            pinned_as: format!("{repository}:{tag}"),
            trigger_name: operation.trigger_name.clone().unwrap_or_default(),
            operation: operation.id,
        })
    }

    /// The pin of an image that runs again, or never stopped running.
    fn own_pin(&self) -> Vec<String> {
        let (repository, tag) = pin_tag(&self.operation.identity, self.operation.id);
        match self.snapshot {
            Some(_) => vec![format!("{repository}:{tag}")],
            None => Vec::new(),
        }
    }

    /// Tells the replicas. Redis is never waited for.
    fn announce(&self) {
        let queue = self.world.app.queue().clone();
        tokio::spawn(async move {
            if let Err(error) = queue.announce_events().await {
                tracing::debug!(%error, "could not announce events");
            }
        });
    }
}

/// The row as it is after a write.
fn apply(operation: &mut Operation, phase: Option<Phase>, intent: Option<&str>, changes: Changes) {
    fn set<T>(field: &mut Option<T>, value: Option<T>) {
        if value.is_some() {
            *field = value;
        }
    }
    let text = |id: Option<ContainerId>| id.map(|id| id.as_str().to_owned());
    if let Some(phase) = phase {
        operation.phase = phase;
    }
    operation.intent = intent.map(str::to_owned);
    set(&mut operation.target_digest, changes.target_digest);
    set(&mut operation.old_container_id, text(changes.old_container));
    set(&mut operation.old_name, changes.old_name);
    set(&mut operation.temp_name, changes.temp_name);
    set(&mut operation.new_container_id, text(changes.new_container));
    set(&mut operation.old_was_running, changes.old_was_running);
    set(&mut operation.evidence, changes.evidence);
    set(&mut operation.rollback_reason, changes.rollback_reason);
    set(&mut operation.last_error, changes.last_error);
    set(&mut operation.exit_code, changes.exit_code);
    set(&mut operation.last_log, changes.last_log);
}
