//! What is in the directory of scripts.

use plimsoll_app::{queue::rpc::RemoteError, scripts::ScriptList};
use serde_json::{Value, json};

use crate::scripts::Scripts;

/// # Errors
/// `scripts`: the directory cannot be read.
pub(super) async fn list(scripts: Option<Scripts>) -> Result<Value, RemoteError> {
    let failed = |why: String| RemoteError::new("scripts", why);
    let Some(scripts) = scripts else {
        return Ok(json!(ScriptList::default()));
    };
    let listed = tokio::task::spawn_blocking(move || scripts.list()).await;
    let listed = listed.map_err(|error| failed(error.to_string()))?;
    listed
        .map(|list| json!(list))
        .map_err(|error| failed(format!("The directory of scripts cannot be read: {error}")))
}
