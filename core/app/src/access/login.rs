//! Signing in with a password: lockout before hashing, one answer for every kind of wrong
//! (reliability.md S-1 to S-3).

use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use plimsoll_domain::ids::UserId;
use plimsoll_store::{
    audit::{self, AuditStatus, NewAudit},
    sessions::Remember,
    users::User,
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    password::{PasswordHash, REMEDY},
    presented::CredentialDigest,
    soon,
    tokens::random_text,
    unauthenticated,
};
use crate::{App, AppError};

/// A session that was just begun. The id is in no other place.
pub struct SignedIn {
    pub session_id: SecretString,
    pub username: String,
    pub remember: Remember,
}

/// Where a sign-in comes from, for counting and for the audit trail.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    pub client: IpAddr,
    pub request_id: &'a str,
}

impl App {
    /// Begins a session.
    ///
    /// # Errors
    /// `Unauthenticated` for an unknown user and for a wrong password alike; `Locked` after too
    /// many failures of the account or the address; `TooManyRequests` while as many passwords as
    /// allowed are being checked.
    pub async fn sign_in(
        &self,
        username: &str,
        password: &SecretString,
        remember: Remember,
        origin: Origin<'_>,
    ) -> Result<SignedIn, AppError> {
        self.reconcile_users().await?;
        let outcome = self
            .verify_password(username, password, origin.client)
            .await;
        let user = match outcome {
            Ok(user) => user,
            Err(error) => {
                if matches!(
                    error,
                    AppError::Unauthenticated(_) | AppError::Locked { .. }
                ) {
                    self.audit_login(username, AuditStatus::Error, &error.to_string(), origin)
                        .await;
                }
                return Err(error);
            }
        };
        let details = format!("signed in from {}", origin.client);
        self.begin_session(user.id, user.username, remember, None, &details, origin)
            .await
    }

    /// Begins the session of somebody who proved who they are, here or to `provider`.
    pub(super) async fn begin_session(
        &self,
        user: UserId,
        username: String,
        remember: Remember,
        provider: Option<&str>,
        details: &str,
        origin: Origin<'_>,
    ) -> Result<SignedIn, AppError> {
        let session_id = random_text::<32>();
        let digest = CredentialDigest::of(&session_id);
        let max = i64::from(self.access().settings.max_sessions.max(1));
        soon(
            self.store()
                .create_session(digest.as_bytes(), user, remember, provider, max),
        )
        .await?;
        self.audit_login(&username, AuditStatus::Success, details, origin)
            .await;
        self.sweep();
        Ok(SignedIn {
            session_id: SecretString::from(session_id),
            username,
            remember,
        })
    }

    /// The user of a name and a password. Both kinds of failure take as long.
    pub(super) async fn verify_password(
        &self,
        username: &str,
        password: &SecretString,
        client: IpAddr,
    ) -> Result<User, AppError> {
        let settings = &self.access().settings;
        let account = account_subject(username);
        let address = address_subject(client);
        let locked = soon(self.store().locked_for(&[&account, &address])).await?;
        if let Some(left) = locked {
            return Err(AppError::Locked {
                message: "Account temporarily locked due to repeated failed login attempts"
                    .to_owned(),
                retry_after: left,
            });
        }
        let Ok(permit) = self.access().verifications.clone().try_acquire_owned() else {
            return Err(AppError::TooManyRequests {
                message: "Too many concurrent login attempts".to_owned(),
                retry_after: Duration::from_secs(1),
            });
        };
        let user = soon(self.store().user_by_name(username)).await?;
        let stored = user.as_ref().and_then(|user| user.password_hash.as_deref());
        let hash = match stored.map(PasswordHash::parse) {
            Some(Ok(hash)) => hash,
            Some(Err(error)) => {
                return Err(AppError::Internal(format!(
                    "the stored password hash of a user cannot be used: {error}"
                )));
            }
            None => PasswordHash::dummy(settings.users.first().map(|user| &user.hash)),
        };
        let old_form = hash.old_form();
        let password = password.clone();
        let right = tokio::task::spawn_blocking(move || {
            let right = hash.verify(password.expose_secret());
            drop(permit);
            right
        })
        .await
        .map_err(|error| AppError::Internal(error.to_string()))?;
        match user {
            Some(user) if right => {
                // Only the account's own failures: an address that guesses many accounts gains
                // nothing by knowing one password.
                soon(self.store().clear_login_failures(&account)).await?;
                if let Some(form) = old_form {
                    tracing::warn!(
                        username,
                        form,
                        "signed in with a password that is configured in an old form; {REMEDY}"
                    );
                }
                Ok(user)
            }
            _ => {
                let store = self.store();
                soon(store.record_login_failure(&account, settings.account_rule())).await?;
                soon(store.record_login_failure(&address, settings.address_rule())).await?;
                Err(unauthenticated())
            }
        }
    }

    /// Removes what is over, beside the request: sign-ins are what makes it grow.
    fn sweep(&self) {
        let store = self.store().clone();
        tokio::spawn(async move {
            let swept = async {
                store.sweep_sessions().await?;
                store.sweep_login_failures().await
            };
            if let Err(error) = swept.await {
                tracing::debug!(%error, "ended sessions were not removed");
            }
        });
    }

    /// A login is not undone because its audit row could not be written.
    pub(super) async fn audit_login(
        &self,
        username: &str,
        status: AuditStatus,
        details: &str,
        origin: Origin<'_>,
    ) {
        let mut entry = NewAudit::new("auth-login", "", status);
        entry.details = Some(details);
        entry.actor = Some(username).filter(|name| (1..=MAX_NAME).contains(&name.len()));
        entry.request_id = Some(origin.request_id);
        let written = async {
            let client = self.store().client().await?;
            audit::append(&client, &entry).await
        };
        if let Err(error) = soon(written).await {
            tracing::warn!(%error, username, "a login is missing from the audit trail");
        }
    }
}

/// Longer names are no one's.
const MAX_NAME: usize = 256;

fn account_subject(username: &str) -> String {
    match username.get(..MAX_NAME) {
        Some(_) => format!("account:#{}", CredentialDigest::of(username).short()),
        None => format!("account:{username}"),
    }
}

/// One IPv6 customer has a whole /64.
fn address_subject(client: IpAddr) -> String {
    match client.to_canonical() {
        IpAddr::V4(address) => format!("ip:{address}"),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("ip:{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_of_ipv6_is_one_address() {
        let subject = |text: &str| address_subject(text.parse().unwrap());
        assert_eq!(subject("2001:db8::1"), subject("2001:db8::ffff:1"));
        assert_ne!(subject("2001:db8::1"), subject("2001:db8:0:1::1"));
        assert_eq!(subject("::ffff:10.0.0.1"), subject("10.0.0.1"));
    }

    #[test]
    fn an_endless_name_is_counted_in_little_space() {
        assert!(account_subject(&"x".repeat(60_000)).len() < 64);
        assert_eq!(account_subject("ann"), "account:ann");
    }
}
