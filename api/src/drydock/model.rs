//! The container as documented (reference/drydock.md 1.7). Containers are rendered by
//! `domain::view`; a test checks that what it writes has this shape.

use poem_openapi::{Enum, Object};
use std::collections::HashMap;

use super::{
    described::Text,
    instant::Instant,
    update_operations::{OperationKind, OperationStatus},
    vulnerabilities::ScanResult,
};

#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct Container {
    /// Docker's id.
    id: String,
    name: String,
    display_name: String,
    display_icon: String,
    display_picture: Option<String>,
    /// Docker's state, e.g. `running` or `exited`.
    status: String,
    health: Option<Health>,
    watcher: String,
    /// Absent for this installation's own worker.
    agent: Option<String>,
    /// What the container is across re-creations.
    identity_key: String,
    include_tags: Option<String>,
    exclude_tags: Option<String>,
    transform_tags: Option<String>,
    tag_family: Option<String>,
    link_template: Option<String>,
    link: Option<String>,
    trigger_include: Option<String>,
    trigger_exclude: Option<String>,
    action_trigger_include: Option<String>,
    action_trigger_exclude: Option<String>,
    action_trigger_auto: Option<String>,
    notification_trigger_include: Option<String>,
    notification_trigger_exclude: Option<String>,
    update_policy: Option<UpdatePolicy>,
    image: Image,
    result: Option<WatchResult>,
    /// Why the last watch of this container failed.
    error: Option<WatchError>,
    update_available: bool,
    update_kind: UpdateKind,
    first_seen_at: Instant,
    update_detected_at: Option<Instant>,
    /// Milliseconds, in whole minutes.
    update_age: Option<i64>,
    update_maturity_level: Option<Maturity>,
    update_rollback: Option<UpdateRollback>,
    update_operation: Option<OperationSummary>,
    update_eligibility: Option<UpdateEligibility>,
    /// Where its Compose file names another image than the one that runs, and a worker may read
    /// that file (`compose.directories`).
    compose_mismatch: Option<ComposeMismatch>,
    /// Absent before any scan.
    security: Option<ContainerSecurity>,
    created: Option<Instant>,
    labels: HashMap<String, String>,
    source_repo: Option<String>,
    details: Details,
}

#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "ContainerComposeMismatch")]
struct ComposeMismatch {
    /// With its variables filled in.
    compose_image: String,
    /// For people.
    error: String,
}

#[derive(Enum)]
#[oai(rename_all = "lowercase", rename = "ContainerHealth")]
enum Health {
    Starting,
    Healthy,
    Unhealthy,
}

#[derive(Enum)]
#[oai(rename_all = "lowercase")]
enum Maturity {
    Hot,
    Mature,
    Established,
}

/// Whether the container may be updated now.
#[derive(Object)]
struct UpdateEligibility {
    /// Nothing at all stands in the way.
    eligible: bool,
    /// In the order in which a request is refused for them.
    blockers: Vec<UpdateBlocker>,
}

/// Something that stands in the way of an update.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct UpdateBlocker {
    /// Such as `maturity-not-reached`.
    reason: String,
    severity: BlockerSeverity,
    /// For people.
    message: String,
    /// Whether something can be done about it here and now: `actionHint` says what.
    actionable: bool,
    action_hint: Option<String>,
    /// When it goes away by itself.
    liftable_at: Option<Instant>,
}

/// `hard`: no request gets past it. `soft`: it holds back automatic updates.
#[derive(Enum)]
#[oai(rename_all = "lowercase")]
enum BlockerSeverity {
    Hard,
    Soft,
}

/// What scans found, without the vulnerabilities themselves.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ContainerSecurity {
    /// Of the image that runs.
    scan: Option<ScanResult>,
    signature: Option<SignatureResult>,
    sbom: Option<SbomSummary>,
    /// Of the image that an update goes to, like the next two.
    update_scan: Option<ScanResult>,
    update_signature: Option<SignatureResult>,
    update_sbom: Option<SbomSummary>,
}

/// Whether an image is signed by whom it has to be.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct SignatureResult {
    /// `cosign`
    verifier: String,
    image: String,
    image_digest: Option<String>,
    image_id: Option<String>,
    verified_at: Instant,
    /// `verified`, `unverified`, or `error` where nobody knows.
    status: String,
    /// By a certificate's identity, not by a key.
    keyless: bool,
    /// Signatures that were accepted.
    signatures: u32,
    error: Option<String>,
}

/// What became of an image's bill of materials; `GET /api/v1/containers/{id}/sbom` has it.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct SbomSummary {
    /// `syft` or `trivy`
    generator: String,
    image: String,
    image_digest: Option<String>,
    image_id: Option<String>,
    generated_at: Instant,
    /// `generated` or `error`
    status: String,
    /// The formats in which it is there.
    formats: Vec<String>,
    /// Empty here.
    documents: HashMap<String, String>,
    error: Option<String>,
}

/// What is not to be proposed, or not yet.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct UpdatePolicy {
    skip_tags: Option<Vec<String>>,
    skip_digests: Option<Vec<String>>,
    snooze_until: Option<Instant>,
    /// `all` or `mature`.
    maturity_mode: Option<String>,
    maturity_min_age_days: Option<u16>,
}

#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct Image {
    id: String,
    registry: ImageRegistry,
    name: String,
    tag: Tag,
    digest: Digest,
    architecture: String,
    os: String,
    variant: Option<String>,
    created: Option<Instant>,
    is_local_image: Option<bool>,
}

