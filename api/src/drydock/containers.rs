//! Lists of containers (contract/drydock-container-api.md). The pieces were rendered when the
//! containers changed; here they are put together.

use bytes::{BufMut, Bytes, BytesMut};
use plimsoll_app::{
    containers::{self, Direction, ListQuery, Sort},
    inventory,
};
use plimsoll_domain::assessment::MaturityLevel;
use poem::{Request, http::Uri};
use poem_openapi::{
    OpenApi,
    param::{Header, Path, Query},
};
use sha2::{Digest, Sha256};
use std::{str::FromStr, sync::Arc};

use super::{
    Tag,
    described::{Text, text},
    error::{ApiError, ErrorOf, Reads, ReadsOne},
    model::Container,
    page::{Links, List, Page, PageNumber},
    raw::{RawJson, weak_etag},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    choices, words,
};

const PATH: &str = "/api/v1/containers";

/// Parameters of the list that are not filters on a field.
const CONTROL: [&str; 9] = [
    "includeVulnerabilities",
    "limit",
    "offset",
    "sort",
    "order",
    "maturity",
    "status",
    "kind",
    "watcher",
];

/// `GET /api/v1/containers` and `/api/v1/containers/{id}`.
pub struct Containers;

#[OpenApi(prefix_path = "/api/v1")]
impl Containers {
    /// List containers
    ///
    /// As of this request, on every replica. Any other query parameter is a filter on a dotted
    /// field, such as `image.name=nginx`; a field that does not exist matches nothing.
    #[oai(
        path = "/containers",
        method = "get",
        operation_id = "listContainers",
        tag = "Tag::Containers"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        request: &Request,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
        /// `name`, `status`, `age` or `created`; with `-` in front, the other way round.
        sort: Query<Option<Text<SortWord>>>,
        /// `asc` or `desc`: overrides the sign of `sort`.
        order: Query<Option<Text<OrderWord>>>,
        /// `update-available`, `up-to-date`, `running`, `stopped` (whatever does not run),
        /// `exited`, `paused`, `restarting`, `dead` or `created`.
        status: Query<Option<Text<StatusWord>>>,
        /// `major`, `minor`, `patch`, `digest`, `watched`, `unwatched` or `all`.
        kind: Query<Option<Text<KindWord>>>,
        watcher: Query<Option<Text<WatcherName>>>,
        /// `hot`, `mature` or `established`.
        maturity: Query<Option<Text<MaturityWord>>>,
        /// Whether to include full lists of vulnerabilities, where there are any.
        #[oai(name = "includeVulnerabilities")]
        include_vulnerabilities: Query<Option<String>>,
        #[oai(name = "If-None-Match")] if_none_match: Header<Option<String>>,
    ) -> Result<RawJson<List<Container>>, ErrorOf<Reads>> {
        let page = Page::all(limit.0, offset.0);
        let mut wanted = sort_of(text(&sort.0), text(&order.0))?;
        wanted.status = one_of(text(&status.0), "status filter")?;
        wanted.kind = one_of(text(&kind.0), "kind filter")?;
        wanted.maturity = text(&maturity.0)
            .map(|text| MaturityLevel::parse(text.trim()).ok_or_else(|| invalid("maturity filter")))
            .transpose()?;
        wanted.watcher = text(&watcher.0).map(|name| name.trim().to_owned());
        if wanted.watcher.as_deref() == Some("") {
            return Err(invalid("watcher filter").into());
        }
        wanted.fields = fields(request);
        (wanted.limit, wanted.offset) = (whole(page.limit), whole(page.offset));
        let included = include_vulnerabilities.0.as_deref().map(str::trim);
        if included.is_some_and(|text| text.eq_ignore_ascii_case("true") || text == "1") {
            return Ok(with_vulnerabilities(
                &state,
                &who,
                page,
                &wanted,
                request.uri(),
                if_none_match.0.as_deref(),
            )
            .await?);
        }
        Ok(answer(
            &who,
            page,
            &wanted,
            request.uri(),
            if_none_match.0.as_deref(),
        ))
    }

    /// Get a container
    #[oai(
        path = "/containers/:id",
        method = "get",
        operation_id = "getContainer",
        tag = "Tag::Containers"
    )]
    async fn get(
        &self,
        who: Authorized<perm::ContainersRead>,
        id: Path<String>,
        #[oai(name = "If-None-Match")] if_none_match: Header<Option<String>>,
    ) -> Result<RawJson<Container>, ErrorOf<ReadsOne>> {
        let entry = who
            .snapshot()
            .inventory
            .get(&id.0)
            .ok_or_else(|| ApiError::not_found(containers::NOT_FOUND))?;
        let etag = weak_etag(&entry.hash);
        Ok(RawJson::conditional(
            &etag,
            if_none_match.0.as_deref(),
            || entry.json.clone(),
        ))
    }
}

choices!(
    SortWord as "ContainerSort" = "name",
    "-name",
    "status",
    "-status",
    "age",
    "-age",
    "created",
    "-created"
);
choices!(OrderWord as "SortOrder" = "asc", "desc");
choices!(
    StatusWord as "ContainerStatusFilter" = "update-available",
    "up-to-date",
    "running",
    "stopped",
    "exited",
    "paused",
    "restarting",
    "dead",
    "created"
);
choices!(
    KindWord as "UpdateKindFilter" = "major",
    "minor",
    "patch",
    "digest",
    "watched",
    "unwatched",
    "all"
);
choices!(MaturityWord as "MaturityFilter" = "hot", "mature", "established");
words!(WatcherName = 1.., r"\S");

