//! What was done to containers: operations and removals in one order, newest first.

use chrono::{DateTime, Utc};
use plimsoll_domain::operation::{OperationKind, Phase, Status};
use uuid::Uuid;

use crate::{
    Store, StoreError,
    removals::{self, PastRemoval, past_columns},
    update_operations::{self, PastOperation, columns, kind_words, phase_words, together},
};

/// The newest of each are read along an index up to the page's length; only what is on the page is
/// looked up whole. Bounds that are absent are infinite and what is not asked for is left out before
/// it is read, so that a plan made for all values reads no more than one made for these.
macro_rules! page {
    ($of_container:literal) => {
        concat!(
            "WITH page AS (
            (SELECT id, created_at, false AS is_removal
               FROM update_operations
              WHERE ",
            $of_container,
            "
                AND cardinality($2::text[]) IS DISTINCT FROM 0
                AND cardinality($3::text[]) IS DISTINCT FROM 0
                AND ($2 IS NULL OR kind = ANY ($2))
                AND ($3 IS NULL OR phase = ANY ($3))
                AND created_at >= coalesce($5::timestamptz, '-infinity')
                AND created_at <= coalesce($6::timestamptz, 'infinity')
                AND (created_at, id) < (coalesce($7::timestamptz, 'infinity'), $8::uuid)
              ORDER BY created_at DESC, id DESC LIMIT $9)
            UNION ALL
            (SELECT id, created_at, true
               FROM removals r
              WHERE ",
            $of_container,
            "
                AND container_name IS NOT NULL
                AND cardinality($4::text[]) IS DISTINCT FROM 0
                AND ($4 IS NULL
                     OR CASE WHEN completed_at IS NULL THEN 'in-progress'
                             WHEN error IS NOT NULL
                               OR EXISTS (SELECT 1 FROM removal_items i
                                           WHERE i.removal_id = r.id AND i.place = 0
                                             AND i.state = 'kept') THEN 'failed'
                             ELSE 'succeeded' END = ANY ($4))
                AND created_at >= coalesce($5::timestamptz, '-infinity')
                AND created_at <= coalesce($6::timestamptz, 'infinity')
                AND (created_at, id) < (coalesce($7::timestamptz, 'infinity'), $8::uuid)
              ORDER BY created_at DESC, id DESC LIMIT $9)
            ORDER BY created_at DESC, id DESC LIMIT $9
        )
        SELECT operation.*, page.is_removal, removal.*
          FROM page
          LEFT JOIN LATERAL (SELECT ",
            columns!(summary),
            ", ",
            together!(),
            "
                               FROM update_operations
                              WHERE NOT page.is_removal AND id = page.id) operation ON true
          LEFT JOIN LATERAL (SELECT ",
            past_columns!(),
            "
                               FROM removals r
                               LEFT JOIN removal_items i ON i.removal_id = r.id AND i.place = 0
                              WHERE page.is_removal AND r.id = page.id) removal ON true
         ORDER BY page.created_at DESC, page.id DESC"
        )
    };
}

statements! {
    OF_ALL = page!("$1::text IS NULL");
    OF_ONE = page!("container_name = $1");
}

/// Which of all that was done; everything where a field is absent.
#[derive(Clone, Debug, Default)]
pub struct HistoryFilter {
    /// By the name that it had.
    pub container: Option<String>,
    /// Of operations.
    pub kinds: Option<Vec<OperationKind>>,
    /// Of operations.
    pub phases: Option<Vec<Phase>>,
    /// How removals stand.
    pub removals: Option<Vec<Status>>,
    pub from: Option<DateTime<Utc>>,
    pub to: Option<DateTime<Utc>>,
    /// Those before the one of this time and id.
    pub before: Option<(DateTime<Utc>, Uuid)>,
}

/// Something that was done, or is being done, to a container.
#[derive(Clone, Debug)]
pub enum Past {
    Operation(Box<PastOperation>),
    Removal(PastRemoval),
}

impl Past {
    /// Its time and id, in the order of the history.
    pub fn place(&self) -> (DateTime<Utc>, Uuid) {
        match self {
            Self::Operation(past) => (past.operation.created_at, past.operation.id.as_uuid()),
            Self::Removal(removal) => (removal.created_at, removal.id.as_uuid()),
        }
    }
}

impl Store {
    /// Operations and removals of all containers, newest first.
    pub async fn history(
        &self,
        filter: &HistoryFilter,
        limit: i64,
    ) -> Result<Vec<Past>, StoreError> {
        let kinds = filter.kinds.as_deref().map(kind_words);
        let phases = filter.phases.as_deref().map(phase_words);
        let removals = filter.removals.as_deref();
        let removals = removals.map(|all| all.iter().map(|one| one.as_str()).collect::<Vec<_>>());
        let (at, id) = filter.before.unzip();
        let id = id.unwrap_or_default();
        let client = self.client().await?;
        let statement = match filter.container {
            None => OF_ALL,
            Some(_) => OF_ONE,
        };
        let statement = client.prepare_cached(statement).await?;
        let rows = client
            .query(
                &statement,
                &[
                    &filter.container,
                    &kinds,
                    &phases,
                    &removals,
                    &filter.from,
                    &filter.to,
                    &at,
                    &id,
                    &limit,
                ],
            )
            .await?;
        let past = |row| match tokio_postgres::Row::get(row, "is_removal") {
            true => Ok(Past::Removal(removals::past(row))),
            false => Ok(Past::Operation(Box::new(update_operations::past(row)?))),
        };
        rows.iter().map(past).collect()
    }
}
