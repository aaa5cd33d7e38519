use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::candidate::TagRules;
use crate::container::{OperationSummary, SemverDiff, WatchError};
use crate::eligibility::AdmissionFacts;
use crate::policy::UpdatePolicy;
use crate::testing::{at, container};
use crate::update_check::{CheckReport, CheckVerdict};

fn watched(tag: &str, result: WatchResult) -> ContainerState {
    let mut state = container("app", tag);
    state.result_image_id = Some(state.facts.image.id.clone());
    state.result = Some(result);
    state.update_detected_at = Some(at(0));
    state
}

fn stays(tag: &str) -> WatchResult {
    WatchResult {
        tag: Some(tag.into()),
        digest: Some("sha256:old".into()),
        ..WatchResult::default()
    }
}

fn climbs(tag: &str) -> WatchResult {
    WatchResult {
        tag: Some(tag.into()),
        digest: Some("sha256:new".into()),
        ..WatchResult::default()
    }
}

fn pinnable(tag: &str, to: &str) -> WatchResult {
    WatchResult {
        recommended_tag: Some(to.into()),
        ..stays(tag)
    }
}

fn checked(state: &ContainerState) -> Check<'_> {
    check(state, None, &ViewContext::default(), at(60))
}

fn verdict(state: &ContainerState) -> (CheckStatus, Change) {
    let check = checked(state);
    (check.status, check.change)
}

fn facts(state: &mut ContainerState) -> &mut ContainerFacts {
    Arc::make_mut(&mut state.facts)
}

#[test]
fn statuses_and_changes() {
    use Change::*;
    use CheckStatus::*;
    for (name, state, expected) in [
        ("newest", watched("1.2.3", stays("1.2.3")), (UpToDate, None)),
        (
            "patch",
            watched("1.2.3", climbs("1.2.4")),
            (UpdateAvailable, Patch),
        ),
        (
            "minor",
            watched("1.2.3", climbs("1.3.0")),
            (UpdateAvailable, Minor),
        ),
        (
            "major",
            watched("1.2.3", climbs("2.0.0")),
            (UpdateAvailable, Major),
        ),
        (
            "build",
            watched("1.2.3-ls1", climbs("1.2.3-ls2")),
            (UpdateAvailable, Rebuild),
        ),
        (
            "downgrade",
            watched("1.2.3", climbs("1.2.0")),
            (UpdateAvailable, Downgrade),
        ),
        (
            "flavour",
            watched("1.2.3", climbs("main")),
            (UpdateAvailable, Unknown),
        ),
        (
            "rebuilt",
            watched("1.2.3", climbs("1.2.3")),
            (UpdateAvailable, Rebuild),
        ),
        (
            "latest",
            watched("latest", stays("latest")),
            (UpToDate, None),
        ),
        (
            "moved",
            watched("latest", climbs("latest")),
            (UpdateAvailable, Unknown),
        ),
        (
            "pinnable",
            watched("latest", pinnable("latest", "1.2.3")),
            (UpToDatePinnable, None),
        ),
        (
            "line",
            watched("24-alpine", pinnable("24-alpine", "24.1.0-alpine")),
            (UpToDatePinnable, None),
        ),
        (
            "pinned",
            watched("1.2.3", pinnable("1.2.3", "1.2.3")),
            (UpToDate, None),
        ),
    ] {
        assert_eq!(verdict(&state), expected, "{name}");
    }
}

#[test]
fn a_mutable_tag_that_is_meant_is_not_to_be_pinned() {
    let mut state = watched("latest", pinnable("latest", "1.2.3"));
    facts(&mut state).rules.versions.allow_latest = true;
    assert_eq!(verdict(&state), (CheckStatus::UpToDate, Change::None));
    assert_eq!(checked(&state).recommended_tag, Some("1.2.3"));
}

#[test]
fn a_moved_tag_changes_from_what_runs_to_what_it_means_now() {
    let mut moved = climbs("latest");
    moved.recommended_tag = Some("1.3.0".into());
    let mut state = watched("latest", moved);
    assert_eq!(checked(&state).change, Change::Unknown);
    let label = (
        "org.opencontainers.image.version".to_owned(),
        "1.2.9".to_owned(),
    );
    facts(&mut state).labels.extend([label]);
    let check = checked(&state);
    assert_eq!(
        (check.change, check.latest_tag),
        (Change::Minor, Some("latest"))
    );
    assert_eq!(check.current_version.as_deref(), Some("1.2.9"));
    assert_eq!(check.recommended_tag, Some("1.3.0"));
}

