use plimsoll_app::webhook_endpoints::{
    self, EndpointChange, EndpointWithKey, NewEndpoint, WebhookEndpoint,
};
use plimsoll_domain::{
    ids::WebhookEndpointId,
    webhook::{EVENTS, EVERYTHING},
};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::Path,
    payload::Json,
    registry::MetaSchema,
    types::{Example, MaybeUndefined},
};
use secrecy::ExposeSecret;

use super::{
    Tag,
    described::{Description, Text},
    error::{ApiError, Changes, ErrorOf, INVALID_PARAMETERS, Reads, ReadsOne},
    instant::Instant,
    operations::plain_caller,
    webhook_deliveries::DeliveryView,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
    words,
};

/// `/api/v1/webhook-endpoints`: outgoing webhooks.
pub struct WebhookEndpoints;

error_set!(pub CreatingEndpoint = 400, 409, 413, 415);
error_set!(pub OneEndpoint = 404);
error_set!(pub TestingEndpoint = 404, 409);

words!(EndpointUrl = 1..=2048, "^https?://");
words!(EndpointDescription = 0..=200, r"^[^\p{C}]*$");

/// An event that endpoints can be told of.
enum EventName {}

impl Description for EventName {
    const NAME: Option<&'static str> = Some("WebhookEvent");

    fn schema() -> MetaSchema {
        let mut schema = MetaSchema::new("string");
        let names = [EVERYTHING].into_iter().chain(EVENTS);
        schema.enum_items = names.map(Into::into).collect();
        schema.description = Some("The name of an event of the stream; `*` stands for all.");
        schema
    }
}

#[derive(Object)]
#[oai(
    rename = "CreateWebhookEndpointRequest",
    rename_all = "camelCase",
    skip_serializing_if_is_none,
    example
)]
struct NewEndpointBody {
    /// Where events are sent by POST: `https://…`, or `http://…` on this machine and in private
    /// networks. Without credentials; redirects are not followed.
    url: Text<EndpointUrl>,
    /// Nothing where it is absent.
    description: MaybeUndefined<Text<EndpointDescription>>,
    /// All where it is absent.
    events: MaybeUndefined<Vec<Text<EventName>>>,
    /// True where it is absent.
    enabled: MaybeUndefined<bool>,
}

impl Example for NewEndpointBody {
    fn example() -> Self {
        let names = ["dd:update-operation-changed", "dd:container-added"];
        Self {
            url: "https://ci.example.org/hooks/plimsoll".to_owned().into(),
            description: MaybeUndefined::Value("Tells the pipeline".to_owned().into()),
            events: MaybeUndefined::Value(names.map(|name| name.to_owned().into()).into()),
            enabled: MaybeUndefined::Undefined,
        }
    }
}

/// What to change; at least one field.
#[derive(Object)]
#[oai(
    rename = "UpdateWebhookEndpointRequest",
    rename_all = "camelCase",
    skip_serializing_if_is_none,
    example
)]
struct EndpointChangeBody {
    url: MaybeUndefined<Text<EndpointUrl>>,
    description: MaybeUndefined<Text<EndpointDescription>>,
    events: MaybeUndefined<Vec<Text<EventName>>>,
    /// Switched on again, it is told what waited meanwhile.
    enabled: MaybeUndefined<bool>,
}

impl Example for EndpointChangeBody {
    fn example() -> Self {
        Self {
            url: MaybeUndefined::Undefined,
            description: MaybeUndefined::Undefined,
            events: MaybeUndefined::Undefined,
            enabled: MaybeUndefined::Value(false),
        }
    }
}

/// Who is told of events. Its secret is shown when it is made, and never again.
#[derive(Object)]
#[oai(
    rename = "WebhookEndpoint",
    rename_all = "camelCase",
    skip_serializing_if_is_none
)]
struct EndpointView {
    id: String,
    url: String,
    description: String,
    /// Names of events, or `*` alone.
    events: Vec<Text<EventName>>,
    enabled: bool,
    /// Why Plimsoll switched it off: it answered 410, or failed for five days.
    disabled_reason: Option<String>,
    /// Since when every attempt has failed; absent after a success.
    failing_since: Option<Instant>,
    /// Until when the secret before the present one signs too.
    previous_secret_expires_at: Option<Instant>,
    created_at: Instant,
    updated_at: Instant,
}

