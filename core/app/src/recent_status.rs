//! The newest update verdict of each container (contract/drydock-container-api.md, "Get recent
//! container status").

use std::collections::BTreeMap;

use crate::{App, AppError};

/// How the last thing that happened to a container's update ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecentStatus {
    Updated,
    Pending,
    Failed,
}

impl RecentStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Updated => "updated",
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }

    fn of_action(action: &str) -> Option<Self> {
        match action {
            "update-applied" => Some(Self::Updated),
            "update-available" => Some(Self::Pending),
            "update-failed" => Some(Self::Failed),
            _ => None,
        }
    }
}

impl App {
    /// By container name, from the last 100 entries of the audit trail.
    pub async fn recent_statuses(&self) -> Result<BTreeMap<String, RecentStatus>, AppError> {
        let verdicts = self.store().recent_update_verdicts().await?;
        Ok(verdicts
            .into_iter()
            .filter_map(|(name, action)| Some((name, RecentStatus::of_action(&action)?)))
            .collect())
    }
}
