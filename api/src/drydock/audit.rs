use plimsoll_app::audit::{AuditEntry, AuditQuery};
use poem::http::Uri;
use poem_openapi::{
    Object, OpenApi,
    param::Query,
    payload::Json,
    registry::{MetaSchema, MetaSchemaRef},
};

use super::{
    Tag,
    described::{Description, Text, text},
    error::{ErrorOf, Reads},
    instant::Instant,
    page::{List, Page, PageNumber},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    words,
};

/// `GET /api/v1/audit`.
pub struct Audit;

const DEFAULT_LIMIT: u64 = 50;

words!(Word = 0.., "^[a-zA-Z0-9._-]*$");
words!(Words = 0.., "^[a-zA-Z0-9._,-]*$");

/// An instant, a day or nothing.
enum Day {}

impl Description for Day {
    fn schema() -> MetaSchema {
        let mut schema = MetaSchema::ANY;
        let instant = || MetaSchema::new_with_format("string", "date-time");
        let day = || MetaSchema::new_with_format("string", "date");
        let mut absent = MetaSchema::new("string");
        absent.max_length = Some(0);
        schema.any_of = vec![
            MetaSchemaRef::Inline(Box::new(instant())),
            MetaSchemaRef::Inline(Box::new(day())),
            MetaSchemaRef::Inline(Box::new(absent)),
        ];
        schema
    }
}

#[derive(Object)]
#[oai(
    rename_all = "camelCase",
    rename = "AuditEntry",
    skip_serializing_if_is_none
)]
struct EntryView {
    id: String,
    timestamp: Instant,
    action: String,
    container_name: String,
    container_image: Option<String>,
    from_version: Option<String>,
    to_version: Option<String>,
    trigger_name: Option<String>,
    /// `success`, `error` or `info`.
    status: String,
    details: Option<String>,
    /// Who did it.
    actor: Option<String>,
    operation_id: Option<String>,
}

impl From<AuditEntry> for EntryView {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            timestamp: Instant(entry.at),
            action: entry.action,
            container_name: entry.container_name,
            container_image: entry.container_image,
            from_version: entry.from_version,
            to_version: entry.to_version,
            trigger_name: entry.trigger_name,
            status: entry.status,
            details: entry.details,
            actor: entry.actor,
            operation_id: entry.operation_id.map(|id| id.to_string()),
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Audit {
    /// List what happened
    ///
    /// Newest first.
    #[oai(
        path = "/audit",
        method = "get",
        operation_id = "listAuditEntries",
        tag = "Tag::Audit"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        _who: Authorized<perm::AuditRead>,
        state: ApiState,
        uri: &Uri,
        /// 1 to 200; 50 where it is absent.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
        action: Query<Option<Text<Word>>>,
        /// Several actions, separated by commas.
        actions: Query<Option<Text<Words>>>,
        /// A container's name.
        container: Query<Option<Text<Word>>>,
        /// An ISO 8601 instant or day; entries on or after it.
        from: Query<Option<Text<Day>>>,
        /// An ISO 8601 instant or day; entries on or before it.
        to: Query<Option<Text<Day>>>,
    ) -> Result<Json<List<EntryView>>, ErrorOf<Reads>> {
        let page = Page::bounded(limit.0, offset.0, DEFAULT_LIMIT);
        let query = AuditQuery {
            action: text(&action.0),
            actions: text(&actions.0),
            container: text(&container.0),
            from: text(&from.0),
            to: text(&to.0),
        };
        let (entries, total) = state
            .app
            .audit_entries(query, page.offset, page.limit)
            .await?;
        let data = entries.into_iter().map(EntryView::from).collect();
        let query = uri.query().unwrap_or("");
        Ok(Json(List::of(page, data, total, "/api/v1/audit", query)))
    }
}
