//! From the configuration to what the use cases need.

use plimsoll_app::{
    AppSettings, Feature, WebhookTokens,
    access::{
        AccessSettings, AnonymousAccess, ConfiguredUser, OidcSettings,
        password::{PasswordHash, REMEDY},
    },
};
use plimsoll_domain::{
    access::Role,
    acting::{ActingKind, Auto, UpdateTrigger},
    identity::RoleRule,
};
use plimsoll_outbound::{Reach, Tls, Verify};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::settings::{self, Settings, UserRole};

/// What is wrong with the configuration, by the name of the setting. Secrets are not repeated.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigurationError(String);

/// The same for every process of an installation: workers put views of containers into events that
/// must equal what the API renders.
///
/// # Errors
/// Users or webhooks that cannot be used.
pub fn app_settings(settings: &Settings) -> Result<AppSettings, ConfigurationError> {
    let server = &settings.server;
    Ok(AppSettings {
        container_actions: feature(server.feature.containeractions),
        container_deletion: feature(server.feature.delete),
        webhooks: webhooks(&server.webhook)?,
        webhook_secrets: webhook_secrets(&server.webhook),
        access: access(settings)?,
        // 7 is the contract document's own scale, which has no threshold.
        maturity_threshold_days: Some(settings.ui.maturity_threshold_days)
            .filter(|days| *days != 7)
            .and_then(|days| u16::try_from(days).ok()),
        update_triggers: update_triggers(settings),
        scanner: feature(settings.security.scanner.is_some()),
        sbom: feature(settings.security.sbom.enabled || settings.security.scanner.is_some()),
        reach: reach(settings),
        event_streams: settings.sse.max_clients,
    })
}

/// Where addresses that the owner configured may be.
pub fn reach(settings: &Settings) -> Reach {
    Reach::configured(settings.outbound.loopback, settings.outbound.private)
}

