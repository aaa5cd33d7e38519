//! Which versions a container may go to, in the words of Docksmith's labels (`docksmith.*`).
//! `candidate` obeys them beside the filters of `dd.tag.*`.

use serde::{Deserialize, Serialize};

/// How much of the running version an update must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pin {
    Major,
    Minor,
    /// Only the rest may move: a fourth part, a build counter.
    Patch,
}

impl Pin {
    /// How many numeric parts stay.
    pub fn parts(self) -> usize {
        match self {
            Pin::Major => 1,
            Pin::Minor => 2,
            Pin::Patch => 3,
        }
    }
}

/// What labels say about versions. Only what the user set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct VersionRules {
    /// A mutable tag is meant: its digest is watched, and no version is recommended in its place.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_latest: bool,
    /// A release may go to a pre-release, and a pre-release to one of another kind.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allow_prerelease: bool,
    /// The strictest of those that are set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pin: Option<Pin>,
    /// A regular expression that candidates must match. Unlike `dd.tag.include` it only narrows: it
    /// leads to no other flavour and makes no floating tag climb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_regex: Option<String>,
    /// The least and the greatest version, both included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<String>,
    /// Limits that cannot be read, as messages for people: nothing is proposed until they can be,
    /// because nobody knows what they were to prevent.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unreadable: Vec<String>,
}
