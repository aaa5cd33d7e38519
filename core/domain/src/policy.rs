//! Skip, snooze and maturity: what a user wants not to be told, or not yet
//! (contract/drydock-container-api.md, "Update container update policy").

mod action;

pub use action::{PolicyAction, PolicyError, SkipKind, Snooze, apply};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::iso;

/// Whether a candidate must have been out for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaturityMode {
    All,
    Mature,
}

/// A container's update policy. It belongs to the identity, not to the container id. An empty one
/// is stored as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdatePolicy {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skip_tags: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skip_digests: Vec<String>,
    #[serde(with = "iso::option", skip_serializing_if = "Option::is_none")]
    pub snooze_until: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maturity_mode: Option<MaturityMode>,
    /// Days, 1-365.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maturity_min_age_days: Option<u16>,
}

/// `minAgeDays` where nothing else is said.
pub const DEFAULT_MIN_AGE_DAYS: u16 = 7;

impl UpdatePolicy {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The least age of a candidate, when the policy asks for one.
    pub fn min_age(&self) -> Option<chrono::Duration> {
        (self.maturity_mode == Some(MaturityMode::Mature)).then(|| {
            chrono::Duration::days(i64::from(
                self.maturity_min_age_days.unwrap_or(DEFAULT_MIN_AGE_DAYS),
            ))
        })
    }

    /// This policy, set by a user, over one declared by labels: lists are joined, single fields
    /// set by the user win.
    pub fn over(&self, declared: &UpdatePolicy) -> UpdatePolicy {
        let join = |ours: &[String], theirs: &[String]| {
            let mut all = ours.to_vec();
            all.extend(theirs.iter().filter(|t| !ours.contains(t)).cloned());
            all
        };
        UpdatePolicy {
            skip_tags: join(&self.skip_tags, &declared.skip_tags),
            skip_digests: join(&self.skip_digests, &declared.skip_digests),
            snooze_until: self.snooze_until.or(declared.snooze_until),
            maturity_mode: self.maturity_mode.or(declared.maturity_mode),
            maturity_min_age_days: self
                .maturity_min_age_days
                .or(declared.maturity_min_age_days),
        }
    }
}
