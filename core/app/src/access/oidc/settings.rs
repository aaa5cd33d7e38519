use std::time::Duration;

use plimsoll_domain::identity::RoleRule;
use plimsoll_outbound::{Reach, Tls};
use secrecy::SecretString;
use url::Url;

/// An identity provider as `DD_AUTH_OIDC_<NAME>_*` describe it.
#[derive(Clone, Debug)]
pub struct OidcSettings {
    /// The `<NAME>`, which is part of paths and of user names.
    pub name: String,
    /// Without `/.well-known/openid-configuration`.
    pub issuer: Url,
    pub client_id: String,
    /// `None`: a public client, which PKCE alone protects.
    pub client_secret: Option<SecretString>,
    /// Where the provider sends browsers back to: `<public URL>/auth/oidc/<name>/cb`.
    pub callback: Url,
    /// Where browsers are sent when they are signed in: the public URL.
    pub home: Url,
    /// Whether the login page should go to the provider by itself.
    pub redirect: bool,
    /// Where signing out goes on, instead of where the provider says.
    pub logout_url: Option<Url>,
    /// Besides `openid`.
    pub scopes: Vec<String>,
    pub roles: RoleRule,
    /// For one answer of the provider.
    pub timeout: Duration,
    pub reach: Reach,
    pub tls: Tls,
}
