//! What was done (reference/docksmith-dokploy-dockup.md 1.2, "History").

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use plimsoll_app::{
    AppError,
    audit::AuditQuery,
    history::{HistoryFilter, Past},
    operation_groups::{GroupKind, NOT_FOUND as GROUP_NOT_FOUND},
    update_operations::NOT_FOUND,
};
use plimsoll_domain::ids::{OperationGroupId, OperationId, RemovalId};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use uuid::Uuid;

use super::{
    Tag,
    envelope::{Envelope, now, ok},
    error::{ErrorOf, Reads, ReadsOne},
    operations::{OperationView, as_one, together, updated},
    stages,
};
use crate::{
    ApiState, VERSION,
    auth::{Authorized, perm},
    drydock::{error::ApiError, instant::Instant},
};

/// `GET /api/operations…`, `/api/history` and `/api/policies`.
pub struct History;

/// How many operations and entries a client gets that does not say.
const OPERATIONS: u64 = 20;
const ENTRIES: u64 = 100;
const MOST: u64 = 500;

/// A page of operations, with where the next one begins beside it.
#[derive(Object)]
pub struct OperationPage {
    success: bool,
    data: Vec<OperationView>,
    /// In this page.
    count: u64,
    has_more: bool,
    /// For `cursor`.
    #[oai(skip_serializing_if_is_none)]
    next_cursor: Option<String>,
    timestamp: Instant,
    version: String,
}

#[derive(Object)]
pub struct OperationGroupData {
    operations: Vec<OperationView>,
    count: u64,
}

/// Something that was found or done.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct HistoryEntry {
    timestamp: Instant,
    /// `check` or `update`
    #[oai(rename = "type")]
    kind: String,
    container_name: String,
    image: Option<String>,
    current_version: Option<String>,
    latest_version: Option<String>,
    from_version: Option<String>,
    to_version: Option<String>,
    status: String,
    /// The audit trail's word for it.
    operation: String,
    operation_id: Option<String>,
    success: bool,
    error: Option<String>,
}

#[derive(Object)]
pub struct HistoryData {
    history: Vec<HistoryEntry>,
    count: u64,
}

#[derive(Object)]
pub struct Policies {
    /// By the container's name; `name@watcher` where several hosts have it.
    containers: BTreeMap<String, ContainerPolicy>,
    global_policy: GlobalPolicy,
}

#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
pub struct ContainerPolicy {
    can_rollback: bool,
    /// The operation that `POST /api/rollback` would undo.
    last_operation_id: Option<String>,
    old_version: Option<String>,
    /// Whether an update that turns unhealthy later is undone without being asked
    /// (`dd.rollback.auto`). One that never becomes healthy always is.
    auto_rollback: bool,
}

/// What holds for every container.
#[derive(Object)]
pub struct GlobalPolicy {
    entity_type: String,
    entity_id: String,
    /// An update that does not become healthy is always undone.
    auto_rollback_enabled: bool,
    health_check_required: bool,
}

