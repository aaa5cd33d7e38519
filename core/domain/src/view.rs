//! A container as clients see it: the fields and names of reference/drydock.md 1.7. Borrowed from
//! the state, so that rendering a thousand costs no copies. Absent values are left out.

use std::borrow::Cow;
use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::assessment::{
    Assessment, MaturityLevel, MaturityScale, TimeState, UpdateKind, assess_with, effective_policy,
};
use crate::container::{
    ContainerState, Details, Health, ImageFacts, OperationSummary, RolledBackTarget, WatchError,
    WatchResult,
};
use crate::eligibility::{AdmissionFacts, Eligibility, evaluate_assessed};
use crate::iso;
use crate::labels::TagFamily;
use crate::link;
use crate::pattern::Transform;
use crate::policy::UpdatePolicy;

const DEFAULT_ICON: &str = "mdi:docker";

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerView<'a> {
    pub id: &'a str,
    pub name: &'a str,
    pub display_name: &'a str,
    pub display_icon: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_picture: Option<&'a str>,
    pub status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
    pub watcher: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<&'a str>,
    pub identity_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub include_tags: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exclude_tags: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform_tags: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag_family: Option<TagFamily>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link_template: Option<&'a str>,
    /// The template filled in for the tag that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_include: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger_exclude: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_policy: Option<Cow<'a, UpdatePolicy>>,
    pub image: &'a ImageFacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'a WatchError>,
    pub update_available: bool,
    pub update_kind: UpdateKind<'a>,
    #[serde(with = "iso")]
    pub first_seen_at: DateTime<Utc>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub update_detected_at: Option<DateTime<Utc>>,
    /// Milliseconds, in whole minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_age: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_maturity_level: Option<MaturityLevel>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_rollback: Option<&'a RolledBackTarget>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_operation: Option<&'a OperationSummary>,
    pub update_eligibility: Eligibility,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    pub labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_repo: Option<&'a str>,
    pub details: &'a Details,
}

/// The contract's `result`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResultView<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suggested_tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<&'a str>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub created: Option<DateTime<Utc>>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub published_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_at_trusted: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_update_reason: Option<&'a str>,
}

impl<'a> ResultView<'a> {
    /// `None` when the watch found nothing to say (it failed).
    fn of(result: &'a WatchResult) -> Option<Self> {
        let view = Self {
            tag: result.tag.as_deref(),
            suggested_tag: result.suggested_tag.as_deref(),
            digest: result.digest.as_deref(),
            created: result.created,
            published_at: result.published_at,
            published_at_trusted: result.published_at_trusted,
            link: result.link.as_deref(),
            no_update_reason: result.no_update_reason.as_deref(),
        };
        let says_something = view.tag.is_some()
            || view.digest.is_some()
            || view.suggested_tag.is_some()
            || view.created.is_some()
            || view.no_update_reason.is_some();
        (says_something || result.error.is_none()).then_some(view)
    }
}

/// What the view depends on besides the container.
#[derive(Clone, Debug, Default)]
pub struct ViewContext {
    pub maturity: MaturityScale,
    /// For `updateEligibility`.
    pub admission: AdmissionFacts,
}

