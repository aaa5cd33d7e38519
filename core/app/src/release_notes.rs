//! What the makers of an image say about a release (contract/drydock-container-api.md, "Get
//! container release notes"). A worker asks GitHub; this knows what to ask for.

use std::{collections::BTreeMap, time::Duration};

use chrono::Utc;
use plimsoll_domain::{
    access::Scope, assessment::assess, release_notes::source_text, target::candidate_image,
};
use plimsoll_queue::rpc::RpcError;
use plimsoll_store::image_details::ImageKey;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{App, AppError, requests::Caller};

/// The kind of live read that workers answer with release notes, or `null`.
pub const RELEASE_NOTES: &str = "release-notes";
/// Several names of a release may have to be tried.
const PATIENCE: Duration = Duration::from_secs(25);
const NOT_AVAILABLE: &str = "Release notes not available";

/// The release that tells of an image. All of it is text of strangers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseNotes {
    pub title: String,
    /// Markdown as its authors wrote it, at most 64 KiB; never HTML of ours.
    pub body: String,
    /// Where people read it.
    pub url: String,
    /// ISO 8601.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<String>,
    /// `github`
    pub provider: String,
}

/// What a worker is asked: the payload of the read.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReleaseNotesQuestion {
    /// Where the source of the image is kept, as somebody wrote it: hostile.
    pub source: String,
    /// The repository of the image, without its registry.
    pub image: String,
    pub tag: String,
}

impl App {
    /// The notes of the release that the container's available update is.
    ///
    /// # Errors
    /// `NotFound` for an unknown container, without an update, where nobody says where the source
    /// is kept or there is no such release, and in internetless mode. `Failed` when GitHub does not
    /// say, `Unavailable` when no worker answers.
    pub async fn release_notes(
        &self,
        container: &str,
        caller: &Caller<'_>,
    ) -> Result<ReleaseNotes, AppError> {
        caller.authorise(Scope::ContainersRead)?;
        let entry = self.get_container(container).await?;
        let not_available = || AppError::NotFound(NOT_AVAILABLE.to_owned());
        let question = self.question(&entry.state).await?;
        let question = question.ok_or_else(not_available)?;
        if self.store().ui_settings().await?.internetless_mode {
            return Err(not_available());
        }
        let watcher = &entry.state.facts.watcher;
        let answer = self
            .ask_worker(watcher, RELEASE_NOTES, &json!(question), PATIENCE)
            .await
            .map_err(|error| match error {
                RpcError::Remote(error) => failed(&error.message),
                RpcError::Timeout { .. } | RpcError::Unavailable(_) => AppError::Unavailable {
                    message: failed(&error.to_string()).to_string(),
                    retry_after: Duration::from_secs(5),
                },
            })?;
        let notes: Option<ReleaseNotes> = serde_json::from_value(answer)
            .map_err(|error| AppError::Internal(format!("a worker's release notes: {error}")))?;
        notes.ok_or_else(not_available)
    }

    async fn question(
        &self,
        state: &plimsoll_domain::container::ContainerState,
    ) -> Result<Option<ReleaseNotesQuestion>, AppError> {
        let scale = self.settings().view_context().maturity;
        if !assess(state, &scale, Utc::now()).raw {
            return Ok(None);
        }
        let Some(image) = candidate_image(state) else {
            return Ok(None);
        };
        let Some(tag) = image.tag().map(|tag| tag.as_str().to_owned()) else {
            return Ok(None);
        };
        let facts = &state.facts;
        let key = ImageKey {
            repository: image.repository_key(),
            reference: tag.clone(),
            platform: facts.image.platform(),
        };
        let details = self.store().image_details(&[key]).await?;
        let labels: Option<BTreeMap<String, String>> = details
            .into_iter()
            .find_map(|(_, details)| serde_json::from_value(details.labels?).ok());
        let source = source_text(
            facts.rules.source_repo.as_deref(),
            labels.as_ref(),
            facts.source_repo.as_deref(),
        );
        Ok(source.map(|source| ReleaseNotesQuestion {
            source: source.to_owned(),
            image: facts.image.name.clone(),
            tag,
        }))
    }
}

fn failed(why: &str) -> AppError {
    AppError::Failed(format!("Error retrieving release notes ({why})"))
}
