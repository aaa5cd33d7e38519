//! Who is asking: users, passwords, sessions, API tokens (DESIGN.md 6; reliability.md 4.3).
//!
//! Everything durable is in Postgres, so that each replica answers the same. A replica caches the
//! principal behind a credential together with the version of the access data that it was read
//! under; every request learns the current version in a round trip that it shares with others
//! ([`crate::freshness`]), so a revoked token, an ended session or a changed role is refused by the
//! very next request on every replica.

mod cache;
mod login;
pub mod oidc;
mod old_hash;
mod owner;
pub mod password;
mod presented;
mod sessions;
mod settings;
mod tokens;
mod unix_crypt;

use std::{net::IpAddr, sync::Arc, time::Duration};

use chrono::Utc;
pub use login::{Origin, SignedIn};
pub use oidc::{OidcReturn, OidcSettings, OidcStart};
pub use owner::GeneratedOwner;
use plimsoll_domain::access::{Credential, Principal, Role};
pub use plimsoll_store::sessions::Remember;
pub use plimsoll_store::tokens::TokenRow;
pub use presented::{CredentialDigest, Presented};
pub use settings::{AccessSettings, AnonymousAccess, ConfiguredUser};
pub use tokens::{CreatedToken, TokenRequest};
pub(crate) use tokens::{random_bytes, random_text};
use tokio::sync::{OnceCell, Semaphore};

use plimsoll_store::StoreError;

use crate::{App, AppError, Snapshot};
use cache::{Cache, Entry};

/// One replica's part of access control. Belongs to [`App`].
pub(crate) struct Access {
    settings: AccessSettings,
    providers: Vec<oidc::Provider>,
    cache: Cache,
    /// Password verifications that may run at once: each takes tens of megabytes.
    verifications: Arc<Semaphore>,
    reconciled: OnceCell<()>,
}

/// A principal, and the state of the world that their rights were checked against: no older than
/// the request, so the handler may answer from it.
#[derive(Clone, Debug)]
pub struct Authenticated {
    pub principal: Arc<Principal>,
    pub snapshot: Arc<Snapshot>,
}

/// A way to sign in.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// `basic`, `oidc` or `anonymous`.
    pub kind: &'static str,
    pub name: String,
    /// Whether the login page should go there by itself.
    pub redirect: Option<bool>,
    /// Where an identity provider ends its own session.
    pub logout_url: Option<String>,
}

impl Strategy {
    fn new(kind: &'static str, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            redirect: None,
            logout_url: None,
        }
    }
}

impl Access {
    pub fn new(settings: AccessSettings) -> Self {
        Self {
            verifications: Arc::new(Semaphore::new(settings.max_verifications.max(1))),
            providers: settings
                .oidc
                .iter()
                .cloned()
                .map(oidc::Provider::new)
                .collect(),
            settings,
            cache: Cache::default(),
            reconciled: OnceCell::new(),
        }
    }
}

/// What is read or written while somebody waits to be let in (reliability.md P1). A database that
/// swallows bytes would otherwise hold the request for as long as TCP is patient.
const DEADLINE: Duration = Duration::from_millis(900);

async fn soon<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, AppError> {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(StoreError::Unavailable("no answer in time".to_owned()).into()),
    }
}

pub(crate) fn unauthenticated() -> AppError {
    AppError::Unauthenticated("Unauthorized".to_owned())
}

impl App {
    /// The principal behind a credential.
    ///
    /// # Errors
    /// `Unauthenticated` for anything but a valid credential, `Locked` and `TooManyRequests` for
    /// passwords (see [`App::sign_in`]), `Unavailable` while Postgres is away.
    pub async fn authenticate(
        &self,
        presented: &Presented,
        client: IpAddr,
    ) -> Result<Authenticated, AppError> {
        self.reconcile_users().await?;
        // Read before the credential is looked at, so that what is cached is never newer than its
        // version.
        let snapshot = self.snapshot().await?;
        let version = snapshot.access_version;
        let digest = match presented {
            Presented::Nothing => {
                let principal = self.anonymous()?;
                return Ok(Authenticated {
                    principal,
                    snapshot,
                });
            }
            Presented::Unasked => {
                let principal = Arc::new(Principal::unasked());
                return Ok(Authenticated {
                    principal,
                    snapshot,
                });
            }
            Presented::Unreadable => return Err(unauthenticated()),
            Presented::Session(digest)
            | Presented::Token(digest)
            | Presented::Password { digest, .. } => digest,
        };
        let entry = match self.access().cache.get(digest, version) {
            Some(entry) => entry,
            None => {
                let entry = Arc::new(self.read_principal(presented, client, version).await?);
                self.access().cache.put(digest.clone(), entry.clone());
                entry
            }
        };
        if let Credential::ApiToken(token) = entry.principal.credential()
            && entry.is_due_for_touch(Utc::now())
        {
            self.touch_token(*token);
        }
        Ok(Authenticated {
            principal: entry.principal.clone(),
            snapshot,
        })
    }

