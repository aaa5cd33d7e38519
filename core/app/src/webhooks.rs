//! The bearer webhooks of contract/drydock-app-api.md. Their tokens are a kind of their own: they
//! work on no other endpoint, and no other credential works on them (reliability.md S-10).

use base64::{Engine, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{App, AppError, WebhookTokens};

/// Which webhook is called: each may have a token of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Webhook {
    WatchAll,
    Watch,
    Update,
}

impl App {
    /// Checks the `Authorization` header of a webhook call. The texts are Drydock's
    /// (reference/drydock.md 1.9).
    ///
    /// # Errors
    /// `Forbidden` where webhooks are off, `Unauthenticated` for a missing, malformed or wrong
    /// token.
    pub fn authenticate_webhook(
        &self,
        webhook: Webhook,
        authorization: Option<&str>,
    ) -> Result<(), AppError> {
        let expected = match (&self.settings().webhooks, webhook) {
            (WebhookTokens::Disabled, _) => {
                return Err(AppError::Forbidden("Webhooks are disabled".to_owned()));
            }
            (WebhookTokens::One(token), _) => token,
            (WebhookTokens::Each { watch_all, .. }, Webhook::WatchAll) => watch_all,
            (WebhookTokens::Each { watch, .. }, Webhook::Watch) => watch,
            (WebhookTokens::Each { update, .. }, Webhook::Update) => update,
        };
        let token = authorization.and_then(bearer).ok_or_else(|| {
            AppError::Unauthenticated("Missing or invalid authorization header".to_owned())
        })?;
        if same_secret(token, expected) {
            Ok(())
        } else {
            Err(AppError::Unauthenticated("Invalid token".to_owned()))
        }
    }
}

pub(crate) fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// The password of Basic authentication, which clients make of an address with one in it.
pub(crate) fn basic_password(header: &str) -> Option<String> {
    let (scheme, credentials) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let credentials = BASE64_STANDARD.decode(credentials.trim()).ok()?;
    let (_, password) = std::str::from_utf8(&credentials).ok()?.split_once(':')?;
    Some(password.to_owned()).filter(|password| !password.is_empty())
}

/// Compares digests, so that neither content nor length shows in the time it takes.
pub(crate) fn same_secret(given: &str, expected: &SecretString) -> bool {
    let given = Sha256::digest(given.as_bytes());
    let expected = Sha256::digest(expected.expose_secret().as_bytes());
    given.as_slice().ct_eq(expected.as_slice()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_header_needs_the_scheme_and_a_token() {
        assert_eq!(bearer("Bearer abc"), Some("abc"));
        assert_eq!(bearer("bearer abc"), Some("abc"));
        for header in ["Bearer ", "Bearer", "Basic abc", ""] {
            assert_eq!(bearer(header), None, "{header:?}");
        }
    }

    #[test]
    fn a_basic_header_has_a_password_behind_any_name() {
        let of = |credentials: &str| {
            let header = format!("Basic {}", BASE64_STANDARD.encode(credentials));
            basic_password(&header)
        };
        assert_eq!(of("registry:a:b").as_deref(), Some("a:b"));
        assert_eq!(of(":abc").as_deref(), Some("abc"));
        for none in ["abc", "abc:", ""] {
            assert_eq!(of(none), None, "{none:?}");
        }
        assert_eq!(basic_password("Basic !"), None);
        assert_eq!(basic_password("Bearer YTpi"), None);
    }

    #[test]
    fn only_the_same_text_is_the_same_secret() {
        let secret = SecretString::from("s3cret");
        assert!(same_secret("s3cret", &secret));
        assert!(!same_secret("s3cret ", &secret));
        assert!(!same_secret("", &secret));
    }
}
