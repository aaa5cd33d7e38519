//! Labels (reliability.md S4, S25).

use serde_json::Value;

use super::json::{self, Object};
use super::{Notes, Source, SpecInput};

/// The operation that created a container.
pub const OPERATION_LABEL: &str = "plimsoll.operation";
/// The lease epoch under which it was created.
pub const EPOCH_LABEL: &str = "plimsoll.epoch";
/// What it is in its operation: `new`.
pub const ROLE_LABEL: &str = "plimsoll.role";

const OURS: [&str; 3] = [OPERATION_LABEL, EPOCH_LABEL, ROLE_LABEL];
/// Compose compares this with the image that its file resolves to, and re-creates on a difference.
const COMPOSE_IMAGE: &str = "com.docker.compose.image";
const COMPOSE: &str = "com.docker.compose.";

pub(super) struct Labels {
    pub(super) send: Object,
    pub(super) expected: Object,
}

pub(super) fn merge(
    input: &SpecInput<'_>,
    container: &Object,
    old_image: Option<&Object>,
    new_image: Option<&Object>,
    notes: &mut Notes,
) -> Labels {
    let empty = Object::new();
    let labels = |config: Option<&Object>| -> Object {
        config
            .and_then(|config| config.get("Labels")?.as_object())
            .unwrap_or(&empty)
            .clone()
    };
    let (current, old_default, new_default) = (
        labels(Some(container)),
        labels(old_image),
        labels(new_image),
    );
    let mut send = Object::new();
    for (key, value) in &current {
        let inherited = old_default.get(key) == Some(value) && !key.starts_with(COMPOSE);
        if !inherited && !OURS.contains(&key.as_str()) {
            send.insert(key.clone(), value.clone());
        }
    }
    if send.contains_key(COMPOSE_IMAGE)
        && let Some(id) = input.new_image.get("Id")
    {
        send.insert(COMPOSE_IMAGE.to_owned(), id.clone());
    }
    for (key, value) in input.labels {
        send.insert(key.clone(), Value::from(value.as_str()));
    }
    let mut expected = send.clone();
    for (key, value) in &new_default {
        expected.entry(key.clone()).or_insert_with(|| value.clone());
    }

    let mut keys: Vec<&String> = current.keys().chain(expected.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let source = if OURS.contains(&key.as_str())
            || input.labels.contains_key(key)
            || (key == COMPOSE_IMAGE && send.contains_key(key))
        {
            Source::Plimsoll
        } else if send.contains_key(key) {
            Source::User
        } else {
            Source::NewImage
        };
        let of = |labels: &Object| json::member(labels, key).clone();
        notes.field(format!("Labels.{key}"), of(&current), of(&expected), source);
    }
    Labels { send, expected }
}
