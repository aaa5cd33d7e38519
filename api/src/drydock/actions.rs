use plimsoll_app::{AppError, actions::WantedAction, outcomes::Outcome};
use plimsoll_domain::action::ContainerAction;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path, Query},
    payload::Json,
};

use super::{
    Tag,
    described::{IdempotencyKey, Text, text},
    error::ErrorOf,
    model::Container,
    operation_groups::{finished, location},
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

/// `POST /api/v1/containers/{id}/start`, `/stop` and `/restart`.
pub struct Actions;

error_set!(pub Acting = 400, 404, 409, 422);

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ContainerActed {
    message: String,
    /// The container as it was observed afterwards; `null` where it is gone again.
    #[oai(nullable)]
    result: Option<Shown<Container>>,
    operation_id: String,
}

#[derive(ApiResponse)]
pub enum ActionAnswer {
    /// Observed: the container is in the state that was asked for
    #[oai(status = 200)]
    Done(
        Json<ContainerActed>,
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

/// What the handlers below share.
struct Asked<'a> {
    who: &'a Authorized<perm::ContainersActions>,
    state: &'a ApiState,
    context: &'a RequestContext,
    id: &'a str,
    prefer: Option<String>,
    key: Option<Text<IdempotencyKey>>,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Actions {
    /// Start a container
    ///
    /// One that runs already is a success. Refused while an operation works on the container.
    #[oai(
        path = "/containers/:id/start",
        method = "post",
        operation_id = "startContainer",
        tag = "Tag::Containers"
    )]
    async fn start(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<ActionAnswer, ErrorOf<Acting>> {
        Asked {
            who: &who,
            state: &state,
            context: &context,
            id: &id,
            prefer: prefer.0,
            key: key.0,
        }
        .answer(ContainerAction::Start)
        .await
    }

    /// Stop a container
    ///
    /// One that does not run is a success. Refused while an operation works on the container.
    #[oai(
        path = "/containers/:id/stop",
        method = "post",
        operation_id = "stopContainer",
        tag = "Tag::Containers"
    )]
    async fn stop(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<ActionAnswer, ErrorOf<Acting>> {
        Asked {
            who: &who,
            state: &state,
            context: &context,
            id: &id,
            prefer: prefer.0,
            key: key.0,
        }
        .answer(ContainerAction::Stop)
        .await
    }

    /// Restart a container
    ///
    /// One that does not run is started. Refused while an operation works on the container. With
    /// its dependents, `operationId` and `Location` name the group of their operations.
    #[oai(
        path = "/containers/:id/restart",
        method = "post",
        operation_id = "restartContainer",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn restart(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `true` also restarts, after it, what runs and lives in its namespaces, or asks to be
        /// restarted after it.
        dependents: Query<Option<bool>>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operation
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<ActionAnswer, ErrorOf<Acting>> {
        let asked = Asked {
            who: &who,
            state: &state,
            context: &context,
            id: &id,
            prefer: prefer.0,
            key: key.0,
        };
        match dependents.0 {
            Some(true) => asked.answer_with_dependents().await,
            _ => asked.answer(ContainerAction::Restart).await,
        }
    }
}

impl Asked<'_> {
    async fn answer_with_dependents(self) -> Result<ActionAnswer, ErrorOf<Acting>> {
        let Asked { state, id, .. } = self;
        let preference = Preference::parse(self.prefer.as_deref());
        let target = format!("POST /containers/{id}/restart?dependents=true");
        let key = text(&self.key);
        let caller = caller(self.who.principal(), self.context, key, &target, "")?;
        let restart = state.app.request_restart_with_dependents(id, &caller);
        let group = restart.await?;
        let operation_id = group.to_string();
        Ok(
            match finished(state, group, &preference, "container").await? {
                Some(_) => {
                    let container = match state.app.get_container(id).await {
                        Ok(container) => Some(container),
                        Err(AppError::NotFound(_)) => None,
                        Err(error) => return Err(error.into()),
                    };
                    ActionAnswer::Done(
                        Json(ContainerActed {
                            message: "Container restarted successfully".to_owned(),
                            result: container.map(|c| Shown::new(c.to_value())),
                            operation_id,
                        }),
                        preference.applied(),
                    )
                }
                None => ActionAnswer::Accepted(
                    Json(OperationAccepted {
                        message: "Container restart accepted".to_owned(),
                        operation_id,
                    }),
                    location(group),
                    preference.applied(),
                ),
            },
        )
    }

    async fn answer(self, action: ContainerAction) -> Result<ActionAnswer, ErrorOf<Acting>> {
        let Asked { state, id, .. } = self;
        let preference = Preference::parse(self.prefer.as_deref());
        let target = format!("POST /containers/{id}/{}", action.as_str());
        let key = text(&self.key);
        let caller = caller(self.who.principal(), self.context, key, &target, "")?;
        let operation = state
            .app
            .request_action(id, action, WantedAction::default(), &caller)
            .await?;
        match state.outcome(operation, preference.patience).await? {
            Outcome::Succeeded { container, .. } => Ok(ActionAnswer::Done(
                Json(ContainerActed {
                    message: format!("Container {} successfully", action.participle()),
                    result: container.map(|c| Shown::new(c.to_value())),
                    operation_id: operation.to_string(),
                }),
                preference.applied(),
            )),
            Outcome::Ended(operation) => {
                let message = format!("Error performing {} on container", action.as_str());
                Err(failed(message, &operation).into())
            }
            Outcome::Running => {
                let headers = AcceptedHeaders::of(operation, &preference);
                Ok(ActionAnswer::Accepted(
                    Json(OperationAccepted {
                        message: format!("Container {} accepted", action.as_str()),
                        operation_id: operation.to_string(),
                    }),
                    headers.location,
                    headers.preference_applied,
                ))
            }
        }
    }
}
