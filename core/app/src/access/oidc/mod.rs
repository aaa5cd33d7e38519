//! Signing in with an identity provider: OpenID Connect's authorization code with PKCE
//! (reference/drydock.md 1.2, section 5; reliability.md S-8).
//!
//! A sign-in that is on its way is a row in Postgres, so that it may come back to any replica, once
//! and within ten minutes. It belongs to a browser by a cookie: the nonce and PKCE's verifier are
//! made from that cookie and are stored nowhere. A person is who (issuer, subject) says; names and
//! mail addresses link to nothing.

mod provider;
mod settings;

use openidconnect::{CsrfToken, Nonce, PkceCodeVerifier};
use plimsoll_store::{
    audit::AuditStatus,
    identities::{Identity, OidcLogin, RoleFrom},
    sessions::Remember,
};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use url::Url;

pub(super) use self::provider::Provider;
use self::provider::{Person, ProviderError, Secrets};
pub use self::settings::OidcSettings;
use super::{CredentialDigest, Origin, SignedIn, soon, tokens::random_text};
use crate::{App, AppError};

/// How long somebody may take at the provider, in seconds.
pub const LOGIN_SECONDS: u64 = 600;

/// A sign-in that begins.
pub struct OidcStart {
    /// Where the browser goes.
    pub authorization_url: Url,
    /// The provider's page without the request.
    pub endpoint: Url,
    pub state: String,
    /// For the browser's cookie. It is in no other place.
    pub browser: SecretString,
}

/// What the provider sent the browser back with.
pub struct OidcReturn {
    pub code: Option<String>,
    pub state: Option<String>,
    /// The provider's reason, when it did not let somebody in.
    pub error: Option<String>,
    /// Who the provider says it is (RFC 9207).
    pub issuer: Option<String>,
    /// Of the browser's cookie.
    pub browser: Option<SecretString>,
}

impl App {
    /// Sends a browser to a provider.
    ///
    /// # Errors
    /// `NotFound` for an unknown provider, `Unavailable` while it does not answer.
    pub async fn begin_oidc(
        &self,
        provider: &str,
        remember: Remember,
    ) -> Result<OidcStart, AppError> {
        let provider = self.provider(provider)?;
        let (state, browser) = (random_text::<32>(), random_text::<32>());
        let secrets = secrets(state.clone(), &browser);
        let unavailable = |error| unavailable(provider, &error);
        let authorization_url = provider
            .authorization_url(&secrets)
            .await
            .map_err(unavailable)?;
        let endpoint = provider
            .authorization_endpoint()
            .await
            .map_err(unavailable)?;
        let (state_hash, browser_hash) =
            (CredentialDigest::of(&state), CredentialDigest::of(&browser));
        let login = OidcLogin {
            state_hash: state_hash.as_bytes(),
            browser_hash: browser_hash.as_bytes(),
            provider: &provider.settings.name,
        };
        let seconds = LOGIN_SECONDS as f64;
        soon(
            self.store()
                .begin_oidc_login(login, remember == Remember::Yes, seconds),
        )
        .await?;
        Ok(OidcStart {
            authorization_url,
            endpoint,
            state,
            browser: SecretString::from(browser),
        })
    }

    /// Begins the session of somebody who comes back from a provider, and says where the browser
    /// goes next.
    ///
    /// # Errors
    /// `Unauthenticated` for anything that is not a sign-in of this browser that the provider
    /// vouches for, `Forbidden` for people without a role and for disabled accounts,
    /// `Unavailable` while the provider does not answer.
    pub async fn finish_oidc(
        &self,
        provider: &str,
        back: OidcReturn,
        origin: Origin<'_>,
    ) -> Result<(SignedIn, Url), AppError> {
        self.prepare_accounts().await?;
        let provider = self.provider(provider)?;
        let state = back
            .state
            .ok_or_else(|| retry("OIDC callback is missing state"))?;
        let browser = back
            .browser
            .ok_or_else(|| retry("OIDC session is missing or expired"))?;
        let browser = browser.expose_secret();
        let (state_hash, browser_hash) =
            (CredentialDigest::of(&state), CredentialDigest::of(browser));
        let login = OidcLogin {
            state_hash: state_hash.as_bytes(),
            browser_hash: browser_hash.as_bytes(),
            provider: &provider.settings.name,
        };
        let remember = soon(self.store().take_oidc_login(login))
            .await?
            .ok_or_else(|| retry("OIDC session state mismatch or expired"))?;
        let foreign = |issuer: &String| {
            issuer.trim_end_matches('/') != provider.settings.issuer.as_str().trim_end_matches('/')
        };
        let person = match (back.code, back.error) {
            _ if back.issuer.as_ref().is_some_and(foreign) => Err(ProviderError::Refused(
                "another provider sent the browser back".to_owned(),
            )),
            (Some(code), None) => provider.person(code, secrets(state, browser)).await,
            (_, error) => Err(ProviderError::Refused(format!(
                "it let nobody in: {}",
                printable(&error.unwrap_or_default())
            ))),
        };
        match person {
            Ok(person) => {
                let session = self.admit(provider, person, remember, origin).await?;
                Ok((session, provider.settings.home.clone()))
            }
            Err(error @ ProviderError::Away(_)) => Err(unavailable(provider, &error)),
            Err(ProviderError::Refused(why)) => {
                let why = format!("{}: {why}", provider.settings.name);
                self.audit_login("", AuditStatus::Error, &why, origin).await;
                tracing::warn!(why, "a sign-in was refused");
                Err(AppError::Unauthenticated(
                    "Authentication failed".to_owned(),
                ))
            }
        }
    }

