//! The container model of reference/drydock.md 1.7, split by where its parts come from: what a
//! worker observed (`ContainerFacts`), what a watch found (`WatchResult`), and both with what
//! follows the identity (`ContainerState`). `view` renders it for clients.

use std::{collections::BTreeMap, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::ids::{ContainerId, IdentityKey, OperationId, WatcherRef};
use crate::iso;
use crate::labels::ContainerRules;
use crate::operation::{OperationKind, Phase, Status};
use crate::policy::UpdatePolicy;
use crate::redact::EnvVar;
use crate::security::Reports;
use crate::stack::Wiring;

/// What a worker saw when it inspected a container. Contains no secret: `EnvVar` drops them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerFacts {
    pub id: ContainerId,
    /// Without Docker's leading slash.
    pub name: String,
    pub watcher: WatcherRef,
    /// Docker's state: `running`, `exited`, `created`, `paused`, `restarting`, `dead`, or what
    /// another engine calls it; `unknown` when it says nothing.
    pub status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    /// When this container was created (not its image).
    #[serde(default, with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    pub image: ImageFacts,
    /// What the labels that the user set ask for.
    #[serde(default)]
    pub rules: ContainerRules,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where the source of the image is kept, from `org.opencontainers.image.source` and the like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_repo: Option<String>,
    #[serde(default)]
    pub details: Details,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<ComposeRef>,
    /// What it needs of other containers.
    #[serde(default, skip_serializing_if = "Wiring::is_empty")]
    pub wiring: Wiring,
    /// What its Compose file says, where a worker may read that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose_image: Option<ComposeFileImage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose_labels: Option<ComposeFileLabels>,
    /// `--rm`: the engine removes the container by itself when it stops.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub auto_remove: bool,
    /// Who else would undo an update of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manager: Option<Manager>,
}

/// The image of a container, as the engine shows it and as its Compose file names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComposeFileImage {
    pub running: String,
    /// With its variables filled in.
    pub specified: String,
    /// The variable that its tag is of, where a file of variables sets one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
}

/// Of a container's labels, those that speak to Plimsoll, as its Compose files write them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComposeFileLabels {
    pub written: BTreeMap<String, String>,
    /// Whether the container has just these.
    pub in_sync: bool,
}

impl ContainerFacts {
    /// What this container is across re-creations.
    pub fn identity_key(&self) -> IdentityKey {
        let compose = self
            .compose
            .as_ref()
            .map(|c| (c.project.as_str(), c.service.as_str()));
        IdentityKey::new(&self.watcher, &self.name, compose)
    }

    /// What people call it: the label, else its name.
    pub fn display_name(&self) -> &str {
        self.rules.display_name.as_deref().unwrap_or(&self.name)
    }

    /// The group it is listed under: the group label, else the Compose project
    /// (contract/drydock-app-api.md, "Container groups").
    pub fn group(&self) -> Option<&str> {
        self.rules
            .group
            .as_deref()
            .or_else(|| self.compose.as_ref().map(|c| c.project.as_str()))
    }

    pub fn is_running(&self) -> bool {
        self.status == "running"
    }
}

/// Docker's verdict on a container that has a healthcheck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    Starting,
    Healthy,
    Unhealthy,
}

impl Health {
    /// As the engine says it; `None` where there is no check.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "starting" => Some(Health::Starting),
            "healthy" => Some(Health::Healthy),
            "unhealthy" => Some(Health::Unhealthy),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// The Compose service that a container belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ComposeRef {
    pub project: String,
    pub service: String,
}

/// Another controller that owns the container and would put its own version back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Manager {
    Swarm,
    Kubernetes,
    Nomad,
}

impl Manager {
    pub const fn as_str(self) -> &'static str {
        match self {
            Manager::Swarm => "Docker Swarm",
            Manager::Kubernetes => "Kubernetes",
            Manager::Nomad => "Nomad",
        }
    }
}

/// The image a container runs. Serialises as the contract's `image`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageFacts {
    /// The local image id, `sha256:…`.
    pub id: String,
    pub registry: RegistryFacts,
    /// The repository without the host: `library/nginx`.
    pub name: String,
    pub tag: TagFacts,
    pub digest: DigestFacts,
    pub architecture: String,
    pub os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// When the image was built, by its own word.
    #[serde(default, with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    /// Built here: no registry knows it, so there is nothing to climb to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_local_image: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryFacts {
    /// The name of the registry's configuration: `hub`, `ghcr`, `custom` …
    pub name: String,
    /// The API's base: `https://registry-1.docker.io/v2` (`ImageRef::registry_url`).
    pub url: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lookup_image: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TagFacts {
    pub value: String,
    /// Whether the tag, after `transform`, reads as a version.
    pub semver: bool,
    pub tag_precision: TagPrecision,
}

/// Whether a tag names one release (three numeric parts or more) or follows a line of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TagPrecision {
    Specific,
    Floating,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DigestFacts {
    /// Whether a new digest under the same tag is an update.
    pub watch: bool,
    /// The manifest digest the running image is known by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The digest in the repository that the container names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repo: Option<String>,
    /// Every digest the engine knows the image by, bare or as `repository@digest`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repo_digests: Vec<String>,
}

