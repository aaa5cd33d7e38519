//! What an engine has, and the tags of repositories.

use plimsoll_app::{
    explorer::ExploreRequest,
    queue::rpc::RemoteError,
    registry_tags::{LIMITED, MOST_TAGS, REFUSED, RepositoryTags, TagsRequest, UNKNOWN},
};
use plimsoll_domain::explorer::Explored;
use serde_json::{Value, json};

use super::{LiveReads, engine_failed};
use crate::{
    explorer::{ExploreError, Explorer},
    registry::{Extent, Freshness, RegistryError, Repository},
};

/// How old an answer about tags may be: as in a watch that nobody asked for.
const RECENT: std::time::Duration = std::time::Duration::from_secs(10 * 60);

/// # Errors
/// `engine`, `bad-request`, `internal`.
pub(super) async fn explore(explorer: &Explorer, payload: Value) -> Result<Value, RemoteError> {
    let ExploreRequest { kinds } = serde_json::from_value(payload)
        .map_err(|error| RemoteError::new("bad-request", error.to_string()))?;
    let contents = explorer.contents(&kinds).await.map_err(engine_failed)?;
    let keep = explorer
        .keep(&contents)
        .await
        .map_err(|error| match error {
            ExploreError::Engine(error) => engine_failed(error),
            error => RemoteError::new("internal", error.to_string()),
        })?;
    Ok(json!(Explored::of(&contents, &keep)))
}

/// # Errors
/// The codes of `plimsoll_app::registry_tags`, `bad-request`.
pub(super) async fn registry_tags(reads: &LiveReads, payload: Value) -> Result<Value, RemoteError> {
    let request: TagsRequest = serde_json::from_value(payload)
        .map_err(|error| RemoteError::new("bad-request", error.to_string()))?;
    let host = request.image.registry();
    let trusted = request.known || reads.registries.configured(host).is_some();
    let registries = match trusted {
        true => &reads.registries,
        false => &reads.strangers,
    };
    let repository = Repository::from(&request.image);
    let freshness = Freshness::Cached { max_age: RECENT };
    let list = registries.tags(&repository, freshness).await;
    let list = list.map_err(|error| {
        let code = match &error {
            RegistryError::NotFound { .. } | RegistryError::Unauthorized { .. } => UNKNOWN,
            RegistryError::RateLimited { .. } => LIMITED,
            _ => REFUSED,
        };
        RemoteError::new(code, error.to_string())
    })?;
    let shown = list
        .iter()
        .skip(request.offset)
        .take(request.limit.min(MOST_TAGS));
    Ok(json!(RepositoryTags {
        repository: request.image.repository_key(),
        tags: shown.map(str::to_owned).collect(),
        total: list.len(),
        complete: list.extent() == Extent::Complete,
    }))
}
