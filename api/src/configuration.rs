//! From the configuration that every process shares to what the HTTP side needs.

use plimsoll_app::Feature;
use plimsoll_runtime::settings::{self, Settings, TrustProxy};
use secrecy::SecretString;

use crate::{ApiSettings, MetricsAccess, RateLimitKey, SameSite};

/// What the HTTP side needs.
pub fn api_settings(settings: &Settings) -> ApiSettings {
    let server = &settings.server;
    let metrics = match (&server.metrics.token, server.metrics.auth) {
        (_, false) => MetricsAccess::Open,
        (Some(token), true) => MetricsAccess::Token(secret(token)),
        (None, true) => MetricsAccess::SignedIn,
    };
    ApiSettings {
        port: settings.listen_address().port(),
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
        compression: feature(server.compression.enabled),
        compression_threshold: u64::from(server.compression.threshold),
        ..ApiSettings::default()
    }
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
