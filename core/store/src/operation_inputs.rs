//! What a request asks for beside its target. Written with the operation (`requests`).

use plimsoll_domain::{
    action::StopGrace,
    ids::{IdentityKey, OperationGroupId, OperationId},
    labels::LabelRequest,
};
use tokio_postgres::types::Json;

use crate::{Store, StoreError};

statements! {
    STOP_GRACE = "SELECT stop_grace FROM operation_inputs
                   WHERE operation_id = $1 AND stop_grace IS NOT NULL";
    LABELS = "SELECT labels FROM operation_inputs WHERE operation_id = $1 AND labels IS NOT NULL";
    SCRIPTS = "SELECT (SELECT script FROM operation_inputs WHERE operation_id = $1),
                      (SELECT script FROM script_assignments WHERE identity_key = $2)";
}

#[derive(Clone, Copy, Debug, Default)]
pub struct OperationInput<'a> {
    /// Relative to the directory of scripts.
    pub script: Option<&'a str>,
    pub labels: Option<&'a LabelRequest>,
    /// Of a stop or restart, instead of the container's own.
    pub stop_grace: Option<StopGrace>,
    /// What else was asked for at once is found by it. Kept with the operation.
    pub batch: Option<OperationGroupId>,
}

/// Scripts that were named for an update, as they were written down.
#[derive(Clone, Debug, Default)]
pub struct NamedScripts {
    /// By the request.
    pub requested: Option<String>,
    /// By the container's assignment.
    pub assigned: Option<String>,
}

impl Store {
    /// How long the container may take to stop, where the request says so.
    pub async fn stop_grace(&self, id: OperationId) -> Result<Option<StopGrace>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(STOP_GRACE).await?;
        let row = client.query_opt(&statement, &[&id.as_uuid()]).await?;
        row.map(|row| {
            let seconds: i32 = row.get(0);
            StopGrace::from_seconds(seconds.into())
                .ok_or_else(|| StoreError::corrupt("stop grace", seconds))
        })
        .transpose()
    }

    /// The labels that an operation is to change.
    pub async fn label_request(&self, id: OperationId) -> Result<Option<LabelRequest>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LABELS).await?;
        let row = client.query_opt(&statement, &[&id.as_uuid()]).await?;
        row.map(|row| {
            row.try_get::<_, Json<LabelRequest>>(0)
                .map(|Json(labels)| labels)
                .map_err(|error| StoreError::corrupt("label change", error))
        })
        .transpose()
    }

    /// The scripts that are named for an update of the container.
    pub async fn named_scripts(
        &self,
        id: OperationId,
        identity: &IdentityKey,
    ) -> Result<NamedScripts, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(SCRIPTS).await?;
        let row = client
            .query_one(&statement, &[&id.as_uuid(), &identity.as_str()])
            .await?;
        Ok(NamedScripts {
            requested: row.get(0),
            assigned: row.get(1),
        })
    }
}
