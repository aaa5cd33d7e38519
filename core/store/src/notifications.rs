//! Notification rules, what was announced, and the outbox of messages (migration 30).
//!
//! A message is written in the transaction that makes it true and claimed by whichever worker of
//! its trigger's agent comes first. A claim runs out like a lease; what is written about an attempt
//! names its claim.

use std::time::Duration;

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::{
    ids::IdentityKey,
    notification::{Form, Recipient, Rule},
};
use serde_json::Value;
use uuid::Uuid;

use crate::{Store, StoreError};

/// A component's id, as clients write it.
macro_rules! component_id {
    () => {
        "CASE WHEN c.agent = '' THEN '' ELSE c.agent || '.' END || c.type || '.' || c.name"
    };
}

macro_rules! outbox_columns {
    () => {
        "id, rule, agent, type, name, form, identity_key, occasion, subject, payload, state,
         attempts, max_attempts, due_at, error, receipt, created_at, finished_at"
    };
}

statements! {
    RULES = "SELECT id, name, description, enabled, triggers FROM notification_rules ORDER BY place";
    CHANGE_RULE = "UPDATE notification_rules
                      SET enabled = coalesce($2, enabled), triggers = coalesce($3, triggers),
                          updated_at = now()
                    WHERE id = $1
                    RETURNING id, name, description, enabled, triggers";
    /// Triggers that an enabled rule names, or all if it names none.
    RECIPIENTS = concat!("SELECT c.agent, c.type, c.name, c.configuration
                    FROM notification_rules r
                    JOIN components c ON c.kind = 'trigger'
                   WHERE r.id = $1 AND r.enabled
                     AND (r.triggers = '{}' OR ", component_id!(), " = ANY (r.triggers))
                   ORDER BY c.agent, c.type, c.name");
    /// Answers with the pairs that are announced now for the first time.
    ANNOUNCE = "INSERT INTO announcements (identity_key, occasion)
                SELECT DISTINCT identity_key, occasion
                  FROM unnest($1::text[], $2::text[]) AS t (identity_key, occasion)
                 ORDER BY 1, 2
                ON CONFLICT DO NOTHING
                RETURNING identity_key, occasion";
    /// Containers with a candidate that was seen and not announced: held back by a policy, then.
    /// A policy holds back for a year at most.
    UNANNOUNCED = "SELECT DISTINCT c.id FROM candidate_sightings s
                     JOIN containers c USING (identity_key)
                    WHERE NOT c.removed AND s.first_seen_at > now() - interval '400 days'
                      AND NOT EXISTS (SELECT 1 FROM announcements a
                                       WHERE a.identity_key = s.identity_key
                                         AND a.occasion = s.candidate)
                    ORDER BY c.id LIMIT 5000";
    PUT = "INSERT INTO notification_outbox (id, rule, agent, type, name, form, identity_key, occasion,
                                            subject, payload, place, due_at, max_attempts)
           SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[],
                                $6::text[], $7::text[], $8::text[], $9::text[], $10::jsonb[],
                                $11::int4[], $12::timestamptz[], $13::int4[])
           ON CONFLICT DO NOTHING";
    /// The next message of a trigger; with a batch or digest, the others that travel with it: what
    /// is due, and what the same watch has added to a batch since its first message.
    /// One claim at a time for each trigger, so that they stay together; whoever has looked before
    /// another claim was written finds its rows taken, and takes nothing.
    CLAIM = concat!("WITH lane AS MATERIALIZED (
                  SELECT pg_try_advisory_xact_lock(hashtextextended('notify:' || $1 || '.' || $2 || '.' || $3, 0)) AS free),
              first AS (
                  SELECT id, rule, form, due_at FROM notification_outbox
                   WHERE (SELECT free FROM lane) AND agent = $1 AND type = $2 AND name = $3
                     AND ((state = 'pending' AND due_at <= now())
                       OR (state = 'sending' AND claim_expires_at < now()))
                   ORDER BY place, due_at, created_at, id LIMIT 1),
              chosen AS (
                  SELECT o.id FROM notification_outbox o, first
                   WHERE o.id = first.id
                      OR (first.form <> 'simple' AND o.agent = $1 AND o.type = $2 AND o.name = $3
                          AND o.rule = first.rule AND o.form = first.form
                          AND ((o.state = 'pending'
                                AND (o.due_at <= now() OR (o.form = 'batch' AND o.attempts = 0)))
                            OR (o.state = 'sending' AND o.claim_expires_at < now())))
                   ORDER BY o.created_at, o.id LIMIT 200)
              UPDATE notification_outbox
                 SET state = 'sending', attempts = attempts + 1, claim = $4,
                     claim_expires_at = now() + make_interval(secs => $5)
               WHERE id IN (SELECT id FROM chosen)
                 AND (state = 'pending' OR (state = 'sending' AND claim_expires_at < now()))
              RETURNING ", outbox_columns!());
    DELIVERED = "UPDATE notification_outbox
                    SET state = 'delivered', error = NULL, receipt = $2, claim = NULL,
                        claim_expires_at = NULL, finished_at = now()
                  WHERE claim = $1 AND state = 'sending'";
    /// The next attempt is due after so many seconds, unless this was the last one, or any other
    /// would be of no use.
    FAILED = "UPDATE notification_outbox
                 SET state = CASE WHEN $4 OR attempts >= max_attempts THEN 'dead' ELSE 'pending' END,
                     finished_at = CASE WHEN $4 OR attempts >= max_attempts THEN now() END,
                     error = $2, claim = NULL, claim_expires_at = NULL,
                     due_at = now() + make_interval(secs => $3)
               WHERE claim = $1 AND state = 'sending'
              RETURNING state";
    /// Messages of a claim that are not true any more.
    WITHDRAW = "UPDATE notification_outbox
                   SET state = 'withdrawn', error = $3, claim = NULL, claim_expires_at = NULL,
                       finished_at = now()
                 WHERE claim = $1 AND id = ANY ($2) AND state = 'sending'";
    /// What a claim that is cut off by the end of the process had: nobody has to wait for it.
    RETURN = "UPDATE notification_outbox
                 SET state = 'pending', attempts = attempts - 1, claim = NULL, claim_expires_at = NULL
               WHERE claim = $1 AND state = 'sending'";
    /// Messages about an update of this container that were delivered and can be taken back.
    TAKE_BACK_ALL = "INSERT INTO notification_outbox (id, rule, agent, type, name, form, identity_key,
                                                      occasion, subject, payload, place)
                SELECT gen_random_uuid(), $2, agent, type, name, 'simple', identity_key, id::text,
                       subject, jsonb_build_object('receipt', receipt), place
                  FROM notification_outbox
                 WHERE identity_key = $1 AND rule = 'update-available' AND form = 'simple'
                   AND state = 'delivered' AND receipt IS NOT NULL
                ON CONFLICT DO NOTHING";
    OF_IDENTITIES = "SELECT id FROM containers WHERE identity_key = ANY ($1) AND NOT removed";
    GET = concat!("SELECT ", outbox_columns!(), " FROM notification_outbox WHERE id = $1");
    LIST = concat!("SELECT ", outbox_columns!(), ", count(*) OVER () FROM notification_outbox
              WHERE $1::text IS NULL OR state = $1
              ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3");
    COUNT = "SELECT count(*) FROM notification_outbox WHERE $1::text IS NULL OR state = $1";
    /// Not while it is being sent.
    RETRY = concat!("UPDATE notification_outbox
                SET state = 'pending', due_at = now(), finished_at = NULL, error = NULL,
                    attempts = 0
              WHERE id = $1 AND state IN ('pending', 'dead')
              RETURNING ", outbox_columns!());
    DELETE = "DELETE FROM notification_outbox WHERE id = $1 AND state <> 'sending'";
    /// Messages for triggers that nobody has any more.
    ORPHANED = "UPDATE notification_outbox o
                   SET state = 'dead', finished_at = now(),
                       error = 'The trigger is not configured any more'
                 WHERE state = 'pending' AND due_at < now() - interval '10 minutes'
                   AND NOT EXISTS (SELECT 1 FROM components c
                                    WHERE c.kind = 'trigger' AND c.agent = o.agent
                                      AND c.type = o.type AND c.name = o.name)";
    EXPIRE = "DELETE FROM notification_outbox
               WHERE state IN ('delivered', 'dead', 'withdrawn')
                 AND finished_at < now() - make_interval(secs => $1)";
}

/// One rule, as the contract shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationRule {
    pub id: String,
    pub name: String,
    pub description: String,
    pub enabled: bool,
    /// Ids of triggers; empty: all.
    pub triggers: Vec<String>,
}

