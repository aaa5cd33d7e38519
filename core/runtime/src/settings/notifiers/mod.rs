//! The settings of triggers that notify (reference/drydock.md 4): what each type needs, and what
//! all have in common.

mod check;

use plimsoll_domain::template::Template;
use serde_json::{Map, Value};

use super::leaf::{Cron, Leaf, Millis, Secret, Setting, choice};
use super::names::{Entry, Kind, Segment};
use super::tree::{Threshold, Triggers, sections};

pub use check::{brokers, problems, words};

choice! {
    /// When messages are sent.
    NotifyMode {
        /// One for each container, at once.
        Simple => "simple",
        /// One for all that a watch found.
        Batch => "batch",
        /// One for all since the last digest, at the times of `digestcron`.
        Digest => "digest",
        BatchDigest => "batch+digest",
    }
}

choice! {
    /// Which messages a trigger sends without being asked.
    NotifyAuto {
        True => "true",
        /// Only those about containers whose own labels include the trigger.
        OnInclude => "oninclude",
        False => "false",
    }
}

choice! { HttpMethod { Get => "get", Post => "post" } }
choice! { HttpAuthType { Basic => "basic", Bearer => "bearer" } }
choice! {
    /// The mechanism of SASL.
    KafkaLogin {
        Plain => "PLAIN",
        ScramSha256 => "SCRAM-SHA-256",
        ScramSha512 => "SCRAM-SHA-512",
    }
}
choice! { MatrixMessage { Notice => "m.notice", Text => "m.text" } }
choice! {
    /// Which of a container's fields the broker gets.
    HassAttributes { Full => "full", Short => "short" }
}
choice! {
    /// When a connection that began in the clear changes to TLS.
    StartTls {
        /// If the server offers it; with a password, always.
        Auto => "auto",
        Required => "required",
        /// Never: what is sent can be read on the way.
        Never => "never",
    }
}

impl Leaf for Template {
    const SYNTAX: &'static str = "a template";

    fn parse(text: &str) -> Result<Self, String> {
        Template::parse(text).map_err(|error| error.to_string())
    }

    fn show(&self) -> String {
        self.source().to_owned()
    }
}

fn template(source: &str) -> Template {
    Template::parse(source).expect("the default can be read")
}

