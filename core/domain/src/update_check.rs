//! What a container's own check said of an update: a program of its owner that runs before anything
//! is touched, and whose failure bars the update.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{container::ContainerState, iso};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckVerdict {
    Passed,
    Failed,
}

/// One check of one target. Only the last one of a target is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CheckReport {
    /// Repository and tag of the target.
    pub image: String,
    pub image_digest: String,
    /// Relative to the directory of scripts.
    pub script: String,
    pub status: CheckVerdict,
    /// Why it failed, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(with = "iso")]
    pub checked_at: DateTime<Utc>,
}

/// What was said of the present target when it was asked about last.
pub fn last_check(state: &ContainerState) -> Option<&CheckReport> {
    let digest = state.current_result()?.digest.as_deref()?;
    let of_target = |check: &&CheckReport| check.image_digest == digest;
    state.reports.checks.iter().find(of_target)
}

/// The check that barred the present target, unless it has passed since. It is asked again by each
/// request for the update.
pub fn failed_check(state: &ContainerState) -> Option<&CheckReport> {
    last_check(state).filter(|check| check.status == CheckVerdict::Failed)
}
