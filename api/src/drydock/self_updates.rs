//! Acknowledging that Plimsoll replaces its own container, and how that stands
//! (contract/drydock-app-api.md, "Self-update acknowledgment"; reference/drydock.md 1.2).

use plimsoll_app::self_updates::{Acknowledgment, Holder};
use plimsoll_domain::ids::OperationId;
use poem_openapi::{
    ApiResponse, Enum, Object, OpenApi, param::Path, payload::Json, registry::MetaSchema,
};
use secrecy::SecretString;

use super::{
    Tag,
    body::RequiredJson,
    described::{Body, Description, Text, open},
    error::{ApiError, ErrorOf, ErrorSet, ReadsOne},
    instant::Instant,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
    words,
};

/// `POST /api/v1/events/ui/self-update/{operationId}/ack` and
/// `GET /api/v1/self-update/{operationId}/status`.
pub struct SelfUpdates;

/// 403 is [`AckAnswer::Rejected`].
pub enum Acknowledging {}

impl ErrorSet for Acknowledging {
    const STATUSES: &'static [u16] = &[400, 401, 413, 415, 423, 429, 500, 503];
}

words!(NotBlank = 1.., "\\S");
words!(
    OperationName = 36..=36,
    "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
);

/// What `dd:connected` gave.
enum Ack {}

impl Description for Ack {
    const NAME: Option<&'static str> = Some("AcknowledgeSelfUpdateRequest");

    fn schema() -> MetaSchema {
        let mut schema = open(vec![
            ("clientId", NotBlank::schema()),
            ("clientToken", NotBlank::schema()),
        ]);
        schema.required = vec!["clientId", "clientToken"];
        schema
    }
}

#[derive(Enum)]
#[oai(rename_all = "lowercase", rename = "SelfUpdateAckStatus")]
enum AckStatus {
    Accepted,
    Ignored,
}

#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "SelfUpdateAcknowledged")]
struct Acknowledged {
    status: AckStatus,
    operation_id: String,
}

/// Without `status` it is the lack of a permission.
#[derive(Object)]
#[oai(
    rename_all = "camelCase",
    rename = "SelfUpdateAckRejected",
    skip_serializing_if_is_none
)]
struct Rejected {
    error: String,
    /// `rejected`.
    status: Option<String>,
    operation_id: Option<String>,
}

#[derive(ApiResponse)]
enum AckAnswer {
    /// Written, or nobody waits for it
    #[oai(status = 202)]
    Taken(Json<Acknowledged>),
    /// The token is another client's or session's, or the client is not asked; or the permission
    /// is missing
    #[oai(status = 403)]
    Rejected(Json<Rejected>),
}

#[derive(Object)]
#[oai(
    rename_all = "camelCase",
    rename = "SelfUpdateStatus",
    skip_serializing_if_is_none
)]
struct SelfUpdateView {
    operation_id: String,
    /// `in-progress`, `succeeded`, `rolled-back` or `failed`.
    status: String,
    /// As of `GET /api/v1/update-operations/{id}`.
    phase: String,
    completed_at: Option<Instant>,
}

#[OpenApi(prefix_path = "/api/v1")]
impl SelfUpdates {
    /// Acknowledge that Plimsoll replaces its own container
    ///
    /// The answer to a `dd:self-update` with `requiresAck`: Plimsoll goes on as soon as everybody
    /// who follows the events has answered, or `ackTimeoutMs` have passed. To any replica.
    #[oai(
        path = "/events/ui/self-update/:operationId/ack",
        method = "post",
        operation_id = "acknowledgeSelfUpdate",
        tag = "Tag::Events"
    )]
    async fn acknowledge(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        #[oai(name = "operationId")] operation_id: Path<Text<NotBlank>>,
        body: RequiredJson<Body<Ack>>,
    ) -> Result<AckAnswer, ErrorOf<Acknowledging>> {
        let operation = required(Some(operation_id.0.0), "operationId")?;
        let body = body.0.map(|body| body.0).unwrap_or_default();
        let field = |name| required(body[name].as_str().map(str::to_owned), name);
        let client = field("clientId")?;
        let token = SecretString::from(field("clientToken")?);
        let holder = Holder::of(&context.presented, who.name());
        let answer = state
            .app
            .acknowledge_self_update(&operation, &client, &token, &holder)
            .await?;
        let taken = |status| {
            AckAnswer::Taken(Json(Acknowledged {
                status,
                operation_id: operation.clone(),
            }))
        };
        Ok(match answer {
            Acknowledgment::Accepted => taken(AckStatus::Accepted),
            Acknowledgment::Ignored => taken(AckStatus::Ignored),
            Acknowledgment::Rejected => AckAnswer::Rejected(Json(Rejected {
                error: "This client is not asked to acknowledge, or its token is another's"
                    .to_owned(),
                status: Some("rejected".to_owned()),
                operation_id: Some(operation),
            })),
        })
    }

    /// See how the replacement of Plimsoll's own container stands
    ///
    /// Only for operations that `dd:self-update` told of.
    #[oai(
        path = "/self-update/:operationId/status",
        method = "get",
        operation_id = "getSelfUpdateStatus",
        tag = "Tag::Containers"
    )]
    async fn status(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        #[oai(name = "operationId")] operation_id: Path<Text<OperationName>>,
    ) -> Result<Json<SelfUpdateView>, ErrorOf<ReadsOne>> {
        let id: OperationId = operation_id
            .0
            .0
            .parse()
            .map_err(|_| ApiError::bad_request("operationId must be the id of an operation"))?;
        let found = state.app.self_update(id).await?;
        Ok(Json(SelfUpdateView {
            operation_id: id.to_string(),
            status: found.phase.status().to_string(),
            phase: found.phase.to_string(),
            completed_at: found.completed_at.map(Instant),
        }))
    }
}

fn required(value: Option<String>, name: &str) -> Result<String, ApiError> {
    value
        .filter(|value| !value.trim().is_empty())
        .ok_or_else(|| ApiError::bad_request(format!("Missing required field: {name}")))
}