sections! {
    /// What all triggers that notify have in common.
    pub struct NotifyOptions {
        /// The largest kind of update that is told of. A container's label `dd.trigger.include` may set another one for itself.
        pub threshold: Threshold = Threshold::All,
        /// `simple`: a message for each container at once. `batch`: one for all that a watch found. `digest`: one at the times of `digestcron`. `batch+digest`: both. Holds for available updates; everything else is told at once.
        pub mode: NotifyMode = NotifyMode::Simple,
        /// When digests are sent, in UTC.
        pub digestcron: Cron = Cron::parse("0 8 * * *").expect("the default is valid"),
        /// Whether an update that was told of is not told of again by later watches.
        pub once: bool = true,
        /// Whether messages are sent at all without being asked for; `oninclude`: about containers whose label `dd.trigger.include` names the trigger.
        pub auto: NotifyAuto = NotifyAuto::True,
        /// Triggers with lower numbers come first.
        pub order: i32 = 100,
        /// Title of a message about one container's update.
        pub simpletitle: Template = template("New ${kind} found for container ${name}"),
        /// Text of a message about one container's update, and one entry of a batch or digest.
        pub simplebody: Template = template("Container ${container.name} running with ${container.updateKind.kind} ${container.updateKind.localValue} can be updated to ${container.updateKind.kind} ${container.updateKind.remoteValue}${container.result && container.result.link ? \"\\n\" + container.result.link : \"\"}"),
        /// Title of a batch or digest.
        pub batchtitle: Template = template("${containers.length} updates available"),
        /// Whether a message about an update is taken back once the update was applied, where the service can do that: matrix, slack, telegram.
        pub resolvenotifications: bool = false,
        /// As `mode`, for security alerts.
        pub securitymode: NotifyMode = NotifyMode::Simple,
        /// Title of a batch or digest of security alerts.
        pub securitydigesttitle: Template = template("${containers.length} security alerts"),
        /// Text of one entry of it.
        pub securitydigestbody: Template = template("Container ${container.name}: ${container.security.scan.summary.critical || 0} critical and ${container.security.scan.summary.high || 0} high vulnerabilities"),
    }

    /// Through an Apprise API server.
    pub struct Apprise {
        /// The server, such as `http://apprise:8000`.
        pub url: Option<String> = None,
        /// Where to: Apprise's addresses, separated by commas. Instead of `config`.
        pub urls: Option<Secret> = None,
        /// Key of a configuration that the server keeps. Instead of `urls`.
        pub config: Option<String> = None,
        /// Tags that choose within `config`.
        pub tag: Option<String> = None,
    }

    /// A program on the worker's machine.
    pub struct Command {
        /// The program, with its path or to be found in `PATH`, and its arguments, quoted as in a shell; nothing is expanded and no shell is started. What it leaves running is killed when it ends.
        pub cmd: Option<Secret> = None,
        /// Refused: no shell is ever started.
        pub shell: Option<String> = None,
        /// How long it may run; then it and what it started is killed. 0: a minute.
        pub timeout: Millis = Millis::new(60_000),
    }

    pub struct Discord {
        /// The webhook's address, https.
        pub url: Option<Secret> = None,
        /// The name messages appear under.
        pub botusername: String = "Plimsoll".to_owned(),
        /// Colour of the card, as a number.
        pub cardcolor: u32 = 65_280,
        /// Heading of the card's field.
        pub cardlabel: Option<String> = None,
    }

    pub struct Googlechat {
        /// The webhook's address.
        pub url: Option<Secret> = None,
    }

    pub struct Gotify {
        /// The server.
        pub url: Option<String> = None,
        /// The application's token.
        pub token: Option<Secret> = None,
        /// 0 to 10; absent, the application's own.
        pub priority: Option<u16> = None,
    }

    pub struct Http {
        /// What is called.
        pub url: Option<Secret> = None,
        /// `post` sends the container as JSON, or a list of them; `get` sends them in the query.
        pub method: HttpMethod = HttpMethod::Post,
        pub auth: HttpAuth = HttpAuth::default(),
        /// A proxy for these calls, instead of the environment's.
        pub proxy: Option<Secret> = None,
        /// Refused: cloud-metadata addresses are never reached.
        pub allowmetadata: bool = false,
    }

    pub struct HttpAuth {
        /// Which of the credentials is sent.
        pub type_: Option<HttpAuthType> = None,
        /// User name.
        pub user: Option<String> = None,
        /// Password of `user`.
        pub password: Option<Secret> = None,
        /// Bearer token.
        pub bearer: Option<Secret> = None,
    }

    pub struct Ifttt {
        /// Key of the Webhooks service.
        pub key: Option<Secret> = None,
        /// Name of the event.
        pub event: String = "dd-image".to_owned(),
        /// The service.
        pub url: String = "https://maker.ifttt.com".to_owned(),
    }

    pub struct Kafka {
        /// Brokers to begin with, `host:port`, separated by commas. Without a port: 9092.
        pub brokers: Option<String> = None,
        /// The topic. Each container is a record of its own, as JSON.
        pub topic: String = "drydock-container".to_owned(),
        /// Our name to the brokers.
        pub clientid: String = "drydock".to_owned(),
        /// Whether the brokers are reached by TLS.
        pub ssl: bool = false,
        pub authentication: KafkaAuth = KafkaAuth::default(),
    }

    pub struct KafkaAuth {
        /// How we log in, if `user` is set; absent, `PLAIN`, whose password can be read on the way unless `ssl` is set.
        pub type_: Option<KafkaLogin> = None,
        /// User name.
        pub user: Option<String> = None,
        /// Password of `user`.
        pub password: Option<Secret> = None,
    }

    pub struct Matrix {
        /// The homeserver.
        pub url: Option<String> = None,
        /// The room, such as `!id:example.org`.
        pub roomid: Option<String> = None,
        /// Token of the account that sends.
        pub accesstoken: Option<Secret> = None,
        /// How messages are marked.
        pub msgtype: MatrixMessage = MatrixMessage::Notice,
    }

    pub struct Mattermost {
        /// The incoming webhook's address.
        pub url: Option<Secret> = None,
    }

    /// Says in the log what it would send; for tests.
    pub struct Mock {
        /// Nothing.
        pub mock: Option<String> = None,
    }

    pub struct Mqtt {
        /// The broker: `mqtt://host:1883`, or `tcp`, and with TLS `mqtts` or `tls`. Over WebSockets `ws://host/path`, and with TLS `wss`.
        pub url: Option<String> = None,
        /// Topics are this, the watcher and the container's name, separated by `/`.
        pub topic: String = "dd/container".to_owned(),
        /// User name.
        pub user: Option<String> = None,
        /// Password of `user`.
        pub password: Option<Secret> = None,
        /// Our name to the broker; absent, one of its own for each worker.
        pub clientid: Option<String> = None,
        /// Containers that are not published: names, separated by commas.
        pub exclude: Option<String> = None,
        pub hass: Hass = Hass::default(),
    }

    /// Home Assistant.
    pub struct Hass {
        /// Whether sensors for Home Assistant are published.
        pub enabled: bool = false,
        /// Its topic of discovery.
        pub prefix: String = "homeassistant".to_owned(),
        /// Whether it is told of the sensors.
        pub discovery: bool = false,
        /// `full`: all fields of the container. `short`: names and versions.
        pub attributes: HassAttributes = HassAttributes::Full,
    }

    pub struct Ntfy {
        /// The server.
        pub url: String = "https://ntfy.sh".to_owned(),
        /// The topic.
        pub topic: Option<String> = None,
        pub auth: NtfyAuth = NtfyAuth::default(),
        /// 1 to 5; absent or 0, the server's default.
        pub priority: Option<u16> = None,
    }

    pub struct NtfyAuth {
        /// User name.
        pub user: Option<String> = None,
        /// Password of `user`.
        pub password: Option<Secret> = None,
        /// Access token, instead of the two.
        pub token: Option<Secret> = None,
    }

    pub struct Pushover {
        /// The user's or group's key.
        pub user: Option<Secret> = None,
        /// The application's token.
        pub token: Option<Secret> = None,
        /// One device instead of all.
        pub device: Option<String> = None,
        /// Name of the sound.
        pub sound: Option<String> = None,
        /// -2 to 2. 2 needs `retry` and `expire`.
        pub priority: i32 = 0,
        /// Seconds between repetitions of an emergency, at least 30.
        pub retry: Option<u32> = None,
        /// Seconds after which it is not repeated any more, at most 10800.
        pub expire: Option<u32> = None,
        /// The service.
        pub url: String = "https://api.pushover.net".to_owned(),
    }

    pub struct Rocketchat {
        /// The server.
        pub url: Option<String> = None,
        pub user: RocketchatUser = RocketchatUser::default(),
        pub auth: RocketchatAuth = RocketchatAuth::default(),
        /// The channel, such as `#updates`.
        pub channel: Option<String> = None,
    }

    pub struct RocketchatUser {
        /// Id of the account that sends.
        pub id: Option<String> = None,
    }

    pub struct RocketchatAuth {
        /// Its personal access token.
        pub token: Option<Secret> = None,
    }

    pub struct Slack {
        /// The bot's token.
        pub token: Option<Secret> = None,
        /// The channel.
        pub channel: Option<String> = None,
        /// The service.
        pub url: String = "https://slack.com/api".to_owned(),
    }

    /// Mail.
    pub struct Smtp {
        /// The server.
        pub host: Option<String> = None,
        /// Its port.
        pub port: Option<u16> = None,
        /// Sender, such as `Plimsoll <plimsoll@example.org>`.
        pub from: Option<String> = None,
        /// Recipients, separated by commas.
        pub to: Option<String> = None,
        /// User name.
        pub user: Option<String> = None,
        /// Password of `user`.
        pub pass: Option<Secret> = None,
        pub tls: SmtpTls = SmtpTls::default(),
    }

    pub struct SmtpTls {
        /// Whether the connection begins with TLS (port 465).
        pub enabled: bool = false,
        /// Whether a connection without it changes to TLS. `auto`: if the server offers it, and always before a password is sent.
        pub starttls: StartTls = StartTls::Auto,
        /// Whether the server's certificate is checked.
        pub verify: bool = true,
    }

    pub struct Teams {
        /// The webhook's address.
        pub url: Option<Secret> = None,
    }

    pub struct Telegram {
        /// The bot's token.
        pub bottoken: Option<Secret> = None,
        /// The chat.
        pub chatid: Option<String> = None,
        /// The service.
        pub url: String = "https://api.telegram.org".to_owned(),
    }
}

