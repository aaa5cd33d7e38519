//! Scoped API tokens. The secret is 256 random bits, so its plain SHA-256 is stored and looked up.

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    access::{Role, Scope, ScopeSet},
    ids::{TokenId, UserId},
};

use crate::{Store, StoreError};

statements! {
    CREATE = "INSERT INTO api_tokens (id, user_id, name, prefix, secret_hash, scopes, expires_at)
              VALUES ($1, $2, $3, $4, $5, $6, $7) RETURNING created_at";
    COUNT = "SELECT count(*) FROM api_tokens
              WHERE user_id = $1 AND revoked_at IS NULL
                AND (expires_at IS NULL OR expires_at > now())";
    LIST = "SELECT id, name, prefix, scopes, created_at, expires_at, last_used_at
              FROM api_tokens WHERE user_id = $1 AND revoked_at IS NULL
             ORDER BY created_at DESC, id DESC";
    REVOKE = "UPDATE api_tokens SET revoked_at = now()
               WHERE id = $1 AND user_id = $2 AND revoked_at IS NULL";
    BY_SECRET = "SELECT t.id, u.id, u.username, u.role, t.scopes, t.expires_at
                   FROM api_tokens t JOIN users u ON u.id = t.user_id
                  WHERE t.secret_hash = $1 AND t.revoked_at IS NULL
                    AND (t.expires_at IS NULL OR t.expires_at > now()) AND NOT u.disabled";
    /// At most once a minute, whatever the number of replicas.
    TOUCH = "UPDATE api_tokens SET last_used_at = now()
              WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')";
}

#[derive(Clone, Debug)]
pub struct NewToken<'a> {
    pub id: TokenId,
    pub user: UserId,
    pub name: &'a str,
    pub prefix: &'a str,
    pub secret_hash: &'a [u8],
    pub scopes: ScopeSet,
    pub expires_at: Option<DateTime<Utc>>,
}

/// A token as its owner sees it.
#[derive(Clone, Debug)]
pub struct TokenRow {
    pub id: TokenId,
    pub name: String,
    pub prefix: String,
    pub scopes: ScopeSet,
    pub created_at: DateTime<Utc>,
    pub expires_at: Option<DateTime<Utc>>,
    pub last_used_at: Option<DateTime<Utc>>,
}

/// A valid token and its owner as they are now.
#[derive(Clone, Debug)]
pub struct TokenUser {
    pub id: TokenId,
    pub user: UserId,
    pub username: String,
    pub role: Role,
    pub scopes: ScopeSet,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Scopes of a later version that this one does not know give nothing.
fn scopes(names: Vec<String>) -> ScopeSet {
    names.iter().filter_map(|name| Scope::parse(name)).collect()
}

impl Store {
    /// Returns the time of creation.
    pub async fn create_token(&self, token: &NewToken<'_>) -> Result<DateTime<Utc>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(CREATE).await?;
        let names: Vec<&str> = token.scopes.iter().map(Scope::as_str).collect();
        let row = client
            .query_one(
                &statement,
                &[
                    &token.id.as_uuid(),
                    &token.user.as_uuid(),
                    &token.name,
                    &token.prefix,
                    &token.secret_hash,
                    &names,
                    &token.expires_at,
                ],
            )
            .await?;
        Ok(row.get(0))
    }

    /// How many tokens of a user work.
    pub async fn count_tokens(&self, user: UserId) -> Result<i64, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(COUNT).await?;
        Ok(client
            .query_one(&statement, &[&user.as_uuid()])
            .await?
            .get(0))
    }

    /// Newest first, without the revoked ones.
    pub async fn tokens_of(&self, user: UserId) -> Result<Vec<TokenRow>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client.query(&statement, &[&user.as_uuid()]).await?;
        Ok(rows
            .into_iter()
            .map(|row| TokenRow {
                id: TokenId::from_uuid(row.get(0)),
                name: row.get(1),
                prefix: row.get(2),
                scopes: scopes(row.get(3)),
                created_at: row.get(4),
                expires_at: row.get(5),
                last_used_at: row.get(6),
            })
            .collect())
    }

    /// False: the user has no such token.
    pub async fn revoke_token(&self, id: TokenId, user: UserId) -> Result<bool, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(REVOKE).await?;
        let revoked = client
            .execute(&statement, &[&id.as_uuid(), &user.as_uuid()])
            .await?;
        Ok(revoked == 1)
    }

    pub async fn token_by_secret(
        &self,
        secret_hash: &[u8],
    ) -> Result<Option<TokenUser>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(BY_SECRET).await?;
        let Some(row) = client.query_opt(&statement, &[&secret_hash]).await? else {
            return Ok(None);
        };
        let role: String = row.get(3);
        Ok(Some(TokenUser {
            id: TokenId::from_uuid(row.get(0)),
            user: UserId::from_uuid(row.get(1)),
            username: row.get(2),
            role: Role::parse(&role).ok_or_else(|| StoreError::corrupt("role of a user", role))?,
            scopes: scopes(row.get(4)),
            expires_at: row.get(5),
        }))
    }

    /// Records that a token is in use.
    pub async fn touch_token(&self, id: TokenId) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(TOUCH).await?;
        client.execute(&statement, &[&id.as_uuid()]).await?;
        Ok(())
    }
}
