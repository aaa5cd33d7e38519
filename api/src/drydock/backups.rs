use plimsoll_app::backups::Backup;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Tag,
    error::{ErrorOf, Reads, ReadsOne},
    instant::Instant,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
};

/// `GET /api/v1/containers/backups` and `/api/v1/containers/{id}/backups`.
pub struct Backups;

/// An image that a container can go back to.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "Backup")]
pub struct BackupView {
    id: String,
    container_id: String,
    container_name: String,
    image_name: String,
    image_tag: String,
    #[oai(skip_serializing_if_is_none)]
    image_digest: Option<String>,
    timestamp: Instant,
    trigger_name: String,
}

impl From<Backup> for BackupView {
    fn from(backup: Backup) -> Self {
        Self {
            id: backup.id.to_string(),
            container_id: backup.container,
            container_name: backup.container_name,
            image_name: backup.image_name,
            image_tag: backup.image_tag,
            image_digest: backup.image_digest,
            timestamp: Instant(backup.created_at),
            trigger_name: backup.trigger_name,
        }
    }
}

#[derive(Object)]
struct BackupList {
    data: Vec<BackupView>,
    total: u64,
}

impl From<Vec<Backup>> for BackupList {
    fn from(backups: Vec<Backup>) -> Self {
        Self {
            total: backups.len() as u64,
            data: backups.into_iter().map(BackupView::from).collect(),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Backups {
    /// List the backups of all containers
    ///
    /// Newest first.
    #[oai(
        path = "/containers/backups",
        method = "get",
        operation_id = "listBackups",
        tag = "Tag::Containers"
    )]
    async fn list(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        #[oai(name = "containerName")] container_name: Query<Option<String>>,
    ) -> Result<Json<BackupList>, ErrorOf<Reads>> {
        let name = container_name.0.as_deref().filter(|name| !name.is_empty());
        Ok(Json(state.app.backups(name).await?.into()))
    }

    /// List the backups of a container
    ///
    /// Newest first. They stay with the container when it is re-created.
    #[oai(
        path = "/containers/:id/backups",
        method = "get",
        operation_id = "listContainerBackups",
        tag = "Tag::Containers"
    )]
    async fn of_container(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Json<BackupList>, ErrorOf<ReadsOne>> {
        Ok(Json(state.app.backups_of(&id.0).await?.into()))
    }
}
