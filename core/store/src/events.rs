//! The event table behind the SSE stream (contract/drydock-app-api.md, "Server-Sent Events").
//!
//! Events are ordered by `(xid, id)`. A reader stops at the oldest transaction that may still add
//! rows, so that a slow transaction delays events and never loses one (reliability.md A6, I-9).

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;

use crate::{Store, StoreError};

statements! {
    APPEND = "INSERT INTO events (type, payload) VALUES ($1, $2)";
    APPEND_ALL = "INSERT INTO events (type, payload)
                  SELECT type, payload FROM unnest($1::text[], $2::text[]) WITH ORDINALITY
                      AS t (type, payload, place) ORDER BY place";
    /// The place after the last event that every reader may already have seen.
    TAIL = "SELECT coalesce(max(xid::text::bigint), 0), coalesce(max(id), 0) FROM events
             WHERE xid = (SELECT max(xid) FROM events WHERE xid < pg_snapshot_xmin(pg_current_snapshot()))";
    AFTER = "SELECT xid::text::bigint, id, type, payload, created_at FROM events
              WHERE (xid, id) > ($1::bigint::text::xid8, $2)
                AND xid < pg_snapshot_xmin(pg_current_snapshot())
              ORDER BY xid, id LIMIT $3";
    /// Rows that are there and may not be given out yet, because an older transaction is open.
    UNSETTLED = "SELECT EXISTS (SELECT 1 FROM events
                                 WHERE xid >= pg_snapshot_xmin(pg_current_snapshot()))";
    /// Whether the event a client saw last is still kept: only then is a replay complete. The
    /// place before the first event of all is kept as long as no event was forgotten.
    KEPT = "SELECT CASE WHEN $2::bigint = 0 THEN coalesce((SELECT min(id) FROM events), 1) = 1
                   ELSE EXISTS (SELECT 1 FROM events WHERE xid = $1::bigint::text::xid8 AND id = $2)
                   END";
    /// The newest event stays: a client that saw it last has missed nothing.
    EXPIRE = "DELETE FROM events
               WHERE (created_at < now() - make_interval(secs => $1)
                      OR id < (SELECT max(id) FROM events) - $2)
                 AND (xid, id) < (SELECT e.xid, e.id FROM events e
                                   ORDER BY e.xid DESC, e.id DESC LIMIT 1)";
}

/// Where a reader stands: `<transaction>-<event>`, which is also the SSE event id. The same on
/// every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventPosition {
    pub xid: i64,
    pub id: i64,
}

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.xid, self.id)
    }
}

impl FromStr for EventPosition {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (xid, id) = text.split_once('-').ok_or(())?;
        let number = |s: &str| s.parse::<i64>().ok().filter(|n| *n >= 0).ok_or(());
        Ok(Self {
            xid: number(xid)?,
            id: number(id)?,
        })
    }
}

#[derive(Clone, Debug)]
pub struct StoredEvent {
    pub position: EventPosition,
    /// The SSE event name, e.g. `dd:container-updated`.
    pub kind: String,
    /// JSON, exactly as sent.
    pub payload: String,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// Adds an event to the transaction that makes it true. `kind` is the SSE event name.
pub async fn append(
    client: &impl GenericClient,
    kind: &str,
    payload: &str,
) -> Result<(), StoreError> {
    let statement = client.prepare_cached(APPEND).await?;
    client.execute(&statement, &[&kind, &payload]).await?;
    Ok(())
}

/// Adds many events, in this order: `(kind, payload)`.
pub async fn append_all(
    client: &impl GenericClient,
    events: &[(&str, String)],
) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let kinds: Vec<&str> = events.iter().map(|e| e.0).collect();
    let payloads: Vec<&str> = events.iter().map(|e| e.1.as_str()).collect();
    let statement = client.prepare_cached(APPEND_ALL).await?;
    client.execute(&statement, &[&kinds, &payloads]).await?;
    Ok(())
}

impl Store {
    /// The newest position that is settled: nothing can still appear before it.
    pub async fn events_tail(&self) -> Result<EventPosition, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(TAIL).await?;
        let row = client.query_one(&statement, &[]).await?;
        Ok(EventPosition {
            xid: row.get(0),
            id: row.get(1),
        })
    }

    /// Settled events after `position`, in order, at most `limit`.
    pub async fn events_after(
        &self,
        position: EventPosition,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(AFTER).await?;
        let rows = client
            .query(&statement, &[&position.xid, &position.id, &limit])
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| StoredEvent {
                position: EventPosition {
                    xid: row.get(0),
                    id: row.get(1),
                },
                kind: row.get(2),
                payload: row.get(3),
                at: row.get(4),
            })
            .collect())
    }

    /// Whether there are events that the next read may give out without a new one being written.
    pub async fn has_unsettled_events(&self) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(UNSETTLED).await?;
        Ok(client.query_one(&statement, &[]).await?.get(0))
    }

    /// Whether a client that saw `position` last can be given everything since.
    pub async fn event_is_kept(&self, position: EventPosition) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(KEPT).await?;
        let row = client
            .query_one(&statement, &[&position.xid, &position.id])
            .await?;
        Ok(row.get(0))
    }

    /// Forgets events older than `seconds`, and all but about the last `keep`.
    pub async fn expire_events(&self, seconds: f64, keep: i64) -> Result<u64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        Ok(client.execute(&statement, &[&seconds, &keep]).await?)
    }
}