/// Renders a container at `now`.
pub fn view<'a>(
    state: &'a ContainerState,
    context: &ViewContext,
    now: DateTime<Utc>,
) -> ContainerView<'a> {
    let policy = effective_policy(state);
    let assessment = assess_with(state, policy.as_deref(), &context.maturity, now);
    let facts = &state.facts;
    let rules = &facts.rules;
    let result = state.current_result();
    let shown = assessment.available();
    ContainerView {
        id: facts.id.as_str(),
        name: &facts.name,
        display_name: rules.display_name.as_deref().unwrap_or(&facts.name),
        display_icon: rules.display_icon.as_deref().unwrap_or(DEFAULT_ICON),
        display_picture: rules.display_picture.as_deref(),
        status: &facts.status,
        health: facts.health,
        watcher: &facts.watcher.name,
        agent: facts.watcher.agent_name(),
        identity_key: state.identity_key.as_str(),
        include_tags: rules.include_tags.as_deref(),
        exclude_tags: rules.exclude_tags.as_deref(),
        transform_tags: rules.transform_tags.as_deref(),
        tag_family: rules.tag_family,
        link_template: rules.link_template.as_deref(),
        link: current_link(state),
        trigger_include: rules.trigger_include.as_deref(),
        trigger_exclude: rules.trigger_exclude.as_deref(),
        update_policy: policy,
        image: &facts.image,
        result: result.and_then(ResultView::of),
        error: result.and_then(|result| result.error.as_ref()),
        update_available: shown,
        update_kind: assessment.kind,
        first_seen_at: state.first_seen_at,
        update_detected_at: state.update_detected_at.filter(|_| assessment.raw),
        update_age: assessment
            .age
            .filter(|_| shown)
            .map(|age| age.num_milliseconds()),
        update_maturity_level: assessment.maturity.filter(|_| shown),
        update_rollback: state.rolled_back.as_ref(),
        update_operation: state.operation.as_ref(),
        update_eligibility: evaluate_assessed(state, &assessment, &context.admission),
        created: facts.created,
        labels: &facts.labels,
        source_repo: facts
            .rules
            .source_repo
            .as_deref()
            .or(facts.source_repo.as_deref()),
        details: &facts.details,
    }
}

/// The link for the running tag. Templates are rare, and transforms with them rarer still, so that
/// compiling one here costs less than carrying one more text through every layer.
fn current_link(state: &ContainerState) -> Option<String> {
    let rules = &state.facts.rules;
    let template = rules.link_template.as_deref()?;
    let tag = state.facts.image.tag.value.as_str();
    let transform = rules
        .transform_tags
        .as_deref()
        .and_then(|formula| Transform::compile("dd.tag.transform", formula).ok());
    let transformed = transform.map_or(Cow::Borrowed(tag), |transform| transform.apply(tag));
    link::render(template, tag, &transformed)
}

/// The parts of `view` that the clock changes, without rendering.
pub fn time_state(state: &ContainerState, context: &ViewContext, now: DateTime<Utc>) -> TimeState {
    let policy = effective_policy(state);
    let assessment: Assessment<'_> = assess_with(state, policy.as_deref(), &context.maturity, now);
    assessment.time_state()
}

#[cfg(test)]
mod tests {
    use chrono::Duration;
    use serde_json::{Value, json};

    use super::*;
    use crate::container::{ComposeRef, SemverDiff};
    use crate::policy::MaturityMode;
    use crate::redact::EnvVar;
    use crate::testing::{at, container};

    fn rendered(state: &ContainerState, now: DateTime<Utc>) -> Value {
        serde_json::to_value(view(state, &ViewContext::default(), now)).unwrap()
    }

    fn with_update(result: WatchResult) -> ContainerState {
        let mut state = container("app", "1.0.0");
        state.result_image_id = Some(state.facts.image.id.clone());
        state.result = Some(result);
        state.update_detected_at = Some(at(0));
        state
    }

    fn tag_update() -> ContainerState {
        with_update(WatchResult {
            tag: Some("1.1.0".into()),
            digest: Some("sha256:new".into()),
            semver_diff: Some(SemverDiff::Minor),
            ..WatchResult::default()
        })
    }

