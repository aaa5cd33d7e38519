//! What a container's Compose file says that it runs, now.

use plimsoll_app::{
    compose_mismatches::{ComposeImageAnswer, ComposeImageQuestion, NO_IMAGE},
    queue::rpc::RemoteError,
};
use plimsoll_domain::{ids::ContainerId, labels::UserLabels};
use serde_json::{Value, json};

use super::engine_failed;
use crate::{
    compose::{Access, ComposeOptions, Project},
    docker::Engine,
    json,
};

/// # Errors
/// `not-found`, `engine`, `bad-request`; `no-image` for a service that is built or names none,
/// `refused` where the file cannot be read or does not say.
pub(super) async fn image(
    engine: &Engine,
    access: &Access,
    payload: Value,
) -> Result<Value, RemoteError> {
    let bad = |what: String| RemoteError::new("bad-request", what);
    let question: ComposeImageQuestion =
        serde_json::from_value(payload).map_err(|error| bad(error.to_string()))?;
    let container = ContainerId::parse(&question.container_id)
        .ok_or_else(|| bad("containerId is not a container id".to_owned()))?;
    let inspect = engine.inspect(&container).await.map_err(engine_failed)?;
    let image = inspect["Image"].as_str().unwrap_or_default();
    let image = match engine.inspect_image(image).await {
        Ok(image) => image,
        // Then nobody can tell which labels are its own.
        Err(error) => return Err(engine_failed(error)),
    };
    let (own, default) = (json::labels(&inspect), json::labels(&image));
    let options = ComposeOptions::asked_for(access.clone());
    let look = move || {
        let refused = |why: String| RemoteError::new("refused", why);
        let project = Project::locate(&UserLabels::new(&own, &default), &options);
        let project = project.map_err(refused)?;
        match project.names_no_image() {
            true => Err(RemoteError::new(NO_IMAGE, project.service)),
            false => project.find().map_err(refused),
        }
    };
    let found = tokio::task::spawn_blocking(look).await;
    let found = found.map_err(|error| RemoteError::new("refused", error.to_string()))??;
    Ok(json!(ComposeImageAnswer {
        running: inspect["Config"]["Image"]
            .as_str()
            .unwrap_or_default()
            .to_owned(),
        specified: found.resolved.image,
        file: found.path.display().to_string(),
    }))
}
