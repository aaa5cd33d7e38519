//! The namespaces of other services that a service shares (`network_mode: service:web`).
//!
//! Compose puts the id of the other service's container there before it hashes the configuration,
//! so the hash of the same file is another one once that container was made anew.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What may be shared, as Compose and as the engine call it.
const SHARED: [(&str, &str); 3] = [
    ("network_mode", "NetworkMode"),
    ("ipc", "IpcMode"),
    ("pid", "PidMode"),
];
const CONTAINER: &str = "container:";

/// What Compose puts for each `service:`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// `container:<id>`, by Compose's word for the namespace.
    modes: BTreeMap<&'static str, String>,
    /// `service:` is also a dependency, which `container:` is not, and some versions hash that.
    depends_on: Value,
}

impl Namespaces {
    /// Those of other containers that the inspected one lives in.
    pub fn of(container: &Value) -> Self {
        let shared = SHARED.into_iter().filter_map(|(compose, engine)| {
            let mode = container["HostConfig"][engine].as_str()?;
            let is_shared = mode.starts_with(CONTAINER);
            is_shared.then(|| (compose, mode.to_owned()))
        });
        Self {
            modes: shared.collect(),
            depends_on: Value::Null,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.modes.is_empty()
    }

    /// Without those that the service (of `docker compose config`) does not get from another one.
    pub fn written_in(mut self, service: &Value) -> Self {
        self.modes.retain(|name, _| {
            let written = service[*name].as_str().unwrap_or_default();
            written.starts_with("service:")
        });
        self.depends_on = service["depends_on"].clone();
        self
    }

    /// Afterwards, when containers were made in the stead of others.
    pub fn moved(mut self, remaps: &BTreeMap<String, String>) -> Self {
        for mode in self.modes.values_mut() {
            let id = mode.strip_prefix(CONTAINER);
            if let Some(new) = id.and_then(|id| remaps.get(id)) {
                *mode = format!("{CONTAINER}{new}");
            }
        }
        self
    }

    /// A Compose file that says so.
    pub(super) fn file(&self, service: &str) -> String {
        let mut own = json!(self.modes);
        if !self.depends_on.is_null() {
            own["depends_on"] = self.depends_on.clone();
        }
        json!({ "services": { service: own } }).to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_gets_from_a_service_is_put_there() {
        let container = json!({ "HostConfig": {
            "NetworkMode": "container:a", "PidMode": "container:b", "IpcMode": "private",
        } });
        let all = Namespaces::of(&container);
        let service = json!({ "network_mode": "service:web", "pid": "container:b",
            "depends_on": { "web": { "required": true } } });
        let written = all.clone().written_in(&service);
        let remaps = BTreeMap::from([("a".to_owned(), "c".to_owned())]);
        assert_eq!(
            written.moved(&remaps).file("side"),
            r#"{"services":{"side":{"depends_on":{"web":{"required":true}},"network_mode":"container:c"}}}"#
        );
        assert!(all.written_in(&json!({})).is_empty());
    }
}