/// What updates containers, as `GET /api/v1/triggers` has it.
fn update_triggers(settings: &Settings) -> Vec<UpdateTrigger> {
    let docker = settings.docker_triggers().into_iter();
    let compose = settings.compose_triggers().into_iter();
    let compose = compose.map(|(name, trigger)| UpdateTrigger {
        threshold: trigger.threshold.as_str().parse().unwrap_or_default(),
        dryrun: trigger.dryrun,
        auto: Auto::parse(trigger.auto.as_str()).unwrap_or_default(),
        once: trigger.once,
        order: i32::from(trigger.order),
        ..UpdateTrigger::new(ActingKind::DockerCompose, name)
    });
    docker
        .map(|(name, trigger)| UpdateTrigger {
            threshold: trigger.threshold.as_str().parse().unwrap_or_default(),
            dryrun: trigger.dryrun,
            auto: Auto::parse(trigger.auto.as_str()).unwrap_or_default(),
            once: trigger.once,
            order: i32::from(trigger.order),
            ..UpdateTrigger::new(ActingKind::Docker, name)
        })
        .chain(compose)
        .collect()
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

fn webhooks(webhook: &settings::Webhook) -> Result<WebhookTokens, ConfigurationError> {
    if !webhook.enabled {
        return Ok(WebhookTokens::Disabled);
    }
    let tokens = &webhook.tokens;
    match (&tokens.watchall, &tokens.watch, &tokens.update) {
        (Some(watch_all), Some(watch), Some(update)) => Ok(WebhookTokens::Each {
            watch_all: secret(watch_all),
            watch: secret(watch),
            update: secret(update),
        }),
        _ => match &webhook.token {
            Some(token) => Ok(WebhookTokens::One(secret(token))),
            None if webhook.secret.is_some() => Ok(WebhookTokens::Disabled),
            None => Err(ConfigurationError(
                "server.webhook.enabled needs server.webhook.token, or all three of \
                 server.webhook.tokens"
                    .to_owned(),
            )),
        },
    }
}

fn webhook_secrets(webhook: &settings::Webhook) -> Vec<SecretString> {
    let secrets = [&webhook.secret, &webhook.previoussecret].into_iter();
    let configured = secrets.flatten().filter(|_| webhook.enabled);
    configured.map(secret).collect()
}

fn access(settings: &Settings) -> Result<AccessSettings, ConfigurationError> {
    let auth = &settings.auth;
    let mut users: Vec<ConfiguredUser> = Vec::new();
    for (name, user) in &auth.basic {
        let problem = |what: &str| ConfigurationError(format!("auth.basic.{name}: {what}"));
        let username = user.user.trim();
        if username.is_empty() || username.contains(':') {
            return Err(problem("user must be a name without a colon"));
        }
        if users.iter().any(|other| other.username == username) {
            return Err(problem("another entry has the same user"));
        }
        let hash = user
            .hash
            .as_ref()
            .ok_or_else(|| problem("hash is missing"))?;
        let hash = PasswordHash::configured(hash.expose_secret(), username)
            .map_err(|error| problem(&format!("hash cannot be used: {error}")))?;
        if let Some(form) = hash.old_form() {
            tracing::warn!(
                "the password of user {username} is configured in an old form ({form}), which is \
                 easily broken; {REMEDY}"
            );
        }
        users.push(ConfiguredUser {
            strategy: name.clone(),
            username: username.to_owned(),
            role: match user.role {
                UserRole::Owner => Role::Owner,
                UserRole::Admin => Role::Admin,
                UserRole::Operator => Role::Operator,
                UserRole::Viewer => Role::Viewer,
            },
            hash,
        });
    }
    Ok(AccessSettings {
        users,
        oidc: providers(settings)?,
        anonymous: if settings.anonymous_auth_confirm {
            AnonymousAccess::Confirmed
        } else {
            AnonymousAccess::Refused
        },
        account_failures: auth.account_lockout_max_attempts,
        address_failures: auth.ip_lockout_max_attempts,
        lockout_window: auth.lockout_window_ms.0,
        lockout: auth.lockout_duration_ms.0,
        max_verifications: usize::from(auth.max_concurrent_login_attempts),
        max_sessions: u32::from(settings.server.session.maxconcurrentsessions),
    })
}

/// How addresses of published settings end.
const WELL_KNOWN: &str = "/.well-known/openid-configuration";

fn providers(settings: &Settings) -> Result<Vec<OidcSettings>, ConfigurationError> {
    let mut providers = Vec::new();
    for (name, provider) in &settings.auth.oidc {
        let problem = |what: &str| ConfigurationError(format!("auth.oidc.{name}: {what}"));
        let url = |text: Option<&String>, what: &str| {
            text.and_then(|text| Url::parse(text).ok())
                .ok_or_else(|| problem(what))
        };
        let home = url(settings.public_url.as_ref(), "needs public_url")?;
        let published = url(provider.discovery.as_ref(), "discovery is not an address")?;
        let issuer = published.as_str().trim_end_matches(WELL_KNOWN).to_owned();
        let callback = format!(
            "{}/auth/oidc/{name}/cb",
            home.as_str().trim_end_matches('/')
        );
        let verify = match provider.insecure {
            true => Verify::Nothing,
            false => Verify::Certificate,
        };
        let tls = Tls::read(verify, provider.cafile.as_deref(), None);
        let scopes = provider.scopes.split_whitespace();
        providers.push(OidcSettings {
            name: name.clone(),
            issuer: url(Some(&issuer), "discovery is not an address")?,
            client_id: provider
                .clientid
                .clone()
                .ok_or_else(|| problem("clientid is missing"))?,
            client_secret: provider.clientsecret.as_ref().map(secret),
            callback: url(Some(&callback), "public_url is not an address")?,
            home,
            redirect: provider.redirect,
            logout_url: provider
                .logouturl
                .as_ref()
                .map(|text| url(Some(text), "logouturl is not an address"))
                .transpose()?,
            scopes: scopes
                .filter(|scope| *scope != "openid")
                .map(str::to_owned)
                .collect(),
            roles: RoleRule {
                claim: provider.roleclaim.clone(),
                roles: match &provider.roles {
                    Some(roles) => oidc_roles(roles).ok_or_else(|| problem("roles is no list"))?,
                    None => Vec::new(),
                },
                otherwise: Role::parse(provider.role.as_str()),
            },
            timeout: provider.timeout.0,
            reach: reach(settings),
            tls: tls.map_err(|error| problem(&error))?,
        });
    }
    Ok(providers)
}

/// `value=role,value=role`. Values may contain `=`: distinguished names do.
pub(crate) fn oidc_roles(text: &str) -> Option<Vec<(String, Role)>> {
    text.split(',')
        .map(|pair| {
            let (value, role) = pair.rsplit_once('=')?;
            let value = value.trim();
            (!value.is_empty()).then_some((value.to_owned(), Role::parse(role.trim())?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CommonArgs;

    fn from(environment: &[(&str, &str)]) -> AppSettings {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = Settings::load(&CommonArgs::default(), environment).unwrap();
        app_settings(&loaded.settings).unwrap()
    }

    #[test]
    fn views_are_rendered_with_the_configured_trigger() {
        let triggers = |environment| from(environment).view_context().admission.triggers;
        let default = triggers(&[]);
        assert_eq!(default[0].id(), "docker.local");
        let named = triggers(&[("DD_TRIGGER_DOCKER_PROD_THRESHOLD", "minor")]);
        assert_eq!(named[0].id(), "docker.prod");
        assert_eq!(named[0].threshold, "minor".parse().unwrap());
        let off = triggers(&[("DD_TRIGGER_DOCKER_PROD_ENABLED", "false")]);
        assert_eq!(off, []);
    }

    #[test]
    fn a_process_holds_as_many_streams_as_it_is_told_to() {
        assert_eq!(from(&[]).event_streams, 500);
        assert_eq!(from(&[("DD_SSE_MAX_CLIENTS", "3")]).event_streams, 3);
    }
}
