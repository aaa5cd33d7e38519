//! From the configuration that every process shares to what the HTTP side needs.

use plimsoll_app::Feature;
use plimsoll_runtime::settings::{self, DocksmithAuth, Settings, TrustProxy};
use secrecy::SecretString;

use crate::{
    ApiSettings, DocksmithAccess, MetricsAccess, RateLimitKey, SameSite,
    middleware::cors::{Cors, Origins},
    tls,
};

/// What the HTTP side needs.
///
/// # Errors
/// TLS files that cannot be used.
pub fn api_settings(settings: &Settings) -> anyhow::Result<ApiSettings> {
    let server = &settings.server;
    let metrics = match (&server.metrics.token, server.metrics.auth) {
        (_, false) => MetricsAccess::Open,
        (Some(token), true) => MetricsAccess::Token(secret(token)),
        (None, true) => MetricsAccess::SignedIn,
    };
    Ok(ApiSettings {
        port: settings.listen_address().port(),
        name: server.name.clone(),
        public_url: settings.public_url.clone(),
        trusted_proxies: match server.trustproxy {
            TrustProxy::None => 0,
            TrustProxy::Hops(hops) => hops,
        },
        same_site: match server.cookie.samesite {
            settings::SameSite::Lax => SameSite::Lax,
            settings::SameSite::Strict => SameSite::Strict,
            settings::SameSite::None => SameSite::None,
        },
        rate_limit_max: server.ratelimit.max,
        rate_limit_key: if server.ratelimit.identitykeying {
            RateLimitKey::Identity
        } else {
            RateLimitKey::Address
        },
        rate_limit_token_max: server.ratelimit.tokenmax,
        metrics,
        docksmith: match settings.docksmith.auth {
            DocksmithAuth::Auto => DocksmithAccess::Loopback,
            DocksmithAuth::Required => DocksmithAccess::Nobody,
            DocksmithAuth::None => DocksmithAccess::Everybody,
        },
        compression: feature(server.compression.enabled),
        compression_threshold: u64::from(server.compression.threshold),
        tls: tls::listener(settings)?,
        cors: cors(&server.cors),
        bare_lists: settings.compat.wudcard,
        ..ApiSettings::default()
    })
}

fn cors(cors: &settings::Cors) -> Option<Cors> {
    let origins = || cors.origin.split(',').map(str::trim);
    cors.enabled.then(|| Cors {
        origins: match origins().any(|origin| origin == "*") {
            true => Origins::All,
            false => Origins::These(origins().map(str::to_owned).collect()),
        },
        methods: cors.methods.clone(),
    })
}

fn feature(enabled: bool) -> Feature {
    if enabled {
        Feature::Enabled
    } else {
        Feature::Disabled
    }
}

fn secret(secret: &settings::Secret) -> SecretString {
    SecretString::clone(secret)
}
