use plimsoll_app::WebhookTokens;
use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    error::{ErrorOf, Reads},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
};

/// `GET /api/v1/server` (reference/drydock.md 1.4).
pub struct Server;

#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct ServerView {
    configuration: ConfigurationView,
    compatibility: CompatibilityView,
}

/// The server's configuration, without any secret.
#[derive(Object)]
struct ConfigurationView {
    enabled: bool,
    port: u16,
    cors: Switch,
    tls: Switch,
    feature: FeatureView,
    webhook: Switch,
    ratelimit: RateLimitView,
    trustproxy: u8,
    compression: Switch,
}

#[derive(Object)]
struct Switch {
    enabled: bool,
}

#[derive(Object)]
struct FeatureView {
    delete: bool,
    containeractions: bool,
}

#[derive(Object)]
struct RateLimitView {
    /// Requests per 15 minutes and client; 0 is unlimited.
    max: u32,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct CompatibilityView {
    legacy_inputs: LegacyInputs,
}

/// Old names of settings and labels that are in use.
#[derive(Object)]
struct LegacyInputs {
    total: u32,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Server {
    /// Get the server's configuration
    #[oai(
        path = "/server",
        method = "get",
        operation_id = "getServer",
        tag = "Tag::App"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
    ) -> Result<Json<ServerView>, ErrorOf<Reads>> {
        let settings = &state.settings;
        let app = state.app.settings();
        Ok(Json(ServerView {
            configuration: ConfigurationView {
                enabled: true,
                port: settings.port,
                cors: Switch { enabled: false },
                tls: Switch {
                    enabled: settings.is_https(),
                },
                feature: FeatureView {
                    delete: app.container_deletion.is_enabled(),
                    containeractions: app.container_actions.is_enabled(),
                },
                webhook: Switch {
                    enabled: !matches!(app.webhooks, WebhookTokens::Disabled),
                },
                ratelimit: RateLimitView {
                    max: settings.rate_limit_max,
                },
                trustproxy: settings.trusted_proxies,
                compression: Switch {
                    enabled: settings.compression.is_enabled(),
                },
            },
            compatibility: CompatibilityView {
                legacy_inputs: LegacyInputs { total: 0 },
            },
        }))
    }
}
