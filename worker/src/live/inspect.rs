//! A container as its engine describes it, without secrets.

use plimsoll_app::{inspections::InspectRequest, queue::rpc::RemoteError};
use plimsoll_domain::{ids::ContainerId, redact::EnvVar};
use serde_json::Value;

use super::engine_failed;
use crate::docker::Engine;

/// # Errors
/// `not-found`, `engine`, `bad-request`.
pub(super) async fn inspect(engine: &Engine, payload: Value) -> Result<Value, RemoteError> {
    let bad = |what: String| RemoteError::new("bad-request", what);
    let InspectRequest { container_id } =
        serde_json::from_value(payload).map_err(|e| bad(e.to_string()))?;
    let container = ContainerId::parse(&container_id)
        .ok_or_else(|| bad("containerId is not a container id".to_owned()))?;
    let inspect = engine.inspect(&container).await.map_err(engine_failed)?;
    Ok(hidden(inspect))
}

/// Without the values of variables that look secret.
fn hidden(mut inspect: Value) -> Value {
    if let Some(Value::Array(pairs)) = inspect.pointer_mut("/Config/Env") {
        for pair in pairs {
            let shown = pair.as_str().map(EnvVar::from_docker);
            if let Some(variable) = shown.filter(EnvVar::is_sensitive) {
                *pair = format!("{}={}", variable.key(), variable.value()).into();
            }
        }
    }
    inspect
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_that_look_secret_are_hidden_and_nothing_else_changes() {
        let inspect = json!({"Id": "a", "Config": {"Env": ["PATH=/bin", "DB_PASSWORD=x", "FLAG"]}});
        let shown = hidden(inspect);
        assert_eq!(
            shown["Config"]["Env"],
            json!(["PATH=/bin", "DB_PASSWORD=***", "FLAG"])
        );
        assert_eq!(shown["Id"], "a");
        assert_eq!(
            hidden(json!({"Config": {"Env": null}}))["Config"]["Env"],
            Value::Null
        );
    }
}
