//! What a container's labels ask for (`dd.*`, older `wud.*`, Docksmith's `docksmith.*`;
//! reference/drydock.md 3, reference/docksmith-dokploy-dockup.md 1.4).

mod change;
mod parse;
mod steps;
mod versions;

pub use change::{LabelChange, LabelReach, LabelRefused, LabelRequest};
pub use parse::{UserLabels, source_repo};
pub use steps::{PostUpdate, ScriptPath, StepRules};
pub use versions::{Pin, VersionRules};

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
    #[serde(skip_serializing_if = "is_default")]
    pub versions: VersionRules,
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
    /// In place of the two above, for triggers that act.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_include: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_exclude: Option<String>,
    /// Triggers that may act by themselves where they do so for those that ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_auto: Option<String>,
    /// In place of the first two, for triggers that tell people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_include: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notification_exclude: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_enabled: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub rollback: RollbackRules,
    /// Whether what a scan finds in an update's image blocks it; the default is yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub security_gate: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub hooks: HookRules,
    #[serde(skip_serializing_if = "is_default")]
    pub steps: StepRules,
    /// How long a new container without healthcheck must run to count as good; seconds, at
    /// least 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stability_secs: Option<u32>,
    /// A policy written as labels; the user's own policy is laid over it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<UpdatePolicy>,
    /// `dd.update.mode=infrastructure`: Plimsoll stands on it, so it is updated as Plimsoll's own
    /// container is.
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

/// Which triggers a container names and bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TriggerLists<'a> {
    pub include: Option<&'a str>,
    pub exclude: Option<&'a str>,
}

impl ContainerRules {
    /// For triggers that act: `dd.action.*`, else `dd.trigger.*`.
    pub fn actions(&self) -> TriggerLists<'_> {
        self.lists(&self.action_include, &self.action_exclude)
    }

    /// For triggers that tell people: `dd.notification.*`, else `dd.trigger.*`.
    pub fn notifications(&self) -> TriggerLists<'_> {
        self.lists(&self.notification_include, &self.notification_exclude)
    }

    fn lists<'a>(
        &'a self,
        include: &'a Option<String>,
        exclude: &'a Option<String>,
    ) -> TriggerLists<'a> {
        TriggerLists {
            include: include
                .as_ref()
                .or(self.trigger_include.as_ref())
                .map(String::as_str),
            exclude: exclude
                .as_ref()
                .or(self.trigger_exclude.as_ref())
                .map(String::as_str),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
