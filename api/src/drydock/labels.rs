use std::collections::{BTreeSet, HashMap};

use plimsoll_app::{AppError, labels::ContainerLabels, outcomes::Outcome};
use plimsoll_domain::labels::{LabelChange, LabelReach};
use poem_openapi::{
    ApiResponse, Enum, Object, OpenApi,
    param::{Header, Path},
    payload::Json,
};

use super::{
    Tag,
    body::RequiredJson,
    described::{IdempotencyKey, Text, text},
    error::{ApiError, ErrorOf, INVALID_PARAMETERS, ReadsOne},
    model::Container,
    operations::{AcceptedHeaders, OperationAccepted, caller, failed},
    prefer::Preference,
    raw::Shown,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `GET` and `PATCH /api/v1/containers/{id}/labels`.
pub struct Labels;

error_set!(pub ChangesLabels = 400, 404, 409, 413, 415, 422);

/// Where labels come from: a Compose service has them in its file.
#[derive(Enum)]
#[oai(rename_all = "lowercase", rename = "LabelSource")]
enum Source {
    Compose,
    Container,
}

/// All labels of a container, its image's included.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "LabelSet")]
struct LabelsView {
    container_id: String,
    container_name: String,
    labels: HashMap<String, String>,
    source: Source,
}

impl From<ContainerLabels> for LabelsView {
    fn from(of: ContainerLabels) -> Self {
        Self {
            container_id: of.container_id,
            container_name: of.container_name,
            labels: of.labels,
            source: match of.compose {
                Some(_) => Source::Compose,
                None => Source::Container,
            },
        }
    }
}

/// Labels that begin with `docksmith.`, `dd.` or `plimsoll.`; at most 32 in all.
#[derive(Object, Default)]
#[oai(rename_all = "camelCase")]
struct ChangeContainerLabelsRequest {
    /// With their values, each on one line and of at most 4096 bytes.
    #[oai(default)]
    set: HashMap<String, String>,
    #[oai(default)]
    remove: Vec<String>,
    /// `false` changes the Compose file only: the container gets the labels when it is made anew
    /// the next time.
    #[oai(default = "yes")]
    recreate: bool,
}

fn yes() -> bool {
    true
}

/// A change that is done.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct ContainerLabelsChanged {
    message: String,
    /// The container that runs now; `null` where it is gone again.
    #[oai(nullable)]
    result: Option<Shown<Container>>,
    operation_id: String,
}

#[derive(ApiResponse)]
enum LabelsAnswer {
    /// Observed: the container has the labels, and its Compose file too
    #[oai(status = 200)]
    Done(
        Json<ContainerLabelsChanged>,
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
impl Labels {
    /// Show a container's labels
    #[oai(
        path = "/containers/:id/labels",
        method = "get",
        operation_id = "getContainerLabels",
        tag = "Tag::Containers"
    )]
    async fn show(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Json<LabelsView>, ErrorOf<ReadsOne>> {
        Ok(Json(state.app.container_labels(&id).await?.into()))
    }

    /// Set and remove labels of a container
    ///
    /// The container is made anew from the image that it runs, with the guarantees of an update. One
    /// of a Compose service has its labels in its file, which is edited and nothing else in it, so
    /// that `docker compose up` finds nothing left to do; the text before is kept beside it, as
    /// `<file>.back`.
    #[oai(
        path = "/containers/:id/labels",
        method = "patch",
        operation_id = "changeContainerLabels",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn change(
        &self,
        who: Authorized<perm::ContainersUpdate>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
        body: RequiredJson<ChangeContainerLabelsRequest>,
    ) -> Result<LabelsAnswer, ErrorOf<ChangesLabels>> {
        let body = body.0;
        let body = body.ok_or_else(|| ApiError::bad_request(INVALID_PARAMETERS))?;
        let remove: BTreeSet<String> = body.remove.into_iter().collect();
        let change = LabelChange::new(body.set.into_iter().collect(), remove)
            .map_err(|refused| AppError::Invalid(refused.to_string()))?;
        let reach = match body.recreate {
            true => LabelReach::Container,
            false => LabelReach::File,
        };
        let preference = Preference::parse(prefer.as_deref());
        let target = format!("PATCH /containers/{}/labels", id.0);
        let asked = format!("{change:?} {reach:?}");
        let caller = caller(who.principal(), &context, text(&key.0), &target, &asked)?;
        let operation = state
            .app
            .request_label_change(&id, change, reach, &caller)
            .await?;
        match state.outcome(operation, preference.patience).await? {
            Outcome::Succeeded { container, .. } => Ok(LabelsAnswer::Done(
                Json(ContainerLabelsChanged {
                    message: "Container labels changed successfully".to_owned(),
                    result: container.map(|c| Shown::new(c.to_value())),
                    operation_id: operation.to_string(),
                }),
                preference.applied(),
            )),
            Outcome::Ended(operation) => {
                Err(failed("Error changing the container's labels", &operation).into())
            }
            Outcome::Running => {
                let headers = AcceptedHeaders::of(operation, &preference);
                Ok(LabelsAnswer::Accepted(
                    Json(OperationAccepted {
                        message: "Container label change accepted".to_owned(),
                        operation_id: operation.to_string(),
                    }),
                    headers.location,
                    headers.preference_applied,
                ))
            }
        }
    }
}