#[OpenApi(prefix_path = "/api")]
impl History {
    /// List operations
    ///
    /// Newest first; removals of containers are among them.
    #[oai(
        path = "/operations",
        method = "get",
        operation_id = "listOperations",
        tag = "Tag::History"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        /// The container's name
        container: Query<Option<String>>,
        /// Such as `complete`, `failed`, `stopping` or `in_progress`
        status: Query<Option<String>>,
        /// `update`, `rollback`, `restart`, `start`, `stop`, `remove`, …
        #[oai(name = "type")]
        kind: Query<Option<String>>,
        /// At most 500; 20 where it is left out
        limit: Query<Option<String>>,
        /// `next_cursor` of the page before
        cursor: Query<Option<String>>,
        /// An instant or a day
        date_from: Query<Option<String>>,
        /// An instant or a day, which is included
        date_to: Query<Option<String>>,
    ) -> Result<Json<OperationPage>, ErrorOf<Reads>> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let types = given(kind.0).map(|word| stages::types(&word).ok_or(invalid("type")));
        let statuses = given(status.0).map(|word| stages::statuses(&word).ok_or(invalid("status")));
        let before = given(cursor.0).map(|text| read_cursor(&text).ok_or(invalid("cursor")));
        let (kinds, of_removals) = match types.transpose()? {
            None => (None, true),
            Some(types) => (Some(types.kinds), types.removals),
        };
        let (phases, removals) = match statuses.transpose()? {
            None => (None, None),
            Some(statuses) => (Some(statuses.phases), Some(statuses.removals)),
        };
        let filter = HistoryFilter {
            container: given(container.0),
            kinds,
            phases,
            removals: if of_removals { removals } else { Some(vec![]) },
            from: instant(given(date_from.0), "date_from", NaiveTime::MIN)?,
            to: instant(given(date_to.0), "date_to", END_OF_DAY)?,
            before: before.transpose()?,
        };
        let limit = number(given(limit.0), "limit", OPERATIONS)?;
        let mut found = state.app.history(&filter, limit + 1).await?;
        let has_more = found.len() as u64 > limit;
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        let last = found.last().filter(|_| has_more);
        Ok(Json(OperationPage {
            success: true,
            count: found.len() as u64,
            has_more,
            next_cursor: last.map(write_cursor),
            data: found.into_iter().map(OperationView::from).collect(),
            timestamp: now(),
            version: VERSION.to_owned(),
        }))
    }

    /// Get an operation
    ///
    /// By its id, or by that of several that were asked for together: then it shows how all of them
    /// stand, and `batch_details` each.
    #[oai(
        path = "/operations/:id",
        method = "get",
        operation_id = "getOperation",
        tag = "Tag::History"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Json<Envelope<OperationView>>, ErrorOf<ReadsOne>> {
        let id = operation_id(&id.0)?;
        let missing = match state.app.past_operation(id).await {
            Err(AppError::NotFound(message)) => ApiError::not_found(message),
            found => return Ok(ok(found?.into())),
        };
        let group = OperationGroupId::from_uuid(id.as_uuid());
        let members = together(&state, group).await?;
        let asked_for = match state.app.operation_group(group).await {
            Ok(group) if group.kind == GroupKind::RestartContainer => vec![group.name],
            Ok(_) | Err(AppError::NotFound(_)) => updated(&members),
            Err(error) => return Err(error.into()),
        };
        if let Some(one) = as_one(group, &members, &asked_for) {
            return Ok(ok(one));
        }
        let id = RemovalId::from_uuid(id.as_uuid());
        match state.app.past_removal(id).await {
            Err(AppError::NotFound(_)) => Err(missing.into()),
            removal => Ok(ok(removal?.into())),
        }
    }

    /// Get the operations that were asked for together
    #[oai(
        path = "/operations/group/:id",
        method = "get",
        operation_id = "getOperationGroup",
        tag = "Tag::History"
    )]
    async fn group(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Json<Envelope<OperationGroupData>>, ErrorOf<ReadsOne>> {
        let id: OperationGroupId = id
            .strip_prefix("op_")
            .unwrap_or(&id)
            .parse()
            .map_err(|_| ApiError::not_found(GROUP_NOT_FOUND))?;
        let operations = together(&state, id).await?;
        if operations.is_empty() {
            return Err(ApiError::not_found(GROUP_NOT_FOUND).into());
        }
        Ok(ok(OperationGroupData {
            count: operations.len() as u64,
            operations,
        }))
    }

    /// List what checks found and updates did
    #[oai(
        path = "/history",
        method = "get",
        operation_id = "getHistory",
        tag = "Tag::History"
    )]
    async fn history(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        /// At most 500; 100 where it is left out
        limit: Query<Option<String>>,
        /// `check` or `update`; both where it is left out
        #[oai(name = "type")]
        kind: Query<Option<String>>,
    ) -> Result<Json<Envelope<HistoryData>>, ErrorOf<Reads>> {
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        let actions = match given(kind.0).as_deref() {
            None => ALL_ACTIONS,
            Some("check" | "checks") => CHECKS,
            Some("update" | "updates") => UPDATES,
            Some(_) => return Err(invalid("type").into()),
        };
        let query = AuditQuery {
            actions: Some(actions),
            ..AuditQuery::default()
        };
        let limit = number(given(limit.0), "limit", ENTRIES)?;
        let (entries, _) = state.app.audit_entries(query, 0, limit).await?;
        let history: Vec<HistoryEntry> = entries
            .into_iter()
            .map(|entry| {
                let check = entry.action == CHECKS;
                let success = entry.status != "error";
                HistoryEntry {
                    timestamp: Instant(entry.at),
                    kind: if check { "check" } else { "update" }.to_owned(),
                    container_name: entry.container_name,
                    image: entry.container_image,
                    current_version: entry.from_version.clone().filter(|_| check),
                    latest_version: entry.to_version.clone().filter(|_| check),
                    from_version: entry.from_version.filter(|_| !check),
                    to_version: entry.to_version.filter(|_| !check),
                    status: match (check, success) {
                        (true, _) => "UPDATE_AVAILABLE",
                        (false, true) => "complete",
                        (false, false) => "failed",
                    }
                    .to_owned(),
                    operation: entry.action,
                    operation_id: entry.operation_id.map(|id| id.to_string()),
                    success,
                    error: entry.details.filter(|_| !success),
                }
            })
            .collect();
        Ok(ok(HistoryData {
            count: history.len() as u64,
            history,
        }))
    }

    /// Tell which containers can go back
    #[oai(
        path = "/policies",
        method = "get",
        operation_id = "getPolicies",
        tag = "Tag::History"
    )]
    async fn policies(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
    ) -> Result<Json<Envelope<Policies>>, ErrorOf<Reads>> {
        let ways = state.app.ways_back().await?;
        let ways: BTreeMap<&str, _> = ways
            .iter()
            .map(|way| (way.identity.as_str(), way))
            .collect();
        let entries = who.snapshot().inventory.entries();
        let mut containers = BTreeMap::new();
        for (at, entry) in entries.iter().enumerate() {
            let facts = &entry.state.facts;
            // Ordered by name, so one of the same name is next to it.
            let neighbours = [at.checked_sub(1), Some(at + 1)];
            let shared = neighbours.into_iter().flatten().any(|other| {
                let other = entries.get(other);
                other.is_some_and(|other| other.state.facts.name == facts.name)
            });
            let name = match shared {
                true => format!("{}@{}", facts.name, facts.watcher),
                false => facts.name.clone(),
            };
            let way = ways.get(entry.state.identity_key.as_str());
            let policy = ContainerPolicy {
                can_rollback: way.is_some(),
                last_operation_id: way.map(|way| way.operation.to_string()),
                old_version: way.map(|way| way.image_tag.clone()),
                auto_rollback: facts.rules.rollback.auto == Some(true),
            };
            containers.insert(name, policy);
        }
        Ok(ok(Policies {
            containers,
            global_policy: GlobalPolicy {
                entity_type: "global".to_owned(),
                entity_id: String::new(),
                auto_rollback_enabled: true,
                health_check_required: true,
            },
        }))
    }
}