/// An endpoint with its new secret, which is never shown again.
#[derive(Object)]
#[oai(
    rename = "WebhookEndpointWithSecret",
    rename_all = "camelCase",
    skip_serializing_if_is_none
)]
struct EndpointWithSecretView {
    /// What receivers verify signatures with: `whsec_…`.
    secret: String,
    id: String,
    url: String,
    description: String,
    events: Vec<Text<EventName>>,
    enabled: bool,
    disabled_reason: Option<String>,
    failing_since: Option<Instant>,
    previous_secret_expires_at: Option<Instant>,
    created_at: Instant,
    updated_at: Instant,
}

#[derive(Object)]
#[oai(rename = "WebhookEndpointList")]
struct EndpointList {
    data: Vec<EndpointView>,
    total: u64,
}

#[derive(ApiResponse)]
enum EndpointCreated {
    #[oai(status = 201)]
    Created(Json<EndpointWithSecretView>),
}

#[derive(ApiResponse)]
enum EndpointDeleted {
    /// It is gone
    #[oai(status = 204)]
    Gone,
}

#[derive(ApiResponse)]
enum TestQueued {
    /// It is sent with the next look of a worker
    #[oai(status = 202)]
    Queued(Json<DeliveryView>),
}

#[OpenApi(prefix_path = "/api/v1")]
impl WebhookEndpoints {
    /// List webhook endpoints
    ///
    /// In the order they were made in.
    #[oai(
        path = "/webhook-endpoints",
        method = "get",
        operation_id = "listWebhookEndpoints",
        tag = "Tag::Webhooks"
    )]
    async fn list(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
    ) -> Result<Json<EndpointList>, ErrorOf<Reads>> {
        let caller = plain_caller(&who, &context);
        let endpoints = state.app.webhook_endpoints(&caller).await?;
        let data: Vec<EndpointView> = endpoints.into_iter().map(EndpointView::from).collect();
        let total = data.len() as u64;
        Ok(Json(EndpointList { data, total }))
    }

    /// Create a webhook endpoint
    ///
    /// Events are sent to it from now on, each at least once, signed as Standard Webhooks has it:
    /// `{"type", "timestamp", "data"}` with the data of the event stream. The answer is the only
    /// place that shows the secret. At most 50.
    #[oai(
        path = "/webhook-endpoints",
        method = "post",
        operation_id = "createWebhookEndpoint",
        tag = "Tag::Webhooks"
    )]
    async fn create(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        body: Json<NewEndpointBody>,
    ) -> Result<EndpointCreated, ErrorOf<CreatingEndpoint>> {
        let body = body.0;
        let new = NewEndpoint {
            url: body.url.0,
            description: given(body.description)?
                .map(|text| text.0)
                .unwrap_or_default(),
            events: given(body.events)?.map_or_else(|| vec![EVERYTHING.to_owned()], names),
            enabled: given(body.enabled)?.unwrap_or(true),
        };
        let caller = plain_caller(&who, &context);
        let created = state.app.create_webhook_endpoint(new, &caller).await?;
        Ok(EndpointCreated::Created(Json(created.into())))
    }

    /// Get a webhook endpoint
    #[oai(
        path = "/webhook-endpoints/:id",
        method = "get",
        operation_id = "getWebhookEndpoint",
        tag = "Tag::Webhooks"
    )]
    async fn get(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Json<EndpointView>, ErrorOf<ReadsOne>> {
        let caller = plain_caller(&who, &context);
        let found = state.app.webhook_endpoint(endpoint(&id)?, &caller).await?;
        Ok(Json(found.into()))
    }

    /// Change a webhook endpoint
    ///
    /// What the body does not name stays. While it is switched off nothing is sent; what happens
    /// meanwhile waits, for as long as events are kept.
    #[oai(
        path = "/webhook-endpoints/:id",
        method = "patch",
        operation_id = "updateWebhookEndpoint",
        tag = "Tag::Webhooks"
    )]
    async fn change(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        body: Json<EndpointChangeBody>,
    ) -> Result<Json<EndpointView>, ErrorOf<Changes>> {
        let body = body.0;
        let change = EndpointChange {
            url: given(body.url)?.map(|text| text.0),
            description: given(body.description)?.map(|text| text.0),
            events: given(body.events)?.map(names),
            enabled: given(body.enabled)?,
        };
        let caller = plain_caller(&who, &context);
        let id = endpoint(&id)?;
        let changed = state.app.change_webhook_endpoint(id, change, &caller);
        Ok(Json(changed.await?.into()))
    }

    /// Delete a webhook endpoint
    ///
    /// With what it was still to be told.
    #[oai(
        path = "/webhook-endpoints/:id",
        method = "delete",
        operation_id = "deleteWebhookEndpoint",
        tag = "Tag::Webhooks"
    )]
    async fn delete(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<EndpointDeleted, ErrorOf<OneEndpoint>> {
        let caller = plain_caller(&who, &context);
        let id = endpoint(&id)?;
        state.app.delete_webhook_endpoint(id, &caller).await?;
        Ok(EndpointDeleted::Gone)
    }

    /// Test a webhook endpoint
    ///
    /// Sends it a `dd:webhook-test`, signed and repeated like any event. What became of it is among
    /// its deliveries.
    #[oai(
        path = "/webhook-endpoints/:id/test",
        method = "post",
        operation_id = "testWebhookEndpoint",
        tag = "Tag::Webhooks"
    )]
    async fn test(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<TestQueued, ErrorOf<TestingEndpoint>> {
        let caller = plain_caller(&who, &context);
        let id = endpoint(&id)?;
        let queued = state.app.test_webhook_endpoint(id, &caller).await?;
        Ok(TestQueued::Queued(Json(queued.into())))
    }

    /// Give a webhook endpoint a new secret
    ///
    /// For 24 hours the old one signs beside it, so that receivers can be changed one by one. The
    /// answer is the only place that shows the new one.
    #[oai(
        path = "/webhook-endpoints/:id/rotate-secret",
        method = "post",
        operation_id = "rotateWebhookSecret",
        tag = "Tag::Webhooks"
    )]
    async fn rotate(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Json<EndpointWithSecretView>, ErrorOf<OneEndpoint>> {
        let caller = plain_caller(&who, &context);
        let id = endpoint(&id)?;
        let rotated = state.app.rotate_webhook_secret(id, &caller).await?;
        Ok(Json(rotated.into()))
    }
}

