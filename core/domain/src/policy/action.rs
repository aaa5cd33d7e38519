//! The eight actions of `PATCH …/update-policy`, with the messages and the order of checks of
//! reference/drydock.md 1.9.

use chrono::{DateTime, Duration, NaiveDate, Utc};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{DEFAULT_MIN_AGE_DAYS, MaturityMode, UpdatePolicy};
use crate::assessment::{UpdateKind, UpdateKindName};

/// A policy keeps this many skipped tags, and as many digests; the oldest give way.
const MAX_SKIPS: usize = 200;
const MAX_DAYS: f64 = 365.0;

/// Why a policy action is refused. The texts are part of the contract.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PolicyError {
    #[error("Action is required")]
    ActionRequired,
    #[error("Unknown action {0}")]
    UnknownAction(String),
    #[error("No current update available to skip")]
    NothingToSkip,
    #[error("No update value available to skip")]
    NoValueToSkip,
    #[error("Invalid remove-skip kind; expected \"tag\" or \"digest\"")]
    SkipKind,
    #[error("Invalid remove-skip value; expected a non-empty string")]
    SkipValue,
    #[error("Invalid snoozeUntil date")]
    SnoozeDate,
    #[error("Invalid snooze days value")]
    SnoozeDays,
    #[error("Invalid maturity mode; expected \"all\" or \"mature\"")]
    MaturityMode,
    #[error("Invalid maturity minAgeDays value")]
    MinAgeDays,
}

/// A change of a policy, checked as far as it can be without the container.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyAction {
    SkipCurrent,
    RemoveSkip {
        kind: SkipKind,
        value: String,
    },
    ClearSkips,
    Snooze(Snooze),
    Unsnooze,
    Clear,
    SetMaturity {
        mode: MaturityMode,
        /// Days, 1-365; `None` keeps what is set, else 7.
        min_age_days: Option<u16>,
    },
    ClearMaturity,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipKind {
    Tag,
    Digest,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Snooze {
    Until(DateTime<Utc>),
    /// From now.
    For(Duration),
}

impl PolicyAction {
    /// Reads the request's body. Unknown keys are ignored, as Drydock does it.
    pub fn parse(body: &Value) -> Result<Self, PolicyError> {
        let empty = Map::new();
        let body = body.as_object().unwrap_or(&empty);
        let action = body
            .get("action")
            .and_then(Value::as_str)
            .filter(|action| !action.is_empty())
            .ok_or(PolicyError::ActionRequired)?;
        match action {
            "skip-current" => Ok(Self::SkipCurrent),
            "remove-skip" => remove_skip(body),
            "clear-skips" => Ok(Self::ClearSkips),
            "snooze" => snooze(body).map(Self::Snooze),
            "unsnooze" => Ok(Self::Unsnooze),
            "clear" => Ok(Self::Clear),
            "set-maturity-policy" => set_maturity(body),
            "clear-maturity-policy" => Ok(Self::ClearMaturity),
            unknown => Err(PolicyError::UnknownAction(
                unknown.chars().take(100).collect(),
            )),
        }
    }

    /// The name that the contract knows it by, for the audit trail.
    pub fn name(&self) -> &'static str {
        match self {
            Self::SkipCurrent => "skip-current",
            Self::RemoveSkip { .. } => "remove-skip",
            Self::ClearSkips => "clear-skips",
            Self::Snooze(_) => "snooze",
            Self::Unsnooze => "unsnooze",
            Self::Clear => "clear",
            Self::SetMaturity { .. } => "set-maturity-policy",
            Self::ClearMaturity => "clear-maturity-policy",
        }
    }
}

fn remove_skip(body: &Map<String, Value>) -> Result<PolicyAction, PolicyError> {
    let kind = match body.get("kind").and_then(Value::as_str) {
        Some("tag") => SkipKind::Tag,
        Some("digest") => SkipKind::Digest,
        _ => return Err(PolicyError::SkipKind),
    };
    let value = body
        .get("value")
        .and_then(Value::as_str)
        .filter(|value| !value.trim().is_empty())
        .ok_or(PolicyError::SkipValue)?;
    Ok(PolicyAction::RemoveSkip {
        kind,
        value: value.to_owned(),
    })
}

