//! What we show to one registry: nothing, a password, or a token fetched for it
//! (distribution specification, "token authentication").

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::Utc;
use http::{HeaderMap, HeaderValue, Method, header};
use plimsoll_outbound::{self as net, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as AsyncMutexGuard};
use url::Url;

use super::{
    challenge::{self, Challenge},
    docker_config::DockerConfig,
    error::RegistryError,
    exchange::Exchange,
    host,
    limits::{self, Verdict},
    settings::Credentials,
    transport::{Failure, Reply, Wire, complaint, is_html},
};

/// A token is used for at most this long, whatever it says.
const LONGEST: Duration = Duration::from_secs(300);
/// A token without a time is good for a minute (distribution specification).
const UNSAID: u64 = 60;
/// A token is renewed this long before its end.
const MARGIN: Duration = Duration::from_secs(10);
const MAX_TOKENS: usize = 10_000;
const MAX_ANSWER: usize = 1024 * 1024;

/// What the registry wants, as far as we know.
#[derive(Clone)]
enum Scheme {
    Open,
    Basic,
    Bearer { realm: Url, service: Option<String> },
}

/// Where the credentials come from.
pub(super) enum Source {
    /// What `docker login` left, if anything.
    Docker(Arc<DockerConfig>),
    Known(Credentials),
    Exchanged(Box<Exchange>),
}

pub(super) struct Auth {
    registry: Arc<str>,
    base: Url,
    /// The host of the settings' `authurl`.
    token_host: Option<String>,
    login: Source,
    scheme: RwLock<Option<Scheme>>,
    learning: AsyncMutex<()>,
    tokens: Mutex<HashMap<String, (HeaderValue, Instant)>>,
}

/// What a request carries, and the credentials in it where it is they.
pub(super) struct Shown {
    pub value: HeaderValue,
    credentials: Option<Credentials>,
}

