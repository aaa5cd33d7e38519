//! What a service has of other services: their namespaces (`network_mode: service:web`) and their
//! volumes (`volumes_from: [web]`).
//!
//! Compose puts the id of the other service's container there before it hashes the configuration,
//! so the hash of the same file is another one once that container was made anew. Of `volumes_from`
//! it leaves out more, `container:` and the mode, and what it hashes is what the engine shows.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What may be shared, as Compose and as the engine call it.
const SHARED: [(&str, &str); 3] = [
    ("network_mode", "NetworkMode"),
    ("ipc", "IpcMode"),
    ("pid", "PidMode"),
];
const CONTAINER: &str = "container:";

/// What Compose puts for what the file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Borrowed {
    /// `container:<id>`, by Compose's word for the namespace.
    modes: BTreeMap<&'static str, String>,
    /// `<id>` or a name each, as the engine shows them.
    volumes_from: Vec<String>,
}

impl Borrowed {
    /// What the inspected container has of others.
    pub fn of(container: &Value) -> Self {
        let host = &container["HostConfig"];
        let shared = SHARED.into_iter().filter_map(|(compose, engine)| {
            let mode = host[engine].as_str()?;
            let is_shared = mode.starts_with(CONTAINER);
            is_shared.then(|| (compose, mode.to_owned()))
        });
        let volumes_from = host["VolumesFrom"].as_array().into_iter().flatten();
        Self {
            modes: shared.collect(),
            volumes_from: volumes_from
                .filter_map(|entry| Some(entry.as_str()?.to_owned()))
                .collect(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.modes.is_empty() && self.volumes_from.is_empty()
    }

    /// Afterwards, when containers were made in the stead of others.
    pub fn moved(mut self, remaps: &BTreeMap<String, String>) -> Self {
        for mode in self.modes.values_mut() {
            let id = mode.strip_prefix(CONTAINER);
            if let Some(new) = id.and_then(|id| remaps.get(id)) {
                *mode = format!("{CONTAINER}{new}");
            }
        }
        for entry in &mut self.volumes_from {
            let (id, mode) = entry.split_at(entry.find(':').unwrap_or(entry.len()));
            if let Some(new) = remaps.get(id) {
                *entry = format!("{new}{mode}");
            }
        }
        self
    }

    /// Puts it into the service (of `docker compose config`), as `up` does: where the service gets
    /// a namespace from another one, and for all volumes.
    pub(super) fn put_into(&self, service: &mut Value) {
        for (name, mode) in &self.modes {
            let written = service[*name].as_str().unwrap_or_default();
            if written.starts_with("service:") {
                service[*name] = json!(mode);
            }
        }
        let written = service["volumes_from"].as_array().map_or(0, Vec::len);
        if written > 0 && written == self.volumes_from.len() {
            service["volumes_from"] = json!(self.volumes_from);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_file_gets_from_a_service_is_put_there() {
        let container = json!({ "HostConfig": {
            "NetworkMode": "container:a", "PidMode": "container:b", "IpcMode": "private",
            "VolumesFrom": ["a", "name", "b:ro"],
        } });
        let remaps = BTreeMap::from([("a".to_owned(), "c".to_owned())]);
        let all = Borrowed::of(&container).moved(&remaps);
        let check = |mut service: Value, expected: Value| {
            all.put_into(&mut service);
            assert_eq!(service, expected);
        };
        check(
            json!({ "network_mode": "service:web", "pid": "container:b",
                "volumes_from": ["web:ro", "container:name:ro", "db"] }),
            json!({ "network_mode": "container:c", "pid": "container:b",
                "volumes_from": ["c", "name", "b:ro"] }),
        );
        // The container was not made from this.
        check(
            json!({ "volumes_from": ["web"] }),
            json!({ "volumes_from": ["web"] }),
        );
        let none = Borrowed::of(&json!({ "HostConfig": { "NetworkMode": "bridge" } }));
        assert!(none.is_empty());
        assert!(!all.is_empty());
    }
}
