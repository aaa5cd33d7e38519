//! Every setting, once: its type, its default and its meaning. The comments are the reference that
//! `docs/settings.md` and `plimsoll-api settings` print.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;

use chrono_tz::Tz;

use plimsoll_domain::security::{SbomFormat, Severity};

use super::leaf::{
    Cron, Leaf, Millis, SbomFormats, Secret, Setting, Severities, TrustProxy, choice,
};
use super::names::{Entry, Segment};
use super::notifiers::{self, Notifier};

/// Declares sections: each field becomes a documented setting named after it, without the `_` that
/// keeps it apart from a keyword.
macro_rules! sections {
    ($(
        $(#[doc = $section_doc:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                pub $field:ident: $type:ty = $default:expr,
            )*
        }
    )+) => { $(
        $(#[doc = $section_doc])*
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }

        impl Setting for $name {
            fn describe(&self, path: &[Segment], _doc: &'static str, out: &mut Vec<Entry>) {
                $({
                    let mut path = path.to_vec();
                    path.push(Segment::Fixed(stringify!($field).trim_end_matches('_')));
                    self.$field.describe(&path, concat!($($doc),*), out);
                })*
            }

            fn set(&mut self, path: &[String], value: &str) -> Result<(), String> {
                let (field, rest) = path.split_first().ok_or("it is a section, not a value")?;
                $(if field == stringify!($field).trim_end_matches('_') {
                    return self.$field.set(rest, value);
                })*
                Err("there is no such setting".into())
            }
        }
    )+ };
}
pub(super) use sections;

choice! {
    /// When browsers send the session cookie to us from other sites.
    SameSite { Lax => "lax", Strict => "strict", None => "none" }
}

choice! {
    /// What a user may do; each may also do what the next one may.
    UserRole { Owner => "owner", Admin => "admin", Operator => "operator", Viewer => "viewer" }
}

choice! {
    /// What somebody whom an identity provider knows may do.
    OidcRole {
        Owner => "owner",
        Admin => "admin",
        Operator => "operator",
        Viewer => "viewer",
        /// They are not let in.
        None => "none",
    }
}

choice! {
    LogFormat { Text => "text", Json => "json" }
}

choice! {
    LogLevel {
        Error => "error",
        Warn => "warn",
        Info => "info",
        Debug => "debug",
        Trace => "trace",
    }
}

choice! {
    Protocol { Http => "http", Https => "https" }
}

choice! {
    /// Who may use Docksmith's API.
    DocksmithAuth {
        /// Whoever has a credential, and whoever reaches a listener of its own on loopback.
        Auto => "auto",
        Required => "required",
        /// Whoever reaches it.
        None => "none",
    }
}

choice! {
    /// Which updates a policy lets through.
    MaturityMode {
        All => "all",
        /// Only candidates that have been known for some days.
        Mature => "mature",
    }
}

choice! {
    /// How far a tag may climb.
    TagFamily {
        /// Same prefix, number of parts and suffix family.
        Strict => "strict",
        Loose => "loose",
    }
}

choice! {
    /// Whether a trigger updates containers by itself.
    Auto { True => "true", OnInclude => "oninclude", False => "false" }
}

choice! {
    /// What happens when a Compose file and its container do not agree.
    Reconciliation { Warn => "warn", Block => "block", Off => "off" }
}

choice! {
    /// What looks for vulnerabilities.
    Scanner { Trivy => "trivy" }
}

choice! {
    /// What makes bills of materials.
    SbomGenerator { Auto => "auto", Syft => "syft", Trivy => "trivy" }
}

choice! {
    /// What becomes of an update whose image cannot be scanned.
    OnScanFailure { Block => "block", Allow => "allow" }
}

