use plimsoll_app::outcomes::Outcome;
use plimsoll_domain::ids::BackupId;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path},
    payload::Json,
};
use uuid::Uuid;

use super::{
    Tag,
    backups::BackupView,
    body::LenientJson,
    confirm::{Confirmed, ContainerRollback},
    described::{IdempotencyKey, Text, text},
    error::ErrorOf,
    operations::{AcceptedHeaders, OperationAccepted, caller, failed},
    prefer::Preference,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `POST /api/v1/containers/{id}/rollback`.
pub struct Rollbacks;

error_set!(pub RollingBack = 400, 404, 409, 415, 422, 428);

/// Which backup to go back to.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct RollbackRequest {
    /// The most recent one where it is left out.
    backup_id: Option<String>,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ContainerRolledBack {
    message: String,
    backup: BackupView,
    operation_id: String,
}

#[derive(ApiResponse)]
pub enum RollbackAnswer {
    /// Observed: the backed-up image runs, stable and healthy
    #[oai(status = 200)]
    Done(
        Json<ContainerRolledBack>,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
    /// Durable and running; it goes on whatever happens to this connection
    #[oai(status = 202)]
    Accepted(
        Json<OperationAccepted>,
        #[oai(header = "Location")] String,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
}

#[OpenApi(prefix_path = "/api/v1")]
impl Rollbacks {
    /// Roll a container back to a kept backup
    ///
    /// Goes back to the stored image by its digest, so that a mutable tag really goes back, with
    /// the same guarded program as an update.
    #[oai(
        path = "/containers/:id/rollback",
        method = "post",
        operation_id = "rollbackContainer",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn rollback(
        &self,
        who: Authorized<perm::ContainersRollback>,
        #[oai(name = "X-DD-Confirm-Action")] _confirmed: Confirmed<ContainerRollback>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
        body: LenientJson<RollbackRequest>,
    ) -> Result<RollbackAnswer, ErrorOf<RollingBack>> {
        let preference = Preference::parse(prefer.as_deref());
        let wanted = body.0.and_then(|body| body.backup_id);
        let target = format!("POST /containers/{}/rollback", id.0);
        let caller = caller(
            who.principal(),
            &context,
            text(&key.0),
            &target,
            wanted.as_deref().unwrap_or_default(),
        )?;
        // Something that is no id at all is no backup of this container either.
        let backup = wanted
            .as_deref()
            .map(|id| id.parse().unwrap_or(BackupId::from_uuid(Uuid::nil())));
        let (operation, backup) = state.app.request_rollback(&id, backup, &caller).await?;
        match state.outcome(operation, preference.patience).await? {
            Outcome::Succeeded { .. } => Ok(RollbackAnswer::Done(
                Json(ContainerRolledBack {
                    message: "Container rolled back successfully".to_owned(),
                    backup: BackupView::from(backup),
                    operation_id: operation.to_string(),
                }),
                preference.applied(),
            )),
            Outcome::Ended(operation) => {
                Err(failed("Error rolling back container", &operation).into())
            }
            Outcome::Running => {
                let headers = AcceptedHeaders::of(operation, &preference);
                Ok(RollbackAnswer::Accepted(
                    Json(OperationAccepted {
                        message: "Container rollback accepted".to_owned(),
                        operation_id: operation.to_string(),
                    }),
                    headers.location,
                    headers.preference_applied,
                ))
            }
        }
    }
}
