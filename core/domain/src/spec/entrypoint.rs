//! Entrypoint and command (reliability.md S2).
//!
//! They are one decision: a user who gave an entrypoint gave the command with it, even if it
//! reads like the image's, because the engine ignores the image's command then.

use serde_json::{Value, json};

use super::json::{self, Object};
use super::{Notes, Source};

pub(super) struct Program {
    /// `None` where the image's is to be taken.
    pub(super) send_entrypoint: Option<Value>,
    pub(super) send_command: Option<Value>,
    pub(super) expected_entrypoint: Value,
    pub(super) expected_command: Value,
}

/// A list, or `Null` for an empty one. Old images hold a command as a single string.
fn list(config: Option<&Object>, key: &str) -> Value {
    match config.map(|config| json::member(config, key)) {
        Some(Value::Array(list)) if !list.is_empty() => Value::Array(list.clone()),
        Some(Value::String(text)) if !text.is_empty() => json!([text]),
        _ => Value::Null,
    }
}

pub(super) fn merge(
    container: &Object,
    old_image: Option<&Object>,
    new_image: Option<&Object>,
    notes: &mut Notes,
) -> Program {
    let entrypoint = list(Some(container), "Entrypoint");
    let command = list(Some(container), "Cmd");
    let image_entrypoint = list(old_image, "Entrypoint");
    let image_command = list(old_image, "Cmd");
    // An absent command beside the image's own entrypoint means that the entrypoint was given and
    // happens to read the same.
    let lost_command = command.is_null() && !image_command.is_null();
    let own_entrypoint = entrypoint != image_entrypoint || lost_command;
    let own_command = own_entrypoint || command != image_command;

    let program = if own_entrypoint {
        Program {
            // [""] is how an entrypoint is cleared.
            send_entrypoint: Some(if entrypoint.is_null() {
                json!([""])
            } else {
                entrypoint.clone()
            }),
            send_command: (!command.is_null()).then(|| command.clone()),
            expected_entrypoint: entrypoint.clone(),
            expected_command: command.clone(),
        }
    } else {
        Program {
            send_entrypoint: None,
            send_command: own_command.then(|| command.clone()),
            expected_entrypoint: list(new_image, "Entrypoint"),
            expected_command: if own_command {
                command.clone()
            } else {
                list(new_image, "Cmd")
            },
        }
    };
    let source = |own| {
        if own { Source::User } else { Source::NewImage }
    };
    let expected = program.expected_entrypoint.clone();
    notes.field("Entrypoint", entrypoint, expected, source(own_entrypoint));
    let expected = program.expected_command.clone();
    notes.field("Cmd", command, expected, source(own_command));
    program
}
