//! Registries: which tags a repository has, what they point at, what an image is.
//!
//! One question is asked once: [`Registries::tags_many`] and [`Registries::digests_many`] take all
//! of a watch cycle's questions, look them up together in the cache that all workers share, and ask
//! each registry only what nobody knows. Each registry has its own connections, budget, login and
//! breaker ([`upstream`]), so a failing one slows no other. Redis makes all this cheaper and is
//! never needed.
//!
//! Everything that comes from a registry is hostile: bodies are bounded, content is hashed,
//! redirects and token services are followed only where they may lead ([`plimsoll_outbound`], [`transport`],
//! [`challenge`]). See reliability.md 2.6.

mod answers;
mod auth;
mod budget;
mod challenge;
mod chosen;
mod docker_config;
mod error;
mod exchange;
mod host;
pub(crate) mod limits;
mod manifest;
mod platform;
mod settings;
mod shelf;
mod tag_page;
mod tags;
mod transport;
mod upstream;

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use plimsoll_app::{Queue, totals::Tally};
use plimsoll_domain::{
    component::{self, Component},
    image::{Digest, ImageRef, Scheme},
    registry::RegistryKind,
};
use plimsoll_outbound::Reach;
use plimsoll_runtime::Settings;
use secrecy::SecretString;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tracing::Instrument;

use answers::{Question, Round, by_registry};
use auth::Source;
use budget::Shared;
use chosen::Chosen;
use docker_config::DockerConfig;
use exchange::Exchange;
use settings::{Credentials, Login};
use shelf::Shelf;
use upstream::{Endpoint, Upstream};

pub use error::RegistryError;
pub use host::Repository;
pub use manifest::ImageDetails;
pub use platform::Platform;
pub use settings::{RegistrySettings, SettingsError, Transport};
pub use shelf::Dated;
pub use tags::{Extent, TagList};

/// How old an answer may be. Its age counts from the moment at which its fetch began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// A watch cycle: what any worker has seen lately will do.
    Cached { max_age: Duration },
    /// A person asked: the registry is asked after this time. Requests of the same time share one
    /// answer.
    NotOlderThan(DateTime<Utc>),
}

impl Freshness {
    fn accepts(self, begun: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        match self {
            Self::Cached { max_age } => {
                let age = (now - begun).to_std();
                // Begun in the future: the clock was set back, and nothing is known about the age.
                age.is_ok_and(|age| age <= max_age)
            }
            Self::NotOlderThan(time) => begun >= time,
        }
    }

    fn max_age(self, now: DateTime<Utc>) -> Duration {
        match self {
            Self::Cached { max_age } => max_age,
            Self::NotOlderThan(time) => (now - time).to_std().unwrap_or_default(),
        }
    }
}

/// The longest that a pull takes.
const PULL_TOTAL: Duration = crate::docker::deadline::PULL_TOTAL;

/// What the Docker engine needs to pull (`X-Registry-Auth`).
#[derive(Clone, Debug)]
pub struct PullAuth {
    pub username: Option<String>,
    pub password: Option<SecretString>,
    pub identity_token: Option<SecretString>,
    pub server_address: String,
}

/// What all registries have in common.
#[derive(Clone, Debug)]
pub struct Options {
    /// Docker's `config.json`. `None`: no logins from it.
    pub docker_config: Option<PathBuf>,
    /// The longest that one request takes, from one second to one minute.
    pub timeout: Duration,
    /// Where registries that the settings or the containers name may be.
    pub home: Reach,
    /// Where requests are counted.
    pub tally: Tally,
}

impl Options {
    /// For tests: what `docker login` left on this machine does not matter.
    pub fn without_logins() -> Self {
        Self {
            docker_config: None,
            timeout: plimsoll_outbound::TOTAL,
            home: Reach::HOME,
            tally: Tally::default(),
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            docker_config: DockerConfig::default_path(),
            timeout: plimsoll_outbound::TOTAL,
            home: Reach::HOME,
            tally: Tally::default(),
        }
    }
}

/// Results as they come: one for each distinct question. Dropping it ends the work on the rest.
pub type Answers<Q, A> = ReceiverStream<(Q, Result<Dated<A>, RegistryError>)>;

/// All registries that this worker can ask. Cheap to clone; one per process.
#[derive(Clone)]
pub struct Registries {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Vec<RegistrySettings>,
    chosen: Chosen,
    upstreams: Mutex<HashMap<String, Arc<Upstream>>>,
    docker: Arc<DockerConfig>,
    timeout: Duration,
    home: Reach,
    shared: Arc<Shared>,
    tally: Tally,
    tags: Shelf<Arc<TagList>>,
    digests: Shelf<Digest>,
}

