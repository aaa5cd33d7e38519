//! What nothing may remove, whoever asks: what is in use, what updates under way and kept ways
//! back need, what Plimsoll itself runs on, and what belongs to the engine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{
    Container, Contents, Image, LabelFilter, Labels, Network, PROJECT, Volume, removal::ObjectKind,
};
use crate::{image::ImageRef, spec::OPERATION_LABEL, target::is_rollback_name};

/// Why something stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// Docker's own network.
    BuiltIn,
    /// Services of the swarm may use it, on any host.
    Swarm,
    /// Plimsoll runs on it.
    Plimsoll,
    /// An update, rollback or action that is not over needs it.
    Operation,
    /// A kept way back needs it.
    Backup,
    /// The watcher's settings leave it to somebody else.
    OutOfScope,
    /// A container uses it, whether it runs or not.
    InUse,
    /// It runs, and nobody said that this does not matter.
    Running,
}

impl Obstacle {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Swarm => "swarm",
            Self::Plimsoll => "plimsoll",
            Self::Operation => "operation",
            Self::Backup => "backup",
            Self::OutOfScope => "out-of-scope",
            Self::InUse => "in-use",
            Self::Running => "running",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [
            Self::BuiltIn,
            Self::Swarm,
            Self::Plimsoll,
            Self::Operation,
            Self::Backup,
            Self::OutOfScope,
            Self::InUse,
            Self::Running,
        ]
        .into_iter()
        .find(|one| one.as_str() == text)
    }

    /// For people: `the volume data is kept because …`.
    pub const fn because(self) -> &'static str {
        match self {
            Self::BuiltIn => "it belongs to Docker itself",
            Self::Swarm => "services of the swarm may use it",
            Self::Plimsoll => "Plimsoll itself runs on it",
            Self::Operation => "an operation that is not over needs it",
            Self::Backup => "a kept backup needs it to go back",
            Self::OutOfScope => "it is outside of what this watcher may touch",
            Self::InUse => "a container uses it",
            Self::Running => "it is running; stop it first, or force its removal",
        }
    }

    /// For people.
    pub fn stays(self, kind: ObjectKind, name: &str) -> String {
        format!("The {} {name} stays: {}", kind.as_str(), self.because())
    }

    /// Whether people would not expect it: it is told of when it stays.
    pub const fn is_ours(self) -> bool {
        matches!(self, Self::Plimsoll | Self::Operation | Self::Backup)
    }
}

/// What is to be kept on one engine. Made of what the database knows and of what the worker knows
/// of itself; incomplete knowledge is an error before this is made, never a smaller list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keep {
    /// By id.
    pub containers: BTreeMap<String, Obstacle>,
    /// By id, tag or `repository@digest`.
    pub images: BTreeMap<String, Obstacle>,
    /// Of images that operations are about to use: what was pulled may not be known by id yet.
    pub repositories: BTreeSet<String>,
    /// Of local tags that keep images: everything under it stays.
    pub pins: String,
    /// By name or id.
    pub networks: BTreeMap<String, Obstacle>,
    /// By name.
    pub volumes: BTreeMap<String, Obstacle>,
    /// Ids of operations that are not over, as labels name them.
    pub operations: BTreeSet<String>,
    /// Compose projects that Plimsoll is part of.
    pub projects: BTreeSet<String>,
    /// The watcher's scope: what does not carry this label is somebody else's.
    pub scope: Option<LabelFilter>,
}

impl Keep {
    /// Whether the watcher's settings leave it to somebody else.
    pub fn is_foreign(&self, labels: &Labels) -> bool {
        self.scope
            .as_ref()
            .is_some_and(|scope| !scope.holds(labels))
    }

    /// The container was reserved for its removal: an operation that was asked for it waits until
    /// that is over.
    pub fn give_up(&mut self, container: &str) {
        if self.containers.get(container) == Some(&Obstacle::Operation) {
            self.containers.remove(container);
        }
    }

    fn is_own(&self, labels: &Labels) -> bool {
        let project = labels.get(PROJECT);
        project.is_some_and(|project| self.projects.contains(project))
    }

    fn of_labels(&self, labels: &Labels) -> Option<Obstacle> {
        if self.is_own(labels) {
            return Some(Obstacle::Plimsoll);
        }
        self.is_foreign(labels).then_some(Obstacle::OutOfScope)
    }

    /// Why a container stays that does not run.
    pub fn of_container(&self, container: &Container) -> Option<Obstacle> {
        let operation = container.labels.get(OPERATION_LABEL);
        if let Some(why) = self.containers.get(&container.id) {
            return Some(*why);
        }
        if operation.is_some_and(|id| self.operations.contains(id))
            || is_rollback_name(&container.name)
        {
            return Some(Obstacle::Operation);
        }
        self.of_labels(&container.labels)
    }

    pub fn of_image(&self, image: &Image, contents: &Contents) -> Option<Obstacle> {
        let names = || image.tags.iter().chain(&image.digests);
        let known = std::iter::once(&image.id).chain(names());
        if let Some(why) = known.filter_map(|name| self.images.get(name)).min() {
            return Some(*why);
        }
        if !self.pins.is_empty() && names().any(|name| under(name, &self.pins)) {
            return Some(Obstacle::Backup);
        }
        let repository = |name: &String| {
            let parsed = ImageRef::parse(name).ok()?;
            Some(parsed.repository_key())
        };
        if names()
            .filter_map(repository)
            .any(|key| self.repositories.contains(&key))
        {
            return Some(Obstacle::Operation);
        }
        // Usage before scope: it is the better answer.
        if contents.users_of_image(image).next().is_some() {
            return Some(Obstacle::InUse);
        }
        self.of_labels(&image.labels)
    }

