//! The tags of any repository, as its registry has them. A worker asks, with the cache and the
//! budget that its checks have.

use std::time::Duration;

use plimsoll_domain::{access::Scope, image::ImageRef};
use plimsoll_queue::rpc::RpcError;
use serde::{Deserialize, Serialize};

use crate::{App, AppError, explorer::NO_WATCHER, live, requests::Caller, stacks::Engines};

/// The kind of live read.
pub const TAGS: &str = "registry-tags";
/// Long lists come in many pages.
const PATIENCE: Duration = Duration::from_secs(60);
/// Tags that one answer holds at most.
pub const MOST_TAGS: usize = 10_000;
/// Codes of the worker's refusals.
pub const UNKNOWN: &str = "unknown-repository";
pub const LIMITED: &str = "rate-limited";
pub const REFUSED: &str = "registry";

/// What a worker is asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagsRequest {
    pub image: ImageRef,
    pub offset: usize,
    /// At most [`MOST_TAGS`].
    pub limit: usize,
    /// Whether a container here runs something of this registry. Others are asked on public
    /// addresses only, unless the settings name them: the reference came with a request.
    pub known: bool,
}

/// Some of a repository's tags, in the registry's order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RepositoryTags {
    /// Registry and repository.
    pub repository: String,
    pub tags: Vec<String>,
    /// How many there are.
    pub total: usize,
    /// Whether the registry has told all of them.
    pub complete: bool,
}

impl App {
    /// `reference` may name a tag or digest too, which do not matter.
    ///
    /// # Errors
    /// `Invalid` for what is no reference, `NotFound` for a repository that the registry does not
    /// have or does not show, `TooManyRequests` while the registry limits us, `Upstream` when it
    /// fails, `Unavailable` when no worker answers.
    pub async fn registry_tags(
        &self,
        reference: &str,
        offset: usize,
        limit: usize,
        engines: &Engines,
        caller: &Caller<'_>,
    ) -> Result<RepositoryTags, AppError> {
        caller.authorise(Scope::ContainersWatch)?;
        let image = ImageRef::parse(reference).map_err(|e| AppError::Invalid(e.to_string()))?;
        // Any worker can ask any registry; one whose engine answers is at work.
        let rows = self.store().watchers().await?.into_iter();
        let mut candidates: Vec<_> = rows.filter(|row| engines.hold(&row.watcher)).collect();
        candidates.sort_by_key(|row| (!row.connected, !row.watcher.agent.is_empty()));
        let Some(watcher) = candidates.into_iter().next().map(|row| row.watcher) else {
            return Err(AppError::NotFound(NO_WATCHER.to_owned()));
        };
        let snapshot = self.snapshot().await?;
        let known = snapshot.inventory.entries().iter().any(|entry| {
            let repository = entry.state.facts.image.repository();
            repository.is_some_and(|one| one.registry() == image.registry())
        });
        let ask = async {
            let request = live::payload(&TagsRequest {
                image,
                offset,
                limit: limit.min(MOST_TAGS),
                known,
            })?;
            let answer = self.ask_worker(&watcher, TAGS, &request, PATIENCE).await?;
            serde_json::from_value(answer)
                .map_err(|error| RpcError::Unavailable(format!("unreadable answer: {error}")))
        };
        ask.await.map_err(|error| match error {
            RpcError::Remote(error) if error.code == UNKNOWN => AppError::NotFound(error.message),
            RpcError::Remote(error) if error.code == LIMITED => AppError::TooManyRequests {
                message: error.message,
                retry_after: Duration::from_secs(60),
            },
            RpcError::Remote(error) if error.code == REFUSED => AppError::Upstream(error.message),
            error => live::refusal("The registry's tags are", error),
        })
    }
}
