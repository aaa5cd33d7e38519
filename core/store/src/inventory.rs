//! Containers as clients see them: the rows of `containers` joined with what follows their
//! identity. Read whole once, and from then on only what changed.
//!
//! Every statement here also returns the oldest transaction that was still open when it was taken
//! (`Mark`). The next read asks for rows written by that transaction or a later one, so it misses
//! none, whatever order transactions commit in, and the copy is as fresh as the read.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::TryStreamExt;
use plimsoll_domain::{
    assessment::candidate_key,
    container::{ContainerState, OperationSummary, RolledBackTarget},
    ids::{ContainerId, IdentityKey, OperationId},
    operation::{OperationKind, Phase},
    security::Report,
};
use serde::de::DeserializeOwned;
use tokio_postgres::{Row, RowStream};

use crate::{Client, Store, StoreError};

/// What a container's view is made of; `c` is `containers`.
macro_rules! state_columns {
    () => {
        "c.id, c.xid::text::bigint AS xid, c.removed OR c.forgotten AS gone, c.identity_key,
         c.facts::text AS facts, c.result::text AS result, c.result_image_id, c.first_seen_at,
         (SELECT p.policy::text FROM policies p WHERE p.identity_key = c.identity_key) AS policy,
         ARRAY(SELECT s.candidate FROM candidate_sightings s
                WHERE s.identity_key = c.identity_key
                ORDER BY s.first_seen_at DESC, s.candidate LIMIT 64) AS candidates,
         ARRAY(SELECT s.first_seen_at FROM candidate_sightings s
                WHERE s.identity_key = c.identity_key
                ORDER BY s.first_seen_at DESC, s.candidate LIMIT 64) AS sightings,
         (SELECT jsonb_agg(jsonb_build_object('kind', i.kind, 'report', i.report)
                           ORDER BY i.at DESC)::text FROM image_reports i
           WHERE i.identity_key = c.identity_key
             AND i.kind IN ('scan', 'signature', 'sbom', 'check')) AS reports,
         r.target_digest, r.reason, r.last_error, r.recorded_at,
         o.id AS operation_id, o.kind, o.phase, o.updated_at AS operation_at,
         o.from_version, o.to_version
         FROM containers c
         LEFT JOIN rolled_back_targets r ON r.identity_key = c.identity_key
         LEFT JOIN LATERAL (
             SELECT * FROM update_operations u
              WHERE u.identity_key = c.identity_key AND u.completed_at IS NULL
                AND (u.container_name = c.name OR c.id IN (u.container_id, u.new_container_id))
              ORDER BY u.created_at DESC LIMIT 1) o ON true"
    };
}

macro_rules! with_mark {
    ($which:literal) => {
        concat!(
            "SELECT mark.*, state.* FROM
             (SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS xmin,
                     (SELECT version FROM access_version) AS access_version,
                     (SELECT version FROM stack_directories_version) AS stacks_version,
                     now() AS read_at) mark
             LEFT JOIN LATERAL (SELECT ",
            state_columns!(),
            " WHERE ",
            $which,
            ") state ON true"
        )
    };
}

statements! {
    ALL = with_mark!("NOT c.removed AND NOT c.forgotten");
    // The upper bound excludes nothing. It makes the planner treat the condition as a narrow range
    // and take the index also in a generic plan, where half a range counts as a third of the table.
    CHANGED = with_mark!("c.xid >= $1::bigint::text::xid8 AND c.xid <= '9223372036854775807'::xid8");
}

/// How long a row that is `removed` must stay before it may be deleted. A reader that was idle for
/// longer than half of this reads everything again, so that it never misses a removal.
pub const REMOVED_ROWS_KEPT: Duration = Duration::from_secs(2 * 3600);

/// Where a read stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The oldest transaction that had not ended.
    pub xmin: i64,
    /// Moves with every change to users, sessions and tokens.
    pub access_version: i64,
    /// Moves with every change to what directories describe; 0 while none ever did.
    pub stacks_version: i64,
    /// The database's clock, so that replicas agree on the time.
    pub read_at: DateTime<Utc>,
}

/// A container and the transaction that last wrote anything its view shows.
#[derive(Clone, Debug)]
pub struct StoredContainer {
    pub xid: i64,
    pub state: ContainerState,
}

/// What one read found, with `T` for each container.
#[derive(Debug)]
pub struct InventoryDelta<T> {
    pub mark: Mark,
    /// New or rewritten.
    pub changed: Vec<T>,
    /// Removed from the engine, or forgotten on request.
    pub gone: Vec<ContainerId>,
}

/// A connection to read on again and again; give it back with [`Store::discard`], because it is
/// set up for these statements alone. Planning takes longer than reading what changed, so the plan
/// is made once, and made so that it fits however the tables grow.
pub async fn connect(store: &Store) -> Result<Client, StoreError> {
    let client = store.client().await?;
    client
        .batch_execute("SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off")
        .await?;
    Ok(client)
}

