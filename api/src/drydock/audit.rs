use plimsoll_app::audit::{AuditEntry, AuditQuery};
use plimsoll_domain::image::ImageRef;
use poem::http::Uri;
use poem_openapi::{Object, OpenApi, param::Query, payload::Json};

use super::{
    Tag,
    described::{Text, text},
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

// An instant, a day or nothing.
words!(
    Day = 0..,
    r"^([0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}([.][0-9]+)?)?(Z|[+-][0-9]{2}:[0-9]{2}))?)?$"
);

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
            container_image: entry.container_image.map(image_name),
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

/// The contract shows the image's name, without registry and tag; the versions have fields of
/// their own.
fn image_name(image: String) -> String {
    match ImageRef::parse(&image) {
        Ok(reference) => reference.familiar_repository().to_owned(),
        Err(_) => image,
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
