use plimsoll_app::{
    Webhook,
    outcomes::Outcome,
    webhook_calls::{NamedContainer, WebhookUpdate},
};
use plimsoll_domain::access::{Principal, Scope};
use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ApiResponse, ExtractParamOptions, Object, OpenApi,
    param::{Header, Path, Query},
    payload::Json,
    registry::{MetaSecurityScheme, Registry},
};

use super::{
    Tag,
    error::{ApiError, ErrorOf},
    operations::{OperationAccepted, failed, plain_caller},
    prefer::Preference,
};
use crate::{ApiState, auth, error_set, middleware::context::RequestContext};

/// `/api/v1/webhook/*`: the contract's bearer webhooks.
pub struct Webhooks;

error_set!(pub Calling = 400, 404, 409);

#[derive(Object)]
pub struct WatchTriggered {
    message: String,
    result: WatchersReached,
}

#[derive(Object)]
pub struct WatchersReached {
    watchers: usize,
}

#[derive(Object)]
pub struct ContainerTriggered {
    message: String,
    result: ContainerReached,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ContainerReached {
    container: String,
    #[oai(skip_serializing_if_is_none)]
    operation_id: Option<String>,
}

impl ContainerTriggered {
    fn new(message: &str, container: &str, operation_id: Option<String>) -> Json<Self> {
        Json(Self {
            message: format!("{message} {container}"),
            result: ContainerReached {
                container: container.to_owned(),
                operation_id,
            },
        })
    }
}

#[derive(ApiResponse)]
pub enum WebhookUpdateAnswer {
    /// Observed: updated, or nothing newer to update to
    #[oai(status = 200)]
    Done(Json<ContainerTriggered>),
    /// Durable and running
    #[oai(status = 202)]
    Accepted(Json<OperationAccepted>),
}

/// A call that carried the token of webhook `W`. Comes first, like `Authorized` elsewhere.
pub struct Called<W> {
    principal: Principal,
    webhook: std::marker::PhantomData<fn() -> W>,
}

/// Which of the three webhooks.
pub trait Kind: Send + Sync + 'static {
    const WEBHOOK: Webhook;
    /// All that the call may do.
    const SCOPES: &'static [Scope];
}

pub enum WatchAll {}
pub enum Watch {}
pub enum Update {}

impl Kind for WatchAll {
    const WEBHOOK: Webhook = Webhook::WatchAll;
    const SCOPES: &'static [Scope] = &[Scope::ContainersWatch];
}

impl Kind for Watch {
    const WEBHOOK: Webhook = Webhook::Watch;
    const SCOPES: &'static [Scope] = &[Scope::ContainersWatch];
}

impl Kind for Update {
    const WEBHOOK: Webhook = Webhook::Update;
    const SCOPES: &'static [Scope] = &[Scope::ContainersWatch, Scope::ContainersUpdate];
}

const SCHEME: &str = "webhook";

impl<'a, W: Kind> ApiExtractor<'a> for Called<W> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "A webhook token (DD_SERVER_WEBHOOK_TOKEN, or one per webhook). It works on no \
                     other endpoint",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: None,
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let (state, _) = auth::parts(request)?;
        let authorization = request.header("authorization");
        state
            .app
            .authenticate_webhook(W::WEBHOOK, authorization)
            .map_err(ApiError::from)?;
        Ok(Self {
            principal: Principal::webhook(W::SCOPES.iter().copied().collect()),
            webhook: std::marker::PhantomData,
        })
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Webhooks {
    /// Watch all containers
    #[oai(
        path = "/webhook/watch",
        method = "post",
        operation_id = "webhookWatchAll",
        tag = "Tag::Webhooks"
    )]
    async fn watch_all(
        &self,
        call: Called<WatchAll>,
        state: ApiState,
        context: RequestContext,
    ) -> Result<Json<WatchTriggered>, ErrorOf<Calling>> {
        let caller = plain_caller(&call.principal, &context);
        let watchers = state.app.webhook_watch_all(&caller).await?;
        Ok(Json(WatchTriggered {
            message: "Watch cycle triggered".to_owned(),
            result: WatchersReached { watchers },
        }))
    }

    /// Watch one container
    #[oai(
        path = "/webhook/watch/:name",
        method = "post",
        operation_id = "webhookWatchContainer",
        tag = "Tag::Webhooks"
    )]
    async fn watch(
        &self,
        call: Called<Watch>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        /// The agent, where several engines have a container of that name
        agent: Query<Option<String>>,
        /// The watcher, where several engines have a container of that name
        watcher: Query<Option<String>>,
    ) -> Result<Json<ContainerTriggered>, ErrorOf<Calling>> {
        let caller = plain_caller(&call.principal, &context);
        let container = named(name, agent, watcher);
        state.app.webhook_watch(&container, &caller).await?;
        Ok(ContainerTriggered::new(
            "Watch triggered for container",
            &container.name,
            None,
        ))
    }

    /// Check one container and update it if there is something newer
    ///
    /// Waits for the end of the update, as `Prefer: wait=N` says; 202 past that.
    #[oai(
        path = "/webhook/update/:name",
        method = "post",
        operation_id = "webhookUpdateContainer",
        tag = "Tag::Webhooks"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn update(
        &self,
        call: Called<Update>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        /// The agent, where several engines have a container of that name
        agent: Query<Option<String>>,
        /// The watcher, where several engines have a container of that name
        watcher: Query<Option<String>>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
    ) -> Result<WebhookUpdateAnswer, ErrorOf<Calling>> {
        let preference = Preference::parse(prefer.as_deref());
        let caller = plain_caller(&call.principal, &context);
        let container = named(name, agent, watcher);
        let operation = match state.app.webhook_update(&container, &caller).await? {
            WebhookUpdate::Accepted(operation) => operation,
            WebhookUpdate::UpToDate => {
                return Ok(WebhookUpdateAnswer::Done(ContainerTriggered::new(
                    "No update available for container",
                    &container.name,
                    None,
                )));
            }
        };
        match state.outcome(operation, preference.patience).await? {
            Outcome::Succeeded { .. } => Ok(WebhookUpdateAnswer::Done(ContainerTriggered::new(
                "Update triggered for container",
                &container.name,
                Some(operation.to_string()),
            ))),
            Outcome::Ended(operation) => Err(failed("Error updating container", &operation).into()),
            Outcome::Running => Ok(WebhookUpdateAnswer::Accepted(Json(OperationAccepted {
                message: format!("Update triggered for container {}", container.name),
                operation_id: operation.to_string(),
            }))),
        }
    }
}

fn named(
    name: Path<String>,
    agent: Query<Option<String>>,
    watcher: Query<Option<String>>,
) -> NamedContainer {
    NamedContainer {
        name: name.0,
        agent: agent.0,
        watcher: watcher.0,
    }
}
