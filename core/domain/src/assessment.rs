//! Whether an update is there (the raw rule), whether it is to be shown (snooze, skip, maturity),
//! and when that will next change by time alone (reference/drydock.md 1.7).

use std::borrow::Cow;

use chrono::{DateTime, Duration, Utc};
use serde::Serialize;

use crate::container::{ContainerFacts, ContainerState, SemverDiff, WatchResult};
use crate::policy::UpdatePolicy;

/// What would change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpdateKindName {
    Tag,
    Digest,
    Unknown,
}

/// The contract's `updateKind`. Without an update it is `unknown` without values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateKind<'a> {
    pub kind: UpdateKindName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_value: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_value: Option<&'a str>,
    pub semver_diff: SemverDiff,
}

impl UpdateKind<'_> {
    const NONE: UpdateKind<'static> = UpdateKind {
        kind: UpdateKindName::Unknown,
        local_value: None,
        remote_value: None,
        semver_diff: SemverDiff::Unknown,
    };
}

/// How long an update has been out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MaturityLevel {
    Hot,
    Mature,
    Established,
}

impl MaturityLevel {
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "hot" => Some(Self::Hot),
            "mature" => Some(Self::Mature),
            "established" => Some(Self::Established),
            _ => None,
        }
    }
}

/// Where hot ends and established begins. The default is the contract document's: hot under 24
/// hours, mature from there to 7 days. Drydock's code uses 7 and 30 days; `DD_UI_MATURITY_THRESHOLD_DAYS`
/// selects that form (`MaturityScale::from_threshold_days`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaturityScale {
    pub mature_after: Duration,
    pub established_after: Duration,
}

impl Default for MaturityScale {
    fn default() -> Self {
        Self {
            mature_after: Duration::hours(24),
            established_after: Duration::days(7),
        }
    }
}

impl MaturityScale {
    /// Mature after `days`, established after 30 days or twice the threshold, whichever is later.
    pub fn from_threshold_days(days: u16) -> Self {
        let days = i64::from(days);
        Self {
            mature_after: Duration::days(days),
            established_after: Duration::days(30.max(days * 2)),
        }
    }

    pub fn level(&self, age: Duration) -> MaturityLevel {
        if age < self.mature_after {
            MaturityLevel::Hot
        } else if age < self.established_after {
            MaturityLevel::Mature
        } else {
            MaturityLevel::Established
        }
    }
}

/// Why an update that is there is not shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suppression {
    pub skip_tag: bool,
    pub skip_digest: bool,
    pub snoozed_until: Option<DateTime<Utc>>,
    /// The candidate is younger than the policy's least age, up to this instant.
    pub immature_until: Option<DateTime<Utc>>,
}

impl Suppression {
    pub fn any(&self) -> bool {
        *self != Self::default()
    }
}

/// The answer for one container at one instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assessment<'a> {
    /// The registry has something else than what runs.
    pub raw: bool,
    pub kind: UpdateKind<'a>,
    pub suppression: Suppression,
    /// When the candidate's age began: its trusted publication, else its first sight.
    pub since: Option<DateTime<Utc>>,
    /// Whole minutes, so that a rendering stays valid for more than a millisecond.
    pub age: Option<Duration>,
    pub maturity: Option<MaturityLevel>,
}

impl Assessment<'_> {
    /// The contract's `updateAvailable`.
    pub fn available(&self) -> bool {
        self.raw && !self.suppression.any()
    }

    /// What of this depends on the clock.
    pub fn time_state(&self) -> TimeState {
        TimeState {
            available: self.available(),
            snoozed: self.suppression.snoozed_until.is_some(),
            immature: self.suppression.immature_until.is_some(),
            // Not shown while the update is held back.
            maturity: self.maturity.filter(|_| self.available()),
            age_minutes: self
                .age
                .filter(|_| self.available())
                .map(|age| age.num_minutes()),
        }
    }
}

/// The parts of a rendered container that change by time alone. A rendering is stale when its
/// `TimeState` differs from the present one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeState {
    pub available: bool,
    pub snoozed: bool,
    pub immature: bool,
    pub maturity: Option<MaturityLevel>,
    pub age_minutes: Option<i64>,
}