/// What is no id names no endpoint.
pub(super) fn endpoint(id: &str) -> Result<WebhookEndpointId, ApiError> {
    id.parse()
        .map_err(|_| ApiError::not_found(webhook_endpoints::NOT_FOUND))
}

/// A field that may be absent is not `null` either.
fn given<T>(field: MaybeUndefined<T>) -> Result<Option<T>, ApiError> {
    match field {
        MaybeUndefined::Undefined => Ok(None),
        MaybeUndefined::Null => Err(ApiError::bad_request(INVALID_PARAMETERS)),
        MaybeUndefined::Value(value) => Ok(Some(value)),
    }
}

fn names(events: Vec<Text<EventName>>) -> Vec<String> {
    events.into_iter().map(|name| name.0).collect()
}

impl From<WebhookEndpoint> for EndpointView {
    fn from(endpoint: WebhookEndpoint) -> Self {
        Self {
            id: endpoint.id.to_string(),
            url: endpoint.url,
            description: endpoint.description,
            events: endpoint.events.into_iter().map(Text::from).collect(),
            enabled: endpoint.enabled,
            disabled_reason: endpoint.disabled_reason,
            failing_since: endpoint.failing_since.map(Instant),
            previous_secret_expires_at: endpoint.old_secret_until.map(Instant),
            created_at: Instant(endpoint.created_at),
            updated_at: Instant(endpoint.updated_at),
        }
    }
}

impl From<EndpointWithKey> for EndpointWithSecretView {
    fn from(new: EndpointWithKey) -> Self {
        let view = EndpointView::from(new.endpoint);
        Self {
            secret: new.key.expose_secret().to_owned(),
            id: view.id,
            url: view.url,
            description: view.description,
            events: view.events,
            enabled: view.enabled,
            disabled_reason: view.disabled_reason,
            failing_since: view.failing_since,
            previous_secret_expires_at: view.previous_secret_expires_at,
            created_at: view.created_at,
            updated_at: view.updated_at,
        }
    }
}
