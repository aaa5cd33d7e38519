//! A configured registry, as `DD_REGISTRY_<TYPE>_<NAME>_<KEY>` describes it
//! (reference/drydock.md section 3, "Registries").

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use plimsoll_domain::redact::REDACTED;
use plimsoll_outbound::{Tls, Verify};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use url::Url;

use super::host;

/// The types of registry in settings. They differ in where they are and in how their logins are
/// spelt; all speak the OCI distribution protocol. `Custom` is any other one that does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RegistryKind {
    Artifactory,
    Codeberg,
    Custom,
    Forgejo,
    Ghcr,
    Gitea,
    Gitlab,
    Harbor,
    Hub,
    Lscr,
    Nexus,
    Quay,
}

impl RegistryKind {
    pub const ALL: [Self; 12] = [
        Self::Artifactory,
        Self::Codeberg,
        Self::Custom,
        Self::Forgejo,
        Self::Ghcr,
        Self::Gitea,
        Self::Gitlab,
        Self::Harbor,
        Self::Hub,
        Self::Lscr,
        Self::Nexus,
        Self::Quay,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Artifactory => "artifactory",
            Self::Codeberg => "codeberg",
            Self::Custom => "custom",
            Self::Forgejo => "forgejo",
            Self::Ghcr => "ghcr",
            Self::Gitea => "gitea",
            Self::Gitlab => "gitlab",
            Self::Harbor => "harbor",
            Self::Hub => "hub",
            Self::Lscr => "lscr",
            Self::Nexus => "nexus",
            Self::Quay => "quay",
        }
    }

    /// Where such a registry is when its settings do not say; `None` when everyone has their own.
    pub(super) const fn default_url(self) -> Option<&'static str> {
        match self {
            Self::Codeberg => Some("https://codeberg.org"),
            Self::Ghcr => Some("https://ghcr.io"),
            Self::Gitlab => Some("https://registry.gitlab.com"),
            Self::Hub => Some("https://registry-1.docker.io"),
            Self::Lscr => Some("https://lscr.io"),
            Self::Quay => Some("https://quay.io"),
            Self::Artifactory
            | Self::Custom
            | Self::Forgejo
            | Self::Gitea
            | Self::Harbor
            | Self::Nexus => None,
        }
    }

    const fn default_auth_url(self) -> Option<&'static str> {
        match self {
            Self::Gitlab => Some("https://gitlab.com"),
            _ => None,
        }
    }
}

impl FromStr for RegistryKind {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        let wanted = text.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == wanted)
            .ok_or(SettingsError::Kind(wanted))
    }
}

/// Why a registry's settings cannot be used. Found at start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("there is no registry type `{0}`")]
    Kind(String),
    #[error("registry {0}: {1}")]
    Invalid(String, String),
}

/// One configured registry. The runtime configuration is mapped to this.
#[derive(Clone, Debug)]
pub struct RegistrySettings {
    pub kind: RegistryKind,
    pub name: String,
    /// `http://` here is the only way to plain HTTP, except for loopback registries.
    pub url: Option<String>,
    /// Another host that may hand out tokens.
    pub auth_url: Option<String>,
    pub login: Option<String>,
    pub password: Option<SecretString>,
    pub token: Option<SecretString>,
    /// base64 of `login:password`, as in Docker's configuration file.
    pub auth: Option<SecretString>,
    /// Quay: the robot account `namespace+account`.
    pub namespace: Option<String>,
    pub account: Option<String>,
    pub verify: Verify,
    pub ca_file: Option<PathBuf>,
    pub client_cert: Option<PathBuf>,
    pub client_key: Option<PathBuf>,
}

impl RegistrySettings {
    pub fn new(kind: RegistryKind, name: &str) -> Self {
        Self {
            kind,
            name: name.to_ascii_lowercase(),
            url: None,
            auth_url: None,
            login: None,
            password: None,
            token: None,
            auth: None,
            namespace: None,
            account: None,
            verify: Verify::Certificate,
            ca_file: None,
            client_cert: None,
            client_key: None,
        }
    }

    /// All registries of the configuration.
    pub fn all(settings: &plimsoll_runtime::Settings) -> Result<Vec<Self>, SettingsError> {
        let instances = settings.registry.iter().flat_map(|(kind, instances)| {
            instances
                .iter()
                .map(move |(name, instance)| Self::from_configuration(kind, name, instance))
        });
        instances.collect()
    }

    /// `configuration` is the section `registry.<kind>.<name>`.
    pub fn from_configuration(
        kind: &str,
        name: &str,
        configuration: &plimsoll_runtime::settings::Registry,
    ) -> Result<Self, SettingsError> {
        let given = configuration.clone();
        let settings = Self {
            url: given.url,
            auth_url: given.authurl,
            login: given.login.or(given.username),
            password: given.password.map(|secret| secret.0),
            token: given.token.map(|secret| secret.0),
            auth: given.auth.map(|secret| secret.0),
            namespace: given.namespace,
            account: given.account,
            verify: if given.insecure {
                Verify::Nothing
            } else {
                Verify::Certificate
            },
            ca_file: given.cafile,
            client_cert: given.clientcert,
            client_key: given.clientkey,
            ..Self::new(kind.parse()?, name)
        };
        settings.base_url()?;
        settings.credentials()?;
        Ok(settings)
    }