/// All answers, whatever their age.
async fn undated<Q: Question>(
    answers: Answers<Q, Q::Answer>,
) -> HashMap<Q, Result<Q::Answer, RegistryError>> {
    let plain = answers.map(|(question, answer)| (question, answer.map(|dated| dated.answer)));
    plain.collect().await
}

impl Registries {
    /// The registries of the process' configuration.
    ///
    /// # Errors
    /// A setting that cannot be used: a certificate file that cannot be read, half a login.
    pub fn from_configuration(
        configuration: &Settings,
        queue: Option<Queue>,
    ) -> Result<Self, SettingsError> {
        let docker_config = match &configuration.docker.config {
            Some(directory) => Some(directory.join("config.json")),
            None => DockerConfig::default_path(),
        };
        let options = Options {
            docker_config,
            timeout: configuration.outbound.http_timeout_ms.0,
            home: plimsoll_runtime::reach(configuration),
            tally: Tally::default(),
        };
        Self::with_options(RegistrySettings::all(configuration)?, queue, options)
    }

    /// `settings` are the configured registries; any other one is reached anonymously or with what
    /// `docker login` left. Without `queue`, nothing is shared with other workers.
    ///
    /// # Errors
    /// As [`Registries::from_configuration`].
    pub fn new(
        settings: Vec<RegistrySettings>,
        queue: Option<Queue>,
    ) -> Result<Self, SettingsError> {
        Self::with_options(settings, queue, Options::default())
    }

    /// [`Registries::new`] with what is rarely changed.
    pub fn with_options(
        mut settings: Vec<RegistrySettings>,
        queue: Option<Queue>,
        options: Options,
    ) -> Result<Self, SettingsError> {
        settings.sort_by(|a, b| (a.kind.as_str(), &a.name).cmp(&(b.kind.as_str(), &b.name)));
        for one in &settings {
            one.tls()?;
        }
        let chosen = Chosen::new(&settings)?;
        Ok(Self {
            inner: Arc::new(Inner {
                settings,
                chosen,
                upstreams: Mutex::default(),
                docker: Arc::new(DockerConfig::new(options.docker_config)),
                timeout: options
                    .timeout
                    .clamp(Duration::from_secs(1), plimsoll_outbound::TOTAL),
                home: options.home,
                shared: Arc::new(Shared::new(queue)),
                tally: options.tally,
                tags: Shelf::new(),
                digests: Shelf::new(),
            }),
        })
    }

    /// The same for registries that only a request names: those that the settings do not are asked
    /// on public addresses, or not at all.
    ///
    /// # Errors
    /// As [`Registries::from_configuration`].
    pub fn for_strangers(&self) -> Result<Self, SettingsError> {
        let inner = &self.inner;
        Ok(Self {
            inner: Arc::new(Inner {
                settings: inner.settings.clone(),
                chosen: Chosen::new(&inner.settings)?,
                upstreams: Mutex::default(),
                docker: inner.docker.clone(),
                timeout: inner.timeout,
                home: Reach::INTERNET,
                shared: inner.shared.clone(),
                tally: inner.tally.clone(),
                tags: inner.tags.clone(),
                digests: inner.digests.clone(),
            }),
        })
    }

    /// The tags of one repository.
    pub async fn tags(
        &self,
        repository: &Repository,
        freshness: Freshness,
    ) -> Result<Arc<TagList>, RegistryError> {
        let results = self.answers(&self.inner.tags, [repository.clone()], freshness);
        self.only(repository, results).await
    }

    /// The tags of many repositories: one result for each distinct one, as they come.
    pub fn tags_stream(
        &self,
        repositories: impl IntoIterator<Item = Repository>,
        freshness: Freshness,
    ) -> Answers<Repository, Arc<TagList>> {
        self.answers(&self.inner.tags, repositories, freshness)
    }

    /// [`Registries::tags_stream`], when all are there. A registry that hangs holds this up for a
    /// minute or more; a watch cycle takes the stream.
    pub async fn tags_many(
        &self,
        repositories: impl IntoIterator<Item = Repository>,
        freshness: Freshness,
    ) -> HashMap<Repository, Result<Arc<TagList>, RegistryError>> {
        undated(self.tags_stream(repositories, freshness)).await
    }