choice! {
    /// The largest kind of update that a trigger runs for.
    Threshold {
        All => "all",
        Major => "major",
        Minor => "minor",
        Patch => "patch",
        MajorOnly => "major-only",
        MinorOnly => "minor-only",
        Digest => "digest",
        AllNoDigest => "all-no-digest",
        MajorNoDigest => "major-no-digest",
        MinorNoDigest => "minor-no-digest",
        PatchNoDigest => "patch-no-digest",
        MajorOnlyNoDigest => "major-only-no-digest",
        MinorOnlyNoDigest => "minor-only-no-digest",
    }
}

sections! {
    /// The whole configuration of every Plimsoll process.
    pub struct Settings {
        /// Where the HTTP API listens.
        pub listen: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 3000)),
        /// Where Docksmith's API listens with its paths at the root, as Docksmith itself does: such as `127.0.0.1:3001`. Absent, it is at `/docksmith` of `listen` only.
        pub listen_docksmith: Option<SocketAddr> = None,
        /// Where `plimsoll` keeps its Postgres, its Redis and their logs. Made if absent.
        pub data_dir: PathBuf = PathBuf::from(".plimsoll"),
        /// The address under which browsers reach the API, such as `https://plimsoll.example.org`.
        pub public_url: Option<String> = None,
        /// Lets everyone in without credentials. Only for machines that nobody else can reach.
        pub anonymous_auth_confirm: bool = false,
        /// Whether the watcher `local`, on Docker's default socket, exists when no watcher is configured.
        pub local_watcher: bool = true,
        pub database: Database = Database::default(),
        pub redis: Redis = Redis::default(),
        pub docker: Docker = Docker::default(),
        pub server: Server = Server::default(),
        pub docksmith: Docksmith = Docksmith::default(),
        pub auth: Auth = Auth::default(),
        pub session: Session = Session::default(),
        pub watcher: BTreeMap<String, Watcher> = BTreeMap::new(),
        pub registry: BTreeMap<String, BTreeMap<String, Registry>> = BTreeMap::new(),
        pub trigger: Triggers = Triggers::default(),
        pub compose: Compose = Compose::default(),
        pub stacks: Stacks = Stacks::default(),
        pub hooks: Hooks = Hooks::default(),
        pub scripts: Scripts = Scripts::default(),
        pub update: Update = Update::default(),
        pub worker: Worker = Worker::default(),
        pub ui: Ui = Ui::default(),
        pub compat: Compat = Compat::default(),
        pub sse: Sse = Sse::default(),
        pub stats: Stats = Stats::default(),
        pub outbound: Outbound = Outbound::default(),
        pub release_notes: ReleaseNotes = ReleaseNotes::default(),
        pub security: Security = Security::default(),
        pub log: Log = Log::default(),
        pub telemetry: Telemetry = Telemetry::default(),
    }

    pub struct Database {
        /// Postgres, as a libpq URL: `postgresql://user:password@host/database`. `DATABASE_URL` means the same. `plimsoll` runs a server of its own when it is absent.
        pub url: Option<Secret> = None,
        /// Connections that one process may open.
        pub max_connections: u16 = 16,
    }

    pub struct Redis {
        /// Redis, as a URL: `redis://host:6379`, `rediss://…` for TLS, `redis+unix:///path`. `REDIS_URL` means the same. `plimsoll` runs a server of its own when it is absent.
        pub url: Option<Secret> = None,
    }

    pub struct Docker {
        /// The engine of the watcher `local`: `unix:///path` or `tcp://host:port`. `DOCKER_HOST` means the same.
        pub host: Option<String> = None,
        /// Whether `docker.host` is reached by TLS. `DOCKER_TLS_VERIFY` means the same.
        pub tls_verify: Option<bool> = None,
        /// The directory of `ca.pem`, `cert.pem` and `key.pem` for it. `DOCKER_CERT_PATH` means the same.
        pub cert_path: Option<PathBuf> = None,
        /// The directory of Docker's `config.json`, for registry credentials. `DOCKER_CONFIG` means the same; absent, it is `~/.docker`.
        pub config: Option<PathBuf> = None,
    }

    pub struct Docksmith {
        /// Who may use Docksmith's API: `auto`, whoever has a credential, and without one whoever asks `listen_docksmith` from this machine, if that is a loopback address; `required`, with a credential only; `none`, whoever reaches it. Docksmith itself knows no credentials. `DOCKSMITH_AUTH` means the same.
        pub auth: DocksmithAuth = DocksmithAuth::Auto,
    }

    pub struct Server {
        /// The port to listen on, instead of the one in `listen`.
        pub port: Option<u16> = None,
        /// This installation's name, as `GET /api/v1/server` shows it.
        pub name: Option<String> = None,
        /// Reverse proxies whose `X-Forwarded-*` headers are believed.
        pub trustproxy: TrustProxy = TrustProxy::None,
        pub tls: ServerTls = ServerTls::default(),
        pub cors: Cors = Cors::default(),
        pub cookie: Cookie = Cookie::default(),
        pub feature: Features = Features::default(),
        pub session: SessionLimits = SessionLimits::default(),
        pub ratelimit: RateLimit = RateLimit::default(),
        pub compression: Compression = Compression::default(),
        pub metrics: Metrics = Metrics::default(),
        pub webhook: Webhook = Webhook::default(),
    }

    pub struct ServerTls {
        /// Whether the listener itself speaks TLS. Without it, TLS is a proxy's matter.
        pub enabled: bool = false,
        /// The certificate and those between it and its authority, PEM. Read at start.
        pub cert: Option<PathBuf> = None,
        /// The key of `cert`, PEM.
        pub key: Option<PathBuf> = None,
    }

    pub struct Compat {
        /// Whether `/api/containers`, `/api/containers/watch` and `/api/containers/{id}/triggers`, without a version, answer with bare arrays, which Homepage's `whatsupdocker` widget and Home Assistant's `wud-card` expect.
        pub wudcard: bool = false,
    }

    pub struct Cors {
        /// Whether pages of other origins may read answers. What they may change with cookies stays nothing.
        pub enabled: bool = false,
        /// Those origins, such as `https://dash.example.org`, separated by commas. `*`: all, without cookies.
        pub origin: String = "*".to_owned(),
        /// The methods that they may use.
        pub methods: String = "GET,HEAD,PUT,PATCH,POST,DELETE".to_owned(),
    }

    pub struct Cookie {
        /// `SameSite` of the session cookie. `none` needs an https `public_url` or a trusted proxy.
        pub samesite: SameSite = SameSite::Lax,
    }

    pub struct Features {
        /// Whether containers may be removed from the inventory through the API.
        pub delete: bool = true,
        /// Whether containers may be updated, rolled back, started and stopped through the API.
        pub containeractions: bool = true,
    }

    pub struct SessionLimits {
        /// Sessions one user may have; the oldest ends when there would be more.
        pub maxconcurrentsessions: u16 = 5,
    }

    pub struct RateLimit {
        /// Requests per client in 15 minutes. 0: no limit.
        pub max: u32 = 1000,
        /// Whether logged-in clients are counted by who they are, not by address.
        pub identitykeying: bool = false,
        /// Requests per API token in 15 minutes. 0: no limit.
        pub tokenmax: u32 = 0,
    }

    pub struct Compression {
        /// Whether answers are compressed for clients that accept it.
        pub enabled: bool = true,
        /// Smallest answer that is compressed, in bytes.
        pub threshold: u32 = 1024,
    }

    pub struct Metrics {
        /// Whether `/metrics` needs credentials.
        pub auth: bool = true,
        /// A bearer token for `/metrics` alone, at least 16 characters.
        pub token: Option<Secret> = None,
    }

    pub struct Webhook {
        /// Whether `/api/v1/webhook/*` and `/api/v1/webhooks/registry` exist.
        pub enabled: bool = false,
        /// The bearer token of all webhooks.
        pub token: Option<Secret> = None,
        /// What registries and build systems sign their calls of `/webhooks/registry` with, at least 16 characters.
        pub secret: Option<Secret> = None,
        /// The secret before `secret`, which is accepted beside it until all senders have the new one.
        pub previoussecret: Option<Secret> = None,
        pub tokens: WebhookTokens = WebhookTokens::default(),
    }

    pub struct WebhookTokens {
        /// The bearer token of `/webhook/watch`, and of `/webhooks/registry`. All three or none.
        pub watchall: Option<Secret> = None,
        /// The bearer token of `/webhook/watch/{name}`. All three or none.
        pub watch: Option<Secret> = None,
        /// The bearer token of `/webhook/update/{name}`. All three or none.
        pub update: Option<Secret> = None,
    }

    pub struct Auth {
        pub basic: BTreeMap<String, BasicUser> = BTreeMap::new(),
        pub oidc: BTreeMap<String, OidcProvider> = BTreeMap::new(),
        /// Failed logins after which an account is locked.
        pub account_lockout_max_attempts: u32 = 5,
        /// Failed logins after which an address is locked out.
        pub ip_lockout_max_attempts: u32 = 25,
        /// The span in which failed logins are counted.
        pub lockout_window_ms: Millis = Millis::new(900_000),
        /// How long a lock lasts.
        pub lockout_duration_ms: Millis = Millis::new(900_000),
        /// Passwords that are checked at the same time; more answer 429.
        pub max_concurrent_login_attempts: u16 = 2,
    }

    pub struct BasicUser {
        /// The user's name.
        pub user: String = String::new(),
        /// The hash of the user's password: argon2id in PHC form, or one of the older forms that Drydock reads.
        pub hash: Option<Secret> = None,
        /// What the user may do.
        pub role: UserRole = UserRole::Owner,
    }

    pub struct OidcProvider {
        /// Where the provider publishes its settings: `https://…/.well-known/openid-configuration`, or that without its end. `http://` only on this machine, or with `insecure`.
        pub discovery: Option<String> = None,
        /// Our client id there. The address that it may send browsers back to is `<public_url>/auth/oidc/<name>/cb`.
        pub clientid: Option<String> = None,
        /// Our client secret there. Absent: a public client.
        pub clientsecret: Option<Secret> = None,
        /// Whether the login page goes to the provider by itself.
        pub redirect: bool = false,
        /// Where signing out goes on, instead of the end-session address that the provider publishes.
        pub logouturl: Option<String> = None,
        /// Longest wait for an answer of the provider.
        pub timeout: Millis = Millis::new(5000),
        /// Certificate authority of the provider, PEM.
        pub cafile: Option<PathBuf> = None,
        /// Accepts any certificate, and `http://`.
        pub insecure: bool = false,
        /// What is asked for, separated by spaces.
        pub scopes: String = "openid email profile".to_owned(),
        /// What people may do whom no value of `roleclaim` gives a role. `none` lets only those in who have one: for providers where strangers can register. Without `roleclaim` it is the role of new accounts, which `PATCH /api/v1/users/{id}` changes.
        pub role: OidcRole = OidcRole::Viewer,
        /// The claim that gives roles at each login, such as `groups`, or `realm_access.roles` inside an object.
        pub roleclaim: Option<String> = None,
        /// What its values mean: `dock-admins=admin,staff=viewer`. Absent: the values are role names themselves.
        pub roles: Option<String> = None,
    }

    pub struct Session {
        /// Has no effect: sessions are random and kept in the database, so that there is nothing to sign.
        pub secret: Option<Secret> = None,
    }

    pub struct Watcher {
        /// The engine's Unix socket.
        pub socket: Option<String> = None,
        /// The engine's host, instead of a socket.
        pub host: Option<String> = None,
        /// The engine's port.
        pub port: Option<u16> = None,
        /// How the host is reached; `https` when a TLS file is given, else `http`.
        pub protocol: Option<Protocol> = None,
        /// Certificate authority of the engine, PEM.
        pub cafile: Option<PathBuf> = None,
        /// Our certificate for the engine, PEM.
        pub certfile: Option<PathBuf> = None,
        /// The key of `certfile`, PEM.
        pub keyfile: Option<PathBuf> = None,
        /// When registries are asked for newer images.
        pub cron: Cron = Cron::parse("0 */6 * * *").expect("the default is valid"),
        /// The time zone of `cron`.
        pub timezone: Tz = Tz::UTC,
        /// The minutes in which watches that are due may run, as a cron expression such as `* 2-5 * * *`. One that is due at another time waits for them. Absent, watches run at any time.
        pub maintenance_window: Option<Cron> = None,
        /// The time zone of `maintenance_window`.
        pub maintenance_window_tz: Tz = Tz::UTC,
        /// A random delay, at most this long, after each time that `cron` names.
        pub jitter: Millis = Millis::new(60_000),
        /// Whether containers without the label `dd.watch` are watched.
        pub watchbydefault: bool = true,
        /// Whether containers that do not run are watched.
        pub watchall: bool = false,
        /// Whether the engine's events are followed, so that the inventory is live.
        pub watchevents: bool = true,
        /// Whether a watch runs at start.
        pub watchatstart: bool = true,
        /// A label, `key` or `key=value`: only containers that carry it exist for this watcher.
        pub scope: Option<String> = None,
        /// How tags are compared for containers without the label `dd.tag.family`.
        pub tag_family: TagFamily = TagFamily::Strict,
        /// Which candidates are offered for containers without a policy of their own.
        pub maturity_mode: MaturityMode = MaturityMode::All,
        /// Days after which a candidate is mature, 1 to 365.
        pub maturity_min_age_days: u16 = 7,
    }

    pub struct Registry {
        /// Address of the registry, such as `https://registry.example.org`. `http://` for plain HTTP.
        pub url: Option<String> = None,
        /// Where tokens are fetched, for registries that keep it apart. For ecr, gar and gcr the address of the service that exchanges the key for a token; absent, AWS's and Google's own.
        pub authurl: Option<String> = None,
        /// User name.
        pub login: Option<String> = None,
        /// Password of `login`.
        pub password: Option<Secret> = None,
        /// `login:password` in base64, instead of the two.
        pub auth: Option<Secret> = None,
        /// User name, beside an access token.
        pub username: Option<String> = None,
        /// Access token.
        pub token: Option<Secret> = None,
        /// API key.
        pub apikey: Option<Secret> = None,
        /// Namespace of a robot account.
        pub namespace: Option<String> = None,
        /// Name of a robot account.
        pub account: Option<String> = None,
        /// Application id of a service principal, or the name of a repository-scoped token.
        pub clientid: Option<String> = None,
        /// Password of `clientid`.
        pub clientsecret: Option<Secret> = None,
        /// Id of an access key that may call `ecr:GetAuthorizationToken`.
        pub accesskeyid: Option<Secret> = None,
        /// Secret of `accesskeyid`.
        pub secretaccesskey: Option<Secret> = None,
        /// Region of the registry, such as `eu-west-1`.
        pub region: Option<String> = None,
        /// Address of a service account.
        pub clientemail: Option<String> = None,
        /// Private key of the service account, PEM. Line ends may be written as a backslash and an n.
        pub privatekey: Option<Secret> = None,
        /// Certificate authority of the registry, PEM.
        pub cafile: Option<PathBuf> = None,
        /// Our certificate for the registry, PEM.
        pub clientcert: Option<PathBuf> = None,
        /// The key of `clientcert`, PEM.
        pub clientkey: Option<PathBuf> = None,
        /// Accepts any certificate.
        pub insecure: bool = false,
    }

    pub struct Triggers {
        pub docker: BTreeMap<String, DockerTrigger> = BTreeMap::new(),
        pub dockercompose: BTreeMap<String, ComposeTrigger> = BTreeMap::new(),
        pub apprise: BTreeMap<String, Notifier<notifiers::Apprise>> = BTreeMap::new(),
        pub command: BTreeMap<String, Notifier<notifiers::Command>> = BTreeMap::new(),
        pub discord: BTreeMap<String, Notifier<notifiers::Discord>> = BTreeMap::new(),
        pub googlechat: BTreeMap<String, Notifier<notifiers::Googlechat>> = BTreeMap::new(),
        pub gotify: BTreeMap<String, Notifier<notifiers::Gotify>> = BTreeMap::new(),
        pub http: BTreeMap<String, Notifier<notifiers::Http>> = BTreeMap::new(),
        pub ifttt: BTreeMap<String, Notifier<notifiers::Ifttt>> = BTreeMap::new(),
        pub kafka: BTreeMap<String, Notifier<notifiers::Kafka>> = BTreeMap::new(),
        pub matrix: BTreeMap<String, Notifier<notifiers::Matrix>> = BTreeMap::new(),
        pub mattermost: BTreeMap<String, Notifier<notifiers::Mattermost>> = BTreeMap::new(),
        pub mock: BTreeMap<String, Notifier<notifiers::Mock>> = BTreeMap::new(),
        pub mqtt: BTreeMap<String, Notifier<notifiers::Mqtt>> = BTreeMap::new(),
        pub ntfy: BTreeMap<String, Notifier<notifiers::Ntfy>> = BTreeMap::new(),
        pub pushover: BTreeMap<String, Notifier<notifiers::Pushover>> = BTreeMap::new(),
        pub rocketchat: BTreeMap<String, Notifier<notifiers::Rocketchat>> = BTreeMap::new(),
        pub slack: BTreeMap<String, Notifier<notifiers::Slack>> = BTreeMap::new(),
        pub smtp: BTreeMap<String, Notifier<notifiers::Smtp>> = BTreeMap::new(),
        pub teams: BTreeMap<String, Notifier<notifiers::Teams>> = BTreeMap::new(),
        pub telegram: BTreeMap<String, Notifier<notifiers::Telegram>> = BTreeMap::new(),
    }

    pub struct DockerTrigger {
        /// Whether the trigger exists. Without one, containers are watched but not updated.
        pub enabled: bool = true,
        /// Refuses updates and rollbacks; a preview shows what they would change.
        pub dryrun: bool = false,
        /// Ways back that are kept for each container.
        pub backupcount: u16 = 3,
        /// The largest kind of update that is run by itself.
        pub threshold: Threshold = Threshold::All,
        /// Whether images that an update replaced are removed once nothing needs them: neither a container nor a way back.
        pub prune: bool = false,
        /// How long an engine may take to remove what was started with `--rm`.
        pub autoremovetimeout: Millis = Millis::new(60_000),
        /// Whether containers are updated by themselves after a watch: `true`, `false`, or `oninclude` for those whose label `dd.trigger.include` names the trigger. A watch at start updates nothing. The trigger that exists without being configured never does.
        pub auto: Auto = Auto::OnInclude,
        /// Whether an automatic update to one candidate is tried once only.
        pub once: bool = true,
        /// Of several triggers that suit a container the one with the lowest number updates it.
        pub order: u16 = 100,
    }

    pub struct ComposeTrigger {
        /// Whether the trigger exists.
        pub enabled: bool = true,
        /// Refuses updates and rollbacks; a preview shows what they would change.
        pub dryrun: bool = false,
        /// Ways back that are kept for each container.
        pub backupcount: u16 = 3,
        /// The largest kind of update that is run by itself.
        pub threshold: Threshold = Threshold::All,
        /// Whether images that an update replaced are removed once nothing needs them: neither a container nor a way back.
        pub prune: bool = false,
        /// How long an engine may take to remove what was started with `--rm`.
        pub autoremovetimeout: Millis = Millis::new(60_000),
        /// Whether containers are updated by themselves after a watch; as for docker triggers.
        pub auto: Auto = Auto::OnInclude,
        /// Whether an automatic update to one candidate is tried once only.
        pub once: bool = true,
        /// Of several triggers that suit a container the one with the lowest number updates it.
        pub order: u16 = 100,
        /// The Compose file, for containers that do not name their own. Read and written by the worker, under this path.
        pub file: Option<PathBuf> = None,
        /// Whether the file is copied to `<file>.back` before it is changed.
        pub backup: bool = false,
        /// The label that names a container's Compose file.
        pub composefilelabel: String = "dd.compose.file".to_owned(),
        /// What happens when file and container do not agree before an update: `warn` and go on, `block` the update, or `off`.
        pub reconciliationmode: Reconciliation = Reconciliation::Warn,
        /// Whether the image is written with its digest.
        pub digestpinning: bool = false,
        /// Has no effect: each update writes its own service's image and nothing else, whole or not at all.
        pub composefileonce: bool = false,
    }

    pub struct Compose {
        /// The directories whose Compose files, and the files of variables beside them, the worker may read, and edit where an update is asked for through its file: absolute paths as Compose knows them, separated by commas. Where it is set, dockercompose triggers keep to it too. Empty: only dockercompose triggers edit files.
        pub directories: String = String::new(),
    }

    pub struct Stacks {
        /// The directories on the worker's host whose sub-directories with a Compose file are stacks, also while they have no container: absolute paths, separated by commas. Also read from `STACKS_DIR`. The stacks are those of the watcher `local`, or of the only one; every worker of that engine needs the same directories.
        pub directories: String = String::new(),
    }

    pub struct Hooks {
        /// Whether the labels `dd.hook.pre` and `dd.hook.post` run commands on the worker's host.
        pub enabled: bool = false,
        /// The programs that they may run: absolute paths, separated by commas.
        pub allowed_commands: String = String::new(),
    }

    pub struct Scripts {
        /// The directory on the worker's host whose programs may check updates before they are made and follow them, by label, assignment or request. Without it none is run.
        pub dir: Option<PathBuf> = None,
    }

    pub struct Update {
        /// Updates that one worker runs at the same time. 0: no limit.
        pub max_concurrent: u16 = 0,
        /// How long a container without a healthcheck must run before its update counts as done, at least a second. The label `dd.update.stability`, in seconds, overrides it.
        pub post_start_liveness_grace_ms: Millis = Millis::new(10_000),
        /// Days that ended operations are kept.
        pub operation_retention_days: u32 = 30,
        /// Ended operations that are kept for each container, besides those of the last day.
        pub operation_max_entries: u32 = 500,
    }

    pub struct Worker {
        /// Name of the agent that a worker on another host is. Empty: this installation's own worker.
        pub agent: String = String::new(),
        /// Jobs that one worker runs at the same time.
        pub concurrency: u16 = 8,
    }

    pub struct Ui {
        /// Candidates younger than this many days are `hot`.
        pub maturity_threshold_days: u32 = 7,
    }

    pub struct Sse {
        /// Open event streams per process.
        pub max_clients: u32 = 500,
    }

    pub struct Stats {
        /// Seconds between two samples of what a container uses, while somebody watches. At least 1.
        pub interval: u32 = 10,
        /// Samples that are kept of each container.
        pub history_size: u16 = 60,
    }

    pub struct Outbound {
        /// Longest wait for a registry's answer.
        pub http_timeout_ms: Millis = Millis::new(30_000),
        /// Whether addresses that the configuration names may be on this machine.
        pub loopback: bool = true,
        /// Whether addresses that the configuration names may be in private networks. Link-local and cloud-metadata addresses are never reached.
        pub private: bool = true,
    }

    pub struct ReleaseNotes {
        /// A token for GitHub. Without one it answers 60 questions an hour.
        pub github_token: Option<Secret> = None,
        /// GitHub's API, or that of a GitHub Enterprise server such as `https://git.example.org/api/v3`. The token is sent there only.
        pub github_url: String = "https://api.github.com".into(),
    }

    pub struct Security {
        /// What looks for vulnerabilities in images. Absent: nothing does.
        pub scanner: Option<Scanner> = None,
        /// Vulnerabilities of these severities in an update's image block the update.
        pub block_severity: Severities = Severities(vec![Severity::Critical, Severity::High]),
        pub gate: SecurityGate = SecurityGate::default(),
        pub scan: SecurityScan = SecurityScan::default(),
        pub trivy: Trivy = Trivy::default(),
        /// Whether an update's image must bear a signature that cosign accepts: by `cosign.key`, or by `cosign.identity` and `cosign.issuer`. An update whose image bears none, or whose signatures cannot be verified, fails before anything is touched.
        pub verify_signatures: bool = false,
        pub cosign: Cosign = Cosign::default(),
        pub sbom: Sbom = Sbom::default(),
        pub syft: Syft = Syft::default(),
    }

    pub struct SecurityGate {
        /// What becomes of an update whose image cannot be scanned: `block` fails it before anything is touched.
        pub on_failure: OnScanFailure = OnScanFailure::Block,
    }

    pub struct SecurityScan {
        /// When everything that a watcher watches is scanned, in the watcher's time zone. Absent: only what somebody asks for, and updates.
        pub cron: Option<Cron> = None,
        /// A random delay, at most this long, after each time that `cron` names.
        pub jitter: Millis = Millis::new(60_000),
    }

    pub struct Trivy {
        /// Trivy's program, where the worker runs. Its own variables, `TRIVY_…`, are passed on to it.
        pub command: String = "trivy".into(),
        /// The address of a Trivy server, such as `http://trivy:4954`. Absent: Trivy keeps its database itself.
        pub server: Option<String> = None,
        /// Longest time for one image.
        pub timeout: Millis = Millis::new(120_000),
    }

    pub struct Cosign {
        /// Cosign's program, where the worker runs. Its own variables, `COSIGN_…`, are passed on to it.
        pub command: String = "cosign".into(),
        /// The public key: a file, or an address that cosign knows (`awskms://…`, `k8s://…`). Absent: signatures are by identities.
        pub key: Option<String> = None,
        /// Who must have signed, as the certificate names it, such as `https://github.com/acme/app/.github/workflows/release.yml@refs/tags/*`. `*` stands for anything without `/`.
        pub identity: Option<String> = None,
        /// Who must have confirmed the identity, such as `https://token.actions.githubusercontent.com`.
        pub issuer: Option<String> = None,
        /// Longest time for one image.
        pub timeout: Millis = Millis::new(60_000),
    }

    pub struct Sbom {
        /// Whether each scan, also that of an update, makes a bill of materials. One that is asked for is made in any case, if there is a scanner.
        pub enabled: bool = false,
        /// In which formats scans make it.
        pub formats: SbomFormats = SbomFormats(vec![SbomFormat::SpdxJson]),
        /// What makes it. `auto`: Syft where it is installed, else the scanner.
        pub generator: SbomGenerator = SbomGenerator::Auto,
    }

    pub struct Syft {
        /// Syft's program, where the worker runs. Its own variables, `SYFT_…`, are passed on to it.
        pub command: String = "syft".into(),
        /// Longest time for one image and format.
        pub timeout: Millis = Millis::new(600_000),
    }

    pub struct Log {
        /// Least important level that is logged.
        pub level: LogLevel = LogLevel::Info,
        /// `json` for machines.
        pub format: LogFormat = LogFormat::Text,
        /// Whether the last 1000 entries are kept for `GET /api/v1/log/entries`.
        pub buffer_enabled: bool = true,
    }

    pub struct Telemetry {
        /// Where traces are sent by OTLP over HTTP. `OTEL_EXPORTER_OTLP_ENDPOINT` means the same; `OTEL_TRACES_SAMPLER` and its like are read from the environment (docs/traces.md). Absent: nowhere.
        pub otlp_endpoint: Option<String> = None,
    }
}
