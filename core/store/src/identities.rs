//! People who sign in with an identity provider, and their sign-ins under way.

use plimsoll_domain::{access::Role, ids::UserId};

use crate::{Store, StoreError, users};

statements! {
    BEGIN = "INSERT INTO oidc_logins (state_hash, browser_hash, provider, remember, expires_at)
             VALUES ($1, $2, $3, $4, now() + make_interval(secs => $5))";
    /// Whoever asks first gets it, if it is the browser that began: the state works once.
    TAKE = "DELETE FROM oidc_logins
             WHERE state_hash = $1 AND browser_hash = $2 AND provider = $3 AND expires_at > now()
            RETURNING remember";
    SWEEP = "DELETE FROM oidc_logins WHERE expires_at <= now()";
    FIND = "SELECT id, username, role, disabled FROM users WHERE issuer = $1 AND subject = $2";
    /// A name that is somebody else's is not taken.
    CREATE = "INSERT INTO users (id, username, role, source, issuer, subject)
              VALUES ($1, $2, $3, 'oidc', $4, $5) ON CONFLICT (username) DO NOTHING";
    RENAME = "UPDATE users SET username = $2
               WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM users WHERE username = $2)";
    SET_ROLE = "UPDATE users SET role = $2 WHERE id = $1";
}

/// A sign-in that left for the provider.
#[derive(Clone, Copy, Debug)]
pub struct OidcLogin<'a> {
    pub state_hash: &'a [u8],
    pub browser_hash: &'a [u8],
    pub provider: &'a str,
}

/// Somebody whom a provider vouched for.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    pub issuer: &'a str,
    pub subject: &'a str,
    /// In the order of preference. The last one is certainly nobody else's.
    pub usernames: [&'a str; 2],
}

/// The account of an identity.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: UserId,
    pub username: String,
    pub role: Role,
    pub disabled: bool,
}

/// Whether the provider's word on a role holds for accounts that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleFrom {
    /// Each sign-in sets it.
    Provider,
    /// Only a new account gets it.
    FirstLogin,
}

impl Store {
    /// Remembers a sign-in for `seconds`.
    pub async fn begin_oidc_login(
        &self,
        login: OidcLogin<'_>,
        remember: bool,
        seconds: f64,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        client
            .execute(&client.prepare_cached(SWEEP).await?, &[])
            .await?;
        let statement = client.prepare_cached(BEGIN).await?;
        let OidcLogin {
            state_hash,
            browser_hash,
            provider,
        } = login;
        client
            .execute(
                &statement,
                &[&state_hash, &browser_hash, &provider, &remember, &seconds],
            )
            .await?;
        Ok(())
    }

    /// Ends a sign-in that came back: whether it should be remembered, or `None` if it is unknown,
    /// over, another browser's, or came back before.
    pub async fn take_oidc_login(&self, login: OidcLogin<'_>) -> Result<Option<bool>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(TAKE).await?;
        let row = client
            .query_opt(
                &statement,
                &[&login.state_hash, &login.browser_hash, &login.provider],
            )
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// The account of an identity, made at its first sign-in. Writes only what differs: each write
    /// makes every replica forget its principals.
    pub async fn account_of(
        &self,
        identity: Identity<'_>,
        role: Role,
        role_from: RoleFrom,
    ) -> Result<Account, StoreError> {
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        users::lock(&tx).await?;
        let find = tx.prepare_cached(FIND).await?;
        let known = [&identity.issuer as _, &identity.subject as _];
        let account = match tx.query_opt(&find, &known).await? {
            Some(row) => {
                let mut account = read(&row)?;
                if !identity.usernames.contains(&account.username.as_str()) {
                    let rename = tx.prepare_cached(RENAME).await?;
                    for name in identity.usernames {
                        let id = account.id.as_uuid();
                        if tx.execute(&rename, &[&id, &name]).await? == 1 {
                            account.username = name.to_owned();
                            break;
                        }
                    }
                }
                if role_from == RoleFrom::Provider && account.role != role {
                    let statement = tx.prepare_cached(SET_ROLE).await?;
                    let id = account.id.as_uuid();
                    tx.execute(&statement, &[&id, &role.as_str()]).await?;
                    account.role = role;
                }
                account
            }
            None => {
                let create = tx.prepare_cached(CREATE).await?;
                let id = UserId::generate();
                for name in identity.usernames {
                    let values: [&(dyn postgres_types::ToSql + Sync); 5] = [
                        &id.as_uuid(),
                        &name,
                        &role.as_str(),
                        &identity.issuer,
                        &identity.subject,
                    ];
                    if tx.execute(&create, &values).await? == 1 {
                        break;
                    }
                }
                let row = tx.query_opt(&find, &known).await?;
                let row = row.ok_or_else(|| {
                    StoreError::corrupt("name of a user", identity.usernames[1].to_owned())
                })?;
                read(&row)?
            }
        };
        tx.commit().await?;
        Ok(account)
    }
}

fn read(row: &tokio_postgres::Row) -> Result<Account, StoreError> {
    let role: String = row.get(2);
    Ok(Account {
        id: UserId::from_uuid(row.get(0)),
        username: row.get(1),
        role: Role::parse(&role).ok_or_else(|| StoreError::corrupt("role of a user", role))?,
        disabled: row.get(3),
    })
}
