//! Triggers that notify: one file for each type behind one trait, and the lanes that deliver what
//! is in the outbox. To add a type: its settings in `core/runtime`, its file here, its line in
//! [`build`].

mod apprise;
mod command;
mod discord;
mod flat;
mod googlechat;
mod gotify;
mod http;
mod ifttt;
mod kafka;
mod lane;
mod matrix;
mod mattermost;
mod mock;
mod mqtt;
mod ntfy;
mod pushover;
mod rocketchat;
mod slack;
mod smtp;
mod teams;
mod telegram;
pub(crate) mod web;

use std::{fmt, sync::Arc, time::Duration};

use ::http::StatusCode;
use futures::future::BoxFuture;
use plimsoll_app::App;
use plimsoll_domain::message::{Templates, Text};
use plimsoll_outbound::Reach;
use plimsoll_runtime::settings::notifiers::{ConfiguredNotifier, NotifierKind, NotifyOptions};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use url::Url;
use uuid::Uuid;

/// What is to be said.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The same for every attempt, so that services that can tell do not show it twice.
    pub id: Uuid,
    /// A rule's id, or `run`.
    pub event: String,
    pub text: Text,
    /// What it is about, as clients see it; several for a batch or digest. For an agent, what is
    /// known of it.
    pub subjects: Vec<Value>,
    pub many: bool,
}

impl Outgoing {
    /// For services that take data: the container, or the list of them.
    fn data(&self) -> Value {
        match self.many {
            true => Value::Array(self.subjects.clone()),
            false => self.subjects.first().cloned().unwrap_or_default(),
        }
    }

    fn first(&self) -> &Value {
        self.subjects.first().unwrap_or(&Value::Null)
    }
}

/// Why something was not delivered, without a secret in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub why: String,
    /// What an HTTP service answered.
    pub status: Option<StatusCode>,
    /// How long the service wants to be left alone.
    pub again_after: Option<Duration>,
    /// Whether the same message would be refused again, however often it is sent.
    pub is_final: bool,
}

impl Failure {
    pub fn new(why: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            status: None,
            again_after: None,
            is_final: false,
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(_: serde_json::Error) -> Self {
        Self::new("the message has no JSON form")
    }
}

/// What the service calls the message, where it can be taken back by that.
pub type Sent = Result<Option<Value>, Failure>;

/// One type of service.
pub trait Notifier: Send + Sync {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent>;

    /// Takes back what [`send`](Self::send) gave a receipt for.
    fn take_back<'a>(&'a self, _receipt: &'a Value) -> BoxFuture<'a, Sent> {
        Box::pin(async { Ok(None) })
    }

    /// The longest that one message may take.
    fn patience(&self) -> Duration {
        Duration::from_secs(40)
    }

    /// Follows the inventory for as long as the worker runs, for services that mirror it.
    fn mirror(self: Arc<Self>, _app: App, _agent: String) -> Option<BoxFuture<'static, ()>> {
        None
    }
}

/// A trigger that can be used.
#[derive(Clone)]
pub struct Trigger {
    /// Empty for this installation's own.
    pub agent: String,
    pub type_: &'static str,
    pub name: String,
    notifier: Arc<dyn Notifier>,
    templates: Templates,
    /// Whether messages are taken back once they are not true any more.
    takes_back: bool,
}

impl fmt::Debug for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.type_, self.name)
    }
}

impl Trigger {
    /// # Errors
    /// What about the configuration cannot be used, without secrets.
    pub fn new(agent: &str, configured: &ConfiguredNotifier, reach: Reach) -> Result<Self, String> {
        let notifier = build(configured, reach)
            .map_err(|why| format!("the trigger {} cannot be used: {why}", configured.id()))?;
        Ok(Self {
            agent: agent.to_owned(),
            type_: configured.type_,
            name: configured.name.clone(),
            notifier,
            templates: templates(&configured.common),
            takes_back: configured.common.resolvenotifications,
        })
    }

    pub fn notifier(&self) -> &dyn Notifier {
        &*self.notifier
    }
}

