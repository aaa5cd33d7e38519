use std::sync::Arc;

use chrono::Duration;

use super::*;
use crate::container::{Manager, RolledBackTarget, WatchResult};
use crate::labels::ContainerRules;
use crate::policy::{MaturityMode, UpdatePolicy};
use crate::testing::{at, container};

fn updatable() -> ContainerState {
    let mut state = container("app", "1.0.0");
    state.result = Some(WatchResult {
        tag: Some("1.1.0".into()),
        digest: Some("sha256:new".into()),
        semver_diff: Some(crate::container::SemverDiff::Minor),
        ..WatchResult::default()
    });
    state.update_detected_at = Some(at(0));
    state
}

fn reasons(state: &ContainerState, admission: &AdmissionFacts) -> Vec<BlockerReason> {
    evaluate(state, admission, at(3600))
        .blockers
        .iter()
        .map(|blocker| blocker.reason)
        .collect()
}

#[test]
fn a_container_with_an_update_and_nothing_against_it_is_eligible() {
    let eligibility = evaluate(&updatable(), &AdmissionFacts::default(), at(0));
    assert_eq!(
        serde_json::to_value(&eligibility).unwrap(),
        serde_json::json!({"eligible": true, "blockers": []})
    );
}

#[test]
fn each_hard_blocker_is_named() {
    use BlockerReason::*;
    let defaults = AdmissionFacts::default();
    assert_eq!(
        reasons(&container("app", "1"), &defaults),
        [NoUpdateAvailable]
    );

    let mut state = updatable();
    Arc::make_mut(&mut state.facts).name = "app-old-1733047200000".into();
    assert_eq!(reasons(&state, &defaults), [RollbackContainer]);

    let mut state = updatable();
    Arc::make_mut(&mut state.facts).manager = Some(Manager::Swarm);
    assert_eq!(reasons(&state, &defaults), [ManagedElsewhere]);

    let state = updatable();
    let none = AdmissionFacts {
        actions_enabled: false,
        triggers: Vec::new(),
    };
    assert_eq!(
        reasons(&state, &none),
        [ActionsDisabled, NoUpdateTriggerConfigured]
    );
}

#[test]
fn labels_keep_the_update_trigger_away() {
    let labelled = |rules: ContainerRules| {
        let mut state = updatable();
        Arc::make_mut(&mut state.facts).rules = rules;
        reasons(&state, &AdmissionFacts::default())
    };
    assert_eq!(
        labelled(ContainerRules {
            trigger_exclude: Some("docker.local".into()),
            ..ContainerRules::default()
        }),
        [BlockerReason::TriggerExcluded]
    );
    assert_eq!(
        labelled(ContainerRules {
            trigger_include: Some("slack.team".into()),
            ..ContainerRules::default()
        }),
        [BlockerReason::TriggerNotIncluded]
    );
    assert_eq!(
        labelled(ContainerRules {
            trigger_include: Some("docker.local:patch".into()),
            ..ContainerRules::default()
        }),
        [BlockerReason::ThresholdNotReached]
    );
}

#[test]
fn a_target_that_was_rolled_back_is_barred_until_another_one_appears() {
    let mut state = updatable();
    state.rolled_back = Some(RolledBackTarget {
        recorded_at: at(0),
        target_digest: "sha256:new".into(),
        reason: "health_gate_failed".into(),
        last_error: None,
    });
    let facts = AdmissionFacts::default();
    assert_eq!(
        reasons(&state, &facts),
        [BlockerReason::LastUpdateRolledBack]
    );
    if let Some(result) = &mut state.result {
        result.digest = Some("sha256:newer".into());
    }
    assert!(reasons(&state, &facts).is_empty());
}

#[test]
fn what_the_policy_holds_back_is_soft_and_says_until_when() {
    let mut state = updatable();
    state.policy = Some(UpdatePolicy {
        skip_tags: vec!["1.1.0".into()],
        snooze_until: Some(at(7200)),
        maturity_mode: Some(MaturityMode::Mature),
        maturity_min_age_days: Some(2),
        ..UpdatePolicy::default()
    });
    let eligibility = evaluate(&state, &AdmissionFacts::default(), at(3600));
    assert!(!eligibility.eligible);
    assert_eq!(eligibility.first_hard(), None);
    let lifted: Vec<_> = eligibility
        .blockers
        .iter()
        .map(|blocker| (blocker.reason, blocker.liftable_at))
        .collect();
    assert_eq!(
        lifted,
        [
            (BlockerReason::Snoozed, Some(at(7200))),
            (BlockerReason::SkipTag, None),
            (
                BlockerReason::MaturityNotReached,
                Some(at(0) + Duration::days(2))
            ),
        ]
    );
}