#[test]
fn what_bars_an_update_is_the_list_of_admission() {
    let state = watched("1.2.3", climbs("1.2.4"));
    let context = ViewContext {
        admission: AdmissionFacts {
            actions_enabled: false,
            ..AdmissionFacts::default()
        },
        ..ViewContext::default()
    };
    let barred = check(&state, None, &context, at(60));
    assert_eq!(barred.status, CheckStatus::UpdateAvailableBlocked);
    assert_eq!(barred.blockers.len(), 1);
    assert_eq!(barred.blockers[0].reason, BlockerReason::ActionsDisabled);

    let mut skipped = watched("1.2.3", climbs("1.2.4"));
    skipped.policy = Some(UpdatePolicy {
        skip_tags: vec!["1.2.4".into()],
        ..UpdatePolicy::default()
    });
    let check = checked(&skipped);
    assert_eq!(check.status, CheckStatus::UpdateAvailableBlocked);
    assert_eq!(check.blockers[0].reason, BlockerReason::SkipTag);

    let mut busy = watched("1.2.3", climbs("1.2.4"));
    busy.operation = serde_json::from_value::<OperationSummary>(json!({
        "id": "0190f5fe-7c00-7a00-8000-000000000001", "kind": "update", "status": "in-progress",
        "phase": "prepare", "updatedAt": "2027-01-15T08:00:00.000Z"
    }))
    .ok();
    assert!(busy.operation.is_some());
    assert_eq!(verdict(&busy).0, CheckStatus::UpdateAvailableBlocked);
}

#[test]
fn what_holds_back_automatic_updates_alone_bars_nothing() {
    let major = WatchResult {
        semver_diff: Some(SemverDiff::Major),
        ..climbs("2.0.0")
    };
    let mut state = watched("1.2.3", major);
    facts(&mut state).rules.trigger_include = Some("docker.local:minor".into());
    let check = checked(&state);
    assert_eq!(check.blockers[0].reason, BlockerReason::ThresholdNotReached);
    assert_eq!(check.status, CheckStatus::UpdateAvailable);
}

#[test]
fn an_update_that_its_own_check_barred_is_blocked_until_the_check_passes() {
    let said = |digest: &str, status, reason: Option<&str>| CheckReport {
        image: "app:1.2.4".into(),
        image_digest: digest.into(),
        script: "check.sh".into(),
        status,
        reason: reason.map(str::to_owned),
        checked_at: at(0),
    };
    let mut state = watched("1.2.3", climbs("1.2.4"));
    let failed = said("sha256:new", CheckVerdict::Failed, Some("no backup yet"));
    state.reports.checks = vec![failed];
    let barred = checked(&state);
    assert_eq!(barred.status, CheckStatus::UpdateAvailableBlocked);
    let blocker = &barred.blockers[0];
    assert_eq!(blocker.reason, BlockerReason::UpdateCheckFailed);
    assert_eq!(blocker.severity, Severity::Soft, "a request asks again");
    assert!(
        blocker.message.contains("no backup yet"),
        "{}",
        blocker.message
    );
    state.reports.checks = vec![said("sha256:new", CheckVerdict::Passed, None)];
    assert_eq!(checked(&state).status, CheckStatus::UpdateAvailable);
    state.reports.checks = vec![said("sha256:other", CheckVerdict::Failed, None)];
    assert_eq!(checked(&state).status, CheckStatus::UpdateAvailable);
}

#[test]
fn an_ignored_container_is_ignored_whatever_else_is_known() {
    let mut state = watched("1.2.3", climbs("1.2.4"));
    facts(&mut state).rules.watch = Some(false);
    let compose = ComposeImage {
        running: "app:1.2.3",
        specified: "app:9.9.9",
    };
    let check = check(&state, Some(compose), &ViewContext::default(), at(60));
    assert_eq!(check.status, CheckStatus::Ignored);
}

