//! One registry: its connections, budget, login and breaker. Nothing here is shared with another
//! registry, so one that fails slows no other (reliability.md G12).

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::Utc;
use http::StatusCode;
use plimsoll_app::totals::{Tally, Total};
use plimsoll_outbound::{self as net, Line, Proxy, Reach, Tls};
use rand::Rng;
use tokio::sync::Semaphore;
use url::Url;

use super::{
    auth::{Auth, Source},
    budget::{Budget, Permit, Shared},
    error::RegistryError,
    host,
    limits::{self, Verdict},
    settings::Credentials,
    transport::{Ask, Failure, Reply, Wire, complaint},
};

const TRIES: u32 = 3;
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
/// Outages in a row after which a registry is left alone for a moment.
const BREAKS_AFTER: u32 = 3;
const BREAKS_FOR: Duration = Duration::from_secs(15);

/// How to reach one registry.
pub(super) struct Endpoint {
    /// As references name it.
    pub registry: String,
    /// Type and name of its settings.
    pub component: (&'static str, String),
    pub base: Url,
    pub token_host: Option<String>,
    pub login: Source,
    pub tls: Tls,
    /// The owner named it in the settings, so what it redirects to may be at home, too.
    pub configured: bool,
    /// Where what the owner named may be.
    pub home: Reach,
}

pub(super) struct Upstream {
    pub name: Arc<str>,
    pub base: Url,
    pub budget: Budget,
    auth: Auth,
    wire: Wire,
    connections: Semaphore,
    breaker: Mutex<Breaker>,
    shared: Arc<Shared>,
    component: (&'static str, String),
    tally: Tally,
}

#[derive(Default)]
struct Breaker {
    failures: u32,
    open_until: Option<Instant>,
    last: Option<Arc<str>>,
}

impl Upstream {
    pub(super) fn new(
        endpoint: Endpoint,
        timeout: Duration,
        shared: Arc<Shared>,
        tally: Tally,
    ) -> Self {
        let name: Arc<str> = endpoint.registry.as_str().into();
        let local = host::is_loopback(&endpoint.base);
        let proxy = if local {
            Proxy::Never
        } else {
            Proxy::FromEnvironment
        };
        let line = Line { proxy, timeout };
        let at_home = endpoint.configured
            || local
            || net::check_literal(&endpoint.base, Reach::INTERNET).is_err();
        let foreign_reach = if at_home {
            endpoint.home
        } else {
            Reach::INTERNET
        };
        Self {
            wire: Wire::new(
                name.clone(),
                endpoint.tls,
                line,
                endpoint.home,
                foreign_reach,
            ),
            auth: Auth::new(
                name.clone(),
                endpoint.base.clone(),
                endpoint.token_host,
                endpoint.login,
            ),
            budget: Budget::new(&endpoint.registry),
            base: endpoint.base,
            connections: Semaphore::new(net::CONNECTIONS),
            breaker: Mutex::default(),
            shared,
            name,
            component: endpoint.component,
            tally,
        }
    }

    /// See [`Auth::credentials`].
    ///
    /// # Errors
    /// An exchange of the configured key that brings none.
    pub(super) async fn credentials(
        &self,
        lasting: Duration,
    ) -> Result<Option<Credentials>, RegistryError> {
        match self.auth.credentials(lasting).await {
            Ok(credentials) => Ok(credentials),
            Err(Failure::Error(error)) => Err(error),
            Err(Failure::Limited(pause)) => Err(RegistryError::RateLimited {
                registry: self.name.clone(),
                until: self.budget.limited(&self.shared, pause).await,
            }),
        }
    }

    /// `/v2/<path>` of this registry.
    pub(super) fn url(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }

    /// Asks until there is an answer of success: waits for its turn, logs in, tries again when the
    /// registry stumbles. Everything else is an error in words.
    pub(super) async fn ask(&self, ask: &Ask<'_>) -> Result<Reply, RegistryError> {
        // Held while backing off, too: ten questions at a time find out that a registry is down.
        let _connection = self.connections.acquire().await;
        let mut backoff = FIRST_BACKOFF;
        let mut tries = 1;
        loop {
            let outcome = self.try_once(ask).await;
            match outcome {
                Err(error) if error.is_transient() && tries < TRIES => {
                    tracing::debug!(registry = %self.name, %error, tries, "trying again");
                    let jitter = rand::rng().random_range(0.5..1.5);
                    tokio::time::sleep(backoff.mul_f64(jitter)).await;
                    backoff *= 2;
                    tries += 1;
                }
                outcome => {
                    self.count(&outcome);
                    return outcome;
                }
            }
        }
    }