/// One type's own settings beside the common ones.
#[derive(Clone, Debug, Default)]
pub struct Notifier<T> {
    pub own: T,
    pub common: NotifyOptions,
}

impl<T: Setting> Setting for Notifier<T> {
    fn describe(&self, path: &[Segment], doc: &'static str, out: &mut Vec<Entry>) {
        self.own.describe(path, doc, out);
        self.common.describe(path, doc, out);
    }

    fn set(&mut self, path: &[String], value: &str) -> Result<(), String> {
        match path.first().is_some_and(|field| is_common(field)) {
            true => self.common.set(path, value),
            false => self.own.set(path, value),
        }
    }
}

/// Whether every type has a setting of this name.
pub(super) fn is_common(field: &str) -> bool {
    let mut entries = Vec::new();
    NotifyOptions::default().describe(&[], "", &mut entries);
    entries
        .iter()
        .any(|entry| matches!(entry.path[..], [Segment::Fixed(name)] if name == field))
}

macro_rules! kinds {
    ($($field:ident: $type:ident),+ $(,)?) => {
        /// The settings of one notifier, by its type.
        #[derive(Clone, Debug)]
        pub enum NotifierKind { $($type($type)),+ }

        /// The types of triggers that notify.
        pub const NOTIFIER_TYPES: &[&str] = &[$(stringify!($field)),+];

        impl Triggers {
            /// Every configured notifier, by type and name.
            pub fn notifiers(&self) -> Vec<ConfiguredNotifier> {
                let mut all = Vec::new();
                $(for (name, notifier) in &self.$field {
                    all.push(ConfiguredNotifier {
                        type_: stringify!($field),
                        name: name.clone(),
                        shown: shown(notifier),
                        kind: NotifierKind::$type(notifier.own.clone()),
                        common: notifier.common.clone(),
                    });
                })+
                all
            }
        }
    };
}

