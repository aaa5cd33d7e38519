//! What endpoints of outgoing webhooks are told (migration 86).
//!
//! Events become deliveries in the statement that moves the endpoints' places, so each does so once.
//! An endpoint's claim runs out like a lease and lets one attempt be under way at a time; what is
//! written about an attempt names it. Whoever writes an endpoint's row and its deliveries begins with
//! the endpoint's.

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::{
    ids::{WebhookDeliveryId, WebhookEndpointId},
    webhook::{EVERYTHING, GAP, PASSING},
};
use secrecy::SecretSlice;
use uuid::Uuid;

use crate::{Store, StoreError};

macro_rules! columns {
    () => {
        "id, type, state, attempts, due_at, attempted_at, status_code, error, created_at, finished_at"
    };
}

statements! {
    /// Takes the next events, at most $1, for each endpoint that has fewer than $2 open deliveries.
    /// One that stands before what was forgotten is told so, and goes on after that.
    QUEUE = "WITH due AS MATERIALIZED (
                 SELECT e.id, e.events, (f.xid, f.id) > (e.seen_xid, e.seen_id) AS gap,
                        CASE WHEN (f.xid, f.id) > (e.seen_xid, e.seen_id) THEN f.xid ELSE e.seen_xid END AS xid,
                        CASE WHEN (f.xid, f.id) > (e.seen_xid, e.seen_id) THEN f.id ELSE e.seen_id END AS place
                   FROM webhook_endpoints e CROSS JOIN events_forgotten f
                   LEFT JOIN (SELECT xid, id FROM events
                               WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
                               ORDER BY xid DESC, id DESC LIMIT 1) newest ON true
                  WHERE e.enabled
                    AND CASE WHEN (f.xid, f.id) > (e.seen_xid, e.seen_id)
                               OR (newest.xid, newest.id) > (e.seen_xid, e.seen_id)
                             THEN (SELECT count(*) FROM (
                                       SELECT 1 FROM webhook_deliveries d
                                        WHERE d.endpoint_id = e.id AND d.state IN ('pending', 'sending')
                                        LIMIT $2) open) < $2
                             ELSE false END
                  ORDER BY e.id
                    FOR NO KEY UPDATE OF e SKIP LOCKED),
             seen AS MATERIALIZED (
                 SELECT due.id AS endpoint_id, v.xid, v.id, v.type,
                        (due.events = ARRAY[$3::text] AND v.type <> ALL ($5::text[]))
                            OR v.type = ANY (due.events) AS wanted
                   FROM due CROSS JOIN LATERAL (
                        SELECT xid, id, type FROM events
                         WHERE (events.xid, events.id) > (due.xid, due.place)
                           AND events.xid < pg_snapshot_xmin(pg_current_snapshot())
                         ORDER BY xid, id LIMIT $1) v),
             moved AS (
                 UPDATE webhook_endpoints e
                    SET seen_xid = coalesce(last.xid, due.xid), seen_id = coalesce(last.id, due.place)
                   FROM due LEFT JOIN LATERAL (
                        SELECT xid, id FROM seen WHERE seen.endpoint_id = due.id
                         ORDER BY xid DESC, id DESC LIMIT 1) last ON true
                  WHERE e.id = due.id),
             kept AS (
                 INSERT INTO webhook_payloads (event_id, data, happened_at)
                 SELECT v.id, v.payload, v.created_at FROM events v
                  WHERE v.id IN (SELECT id FROM seen WHERE wanted)
                     ON CONFLICT DO NOTHING),
             queued AS (
                 INSERT INTO webhook_deliveries (id, endpoint_id, type, xid, place, event_id, data)
                 SELECT gen_random_uuid(), endpoint_id, type, xid, id, id, NULL FROM seen WHERE wanted
                 UNION ALL
                 SELECT gen_random_uuid(), id, $4, xid, place, NULL, '{\"reason\":\"too-old\"}'
                   FROM due WHERE gap)
             SELECT coalesce(max(number), 0)
               FROM (SELECT count(*) AS number FROM seen GROUP BY endpoint_id) each";
    /// Endpoints that something could be sent to now.
    WAITING = "SELECT e.id FROM webhook_endpoints e
                WHERE e.enabled AND (e.claim IS NULL OR e.claim_expires_at < now())
                  AND EXISTS (SELECT 1 FROM webhook_deliveries d
                               WHERE d.endpoint_id = e.id AND d.state IN ('pending', 'sending')
                                 AND d.due_at <= now())";
    /// The next delivery of an endpoint where nothing is under way. What is `sending` then was
    /// cut off.
    CLAIM = "WITH lane AS (
                 UPDATE webhook_endpoints e
                    SET claim = $2, claim_expires_at = now() + make_interval(secs => $3)
                  WHERE e.id = $1 AND e.enabled AND (e.claim IS NULL OR e.claim_expires_at < now())
                    AND EXISTS (SELECT 1 FROM webhook_deliveries d
                                 WHERE d.endpoint_id = e.id AND d.state IN ('pending', 'sending')
                                   AND d.due_at <= now())
                 RETURNING id, url, secret,
                           CASE WHEN old_secret_until > now() THEN old_secret END AS old_secret),
             next AS (
                 SELECT d.id FROM webhook_deliveries d, lane
                  WHERE d.endpoint_id = lane.id AND d.state IN ('pending', 'sending')
                    AND d.due_at <= now()
                  ORDER BY d.due_at, d.xid, d.place LIMIT 1),
             taken AS (
                 UPDATE webhook_deliveries d
                    SET state = 'sending', attempts = attempts + 1, attempted_at = now()
                   FROM next
                  WHERE d.id = next.id AND d.state IN ('pending', 'sending') AND d.due_at <= now()
                 RETURNING d.id, d.type, d.attempts, d.event_id, d.data, d.created_at)
             SELECT taken.id, taken.type, taken.attempts, coalesce(p.data, taken.data),
                    coalesce(p.happened_at, taken.created_at), lane.url, lane.secret, lane.old_secret
               FROM taken CROSS JOIN lane LEFT JOIN webhook_payloads p ON p.event_id = taken.event_id";
    /// Somebody else took what was seen: the endpoint is free at once.
    RELEASE = "UPDATE webhook_endpoints SET claim = NULL, claim_expires_at = NULL
                WHERE id = $1 AND claim = $2";
    DELIVERED = "WITH lane AS (
                     UPDATE webhook_endpoints
                        SET claim = NULL, claim_expires_at = NULL, failing_since = NULL
                      WHERE id = $1 AND claim = $2
                     RETURNING id)
                 UPDATE webhook_deliveries d
                    SET state = 'delivered', status_code = $4, error = NULL, finished_at = now()
                   FROM lane
                  WHERE d.id = $3 AND d.endpoint_id = lane.id AND d.state = 'sending'";
    /// $6: seconds to the next attempt, NULL after the last. The endpoint is switched off for $7, or
    /// for failing longer than $8 seconds; answers why, if it is so now.
    FAILED = "WITH before AS (
                  SELECT id, enabled,
                         coalesce($7, CASE WHEN failing_since < now() - make_interval(secs => $8)
                                           THEN 'Every attempt has failed since '
                                                || to_char(failing_since AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI') || ' UTC'
                                       END) AS reason
                    FROM webhook_endpoints WHERE id = $1 AND claim = $2 FOR NO KEY UPDATE),
              lane AS (
                  UPDATE webhook_endpoints e
                     SET claim = NULL, claim_expires_at = NULL,
                         failing_since = coalesce(failing_since, now()),
                         enabled = e.enabled AND before.reason IS NULL,
                         disabled_reason = CASE WHEN before.enabled AND before.reason IS NOT NULL
                                                THEN before.reason ELSE e.disabled_reason END,
                         updated_at = CASE WHEN before.enabled AND before.reason IS NOT NULL
                                           THEN now() ELSE e.updated_at END
                    FROM before WHERE e.id = before.id
                  RETURNING e.id, e.url,
                            CASE WHEN before.enabled THEN before.reason END AS reason),
              noted AS (
                  UPDATE webhook_deliveries d
                     SET state = CASE WHEN $6::float8 IS NULL THEN 'dead' ELSE 'pending' END,
                         finished_at = CASE WHEN $6 IS NULL THEN now() END,
                         due_at = now() + make_interval(secs => coalesce($6, 0)),
                         status_code = $4, error = $5
                    FROM lane
                   WHERE d.id = $3 AND d.endpoint_id = lane.id AND d.state = 'sending')
              SELECT reason, url FROM lane";
    /// What is cut off by the end of the process: nobody has to wait for it.
    RETURN = "WITH lane AS (
                  UPDATE webhook_endpoints SET claim = NULL, claim_expires_at = NULL
                   WHERE id = $1 AND claim = $2
                  RETURNING id)
              UPDATE webhook_deliveries d SET state = 'pending', attempts = attempts - 1
                FROM lane
               WHERE d.id = $3 AND d.endpoint_id = lane.id AND d.state = 'sending'";
    TEST = concat!("INSERT INTO webhook_deliveries (id, endpoint_id, type, xid, place, data)
            VALUES ($1, $2, $3, pg_current_xact_id(), 0, $4) RETURNING ", columns!());
    GET = concat!("SELECT ", columns!(), " FROM webhook_deliveries WHERE id = $1 AND endpoint_id = $2");
    LIST = concat!("SELECT ", columns!(), ", count(*) OVER () FROM webhook_deliveries
              WHERE endpoint_id = $1 AND ($2::text IS NULL OR state = $2)
              ORDER BY xid DESC, place DESC, id LIMIT $3 OFFSET $4");
    COUNT = "SELECT count(*) FROM webhook_deliveries
              WHERE endpoint_id = $1 AND ($2::text IS NULL OR state = $2)";
    /// Not while it is being sent.
    RETRY = concat!("UPDATE webhook_deliveries
                SET state = 'pending', due_at = now(), finished_at = NULL, attempts = 0
              WHERE id = $1 AND endpoint_id = $2 AND state IN ('pending', 'dead')
              RETURNING ", columns!());
    /// What waits for an endpoint that is switched off does not wait for ever.
    BURY = "UPDATE webhook_deliveries
               SET state = 'dead', finished_at = now(), error = 'It could not be sent for too long'
             WHERE state = 'pending' AND created_at < now() - make_interval(secs => $1)";
    EXPIRE = "DELETE FROM webhook_deliveries
               WHERE (state = 'delivered' AND finished_at < now() - make_interval(secs => $1))
                  OR (state = 'dead' AND finished_at < now() - make_interval(secs => $2))";
    EXPIRE_PAYLOADS = "DELETE FROM webhook_payloads p
                        WHERE NOT EXISTS (SELECT 1 FROM webhook_deliveries d WHERE d.event_id = p.event_id)";
}

/// What an endpoint is or was told, without what it says.
#[derive(Clone, Debug)]
pub struct WebhookDelivery {
    pub id: WebhookDeliveryId,
    /// The event's name.
    pub type_: String,
    /// `pending`, `sending`, `delivered` or `dead`.
    pub state: String,
    pub attempts: i32,
    pub due_at: DateTime<Utc>,
    pub attempted_at: Option<DateTime<Utc>>,
    /// Of the last answer.
    pub status_code: Option<i32>,
    /// Of the last attempt.
    pub error: Option<String>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// A delivery whose turn it is.
pub struct ClaimedDelivery {
    pub id: WebhookDeliveryId,
    pub type_: String,
    /// With this one.
    pub attempts: i32,
    /// JSON, exactly as on the stream.
    pub data: String,
    pub happened_at: DateTime<Utc>,
    pub url: String,
    pub secret: SecretSlice<u8>,
    /// The key before it, while that signs too.
    pub old_secret: Option<SecretSlice<u8>>,
}

impl fmt::Debug for ClaimedDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClaimedDelivery").field(&self.id).finish()
    }
}

/// One attempt that is under way.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    pub endpoint: WebhookEndpointId,
    pub claim: Uuid,
    pub delivery: WebhookDeliveryId,
}

