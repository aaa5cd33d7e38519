//! Forgetting.

use std::time::Duration;

use plimsoll_app::App;

use super::ReconcileError;

/// How long rows are kept.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Ended operations; those that hold a backup stay as long as it does.
    pub operations: Duration,
    /// And at most so many of each container, besides those of the last day.
    pub operations_each: u32,
    pub audit: Duration,
    /// Ended jobs.
    pub jobs: Duration,
    /// Events for replay, and what webhooks delivered of them.
    pub events: Duration,
    /// And at most about so many.
    pub max_events: i64,
    /// Messages that were delivered or given up, and webhooks that were given up.
    pub messages: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            operations: DAY * 30,
            operations_each: 500,
            audit: DAY * 90,
            jobs: DAY,
            events: DAY,
            max_events: 1_000_000,
            messages: DAY * 30,
        }
    }
}

pub(super) async fn expire(app: &App, retention: &Retention) -> Result<(), ReconcileError> {
    let store = app.store();
    store.expire_jobs(retention.jobs).await?;
    store
        .expire_operations(
            retention.operations.as_secs_f64(),
            i64::from(retention.operations_each),
        )
        .await?;
    store
        .expire_groups(retention.operations.as_secs_f64())
        .await?;
    store
        .expire_removals(retention.operations.as_secs_f64())
        .await?;
    // Counted before they are forgotten.
    store.fold_audit_totals().await?;
    store.expire_audit(retention.audit.as_secs_f64()).await?;
    store
        .expire_events(retention.events.as_secs_f64(), retention.max_events)
        .await?;
    store.expire_idempotency_keys().await?;
    store.expire_messages(retention.messages).await?;
    store
        .expire_webhooks(retention.events, retention.messages)
        .await?;
    store.forget_old_webhook_secrets().await?;
    store.expire_tag_digests().await?;
    Ok(())
}
