//! Settings that are each well-formed and yet cannot all be meant.

use plimsoll_domain::registry::RegistryKind;
use secrecy::ExposeSecret;

use super::leaf::TrustProxy;
use super::tree::{Registry, SameSite, Settings};

/// What contradicts what, each naming the settings. Names are given without a prefix's variants:
/// as `PLIMSOLL_…`.
pub fn contradictions(settings: &Settings) -> Vec<String> {
    let mut found = Vec::new();
    let webhook = &settings.server.webhook;
    let tokens = [
        ("WATCHALL", &webhook.tokens.watchall),
        ("WATCH", &webhook.tokens.watch),
        ("UPDATE", &webhook.tokens.update),
    ];
    let missing: Vec<&str> = tokens
        .iter()
        .filter(|(_, token)| token.is_none())
        .map(|(name, _)| *name)
        .collect();
    if !missing.is_empty() && missing.len() < tokens.len() {
        found.push(format!(
            "PLIMSOLL_SERVER_WEBHOOK_TOKENS_{}: not set, but another of the three \
             PLIMSOLL_SERVER_WEBHOOK_TOKENS_ is; set all three or none",
            missing.join(" and _")
        ));
    }
    let no_token = webhook.token.is_none() && missing.len() == tokens.len();
    if webhook.enabled && no_token && webhook.secret.is_none() {
        found.push(
            "PLIMSOLL_SERVER_WEBHOOK_ENABLED: webhooks need PLIMSOLL_SERVER_WEBHOOK_TOKEN, or all \
             of PLIMSOLL_SERVER_WEBHOOK_TOKENS_WATCHALL, _WATCH and _UPDATE; those of registries \
             need one of these or PLIMSOLL_SERVER_WEBHOOK_SECRET"
                .into(),
        );
    }
    for (name, secret) in [
        ("SECRET", &webhook.secret),
        ("PREVIOUSSECRET", &webhook.previoussecret),
    ] {
        let length = secret.as_ref().map(|s| s.expose_secret().chars().count());
        if length.is_some_and(|length| length < 16) {
            found.push(format!(
                "PLIMSOLL_SERVER_WEBHOOK_{name}: shorter than 16 characters"
            ));
        }
    }
    if let Some(token) = &settings.server.metrics.token
        && token.expose_secret().chars().count() < 16
    {
        found.push("PLIMSOLL_SERVER_METRICS_TOKEN: shorter than 16 characters".into());
    }
    let tls = &settings.server.tls;
    if tls.enabled && (tls.cert.is_none() || tls.key.is_none()) {
        found.push("PLIMSOLL_SERVER_TLS_ENABLED: needs PLIMSOLL_SERVER_TLS_CERT and _KEY".into());
    }
    if let Some(origin) = strange_origin(&settings.server.cors.origin) {
        found.push(format!(
            "PLIMSOLL_SERVER_CORS_ORIGIN: {origin:?} is not an origin such as \
             https://dash.example.org"
        ));
    }
    if settings.server.cookie.samesite == SameSite::None
        && !tls.enabled
        && settings.server.trustproxy == TrustProxy::None
        && !is_https(&settings.public_url)
    {
        found.push(
            "PLIMSOLL_SERVER_COOKIE_SAMESITE: none needs https; set PLIMSOLL_PUBLIC_URL to an \
             https address, or PLIMSOLL_SERVER_TRUSTPROXY if a proxy ends TLS"
                .into(),
        );
    }
    if let Some(url) = &settings.public_url
        && !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    {
        found.push(format!(
            "PLIMSOLL_PUBLIC_URL: {url:?} is not an http or https address"
        ));
    }
    let github = &settings.release_notes.github_url;
    if !url::Url::parse(github).is_ok_and(|url| matches!(url.scheme(), "http" | "https")) {
        found.push(format!(
            "PLIMSOLL_RELEASE_NOTES_GITHUB_URL: {github:?} is not an http or https address"
        ));
    }
    for (name, user) in &settings.auth.basic {
        let name = name.to_uppercase();
        if user.user.is_empty() {
            found.push(format!(
                "PLIMSOLL_AUTH_BASIC_{name}_USER: not set, but _HASH is"
            ));
        }
        if user.hash.as_ref().is_none_or(|hash| hash.is_empty()) {
            found.push(format!(
                "PLIMSOLL_AUTH_BASIC_{name}_HASH: not set, but _USER is"
            ));
        }
    }
    let auth = &settings.auth;
    if settings.anonymous_auth_confirm && !(auth.basic.is_empty() && auth.oidc.is_empty()) {
        found.push(
            "PLIMSOLL_ANONYMOUS_AUTH_CONFIRM: lets everyone in, but PLIMSOLL_AUTH_BASIC_ or \
             PLIMSOLL_AUTH_OIDC_ names who may; remove one of them"
                .into(),
        );
    }
    providers(settings, &mut found);
    watchers(settings, &mut found);
    registries(settings, &mut found);
    found.extend(super::notifiers::problems(&settings.trigger));
    if settings.update.post_start_liveness_grace_ms.0 < std::time::Duration::from_secs(1) {
        found.push("PLIMSOLL_UPDATE_POST_START_LIVENESS_GRACE_MS: less than a second".into());
    }
    found
}

