//! Scoped API tokens (reliability.md S-9): `plim_` and 256 random bits, shown once.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use plimsoll_domain::{
    access::{Principal, Scope, ScopeSet},
    ids::{TokenId, UserId},
};
use plimsoll_store::tokens::{NewToken, TokenRow};
use rand::{TryRngCore, rngs::OsRng};
use secrecy::SecretString;

use super::presented::CredentialDigest;
use crate::{App, AppError};

/// What every token begins with, so that scanners of source code find lost ones.
pub const PREFIX: &str = "plim_";
/// Characters that the list shows of a token.
const SHOWN: usize = PREFIX.len() + 7;
const MAX_NAME: usize = 100;
/// Tokens of one user.
const MAX_TOKENS: i64 = 100;

/// What a token should be.
#[derive(Clone, Debug)]
pub struct TokenRequest {
    pub name: String,
    pub scopes: Vec<String>,
    /// `None`: until it is revoked.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A new token and the only sight of its secret.
pub struct CreatedToken {
    pub secret: SecretString,
    pub row: TokenRow,
}

impl App {
    /// Makes a token of the principal's own user.
    ///
    /// # Errors
    /// `Invalid` for a bad name, scope or expiry; `Forbidden` for scopes that the principal does
    /// not have, and for principals that are no user.
    pub async fn create_token(
        &self,
        principal: &Principal,
        request: TokenRequest,
        now: DateTime<Utc>,
    ) -> Result<CreatedToken, AppError> {
        let user = owner(principal)?;
        let scopes = check(&request, principal.scopes(), now)?;
        if self.store().count_tokens(user).await? >= MAX_TOKENS {
            return Err(AppError::conflict(format!(
                "There are {MAX_TOKENS} tokens already; revoke one"
            )));
        }
        let secret = format!("{PREFIX}{}", random_text::<32>());
        let id = TokenId::generate();
        let prefix = &secret[..SHOWN];
        let name = request.name.trim();
        let created_at = self
            .store()
            .create_token(&NewToken {
                id,
                user,
                name,
                prefix,
                secret_hash: CredentialDigest::of(&secret).as_bytes(),
                scopes,
                expires_at: request.expires_at,
            })
            .await?;
        let row = TokenRow {
            id,
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            scopes,
            created_at,
            expires_at: request.expires_at,
            last_used_at: None,
        };
        Ok(CreatedToken {
            secret: SecretString::from(secret),
            row,
        })
    }

    /// The tokens of the principal's user, newest first, without the revoked ones.
    pub async fn tokens(&self, principal: &Principal) -> Result<Vec<TokenRow>, AppError> {
        Ok(self.store().tokens_of(owner(principal)?).await?)
    }

    /// Ends a token of the principal's user. Every replica refuses it from the next request on.
    ///
    /// # Errors
    /// `NotFound` for an unknown token and for somebody else's.
    pub async fn revoke_token(&self, principal: &Principal, id: TokenId) -> Result<(), AppError> {
        if self.store().revoke_token(id, owner(principal)?).await? {
            Ok(())
        } else {
            Err(AppError::NotFound("Token not found".to_owned()))
        }
    }

    /// Records a use, beside the request.
    pub(super) fn touch_token(&self, id: TokenId) {
        let store = self.store().clone();
        tokio::spawn(async move {
            if let Err(error) = store.touch_token(id).await {
                tracing::debug!(%error, "the last use of a token was not recorded");
            }
        });
    }
}

fn owner(principal: &Principal) -> Result<UserId, AppError> {
    principal
        .user_id()
        .ok_or_else(|| AppError::Forbidden("Only users have API tokens".to_owned()))
}

fn check(request: &TokenRequest, held: ScopeSet, now: DateTime<Utc>) -> Result<ScopeSet, AppError> {
    let name = request.name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(AppError::Invalid(format!(
            "name must have 1 to {MAX_NAME} printable characters"
        )));
    }
    if request.expires_at.is_some_and(|at| at <= now) {
        return Err(AppError::Invalid("expiresAt is in the past".to_owned()));
    }
    let scopes: ScopeSet = request
        .scopes
        .iter()
        .map(|name| Scope::parse(name).ok_or_else(|| unknown_scope(name)))
        .collect::<Result<_, _>>()?;
    if scopes.is_empty() {
        return Err(AppError::Invalid(
            "scopes must name at least one permission".to_owned(),
        ));
    }
    if !scopes.is_subset(held) {
        return Err(AppError::Forbidden(
            "A token cannot have permissions that you do not have".to_owned(),
        ));
    }
    Ok(scopes)
}

fn unknown_scope(name: &str) -> AppError {
    let known: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
    let name: String = name.chars().take(40).collect();
    AppError::Invalid(format!(
        "There is no scope {name:?}; there are {}",
        known.join(", ")
    ))
}

/// From the operating system. A machine without randomness must not run this.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    OsRng
        .try_fill_bytes(&mut bytes)
        .expect("the operating system gives random bytes");
    bytes
}

/// `N` random bytes as text for URLs and headers.
pub(crate) fn random_text<const N: usize>() -> String {
    URL_SAFE_NO_PAD.encode(random_bytes::<N>())
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use plimsoll_domain::access::Role;

    use super::*;

    fn request(name: &str, scopes: &[&str]) -> TokenRequest {
        TokenRequest {
            name: name.to_owned(),
            scopes: scopes.iter().map(|s| (*s).to_owned()).collect(),
            expires_at: None,
        }
    }

    fn verdict(request: &TokenRequest) -> Result<ScopeSet, AppError> {
        check(request, Role::Operator.scopes(), Utc::now())
    }

    #[test]
    fn a_token_has_what_was_asked_for() {
        let scopes = verdict(&request("ci", &["containers:read", "containers:update"])).unwrap();
        assert!(scopes.contains(Scope::ContainersUpdate));
        assert!(!scopes.contains(Scope::ContainersRollback));
    }

    #[test]
    fn nobody_gives_away_what_they_do_not_have() {
        let beyond = verdict(&request("ci", &["containers:delete"]));
        assert!(matches!(beyond, Err(AppError::Forbidden(_))));
    }

    #[test]
    fn nonsense_is_refused() {
        let mut expired = request("ci", &["containers:read"]);
        expired.expires_at = Some(Utc::now() - TimeDelta::seconds(1));
        for bad in [
            request(" ", &["containers:read"]),
            request(&"x".repeat(101), &["containers:read"]),
            request("a\nb", &["containers:read"]),
            request("ci", &[]),
            request("ci", &["everything"]),
            expired,
        ] {
            assert!(
                matches!(verdict(&bad), Err(AppError::Invalid(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn secrets_are_long_and_differ() {
        assert_eq!(random_text::<32>().len(), 43);
        assert_ne!(random_text::<32>(), random_text::<32>());
    }
}