    async fn try_once(&self, ask: &Ask<'_>) -> Result<Reply, RegistryError> {
        self.check_breaker()?;
        let learning = self.auth.learn_alone().await;
        if learning.is_some() {
            // Whoever was first may have found a registry that does not answer.
            self.check_breaker()?;
        }
        let permit = match self.budget.admit(&self.shared).await {
            Ok(permit) => permit,
            Err(until) => {
                return Err(RegistryError::RateLimited {
                    registry: self.name.clone(),
                    until,
                });
            }
        };
        let began = Instant::now();
        let outcome = self.exchange(ask).await;
        self.count_response(began.elapsed());
        drop(learning);
        if permit == Permit::Probe && !matches!(outcome, Err(Failure::Limited(_))) {
            self.budget.lifted(&self.shared).await;
        }
        match outcome {
            Ok(reply) => {
                // The last request of a window is answered, and the next one waits.
                let verdict =
                    limits::verdict(&ask.method, reply.status, &reply.headers, Utc::now());
                if let Verdict::Limited(pause) = verdict {
                    self.budget.limited(&self.shared, pause).await;
                }
                Ok(reply)
            }
            Err(Failure::Limited(pause)) => {
                let until = self.budget.limited(&self.shared, pause).await;
                tracing::info!(registry = %self.name, %until, "the registry limits our requests");
                Err(RegistryError::RateLimited {
                    registry: self.name.clone(),
                    until,
                })
            }
            Err(Failure::Error(error)) => Err(error),
        }
    }

    /// One request, and a second one when the registry asks for a login that we have not shown.
    async fn exchange(&self, ask: &Ask<'_>) -> Result<Reply, Failure> {
        let mut renewed = false;
        loop {
            let authorization = self.auth.header(&self.wire, ask.repository).await?;
            let reply = self
                .wire
                .exchange(ask, authorization.as_ref().map(|shown| &shown.value))
                .await?;
            if reply.status == StatusCode::UNAUTHORIZED && !renewed {
                self.auth
                    .learn(&reply.headers, ask.repository, authorization.as_ref())
                    .await?;
                renewed = true;
                continue;
            }
            return self.judge(ask, reply).await;
        }
    }

    async fn judge(&self, ask: &Ask<'_>, reply: Reply) -> Result<Reply, Failure> {
        let registry = self.name.clone();
        let what = ask.what.clone();
        let status = reply.status;
        if status.is_success() {
            self.auth.learn_open();
            return Ok(reply);
        }
        let verdict = limits::verdict(&ask.method, status, &reply.headers, Utc::now());
        if let Verdict::Limited(pause) = verdict {
            return Err(Failure::Limited(pause));
        }
        let detail = complaint(&reply);
        let status = status.as_u16();
        if status == 404 {
            // It did not ask who we are.
            self.auth.learn_open();
        }
        Err(Failure::Error(match status {
            401 | 403 => RegistryError::Unauthorized {
                registry,
                what,
                detail: format!("{}{detail}", self.auth.why_refused().await),
            },
            404 | 410 => RegistryError::NotFound { registry, what },
            500.. => RegistryError::Server {
                registry,
                status,
                what,
                detail,
            },
            _ => RegistryError::Rejected {
                registry,
                status,
                what,
                detail,
            },
        }))
    }

    /// With the login that it may have asked for, as the one who waits sees it.
    fn count_response(&self, took: Duration) {
        let labels = [self.component.0, &self.component.1];
        self.tally.add(Total::RegistryResponses, &labels, 1.0);
        let seconds = took.as_secs_f64();
        self.tally
            .add(Total::RegistryResponseSeconds, &labels, seconds);
    }

    fn check_breaker(&self) -> Result<(), RegistryError> {
        let breaker = self.breaker();
        let Some(left) = breaker
            .open_until
            .and_then(|until| until.checked_duration_since(Instant::now()))
        else {
            return Ok(());
        };
        Err(RegistryError::Skipped {
            registry: self.name.clone(),
            until: Utc::now() + left,
            last: breaker.last.clone().unwrap_or_else(|| "".into()),
        })
    }

    fn count(&self, outcome: &Result<Reply, RegistryError>) {
        let mut breaker = self.breaker();
        match outcome {
            Err(RegistryError::Skipped { .. } | RegistryError::RateLimited { .. }) => {}
            Err(error) if error.is_outage() => {
                breaker.failures += 1;
                breaker.last = Some(error.to_string().into());
                if breaker.failures >= BREAKS_AFTER {
                    breaker.open_until = Some(Instant::now() + BREAKS_FOR);
                }
            }
            _ => *breaker = Breaker::default(),
        }
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