const CHECKS: &str = "update-available";
const UPDATES: &str = "update-applied,update-failed,rollback,auto-rollback";
const ALL_ACTIONS: &str = "update-available,update-applied,update-failed,rollback,auto-rollback";
const END_OF_DAY: NaiveTime = match NaiveTime::from_hms_milli_opt(23, 59, 59, 999) {
    Some(time) => time,
    None => NaiveTime::MIN,
};

/// # Errors
/// 404: an id is opaque to clients, so one that is none of ours is one that is not there.
pub fn operation_id(text: &str) -> Result<OperationId, ApiError> {
    let text = text.strip_prefix("op_").unwrap_or(text);
    text.parse().map_err(|_| ApiError::not_found(NOT_FOUND))
}

fn invalid(name: &str) -> ApiError {
    ApiError::bad_request(format!("invalid {name} parameter"))
}

fn number(text: Option<String>, name: &str, default: u64) -> Result<u64, ApiError> {
    match text.map(|text| text.parse::<u64>()) {
        None => Ok(default),
        Some(Ok(number)) if number > 0 => Ok(number.min(MOST)),
        Some(_) => Err(invalid(name)),
    }
}

fn instant(
    text: Option<String>,
    name: &str,
    time: NaiveTime,
) -> Result<Option<DateTime<Utc>>, ApiError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let instant = DateTime::parse_from_rfc3339(&text).map(|at| at.to_utc());
    let day = || {
        let day = text.parse::<NaiveDate>();
        day.map(|day| day.and_time(time).and_utc())
    };
    let at = instant.or_else(|_| day()).map_err(|_| invalid(name))?;
    // What the database can hold, and more than anybody means.
    let fits = (0..=9999).contains(&chrono::Datelike::year(&at));
    if fits {
        Ok(Some(at))
    } else {
        Err(invalid(name))
    }
}

/// Where a page ends: the last one's time and id.
fn write_cursor(past: &Past) -> String {
    let (at, id) = past.place();
    let at = at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    format!("{at}_{id}")
}

/// Docksmith's own cursors are instants alone.
fn read_cursor(text: &str) -> Option<(DateTime<Utc>, Uuid)> {
    let (at, id) = match text.split_once('_') {
        Some((at, id)) => (at, id.parse().ok()?),
        None => (text, Uuid::nil()),
    };
    let at = instant(Some(at.to_owned()), "cursor", NaiveTime::MIN).ok()??;
    Some((at, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_as_it_was_written() {
        let id = Uuid::now_v7();
        let text = format!("2026-01-02T03:04:05.123456Z_{id}");
        let (at, read) = read_cursor(&text).unwrap();
        assert_eq!(read, id);
        assert_eq!(at.timestamp_subsec_micros(), 123_456);
        assert!(read_cursor("2026-01-02T03:04:05Z").is_some());
        for bad in ["", "x", "2026-01-02T03:04:05Z_x", "99999-01-01_1"] {
            assert!(read_cursor(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_limit_is_a_number_above_nothing() {
        let limit = |text: &str| number(Some(text.to_owned()), "limit", 20);
        assert_eq!(limit("10").unwrap(), 10);
        assert_eq!(limit("100000").unwrap(), MOST);
        for bad in ["0", "-1", "ten", "99999999999999999999"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
        assert_eq!(number(None, "limit", 20).unwrap(), 20);
    }
}