#[test]
fn another_image_than_compose_names_is_a_mismatch() {
    let state = watched("1.2.3", climbs("1.2.4"));
    let status = |running: &str, specified: &str| {
        let compose = ComposeImage { running, specified };
        let check = check(&state, Some(compose), &ViewContext::default(), at(60));
        (check.status == CheckStatus::ComposeMismatch)
            .then(|| check.compose_image.unwrap().to_owned())
    };
    let digest = |fill: char| format!("nginx:1.25@sha256:{}", fill.to_string().repeat(64));
    assert_eq!(
        status("nginx:1.24.0", "nginx:1.25.0").as_deref(),
        Some("nginx:1.25.0")
    );
    assert!(status("nginx", "httpd").is_some());
    assert!(status("nginx:1.25", "ghcr.io/library/nginx:1.25").is_some());
    assert!(status(&digest('a'), &digest('b')).is_some());
    let id = format!("sha256:{}", "0".repeat(64));
    assert!(status(&id, "nginx").is_some(), "it has lost its tag");
    assert!(status(&"0".repeat(64), "nginx").is_some());
    for (running, specified) in [
        ("nginx", "nginx:latest"),
        ("nginx:1.25", "docker.io/library/nginx:1.25"),
        ("nginx:1.25", &digest('a')),
        (&digest('a'), "nginx:1.25"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("nginx:1.24", "nginx:${TAG}"),
        ("nginx:1.24", ""),
        ("nginx:1.24", "no reference"),
    ] {
        assert_eq!(status(running, specified), None, "{running} {specified}");
    }
}

#[test]
fn local_images_and_failures_are_told_apart() {
    let mut local = watched("1.2.3", WatchResult::default());
    facts(&mut local).image.is_local_image = true;
    assert_eq!(checked(&local).status, CheckStatus::LocalImage);

    let error = |state: &ContainerState| {
        let check = checked(state);
        assert_eq!(check.status, CheckStatus::Error);
        check.error.unwrap().message().to_owned()
    };
    assert!(error(&container("app", "1.2.3")).contains("not been checked"));
    let mut failed = climbs("1.2.4");
    failed.error = Some(WatchError {
        message: "the registry answers 500".into(),
    });
    assert_eq!(error(&watched("1.2.3", failed)), "the registry answers 500");
    let mut unnamed = watched("", WatchResult::default());
    facts(&mut unnamed).image.registry.url.clear();
    facts(&mut unnamed).image.name.clear();
    assert!(error(&unnamed).contains("no longer knows"));
    let unwatched = WatchResult {
        digest: None,
        ..stays("latest")
    };
    assert!(error(&watched("latest", unwatched.clone())).contains("not watched"));
    // Without comparing digests: it has the image of the newest release.
    let newest = WatchResult {
        recommended_tag: Some("1.2.3".into()),
        suggested_tag: Some("1.2.3".into()),
        ..unwatched
    };
    assert_eq!(
        checked(&watched("latest", newest)).status,
        CheckStatus::UpToDatePinnable
    );
}

#[test]
fn a_reference_by_digest_alone_is_up_to_date() {
    let state = watched("", WatchResult::default());
    assert_eq!(verdict(&state), (CheckStatus::UpToDate, Change::None));
}

#[test]
fn a_result_for_another_image_is_no_check() {
    let mut state = watched("1.2.3", climbs("1.2.4"));
    facts(&mut state).image.id = "sha256:after-the-update".into();
    assert_eq!(checked(&state).error, Some(CheckError::NotChecked));
}

#[test]
fn the_running_version_is_what_is_known_best() {
    let version = |tag: &str, label: Option<&str>, recommended: Option<&str>| {
        let result = WatchResult {
            recommended_tag: recommended.map(str::to_owned),
            ..stays(tag)
        };
        let mut state = watched(tag, result);
        if let Some(label) = label {
            facts(&mut state)
                .labels
                .insert("org.opencontainers.image.version".into(), label.into());
        }
        running_version(&state.facts, state.result.as_ref()).map(Cow::into_owned)
    };
    assert_eq!(
        version("1.2.3", Some("9.9.9"), None).as_deref(),
        Some("1.2.3")
    );
    assert_eq!(
        version("latest", None, Some("1.2.3")).as_deref(),
        Some("1.2.3")
    );
    assert_eq!(
        version("latest", Some("1.2.2"), Some("1.2.3")).as_deref(),
        Some("1.2.3")
    );
    assert_eq!(
        version("latest", Some("1.2.2"), None).as_deref(),
        Some("1.2.2")
    );
    assert_eq!(
        version("2.11", Some("v2.11.0-beta.1"), None).as_deref(),
        Some("2.11")
    );
    assert_eq!(
        version("2.11", Some("v2.11.4"), None).as_deref(),
        Some("v2.11.4")
    );
    assert_eq!(
        version("2.11-rc1", Some("v2.11.0-rc.1"), None).as_deref(),
        Some("v2.11.0-rc.1")
    );
    assert_eq!(version("latest", Some("the newest"), None), None);
    assert_eq!(version("latest", None, None), None);
}

#[test]
fn steps_are_compared_after_the_transform() {
    let mut state = watched("v1_2_3", climbs("v1_3_0"));
    let formula = r"^v(\d+)_(\d+)_(\d+)$ => $1.$2.$3";
    let facts = facts(&mut state);
    facts.rules.transform_tags = Some(formula.into());
    facts.image.tag = TagRules::compile(&facts.rules).unwrap().tag_facts("v1_2_3");
    assert_eq!(
        verdict(&state),
        (CheckStatus::UpdateAvailable, Change::Minor)
    );
}

#[test]
fn statuses_are_written_as_the_document_has_them() {
    let json = |status: CheckStatus| serde_json::to_value(status).unwrap();
    assert_eq!(json(CheckStatus::UpToDatePinnable), "UP_TO_DATE_PINNABLE");
    assert_eq!(
        json(CheckStatus::UpdateAvailableBlocked),
        "UPDATE_AVAILABLE_BLOCKED"
    );
    assert_eq!(json(CheckStatus::ComposeMismatch), "COMPOSE_MISMATCH");
    assert_eq!(json(CheckStatus::LocalImage), "LOCAL_IMAGE");
}
