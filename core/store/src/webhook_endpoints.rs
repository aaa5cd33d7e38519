//! Who is told of events by HTTP (migration 86). What they are told is in
//! [`webhook_deliveries`](crate::webhook_deliveries).

use std::{fmt, time::Duration};

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::WebhookEndpointId;
use secrecy::{ExposeSecret, SecretSlice};

use crate::{Store, StoreError};

macro_rules! columns {
    () => {
        "id, url, description, events, enabled, disabled_reason, failing_since,
         CASE WHEN old_secret_until > now() THEN old_secret_until END, created_at, updated_at"
    };
}

statements! {
    /// Begins after what is settled now. Nothing is added past the limit.
    CREATE = concat!("INSERT INTO webhook_endpoints (id, url, description, events, secret, seen_xid, seen_id)
              SELECT $1, $2, $3, $4, $5, place.xid, place.id
                FROM ((SELECT xid, id FROM events WHERE xid < pg_snapshot_xmin(pg_current_snapshot())
                        ORDER BY xid DESC, id DESC LIMIT 1)
                      UNION ALL SELECT xid, id FROM events_forgotten) place
               WHERE (SELECT count(*) FROM webhook_endpoints) < $6
               ORDER BY place.xid DESC, place.id DESC LIMIT 1
              RETURNING ", columns!());
    LIST = concat!("SELECT ", columns!(), " FROM webhook_endpoints ORDER BY created_at, id");
    GET = concat!("SELECT ", columns!(), " FROM webhook_endpoints WHERE id = $1");
    /// Whoever changes the address or switches it on gives it a new chance.
    CHANGE = concat!("UPDATE webhook_endpoints
                SET url = coalesce($2, url), description = coalesce($3, description),
                    events = coalesce($4, events), enabled = coalesce($5, enabled),
                    disabled_reason = CASE WHEN $5 IS NULL THEN disabled_reason END,
                    failing_since = CASE WHEN $2 IS NULL AND $5 IS NOT TRUE THEN failing_since END,
                    updated_at = now()
              WHERE id = $1 RETURNING ", columns!());
    DELETE = "DELETE FROM webhook_endpoints WHERE id = $1 RETURNING url";
    ROTATE = concat!("UPDATE webhook_endpoints
                SET old_secret = secret, old_secret_until = now() + make_interval(secs => $3),
                    secret = $2, updated_at = now()
              WHERE id = $1 RETURNING ", columns!());
    FORGET_OLD_SECRETS = "UPDATE webhook_endpoints SET old_secret = NULL, old_secret_until = NULL
                           WHERE old_secret_until < now()";
}

/// An endpoint as its owner sees it: without its key.
#[derive(Clone)]
pub struct WebhookEndpoint {
    pub id: WebhookEndpointId,
    pub url: String,
    pub description: String,
    /// Names of events, or `*` alone.
    pub events: Vec<String>,
    pub enabled: bool,
    /// Why Plimsoll switched it off.
    pub disabled_reason: Option<String>,
    /// The first failure since the last success.
    pub failing_since: Option<DateTime<Utc>>,
    /// Until when the key before the present one signs too.
    pub old_secret_until: Option<DateTime<Utc>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl fmt::Debug for WebhookEndpoint {
    /// Addresses of some services are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WebhookEndpoint").field(&self.id).finish()
    }
}

/// What an endpoint is made of.
pub struct NewWebhookEndpoint<'a> {
    pub id: WebhookEndpointId,
    pub url: &'a str,
    pub description: &'a str,
    pub events: &'a [String],
    pub secret: &'a SecretSlice<u8>,
}

/// What changes; the rest stays.
#[derive(Default)]
pub struct WebhookEndpointChange<'a> {
    pub url: Option<&'a str>,
    pub description: Option<&'a str>,
    pub events: Option<&'a [String]>,
    pub enabled: Option<bool>,
}

/// Adds an endpoint that hears of what happens from now on; `None` where there are `most` already.
pub async fn create(
    client: &impl GenericClient,
    new: &NewWebhookEndpoint<'_>,
    most: i64,
) -> Result<Option<WebhookEndpoint>, StoreError> {
    let statement = client.prepare_cached(CREATE).await?;
    let row = client
        .query_opt(
            &statement,
            &[
                &new.id.as_uuid(),
                &new.url,
                &new.description,
                &new.events,
                &new.secret.expose_secret(),
                &most,
            ],
        )
        .await?;
    Ok(row.as_ref().map(read))
}

pub async fn get(
    client: &impl GenericClient,
    id: WebhookEndpointId,
) -> Result<Option<WebhookEndpoint>, StoreError> {
    let statement = client.prepare_cached(GET).await?;
    let row = client.query_opt(&statement, &[&id.as_uuid()]).await?;
    Ok(row.as_ref().map(read))
}

/// `None`: there is no such endpoint.
pub async fn change(
    client: &impl GenericClient,
    id: WebhookEndpointId,
    change: &WebhookEndpointChange<'_>,
) -> Result<Option<WebhookEndpoint>, StoreError> {
    let statement = client.prepare_cached(CHANGE).await?;
    let row = client
        .query_opt(
            &statement,
            &[
                &id.as_uuid(),
                &change.url,
                &change.description,
                &change.events,
                &change.enabled,
            ],
        )
        .await?;
    Ok(row.as_ref().map(read))
}

/// With all its deliveries. Answers its address; `None`: there is no such endpoint.
pub async fn delete(
    client: &impl GenericClient,
    id: WebhookEndpointId,
) -> Result<Option<String>, StoreError> {
    let statement = client.prepare_cached(DELETE).await?;
    let row = client.query_opt(&statement, &[&id.as_uuid()]).await?;
    Ok(row.map(|row| row.get(0)))
}

/// Gives it a new key; the one before signs beside it for `overlap`, and one before that no more.
pub async fn rotate(
    client: &impl GenericClient,
    id: WebhookEndpointId,
    secret: &SecretSlice<u8>,
    overlap: Duration,
) -> Result<Option<WebhookEndpoint>, StoreError> {
    let statement = client.prepare_cached(ROTATE).await?;
    let secret = secret.expose_secret();
    let row = client
        .query_opt(
            &statement,
            &[&id.as_uuid(), &secret, &overlap.as_secs_f64()],
        )
        .await?;
    Ok(row.as_ref().map(read))
}

impl Store {
    /// In the order they were made in.
    pub async fn webhook_endpoints(&self) -> Result<Vec<WebhookEndpoint>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LIST).await?;
        Ok(client
            .query(&statement, &[])
            .await?
            .iter()
            .map(read)
            .collect())
    }

    pub async fn webhook_endpoint(
        &self,
        id: WebhookEndpointId,
    ) -> Result<Option<WebhookEndpoint>, StoreError> {
        get(&self.client().await?, id).await
    }

    /// Forgets keys that sign no more.
    pub async fn forget_old_webhook_secrets(&self) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FORGET_OLD_SECRETS).await?;
        client.execute(&statement, &[]).await?;
        Ok(())
    }
}

fn read(row: &tokio_postgres::Row) -> WebhookEndpoint {
    WebhookEndpoint {
        id: WebhookEndpointId::from_uuid(row.get(0)),
        url: row.get(1),
        description: row.get(2),
        events: row.get(3),
        enabled: row.get(4),
        disabled_reason: row.get(5),
        failing_since: row.get(6),
        old_secret_until: row.get(7),
        created_at: row.get(8),
        updated_at: row.get(9),
    }
}
