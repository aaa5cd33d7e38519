//! What a container's labels ask for (`dd.*`, older `wud.*`; reference/drydock.md 3).

mod parse;

pub use parse::{UserLabels, source_repo};

use serde::{Deserialize, Serialize};

use crate::policy::UpdatePolicy;

/// How far a candidate's suffix may differ from the current tag's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagFamily {
    /// Same prefix, same number of parts, same shape of suffix.
    #[default]
    Strict,
    /// Any precision and suffix; a leading `v` may come or go. Still never from a release to a
    /// pre-release.
    Loose,
}

/// A command before and after an update. Only from labels that the user set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HookRules {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub post: Option<String>,
    /// Whether a failing `pre` ends the update; Drydock's default is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_abort: Option<bool>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u32>,
}

/// Watching an updated container for some time after the update, and going back by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RollbackRules {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auto: Option<bool>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window_ms: Option<u32>,
    /// Milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval_ms: Option<u32>,
    /// Whether a target that was rolled back stays blocked; the default is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gate: Option<bool>,
}

/// Everything that labels ask for, typed. A field is `None` where no label speaks.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerRules {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<bool>,
    /// A regular expression; `pattern::Pattern` compiles it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_tags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_tags: Option<String>,
    /// `regex => replacement`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform_tags: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_family: Option<TagFamily>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch_digest: Option<bool>,
    /// Look for updates in this repository instead (mirrors).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup_image: Option<String>,
    /// Where in the image's inspect document the version stands, e.g. `Config/Labels/version`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspect_tag_path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_icon: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_picture: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_template: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_include: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_exclude: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_enabled: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub rollback: RollbackRules,
    /// Whether what a scan finds in an update's image blocks it; the default is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_gate: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub hooks: HookRules,
    /// How long a new container without healthcheck must run to count as good; seconds, at
    /// least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stability_secs: Option<u32>,
    /// A policy written as labels; the user's own policy is laid over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<UpdatePolicy>,
    /// `dd.update.mode=infrastructure`: updated like Plimsoll itself, not by a running worker.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub infrastructure: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compose_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repo: Option<String>,
    /// Labels that could not be understood, each as a message for people.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
