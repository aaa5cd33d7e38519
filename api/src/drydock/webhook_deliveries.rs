use plimsoll_app::webhook_deliveries::{self, WebhookDelivery};
use plimsoll_domain::ids::WebhookDeliveryId;
use poem::http::Uri;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Tag,
    described::{Text, text},
    error::{ApiError, ErrorOf, ReadsOne},
    instant::Instant,
    operations::plain_caller,
    page::{List, Page, PageNumber},
    webhook_endpoints::{TestingEndpoint, endpoint},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    choices,
    middleware::context::RequestContext,
};

/// `/api/v1/webhook-endpoints/{id}/deliveries`.
pub struct WebhookDeliveries;

const DEFAULT_LIMIT: u64 = 50;

choices!(DeliveryState as "WebhookDeliveryState" = "pending", "sending", "delivered", "dead");

/// One event for one endpoint.
#[derive(Object)]
#[oai(
    rename = "WebhookDelivery",
    rename_all = "camelCase",
    skip_serializing_if_is_none
)]
pub struct DeliveryView {
    /// The header `webhook-id` of every attempt.
    id: String,
    /// The event's name.
    #[oai(rename = "type")]
    type_: String,
    /// `dead`: given up after all attempts.
    state: Text<DeliveryState>,
    attempts: i32,
    created_at: Instant,
    last_attempt_at: Option<Instant>,
    /// When the next attempt may be made; absent where there is none to come.
    next_attempt_at: Option<Instant>,
    finished_at: Option<Instant>,
    /// What the receiver answered last; absent where it did not.
    status_code: Option<i32>,
    /// Why the last attempt failed.
    error: Option<String>,
}

impl From<WebhookDelivery> for DeliveryView {
    fn from(delivery: WebhookDelivery) -> Self {
        let open = delivery.finished_at.is_none();
        Self {
            id: delivery.id.to_string(),
            type_: delivery.type_,
            state: delivery.state.into(),
            attempts: delivery.attempts,
            created_at: Instant(delivery.created_at),
            last_attempt_at: delivery.attempted_at.map(Instant),
            next_attempt_at: open.then_some(Instant(delivery.due_at)),
            finished_at: delivery.finished_at.map(Instant),
            status_code: delivery.status_code,
            error: delivery.error,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl WebhookDeliveries {
    /// List deliveries
    ///
    /// The newest events first. What was delivered is kept for a day, what was given up for 30 days.
    #[oai(
        path = "/webhook-endpoints/:id/deliveries",
        method = "get",
        operation_id = "listWebhookDeliveries",
        tag = "Tag::Webhooks"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        who: Authorized<perm::SettingsWrite>,
        app: ApiState,
        context: RequestContext,
        uri: &Uri,
        id: Path<String>,
        /// Only those in this state, such as `dead`.
        state: Query<Option<Text<DeliveryState>>>,
        /// 1 to 200; 50 where it is absent.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<List<DeliveryView>>, ErrorOf<ReadsOne>> {
        let page = Page::bounded(limit.0, offset.0, DEFAULT_LIMIT);
        let id = endpoint(&id)?;
        let caller = plain_caller(&who, &context);
        let part = (page.offset, page.limit);
        let (found, total) = app
            .app
            .webhook_deliveries(id, text(&state.0), part, &caller)
            .await?;
        let data = found.into_iter().map(DeliveryView::from).collect();
        let path = format!("/api/v1/webhook-endpoints/{id}/deliveries");
        let query = uri.query().unwrap_or("");
        Ok(Json(List::of(page, data, total, &path, query)))
    }

    /// Send an event again
    ///
    /// At once, with all its attempts before it, also if it was given up.
    #[oai(
        path = "/webhook-endpoints/:id/deliveries/:delivery/retry",
        method = "post",
        operation_id = "retryWebhookDelivery",
        tag = "Tag::Webhooks"
    )]
    async fn retry(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        delivery: Path<String>,
    ) -> Result<Json<DeliveryView>, ErrorOf<TestingEndpoint>> {
        let id = endpoint(&id)?;
        let delivery: WebhookDeliveryId = delivery
            .parse()
            .map_err(|_| ApiError::not_found(webhook_deliveries::NOT_FOUND))?;
        let caller = plain_caller(&who, &context);
        let retried = state
            .app
            .retry_webhook_delivery(id, delivery, &caller)
            .await?;
        Ok(Json(retried.into()))
    }
}
