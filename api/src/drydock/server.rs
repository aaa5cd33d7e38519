use plimsoll_app::{AppError, WebhookTokens, totals::LegacySource};
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
#[oai(rename = "Server", rename_all = "camelCase")]
pub struct ServerView {
    configuration: ConfigurationView,
    compatibility: CompatibilityView,
}

/// The server's configuration, without any secret.
#[derive(Object)]
#[oai(rename = "ServerSettings")]
struct ConfigurationView {
    enabled: bool,
    /// The installation's, where it has one.
    #[oai(skip_serializing_if_is_none)]
    name: Option<String>,
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
#[oai(rename = "ServerFeatures")]
struct FeatureView {
    delete: bool,
    containeractions: bool,
}

#[derive(Object)]
#[oai(rename = "RateLimitSettings")]
struct RateLimitView {
    /// Requests per 15 minutes and client; 0 is unlimited.
    max: u32,
}

#[derive(Object)]
#[oai(rename = "Compatibility", rename_all = "camelCase")]
struct CompatibilityView {
    legacy_inputs: LegacyInputs,
}

/// Old names of settings, labels and requests that were used, on any process.
#[derive(Object)]
struct LegacyInputs {
    total: u64,
    env: LegacyInput,
    label: LegacyInput,
    api: LegacyInput,
}

#[derive(Object)]
struct LegacyInput {
    /// How often.
    total: u64,
    keys: Vec<String>,
}

impl LegacyInputs {
    fn of(used: &[(String, String, f64)]) -> Self {
        let of = |source: LegacySource| {
            let mine = used.iter().filter(|(of, _, _)| of == source.as_str());
            LegacyInput {
                total: mine.clone().map(|(_, _, count)| *count as u64).sum(),
                keys: mine.map(|(_, key, _)| key.clone()).collect(),
            }
        };
        Self {
            total: used.iter().map(|(_, _, count)| *count as u64).sum(),
            env: of(LegacySource::Env),
            label: of(LegacySource::Label),
            api: of(LegacySource::Api),
        }
    }
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
        let used = state.app.legacy_inputs().await.map_err(AppError::from)?;
        Ok(Json(ServerView {
            configuration: ConfigurationView {
                enabled: true,
                name: settings.name.clone(),
                port: settings.port,
                cors: Switch {
                    enabled: settings.cors.is_some(),
                },
                tls: Switch {
                    enabled: settings.is_https(),
                },
                feature: FeatureView {
                    delete: app.container_deletion.is_enabled(),
                    containeractions: app.container_actions.is_enabled(),
                },
                webhook: Switch {
                    enabled: !matches!(app.webhooks, WebhookTokens::Disabled)
                        || !app.webhook_secrets.is_empty(),
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
                legacy_inputs: LegacyInputs::of(&used),
            },
        }))
    }
}
