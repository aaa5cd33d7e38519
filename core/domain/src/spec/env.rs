//! Environment (reliability.md S1).
//!
//! The engine appends the image's variables to the user's, for names the user did not give. So
//! the user's part is what is left without the image's, by name: a name may occur several times,
//! the last one wins, and dropping one of several would change the winner.

use serde_json::Value;

use super::{Notes, Source, json};

pub(super) struct Env {
    /// What the user set, in order.
    pub(super) send: Vec<String>,
    /// What the engine will show.
    pub(super) expected: Vec<String>,
}

/// A variable's name. An entry without `=` is a name alone: it removes the variable.
fn name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or(entry)
}

fn of_name<'a>(entries: &[&'a str], wanted: &str) -> Vec<&'a str> {
    entries
        .iter()
        .copied()
        .filter(|entry| name(entry) == wanted)
        .collect()
}

/// Whether a name's entries are just the image's. The engine takes all of them when the user gave
/// no environment at all, and only the first otherwise.
fn is_inherited(container: &[&str], image: &[&str], wanted: &str) -> bool {
    let ours = of_name(container, wanted);
    let theirs = of_name(image, wanted);
    !theirs.is_empty() && (ours == theirs || ours == theirs[..1])
}

pub(super) fn merge(
    container: &[&str],
    old_image: &[&str],
    new_image: &[&str],
    notes: &mut Notes,
) -> Env {
    let send: Vec<&str> = container
        .iter()
        .copied()
        .filter(|entry| !is_inherited(container, old_image, name(entry)))
        .collect();
    let expected = if send.is_empty() {
        new_image.to_vec()
    } else {
        let mut all = send.clone();
        for entry in new_image {
            if of_name(&all, name(entry)).is_empty() {
                all.push(entry);
            }
        }
        all
    };

    let mut seen = Vec::new();
    for entry in container.iter().chain(&expected) {
        let wanted = name(entry);
        if seen.contains(&wanted) {
            continue;
        }
        seen.push(wanted);
        let source = if of_name(&send, wanted).is_empty() {
            Source::NewImage
        } else {
            Source::User
        };
        let value = |entries: &[&str]| match of_name(entries, wanted).last() {
            // A name alone is told from an empty value.
            Some(entry) => entry
                .split_once('=')
                .map_or(Value::Bool(false), |(_, value)| Value::from(value)),
            None => Value::Null,
        };
        notes.field(
            format!("Env.{wanted}"),
            value(container),
            value(&expected),
            source,
        );
    }
    let owned = |entries: Vec<&str>| entries.into_iter().map(str::to_owned).collect();
    Env {
        send: owned(send),
        expected: owned(expected),
    }
}

pub(super) fn list(object: Option<&json::Object>) -> Vec<&str> {
    object
        .map(|config| json::strings(config, "Env"))
        .unwrap_or_default()
}