    /// The principal of a credential that was good a moment ago, without asking anyone: for
    /// choosing a rate limit, never for granting anything.
    pub fn recently_seen(&self, presented: &Presented) -> Option<Arc<Principal>> {
        self.access()
            .cache
            .peek(presented.digest()?)
            .map(|entry| entry.principal.clone())
    }

    /// The ways to sign in, for the login page.
    pub fn strategies(&self) -> Vec<Strategy> {
        let access = self.access();
        let anonymous = access.settings.lets_everybody_in();
        let form = match anonymous {
            true => Strategy::new("anonymous", "anonymous"),
            // One form for all users: Drydock calls it so.
            false => Strategy::new("basic", "Login"),
        };
        let providers = access.providers.iter().map(|provider| Strategy {
            redirect: Some(provider.settings.redirect),
            logout_url: provider.known().0.map(String::from),
            ..Strategy::new("oidc", &provider.settings.name)
        });
        std::iter::once(form).chain(providers).collect()
    }

    /// Identity providers that did not answer when they were last asked, and why.
    pub fn strategy_errors(&self) -> Vec<(String, String)> {
        let providers = self.access().providers.iter();
        providers
            .filter_map(|provider| {
                let failure = provider.known().1?;
                Some((provider.settings.name.clone(), failure.to_string()))
            })
            .collect()
    }

    fn anonymous(&self) -> Result<Arc<Principal>, AppError> {
        match self.access().settings.lets_everybody_in() {
            true => Ok(Arc::new(Principal::anonymous(Role::Owner))),
            false => Err(unauthenticated()),
        }
    }

    async fn read_principal(
        &self,
        presented: &Presented,
        client: IpAddr,
        version: i64,
    ) -> Result<Entry, AppError> {
        match presented {
            Presented::Nothing | Presented::Unasked | Presented::Unreadable => {
                Err(unauthenticated())
            }
            Presented::Session(digest) => {
                let session = soon(self.store().session(digest.as_bytes())).await?;
                let session = session.ok_or_else(unauthenticated)?;
                let principal = Principal::user(
                    session.user,
                    session.username,
                    session.role,
                    Credential::Session,
                );
                Ok(Entry::new(principal, version, Some(session.expires_at)))
            }
            Presented::Token(digest) => {
                let token = soon(self.store().token_by_secret(digest.as_bytes())).await?;
                let token = token.ok_or_else(unauthenticated)?;
                let principal = Principal::token(
                    token.id,
                    token.user,
                    token.username,
                    token.role,
                    token.scopes,
                );
                Ok(Entry::new(principal, version, token.expires_at))
            }
            Presented::Password {
                username, password, ..
            } => {
                let user = self.verify_password(username, password, client).await?;
                let principal =
                    Principal::user(user.id, user.username, user.role, Credential::Password);
                Ok(Entry::new(principal, version, None))
            }
        }
    }

    /// Makes the configured accounts, unless this process did so already.
    ///
    /// # Errors
    /// `Unavailable` without Postgres, `Internal` without its schema.
    pub async fn prepare_accounts(&self) -> Result<(), AppError> {
        self.reconcile_users().await
    }

    /// Once per process, before the first credential is looked at.
    async fn reconcile_users(&self) -> Result<(), AppError> {
        let access = self.access();
        access
            .reconciled
            .get_or_try_init(async || {
                let wanted = access.settings.wanted_users();
                soon(self.store().reconcile_users(&wanted)).await
            })
            .await?;
        Ok(())
    }
}