fn snooze(body: &Map<String, Value>) -> Result<Snooze, PolicyError> {
    match body.get("snoozeUntil") {
        None | Some(Value::Null) => {}
        Some(Value::String(text)) if text.is_empty() => {}
        Some(date) => {
            return read_date(date)
                .map(Snooze::Until)
                .ok_or(PolicyError::SnoozeDate);
        }
    }
    let days = match body.get("days") {
        None | Some(Value::Null) => 7.0,
        Some(value) => read_number(value).ok_or(PolicyError::SnoozeDays)?,
    };
    if !(days > 0.0 && days <= MAX_DAYS) {
        return Err(PolicyError::SnoozeDays);
    }
    // At most 365 days in milliseconds: fits.
    Ok(Snooze::For(Duration::milliseconds(
        (days * 86_400_000.0).round() as i64,
    )))
}

fn set_maturity(body: &Map<String, Value>) -> Result<PolicyAction, PolicyError> {
    let mode = match body.get("mode").and_then(Value::as_str) {
        Some("all") => MaturityMode::All,
        Some("mature") => MaturityMode::Mature,
        _ => return Err(PolicyError::MaturityMode),
    };
    let min_age_days = match body.get("minAgeDays") {
        None | Some(Value::Null) => None,
        Some(value) => {
            let days = read_number(value)
                .filter(|days| days.fract() == 0.0 && (1.0..=MAX_DAYS).contains(days))
                .ok_or(PolicyError::MinAgeDays)?;
            Some(days as u16)
        }
    };
    Ok(PolicyAction::SetMaturity { mode, min_age_days })
}

/// A JSON number, or a text that is one: forms send texts.
fn read_number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
    .filter(|number: &f64| number.is_finite())
}

/// What JavaScript's `Date` reads of ISO 8601, or milliseconds since 1970.
fn read_date(value: &Value) -> Option<DateTime<Utc>> {
    match value {
        Value::Number(number) => DateTime::from_timestamp_millis(number.as_i64()?),
        Value::String(text) => {
            let text = text.trim();
            text.parse::<DateTime<Utc>>().ok().or_else(|| {
                let day: NaiveDate = text.parse().ok()?;
                Some(day.and_hms_opt(0, 0, 0)?.and_utc())
            })
        }
        _ => None,
    }
    // Four-digit years: what the database and other clients can read back.
    .filter(|date| (1970..=9999).contains(&chrono::Datelike::year(date)))
}

/// The policy after `action`. `current` is the update there is now, whether shown or held back.
/// `None` is the empty policy.
pub fn apply(
    policy: Option<UpdatePolicy>,
    action: &PolicyAction,
    current: Option<&UpdateKind<'_>>,
    now: DateTime<Utc>,
) -> Result<Option<UpdatePolicy>, PolicyError> {
    let mut policy = policy.unwrap_or_default();
    match action {
        PolicyAction::SkipCurrent => {
            let current = current.ok_or(PolicyError::NothingToSkip)?;
            let list = match current.kind {
                UpdateKindName::Tag => &mut policy.skip_tags,
                UpdateKindName::Digest => &mut policy.skip_digests,
                UpdateKindName::Unknown => return Err(PolicyError::NothingToSkip),
            };
            let value = current.remote_value.ok_or(PolicyError::NoValueToSkip)?;
            if !list.iter().any(|skipped| skipped == value) {
                list.push(value.to_owned());
            }
            let excess = list.len().saturating_sub(MAX_SKIPS);
            list.drain(..excess);
        }
        PolicyAction::RemoveSkip { kind, value } => {
            let list = match kind {
                SkipKind::Tag => &mut policy.skip_tags,
                SkipKind::Digest => &mut policy.skip_digests,
            };
            list.retain(|skipped| skipped != value);
        }
        PolicyAction::ClearSkips => {
            policy.skip_tags.clear();
            policy.skip_digests.clear();
        }
        PolicyAction::Snooze(snooze) => {
            policy.snooze_until = Some(match snooze {
                Snooze::Until(until) => *until,
                Snooze::For(time) => now + *time,
            });
        }
        PolicyAction::Unsnooze => policy.snooze_until = None,
        PolicyAction::Clear => policy = UpdatePolicy::default(),
        PolicyAction::SetMaturity { mode, min_age_days } => {
            policy.maturity_mode = Some(*mode);
            policy.maturity_min_age_days = min_age_days
                .or(policy.maturity_min_age_days)
                .or(Some(DEFAULT_MIN_AGE_DAYS));
        }
        PolicyAction::ClearMaturity => {
            policy.maturity_mode = None;
            policy.maturity_min_age_days = None;
        }
    }
    Ok((!policy.is_empty()).then_some(policy))
}

#[cfg(test)]
mod tests;
