//! Watchers, registries, triggers and authentications as clients see them
//! (reference/drydock.md 1.5).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::redact::REDACTED;

/// One configured part. Its configuration never contains a secret: `new` masks them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Component {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    name: String,
    configuration: Map<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    /// What is known of it at run time, such as a watcher's `lastRunAt`.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    metadata: Map<String, Value>,
}

impl Component {
    /// `agent` is absent for a local one. The id is `type.name`, or `agent.type.name`.
    pub fn new(
        agent: Option<&str>,
        kind: &str,
        name: &str,
        mut configuration: Map<String, Value>,
    ) -> Self {
        mask(&mut configuration);
        let agent = agent.filter(|agent| !agent.is_empty());
        Self {
            id: match agent {
                Some(agent) => format!("{agent}.{kind}.{name}"),
                None => format!("{kind}.{name}"),
            },
            kind: kind.to_owned(),
            name: name.to_owned(),
            configuration,
            agent: agent.map(str::to_owned),
            metadata: Map::new(),
        }
    }

    pub fn with_metadata(self, metadata: Map<String, Value>) -> Self {
        Self { metadata, ..self }
    }

    pub fn id(&self) -> &str {
        &self.id
    }

    pub fn kind(&self) -> &str {
        &self.kind
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    pub fn configuration(&self) -> &Map<String, Value> {
        &self.configuration
    }
}

/// The contract's order: by type, then name, then agent.
pub fn sort(components: &mut [Component]) {
    components.sort_by(|a, b| (&a.kind, &a.name, &a.agent).cmp(&(&b.kind, &b.name, &b.agent)));
}

/// Names of settings that hold secrets, without separators.
const SECRET_FIELDS: &[&str] = &[
    "password",
    "passwd",
    "pass",
    "token",
    "bottoken",
    "accesstoken",
    "apikey",
    "secret",
    "clientsecret",
    "secretaccesskey",
    "accesskeyid",
    "privatekey",
    "clientkey",
    "key",
    "auth",
    "authorization",
    "bearer",
    "hash",
    "credentials",
];

/// Replaces the whole value of every setting that holds a secret, at any depth, and passwords
/// inside URLs.
fn mask(map: &mut Map<String, Value>) {
    for (name, value) in map.iter_mut() {
        let plain: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|c| c.to_ascii_lowercase())
            .collect();
        let secret_name = SECRET_FIELDS.contains(&plain.as_str());
        mask_value(value, secret_name);
    }
}

fn mask_value(value: &mut Value, secret: bool) {
    match value {
        // `auth` may be a text or a section with fields of its own.
        Value::Object(inner) => mask(inner),
        Value::Array(items) => items.iter_mut().for_each(|item| mask_value(item, secret)),
        Value::Null | Value::Bool(_) => {}
        Value::String(text) => {
            if !text.is_empty() && (secret || crate::redact::is_sensitive("", text)) {
                *value = Value::String(REDACTED.to_owned());
            }
        }
        Value::Number(_) if secret => *value = Value::String(REDACTED.to_owned()),
        Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn configuration(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn ids_name_agent_type_and_name() {
        let local = Component::new(None, "docker", "local", Map::new());
        assert_eq!(
            serde_json::to_value(&local).unwrap(),
            json!({"id": "docker.local", "type": "docker", "name": "local", "configuration": {}})
        );
        let remote = Component::new(Some("nas"), "docker", "local", Map::new());
        assert_eq!(
            (remote.id(), remote.agent()),
            ("nas.docker.local", Some("nas"))
        );
    }

    #[test]
    fn secrets_are_masked_whole_at_any_depth() {
        let component = Component::new(
            None,
            "custom",
            "x",
            configuration(json!({
                "url": "https://registry", "login": "ann", "password": "p", "TOKEN": "t",
                "auth": {"user": "u", "client_secret": "s"}, "key": 7, "token_set": true,
                "empty": "", "clientkey": "", "proxy": "http://u:p@proxy",
                "tls": {"privateKey": ["a"]},
            })),
        );
        assert_eq!(
            Value::Object(component.configuration().clone()),
            json!({
                "url": "https://registry", "login": "ann", "password": REDACTED, "TOKEN": REDACTED,
                "auth": {"user": "u", "client_secret": REDACTED}, "key": REDACTED,
                "token_set": true, "empty": "", "clientkey": "", "proxy": REDACTED,
                "tls": {"privateKey": [REDACTED]},
            })
        );
    }

    #[test]
    fn components_sort_by_type_then_name() {
        let mut list = [("slack", "b"), ("docker", "z"), ("slack", "a")]
            .map(|(kind, name)| Component::new(None, kind, name, Map::new()));
        sort(&mut list);
        let ids: Vec<_> = list.iter().map(Component::id).collect();
        assert_eq!(ids, ["docker.z", "slack.a", "slack.b"]);
    }
}
