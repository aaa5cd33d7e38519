//! Home Assistant's discovery: an update entity for each container, and counts.

use plimsoll_runtime::settings::notifiers::{self as configured, HassAttributes};
use serde_json::{Map, Value, json};

use super::wire::Publication;

/// Names and versions; the kind of the update besides.
const SHORT: &[&str] = &[
    "id",
    "name",
    "display_name",
    "agent",
    "watcher",
    "status",
    "image_name",
    "image_tag_value",
    "result_tag",
    "result_digest",
    "result_link",
    "update_available",
];

pub struct Hass {
    prefix: String,
    discovery: bool,
    attributes: HassAttributes,
}

/// The entities' common device.
fn device() -> Value {
    json!({
        "identifiers": ["plimsoll"],
        "manufacturer": "Plimsoll",
        "model": "Plimsoll",
        "name": "Plimsoll",
        "sw_version": env!("CARGO_PKG_VERSION"),
    })
}

impl Hass {
    /// `None` where it is switched off.
    pub fn new(own: &configured::Hass) -> Option<Self> {
        own.enabled.then(|| Self {
            prefix: own.prefix.trim_end_matches('/').to_owned(),
            discovery: own.discovery,
            attributes: own.attributes,
        })
    }

    /// Takes out of a container's state what is not wanted: Home Assistant keeps every change of it.
    pub fn trim(&self, state: &mut Map<String, Value>) {
        if self.attributes == HassAttributes::Short {
            state.retain(|name, _| SHORT.contains(&&**name) || name.starts_with("update_kind_"));
        }
    }

    /// The update entity of a container whose state is under `topic`.
    pub fn about(&self, container: &Value, topic: &str) -> Option<Publication> {
        if !self.discovery {
            return None;
        }
        let text = |key: &str| container[key].as_str().unwrap_or_default();
        let id = slug(topic);
        let mut entity = json!({
            "unique_id": id,
            "object_id": id,
            "name": match text("displayName") {
                "" => text("name"),
                name => name,
            },
            "device": device(),
            "icon": text("displayIcon").replace("mdi-", "mdi:"),
            "force_update": true,
            "state_topic": topic,
            "json_attributes_topic": topic,
            "value_template": "{{ value_json.image_tag_value }}",
            "latest_version_topic": topic,
            "latest_version_template":
                "{% if value_json.update_kind_kind == 'digest' %}{{ value_json.result_digest[:15] }}\
                 {% else %}{{ value_json.result_tag | default(value_json.image_tag_value) }}{% endif %}",
        });
        if let Some(link) = container["result"]["link"].as_str() {
            entity["release_url"] = link.into();
        }
        if let Some(picture) = container["displayPicture"].as_str() {
            entity["entity_picture"] = picture.into();
        }
        Some(Publication {
            topic: format!("{}/update/{id}/config", self.prefix),
            payload: entity.to_string().into_bytes(),
        })
    }

    /// How many containers and updates there are.
    pub fn counts(&self, base: &str, total: usize, updates: usize) -> Vec<Publication> {
        let mut all = Vec::new();
        for (kind, name, title, value) in [
            (
                "sensor",
                "total_count",
                "Total container count",
                total.to_string(),
            ),
            (
                "sensor",
                "update_count",
                "Total container update count",
                updates.to_string(),
            ),
            (
                "binary_sensor",
                "update_status",
                "Total container update status",
                (updates > 0).to_string(),
            ),
        ] {
            let topic = format!("{base}/{name}");
            let id = slug(&topic);
            if self.discovery {
                let mut entity = json!({
                    "unique_id": id,
                    "object_id": id,
                    "name": title,
                    "device": device(),
                    "state_topic": topic,
                });
                if kind == "binary_sensor" {
                    entity["payload_on"] = "true".into();
                    entity["payload_off"] = "false".into();
                }
                all.push(Publication {
                    topic: format!("{}/{kind}/{id}/config", self.prefix),
                    payload: entity.to_string().into_bytes(),
                });
            }
            all.push(Publication {
                topic,
                payload: value.into_bytes(),
            });
        }
        all
    }
}

/// What Home Assistant takes for an id.
fn slug(topic: &str) -> String {
    topic
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '_'
            }
        })
        .collect()
}
