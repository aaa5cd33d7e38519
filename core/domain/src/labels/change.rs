//! Changing a container's labels: which may be changed at all.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::spec::{EPOCH_LABEL, OPERATION_LABEL, ROLE_LABEL};

/// Labels that speak to Plimsoll. Any other means something to somebody else: with Traefik's, for
/// instance, whoever may change labels could put a route to a service.
const PREFIXES: [&str; 3] = ["docksmith.", "dd.", "plimsoll."];
/// What Plimsoll itself writes, and recovers by.
const OURS: [&str; 3] = [OPERATION_LABEL, EPOCH_LABEL, ROLE_LABEL];
/// It names the file that Plimsoll writes to on the worker's host.
const COMPOSE_FILE: &str = "dd.compose.file";
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 4096;
/// More than anyone changes at once.
const MAX_LABELS: usize = 32;

/// Whether a label of that key says something to Plimsoll, and not of it.
pub(super) fn speaks_to_us(key: &str) -> bool {
    let is_known = PREFIXES.iter().any(|prefix| {
        key.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty())
    });
    is_known && !OURS.contains(&key)
}

/// Labels that are to be set and removed, all of which may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Wanted")]
pub struct LabelChange {
    set: BTreeMap<String, String>,
    remove: BTreeSet<String>,
}

/// What an operation is to do with labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelRequest {
    pub change: LabelChange,
    pub reach: LabelReach,
}

/// How far a change of labels goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelReach {
    /// The container has them: it is made anew.
    Container,
    /// The Compose file only: the container gets them when it is made anew the next time.
    File,
}

/// As it is stored.
#[derive(Deserialize)]
struct Wanted {
    set: BTreeMap<String, String>,
    remove: BTreeSet<String>,
}

/// Why labels are not changed. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LabelRefused {
    #[error("No label is named")]
    Nothing,
    #[error("More than {MAX_LABELS} labels cannot be changed at once")]
    TooMany,
    #[error(
        "The label `{0}` cannot be changed: only labels that begin with docksmith., dd. or \
         plimsoll. can, of letters, digits, dots, hyphens and underscores"
    )]
    Key(String),
    #[error("The label `{0}` cannot be changed: Plimsoll writes it itself")]
    Ours(String),
    #[error(
        "The label `{COMPOSE_FILE}` cannot be changed here: it says which file Plimsoll writes to"
    )]
    File,
    #[error(
        "The value of the label `{0}` is longer than {MAX_VALUE} bytes or holds a character that cannot be shown"
    )]
    Value(String),
    #[error("The label `{0}` cannot be set and removed at once")]
    Both(String),
}

impl LabelChange {
    /// # Errors
    /// The first label that may not be changed, or not so.
    pub fn new(
        set: BTreeMap<String, String>,
        remove: BTreeSet<String>,
    ) -> Result<Self, LabelRefused> {
        match set.len() + remove.len() {
            0 => return Err(LabelRefused::Nothing),
            many if many > MAX_LABELS => return Err(LabelRefused::TooMany),
            _ => {}
        }
        for key in set.keys().chain(&remove) {
            let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if OURS.contains(&key.as_str()) {
                return Err(LabelRefused::Ours(key.clone()));
            }
            if !speaks_to_us(key) || key.len() > MAX_KEY || !key.bytes().all(word) {
                return Err(LabelRefused::Key(cut(key)));
            }
            if key == COMPOSE_FILE {
                return Err(LabelRefused::File);
            }
        }
        for (key, value) in &set {
            // What a file keeps on one line, whatever reads it.
            let odd = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}');
            if value.len() > MAX_VALUE || value.chars().any(odd) {
                return Err(LabelRefused::Value(key.clone()));
            }
            if remove.contains(key) {
                return Err(LabelRefused::Both(key.clone()));
            }
        }
        Ok(Self { set, remove })
    }

    pub fn set(&self) -> &BTreeMap<String, String> {
        &self.set
    }

    pub fn remove(&self) -> &BTreeSet<String> {
        &self.remove
    }

    /// Each label with the value that it is to have; `None`: it is to go.
    pub fn wanted(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let set = self.set.iter().map(|(key, value)| (&**key, Some(&**value)));
        set.chain(self.remove.iter().map(|key| (&**key, None)))
    }
}

