use plimsoll_app::{
    notifications::Previewed,
    store::notifications::{Message, NotificationRule},
};
use poem::http::Uri;
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
    registry::MetaSchema,
    types::Type,
};
use serde_json::Value;
use uuid::Uuid;

use super::{
    Tag,
    body::LenientJson,
    described::{Body, Description, Text, open, text},
    error::{ApiError, Changes, ErrorOf, Reads},
    instant::Instant,
    operations::plain_caller,
    page::{List, Page, PageNumber},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    choices,
    middleware::context::RequestContext,
};

choices!(
    MessageState as "NotificationState" = "pending",
    "sending",
    "delivered",
    "dead",
    "withdrawn"
);

/// `/api/v1/notifications` and what is below it.
pub struct Notifications;

const DEFAULT_LIMIT: u64 = 50;

/// Which events are told, and to which triggers.
#[derive(Object)]
#[oai(rename = "NotificationRule")]
struct RuleView {
    id: String,
    name: String,
    description: String,
    enabled: bool,
    /// Ids of triggers; empty: all.
    triggers: Vec<String>,
}

#[derive(Object)]
#[oai(rename = "NotificationRuleList")]
struct RuleList {
    data: Vec<RuleView>,
    total: u64,
}

/// A message in the outbox.
#[derive(Object)]
#[oai(
    rename = "NotificationMessage",
    rename_all = "camelCase",
    skip_serializing_if_is_none
)]
struct MessageView {
    id: String,
    /// The rule that made it; `run`: somebody ran the trigger.
    rule: String,
    /// The trigger's id.
    trigger: String,
    /// `simple`, `batch` or `digest`.
    form: String,
    /// What it is about, such as a container's name.
    subject: String,
    /// `pending`, `sending`, `delivered`, `dead` (all attempts failed) or `withdrawn` (not true any
    /// more).
    state: String,
    attempts: i32,
    max_attempts: i32,
    created_at: Instant,
    /// When the next attempt may be made.
    due_at: Instant,
    finished_at: Option<Instant>,
    /// Why the last attempt failed.
    error: Option<String>,
}

#[derive(Object)]
#[oai(rename = "NotificationPreviewRequest", rename_all = "camelCase")]
struct PreviewBody {
    container_id: String,
}

#[derive(Object)]
#[oai(rename = "NotificationPreview")]
struct PreviewView {
    /// The trigger's id.
    trigger: String,
    title: String,
    body: String,
}

#[derive(Object)]
#[oai(rename = "NotificationPreviewList")]
struct PreviewList {
    data: Vec<PreviewView>,
    total: u64,
}

#[derive(ApiResponse)]
enum Deleted {
    /// It is gone
    #[oai(status = 204)]
    Gone,
}

impl From<NotificationRule> for RuleView {
    fn from(rule: NotificationRule) -> Self {
        Self {
            id: rule.id,
            name: rule.name,
            description: rule.description,
            enabled: rule.enabled,
            triggers: rule.triggers,
        }
    }
}

impl From<Message> for MessageView {
    fn from(message: Message) -> Self {
        let id = format!("{}.{}", message.type_, message.name);
        Self {
            id: message.id.to_string(),
            rule: message.rule,
            trigger: match message.agent.as_str() {
                "" => id,
                agent => format!("{agent}.{id}"),
            },
            form: message.form.as_str().to_owned(),
            subject: message.subject,
            state: message.state,
            attempts: message.attempts,
            max_attempts: message.max_attempts,
            created_at: Instant(message.created_at),
            due_at: Instant(message.due_at),
            finished_at: message.finished_at.map(Instant),
            error: message.error,
        }
    }
}

impl From<Previewed> for PreviewView {
    fn from(previewed: Previewed) -> Self {
        Self {
            trigger: previewed.trigger,
            title: previewed.text.title,
            body: previewed.text.body,
        }
    }
}

/// What the body leaves out stays.
enum RuleChange {}

impl Description for RuleChange {
    const NAME: Option<&'static str> = Some("UpdateNotificationRuleRequest");