impl Shown {
    const fn token(value: HeaderValue) -> Self {
        Self {
            value,
            credentials: None,
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<SecretString>,
    access_token: Option<SecretString>,
    expires_in: Option<u64>,
}

impl Auth {
    pub(super) fn new(
        registry: Arc<str>,
        base: Url,
        token_host: Option<String>,
        login: Source,
    ) -> Self {
        Self {
            registry,
            base,
            token_host,
            login,
            scheme: RwLock::new(None),
            learning: AsyncMutex::new(()),
            tokens: Mutex::default(),
        }
    }

    /// Credentials that hold for `lasting`, if they are of a kind that ends. `None`: anonymous.
    pub(super) async fn credentials(
        &self,
        lasting: Duration,
    ) -> Result<Option<Credentials>, Failure> {
        match &self.login {
            Source::Docker(docker) => Ok(docker.find(&self.registry).await),
            Source::Known(credentials) => Ok(Some(credentials.clone())),
            Source::Exchanged(exchange) => exchange.credentials(lasting).await.map(Some),
        }
    }

    /// The other side refuses `shown`. Whether other credentials may be had in their place.
    async fn renew(&self, shown: Option<&Credentials>) -> bool {
        match (&self.login, shown) {
            (Source::Exchanged(exchange), Some(shown)) => exchange.discard(shown).await,
            _ => false,
        }
    }

    /// While nobody knows what the registry wants, one request finds out and the others wait, so
    /// that ten connections do not collect ten refusals. `None`: it is known.
    pub(super) async fn learn_alone(&self) -> Option<AsyncMutexGuard<'_, ()>> {
        if self.scheme().is_some() {
            return None;
        }
        let guard = self.learning.lock().await;
        self.scheme().is_none().then_some(guard)
    }

    /// The registry answered without a challenge.
    pub(super) fn learn_open(&self) {
        let mut scheme = self.scheme.write().unwrap_or_else(PoisonError::into_inner);
        scheme.get_or_insert(Scheme::Open);
    }

    /// The registry answered 401 to `shown`. `Ok`: there is something (new) to show for
    /// `repository`.
    pub(super) async fn learn(
        &self,
        headers: &HeaderMap,
        repository: &str,
        shown: Option<&Shown>,
    ) -> Result<(), RegistryError> {
        let scheme = match challenge::parse(headers) {
            Some(Challenge::Basic) => Scheme::Basic,
            Some(Challenge::Bearer { realm, service }) => Scheme::Bearer {
                realm: challenge::check_realm(&self.base, &realm, self.token_host.as_deref())
                    .map_err(|detail| RegistryError::Untrusted {
                        registry: self.registry.clone(),
                        detail,
                    })?,
                service,
            },
            None => {
                return Err(self.refused(
                    repository,
                    "it asks for a login of a kind that Plimsoll does not know",
                ));
            }
        };
        self.tokens().remove(repository);
        self.renew(shown.and_then(|shown| shown.credentials.as_ref()))
            .await;
        *self.scheme.write().unwrap_or_else(PoisonError::into_inner) = Some(scheme);
        Ok(())
    }

    /// What to show for reading `repository`.
    pub(super) async fn header(
        &self,
        wire: &Wire,
        repository: &str,
    ) -> Result<Option<Shown>, Failure> {
        match self.scheme() {
            None | Some(Scheme::Open) => Ok(None),
            Some(Scheme::Basic) => match self.credentials(Duration::ZERO).await? {
                Some(Credentials::Password { login, password }) => Ok(Some(Shown {
                    value: basic(&login, &password),
                    credentials: Some(Credentials::Password { login, password }),
                })),
                Some(Credentials::IdentityToken(_)) => Err(self
                    .refused(
                        repository,
                        "it wants a password, but Docker's configuration has only a token for it",
                    )
                    .into()),
                None => Err(self.refused(repository, &self.please_log_in()).into()),
            },
            Some(Scheme::Bearer { realm, service }) => {
                let known = self.tokens().get(repository).cloned();
                if let Some((token, until)) = known
                    && Instant::now() < until
                {
                    return Ok(Some(Shown::token(token)));
                }
                let (token, lasts) = self
                    .fetch(wire, &realm, service.as_deref(), repository)
                    .await?;
                let mut tokens = self.tokens();
                if tokens.len() >= MAX_TOKENS {
                    let now = Instant::now();
                    tokens.retain(|_, (_, until)| now < *until);
                }
                if tokens.len() < MAX_TOKENS {
                    let until = Instant::now() + lasts.saturating_sub(MARGIN);
                    tokens.insert(repository.to_owned(), (token.clone(), until));
                }
                Ok(Some(Shown::token(token)))
            }
        }
    }

    async fn fetch(
        &self,
        wire: &Wire,
        realm: &Url,
        service: Option<&str>,
        repository: &str,
    ) -> Result<(HeaderValue, Duration), Failure> {
        let credentials = self.credentials(Duration::ZERO).await?;
        let shown = credentials.as_ref();
        match self.ask_for(wire, realm, service, repository, shown).await {
            // Exchanged credentials may have been withdrawn before their end.
            Err(Failure::Error(RegistryError::Unauthorized { .. })) if self.renew(shown).await => {
                let renewed = self.credentials(Duration::ZERO).await?;
                self.ask_for(wire, realm, service, repository, renewed.as_ref())
                    .await
            }
            outcome => outcome,
        }
    }

    async fn ask_for(
        &self,
        wire: &Wire,
        realm: &Url,
        service: Option<&str>,
        repository: &str,
        credentials: Option<&Credentials>,
    ) -> Result<(HeaderValue, Duration), Failure> {
        let scope = format!("repository:{repository}:pull");
        let mut parameters = vec![("scope", scope.as_str())];
        parameters.extend(service.map(|service| ("service", service)));
        let mut url = realm.clone();
        let mut request = match credentials {
            Some(Credentials::IdentityToken(token)) => {
                parameters.extend([
                    ("grant_type", "refresh_token"),
                    ("client_id", "plimsoll"),
                    ("refresh_token", token.expose_secret()),
                ]);
                let form = url::form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(&parameters)
                    .finish();
                let mut request = Request::new(Method::POST, url);
                *request.body_mut() = Some(form.into());
                request.headers_mut().insert(
                    header::CONTENT_TYPE,
                    HeaderValue::from_static("application/x-www-form-urlencoded"),
                );
                request
            }
            other => {
                url.query_pairs_mut().extend_pairs(&parameters);
                let mut request = Request::new(Method::GET, url);
                if let Some(Credentials::Password { login, password }) = other {
                    request
                        .headers_mut()
                        .insert(header::AUTHORIZATION, basic(login, password));
                }
                request
            }
        };
        request
            .headers_mut()
            .insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        net::check_literal(realm, wire.home())
            .map_err(|denied| wire.untrusted(denied.to_string()))?;
        let what = format!("a token for {repository}");
        let response = wire.send(wire.own(realm)?, request, &what).await?;
        let status = response.status();
        let headers = response.headers().clone();
        let body = wire.body(response, MAX_ANSWER, &what).await?;
        let reply = Reply {
            status,
            headers,
            body,
        };
        let verdict = limits::verdict(&Method::GET, status, &reply.headers, Utc::now());
        if let (false, Verdict::Limited(pause)) = (status.is_success(), verdict) {
            return Err(Failure::Limited(pause));
        }
        if status.is_server_error() {
            return Err(Failure::Error(RegistryError::Server {
                registry: self.registry.clone(),
                status: status.as_u16(),
                detail: complaint(&reply),
                what,
            }));
        }
        if matches!(status.as_u16(), 400 | 401 | 403) {
            let why = match credentials {
                Some(_) => "its token service refuses our login; check the credentials".to_owned(),
                None => self.please_log_in(),
            };
            let detail = format!("{why}{}", complaint(&reply));
            return Err(self.refused(repository, &detail).into());
        }
        let malformed = |detail: &str| {
            Failure::Error(RegistryError::Malformed {
                registry: self.registry.clone(),
                what: what.clone(),
                detail: detail.to_owned(),
            })
        };
        if !status.is_success() {
            return Err(malformed(&format!("its token service answered {status}")));
        }
        if is_html(&reply) {
            return Err(malformed("its token service sent a web page"));
        }
        let answer: TokenAnswer = serde_json::from_slice(&reply.body)
            .map_err(|_| malformed("its token service sent no token"))?;
        let token = answer
            .token
            .filter(|token| !token.expose_secret().is_empty())
            .or(answer.access_token)
            .ok_or_else(|| malformed("its token service sent no token"))?;
        let lasts = Duration::from_secs(answer.expires_in.unwrap_or(UNSAID)).min(LONGEST);
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
            .map_err(|_| malformed("its token is unusable"))?;
        value.set_sensitive(true);
        Ok((value, lasts))
    }

    pub(super) fn refused(&self, repository: &str, detail: &str) -> RegistryError {
        RegistryError::Unauthorized {
            registry: self.registry.clone(),
            what: repository.to_owned(),
            detail: detail.to_owned(),
        }
    }

    /// Why a registry that was shown what it asked for may still say no.
    pub(super) async fn why_refused(&self) -> String {
        let anonymous = match &self.login {
            Source::Docker(docker) => docker.find(&self.registry).await.is_none(),
            Source::Known(_) | Source::Exchanged(_) => false,
        };
        match anonymous {
            false => "our login may not read it; check the credentials and their rights".into(),
            true => self.please_log_in(),
        }
    }

    fn please_log_in(&self) -> String {
        if &*self.registry == host::HUB {
            return "it does not exist, or it is private: configure a login (DD_REGISTRY_HUB_…), or \
                    run docker login"
                .to_owned();
        }
        format!(
            "it does not exist, or it is private: configure a login (DD_REGISTRY_…), or run docker \
             login {}",
            self.registry
        )
    }

    fn scheme(&self) -> Option<Scheme> {
        let scheme = self.scheme.read().unwrap_or_else(PoisonError::into_inner);
        scheme.clone()
    }

    fn tokens(&self) -> std::sync::MutexGuard<'_, HashMap<String, (HeaderValue, Instant)>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn basic(login: &str, password: &SecretString) -> HeaderValue {
    let pair = format!("{login}:{}", password.expose_secret());
    let text = format!("Basic {}", BASE64_STANDARD.encode(pair));
    // base64 is always a valid header value.
    let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}