kinds! {
    apprise: Apprise,
    command: Command,
    discord: Discord,
    googlechat: Googlechat,
    gotify: Gotify,
    http: Http,
    ifttt: Ifttt,
    kafka: Kafka,
    matrix: Matrix,
    mattermost: Mattermost,
    mock: Mock,
    mqtt: Mqtt,
    ntfy: Ntfy,
    pushover: Pushover,
    rocketchat: Rocketchat,
    slack: Slack,
    smtp: Smtp,
    teams: Teams,
    telegram: Telegram,
}

/// A trigger that notifies, as configured.
#[derive(Clone, Debug)]
pub struct ConfiguredNotifier {
    /// Such as `ntfy`.
    pub type_: &'static str,
    pub name: String,
    pub kind: NotifierKind,
    pub common: NotifyOptions,
    /// As `GET /api/v1/triggers` shows it: secrets are masked, what is not set is left out.
    pub shown: Map<String, Value>,
}

impl ConfiguredNotifier {
    /// `ntfy.one`.
    pub fn id(&self) -> String {
        format!("{}.{}", self.type_, self.name)
    }
}

fn shown(section: &impl Setting) -> Map<String, Value> {
    let mut entries = Vec::new();
    section.describe(&[], "", &mut entries);
    let mut shown = Map::new();
    for entry in entries {
        let Kind::Value {
            syntax,
            default: value,
            secret,
        } = entry.kind
        else {
            continue;
        };
        if value.is_empty() {
            continue;
        }
        let value = match (secret, value.parse::<i64>()) {
            (true, _) => Value::from(plimsoll_domain::redact::REDACTED),
            (false, _) if syntax == bool::SYNTAX => Value::from(value == "true"),
            // Also what may be `oninclude`.
            (false, _) if syntax == NotifyAuto::SYNTAX && value != "oninclude" => {
                Value::from(value == "true")
            }
            (false, Ok(number)) if syntax == u16::SYNTAX || syntax == Millis::SYNTAX => {
                Value::from(number)
            }
            (false, _) => Value::from(value),
        };
        put(&mut shown, &entry.path, value);
    }
    shown
}

/// Puts a value where its path leads, into sections that are made as needed.
fn put(section: &mut Map<String, Value>, path: &[Segment], value: Value) {
    let Some((Segment::Fixed(name), rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        section.insert((*name).to_owned(), value);
        return;
    }
    let inner = section.entry(*name).or_insert_with(|| Map::new().into());
    if let Value::Object(inner) = inner {
        put(inner, rest, value);
    }
}