/// A message for one trigger.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub id: Uuid,
    /// A rule's id, or [`RUN`].
    pub rule: &'static str,
    pub agent: String,
    pub type_: String,
    pub name: String,
    pub form: Form,
    /// What it is about.
    pub identity: String,
    /// One message for each occasion.
    pub occasion: String,
    pub subject: String,
    pub payload: Value,
    pub place: i32,
    pub due_at: DateTime<Utc>,
    pub max_attempts: i32,
}

/// The rule of a trigger that is run by hand.
pub const RUN: &str = "run";
/// The rule of a message that takes another one back: its payload holds the other's receipt.
pub const TAKE_BACK: &str = "take-back";
/// Attempts before a message is a dead letter.
pub const ATTEMPTS: i32 = 5;

/// A message as stored.
#[derive(Clone, Debug)]
pub struct Message {
    pub id: Uuid,
    pub rule: String,
    pub agent: String,
    pub type_: String,
    pub name: String,
    pub form: Form,
    pub identity: String,
    pub occasion: String,
    pub subject: String,
    pub payload: Value,
    /// `pending`, `sending`, `delivered`, `dead` or `withdrawn`.
    pub state: String,
    pub attempts: i32,
    pub max_attempts: i32,
    pub due_at: DateTime<Utc>,
    pub error: Option<String>,
    pub receipt: Option<Value>,
    pub created_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
}