    pub fn of_network(&self, network: &Network, contents: &Contents) -> Option<Obstacle> {
        if network.is_built_in() {
            return Some(Obstacle::BuiltIn);
        }
        if network.scope == "swarm" {
            return Some(Obstacle::Swarm);
        }
        let known = [&network.id, &network.name].into_iter();
        if let Some(why) = known.filter_map(|name| self.networks.get(name)).min() {
            return Some(*why);
        }
        if contents.users_of_network(network).next().is_some() {
            return Some(Obstacle::InUse);
        }
        self.of_labels(&network.labels)
    }

    pub fn of_volume(&self, volume: &Volume, contents: &Contents) -> Option<Obstacle> {
        if let Some(why) = self.volumes.get(&volume.name) {
            return Some(*why);
        }
        if contents.users_of_volume(volume).next().is_some() {
            return Some(Obstacle::InUse);
        }
        self.of_labels(&volume.labels)
    }
}

/// Whether the name is one of a repository under `prefix`.
fn under(name: &str, prefix: &str) -> bool {
    name.strip_prefix(prefix)
        .is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let owned = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        pairs.iter().map(owned).collect()
    }

    fn image(tags: &[&str], digests: &[&str]) -> Image {
        let texts = |all: &[&str]| all.iter().map(|text| text.to_string()).collect();
        Image {
            id: "sha256:i".to_owned(),
            tags: texts(tags),
            digests: texts(digests),
            ..Image::default()
        }
    }

    #[test]
    fn what_an_operation_has_pulled_stays_before_anything_runs_it() {
        let keep = Keep {
            repositories: [ImageRef::parse("app:2").unwrap().repository_key()].into(),
            ..Keep::default()
        };
        let digest = format!("app@sha256:{}", "a".repeat(64));
        let of = |image: &Image| keep.of_image(image, &Contents::default());
        assert_eq!(of(&image(&[], &[&digest])), Some(Obstacle::Operation));
        assert_eq!(
            of(&image(&["docker.io/library/app:1"], &[])),
            Some(Obstacle::Operation)
        );
        assert_eq!(of(&image(&["other:1"], &[])), None);
    }

    #[test]
    fn pinned_images_stay_whoever_pinned_them() {
        let keep = Keep {
            pins: "plimsoll-backup".to_owned(),
            ..Keep::default()
        };
        let of = |tag: &str| keep.of_image(&image(&[tag], &[]), &Contents::default());
        assert_eq!(of("plimsoll-backup/ab:1"), Some(Obstacle::Backup));
        assert_eq!(of("plimsoll-backups:1"), None);
    }

    #[test]
    fn networks_of_stopped_containers_are_in_use() {
        let network = Network {
            id: "n".to_owned(),
            name: "front".to_owned(),
            scope: "local".to_owned(),
            ..Network::default()
        };
        let contents = Contents {
            containers: vec![Container {
                state: "created".to_owned(),
                networks: ["front".to_owned()].into(),
                ..Container::default()
            }],
            ..Contents::default()
        };
        let keep = Keep::default();
        assert_eq!(keep.of_network(&network, &contents), Some(Obstacle::InUse));
        assert_eq!(keep.of_network(&network, &Contents::default()), None);
        let bridge = Network {
            name: "bridge".to_owned(),
            ..network
        };
        let nothing = Contents::default();
        assert_eq!(keep.of_network(&bridge, &nothing), Some(Obstacle::BuiltIn));
    }

    #[test]
    fn containers_of_operations_and_of_plimsoll_stay() {
        let keep = Keep {
            containers: [("kept".to_owned(), Obstacle::Backup)].into(),
            operations: ["op".to_owned()].into(),
            projects: ["plimsoll".to_owned()].into(),
            scope: LabelFilter::parse("team=a"),
            ..Keep::default()
        };
        let of = |id: &str, name: &str, pairs: &[(&str, &str)]| {
            keep.of_container(&Container {
                id: id.to_owned(),
                name: name.to_owned(),
                labels: labels(pairs),
                ..Container::default()
            })
        };
        assert_eq!(of("kept", "a", &[]), Some(Obstacle::Backup));
        let labelled = [(OPERATION_LABEL, "op"), ("team", "a")];
        assert_eq!(of("x", "a", &labelled), Some(Obstacle::Operation));
        let old = of("x", "a-old-1733047200000", &[("team", "a")]);
        assert_eq!(old, Some(Obstacle::Operation));
        assert_eq!(
            of("x", "a", &[(PROJECT, "plimsoll")]),
            Some(Obstacle::Plimsoll)
        );
        assert_eq!(of("x", "a", &[("team", "b")]), Some(Obstacle::OutOfScope));
        assert_eq!(
            of("x", "a", &[(OPERATION_LABEL, "over"), ("team", "a")]),
            None
        );
    }
}
