//! What is on an engine: containers, images, networks and volumes, who uses them, and what nothing
//! may remove ([`keep`]); what a removal takes ([`removal`]).

pub mod keep;
pub mod removal;
mod view;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use keep::{Keep, Obstacle};
pub use view::{Explored, Seen, User};

/// Labels, as the engine has them.
pub type Labels = BTreeMap<String, String>;

/// Docker's own networks, which cannot be removed.
const BUILT_IN: [&str; 6] = [
    "bridge",
    "host",
    "none",
    "nat",
    "ingress",
    "docker_gwbridge",
];
/// Set by engines from 23.0 on; before that a name is all there is to tell by.
const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// Of Compose.
pub const PROJECT: &str = "com.docker.compose.project";

/// A container, as far as others depend on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Container {
    pub id: String,
    pub name: String,
    /// As it was created.
    pub image: String,
    pub image_id: String,
    /// Docker's own word.
    pub state: String,
    /// For people.
    pub status: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub labels: Labels,
    /// Names and ids: one that never ran knows its networks by name alone.
    pub networks: BTreeSet<String>,
    /// Names of volumes.
    pub volumes: BTreeSet<String>,
}

impl Container {
    /// Whether it is left alone by what takes stopped containers.
    pub fn is_alive(&self) -> bool {
        !matches!(
            self.state.as_str(),
            "created" | "exited" | "dead" | "removing"
        )
    }

    pub fn project(&self) -> Option<&str> {
        self.labels.get(PROJECT).map(String::as_str)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    pub id: String,
    /// `repository:tag`
    pub tags: Vec<String>,
    /// `repository@digest`
    pub digests: Vec<String>,
    /// Bytes, with what it shares with others.
    pub size: u64,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub labels: Labels,
}

impl Image {
    /// Whether it lost its tags to others, as Docker's own prune understands it.
    pub fn is_dangling(&self) -> bool {
        self.tags.is_empty()
    }

    /// For people.
    pub fn name(&self) -> &str {
        let names = self.tags.first().or(self.digests.first());
        names.unwrap_or(&self.id)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    pub id: String,
    pub name: String,
    pub driver: String,
    /// `local` or `swarm`.
    pub scope: String,
    pub internal: bool,
    pub ingress: bool,
    /// RFC 3339, as the engine says it.
    pub created: String,
    pub labels: Labels,
}

impl Network {
    pub fn is_built_in(&self) -> bool {
        self.ingress || BUILT_IN.contains(&self.name.as_str())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Volume {
    pub name: String,
    pub driver: String,
    pub scope: String,
    pub mount_point: String,
    /// RFC 3339, as the engine says it.
    pub created: Option<String>,
    pub labels: Labels,
}

impl Volume {
    /// Whether nobody gave it a name.
    pub fn is_anonymous(&self) -> bool {
        self.labels.contains_key(ANONYMOUS)
            || (self.name.len() == 64 && self.name.bytes().all(|b| b.is_ascii_hexdigit()))
    }
}

/// Everything that one engine has, listed at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contents {
    pub containers: Vec<Container>,
    pub images: Vec<Image>,
    pub networks: Vec<Network>,
    pub volumes: Vec<Volume>,
}

impl Contents {
    pub fn users_of_image<'a>(
        &'a self,
        image: &'a Image,
    ) -> impl Iterator<Item = &'a Container> + 'a {
        let all = self.containers.iter();
        all.filter(move |container| container.image_id == image.id)
    }

    /// Containers in any state: one that is stopped cannot start without its networks.
    pub fn users_of_network<'a>(
        &'a self,
        network: &'a Network,
    ) -> impl Iterator<Item = &'a Container> + 'a {
        let all = self.containers.iter();
        all.filter(move |container| {
            container.networks.contains(&network.id) || container.networks.contains(&network.name)
        })
    }

    pub fn users_of_volume<'a>(
        &'a self,
        volume: &'a Volume,
    ) -> impl Iterator<Item = &'a Container> + 'a {
        let all = self.containers.iter();
        all.filter(move |container| container.volumes.contains(&volume.name))
    }

    /// As it will be when these containers are gone.
    pub fn without(&self, containers: &BTreeSet<String>) -> Self {
        let mut rest = self.clone();
        rest.containers.retain(|one| !containers.contains(&one.id));
        rest
    }
}

/// A label that objects must carry, `key` or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LabelFilter {
    pub key: String,
    /// `None`: any value.
    pub value: Option<String>,
}

impl LabelFilter {
    /// `None` without a key.
    pub fn parse(text: &str) -> Option<Self> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        (!key.is_empty()).then(|| Self {
            key: key.to_owned(),
            value,
        })
    }

    pub fn holds(&self, labels: &Labels) -> bool {
        match (labels.get(&self.key), &self.value) {
            (Some(found), Some(wanted)) => found == wanted,
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        }
    }
}

impl From<LabelFilter> for String {
    fn from(filter: LabelFilter) -> Self {
        match filter.value {
            Some(value) => format!("{}={value}", filter.key),
            None => filter.key,
        }
    }
}

impl TryFrom<String> for LabelFilter {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a label filter begins with a key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_without_a_name_of_its_own_is_anonymous() {
        let volume = |name: &str, label: Option<&str>| Volume {
            name: name.to_owned(),
            labels: label
                .map(|key| (key.to_owned(), String::new()))
                .into_iter()
                .collect(),
            ..Volume::default()
        };
        assert!(volume(&"a".repeat(64), None).is_anonymous());
        assert!(volume("short", Some(ANONYMOUS)).is_anonymous());
        assert!(!volume("data", None).is_anonymous());
        assert!(!volume(&"z".repeat(64), None).is_anonymous());
    }

    #[test]
    fn a_label_filter_asks_for_a_key_or_a_value() {
        let labels: Labels = [("team".to_owned(), "a=b".to_owned())].into();
        let holds = |text: &str| LabelFilter::parse(text).is_some_and(|f| f.holds(&labels));
        assert!(holds("team") && holds("team=a=b"));
        assert!(!holds("team=a") && !holds("other") && !holds("other="));
        assert_eq!(LabelFilter::parse("=x"), None);
    }
}