    #[test]
    fn a_fresh_container_has_the_contracts_fields_and_no_nulls() {
        let mut state = container("app", "1.0.0");
        state.facts.details.env = vec![EnvVar::observed("DB_PASSWORD", "hunter2")];
        state.facts.compose = Some(ComposeRef {
            project: "shop".into(),
            service: "web".into(),
        });
        state.identity_key = state.facts.identity_key();
        assert_eq!(
            rendered(&state, at(60)),
            json!({
                "id": "31a61a83".repeat(8),
                "name": "app",
                "displayName": "app",
                "displayIcon": "mdi:docker",
                "status": "running",
                "watcher": "local",
                "identityKey": "::local::compose:shop/web",
                "image": {
                    "id": "sha256:image",
                    "registry": {"name": "custom", "url": "http://localhost:5000/v2"},
                    "name": "app",
                    "tag": {"value": "1.0.0", "semver": true, "tagPrecision": "specific"},
                    "digest": {"watch": true, "value": "sha256:old", "repo": "sha256:old"},
                    "architecture": "amd64",
                    "os": "linux",
                },
                "updateAvailable": false,
                "updateKind": {"kind": "unknown", "semverDiff": "unknown"},
                "firstSeenAt": "2027-01-15T08:00:00.000Z",
                "updateEligibility": {"eligible": false, "blockers": [{
                    "reason": "no-update-available",
                    "severity": "hard",
                    "message": "No update available for this container",
                    "actionable": true,
                    "actionHint": "Watch the container to look for an update",
                }]},
                "labels": {},
                "details": {
                    "ports": [],
                    "volumes": [],
                    "env": [{"key": "DB_PASSWORD", "value": "[REDACTED]", "sensitive": true}],
                },
            })
        );
    }

    #[test]
    fn another_tag_is_an_update_of_kind_tag() {
        let json = rendered(&tag_update(), at(90));
        assert_eq!(json["updateAvailable"], true);
        assert_eq!(
            json["updateKind"],
            json!({"kind": "tag", "localValue": "1.0.0", "remoteValue": "1.1.0", "semverDiff": "minor"})
        );
        assert_eq!(
            json["result"],
            json!({"tag": "1.1.0", "digest": "sha256:new"})
        );
        assert_eq!(json["updateAge"], 60_000);
        assert_eq!(json["updateMaturityLevel"], "hot");
        assert_eq!(json["updateEligibility"]["eligible"], true);
    }

    #[test]
    fn another_digest_is_an_update_only_where_digests_are_watched() {
        let mut state = with_update(WatchResult {
            tag: Some("1.0.0".into()),
            digest: Some("sha256:new".into()),
            ..WatchResult::default()
        });
        assert_eq!(
            rendered(&state, at(0))["updateKind"],
            json!({"kind": "digest", "localValue": "sha256:old", "remoteValue": "sha256:new", "semverDiff": "unknown"})
        );
        state.facts.image.digest.watch = false;
        assert_eq!(rendered(&state, at(0))["updateAvailable"], false);
    }

    #[test]
    fn any_of_the_images_digests_counts_as_current() {
        let mut state = with_update(WatchResult {
            digest: Some("sha256:index".into()),
            ..WatchResult::default()
        });
        state.facts.image.digest.repo_digests = vec![
            "mirror/app@sha256:x".into(),
            "localhost:5000/app@sha256:index".into(),
        ];
        assert_eq!(rendered(&state, at(0))["updateAvailable"], false);
    }

    #[test]
    fn dates_decide_only_where_no_digest_is_known() {
        let mut state = with_update(WatchResult {
            created: Some(at(10)),
            ..WatchResult::default()
        });
        state.facts.image.created = Some(at(0));
        let json = rendered(&state, at(20));
        assert_eq!(json["updateAvailable"], true);
        assert_eq!(
            json["updateKind"],
            json!({"kind": "unknown", "semverDiff": "unknown"})
        );
        if let Some(result) = &mut state.result {
            result.digest = Some("sha256:old".into());
        }
        assert_eq!(rendered(&state, at(20))["updateAvailable"], false);
    }

    #[test]
    fn a_result_for_another_image_is_not_shown() {
        let mut state = tag_update();
        state.facts.image.id = "sha256:after-the-update".into();
        let json = rendered(&state, at(0));
        assert_eq!(json["updateAvailable"], false);
        assert!(json.get("result").is_none());
    }

