//! Sessions, in Postgres because they must survive a wiped Redis (reliability.md B1). Only the
//! SHA-256 of a session's id is stored.

use chrono::{DateTime, Utc};
use plimsoll_domain::{access::Role, ids::UserId};

use crate::{Store, StoreError};

statements! {
    CREATE = "INSERT INTO sessions (id_hash, user_id, expires_at, remember, provider)
              VALUES ($1, $2, now() + make_interval(secs => $3), $4, $5)";
    /// Newest first: what is past the allowed number goes.
    EXCESS = "SELECT id_hash FROM sessions WHERE user_id = $1
               ORDER BY created_at DESC, id_hash OFFSET $2";
    END = "DELETE FROM sessions WHERE id_hash = $1 RETURNING provider";
    END_MANY = "DELETE FROM sessions WHERE id_hash = ANY ($1)";
    GET = "SELECT u.id, u.username, u.role, s.expires_at
             FROM sessions s JOIN users u ON u.id = s.user_id
            WHERE s.id_hash = $1 AND s.expires_at > now() AND NOT u.disabled";
    REMEMBER = "UPDATE sessions SET remember = $2,
                       expires_at = created_at + make_interval(secs => $3)
                 WHERE id_hash = $1 AND expires_at > now()";
    EXPIRED = "SELECT id_hash FROM sessions WHERE expires_at <= now() LIMIT 1000";
}

/// Whether a session outlasts the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remember {
    /// 7 days.
    No,
    /// 30 days.
    Yes,
}

impl Remember {
    pub const fn from_flag(remember: bool) -> Self {
        if remember { Self::Yes } else { Self::No }
    }

    /// How long a session lives, in seconds from its beginning.
    pub const fn seconds(self) -> u64 {
        match self {
            Self::No => 7 * 24 * 3600,
            Self::Yes => 30 * 24 * 3600,
        }
    }
}

/// A valid session's user.
#[derive(Clone, Debug)]
pub struct SessionUser {
    pub user: UserId,
    pub username: String,
    pub role: Role,
    pub expires_at: DateTime<Utc>,
}

impl Store {
    /// Begins a session and ends the user's oldest beyond `max`. `provider`: who vouched for them.
    pub async fn create_session(
        &self,
        id_hash: &[u8],
        user: UserId,
        remember: Remember,
        provider: Option<&str>,
        max: i64,
    ) -> Result<(), StoreError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        let statement = tx.prepare_cached(CREATE).await?;
        let seconds = remember.seconds() as f64;
        tx.execute(
            &statement,
            &[
                &id_hash,
                &user.as_uuid(),
                &seconds,
                &(remember == Remember::Yes),
                &provider,
            ],
        )
        .await?;
        let statement = tx.prepare_cached(EXCESS).await?;
        let excess = tx.query(&statement, &[&user.as_uuid(), &max]).await?;
        end_many(&tx, excess.iter().map(|row| row.get(0)).collect()).await?;
        tx.commit().await?;
        Ok(())
    }

    pub async fn session(&self, id_hash: &[u8]) -> Result<Option<SessionUser>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let Some(row) = client.query_opt(&statement, &[&id_hash]).await? else {
            return Ok(None);
        };
        let role: String = row.get(2);
        Ok(Some(SessionUser {
            user: UserId::from_uuid(row.get(0)),
            username: row.get(1),
            role: Role::parse(&role).ok_or_else(|| StoreError::corrupt("role of a user", role))?,
            expires_at: row.get(3),
        }))
    }

    /// Changes how long a session lives. False: there is no such session.
    pub async fn remember_session(
        &self,
        id_hash: &[u8],
        remember: Remember,
    ) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(REMEMBER).await?;
        let seconds = remember.seconds() as f64;
        let changed = client
            .execute(
                &statement,
                &[&id_hash, &(remember == Remember::Yes), &seconds],
            )
            .await?;
        Ok(changed == 1)
    }

    /// The identity provider that the session began with, if it was one.
    pub async fn end_session(&self, id_hash: &[u8]) -> Result<Option<String>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(END).await?;
        let row = client.query_opt(&statement, &[&id_hash]).await?;
        Ok(row.and_then(|row| row.get(0)))
    }

    /// Removes up to a thousand sessions whose time is over; they are refused without this too.
    pub async fn sweep_sessions(&self) -> Result<usize, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(EXPIRED).await?;
        let expired = client.query(&statement, &[]).await?;
        let count = expired.len();
        end_many(&client, expired.iter().map(|row| row.get(0)).collect()).await?;
        Ok(count)
    }
}

/// Only where there is something to delete: the statement itself makes every replica forget its
/// principals.
async fn end_many(
    client: &impl deadpool_postgres::GenericClient,
    hashes: Vec<Vec<u8>>,
) -> Result<(), StoreError> {
    if hashes.is_empty() {
        return Ok(());
    }
    let statement = client.prepare_cached(END_MANY).await?;
    client.execute(&statement, &[&hashes]).await?;
    Ok(())
}
