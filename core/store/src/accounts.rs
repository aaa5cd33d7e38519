//! Accounts as those who manage users see and change them.

use chrono::{DateTime, Utc};
use plimsoll_domain::{access::Role, ids::UserId};

use crate::{Store, StoreError, Transaction, users};

statements! {
    LIST = "SELECT id, username, role, source, issuer, disabled, created_at,
                   password_hash IS NOT NULL
              FROM users ORDER BY username";
    ONE = "SELECT id, username, role, source, issuer, disabled, created_at,
                  password_hash IS NOT NULL
             FROM users WHERE id = $1 FOR UPDATE";
    CREATE = "INSERT INTO users (id, username, role, password_hash, source)
              VALUES ($1, $2, $3, $4, 'local') ON CONFLICT (username) DO NOTHING";
    CHANGE = "UPDATE users SET username = coalesce($2, username), role = coalesce($3, role),
                     password_hash = coalesce($4, password_hash),
                     disabled = coalesce($5, disabled)
               WHERE id = $1";
    NAME_IS_TAKEN = "SELECT EXISTS (SELECT 1 FROM users WHERE username = $1 AND id <> $2)";
    OTHER_OWNERS = "SELECT EXISTS (SELECT 1 FROM users
                                    WHERE role = 'owner' AND NOT disabled AND id <> $1)";
    END_SESSIONS = "DELETE FROM sessions WHERE user_id = $1";
    DELETE = "DELETE FROM users WHERE id = $1";
}

/// An account without its secrets.
#[derive(Clone, Debug)]
pub struct AccountRow {
    pub id: UserId,
    pub username: String,
    pub role: Role,
    /// `configuration`, `generated`, `local` or `oidc`.
    pub source: String,
    /// The identity provider's, for people who come from one.
    pub issuer: Option<String>,
    pub disabled: bool,
    pub created_at: DateTime<Utc>,
    pub has_password: bool,
}

/// What changes; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct AccountChange<'a> {
    pub username: Option<&'a str>,
    pub role: Option<Role>,
    pub password_hash: Option<&'a str>,
    pub disabled: Option<bool>,
}

fn read(row: &tokio_postgres::Row) -> Result<AccountRow, StoreError> {
    let role: String = row.get(2);
    Ok(AccountRow {
        id: UserId::from_uuid(row.get(0)),
        username: row.get(1),
        role: Role::parse(&role).ok_or_else(|| StoreError::corrupt("role of a user", role))?,
        source: row.get(3),
        issuer: row.get(4),
        disabled: row.get(5),
        created_at: row.get(6),
        has_password: row.get(7),
    })
}

impl Store {
    /// All accounts, by name.
    pub async fn accounts(&self) -> Result<Vec<AccountRow>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client.query(&statement, &[]).await?;
        rows.iter().map(read).collect()
    }
}

/// Keeps other changes to accounts waiting until the transaction ends: what is decided about the
/// last owner stays true.
pub async fn lock(tx: &Transaction<'_>) -> Result<(), StoreError> {
    users::lock(tx).await
}

pub async fn get(tx: &Transaction<'_>, id: UserId) -> Result<Option<AccountRow>, StoreError> {
    let statement = tx.prepare_cached(ONE).await?;
    let row = tx.query_opt(&statement, &[&id.as_uuid()]).await?;
    row.as_ref().map(read).transpose()
}

/// False: the name is somebody else's.
pub async fn create(
    tx: &Transaction<'_>,
    id: UserId,
    username: &str,
    role: Role,
    password_hash: &str,
) -> Result<bool, StoreError> {
    let statement = tx.prepare_cached(CREATE).await?;
    let values: [&(dyn postgres_types::ToSql + Sync); 4] =
        [&id.as_uuid(), &username, &role.as_str(), &password_hash];
    Ok(tx.execute(&statement, &values).await? == 1)
}

pub async fn name_is_taken(
    tx: &Transaction<'_>,
    username: &str,
    by_other_than: UserId,
) -> Result<bool, StoreError> {
    let statement = tx.prepare_cached(NAME_IS_TAKEN).await?;
    let values: [&(dyn postgres_types::ToSql + Sync); 2] = [&username, &by_other_than.as_uuid()];
    Ok(tx.query_one(&statement, &values).await?.get(0))
}

/// Whether somebody else is an owner who may sign in.
pub async fn other_owners(tx: &Transaction<'_>, than: UserId) -> Result<bool, StoreError> {
    let statement = tx.prepare_cached(OTHER_OWNERS).await?;
    Ok(tx.query_one(&statement, &[&than.as_uuid()]).await?.get(0))
}

/// Also ends the account's sessions.
pub async fn change(
    tx: &Transaction<'_>,
    id: UserId,
    change: &AccountChange<'_>,
) -> Result<(), StoreError> {
    let statement = tx.prepare_cached(CHANGE).await?;
    let role = change.role.map(Role::as_str);
    let values: [&(dyn postgres_types::ToSql + Sync); 5] = [
        &id.as_uuid(),
        &change.username,
        &role,
        &change.password_hash,
        &change.disabled,
    ];
    tx.execute(&statement, &values).await?;
    end_sessions(tx, id).await
}

pub async fn end_sessions(tx: &Transaction<'_>, id: UserId) -> Result<(), StoreError> {
    let statement = tx.prepare_cached(END_SESSIONS).await?;
    tx.execute(&statement, &[&id.as_uuid()]).await?;
    Ok(())
}

/// With its sessions and tokens.
pub async fn delete(tx: &Transaction<'_>, id: UserId) -> Result<(), StoreError> {
    let statement = tx.prepare_cached(DELETE).await?;
    tx.execute(&statement, &[&id.as_uuid()]).await?;
    Ok(())
}