fn answer(
    who: &Authorized<perm::ContainersRead>,
    page: Page,
    wanted: &ListQuery,
    uri: &Uri,
    if_none_match: Option<&str>,
) -> RawJson<List<Container>> {
    let found = containers::page(who.snapshot().clone(), wanted);
    let tail = tail(&found, page, uri);
    if wanted.is_everything() {
        let all = found.snapshot.inventory.everything(|| inventory::Rendered {
            body: body(&found, &tail),
            etag: etag(&found, &tail),
        });
        return RawJson::conditional(&all.etag, if_none_match, || all.body.clone());
    }
    let etag = etag(&found, &tail);
    RawJson::conditional(&etag, if_none_match, || body(&found, &tail))
}

/// The same with the lists of vulnerabilities, which are not part of what is kept rendered.
async fn with_vulnerabilities(
    state: &ApiState,
    who: &Authorized<perm::ContainersRead>,
    page: Page,
    wanted: &ListQuery,
    uri: &Uri,
    if_none_match: Option<&str>,
) -> Result<RawJson<List<Container>>, ApiError> {
    let found = containers::page(who.snapshot().clone(), wanted);
    let tail = tail(&found, page, uri);
    let etag = etag(&found, &format!("{tail} with vulnerabilities"));
    let pieces = state.app.with_vulnerabilities(&found.entries).await?;
    Ok(RawJson::conditional(&etag, if_none_match, || {
        joined(pieces.iter().map(|piece| &piece[..]), &tail)
    }))
}

/// Everything after the array: `],"total":…}`.
fn tail(found: &containers::Page, page: Page, uri: &Uri) -> String {
    let (shown, total) = (found.entries.len() as u64, found.total as u64);
    let links = page.links(PATH, uri.query().unwrap_or(""), shown, total);
    let links = links.map(|links| format!(",\"_links\":{}", links_json(&links)));
    format!(
        "],\"total\":{total},\"limit\":{},\"offset\":{},\"hasMore\":{}{}}}",
        page.limit,
        page.offset,
        page.has_more(shown, total),
        links.unwrap_or_default()
    )
}

fn links_json(links: &Links) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    match &links.next {
        Some(next) => format!("{{\"self\":{},\"next\":{}}}", text(&links.this), text(next)),
        None => format!("{{\"self\":{}}}", text(&links.this)),
    }
}

/// The envelope around all of `entries`, as one page without bound.
pub(super) fn whole_list(entries: &[Arc<inventory::Entry>]) -> Bytes {
    let total = entries.len();
    join(
        entries,
        &format!("],\"total\":{total},\"limit\":0,\"offset\":0,\"hasMore\":false}}"),
    )
}

fn body(found: &containers::Page, tail: &str) -> Bytes {
    join(&found.entries, tail)
}

fn join(entries: &[Arc<inventory::Entry>], tail: &str) -> Bytes {
    joined(entries.iter().map(|entry| &entry.json[..]), tail)
}

fn joined<'p>(pieces: impl Iterator<Item = &'p [u8]> + Clone, tail: &str) -> Bytes {
    const HEAD: &[u8] = b"{\"data\":[";
    let length: usize = pieces.clone().map(|piece| piece.len() + 1).sum();
    let mut body = BytesMut::with_capacity(HEAD.len() + length + tail.len());
    body.put_slice(HEAD);
    for (number, piece) in pieces.enumerate() {
        if number > 0 {
            body.put_u8(b',');
        }
        body.put_slice(piece);
    }
    body.put_slice(tail.as_bytes());
    body.freeze()
}

fn etag(found: &containers::Page, tail: &str) -> String {
    let mut hasher = Sha256::new();
    for entry in &found.entries {
        hasher.update(entry.hash);
    }
    hasher.update(tail.as_bytes());
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize()[..16]);
    weak_etag(&hash)
}

fn sort_of(sort: Option<&str>, order: Option<&str>) -> Result<ListQuery, ApiError> {
    let mut wanted: Sort = one_of(sort, "sort")?.unwrap_or_default();
    match order.map(str::trim) {
        None => {}
        Some("asc") => wanted.direction = Direction::Ascending,
        Some("desc") => wanted.direction = Direction::Descending,
        Some(_) => return Err(invalid("order")),
    }
    Ok(ListQuery {
        sort: wanted,
        ..ListQuery::default()
    })
}

/// A value of a closed list, or 400 in the contract's words.
fn one_of<T: FromStr>(text: Option<&str>, what: &str) -> Result<Option<T>, ApiError> {
    text.map(|text| text.trim().parse().map_err(|_| invalid(what)))
        .transpose()
}

fn invalid(what: &str) -> ApiError {
    ApiError::bad_request(format!("Invalid {what} value"))
}

fn fields(request: &Request) -> Vec<(String, String)> {
    if request.uri().query().is_none() {
        return Vec::new();
    }
    let mut pairs: Vec<(String, String)> = request.params().unwrap_or_default();
    pairs.retain(|(name, _)| !CONTROL.contains(&name.as_str()));
    pairs
}

fn whole(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
