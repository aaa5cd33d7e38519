use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    error::{ErrorOf, Reads},
};
use crate::auth::{Authorized, perm};

/// `GET /api/v1/containers/summary`.
pub struct Summary;

#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "ContainerSummary")]
pub struct SummaryView {
    containers: ContainerCounts,
    security: SecurityCounts,
    /// Containers with an update that is less than 24 hours old.
    hot_updates: u64,
    /// Containers with an update that is between 24 hours and 7 days old.
    mature_updates: u64,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ContainerCounts {
    pub total: u64,
    pub running: u64,
    pub stopped: u64,
    pub updates_available: u64,
}

#[derive(Object)]
struct SecurityCounts {
    /// Containers with critical or high vulnerabilities.
    issues: u64,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Summary {
    /// Count containers
    ///
    /// As of this request, on every replica.
    #[oai(
        path = "/containers/summary",
        method = "get",
        operation_id = "getContainerSummary",
        tag = "Tag::Containers"
    )]
    async fn get(
        &self,
        who: Authorized<perm::ContainersRead>,
    ) -> Result<Json<SummaryView>, ErrorOf<Reads>> {
        let totals = who.snapshot().inventory.totals();
        Ok(Json(SummaryView {
            containers: ContainerCounts {
                total: totals.total as u64,
                running: totals.running as u64,
                stopped: (totals.total - totals.running) as u64,
                updates_available: totals.updates_available as u64,
            },
            security: SecurityCounts {
                issues: totals.issues as u64,
            },
            hot_updates: totals.hot as u64,
            mature_updates: totals.mature as u64,
        }))
    }
}
