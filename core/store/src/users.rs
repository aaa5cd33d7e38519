//! User accounts. They come from the configuration, or one is generated at the first start.

use plimsoll_domain::{access::Role, ids::UserId};
use uuid::Uuid;

use crate::{Store, StoreError, Transaction};

statements! {
    BY_NAME = "SELECT id, username, role, password_hash FROM users
                WHERE username = $1 AND NOT disabled";
    FROM = "SELECT id, username, role, password_hash, disabled FROM users WHERE source = $1";
    PUT = "INSERT INTO users (id, username, role, password_hash, source)
           VALUES ($1, $2, $3, $4, $5)
           ON CONFLICT (username) DO UPDATE
              SET role = EXCLUDED.role, password_hash = EXCLUDED.password_hash,
                  source = EXCLUDED.source, disabled = false";
    SWITCH = "UPDATE users SET disabled = $2 WHERE id = $1 AND disabled <> $2";
    END_SESSIONS = "DELETE FROM sessions WHERE user_id = $1";
    END_SESSIONS_OF = "DELETE FROM sessions s USING users u
                        WHERE s.user_id = u.id AND u.username = $1";
    /// Whoever comes first in a race of replicas creates the owner.
    CREATE_OWNER = "INSERT INTO users (id, username, role, password_hash, source)
                    SELECT $1, $2, 'owner', $3, 'generated'
                     WHERE NOT EXISTS (SELECT 1 FROM users WHERE role = 'owner' AND NOT disabled)
                    ON CONFLICT (username) DO UPDATE
                       SET role = 'owner', password_hash = EXCLUDED.password_hash,
                           source = EXCLUDED.source, disabled = false
                     WHERE users.disabled";
    ANY_OWNER = "SELECT EXISTS (SELECT 1 FROM users WHERE role = 'owner' AND NOT disabled)";
    LOCK = "SELECT pg_advisory_xact_lock(hashtext('plimsoll users'))";
}

/// Where an account comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserSource {
    Configuration,
    Generated,
}

impl UserSource {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Generated => "generated",
        }
    }
}

#[derive(Clone, Debug)]
pub struct User {
    pub id: UserId,
    pub username: String,
    pub role: Role,
    /// argon2id, PHC string. `None`: cannot sign in with a password.
    pub password_hash: Option<String>,
}

/// A user as the configuration says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedUser {
    pub username: String,
    pub role: Role,
    pub password_hash: String,
}

fn read(row: &tokio_postgres::Row) -> Result<User, StoreError> {
    let role: String = row.get(2);
    Ok(User {
        id: UserId::from_uuid(row.get(0)),
        username: row.get(1),
        role: Role::parse(&role).ok_or_else(|| StoreError::corrupt("role of a user", role))?,
        password_hash: row.get(3),
    })
}

impl Store {
    /// An account that may sign in.
    pub async fn user_by_name(&self, username: &str) -> Result<Option<User>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(BY_NAME).await?;
        let row = client.query_opt(&statement, &[&username]).await?;
        row.map(|row| read(&row)).transpose()
    }

    /// Whether any owner may sign in.
    pub async fn any_owner(&self) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(ANY_OWNER).await?;
        Ok(client.query_one(&statement, &[]).await?.get(0))
    }

    /// Makes the accounts what the configuration says, and writes only what differs: each write
    /// makes every replica forget its principals. Who is no longer named is disabled; a changed
    /// role or password ends the user's sessions; a generated owner is there only while there are
    /// no configured users.
    pub async fn reconcile_users(&self, wanted: &[WantedUser]) -> Result<(), StoreError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        lock(&tx).await?;
        let known = from_source(&tx, UserSource::Configuration).await?;
        for user in wanted {
            let same = known.iter().any(|(known, disabled)| {
                !disabled
                    && known.username == user.username
                    && known.role == user.role
                    && known.password_hash.as_deref() == Some(&user.password_hash)
            });
            if same {
                continue;
            }
            tx.execute(
                &tx.prepare_cached(END_SESSIONS_OF).await?,
                &[&user.username],
            )
            .await?;
            let id = UserId::generate().as_uuid();
            let values: [&(dyn postgres_types::ToSql + Sync); 5] = [
                &id,
                &user.username,
                &user.role.as_str(),
                &user.password_hash,
                &UserSource::Configuration.as_str(),
            ];
            tx.execute(&tx.prepare_cached(PUT).await?, &values).await?;
        }
        for (user, disabled) in &known {
            let named = wanted.iter().any(|w| w.username == user.username);
            if !named && !disabled {
                switch(&tx, user.id, true).await?;
                end_sessions(&tx, user.id).await?;
            }
        }
        for (user, disabled) in from_source(&tx, UserSource::Generated).await? {
            if disabled == wanted.is_empty() {
                switch(&tx, user.id, !disabled).await?;
                end_sessions(&tx, user.id).await?;
            }
        }
        tx.commit().await?;
        Ok(())
    }

    /// Creates the owner, unless there is one who may sign in. True: it was this call.
    pub async fn create_first_owner(
        &self,
        username: &str,
        password_hash: &str,
    ) -> Result<bool, StoreError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        lock(&tx).await?;
        let statement = tx.prepare_cached(CREATE_OWNER).await?;
        let id = UserId::generate().as_uuid();
        let created = tx
            .execute(&statement, &[&id, &username, &password_hash])
            .await?;
        tx.commit().await?;
        Ok(created == 1)
    }
}

/// Changes to accounts, one after another.
pub(crate) async fn lock(tx: &Transaction<'_>) -> Result<(), StoreError> {
    tx.execute(LOCK, &[]).await?;
    Ok(())
}

async fn from_source(
    tx: &Transaction<'_>,
    source: UserSource,
) -> Result<Vec<(User, bool)>, StoreError> {
    let statement = tx.prepare_cached(FROM).await?;
    let rows = tx.query(&statement, &[&source.as_str()]).await?;
    rows.iter()
        .map(|row| Ok((read(row)?, row.get(4))))
        .collect()
}

async fn switch(tx: &Transaction<'_>, user: UserId, disabled: bool) -> Result<(), StoreError> {
    let id: Uuid = user.as_uuid();
    tx.execute(&tx.prepare_cached(SWITCH).await?, &[&id, &disabled])
        .await?;
    Ok(())
}

async fn end_sessions(tx: &Transaction<'_>, user: UserId) -> Result<(), StoreError> {
    let id: Uuid = user.as_uuid();
    tx.execute(&tx.prepare_cached(END_SESSIONS).await?, &[&id])
        .await?;
    Ok(())
}
