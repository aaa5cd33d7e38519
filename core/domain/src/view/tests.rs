use std::sync::Arc;

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
    Arc::make_mut(&mut state.facts).details.env = vec![EnvVar::observed("DB_PASSWORD", "hunter2")];
    Arc::make_mut(&mut state.facts).compose = Some(ComposeRef {
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
                "env": [{"key": "DB_PASSWORD", "value": "***", "sensitive": true}],
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
    Arc::make_mut(&mut state.facts).image.digest.watch = false;
    assert_eq!(rendered(&state, at(0))["updateAvailable"], false);
}

#[test]
fn any_of_the_images_digests_counts_as_current() {
    let mut state = with_update(WatchResult {
        digest: Some("sha256:index".into()),
        ..WatchResult::default()
    });
    Arc::make_mut(&mut state.facts).image.digest.repo_digests = vec![
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
    Arc::make_mut(&mut state.facts).image.created = Some(at(0));
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
    Arc::make_mut(&mut state.facts).image.id = "sha256:after-the-update".into();
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
    Arc::make_mut(&mut state.facts).rules.link_template =
        Some("https://x/${major}.${minor}".into());
    Arc::make_mut(&mut state.facts).rules.transform_tags =
        Some(r"^v(\d+)_(\d+)_(\d+)$ => $1.$2.$3".into());
    assert_eq!(rendered(&state, at(0))["link"], "https://x/1.2");
}