/// Every container that is there now. `keep` makes of each, as it arrives, what shall stay of it:
/// the rows of a whole fleet are never in memory together.
pub async fn read_all<T>(
    client: &Client,
    keep: impl Fn(StoredContainer, &Mark) -> T,
) -> Result<InventoryDelta<T>, StoreError> {
    let statement = client.prepare_cached(ALL).await?;
    let rows = client.query_raw(&statement, None::<i64>).await?;
    delta(rows, |_, _| false, keep).await
}

/// What may have been written since `mark`. `known(id, xid)` says that the caller has that very
/// row already: while some transaction stays open, rows are found again and again.
pub async fn read_changed<T>(
    client: &Client,
    mark: Mark,
    known: impl Fn(&str, i64) -> bool,
    keep: impl Fn(StoredContainer, &Mark) -> T,
) -> Result<InventoryDelta<T>, StoreError> {
    let statement = client.prepare_cached(CHANGED).await?;
    let rows = client.query_raw(&statement, [mark.xmin]).await?;
    delta(rows, known, keep).await
}

async fn delta<T>(
    rows: RowStream,
    known: impl Fn(&str, i64) -> bool,
    keep: impl Fn(StoredContainer, &Mark) -> T,
) -> Result<InventoryDelta<T>, StoreError> {
    let mut rows = std::pin::pin!(rows);
    let mut found = None;
    while let Some(row) = rows.try_next().await? {
        let found = found.get_or_insert_with(|| InventoryDelta {
            mark: Mark {
                xmin: row.get("xmin"),
                access_version: row.get("access_version"),
                stacks_version: row.get("stacks_version"),
                read_at: row.get("read_at"),
            },
            changed: Vec::new(),
            gone: Vec::new(),
        });
        // Without any container there is still the row with the mark.
        let Some(id) = row.get::<_, Option<&str>>("id") else {
            continue;
        };
        let xid = row.get("xid");
        if known(id, xid) {
            continue;
        }
        if row.get("gone") {
            found.gone.extend(ContainerId::parse(id));
            continue;
        }
        match state(&row) {
            Ok(state) => {
                let kept = keep(StoredContainer { xid, state }, &found.mark);
                found.changed.push(kept);
            }
            // One row that this version cannot read must not take the others away.
            Err(error) => {
                tracing::error!(container = id, %error, "left a container out");
                found.gone.extend(ContainerId::parse(id));
            }
        }
    }
    found.ok_or_else(|| StoreError::corrupt("inventory", "the statement gave no row"))
}

fn state(row: &Row) -> Result<ContainerState, StoreError> {
    let mut state = ContainerState {
        facts: json(row, "facts")?
            .ok_or_else(|| StoreError::corrupt("container", "it has no facts"))?,
        identity_key: IdentityKey::from_stored(row.get("identity_key")),
        result: json(row, "result")?,
        result_image_id: row.get("result_image_id"),
        policy: json(row, "policy")?,
        first_seen_at: row.get("first_seen_at"),
        update_detected_at: None,
        rolled_back: rolled_back(row),
        operation: operation(row)?,
        reports: json::<Vec<Report>>(row, "reports")?
            .unwrap_or_default()
            .into_iter()
            .collect(),
    };
    state.update_detected_at = state
        .current_result()
        .and_then(|result| candidate_key(&state.facts, result))
        .and_then(|candidate| {
            let candidates: Vec<&str> = row.get("candidates");
            let sightings: Vec<DateTime<Utc>> = row.get("sightings");
            let position = candidates.iter().position(|c| *c == candidate)?;
            sightings.get(position).copied()
        });
    Ok(state)
}

fn json<T: DeserializeOwned>(row: &Row, column: &'static str) -> Result<Option<T>, StoreError> {
    row.get::<_, Option<&str>>(column)
        .map(|text| serde_json::from_str(text).map_err(|e| StoreError::corrupt(column, e)))
        .transpose()
}

fn rolled_back(row: &Row) -> Option<RolledBackTarget> {
    Some(RolledBackTarget {
        recorded_at: row.get::<_, Option<DateTime<Utc>>>("recorded_at")?,
        target_digest: row.get("target_digest"),
        reason: row.get("reason"),
        last_error: row.get("last_error"),
    })
}

fn operation(row: &Row) -> Result<Option<OperationSummary>, StoreError> {
    let Some(id) = row.get("operation_id") else {
        return Ok(None);
    };
    let (kind, phase): (&str, &str) = (row.get("kind"), row.get("phase"));
    let phase = Phase::parse(phase).ok_or_else(|| StoreError::corrupt("operation phase", phase))?;
    Ok(Some(OperationSummary {
        id: OperationId::from_uuid(id),
        kind: OperationKind::parse(kind)
            .ok_or_else(|| StoreError::corrupt("operation kind", kind))?,
        status: phase.status(),
        phase,
        updated_at: row.get("operation_at"),
        from_version: row.get("from_version"),
        to_version: row.get("to_version"),
    }))
}