    /// `type.name`.
    pub fn id(&self) -> String {
        format!("{}.{}", self.kind.as_str(), self.name)
    }

    /// Where the API is, without `/v2`.
    pub(super) fn base_url(&self) -> Result<Url, SettingsError> {
        let text = match (&self.url, self.kind.default_url()) {
            (Some(text), _) => text.as_str(),
            (None, Some(text)) => text,
            (None, None) => return Err(self.invalid("url is missing")),
        };
        let text = text.trim_end_matches('/');
        let text = text.strip_suffix("/v2").unwrap_or(text);
        let url = self.parse_url(text, "url")?;
        if url.query().is_some() || url.path() != "/" {
            return Err(self.invalid("url must have no path: https://host[:port]"));
        }
        Ok(url)
    }

    pub(super) fn token_host(&self) -> Result<Option<String>, SettingsError> {
        let text = self.auth_url.as_deref();
        match text.or(self.kind.default_auth_url()) {
            Some(text) => {
                let url = self.parse_url(text, "authurl")?;
                Ok(url.host_str().map(str::to_owned))
            }
            None => Ok(None),
        }
    }

    /// The registry as image references name it.
    pub(super) fn host(&self) -> Result<String, SettingsError> {
        Ok(host::canonical(&host::of_url(&self.base_url()?)))
    }

    /// `None`: anonymous.
    pub(super) fn credentials(&self) -> Result<Option<Credentials>, SettingsError> {
        if let Some(auth) = &self.auth {
            let pair = BASE64_STANDARD
                .decode(auth.expose_secret().trim())
                .ok()
                .and_then(|bytes| String::from_utf8(bytes).ok());
            let pair = pair.as_deref().and_then(|text| text.split_once(':'));
            let (login, password) =
                pair.ok_or_else(|| self.invalid("auth must be base64 of login:password"))?;
            return Ok(Some(Credentials::password(login, password)));
        }
        let Some(secret) = self.password.as_ref().or(self.token.as_ref()) else {
            return match self.login {
                Some(_) => Err(self.invalid("login is set, but neither password nor token")),
                None => Ok(None),
            };
        };
        let robot = match (&self.namespace, &self.account) {
            (Some(namespace), Some(account)) => Some(format!("{namespace}+{account}")),
            _ => None,
        };
        let login = match (self.kind, &self.login, robot) {
            (_, Some(login), _) => login.clone(),
            (RegistryKind::Quay, None, Some(robot)) => robot,
            // GitLab takes any name beside a personal, project or job token.
            (RegistryKind::Gitlab, None, _) => "oauth2".to_owned(),
            (RegistryKind::Quay, ..) => {
                return Err(self.invalid("namespace and account are missing"));
            }
            _ => return Err(self.invalid("login is missing")),
        };
        Ok(Some(Credentials::password(&login, secret.expose_secret())))
    }

    /// Reads the certificate files.
    pub(super) fn tls(&self) -> Result<Tls, SettingsError> {
        let client = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
            (None, None) => None,
            _ => return Err(self.invalid("clientcert and clientkey belong together")),
        };
        Tls::read(self.verify, self.ca_file.as_deref(), client).map_err(|why| self.invalid(&why))
    }

    /// As `GET /api/v1/registries` shows it: secrets are the word `[REDACTED]`.
    pub(super) fn masked(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                shown.insert(key.to_owned(), value);
            }
        };
        let text = |value: &Option<String>| value.as_ref().map(|v| json!(v));
        let secret = |value: &Option<SecretString>| value.as_ref().map(|_| json!(REDACTED));
        let path = |value: &Option<PathBuf>| {
            value
                .as_deref()
                .map(Path::display)
                .map(|p| json!(p.to_string()))
        };
        let url = self.url.as_deref().or(self.kind.default_url());
        put("url", url.map(|url| json!(url)));
        put("authurl", text(&self.auth_url));
        put("login", text(&self.login));
        put("password", secret(&self.password));
        put("token", secret(&self.token));
        put("auth", secret(&self.auth));
        put("namespace", text(&self.namespace));
        put("account", text(&self.account));
        put(
            "insecure",
            (self.verify == Verify::Nothing).then_some(json!(true)),
        );
        put("cafile", path(&self.ca_file));
        put("clientcert", path(&self.client_cert));
        put("clientkey", path(&self.client_key).map(|_| json!(REDACTED)));
        shown
    }

    fn parse_url(&self, text: &str, key: &str) -> Result<Url, SettingsError> {
        let text = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let url = Url::parse(&text).map_err(|e| self.invalid(&format!("{key} is no URL: {e}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(self.invalid(&format!("{key} must begin with https:// or http://")));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(self.invalid(&format!("{key} must not carry credentials; use login")));
        }
        Ok(url)
    }

    pub(super) fn invalid(&self, why: &str) -> SettingsError {
        SettingsError::Invalid(self.id(), why.to_owned())
    }
}

/// What we show to a registry.
#[derive(Clone, Debug)]
pub(super) enum Credentials {
    Password {
        login: String,
        password: SecretString,
    },
    /// An OAuth2 refresh token, as `docker login` keeps it for some registries.
    IdentityToken(SecretString),
}

impl Credentials {
    pub(super) fn password(login: &str, password: &str) -> Self {
        Self::Password {
            login: login.to_owned(),
            password: password.to_owned().into(),
        }
    }
}
