//! What an update would change, without doing it (contract/drydock-container-api.md, "Preview an
//! update"). Docker and the registry are the worker's: this asks it for a live read.

use std::time::Duration;

use chrono::Utc;
use plimsoll_domain::{access::Scope, assessment::assess, target::update_target};
use plimsoll_queue::rpc::RpcError;
use plimsoll_store::audit::{self, AuditStatus, NewAudit};
use serde_json::{Value, json};

use crate::{App, AppError, requests::Caller};

/// The kind of live read that workers answer with a preview.
pub const PREVIEW: &str = "preview";
/// A preview may have to ask a registry for the new image's configuration.
const PATIENCE: Duration = Duration::from_secs(20);

impl App {
    /// The worker's dry run of the container's update: images, networks, and each field with where
    /// its value would come from.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` without an available update, `Conflict` with the reason for a container
    /// that must not be updated, `Unavailable` when no worker answers, `Failed` when it cannot say.
    pub async fn preview_update(
        &self,
        container: &str,
        caller: &Caller<'_>,
    ) -> Result<Value, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        let scale = self.settings().view_context().maturity;
        let now = Utc::now();
        let target = update_target(state, &scale, now).ok_or_else(|| {
            AppError::Invalid("No update available for this container".to_owned())
        })?;
        let facts = &state.facts;
        let payload = json!({
            "containerId": facts.id.as_str(),
            "targetImage": target.image.to_string(),
            "fromVersion": target.from_version,
            "toVersion": target.to_version,
            "updateKind": assess(state, &scale, now).kind,
        });
        let target_image = target.image.to_string();
        let answer = self
            .ask_worker(&facts.watcher, PREVIEW, &payload, PATIENCE)
            .await;
        let mut entry = NewAudit::new(
            "preview",
            &facts.name,
            match &answer {
                Ok(_) => AuditStatus::Success,
                Err(_) => AuditStatus::Error,
            },
        );
        let failure = answer.as_ref().err().map(ToString::to_string);
        entry.container_image = Some(&target_image);
        entry.identity_key = Some(state.identity_key.as_str());
        entry.from_version = Some(&target.from_version);
        entry.to_version = Some(&target.to_version);
        entry.details = failure.as_deref();
        entry.actor = Some(caller.principal.name());
        entry.request_id = caller.request_id;
        audit::append(&self.store().client().await?, &entry).await?;
        answer.map_err(|error| match error {
            RpcError::Remote(error) if error.code == "not-found" => {
                AppError::NotFound("Container not found".to_owned())
            }
            RpcError::Remote(error) if error.code == "refused" => AppError::conflict(error.message),
            RpcError::Remote(error) => AppError::Failed(error.message),
            RpcError::Timeout { .. } | RpcError::Unavailable(_) => AppError::Unavailable {
                message: format!("The preview is not available: {error}"),
                retry_after: Duration::from_secs(5),
            },
        })
    }
}