/// Applies the raw rule of reference/drydock.md 1.7:
///
/// 1. another tag is proposed: kind `tag`;
/// 2. else the digest is watched and none of the image's digests is the registry's: kind `digest`;
/// 3. else the registry gave no digest at all (first manifest schema) and its image is newer than
///    ours: kind `unknown`. Drydock compares creation dates also when digests are known and finds
///    updates that are none; a known digest settles the question here.
pub fn update_kind<'a>(
    facts: &'a ContainerFacts,
    result: &'a WatchResult,
) -> Option<UpdateKind<'a>> {
    let image = &facts.image;
    if let Some(tag) = result.tag.as_deref()
        && tag != image.tag.value
    {
        return Some(UpdateKind {
            kind: UpdateKindName::Tag,
            local_value: Some(&image.tag.value),
            remote_value: Some(tag),
            semver_diff: result.semver_diff.unwrap_or_default(),
        });
    }
    if let Some(digest) = result.digest.as_deref() {
        let moved = image.digest.watch && !image.digest.is_current(digest);
        return moved.then(|| UpdateKind {
            kind: UpdateKindName::Digest,
            local_value: image.digest.shown(),
            remote_value: Some(digest),
            semver_diff: SemverDiff::Unknown,
        });
    }
    match (image.created, result.created) {
        (Some(local), Some(remote)) if remote > local => Some(UpdateKind::NONE),
        _ => None,
    }
}

/// The policy in force: the user's over the one that labels declare.
pub fn effective_policy(state: &ContainerState) -> Option<Cow<'_, UpdatePolicy>> {
    match (&state.policy, &state.facts.rules.policy) {
        (Some(own), Some(declared)) => Some(Cow::Owned(own.over(declared))),
        (Some(policy), None) | (None, Some(policy)) => Some(Cow::Borrowed(policy)),
        (None, None) => None,
    }
}

/// Judges one container at `now`.
pub fn assess<'a>(
    state: &'a ContainerState,
    scale: &MaturityScale,
    now: DateTime<Utc>,
) -> Assessment<'a> {
    let policy = effective_policy(state);
    assess_with(state, policy.as_deref(), scale, now)
}

pub(crate) fn assess_with<'a>(
    state: &'a ContainerState,
    policy: Option<&UpdatePolicy>,
    scale: &MaturityScale,
    now: DateTime<Utc>,
) -> Assessment<'a> {
    let found = state
        .current_result()
        .and_then(|result| Some((result, update_kind(&state.facts, result)?)));
    let Some((result, kind)) = found else {
        return Assessment {
            raw: false,
            kind: UpdateKind::NONE,
            suppression: Suppression::default(),
            since: None,
            age: None,
            maturity: None,
        };
    };
    let since = maturity_clock(state, result);
    let age = since.map(|since| (now - since).max(Duration::zero()));
    let suppression = policy
        .map(|policy| suppression(policy, kind, since, now))
        .unwrap_or_default();
    Assessment {
        raw: true,
        kind,
        suppression,
        since,
        age: age.map(|age| Duration::minutes(age.num_minutes())),
        maturity: age.map(|age| scale.level(age)),
    }
}

fn suppression(
    policy: &UpdatePolicy,
    kind: UpdateKind<'_>,
    since: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Suppression {
    let skipped = |list: &[String]| {
        kind.remote_value
            .is_some_and(|remote| list.iter().any(|skip| skip == remote))
    };
    Suppression {
        skip_tag: kind.kind == UpdateKindName::Tag && skipped(&policy.skip_tags),
        skip_digest: kind.kind == UpdateKindName::Digest && skipped(&policy.skip_digests),
        snoozed_until: policy.snooze_until.filter(|until| *until > now),
        // A candidate whose clock has not started yet is as young as can be.
        immature_until: policy
            .min_age()
            .map(|min_age| since.unwrap_or(now) + min_age)
            .filter(|ripe| *ripe > now),
    }
}

fn maturity_clock(state: &ContainerState, result: &WatchResult) -> Option<DateTime<Utc>> {
    match result.published_at {
        Some(published) if result.published_at_trusted == Some(true) => Some(published),
        _ => state.update_detected_at,
    }
}

/// What a sighting is recorded under: the proposed tag, or `tag@digest` when only the digest
/// moved. `None` when there is no update. The maturity clock restarts exactly when this changes.
pub fn candidate_key(facts: &ContainerFacts, result: &WatchResult) -> Option<String> {
    let kind = update_kind(facts, result)?;
    let tag = &facts.image.tag.value;
    Some(match (kind.kind, kind.remote_value) {
        (UpdateKindName::Tag, Some(tag)) => tag.to_owned(),
        (UpdateKindName::Digest, Some(digest)) => format!("{tag}@{digest}"),
        _ => format!(
            "{tag}@created:{}",
            result
                .created
                .map(crate::iso::to_string)
                .unwrap_or_default()
        ),
    })
}
