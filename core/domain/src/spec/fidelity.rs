//! Is the new container what was planned? (Invariant I-7 of reliability.md 2.1.)
//!
//! Both sides are brought into one form first: absent, null and empty are the same, lists without
//! an order are sorted, and what the engine chose for this container (its host name, its short id
//! as an alias) is left out.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::json::{self, Object};
use super::mounts::Volumes;
use super::network::{self, Networks};
use super::{EngineFacts, SpecInput, host};

/// One unexplained difference between the plan and the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// `Config.Env`, `HostConfig.Memory`, `Networks.app`, `Volumes./data`, `Image`.
    pub path: String,
    pub expected: Value,
    pub actual: Value,
}

/// Compares [`super::NewSpec::expected`] with an inspection of the new container, created or
/// running. Empty means faithful.
pub fn fidelity(expected: &Value, inspect: &Value) -> Vec<Difference> {
    let Ok(engine) = serde_json::from_value::<EngineFacts>(expected["Engine"].clone()) else {
        return vec![Difference {
            path: "Engine".to_owned(),
            expected: expected["Engine"].clone(),
            actual: Value::Null,
        }];
    };
    let actual = normalised(inspect, &engine);
    let mut differences = Vec::new();
    if expected["Image"] != actual["Image"] {
        differences.push(Difference {
            path: "Image".to_owned(),
            expected: expected["Image"].clone(),
            actual: actual["Image"].clone(),
        });
    }
    let empty = Object::new();
    for section in ["Config", "HostConfig", "Networks"] {
        let wanted = json::object(expected, section).unwrap_or(&empty);
        let found = json::object(&actual, section).unwrap_or(&empty);
        let mut keys: Vec<&String> = wanted.keys().chain(found.keys()).collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            let (wanted, found) = (json::member(wanted, key), json::member(found, key));
            if wanted != found {
                differences.push(Difference {
                    path: format!("{section}.{key}"),
                    expected: wanted.clone(),
                    actual: found.clone(),
                });
            }
        }
    }
    differences.extend(volume_differences(expected, &actual));
    differences
}

/// Volumes by name. A volume that the new image brought has a name nobody could predict, and those
/// of `--volumes-from` are the other container's.
fn volume_differences(expected: &Value, actual: &Value) -> Vec<Difference> {
    let empty = Object::new();
    let wanted = json::object(expected, "Volumes").unwrap_or(&empty);
    let found = json::object(actual, "Volumes").unwrap_or(&empty);
    wanted
        .iter()
        .filter(|(path, name)| found.get(*path) != Some(*name))
        .map(|(path, name)| Difference {
            path: format!("Volumes.{path}"),
            expected: name.clone(),
            actual: json::member(found, path).clone(),
        })
        .collect()
}

pub(super) fn expected(
    input: &SpecInput<'_>,
    config: &Object,
    host: &Object,
    networks: &Networks,
    volumes: &Volumes,
) -> Value {
    let kept: Map<String, Value> = volumes
        .kept
        .iter()
        .map(|volume| {
            (
                volume.destination.clone(),
                Value::from(volume.name.as_str()),
            )
        })
        .collect();
    json!({
        "Image": input.new_image.get("Id").unwrap_or(&Value::Null),
        "Config": normalised_config(config),
        "HostConfig": host::normalised(host, input.engine),
        "Networks": networks.expected,
        "Volumes": kept,
        "NewVolumes": volumes.new,
        "Engine": input.engine,
    })
}

/// An inspection in the form of the plan.
pub(super) fn normalised(inspect: &Value, engine: &EngineFacts) -> Value {
    let empty = Object::new();
    let id = inspect["Id"].as_str().unwrap_or_default();
    let host = json::object(inspect, "HostConfig").unwrap_or(&empty);
    let mut config = json::object(inspect, "Config").unwrap_or(&empty).clone();
    let mode = json::text(host, "NetworkMode").to_owned();
    let hostname = json::text(&config, "Hostname");
    let is_chosen = id.get(..12) == Some(hostname)
        || mode.starts_with("container:")
        || json::text(host, "UTSMode") == "host"
        || (mode == "host" && engine.host_name.as_deref() == Some(hostname));
    if is_chosen {
        config.remove("Hostname");
    }
    if mode.starts_with("container:") || json::text(host, "UTSMode") == "host" {
        config.remove("Domainname");
    }
    let has_endpoints = !mode.starts_with("container:") && mode != "host" && mode != "none";
    let attached = inspect
        .get("NetworkSettings")
        .and_then(|settings| json::object(settings, "Networks"))
        .filter(|_| has_endpoints)
        .unwrap_or(&empty);
    let networks: Map<String, Value> = attached
        .iter()
        .map(|(name, endpoint)| {
            let endpoint = endpoint.as_object().unwrap_or(&empty);
            (
                name.clone(),
                network::normalised_endpoint(name, id, endpoint),
            )
        })
        .collect();
    let volumes: Map<String, Value> = inspect["Mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|mount| {
            let name = mount["Name"].as_str()?;
            let destination = mount["Destination"].as_str()?;
            Some((destination.to_owned(), Value::from(name)))
        })
        .collect();
    json!({
        "Image": inspect.get("Image").unwrap_or(&Value::Null),
        "Config": normalised_config(&config),
        "HostConfig": host::normalised(host, engine),
        "Networks": networks,
        "Volumes": volumes,
    })
}

/// Members only: an empty string in a command, or an empty label, says something.
fn normalised_config(config: &Object) -> Object {
    config
        .iter()
        .map(|(key, value)| {
            let value = match key.as_str() {
                "Healthcheck" => json::pruned(value),
                _ => value.clone(),
            };
            (key.clone(), value)
        })
        .filter(|(key, value)| key.as_str() != "OnBuild" && !json::is_unset(value))
        .collect()
}