/// How an attempt failed.
#[derive(Debug)]
pub struct FailedAttempt<'a> {
    /// Of the answer, where there was one.
    pub status_code: Option<i32>,
    pub error: &'a str,
    /// `None`: there is no next attempt.
    pub again_after: Option<Duration>,
    /// Why the endpoint is to be switched off.
    pub switch_off: Option<&'a str>,
    /// An endpoint that has failed for longer is switched off too.
    pub patience: Duration,
}

/// An endpoint that was switched off a moment ago.
pub struct SwitchedOff {
    pub url: String,
    pub reason: String,
}

/// Notes a failure; answers whether the endpoint was switched off for it.
pub async fn failed(
    client: &impl GenericClient,
    attempt: Attempt,
    how: &FailedAttempt<'_>,
) -> Result<Option<SwitchedOff>, StoreError> {
    let statement = client.prepare_cached(FAILED).await?;
    let row = client
        .query_opt(
            &statement,
            &[
                &attempt.endpoint.as_uuid(),
                &attempt.claim,
                &attempt.delivery.as_uuid(),
                &how.status_code,
                &how.error,
                &how.again_after.map(|wait| wait.as_secs_f64()),
                &how.switch_off,
                &how.patience.as_secs_f64(),
            ],
        )
        .await?;
    Ok(row.and_then(|row| {
        let reason: Option<String> = row.get(0);
        let url = row.get(1);
        reason.map(|reason| SwitchedOff { url, reason })
    }))
}

