//! What the API can be told (contract/drydock-app-api.md; reference/drydock.md section 5).

use std::{sync::Arc, time::Duration};

use plimsoll_app::Feature;
use secrecy::SecretString;

use crate::middleware::cors::Cors;

/// Where a session cookie is sent by a browser that comes from another site.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    Strict,
    #[default]
    Lax,
    /// Needs https.
    None,
}

/// Who may read `/metrics`.
#[derive(Clone, Debug, Default)]
pub enum MetricsAccess {
    /// Anyone who is signed in.
    #[default]
    SignedIn,
    /// Whoever presents this bearer token (at least 16 characters), or is signed in.
    Token(SecretString),
    /// Anyone (`DD_SERVER_METRICS_AUTH=false`).
    Open,
}

/// What a request of a browser or a user is counted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RateLimitKey {
    #[default]
    Address,
    /// The signed-in user, where there is one (`DD_SERVER_RATELIMIT_IDENTITYKEYING=true`).
    Identity,
}

/// Who may use Docksmith's API without a credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DocksmithAccess {
    /// Whoever asks its own listener from this machine, where that is a loopback address.
    #[default]
    Loopback,
    Nobody,
    Everybody,
}

#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// Shown by `GET /api/v1/server`.
    pub port: u16,
    /// Shown by it, too: what people call this installation.
    pub name: Option<String>,
    /// How clients reach this server, e.g. `https://plimsoll.example.org`. Decides `Secure`
    /// cookies and HSTS, and is an accepted origin.
    pub public_url: Option<String>,
    /// How many proxies in front of this server append to `X-Forwarded-For`. 0: none, the header
    /// is ignored.
    pub trusted_proxies: u8,
    pub same_site: SameSite,
    /// Requests per 15 minutes and client. 0: unlimited.
    pub rate_limit_max: u32,
    pub rate_limit_key: RateLimitKey,
    /// Requests per 15 minutes and API token. 0: unlimited, because tokens are for machines that
    /// poll, and each can be revoked.
    pub rate_limit_token_max: u32,
    /// Requests to `/auth` per 15 minutes and address.
    pub rate_limit_auth_max: u32,
    /// Requests to `/webhook` per 15 minutes and address.
    pub rate_limit_webhook_max: u32,
    /// WebSockets that one address, or one user, may open in 15 minutes.
    pub rate_limit_socket_max: u32,
    pub metrics: MetricsAccess,
    pub docksmith: DocksmithAccess,
    pub compression: Feature,
    /// Smaller bodies, in bytes, are sent as they are.
    pub compression_threshold: u64,
    /// What the listener shows, where it speaks TLS itself.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What pages of other origins may do. `None`: nothing.
    pub cors: Option<Cors>,
    /// Whether lists at paths without a version are bare arrays, for clients of the program that
    /// Drydock came from.
    pub bare_lists: bool,
    /// Open connections; more wait.
    pub max_connections: usize,
    /// How long a request's body may take to arrive.
    pub body_deadline: Duration,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            port: 3000,
            name: None,
            public_url: None,
            trusted_proxies: 0,
            same_site: SameSite::default(),
            rate_limit_max: 1000,
            rate_limit_key: RateLimitKey::default(),
            rate_limit_token_max: 0,
            rate_limit_auth_max: 100,
            rate_limit_webhook_max: 30,
            rate_limit_socket_max: 1000,
            metrics: MetricsAccess::default(),
            docksmith: DocksmithAccess::default(),
            compression: Feature::Enabled,
            compression_threshold: 1024,
            tls: None,
            cors: None,
            bare_lists: false,
            max_connections: 4096,
            body_deadline: Duration::from_secs(30),
        }
    }
}

impl ApiSettings {
    /// Whether clients use TLS, as far as configuration tells.
    pub fn is_https(&self) -> bool {
        let public = self.public_url.as_deref();
        self.tls.is_some() || public.is_some_and(|url| url.starts_with("https://"))
    }
}
