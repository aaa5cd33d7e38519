//! Values for this crate's unit tests.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::candidate::TagRules;
use crate::container::{
    ContainerFacts, ContainerState, Details, DigestFacts, ImageFacts, RegistryFacts,
};
use crate::ids::{ContainerId, WatcherRef};
use crate::labels::ContainerRules;

/// So many seconds after a fixed instant.
pub(crate) fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap_or_default()
}

/// A running container of `localhost:5000/<name>:<tag>` that was just discovered.
pub(crate) fn container(name: &str, tag: &str) -> ContainerState {
    let id = ContainerId::parse(&"31a61a83".repeat(8)).unwrap_or_else(|| unreachable!());
    let facts = ContainerFacts {
        id,
        name: name.to_owned(),
        watcher: WatcherRef::local("local"),
        status: "running".to_owned(),
        health: None,
        created: None,
        image: ImageFacts {
            id: "sha256:image".to_owned(),
            registry: RegistryFacts {
                name: "custom".to_owned(),
                url: "http://localhost:5000/v2".to_owned(),
                lookup_image: None,
            },
            name: name.to_owned(),
            tag: TagRules::default().tag_facts(tag),
            digest: DigestFacts {
                watch: true,
                value: Some("sha256:old".to_owned()),
                repo: Some("sha256:old".to_owned()),
                repo_digests: Vec::new(),
            },
            architecture: "amd64".to_owned(),
            os: "linux".to_owned(),
            variant: None,
            created: None,
            is_local_image: false,
        },
        rules: ContainerRules::default(),
        labels: BTreeMap::new(),
        source_repo: None,
        details: Details::default(),
        compose: None,
        wiring: Default::default(),
        compose_image: None,
        compose_labels: None,
        auto_remove: false,
        manager: None,
    };
    ContainerState::new(facts, at(0))
}