#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct ImageRegistry {
    name: String,
    url: String,
    lookup_image: Option<String>,
}

#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "ImageTag")]
struct Tag {
    value: String,
    /// Whether the tag reads as a version.
    semver: bool,
    /// `specific` or `floating`.
    tag_precision: String,
}

#[derive(Object)]
#[oai(
    rename_all = "camelCase",
    rename = "ImageDigest",
    skip_serializing_if_is_none
)]
struct Digest {
    watch: bool,
    value: Option<String>,
    repo: Option<String>,
    repo_digests: Option<Vec<String>>,
}

/// What the last watch found.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct WatchResult {
    tag: Option<String>,
    suggested_tag: Option<String>,
    /// For a mutable tag such as `latest` or `24-alpine`: a tag of one version with the same image,
    /// so that the container can be pinned to it. Found by digest: `digest`, or that of the running
    /// image where digests are not watched.
    recommended_tag: Option<String>,
    digest: Option<String>,
    created: Option<Instant>,
    published_at: Option<Instant>,
    published_at_trusted: Option<bool>,
    link: Option<String>,
    no_update_reason: Option<String>,
}

#[derive(Object)]
struct WatchError {
    message: String,
}

#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
pub struct UpdateKind {
    /// `tag`, `digest` or `unknown`.
    kind: String,
    local_value: Option<String>,
    remote_value: Option<String>,
    /// `major`, `minor`, `patch`, `prerelease` or `unknown`.
    semver_diff: String,
}

/// A target that was tried and rolled back.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct UpdateRollback {
    recorded_at: Instant,
    target_digest: String,
    reason: String,
    last_error: Option<String>,
}

/// The operation that works on the container now.
#[derive(Object)]
#[oai(rename_all = "camelCase", skip_serializing_if_is_none)]
struct OperationSummary {
    id: String,
    kind: Text<OperationKind>,
    status: Text<OperationStatus>,
    phase: String,
    updated_at: Instant,
    from_version: Option<String>,
    to_version: Option<String>,
}

#[derive(Object)]
#[oai(
    rename = "ContainerDetails",
    rename_all = "camelCase",
    skip_serializing_if_is_none
)]
struct Details {
    ports: Vec<String>,
    volumes: Vec<String>,
    env: Vec<EnvVar>,
    started_at: Option<Instant>,
}

/// The value of a sensitive variable is not shown.
#[derive(Object)]
#[oai(rename = "EnvironmentVariable")]
struct EnvVar {
    key: String,
    value: String,
    sensitive: bool,
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};
    use plimsoll_domain::{
        container::{ContainerFacts, ContainerState, SemverDiff, WatchResult},
        view::{ViewContext, view},
    };
    use poem_openapi::types::{ParseFromJSON, ToJSON};
    use serde_json::json;

    use super::*;

    fn facts() -> ContainerFacts {
        serde_json::from_value(json!({
            "id": "a".repeat(64),
            "name": "app",
            "watcher": {"agent": "edge", "name": "local"},
            "status": "running",
            "health": "healthy",
            "created": "2026-01-01T00:00:00.000Z",
            "image": {
                "id": "sha256:1",
                "registry": {"name": "hub", "url": "https://x/v2", "lookupImage": "y"},
                "name": "library/app",
                "tag": {"value": "1.0.0", "semver": true, "tagPrecision": "specific"},
                "digest": {"watch": true, "repo": "sha256:2", "repoDigests": ["x@sha256:2"]},
                "architecture": "arm64",
                "os": "linux",
                "variant": "v8",
                "created": "2026-01-01T00:00:00.000Z",
            },
            "rules": {
                "includeTags": "^1", "transformTags": "a => b", "tagFamily": "strict",
                "displayPicture": "p", "linkTemplate": "l", "triggerInclude": "t",
                "policy": {"skipTags": ["9"], "maturityMode": "mature", "maturityMinAgeDays": 3},
            },
            "labels": {"a": "b"},
            "sourceRepo": "r",
            "details": {
                "ports": ["80/tcp"], "volumes": [],
                "startedAt": "2026-01-01T00:00:00.000Z",
            },
        }))
        .unwrap()
    }

    /// Reads what the view writes as documented, and writes it again: a field that is missing here
    /// or spelt otherwise is lost on the way.
    fn check(state: &ContainerState) {
        let written = view(state, &ViewContext::default(), Utc::now());
        let written = serde_json::to_value(&written).unwrap();
        let read = Container::parse_from_json(Some(written.clone())).unwrap_or_else(|error| {
            panic!("{}: {written:#}", error.into_message());
        });
        assert_eq!(read.to_json().unwrap(), written);
    }

    #[test]
    fn the_view_writes_what_is_documented() {
        let now = Utc::now();
        let mut state = ContainerState::new(facts(), now);
        check(&state);
        state.result = Some(WatchResult {
            tag: Some("1.1.0".to_owned()),
            recommended_tag: Some("1.0.9".to_owned()),
            digest: Some("sha256:3".to_owned()),
            created: Some(now),
            published_at: Some(now - TimeDelta::days(9)),
            published_at_trusted: Some(true),
            link: Some("l".to_owned()),
            semver_diff: Some(SemverDiff::Minor),
            ..WatchResult::default()
        });
        state.update_detected_at = Some(now - TimeDelta::days(8));
        check(&state);
        state.result = Some(WatchResult::failed("no such host"));
        check(&state);
    }
}