/// Who hears of `rule` now.
pub async fn recipients(
    client: &impl GenericClient,
    rule: Rule,
) -> Result<Vec<Recipient>, StoreError> {
    let statement = client.prepare_cached(RECIPIENTS).await?;
    let rows = client.query(&statement, &[&rule.as_str()]).await?;
    Ok(rows
        .iter()
        .filter_map(|row| Recipient::new(row.get(0), row.get(1), row.get(2), &row.get(3)))
        .collect())
}

/// Records what is told of, by subject and occasion, and answers with what was not told of before.
pub async fn announce(
    client: &impl GenericClient,
    news: &[(&IdentityKey, &str)],
) -> Result<Vec<(IdentityKey, String)>, StoreError> {
    if news.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<&str> = news.iter().map(|one| one.0.as_str()).collect();
    let occasions: Vec<&str> = news.iter().map(|one| one.1).collect();
    let statement = client.prepare_cached(ANNOUNCE).await?;
    let rows = client.query(&statement, &[&keys, &occasions]).await?;
    Ok(rows
        .into_iter()
        .map(|row| (IdentityKey::from_stored(row.get(0)), row.get(1)))
        .collect())
}

/// Ids of containers that may have become available by time alone.
pub async fn unannounced(client: &impl GenericClient) -> Result<Vec<String>, StoreError> {
    let statement = client.prepare_cached(UNANNOUNCED).await?;
    let rows = client.query(&statement, &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Adds messages to the transaction that makes them true. One that is there already is not added
/// again.
pub async fn put(client: &impl GenericClient, messages: &[NewMessage]) -> Result<u64, StoreError> {
    if messages.is_empty() {
        return Ok(0);
    }
    let texts = |field: fn(&NewMessage) -> &str| messages.iter().map(field).collect::<Vec<_>>();
    let ids: Vec<Uuid> = messages.iter().map(|m| m.id).collect();
    let payloads: Vec<&Value> = messages.iter().map(|m| &m.payload).collect();
    let places: Vec<i32> = messages.iter().map(|m| m.place).collect();
    let due: Vec<DateTime<Utc>> = messages.iter().map(|m| m.due_at).collect();
    let attempts: Vec<i32> = messages.iter().map(|m| m.max_attempts).collect();
    let statement = client.prepare_cached(PUT).await?;
    Ok(client
        .execute(
            &statement,
            &[
                &ids,
                &texts(|m| m.rule),
                &texts(|m| &m.agent),
                &texts(|m| &m.type_),
                &texts(|m| &m.name),
                &texts(|m| m.form.as_str()),
                &texts(|m| &m.identity),
                &texts(|m| &m.occasion),
                &texts(|m| &m.subject),
                &payloads,
                &places,
                &due,
                &attempts,
            ],
        )
        .await?)
}

/// Has messages about updates of a container taken back, where their services can do that.
pub async fn take_back(
    client: &impl GenericClient,
    identity: &IdentityKey,
) -> Result<(), StoreError> {
    let statement = client.prepare_cached(TAKE_BACK_ALL).await?;
    client
        .execute(&statement, &[&identity.as_str(), &TAKE_BACK])
        .await?;
    Ok(())
}

/// Ids of the containers that have one of these identities now.
pub async fn of_identities(
    client: &impl GenericClient,
    identities: &[&str],
) -> Result<Vec<String>, StoreError> {
    let statement = client.prepare_cached(OF_IDENTITIES).await?;
    let rows = client.query(&statement, &[&identities]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Changes what is given; `None` if there is no such rule.
pub async fn change_rule(
    client: &impl GenericClient,
    id: &str,
    enabled: Option<bool>,
    triggers: Option<&[String]>,
) -> Result<Option<NotificationRule>, StoreError> {
    let statement = client.prepare_cached(CHANGE_RULE).await?;
    let row = client
        .query_opt(&statement, &[&id, &enabled, &triggers])
        .await?;
    Ok(row.as_ref().map(rule))
}

/// Makes a message due again, also a dead one; `None` if there is none that waits or is dead.
pub async fn retry(client: &impl GenericClient, id: Uuid) -> Result<Option<Message>, StoreError> {
    let statement = client.prepare_cached(RETRY).await?;
    let row = client.query_opt(&statement, &[&id]).await?;
    row.as_ref().map(message).transpose()
}

/// `false` if there is none, or it is being sent.
pub async fn delete(client: &impl GenericClient, id: Uuid) -> Result<bool, StoreError> {
    let statement = client.prepare_cached(DELETE).await?;
    Ok(client.execute(&statement, &[&id]).await? > 0)
}

impl Store {
    pub async fn notification_rules(&self) -> Result<Vec<NotificationRule>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(RULES).await?;
        let rows = client.query(&statement, &[]).await?;
        Ok(rows.iter().map(rule).collect())
    }

    /// Claims the next message of a trigger, with those that travel with it, for `time`.
    pub async fn claim_messages(
        &self,
        (agent, type_, name): (&str, &str, &str),
        claim: Uuid,
        time: Duration,
    ) -> Result<Vec<Message>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(CLAIM).await?;
        let rows = client
            .query(
                &statement,
                &[&agent, &type_, &name, &claim, &time.as_secs_f64()],
            )
            .await?;
        let mut messages = rows.iter().map(message).collect::<Result<Vec<_>, _>>()?;
        messages.sort_by_key(|m| (m.created_at, m.id));
        Ok(messages)
    }

    pub async fn messages_delivered(
        &self,
        claim: Uuid,
        receipt: Option<&Value>,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(DELIVERED).await?;
        client.execute(&statement, &[&claim, &receipt]).await?;
        Ok(())
    }

    /// Answers whether one of them is a dead letter now, as all are where `is_final`.
    pub async fn messages_failed(
        &self,
        claim: Uuid,
        error: &str,
        again_after: Duration,
        is_final: bool,
    ) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FAILED).await?;
        let rows = client
            .query(
                &statement,
                &[&claim, &error, &again_after.as_secs_f64(), &is_final],
            )
            .await?;
        Ok(rows.iter().any(|row| row.get::<_, &str>(0) == "dead"))
    }

    pub async fn withdraw_messages(
        &self,
        claim: Uuid,
        ids: &[Uuid],
        why: &str,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(WITHDRAW).await?;
        client.execute(&statement, &[&claim, &ids, &why]).await?;
        Ok(())
    }

    pub async fn return_messages(&self, claim: Uuid) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(RETURN).await?;
        client.execute(&statement, &[&claim]).await?;
        Ok(())
    }

    pub async fn message(&self, id: Uuid) -> Result<Option<Message>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let row = client.query_opt(&statement, &[&id]).await?;
        row.as_ref().map(message).transpose()
    }

    /// Newest first, and how many there are. `limit` 0 means all.
    pub async fn messages(
        &self,
        state: Option<&str>,
        offset: i64,
        limit: i64,
    ) -> Result<(Vec<Message>, i64), StoreError> {
        let limit = (limit > 0).then_some(limit);
        let client = self.client().await?;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client.query(&statement, &[&state, &limit, &offset]).await?;
        let total = match rows.first() {
            Some(row) => row.get(18),
            None => {
                let statement = client.prepare_cached(COUNT).await?;
                client.query_one(&statement, &[&state]).await?.get(0)
            }
        };
        Ok((rows.iter().map(message).collect::<Result<_, _>>()?, total))
    }

    /// Buries what no trigger will send, and forgets what is over for `age`.
    pub async fn expire_messages(&self, age: Duration) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(ORPHANED).await?;
        client.execute(&statement, &[]).await?;
        let statement = client.prepare_cached(EXPIRE).await?;
        client.execute(&statement, &[&age.as_secs_f64()]).await?;
        Ok(())
    }
}

fn rule(row: &tokio_postgres::Row) -> NotificationRule {
    NotificationRule {
        id: row.get(0),
        name: row.get(1),
        description: row.get(2),
        enabled: row.get(3),
        triggers: row.get(4),
    }
}

fn message(row: &tokio_postgres::Row) -> Result<Message, StoreError> {
    let form: &str = row.get(5);
    Ok(Message {
        id: row.get(0),
        rule: row.get(1),
        agent: row.get(2),
        type_: row.get(3),
        name: row.get(4),
        form: Form::parse(form).ok_or_else(|| StoreError::corrupt("message form", form))?,
        identity: row.get(6),
        occasion: row.get(7),
        subject: row.get(8),
        payload: row.get(9),
        state: row.get(10),
        attempts: row.get(11),
        max_attempts: row.get(12),
        due_at: row.get(13),
        error: row.get(14),
        receipt: row.get(15),
        created_at: row.get(16),
        finished_at: row.get(17),
    })
}