    /// The digest that the image's tag points at; `latest` when it has none.
    pub async fn digest(
        &self,
        image: &ImageRef,
        freshness: Freshness,
    ) -> Result<Digest, RegistryError> {
        let results = self.answers(&self.inner.digests, [image.clone()], freshness);
        self.only(image, results).await
    }

    /// The digests of many images: one result for each distinct one, as they come.
    pub fn digests_stream(
        &self,
        images: impl IntoIterator<Item = ImageRef>,
        freshness: Freshness,
    ) -> Answers<ImageRef, Digest> {
        self.answers(&self.inner.digests, images, freshness)
    }

    /// [`Registries::digests_stream`], when all are there.
    pub async fn digests_many(
        &self,
        images: impl IntoIterator<Item = ImageRef>,
        freshness: Freshness,
    ) -> HashMap<ImageRef, Result<Digest, RegistryError>> {
        undated(self.digests_stream(images, freshness)).await
    }

    /// What `image` (by digest, or by tag) is for `platform`. Always asks the registry: a caller
    /// does this once per new candidate and keeps the result.
    pub async fn details(
        &self,
        image: &ImageRef,
        platform: &Platform,
    ) -> Result<ImageDetails, RegistryError> {
        let upstream = self.upstream(&host::canonical(image.registry()))?;
        manifest::details(&upstream, image, platform).await
    }

    /// What the Docker engine has to be given to pull `image`; `None` for anonymous. Exchanged
    /// credentials hold for as long as a pull may take.
    ///
    /// # Errors
    /// A configured login that cannot be had just now: an anonymous pull would tell less.
    pub async fn pull_auth(&self, image: &ImageRef) -> Result<Option<PullAuth>, RegistryError> {
        let registry = host::canonical(image.registry());
        let upstream = self.upstream(&registry)?;
        let server_address = if registry == host::HUB {
            host::HUB_LOGIN.to_owned()
        } else {
            registry
        };
        let credentials = upstream.credentials(PULL_TOTAL).await?;
        Ok(credentials.map(|credentials| match credentials {
            Credentials::Password { login, password } => PullAuth {
                username: Some(login),
                password: Some(password),
                identity_token: None,
                server_address,
            },
            Credentials::IdentityToken(token) => PullAuth {
                username: None,
                password: None,
                identity_token: Some(token),
                server_address,
            },
        }))
    }

    /// For `GET /api/v1/registries`: the configured registries, and the anonymous `public` ones
    /// that are there without settings, in the contract's order. Secrets are `[REDACTED]`.
    pub fn components(&self, agent: Option<&str>) -> Vec<Component> {
        let mut shown: BTreeMap<(&str, &str), Map<String, Value>> = RegistryKind::ALL
            .iter()
            .filter(|kind| kind.is_public())
            .map(|kind| ((kind.as_str(), "public"), Map::new()))
            .collect();
        for one in &self.inner.settings {
            shown.insert((one.kind.as_str(), &one.name), one.masked());
        }
        let mut components: Vec<Component> = shown
            .into_iter()
            .map(|((kind, name), configuration)| Component::new(agent, kind, name, configuration))
            .collect();
        component::sort(&mut components);
        components
    }

    /// The name (`type.name`) and API address (`…/v2`) under which a container's model shows the
    /// registry that serves `registry`, if it is configured.
    pub fn configured(&self, registry: &str) -> Option<(String, String)> {
        let registry = host::canonical(registry);
        let settings = self.inner.chosen.get(&registry)?;
        let base = settings.base_url().ok()?;
        let base = base.or_else(|| host::default_base(&registry))?;
        Some((settings.id(), format!("{}v2", base.as_str())))
    }

    /// The way to the image's registry, for programs that go there themselves.
    pub fn transport(&self, image: &ImageRef) -> Transport {
        let registry = host::canonical(image.registry());
        match self.inner.chosen.get(&registry) {
            Some(settings) => settings.transport(),
            None => Transport {
                plain: host::default_base(&registry).is_some_and(|url| url.scheme() == "http"),
                ..Transport::default()
            },
        }
    }

    /// The API address of a registry that is not configured, as it would be asked: plain HTTP on
    /// this very machine.
    pub fn default_url(&self, image: &ImageRef) -> String {
        let base = host::default_base(&host::canonical(image.registry()));
        let scheme = match base.as_ref().map(url::Url::scheme) {
            Some("http") => Scheme::Http,
            _ => Scheme::Https,
        };
        image.registry_url_over(scheme)
    }

