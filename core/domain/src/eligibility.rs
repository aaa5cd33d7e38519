//! Whether a container may be updated now, and if not, everything that stands in the way: one list
//! for admission and for the user to read (reference/drydock.md 1.8).

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::acting::{ActingKind, Choice, UpdateTrigger, choose};
use crate::assessment::{Assessment, MaturityScale, assess};
use crate::container::ContainerState;
use crate::iso;
use crate::security::{ScanReport, ScanStatus, SecurityView};
use crate::target::is_rollback_name;
use crate::update_check::failed_check;

/// What stands in the way. The order is that of admission's checks: the first hard one is the
/// answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BlockerReason {
    ActionsDisabled,
    NoUpdateAvailable,
    RollbackContainer,
    NoUpdateTriggerConfigured,
    TriggerExcluded,
    TriggerNotIncluded,
    ActiveOperation,
    LastUpdateRolledBack,
    SecurityScanBlocked,
    ManagedElsewhere,
    Snoozed,
    SkipTag,
    SkipDigest,
    MaturityNotReached,
    ThresholdNotReached,
    UpdateCheckFailed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// No request gets past it.
    Hard,
    /// Holds back automatic updates.
    Soft,
}

/// One thing that stands in the way, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blocker {
    pub reason: BlockerReason,
    pub severity: Severity,
    pub message: Cow<'static, str>,
    /// Whether the user can do something about it here and now; `action_hint` says what.
    pub actionable: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action_hint: Option<&'static str>,
    /// When it goes away by itself.
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub liftable_at: Option<DateTime<Utc>>,
}

impl Blocker {
    fn hard(reason: BlockerReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            severity: Severity::Hard,
            message: message.into(),
            actionable: false,
            action_hint: None,
            liftable_at: None,
        }
    }

    fn soft(reason: BlockerReason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            severity: Severity::Soft,
            ..Self::hard(reason, message)
        }
    }

    fn hint(self, hint: &'static str) -> Self {
        Self {
            actionable: true,
            action_hint: Some(hint),
            ..self
        }
    }

    fn until(self, at: DateTime<Utc>) -> Self {
        Self {
            liftable_at: Some(at),
            ..self
        }
    }
}

/// The contract's `updateEligibility`. Without `evaluatedAt`: the list is true at the time of the
/// answer, and a changing field would make every rendering differ from the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Eligibility {
    /// No blocker at all.
    pub eligible: bool,
    pub blockers: Vec<Blocker>,
}

impl Eligibility {
    /// What a request is refused with.
    pub fn first_hard(&self) -> Option<&Blocker> {
        self.blockers
            .iter()
            .find(|blocker| blocker.severity == Severity::Hard)
    }
}

/// What admission knows besides the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionFacts {
    /// `DD_SERVER_FEATURE_CONTAINERACTIONS`.
    pub actions_enabled: bool,
    /// Those that act on containers of the agent; empty where none is configured.
    pub triggers: Vec<UpdateTrigger>,
}

impl Default for AdmissionFacts {
    /// Actions on, and the docker trigger that every watcher has by default.
    fn default() -> Self {
        Self {
            actions_enabled: true,
            triggers: vec![UpdateTrigger::new(ActingKind::Docker, "local")],
        }
    }
}

/// Every blocker of an update of `state` at `now`.
pub fn evaluate(
    state: &ContainerState,
    admission: &AdmissionFacts,
    now: DateTime<Utc>,
) -> Eligibility {
    let assessment = assess(state, &MaturityScale::default(), now);
    evaluate_assessed(state, &assessment, admission)
}

pub(crate) fn evaluate_assessed(
    state: &ContainerState,
    assessment: &Assessment<'_>,
    admission: &AdmissionFacts,
) -> Eligibility {
    let mut blockers = Vec::new();
    hard(state, assessment, admission, &mut blockers);
    soft(state, assessment, admission, &mut blockers);
    Eligibility {
        eligible: blockers.is_empty(),
        blockers,
    }
}