/// Adds a delivery that is no event's.
pub async fn add_test(
    client: &impl GenericClient,
    endpoint: WebhookEndpointId,
    type_: &str,
    data: &str,
) -> Result<WebhookDelivery, StoreError> {
    let statement = client.prepare_cached(TEST).await?;
    let id = WebhookDeliveryId::generate().as_uuid();
    let row = client
        .query_one(&statement, &[&id, &endpoint.as_uuid(), &type_, &data])
        .await?;
    Ok(read(&row))
}

/// Makes a delivery due again with all its attempts, also a dead one; `None` if there is none that
/// waits or is dead.
pub async fn retry(
    client: &impl GenericClient,
    endpoint: WebhookEndpointId,
    id: WebhookDeliveryId,
) -> Result<Option<WebhookDelivery>, StoreError> {
    let statement = client.prepare_cached(RETRY).await?;
    let row = client
        .query_opt(&statement, &[&id.as_uuid(), &endpoint.as_uuid()])
        .await?;
    Ok(row.as_ref().map(read))
}

impl Store {
    /// Turns events into deliveries, at most `limit` for each endpoint, for those that have fewer
    /// than `open` deliveries before them. Whether there may be more of them.
    pub async fn queue_webhooks(&self, limit: i64, open: i64) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(QUEUE).await?;
        let row = client
            .query_one(
                &statement,
                &[&limit, &open, &EVERYTHING, &GAP, &&PASSING[..]],
            )
            .await?;
        Ok(row.get::<_, i64>(0) == limit)
    }

    /// Endpoints that something could be sent to now.
    pub async fn waiting_webhook_endpoints(&self) -> Result<Vec<WebhookEndpointId>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(WAITING).await?;
        let rows = client.query(&statement, &[]).await?;
        let id = |row: &tokio_postgres::Row| WebhookEndpointId::from_uuid(row.get(0));
        Ok(rows.iter().map(id).collect())
    }

    /// Claims the endpoint's next delivery for `time`; `None` where nothing is due, or an attempt is
    /// under way.
    pub async fn claim_webhook_delivery(
        &self,
        endpoint: WebhookEndpointId,
        claim: Uuid,
        time: Duration,
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(CLAIM).await?;
        let id = endpoint.as_uuid();
        let row = client
            .query_opt(&statement, &[&id, &claim, &time.as_secs_f64()])
            .await?;
        let Some(row) = row else {
            let statement = client.prepare_cached(RELEASE).await?;
            client.execute(&statement, &[&id, &claim]).await?;
            return Ok(None);
        };
        let secret = |bytes: Vec<u8>| SecretSlice::from(bytes);
        Ok(Some(ClaimedDelivery {
            id: WebhookDeliveryId::from_uuid(row.get(0)),
            type_: row.get(1),
            attempts: row.get(2),
            data: row.get(3),
            happened_at: row.get(4),
            url: row.get(5),
            secret: secret(row.get(6)),
            old_secret: row.get::<_, Option<Vec<u8>>>(7).map(secret),
        }))
    }

    pub async fn webhook_delivered(&self, of: Attempt, status: i32) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(DELIVERED).await?;
        let (endpoint, delivery) = (of.endpoint.as_uuid(), of.delivery.as_uuid());
        client
            .execute(&statement, &[&endpoint, &of.claim, &delivery, &status])
            .await?;
        Ok(())
    }

    /// Gives back an attempt that is not made.
    pub async fn return_webhook(&self, of: Attempt) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(RETURN).await?;
        let (endpoint, delivery) = (of.endpoint.as_uuid(), of.delivery.as_uuid());
        client
            .execute(&statement, &[&endpoint, &of.claim, &delivery])
            .await?;
        Ok(())
    }

    pub async fn webhook_delivery(
        &self,
        endpoint: WebhookEndpointId,
        id: WebhookDeliveryId,
    ) -> Result<Option<WebhookDelivery>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let row = client
            .query_opt(&statement, &[&id.as_uuid(), &endpoint.as_uuid()])
            .await?;
        Ok(row.as_ref().map(read))
    }

    /// The newest events first, and how many deliveries there are.
    pub async fn webhook_deliveries(
        &self,
        endpoint: WebhookEndpointId,
        state: Option<&str>,
        offset: i64,
        limit: i64,
    ) -> Result<(Vec<WebhookDelivery>, i64), StoreError> {
        let client = self.client().await?;
        let id = endpoint.as_uuid();
        let statement = client.prepare_cached(LIST).await?;
        let rows = client
            .query(&statement, &[&id, &state, &limit, &offset])
            .await?;
        let total = match rows.first() {
            Some(row) => row.get(10),
            // A page past the end has no row to carry the count.
            None => {
                let statement = client.prepare_cached(COUNT).await?;
                client.query_one(&statement, &[&id, &state]).await?.get(0)
            }
        };
        Ok((rows.iter().map(read).collect(), total))
    }

    /// Forgets what was delivered `delivered` ago and what was given up `dead` ago, and gives up what
    /// has waited for as long.
    pub async fn expire_webhooks(
        &self,
        delivered: Duration,
        dead: Duration,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let (delivered, dead) = (delivered.as_secs_f64(), dead.as_secs_f64());
        let statement = client.prepare_cached(BURY).await?;
        client.execute(&statement, &[&dead]).await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        client.execute(&statement, &[&delivered, &dead]).await?;
        let statement = client.prepare_cached(EXPIRE_PAYLOADS).await?;
        client.execute(&statement, &[]).await?;
        Ok(())
    }
}

fn read(row: &tokio_postgres::Row) -> WebhookDelivery {
    WebhookDelivery {
        id: WebhookDeliveryId::from_uuid(row.get(0)),
        type_: row.get(1),
        state: row.get(2),
        attempts: row.get(3),
        due_at: row.get(4),
        attempted_at: row.get(5),
        status_code: row.get(6),
        error: row.get(7),
        created_at: row.get(8),
        finished_at: row.get(9),
    }
}