impl DigestFacts {
    /// Whether `digest` is what runs already. An image pulled through two repositories, or by
    /// index and by platform manifest, has several digests, and any of them counts.
    pub fn is_current(&self, digest: &str) -> bool {
        self.value.as_deref() == Some(digest)
            || self.repo.as_deref() == Some(digest)
            || self.repo_digests.iter().any(|known| {
                known
                    .rsplit_once('@')
                    .map_or(known.as_str(), |(_, bare)| bare)
                    == digest
            })
    }

    /// The digest to show as the running one.
    pub fn shown(&self) -> Option<&str> {
        self.value.as_deref().or(self.repo.as_deref())
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Details {
    /// `0.0.0.0:8080->80/tcp`, or `80/tcp` when it is not published.
    pub ports: Vec<String>,
    /// `source:destination[:mode]`.
    pub volumes: Vec<String>,
    pub env: Vec<EnvVar>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime<Utc>>,
}

/// How big the step to another version is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SemverDiff {
    Major,
    Minor,
    Patch,
    Prerelease,
    #[default]
    Unknown,
}

/// What the last watch found for one image, or why it failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WatchResult {
    /// The tag to run: the found one, or the current one when only its digest moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// A tag worth naming although it is not proposed (e.g. the newest release for `latest`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_tag: Option<String>,
    /// A tag that names one version and has the same image as a mutable `tag` has now: its digest
    /// is `digest`, or that of the running image where digests are not watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_tag: Option<String>,
    /// The manifest digest of `tag` in the registry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub published_at: Option<DateTime<Utc>>,
    /// Whether `published_at` is a real date of publication and not the image's own word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_at_trusted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_update_reason: Option<String>,
    /// The step from the current to the found tag, after `transform`. Not part of the contract's
    /// `result`; `updateKind.semverDiff` shows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub semver_diff: Option<SemverDiff>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<WatchError>,
}

impl WatchResult {
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            error: Some(WatchError {
                message: message.into(),
            }),
            ..Self::default()
        }
    }

    /// Of a container whose rules cannot be followed. Unlike what a failed check found, nothing that
    /// was found before stays: it may be just what the rules were to prevent.
    pub fn refused(message: impl Into<String>) -> Self {
        let failed = Self::failed(message);
        Self {
            no_update_reason: Some("A label cannot be read, so nothing is proposed".to_owned()),
            ..failed
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchError {
    pub message: String,
}

/// A target that was tried and rolled back. It is not proposed again until a newer one appears.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RolledBackTarget {
    #[serde(with = "iso")]
    pub recorded_at: DateTime<Utc>,
    pub target_digest: String,
    pub reason: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// The operation that is working on the container now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OperationSummary {
    pub id: OperationId,
    pub kind: OperationKind,
    pub status: Status,
    pub phase: Phase,
    #[serde(with = "iso")]
    pub updated_at: DateTime<Utc>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from_version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to_version: Option<String>,
}

/// Everything known about a container at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerState {
    /// Shared, because of all that is known about a container this changes the least.
    pub facts: Arc<ContainerFacts>,
    pub identity_key: IdentityKey,
    /// The last watch result.
    #[serde(default)]
    pub result: Option<WatchResult>,
    /// The local image that `result` was computed for. A result for another image is not shown: a
    /// scan in flight during an update must not announce the same update again.
    #[serde(default)]
    pub result_image_id: Option<String>,
    /// What the user set; `effective_policy` adds what labels declare.
    #[serde(default)]
    pub policy: Option<UpdatePolicy>,
    #[serde(with = "iso")]
    pub first_seen_at: DateTime<Utc>,
    /// When this identity was first seen to have this candidate: the maturity clock. It survives
    /// re-creation and repeated checks.
    #[serde(default, with = "iso::option")]
    pub update_detected_at: Option<DateTime<Utc>>,
    #[serde(default)]
    pub rolled_back: Option<RolledBackTarget>,
    #[serde(default)]
    pub operation: Option<OperationSummary>,
    /// What scanners say about its images, whichever they were made of.
    #[serde(default)]
    pub reports: Reports,
}

impl ContainerState {
    /// A container that was just discovered.
    pub fn new(facts: ContainerFacts, first_seen_at: DateTime<Utc>) -> Self {
        Self {
            identity_key: facts.identity_key(),
            facts: Arc::new(facts),
            result: None,
            result_image_id: None,
            policy: None,
            first_seen_at,
            update_detected_at: None,
            rolled_back: None,
            operation: None,
            reports: Reports::default(),
        }
    }

    /// The last result, if it speaks about the image that runs now.
    pub fn current_result(&self) -> Option<&WatchResult> {
        let result = self.result.as_ref()?;
        match &self.result_image_id {
            Some(image) if *image != self.facts.image.id => None,
            _ => Some(result),
        }
    }
}