fn strange_origin(origins: &str) -> Option<&str> {
    let mut origins = origins.split(',').map(str::trim);
    origins.find(|origin| {
        let written = |url: url::Url| url.origin().ascii_serialization() == *origin;
        *origin != "*" && !url::Url::parse(origin).is_ok_and(written)
    })
}

fn providers(settings: &Settings, found: &mut Vec<String>) {
    for (name, provider) in &settings.auth.oidc {
        let prefix = format!("PLIMSOLL_AUTH_OIDC_{}", name.to_uppercase());
        if settings.public_url.is_none() {
            found.push(format!(
                "{prefix}_DISCOVERY: identity providers send browsers back to PLIMSOLL_PUBLIC_URL, \
                 which is not set"
            ));
        }
        if provider.clientid.is_none() {
            found.push(format!("{prefix}_CLIENTID: not set"));
        }
        match provider.discovery.as_deref().map(url::Url::parse) {
            Some(Ok(url)) if url.scheme() == "https" => {}
            Some(Ok(url)) if url.scheme() == "http" => {
                let here = url
                    .host_str()
                    .is_some_and(|host| matches!(host, "localhost" | "127.0.0.1" | "[::1]"));
                if !here && !provider.insecure {
                    found.push(format!(
                        "{prefix}_DISCOVERY: passwords are safe with https only; use it, or set \
                         {prefix}_INSECURE"
                    ));
                }
            }
            Some(_) => found.push(format!("{prefix}_DISCOVERY: not an https address")),
            None => found.push(format!("{prefix}_DISCOVERY: not set")),
        }
        if let Some(url) = &provider.logouturl
            && !url::Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
        {
            found.push(format!("{prefix}_LOGOUTURL: not an http or https address"));
        }
        if provider.roles.is_some() && provider.roleclaim.is_none() {
            found.push(format!("{prefix}_ROLECLAIM: not set, but _ROLES is"));
        }
        if let Some(roles) = &provider.roles
            && crate::app::oidc_roles(roles).is_none()
        {
            found.push(format!(
                "{prefix}_ROLES: not a list such as dock-admins=admin,staff=viewer; the roles are \
                 owner, admin, operator and viewer"
            ));
        }
    }
}

fn watchers(settings: &Settings, found: &mut Vec<String>) {
    for (name, watcher) in &settings.watcher {
        let prefix = format!("PLIMSOLL_WATCHER_{}", name.to_uppercase());
        if watcher.socket.is_some() && watcher.host.is_some() {
            found.push(format!(
                "{prefix}_SOCKET and {prefix}_HOST: set one of them"
            ));
        }
        if watcher.certfile.is_some() != watcher.keyfile.is_some() {
            found.push(format!(
                "{prefix}_CERTFILE and {prefix}_KEYFILE: set both or none"
            ));
        }
        if !(1..=365).contains(&watcher.maturity_min_age_days) {
            found.push(format!("{prefix}_MATURITY_MIN_AGE_DAYS: not from 1 to 365"));
        }
    }
}

fn registries(settings: &Settings, found: &mut Vec<String>) {
    for (word, instances) in &settings.registry {
        let Ok(kind) = word.parse::<RegistryKind>() else {
            found.push(format!(
                "PLIMSOLL_REGISTRY_{}_…: there is no such type of registry; the types are {}",
                word.to_uppercase(),
                RegistryKind::words().collect::<Vec<_>>().join(", ")
            ));
            continue;
        };
        for (name, registry) in instances {
            let prefix = format!(
                "PLIMSOLL_REGISTRY_{}_{}",
                word.to_uppercase(),
                name.to_uppercase()
            );
            if let Err(problem) = kind.form(&registry.credential_keys()) {
                let key = problem.key.to_uppercase();
                found.push(format!("{prefix}_{key}: {}", problem.what));
            }
            if registry.clientcert.is_some() != registry.clientkey.is_some() {
                found.push(format!(
                    "{prefix}_CLIENTCERT and {prefix}_CLIENTKEY: set both or none"
                ));
            }
            if kind.needs_url() && registry.url.is_none() {
                found.push(format!(
                    "{prefix}_URL: a registry of the type {word} needs its address"
                ));
            }
        }
    }
}

impl Registry {
    /// The credential settings that are set, by name.
    pub fn credential_keys(&self) -> Vec<&'static str> {
        let texts = [
            ("login", &self.login),
            ("username", &self.username),
            ("namespace", &self.namespace),
            ("account", &self.account),
            ("clientid", &self.clientid),
            ("region", &self.region),
            ("clientemail", &self.clientemail),
        ];
        let secrets = [
            ("password", &self.password),
            ("auth", &self.auth),
            ("token", &self.token),
            ("apikey", &self.apikey),
            ("clientsecret", &self.clientsecret),
            ("accesskeyid", &self.accesskeyid),
            ("secretaccesskey", &self.secretaccesskey),
            ("privatekey", &self.privatekey),
        ];
        let texts = texts.iter().filter(|(_, value)| value.is_some());
        let secrets = secrets.iter().filter(|(_, value)| value.is_some());
        texts
            .map(|(key, _)| *key)
            .chain(secrets.map(|(key, _)| *key))
            .collect()
    }
}

fn is_https(url: &Option<String>) -> bool {
    url.as_deref()
        .is_some_and(|url| url.starts_with("https://"))
}
