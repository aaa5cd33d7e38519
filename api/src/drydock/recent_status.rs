use std::collections::HashMap;

use poem_openapi::{Enum, Object, OpenApi, payload::Json};

use plimsoll_app::recent_status::RecentStatus;

use super::{
    Tag,
    error::{ErrorOf, Reads},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
};

/// `GET /api/v1/containers/recent-status`.
pub struct RecentStatuses;

#[derive(Object)]
#[oai(rename = "RecentStatusList")]
struct RecentStatusView {
    /// By container name.
    statuses: HashMap<String, Status>,
}

#[derive(Enum)]
#[oai(rename_all = "lowercase", rename = "RecentStatus")]
enum Status {
    /// An update was applied.
    Updated,
    /// An update is available.
    Pending,
    /// An update failed.
    Failed,
}

#[OpenApi(prefix_path = "/api/v1")]
impl RecentStatuses {
    /// Get the newest update status of each container
    ///
    /// From the last 100 entries of the audit trail.
    #[oai(
        path = "/containers/recent-status",
        method = "get",
        operation_id = "getRecentContainerStatus",
        tag = "Tag::Containers"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
    ) -> Result<Json<RecentStatusView>, ErrorOf<Reads>> {
        let statuses = state.app.recent_statuses().await?;
        let status = |status| match status {
            RecentStatus::Updated => Status::Updated,
            RecentStatus::Pending => Status::Pending,
            RecentStatus::Failed => Status::Failed,
        };
        Ok(Json(RecentStatusView {
            statuses: statuses
                .into_iter()
                .map(|(name, recent)| (name, status(recent)))
                .collect(),
        }))
    }
}