impl TryFrom<Wanted> for LabelChange {
    type Error = LabelRefused;

    fn try_from(wanted: Wanted) -> Result<Self, LabelRefused> {
        Self::new(wanted.set, wanted.remove)
    }
}

fn cut(key: &str) -> String {
    key.chars()
        .filter(|c| !c.is_control())
        .take(MAX_KEY)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(set: &[(&str, &str)], remove: &[&str]) -> Result<LabelChange, LabelRefused> {
        LabelChange::new(
            set.iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            remove.iter().map(|key| (*key).to_owned()).collect(),
        )
    }

    #[test]
    fn only_labels_that_speak_to_plimsoll_can_be_changed() {
        for key in [
            "docksmith.ignore",
            "docksmith.auto_rollback",
            "dd.watch",
            "dd.tag.include",
            "plimsoll.update.stability",
        ] {
            assert!(change(&[(key, "x")], &[]).is_ok(), "{key}");
            assert!(change(&[], &[key]).is_ok(), "{key}");
        }
        for key in [
            "",
            "docksmith",
            "docksmith.",
            "dd",
            "dd.",
            "DD.watch",
            "wud.watch",
            "traefik.enable",
            "com.docker.compose.project",
            "xdocksmith.ignore",
            " docksmith.ignore",
            "docksmith.ignore ",
            "docksmith.ig nore",
            "docksmith.a:b",
            "docksmith.a=b",
            "docksmith.a\nb",
            "docksmith.a\0",
            "docksmith.$HOME",
            "docksmith.'a",
            "docksmith.\u{e4}",
            "plimsoll.operation",
            "plimsoll.epoch",
            "plimsoll.role",
            "dd.compose.file",
            &format!("dd.{}", "a".repeat(200)),
        ] {
            assert!(change(&[(key, "x")], &[]).is_err(), "{key:?}");
            assert!(change(&[], &[key]).is_err(), "{key:?}");
        }
    }

    #[test]
    fn a_change_says_something_and_one_thing_only() {
        assert_eq!(change(&[], &[]), Err(LabelRefused::Nothing));
        let both = change(&[("dd.watch", "true")], &["dd.watch"]);
        assert_eq!(both, Err(LabelRefused::Both("dd.watch".to_owned())));
        for value in [
            "a\nb",
            "a\rb",
            "a\tb",
            "\0",
            "\u{85}",
            "\u{2028}",
            &"x".repeat(5000),
        ] {
            assert!(change(&[("dd.watch", value)], &[]).is_err(), "{value:?}");
        }
        for value in ["", "true", r"^v\d+$", "it's \"so\" # {x}: *y", "größer"] {
            assert!(change(&[("dd.watch", value)], &[]).is_ok(), "{value:?}");
        }
        let keys: Vec<String> = (0..33).map(|n| format!("dd.a{n}")).collect();
        let many: Vec<&str> = keys.iter().map(String::as_str).collect();
        assert_eq!(change(&[], &many), Err(LabelRefused::TooMany));
    }

    #[test]
    fn what_was_stored_is_judged_again() {
        let good = change(&[("dd.watch", "true")], &["docksmith.ignore"]).unwrap();
        let stored = serde_json::to_string(&good).unwrap();
        assert_eq!(serde_json::from_str::<LabelChange>(&stored).unwrap(), good);
        let bad = r#"{"set":{"traefik.enable":"true"},"remove":[]}"#;
        assert!(serde_json::from_str::<LabelChange>(bad).is_err());
    }
}
