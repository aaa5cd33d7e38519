use plimsoll_app::{
    outcomes::Outcome,
    trigger_runs::{TriggerPath, TriggerRun},
};
use poem::http::StatusCode;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path},
    payload::Json,
    registry::MetaSchema,
    types::{Any, Type},
};
use serde_json::{Value, json};

use super::{
    Tag,
    body::LenientJson,
    described::{Body, Description, IdempotencyKey, Text, open, text},
    error::{ApiError, ErrorOf},
    operations::{AcceptedHeaders, OperationAccepted, caller, failed, plain_caller},
    prefer::Preference,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `POST /api/v1/containers/{id}/triggers/{type}/{name}`, `POST /api/v1/triggers/{type}/{name}`, and
/// the forms for agents.
pub struct TriggerRuns;

error_set!(pub Running = 400, 404, 409, 413, 415, 422);

/// Nothing more is to be said.
#[derive(Object)]
pub struct TriggerDone {}

#[derive(ApiResponse)]
pub enum TriggerAnswer {
    /// It has run to its end
    #[oai(status = 200)]
    Done(
        Json<TriggerDone>,
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

/// A container, of which the `id` is needed.
enum TriggerSubject {}

impl Description for TriggerSubject {
    const NAME: Option<&'static str> = Some("RunTriggerRequest");

    fn schema() -> MetaSchema {
        let mut schema = open(vec![("id", MetaSchema::new("string"))]);
        schema.description = Some("A container. Templates may show its other fields.");
        schema.additional_properties = Some(Box::new(Any::<Value>::schema_ref()));
        schema.required = vec!["id"];
        schema
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl TriggerRuns {
    /// Run a trigger on a container
    ///
    /// A trigger of type `docker` or `dockercompose` updates the container, which also needs the
    /// permission `containers:update`; the answer waits for the end as that of an update does.
    #[oai(
        path = "/containers/:id/triggers/:type/:name",
        method = "post",
        operation_id = "runContainerTrigger",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn run(
        &self,
        who: Authorized<perm::TriggersRun>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        #[oai(name = "type")] type_: Path<String>,
        name: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<TriggerAnswer, ErrorOf<Running>> {
        let path = TriggerPath {
            type_: &type_,
            name: &name,
            agent: None,
        };
        run(&state, &who, &context, (&id, path), (prefer.0, key.0)).await
    }

    /// Run a trigger of an agent on one of its containers
    ///
    /// As for the installation's own triggers.
    #[oai(
        path = "/containers/:id/triggers/:type/:name/:agent",
        method = "post",
        operation_id = "runAgentContainerTrigger",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn run_of_agent(
        &self,
        who: Authorized<perm::TriggersRun>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        #[oai(name = "type")] type_: Path<String>,
        name: Path<String>,
        agent: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<TriggerAnswer, ErrorOf<Running>> {
        let path = TriggerPath {
            type_: &type_,
            name: &name,
            agent: Some(&agent),
        };
        run(&state, &who, &context, (&id, path), (prefer.0, key.0)).await
    }

    /// Run a trigger with a container
    ///
    /// The body is the container, with at least an `id`; it need not exist. A trigger of type
    /// `docker` or `dockercompose` needs one that does, and updates it.
    #[oai(
        path = "/triggers/:type/:name",
        method = "post",
        operation_id = "runTrigger",
        tag = "Tag::Components"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn run_with(
        &self,
        who: Authorized<perm::TriggersRun>,
        state: ApiState,
        context: RequestContext,
        #[oai(name = "type")] type_: Path<String>,
        name: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        body: LenientJson<Body<TriggerSubject>>,
    ) -> Result<TriggerAnswer, ErrorOf<Running>> {
        let path = TriggerPath {
            type_: &type_,
            name: &name,
            agent: None,
        };
        run_with(&state, &who, &context, path, (prefer.0, body)).await
    }

    /// Run a trigger of an agent with a container
    ///
    /// As for the installation's own triggers.
    #[oai(
        path = "/triggers/:type/:name/:agent",
        method = "post",
        operation_id = "runAgentTrigger",
        tag = "Tag::Components"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn run_with_of_agent(
        &self,
        who: Authorized<perm::TriggersRun>,
        state: ApiState,
        context: RequestContext,
        #[oai(name = "type")] type_: Path<String>,
        name: Path<String>,
        agent: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        body: LenientJson<Body<TriggerSubject>>,
    ) -> Result<TriggerAnswer, ErrorOf<Running>> {
        let path = TriggerPath {
            type_: &type_,
            name: &name,
            agent: Some(&agent),
        };
        run_with(&state, &who, &context, path, (prefer.0, body)).await
    }
}

async fn run(
    state: &ApiState,
    who: &Authorized<perm::TriggersRun>,
    context: &RequestContext,
    (id, trigger): (&str, TriggerPath<'_>),
    (prefer, key): (Option<String>, Option<Text<IdempotencyKey>>),
) -> Result<TriggerAnswer, ErrorOf<Running>> {
    let preference = Preference::parse(prefer.as_deref());
    let TriggerPath { type_, name, agent } = trigger;
    let agent = agent.map(|agent| format!("/{agent}")).unwrap_or_default();
    let target = format!("POST /containers/{id}/triggers/{type_}/{name}{agent}");
    let caller = caller(who.principal(), context, text(&key), &target, "")?;
    let ran = state.app.run_trigger(id, trigger, &caller).await?;
    let failure = format!("Error when running trigger (type={type_}, name={name})");
    answer(state, ran, failure, &preference).await
}

async fn run_with(
    state: &ApiState,
    who: &Authorized<perm::TriggersRun>,
    context: &RequestContext,
    trigger: TriggerPath<'_>,
    (prefer, body): (Option<String>, LenientJson<Body<TriggerSubject>>),
) -> Result<TriggerAnswer, ErrorOf<Running>> {
    let preference = Preference::parse(prefer.as_deref());
    let caller = plain_caller(who.principal(), context);
    let body = body.0.map_or(Value::Null, |body| body.0);
    let ran = state.app.run_trigger_with(trigger, &body, &caller).await?;
    let failure = format!(
        "Error when running trigger {}.{}",
        trigger.type_, trigger.name
    );
    answer(state, ran, failure, &preference).await
}

/// `failure` is the contract's text for a trigger that ran and failed.
async fn answer(
    state: &ApiState,
    ran: TriggerRun,
    failure: String,
    preference: &Preference,
) -> Result<TriggerAnswer, ErrorOf<Running>> {
    let done = || TriggerAnswer::Done(Json(TriggerDone {}), preference.applied());
    let operation = match ran {
        TriggerRun::Done => return Ok(done()),
        TriggerRun::Failed(reason) => {
            let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, failure);
            return Err(error.with_details(json!({ "reason": reason })).into());
        }
        TriggerRun::Operation(operation) => operation,
    };
    match state.outcome(operation, preference.patience).await? {
        Outcome::Succeeded { .. } => Ok(done()),
        Outcome::Ended(operation) => Err(failed(failure, &operation).into()),
        Outcome::Running => {
            let headers = AcceptedHeaders::of(operation, preference);
            Ok(TriggerAnswer::Accepted(
                Json(OperationAccepted {
                    message: "Trigger accepted".to_owned(),
                    operation_id: operation.to_string(),
                }),
                headers.location,
                headers.preference_applied,
            ))
        }
    }
}