fn hard(
    state: &ContainerState,
    assessment: &Assessment<'_>,
    admission: &AdmissionFacts,
    blockers: &mut Vec<Blocker>,
) {
    use BlockerReason::*;
    if !admission.actions_enabled {
        blockers.push(Blocker::hard(
            ActionsDisabled,
            "Container actions are disabled",
        ));
    }
    if !assessment.raw {
        blockers.push(
            Blocker::hard(NoUpdateAvailable, "No update available for this container")
                .hint("Watch the container to look for an update"),
        );
    }
    if is_rollback_name(&state.facts.name) {
        blockers.push(Blocker::hard(
            RollbackContainer,
            "Cannot update temporary rollback container renamed with -old-{timestamp}",
        ));
    }
    match choose(&state.facts, &admission.triggers) {
        Choice::Trigger(..) => {}
        Choice::None => blockers.push(Blocker::hard(
            NoUpdateTriggerConfigured,
            "No docker trigger found for this container",
        )),
        Choice::Excluded => blockers.push(Blocker::hard(
            TriggerExcluded,
            "The label dd.action.exclude or dd.trigger.exclude names the update trigger",
        )),
        Choice::NotIncluded => blockers.push(Blocker::hard(
            TriggerNotIncluded,
            "The label dd.action.include or dd.trigger.include does not name the update trigger",
        )),
    }
    if let Some(operation) = &state.operation {
        blockers.push(Blocker::hard(
            ActiveOperation,
            format!("Container {} already in progress", operation.kind),
        ));
    }
    if let Some(reason) = rolled_back(state) {
        blockers.push(
            Blocker::hard(
                LastUpdateRolledBack,
                format!("The last update to this target was rolled back: {reason}"),
            )
            .hint("Wait for a newer image, or skip this one"),
        );
    }
    if let Some(scan) = blocking_scan(state).filter(|_| assessment.raw) {
        let severities: Vec<&str> = scan.block_severities.iter().map(|s| s.as_str()).collect();
        blockers.push(
            Blocker::hard(
                SecurityScanBlocked,
                format!(
                    "The security scan of the update found {} vulnerabilities of severity {}",
                    scan.blocking_count,
                    severities.join(" or ")
                ),
            )
            .hint("Wait for a newer image, or set the label dd.security.gate=off"),
        );
    }
    if let Some(manager) = state.facts.manager {
        blockers.push(Blocker::hard(
            ManagedElsewhere,
            format!(
                "The container is managed by {}, which would undo the update",
                manager.as_str()
            ),
        ));
    }
}

fn soft(
    state: &ContainerState,
    assessment: &Assessment<'_>,
    admission: &AdmissionFacts,
    blockers: &mut Vec<Blocker>,
) {
    use BlockerReason::*;
    let held = assessment.suppression;
    if let Some(until) = held.snoozed_until {
        blockers.push(
            Blocker::soft(
                Snoozed,
                format!("Updates are snoozed until {}", iso::to_string(until)),
            )
            .hint("Unsnooze")
            .until(until),
        );
    }
    if held.skip_tag {
        blockers.push(Blocker::soft(SkipTag, "This tag is skipped").hint("Remove the skip"));
    }
    if held.skip_digest {
        blockers.push(Blocker::soft(SkipDigest, "This digest is skipped").hint("Remove the skip"));
    }
    if let Some(until) = held.immature_until {
        blockers.push(
            Blocker::soft(
                MaturityNotReached,
                format!("The update is too young until {}", iso::to_string(until)),
            )
            .hint("Clear the maturity policy")
            .until(until),
        );
    }
    if assessment.raw
        && let Choice::Trigger(_, threshold) = choose(&state.facts, &admission.triggers)
        && !threshold.is_reached(&assessment.kind)
    {
        blockers.push(Blocker::soft(
            ThresholdNotReached,
            format!("The update trigger's threshold is {threshold}"),
        ));
    }
    if let Some(check) = failed_check(state).filter(|_| assessment.raw) {
        let reason = check.reason.as_deref().unwrap_or("it failed");
        blockers.push(
            Blocker::soft(
                UpdateCheckFailed,
                format!("The check {} bars the update: {reason}", check.script),
            )
            .hint("Update once the reason is gone: the check is asked again"),
        );
    }
}

/// The scan of the present target, if what it found bars it.
fn blocking_scan(state: &ContainerState) -> Option<&ScanReport> {
    if state.facts.rules.security_gate == Some(false) {
        return None;
    }
    SecurityView::of(&state.reports, &state.facts, state.current_result())
        .update_scan
        .filter(|scan| scan.status == ScanStatus::Blocked)
}

/// Why the present target is barred: it is the one that was tried and rolled back.
fn rolled_back(state: &ContainerState) -> Option<&str> {
    let target = state.rolled_back.as_ref()?;
    if state.facts.rules.rollback.gate == Some(false) {
        return None;
    }
    let found = state.current_result()?;
    let same = found.digest.as_deref() == Some(target.target_digest.as_str());
    same.then_some(target.reason.as_str())
}

#[cfg(test)]
mod tests;