    async fn admit(
        &self,
        provider: &Provider,
        person: Person,
        remember: bool,
        origin: Origin<'_>,
    ) -> Result<SignedIn, AppError> {
        let settings = &provider.settings;
        let (name, issuer) = (&settings.name, settings.issuer.as_str());
        let username = format!("{name}:{}", person.name);
        let Some(role) = settings.roles.role(&person.claims) else {
            let why = "no claim of theirs gives them a role";
            self.audit_login(&username, AuditStatus::Error, why, origin)
                .await;
            return Err(AppError::Forbidden(format!(
                "{name} knows you, but nothing there gives you a role here"
            )));
        };
        let own = CredentialDigest::of(&format!("{issuer} {}", person.subject)).short();
        let identity = Identity {
            issuer,
            subject: &person.subject,
            usernames: [&username, &format!("{username}#{own}")],
        };
        let role_from = match settings.roles.claim {
            Some(_) => RoleFrom::Provider,
            None => RoleFrom::FirstLogin,
        };
        let account = soon(self.store().account_of(identity, role, role_from)).await?;
        if account.disabled {
            let why = "the account is disabled";
            self.audit_login(&account.username, AuditStatus::Error, why, origin)
                .await;
            return Err(AppError::Forbidden("This account is disabled".to_owned()));
        }
        let details = format!("signed in from {} with {name}", origin.client);
        self.begin_session(
            account.id,
            account.username,
            Remember::from_flag(remember),
            Some(name),
            &details,
            origin,
        )
        .await
    }

    fn provider(&self, name: &str) -> Result<&Provider, AppError> {
        self.access()
            .providers
            .iter()
            .find(|provider| provider.settings.name == name)
            .ok_or_else(|| AppError::NotFound("There is no such identity provider".to_owned()))
    }

    /// Whether each login sets the roles of people who come from `issuer`.
    pub(crate) fn provider_decides_roles(&self, issuer: &str) -> bool {
        let providers = self.access().settings.oidc.iter();
        let mut theirs = providers.filter(|provider| provider.issuer.as_str() == issuer);
        theirs.any(|provider| provider.roles.claim.is_some())
    }

    /// Where signing out goes on for a session that began with `provider`.
    pub(super) async fn provider_logout(&self, provider: &str) -> Option<Url> {
        self.provider(provider).ok()?.logout_url().await
    }
}

fn secrets(state: String, browser: &str) -> Secrets {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let made = |what: &str| {
        URL_SAFE_NO_PAD.encode(Sha256::digest(format!("plimsoll oidc {what} {browser}")))
    };
    Secrets {
        state: CsrfToken::new(state),
        nonce: Nonce::new(made("nonce")),
        verifier: PkceCodeVerifier::new(made("verifier")),
    }
}

fn retry(what: &str) -> AppError {
    AppError::Unauthenticated(format!("{what}. Please retry authentication."))
}

fn unavailable(provider: &Provider, error: &ProviderError) -> AppError {
    AppError::Unavailable {
        message: format!(
            "The identity provider {} is not available: {error}. Other ways to sign in are not \
             affected",
            provider.settings.name
        ),
        retry_after: std::time::Duration::from_secs(5),
    }
}

/// What a stranger put into a URL, for a log.
fn printable(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic())
        .take(60)
        .collect()
}
