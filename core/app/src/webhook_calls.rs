//! What the bearer webhooks do once their token is known to be good (`webhooks`).

use std::{sync::Arc, time::Duration};

use plimsoll_domain::{ids::OperationId, job::WatchCause};
use plimsoll_store::audit::{self, AuditStatus, NewAudit};

use crate::{
    App, AppError,
    containers::NOT_FOUND,
    inventory::Entry,
    requests::Caller,
    updates::{UpdateOrigin, WantedUpdate},
    watches::WatchAnswer,
};

/// How long a webhook waits for the check that finds what was just pushed.
const CHECK_PATIENCE: Duration = Duration::from_secs(60);

/// Which container a webhook means. Names are unique on one engine only.
#[derive(Clone, Debug, Default)]
pub struct NamedContainer {
    pub name: String,
    pub agent: Option<String>,
    pub watcher: Option<String>,
}

/// What an update webhook came to.
#[derive(Debug)]
pub enum WebhookUpdate {
    Accepted(OperationId),
    /// The fresh check found nothing newer.
    UpToDate,
}

impl App {
    /// Checks everything; answers with the number of watchers that take part.
    pub async fn webhook_watch_all(&self, caller: &Caller<'_>) -> Result<usize, AppError> {
        let answer = self.watch(None, CHECK_PATIENCE, caller).await;
        let status = match &answer {
            Ok(WatchAnswer::Done { .. } | WatchAnswer::Running { .. }) => AuditStatus::Success,
            _ => AuditStatus::Error,
        };
        self.audit_webhook("webhook-watch", "", status, caller)
            .await?;
        match answer? {
            WatchAnswer::Done { watchers } | WatchAnswer::Running { watchers } => Ok(watchers),
            WatchAnswer::Failed { message } => Err(AppError::Failed(message)),
        }
    }

    /// Checks one container.
    pub async fn webhook_watch(
        &self,
        container: &NamedContainer,
        caller: &Caller<'_>,
    ) -> Result<(), AppError> {
        let entry = self.webhook_container(container).await?;
        let ids = [entry.id().to_owned()];
        let answer = self.watch(Some(&ids), CHECK_PATIENCE, caller).await?;
        let status = match answer {
            WatchAnswer::Failed { .. } => AuditStatus::Error,
            _ => AuditStatus::Success,
        };
        self.audit_webhook("webhook-watch-container", &container.name, status, caller)
            .await?;
        match answer {
            WatchAnswer::Failed { message } => Err(AppError::Failed(message)),
            _ => Ok(()),
        }
    }

    /// Checks one container and updates it if that finds something newer: a webhook is called
    /// right after a push, before any scheduled watch could have seen it.
    ///
    /// # Errors
    /// In this order (reference/drydock.md 1.9): `NotFound` container, `Forbidden` by label,
    /// `NotFound` trigger, `Conflict`.
    pub async fn webhook_update(
        &self,
        container: &NamedContainer,
        caller: &Caller<'_>,
    ) -> Result<WebhookUpdate, AppError> {
        let entry = self.webhook_container(container).await?;
        self.trigger_name(&entry.state).await?;
        let ids = [entry.id().to_owned()];
        // Whether it is updated is decided below, once.
        let watched = self
            .watch_because(WatchCause::Other, Some(&ids), CHECK_PATIENCE, caller)
            .await?;
        if let WatchAnswer::Failed { message } = watched {
            return Err(AppError::Failed(message));
        }
        // The check may have found the container re-created under another id.
        let entry = self.webhook_container(container).await?;
        match self
            .request_update(
                entry.id(),
                UpdateOrigin::Webhook,
                WantedUpdate::default(),
                caller,
            )
            .await
        {
            Ok(operation) => Ok(WebhookUpdate::Accepted(operation)),
            Err(AppError::Invalid(_)) => {
                self.audit_webhook("webhook-update", &container.name, AuditStatus::Info, caller)
                    .await?;
                Ok(WebhookUpdate::UpToDate)
            }
            Err(error) => Err(error),
        }
    }

    /// The container of that name, if webhooks may touch it.
    async fn webhook_container(&self, wanted: &NamedContainer) -> Result<Arc<Entry>, AppError> {
        let snapshot = self.snapshot().await?;
        let mut found = snapshot.inventory.entries().iter().filter(|entry| {
            let facts = &entry.state.facts;
            let same =
                |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
            facts.name == wanted.name
                && same(&wanted.agent, &facts.watcher.agent)
                && same(&wanted.watcher, &facts.watcher.name)
        });
        let entry = found
            .next()
            .ok_or_else(|| AppError::NotFound(NOT_FOUND.to_owned()))?;
        if let Some(other) = found.next() {
            return Err(AppError::conflict(format!(
                "Several engines have a container {}: {} and {}; say which with ?agent= and ?watcher=",
                wanted.name, entry.state.facts.watcher, other.state.facts.watcher
            )));
        }
        if entry.state.facts.rules.webhook_enabled == Some(false) {
            return Err(AppError::Forbidden(
                "Webhooks are disabled for this container".to_owned(),
            ));
        }
        Ok(entry.clone())
    }

    async fn audit_webhook(
        &self,
        action: &str,
        container: &str,
        status: AuditStatus,
        caller: &Caller<'_>,
    ) -> Result<(), AppError> {
        let mut entry = NewAudit::new(action, container, status);
        entry.actor = Some(caller.principal.name());
        entry.request_id = caller.request_id;
        Ok(audit::append(&self.store().client().await?, &entry).await?)
    }
}