/// Delivers for every trigger until `shutdown`. Each has a lane of its own: one that is slow,
/// broken or hostile delays nobody else.
pub async fn run(app: App, triggers: Vec<Trigger>, shutdown: CancellationToken) {
    let mut lanes = JoinSet::new();
    let mut mirrors = JoinSet::new();
    for trigger in triggers {
        let mirror = trigger.notifier.clone();
        if let Some(mirror) = mirror.mirror(app.clone(), trigger.agent.clone()) {
            mirrors.spawn(mirror);
        }
        lanes.spawn(lane::run(app.clone(), trigger, shutdown.clone()));
    }
    while let Some(ended) = lanes.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a trigger's deliveries ended badly");
        }
    }
}

fn build(configured: &ConfiguredNotifier, reach: Reach) -> Result<Arc<dyn Notifier>, String> {
    Ok(match &configured.kind {
        NotifierKind::Apprise(own) => Arc::new(apprise::Apprise::new(own, reach)?),
        NotifierKind::Command(own) => Arc::new(command::Command::new(own)?),
        NotifierKind::Discord(own) => Arc::new(discord::Discord::new(own, reach)?),
        NotifierKind::Googlechat(own) => Arc::new(googlechat::Googlechat::new(own, reach)?),
        NotifierKind::Gotify(own) => Arc::new(gotify::Gotify::new(own, reach)?),
        NotifierKind::Http(own) => Arc::new(http::Http::new(own, reach)?),
        NotifierKind::Ifttt(own) => Arc::new(ifttt::Ifttt::new(own, reach)?),
        NotifierKind::Kafka(own) => Arc::new(kafka::Kafka::new(own, reach)?),
        NotifierKind::Matrix(own) => Arc::new(matrix::Matrix::new(own, reach)?),
        NotifierKind::Mattermost(own) => Arc::new(mattermost::Mattermost::new(own, reach)?),
        NotifierKind::Mock(_) => Arc::new(mock::Mock),
        NotifierKind::Mqtt(own) => Arc::new(mqtt::Mqtt::new(own, reach)?),
        NotifierKind::Ntfy(own) => Arc::new(ntfy::Ntfy::new(own, reach)?),
        NotifierKind::Pushover(own) => Arc::new(pushover::Pushover::new(own, reach)?),
        NotifierKind::Rocketchat(own) => Arc::new(rocketchat::Rocketchat::new(own, reach)?),
        NotifierKind::Slack(own) => Arc::new(slack::Slack::new(own, reach)?),
        NotifierKind::Smtp(own) => Arc::new(smtp::Smtp::new(own, reach)?),
        NotifierKind::Teams(own) => Arc::new(teams::Teams::new(own, reach)?),
        NotifierKind::Telegram(own) => Arc::new(telegram::Telegram::new(own, reach)?),
    })
}

fn templates(options: &NotifyOptions) -> Templates {
    Templates {
        simple_title: options.simpletitle.clone(),
        simple_body: options.simplebody.clone(),
        batch_title: options.batchtitle.clone(),
        security_title: options.securitydigesttitle.clone(),
        security_body: options.securitydigestbody.clone(),
    }
}

/// Settings were checked at start; what is missing here is a defect that is said, not hidden.
fn needed<T: Clone>(value: &Option<T>, name: &str) -> Result<T, String> {
    value.clone().ok_or_else(|| format!("{name} is not set"))
}

fn secret(
    value: &Option<plimsoll_runtime::settings::Secret>,
    name: &str,
) -> Result<SecretString, String> {
    Ok(needed(value, name)?.0)
}

fn address(value: Option<&str>) -> Result<Url, String> {
    let value = value.ok_or("url is not set")?;
    Url::parse(value).map_err(|_| "url is no address".to_owned())
}

/// An address that is a secret itself.
fn secret_address(value: &Option<plimsoll_runtime::settings::Secret>) -> Result<Url, String> {
    address(value.as_ref().map(|url| url.expose_secret()))
}