    fn schema() -> MetaSchema {
        let mut triggers = MetaSchema::new("array");
        triggers.items = Some(Box::new(String::schema_ref()));
        triggers.description = Some("Ids of triggers; empty: all.");
        let mut schema = open(vec![
            ("enabled", MetaSchema::new("boolean")),
            ("triggers", triggers),
        ]);
        schema.min_properties = Some(1);
        schema.description = Some("What the body leaves out stays.");
        schema
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Notifications {
    /// List notification rules
    #[oai(
        path = "/notifications",
        method = "get",
        operation_id = "listNotificationRules",
        tag = "Tag::Notifications"
    )]
    async fn rules(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
    ) -> Result<Json<RuleList>, ErrorOf<Reads>> {
        let rules = state.app.notification_rules().await?;
        let data: Vec<RuleView> = rules.into_iter().map(RuleView::from).collect();
        let total = data.len() as u64;
        Ok(Json(RuleList { data, total }))
    }

    /// Change a notification rule
    ///
    /// `enabled` (boolean) and `triggers` (ids of triggers that notify; empty means all): what the
    /// body leaves out stays.
    #[oai(
        path = "/notifications/:id",
        method = "patch",
        operation_id = "updateNotificationRule",
        tag = "Tag::Notifications"
    )]
    async fn change(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        body: LenientJson<Body<RuleChange>>,
    ) -> Result<Json<RuleView>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        let body = body.0.map_or(Value::Null, |body| body.0);
        let rule = state.app.change_notification_rule(&id, &body, &caller);
        Ok(Json(rule.await?.into()))
    }

    /// Preview a notification
    ///
    /// What each trigger would say of the container under this rule. Nothing is sent.
    #[oai(
        path = "/notifications/:id/preview",
        method = "post",
        operation_id = "previewNotification",
        tag = "Tag::Notifications"
    )]
    async fn preview(
        &self,
        _who: Authorized<perm::TriggersRun>,
        state: ApiState,
        id: Path<String>,
        body: Json<PreviewBody>,
    ) -> Result<Json<PreviewList>, ErrorOf<Changes>> {
        let previewed = state
            .app
            .preview_notification(&id, &body.0.container_id)
            .await?;
        let data: Vec<PreviewView> = previewed.into_iter().map(PreviewView::from).collect();
        let total = data.len() as u64;
        Ok(Json(PreviewList { data, total }))
    }

    /// List messages
    ///
    /// What triggers were or will be told, newest first. What is over is kept for 30 days.
    #[oai(
        path = "/notifications/outbox",
        method = "get",
        operation_id = "listNotificationMessages",
        tag = "Tag::Notifications"
    )]
    async fn messages(
        &self,
        _who: Authorized<perm::SystemRead>,
        app: ApiState,
        uri: &Uri,
        /// Only those in this state, such as `dead`.
        state: Query<Option<Text<MessageState>>>,
        /// 1 to 200; 50 where it is absent.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<List<MessageView>>, ErrorOf<Reads>> {
        let page = Page::bounded(limit.0, offset.0, DEFAULT_LIMIT);
        let (messages, total) = app
            .app
            .messages(text(&state.0), page.offset, page.limit)
            .await?;
        let data = messages.into_iter().map(MessageView::from).collect();
        let (path, query) = ("/api/v1/notifications/outbox", uri.query().unwrap_or(""));
        Ok(Json(List::of(page, data, total, path, query)))
    }

    /// Send a message again
    ///
    /// At once, with all its attempts before it, also if it was given up.
    #[oai(
        path = "/notifications/outbox/:id/retry",
        method = "post",
        operation_id = "retryNotificationMessage",
        tag = "Tag::Notifications"
    )]
    async fn retry(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Json<MessageView>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        let message = state.app.retry_message(message_id(&id)?, &caller).await?;
        Ok(Json(message.into()))
    }

    /// Delete a message
    #[oai(
        path = "/notifications/outbox/:id",
        method = "delete",
        operation_id = "deleteNotificationMessage",
        tag = "Tag::Notifications"
    )]
    async fn delete(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Deleted, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        state.app.delete_message(message_id(&id)?, &caller).await?;
        Ok(Deleted::Gone)
    }
}

/// What is no id names no message.
fn message_id(text: &str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(text).map_err(|_| ApiError::not_found("Message not found"))
}
