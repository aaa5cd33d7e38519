//! A container's environment, as the engine has it.

use plimsoll_app::{env_reveals::EnvRequest, queue::rpc::RemoteError};
use plimsoll_domain::ids::ContainerId;
use serde_json::{Value, json};

use super::engine_failed;
use crate::docker::Engine;

/// `KEY=value`, in the engine's order.
///
/// # Errors
/// `not-found`, `engine`, `bad-request`. None of them repeats a value.
pub(super) async fn environment(engine: &Engine, payload: Value) -> Result<Value, RemoteError> {
    let bad = |what: String| RemoteError::new("bad-request", what);
    let EnvRequest { container_id } =
        serde_json::from_value(payload).map_err(|e| bad(e.to_string()))?;
    let container = ContainerId::parse(&container_id)
        .ok_or_else(|| bad("containerId is not a container id".to_owned()))?;
    let mut inspect = engine.inspect(&container).await.map_err(engine_failed)?;
    // A container without any has null.
    Ok(match inspect["Config"]["Env"].take() {
        Value::Null => json!([]),
        pairs => pairs,
    })
}
