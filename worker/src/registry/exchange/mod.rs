//! Clouds that do not take a key at their registries: it is exchanged for a login that lasts some
//! hours, which is kept until shortly before its end.

mod aws;
mod google;
mod sigv4;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::StatusCode;
use plimsoll_outbound::{Answer, Outbound, OutboundError, Reach, Tls};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Mutex;
use url::Url;

use super::{
    error::{RegistryError, excerpt},
    settings::Credentials,
    transport::Failure,
};

/// A login is renewed this long before its end.
const MARGIN: Duration = Duration::from_secs(60);
/// A refused key is not shown again for this time: many repositories ask with the same one.
const REFUSED: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 64 * 1024;

/// A key of the settings.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Aws(Arc<aws::Key>),
    Google(Arc<google::Key>),
}

impl Key {
    /// # Errors
    /// Which setting cannot be used, and why.
    pub(super) fn aws(
        id: SecretString,
        secret: SecretString,
        region: &str,
    ) -> Result<Self, &'static str> {
        aws::Key::new(id, secret, region).map(|key| Self::Aws(Arc::new(key)))
    }

    /// # Errors
    /// As [`Key::aws`].
    pub(super) fn google(email: &str, private_key: &SecretString) -> Result<Self, &'static str> {
        google::Key::new(email, private_key).map(|key| Self::Google(Arc::new(key)))
    }

    /// Whether the key is meant for this host before others that serve it, too.
    pub(super) fn is_nearest(&self, registry: &str) -> bool {
        match self {
            Self::Aws(key) => aws::region_of(registry) == Some(key.region()),
            Self::Google(_) => false,
        }
    }
}

/// The login of one registry that comes from a key.
pub(super) struct Exchange {
    registry: Arc<str>,
    /// `type.name` of the settings, for messages.
    id: String,
    key: Key,
    /// Instead of the cloud's own address.
    service: Option<Url>,
    out: Outbound,
    /// Held during an exchange: whoever else needs the login waits for that one.
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    granted: Option<Granted>,
    refused: Option<(Instant, RegistryError)>,
}

#[derive(Clone)]
struct Granted {
    credentials: Credentials,
    begun: Instant,
    lasts: Duration,
}

impl Granted {
    fn left(&self) -> Duration {
        self.lasts.saturating_sub(self.begun.elapsed())
    }
}

/// How an exchange ended without a login.
enum Denied {
    /// The key is no good for this; what was said.
    Refused(String),
    /// Asked too often.
    Limited,
    /// The service is in trouble.
    Server(u16, String),
    /// An answer that is none.
    Malformed(&'static str),
}

impl Exchange {
    pub(super) fn new(
        registry: Arc<str>,
        id: String,
        key: Key,
        service: Option<Url>,
        reach: Reach,
        timeout: Duration,
        tls: &Tls,
    ) -> Self {
        Self {
            registry,
            id,
            key,
            service,
            out: Outbound::new(reach, timeout, tls.for_strangers()),
            state: Mutex::default(),
        }
    }

    /// A login that holds for `lasting` more, if the service gives such at all.
    pub(super) async fn credentials(&self, lasting: Duration) -> Result<Credentials, Failure> {
        let mut state = self.state.lock().await;
        if let Some(granted) = &state.granted {
            // Half of its life is always enough: a longer one than that was never to be had.
            let needed = lasting.min(granted.lasts / 2).max(MARGIN);
            if granted.left() > needed {
                return Ok(granted.credentials.clone());
            }
        }
        if let Some((at, error)) = &state.refused
            && at.elapsed() < REFUSED
        {
            return Err(Failure::Error(error.clone()));
        }
        match self.exchange().await {
            Ok(granted) => {
                let credentials = granted.credentials.clone();
                *state = State {
                    granted: Some(granted),
                    refused: None,
                };
                Ok(credentials)
            }
            Err(Failure::Error(error @ RegistryError::Login { .. })) => {
                state.refused = Some((Instant::now(), error.clone()));
                Err(Failure::Error(error))
            }
            Err(failure) => Err(failure),
        }
    }

    /// The registry refuses `shown`: the next question gets a new login. Whether there was one to
    /// forget; somebody else may have renewed it already.
    pub(super) async fn discard(&self, shown: &Credentials) -> bool {
        let mut state = self.state.lock().await;
        match &state.granted {
            Some(granted) if granted.credentials.is(shown) => {
                state.granted = None;
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    async fn exchange(&self) -> Result<Granted, Failure> {
        let begun = Instant::now();
        let now = chrono::Utc::now();
        let service = self.service.as_ref();
        let outcome = match &self.key {
            Key::Aws(key) => key.exchange(&self.out, service, &self.registry, now).await,
            Key::Google(key) => key.exchange(&self.out, service, now).await,
        };
        let registry = self.registry.clone();
        let (host, outcome) = outcome.map_err(|error| self.unanswered(&error))?;
        match outcome {
            Ok((credentials, lasts)) => Ok(Granted {
                credentials,
                begun,
                lasts,
            }),
            Err(Denied::Limited) => Err(Failure::Limited(None)),
            Err(Denied::Server(status, detail)) => Err(Failure::Error(RegistryError::Server {
                registry,
                status,
                what: format!("the exchange of the key of {} at {host}", self.id),
                detail,
            })),
            Err(Denied::Malformed(detail)) => Err(Failure::Error(RegistryError::Malformed {
                registry,
                what: format!("the exchange of the key of {} at {host}", self.id),
                detail: detail.to_owned(),
            })),
            Err(Denied::Refused(said)) => {
                let prefix = self.id.to_ascii_uppercase().replace('.', "_");
                let advice = match &self.key {
                    Key::Aws(_) => format!(
                        "check DD_REGISTRY_{prefix}_ACCESSKEYID and _SECRETACCESSKEY, that the key \
                         may call {}, and the clock of this machine",
                        aws::action(&self.registry)
                    ),
                    Key::Google(_) => format!(
                        "check DD_REGISTRY_{prefix}_CLIENTEMAIL and _PRIVATEKEY, that the account \
                         still has this key, and the clock of this machine"
                    ),
                };
                Err(Failure::Error(RegistryError::Login {
                    registry,
                    detail: format!("{host} refuses the key of {}: {said}; {advice}", self.id),
                }))
            }
        }
    }

    fn unanswered(&self, error: &OutboundError) -> Failure {
        let registry = self.registry.clone();
        let detail = format!("the exchange of the key of {}: {error}", self.id);
        Failure::Error(match error {
            OutboundError::Slow { .. } => RegistryError::Slow { registry, detail },
            OutboundError::Unreachable { .. } => RegistryError::Unreachable { registry, detail },
            OutboundError::Refused { .. }
            | OutboundError::TooLarge { .. }
            | OutboundError::Misconfigured(_) => RegistryError::Login { registry, detail },
        })
    }
}

/// What every service says in the same way: too often, in trouble. `said` is the refusal.
fn denied(answer: &Answer, said: Option<String>) -> Denied {
    let said = said.map_or_else(|| format!("it answered {}", answer.status), |s| excerpt(&s));
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => Denied::Limited,
        status if status.is_server_error() => Denied::Server(status.as_u16(), format!(": {said}")),
        status if status.is_client_error() => Denied::Refused(said),
        _ => Denied::Malformed("it is no answer to an exchange"),
    }
}

/// For comparisons with what was shown.
impl Credentials {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Password { password: a, .. }, Self::Password { password: b, .. })
            | (Self::IdentityToken(a), Self::IdentityToken(b)) => {
                a.expose_secret() == b.expose_secret()
            }
            _ => false,
        }
    }
}
