//! Health check (reliability.md S5). The engine fills each part that the user left out from the
//! image's check, so each part is decided by itself.

use serde_json::{Value, json};

use super::json::{self, Object};
use super::{Notes, Source};

const PARTS: &[&str] = &[
    "Test",
    "Interval",
    "Timeout",
    "StartPeriod",
    "StartInterval",
    "Retries",
];

pub(super) struct Health {
    pub(super) send: Option<Value>,
    pub(super) expected: Value,
}

fn check(config: Option<&Object>) -> Option<&Object> {
    config?.get("Healthcheck")?.as_object()
}

pub(super) fn merge(
    container: &Object,
    old_image: Option<&Object>,
    new_image: Option<&Object>,
    notes: &mut Notes,
) -> Health {
    let empty = Object::new();
    let current = check(Some(container)).unwrap_or(&empty);
    let old_default = check(old_image).unwrap_or(&empty);
    let new_default = check(new_image).unwrap_or(&empty);
    let mut send = Object::new();
    let mut expected = Object::new();
    for part in PARTS {
        let value = json::member(current, part);
        let own = !json::is_unset(value) && value != json::member(old_default, part);
        let new = if own {
            send.insert((*part).to_owned(), value.clone());
            value
        } else {
            json::member(new_default, part)
        };
        if !json::is_unset(new) {
            expected.insert((*part).to_owned(), new.clone());
        }
        let shown = |value: &Value| match json::is_unset(value) {
            true => Value::Null,
            false => value.clone(),
        };
        let source = if own { Source::User } else { Source::NewImage };
        notes.field(
            format!("Healthcheck.{part}"),
            shown(value),
            shown(new),
            source,
        );
    }
    let had_check = current.contains_key("Test") && current["Test"] != json!(["NONE"]);
    if had_check && !expected.contains_key("Test") {
        notes.warn(
            "The new image has no health check: the update is judged by whether the container \
             keeps running.",
        );
    }
    Health {
        send: (!send.is_empty()).then_some(Value::Object(send)),
        expected: if expected.is_empty() {
            Value::Null
        } else {
            Value::Object(expected)
        },
    }
}
