//! A configured registry, as `DD_REGISTRY_<TYPE>_<NAME>_<KEY>` describes it
//! (reference/drydock.md section 3, "Registries").

use std::path::{Path, PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use plimsoll_domain::{
    redact::REDACTED,
    registry::{Form, RegistryKind},
};
use plimsoll_outbound::{Tls, Verify};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use url::Url;

use super::{exchange::Key, host};

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
    url: Option<String>,
    /// Another host that may hand out tokens, or the service that exchanges a key for one.
    auth_url: Option<String>,
    login: Login,
    /// What was given for the login, as it is shown.
    shown: Vec<(&'static str, Value)>,
    verify: Verify,
    ca_file: Option<PathBuf>,
    client_cert: Option<PathBuf>,
    client_key: Option<PathBuf>,
}

/// Who we are at a registry.
#[derive(Clone, Debug)]
pub(super) enum Login {
    Anonymous,
    Known(Credentials),
    /// A cloud's key, which the cloud exchanges for credentials that last some hours.
    Exchanged(Key),
}

/// The way to a registry, as its settings have it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Without TLS.
    pub plain: bool,
    /// Any certificate will do.
    pub insecure: bool,
    /// Certificate authority, PEM.
    pub ca_file: Option<PathBuf>,
    /// Our certificate and its key, PEM.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl RegistrySettings {
    /// All registries of the configuration.
    pub fn all(settings: &plimsoll_runtime::Settings) -> Result<Vec<Self>, SettingsError> {
        let instances = settings.registry.iter().flat_map(|(kind, instances)| {
            instances
                .iter()
                .map(move |(name, instance)| Self::from_configuration(kind, name, instance))
        });
        instances.collect()
    }

    /// `given` is the section `registry.<kind>.<name>`.
    pub fn from_configuration(
        kind: &str,
        name: &str,
        given: &plimsoll_runtime::settings::Registry,
    ) -> Result<Self, SettingsError> {
        let kind: RegistryKind = kind
            .parse()
            .map_err(|()| SettingsError::Kind(kind.to_owned()))?;
        let name = name.to_ascii_lowercase();
        let id = format!("{}.{name}", kind.as_str());
        let keys = given.credential_keys();
        let form = kind
            .form(&keys)
            .map_err(|problem| SettingsError::Invalid(id, problem.to_string()))?;
        let mut settings = Self {
            kind,
            name,
            url: given.url.clone(),
            auth_url: given.authurl.clone(),
            login: Login::Anonymous,
            shown: shown(given, &keys),
            verify: if given.insecure {
                Verify::Nothing
            } else {
                Verify::Certificate
            },
            ca_file: given.cafile.clone(),
            client_cert: given.clientcert.clone(),
            client_key: given.clientkey.clone(),
        };
        if let Some(form) = form {
            settings.login = settings.login(form, given)?;
        }
        if kind.needs_url() && settings.url.is_none() {
            return Err(settings.invalid("url is missing"));
        }
        settings.base_url()?;
        settings.auth_url()?;
        Ok(settings)
    }

    /// The settings of `form` are there: [`RegistryKind::form`] has looked.
    fn login(
        &self,
        form: Form,
        given: &plimsoll_runtime::settings::Registry,
    ) -> Result<Login, SettingsError> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let secret = |value: &Option<plimsoll_runtime::Secret>| {
            value
                .as_ref()
                .map_or_else(SecretString::default, |s| s.0.clone())
        };
        let known = |login: String, password: SecretString| {
            Ok(Login::Known(Credentials::Password { login, password }))
        };
        for (key, value) in [
            ("password", &given.password),
            ("token", &given.token),
            ("apikey", &given.apikey),
            ("clientsecret", &given.clientsecret),
            ("accesskeyid", &given.accesskeyid),
            ("secretaccesskey", &given.secretaccesskey),
        ] {
            if value
                .as_ref()
                .is_some_and(plimsoll_runtime::Secret::is_empty)
            {
                return Err(self.invalid(&format!("{key} is empty")));
            }
        }
        match form {
            Form::Password => known(text(&given.login), secret(&given.password)),
            Form::LoginToken => known(text(&given.login), secret(&given.token)),
            Form::UserToken => known(text(&given.username), secret(&given.token)),
            Form::Token(login) => known(login.to_owned(), secret(&given.token)),
            Form::ApiKey(login) => known(login.to_owned(), secret(&given.apikey)),
            Form::Client => known(text(&given.clientid), secret(&given.clientsecret)),
            Form::Robot => {
                let robot = format!("{}+{}", text(&given.namespace), text(&given.account));
                known(robot, secret(&given.token))
            }
            Form::Auth => {
                let pair = BASE64_STANDARD
                    .decode(secret(&given.auth).expose_secret().trim())
                    .ok()
                    .and_then(|bytes| String::from_utf8(bytes).ok());
                let pair = pair.as_deref().and_then(|text| text.split_once(':'));
                let (login, password) =
                    pair.ok_or_else(|| self.invalid("auth must be base64 of login:password"))?;
                known(login.to_owned(), password.into())
            }
            Form::AwsKey => Key::aws(
                secret(&given.accesskeyid),
                secret(&given.secretaccesskey),
                &text(&given.region),
            )
            .map(Login::Exchanged)
            .map_err(|problem| self.invalid(problem)),
            Form::GoogleKey => Key::google(&text(&given.clientemail), &secret(&given.privatekey))
                .map(Login::Exchanged)
                .map_err(|problem| self.invalid(problem)),
        }
    }

    /// `type.name`.
    pub fn id(&self) -> String {
        format!("{}.{}", self.kind.as_str(), self.name)
    }

    /// Where the API is, without `/v2`, if the settings say so.
    pub(super) fn base_url(&self) -> Result<Option<Url>, SettingsError> {
        let Some(text) = &self.url else {
            return Ok(None);
        };
        let text = text.trim_end_matches('/');
        let text = text.strip_suffix("/v2").unwrap_or(text);
        let url = self.parse_url(text, "url")?;
        if url.query().is_some() || url.path() != "/" {
            return Err(self.invalid("url must have no path: https://host[:port]"));
        }
        Ok(Some(url))
    }

    pub(super) fn auth_url(&self) -> Result<Option<Url>, SettingsError> {
        let text = self.auth_url.as_deref();
        text.map(|text| self.parse_url(text, "authurl")).transpose()
    }

    /// The registry as image references name it; `None` for all hosts of its type.
    pub(super) fn host(&self) -> Result<Option<String>, SettingsError> {
        let url = self.base_url()?;
        Ok(url.map(|url| host::canonical(&host::of_url(&url))))
    }

    pub(super) const fn credentials(&self) -> &Login {
        &self.login
    }

    pub(super) const fn is_anonymous(&self) -> bool {
        matches!(self.login, Login::Anonymous)
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

    /// What programs that go to the registry themselves have to know of the way there.
    pub(super) fn transport(&self) -> Transport {
        Transport {
            plain: matches!(self.base_url(), Ok(Some(url)) if url.scheme() == "http"),
            insecure: self.verify == Verify::Nothing,
            ca_file: self.ca_file.clone(),
            client: self.client_cert.clone().zip(self.client_key.clone()),
        }
    }

    /// As `GET /api/v1/registries` shows it: secrets are the word `[REDACTED]`.
    pub(super) fn masked(&self) -> Map<String, Value> {
        let mut shown = Map::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                shown.insert(key.to_owned(), value);
            }
        };
        let path = |value: &Option<PathBuf>| {
            value
                .as_deref()
                .map(Path::display)
                .map(|p| json!(p.to_string()))
        };
        let url = self.url.as_deref().or(self.kind.url());
        put("url", url.map(|url| json!(url)));
        put("authurl", self.auth_url.as_ref().map(|url| json!(url)));
        for (key, value) in &self.shown {
            put(key, Some(value.clone()));
        }
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

/// The settings `keys` as they are shown: those that are no secrets, and that the others are set.
fn shown(
    given: &plimsoll_runtime::settings::Registry,
    keys: &[&'static str],
) -> Vec<(&'static str, Value)> {
    let show = |key: &&'static str| {
        let plain = match *key {
            "login" => &given.login,
            "username" => &given.username,
            "namespace" => &given.namespace,
            "account" => &given.account,
            "clientid" => &given.clientid,
            "region" => &given.region,
            "clientemail" => &given.clientemail,
            _ => &None,
        };
        let value = plain.as_deref().unwrap_or(REDACTED);
        (*key, json!(value))
    };
    keys.iter().map(show).collect()
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