    async fn only<Q: Question>(
        &self,
        question: &Q,
        mut results: Answers<Q, Q::Answer>,
    ) -> Result<Q::Answer, RegistryError> {
        match results.next().await {
            Some((_, outcome)) => outcome.map(|dated| dated.answer),
            None => Err(RegistryError::Unreachable {
                registry: question.registry().into(),
                detail: "the check was interrupted".to_owned(),
            }),
        }
    }

    /// Starts one round per registry. Dropping the stream ends them.
    fn answers<Q: Question>(
        &self,
        shelf: &Shelf<Q::Answer>,
        questions: impl IntoIterator<Item = Q>,
        freshness: Freshness,
    ) -> Answers<Q, Q::Answer> {
        let (results, receiver) = mpsc::channel(64);
        for (registry, questions) in by_registry(questions) {
            let results = results.clone();
            let upstream = self.upstream(&registry);
            let shelf = shelf.clone();
            let shared = self.inner.shared.clone();
            let tally = self.inner.tally.clone();
            let asking = async move {
                match upstream {
                    Ok(upstream) => {
                        let round = Round {
                            upstream,
                            shared,
                            shelf,
                            freshness,
                            results,
                            tally,
                        };
                        round.run(&questions).await;
                    }
                    Err(error) => {
                        for question in questions {
                            // A caller that has gone away needs no answer.
                            let _ = results.send((question, Err(error.clone()))).await;
                        }
                    }
                }
            };
            tokio::spawn(asking.in_current_span());
        }
        ReceiverStream::new(receiver)
    }

    fn upstream(&self, registry: &str) -> Result<Arc<Upstream>, RegistryError> {
        let inner = &self.inner;
        let mut upstreams = inner
            .upstreams
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(upstream) = upstreams.get(registry) {
            return Ok(upstream.clone());
        }
        let misconfigured = |detail: String| RegistryError::Misconfigured {
            registry: registry.into(),
            detail,
        };
        let unnamed = || misconfigured("its name is no host".to_owned());
        let endpoint = match inner.chosen.get(registry) {
            Some(settings) => self
                .endpoint(registry, settings)
                .map_err(|error| misconfigured(error.to_string()))?
                .ok_or_else(unnamed)?,
            None => Endpoint {
                registry: registry.to_owned(),
                component: unconfigured(registry),
                base: host::default_base(registry).ok_or_else(unnamed)?,
                token_host: None,
                login: Source::Docker(inner.docker.clone()),
                tls: plimsoll_outbound::Tls::default(),
                configured: false,
                home: inner.home,
            },
        };
        let upstream = Arc::new(Upstream::new(
            endpoint,
            inner.timeout,
            inner.shared.clone(),
            inner.tally.clone(),
        ));
        upstreams.insert(registry.to_owned(), upstream.clone());
        Ok(upstream)
    }

    /// `None`: `registry` is no host.
    fn endpoint(
        &self,
        registry: &str,
        settings: &RegistrySettings,
    ) -> Result<Option<Endpoint>, SettingsError> {
        let inner = &self.inner;
        let base = settings.base_url()?;
        let Some(base) = base.or_else(|| host::default_base(registry)) else {
            return Ok(None);
        };
        let tls = settings.tls()?;
        let service = settings.auth_url()?;
        let token_host = service
            .as_ref()
            .and_then(|url| url.host_str().map(str::to_owned));
        let login = match settings.credentials() {
            Login::Anonymous => Source::Docker(inner.docker.clone()),
            Login::Known(credentials) => Source::Known(credentials.clone()),
            Login::Exchanged(key) => Source::Exchanged(Box::new(Exchange::new(
                registry.into(),
                settings.id(),
                key.clone(),
                service,
                inner.home,
                inner.timeout,
                &tls,
            ))),
        };
        Ok(Some(Endpoint {
            registry: registry.to_owned(),
            component: (settings.kind.as_str(), settings.name.clone()),
            base,
            token_host,
            login,
            tls,
            configured: true,
            home: inner.home,
        }))
    }
}

/// Type and name under which requests to a registry without settings are counted: containers may
/// name any number of hosts.
fn unconfigured(registry: &str) -> (&'static str, String) {
    let kind = RegistryKind::ALL
        .iter()
        .find(|kind| kind.is_public() && kind.serves(registry));
    let type_ = kind.map_or("custom", |kind| kind.as_str());
    (type_, "public".to_owned())
}