    #[test]
    fn a_failed_watch_shows_its_error_and_no_result() {
        let state = with_update(WatchResult::failed("the registry answers 500"));
        let json = rendered(&state, at(0));
        assert_eq!(
            json["error"],
            json!({"message": "the registry answers 500"})
        );
        assert!(json.get("result").is_none());
    }

    #[test]
    fn policies_hide_the_update_but_not_what_it_is() {
        let hidden = |policy: UpdatePolicy| {
            let mut state = tag_update();
            state.policy = Some(policy);
            let json = rendered(&state, at(3600));
            assert_eq!(json["updateKind"]["kind"], "tag");
            assert_eq!(json["updateAvailable"], json.get("updateAge").is_some());
            json["updateAvailable"] == false
        };
        let none = UpdatePolicy::default;
        assert!(hidden(UpdatePolicy {
            skip_tags: vec!["1.1.0".into()],
            ..none()
        }));
        assert!(!hidden(UpdatePolicy {
            skip_tags: vec!["1.0.9".into()],
            ..none()
        }));
        // The digest of a tag update is not what was skipped.
        assert!(!hidden(UpdatePolicy {
            skip_digests: vec!["sha256:new".into()],
            ..none()
        }));
        assert!(hidden(UpdatePolicy {
            snooze_until: Some(at(3601)),
            ..none()
        }));
        assert!(!hidden(UpdatePolicy {
            snooze_until: Some(at(3600)),
            ..none()
        }));
        assert!(hidden(UpdatePolicy {
            maturity_mode: Some(MaturityMode::Mature),
            ..none()
        }));
        assert!(!hidden(UpdatePolicy {
            maturity_mode: Some(MaturityMode::All),
            ..none()
        }));
    }

    #[test]
    fn the_maturity_clock_is_the_trusted_publication_or_else_the_first_sight() {
        let mut state = tag_update();
        state.policy = Some(UpdatePolicy {
            maturity_mode: Some(MaturityMode::Mature),
            maturity_min_age_days: Some(1),
            ..UpdatePolicy::default()
        });
        if let Some(result) = &mut state.result {
            result.published_at = Some(at(0) - Duration::days(30));
        }
        assert_eq!(rendered(&state, at(0))["updateAvailable"], false);
        if let Some(result) = &mut state.result {
            result.published_at_trusted = Some(true);
        }
        let json = rendered(&state, at(0));
        assert_eq!(json["updateAvailable"], true);
        assert_eq!(json["updateMaturityLevel"], "established");
    }

    #[test]
    fn the_time_state_changes_exactly_when_the_rendering_does() {
        let mut state = tag_update();
        state.policy = Some(UpdatePolicy {
            snooze_until: Some(at(5_000)),
            maturity_mode: Some(MaturityMode::Mature),
            maturity_min_age_days: Some(1),
            ..UpdatePolicy::default()
        });
        let context = ViewContext::default();
        let mut last = (rendered(&state, at(0)), time_state(&state, &context, at(0)));
        for seconds in (0..800_000).step_by(977) {
            let now = (
                rendered(&state, at(seconds)),
                time_state(&state, &context, at(seconds)),
            );
            assert!(
                now.0 == last.0 || now.1 != last.1,
                "{seconds}: the rendering changed and its time state did not"
            );
            last = now;
        }
        assert_eq!(last.0["updateMaturityLevel"], "established");
    }

    #[test]
    fn the_link_follows_template_and_transform() {
        let mut state = container("app", "v1_2_3");
        state.facts.rules.link_template = Some("https://x/${major}.${minor}".into());
        state.facts.rules.transform_tags = Some(r"^v(\d+)_(\d+)_(\d+)$ => $1.$2.$3".into());
        assert_eq!(rendered(&state, at(0))["link"], "https://x/1.2");
    }
}
