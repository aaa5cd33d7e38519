//! Configuration: one typed tree, read from a TOML file and from the environment.
//!
//! `PLIMSOLL_<PATH>` and `DD_<PATH>` mean the same setting, as does the older `WUD_<PATH>`; `<NAME>__FILE` reads its value from a
//! file. The command line wins over the environment, the environment over the file, the file over
//! the defaults. What is wrong is reported all at once, at start.

mod check;
mod leaf;
mod names;
pub mod notifiers;
mod reference;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

pub use leaf::{Cron, Millis, Secret, TrustProxy};
pub use reference::reference;
pub use tree::*;

use plimsoll_domain::registry::RegistryKind;

use crate::args::CommonArgs;
use leaf::{Leaf, Setting};
use names::Entry;

/// Largest file that `<NAME>__FILE` reads.
const MAX_VALUE_FILE: u64 = 1024 * 1024;

/// Names without our prefix that other tools use too.
const PLAIN: &[(&str, &[&str])] = &[
    ("DATABASE_URL", &["database", "url"]),
    ("REDIS_URL", &["redis", "url"]),
    ("DOCKER_HOST", &["docker", "host"]),
    ("DOCKER_TLS_VERIFY", &["docker", "tls_verify"]),
    ("DOCKER_CERT_PATH", &["docker", "cert_path"]),
    ("DOCKER_CONFIG", &["docker", "config"]),
    ("DOCKSMITH_AUTH", &["docksmith", "auth"]),
    ("STACKS_DIR", &["stacks", "directories"]),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        &["telemetry", "otlp_endpoint"],
    ),
];

/// The settings, and what should be logged once there is a log.
#[derive(Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub notices: Vec<Notice>,
}

/// Something about the configuration that is no error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A setting of Drydock's without meaning here.
    Ignored { name: String },
    /// A `DD_` name that nobody knows.
    Unknown {
        name: String,
        nearest: Option<String>,
    },
    /// Others on this machine can read the file that holds a value.
    LoosePermissions { name: String, path: PathBuf },
    /// A name of the program that Drydock came from.
    Legacy { name: String, instead: String },
    /// The file that was read.
    File { path: PathBuf },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ignored { name } => write!(f, "{name} has no meaning in Plimsoll and is ignored"),
            Self::Unknown { name, nearest } => {
                write!(f, "{name} is not a known setting and is ignored")?;
                match nearest {
                    Some(nearest) => write!(f, "; did you mean {nearest}?"),
                    None => Ok(()),
                }
            }
            Self::LoosePermissions { name, path } => write!(
                f,
                "{name}: everyone on this machine can read {}; set its mode to 600",
                path.display()
            ),
            Self::Legacy { name, instead } => {
                write!(f, "{name} is an old name; use {instead}")
            }
            Self::File { path } => write!(f, "settings read from {}", path.display()),
        }
    }
}

/// Everything that is wrong with the configuration, each naming its setting.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n  - {}", .problems.join("\n  - "))]
pub struct SettingsError {
    pub problems: Vec<String>,
}

impl Settings {
    /// Reads the configuration. Depends on nothing but its arguments and the files they name.
    ///
    /// # Errors
    /// Unknown, malformed, contradictory or unreadable settings: all of them, not only the first.
    pub fn load(
        args: &CommonArgs,
        env: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, SettingsError> {
        let mut reader = Reader::new(env);
        reader.read_file(args);
        reader.read_environment();
        reader.read_arguments(args);
        reader.finish()
    }

    /// Where to listen: `listen`, with the port of `server.port` if that is set.
    pub fn listen_address(&self) -> std::net::SocketAddr {
        let mut address = self.listen;
        if let Some(port) = self.server.port {
            address.set_port(port);
        }
        address
    }

    /// The configured watchers; `local` with defaults if there is none and it is not switched off.
    pub fn watchers(&self) -> BTreeMap<String, Watcher> {
        if self.watcher.is_empty() && self.local_watcher {
            return BTreeMap::from([("local".into(), Watcher::default())]);
        }
        self.watcher.clone()
    }

    /// The docker triggers that exist; `local` with defaults if none is configured. One trigger
    /// serves the containers of every watcher.
    pub fn docker_triggers(&self) -> BTreeMap<String, DockerTrigger> {
        if self.trigger.docker.is_empty() {
            let unasked = DockerTrigger {
                auto: Auto::False,
                ..DockerTrigger::default()
            };
            return BTreeMap::from([("local".into(), unasked)]);
        }
        let mut triggers = self.trigger.docker.clone();
        triggers.retain(|_, trigger| trigger.enabled);
        triggers
    }

    /// The dockercompose triggers that exist.
    pub fn compose_triggers(&self) -> BTreeMap<String, ComposeTrigger> {
        let mut triggers = self.trigger.dockercompose.clone();
        triggers.retain(|_, trigger| trigger.enabled);
        triggers
    }

    /// Whether somebody can log in without the generated owner.
    pub fn authentication_configured(&self) -> bool {
        self.anonymous_auth_confirm || !self.auth.basic.is_empty()
    }
}

/// Collects values from all sources, and what is wrong with them.
struct Reader {
    env: BTreeMap<String, String>,
    entries: Vec<Entry>,
    settings: Settings,
    notices: Vec<Notice>,
    problems: Vec<String>,
}

impl Reader {
    fn new(env: impl IntoIterator<Item = (String, String)>) -> Self {
        let settings = Settings::default();
        let mut entries = Vec::new();
        settings.describe(&[], "", &mut entries);
        Self {
            env: env.into_iter().collect(),
            entries,
            settings,
            notices: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn read_file(&mut self, args: &CommonArgs) {
        let named = args
            .config
            .clone()
            .or_else(|| self.env.get("PLIMSOLL_CONFIG").map(PathBuf::from));
        let path = match named {
            Some(path) => path,
            None => {
                let data = args
                    .data_dir
                    .clone()
                    .or_else(|| self.env.get("PLIMSOLL_DATA_DIR").map(PathBuf::from))
                    .unwrap_or_else(|| self.settings.data_dir.clone());
                let usual = [PathBuf::from("plimsoll.toml"), data.join("plimsoll.toml")];
                match usual.into_iter().find(|path| path.exists()) {
                    Some(path) => path,
                    None => return,
                }
            }
        };
        let shown = path.display().to_string();
        let table = std::fs::read_to_string(&path)
            .map_err(|error| error.to_string())
            .and_then(|text| {
                text.parse::<toml::Table>()
                    .map_err(|error| error.to_string())
            });
        match table {
            Ok(table) => {
                self.notices.push(Notice::File { path });
                self.read_table(&shown, &mut Vec::new(), &table);
            }
            Err(error) => self.problems.push(format!("{shown}: {}", error.trim_end())),
        }
    }

    fn read_table(&mut self, file: &str, path: &mut Vec<String>, table: &toml::Table) {
        for (key, value) in table {
            path.push(key.clone());
            let text = match value {
                toml::Value::Table(below) => {
                    if below.is_empty() && names::is_known_path(&self.entries, path) {
                        Some(String::new())
                    } else {
                        self.read_table(file, path, below);
                        None
                    }
                }
                toml::Value::String(text) => Some(text.clone()),
                toml::Value::Integer(number) => Some(number.to_string()),
                toml::Value::Boolean(value) => Some(value.to_string()),
                toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Array(_) => {
                    self.problems.push(format!(
                        "{} in {file}: a {} cannot be a setting",
                        path.join("."),
                        value.type_str()
                    ));
                    None
                }
            };
            if let Some(text) = text {
                let name = format!("{} in {file}", path.join("."));
                if names::is_known_path(&self.entries, path) {
                    self.set(&name, path, &text);
                } else {
                    let flat = path.join("_").to_uppercase();
                    let nearest =
                        names::nearest(&self.entries, &flat).map(|n| format!("PLIMSOLL_{n}"));
                    self.problems.push(unknown(&name, nearest));
                }
            }
            path.pop();
        }
    }

    fn read_environment(&mut self) {
        // By setting, so that two names for one setting can be compared.
        let mut values: BTreeMap<Vec<String>, Vec<(String, String)>> = BTreeMap::new();
        for (name, raw) in std::mem::take(&mut self.env) {
            let Some((path, from_file)) = self.path_of(&name, &raw) else {
                continue;
            };
            let value = if from_file {
                match self.read_value_file(&name, Path::new(&raw)) {
                    Ok(value) => value,
                    Err(problem) => {
                        self.problems.push(problem);
                        continue;
                    }
                }
            } else {
                raw
            };
            values.entry(path).or_default().push((name, value));
        }
        for (path, given) in values {
            let (name, value) = &given[0];
            let both_forms = given
                .iter()
                .any(|(other, _)| given.iter().any(|(n, _)| *n == format!("{other}__FILE")));
            if both_forms || given.iter().any(|(_, other)| other != value) {
                let all: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
                let problem = if both_forms {
                    "give the value or the file, not both"
                } else {
                    "they name one setting and differ; keep one of them"
                };
                self.problems
                    .push(format!("{}: {problem}", all.join(" and ")));
                continue;
            }
            self.set(name, &path, value);
        }
    }

    /// The setting that an environment name means, and whether the value is in a file. Reports
    /// names that mean nothing.
    fn path_of(&mut self, name: &str, raw: &str) -> Option<(Vec<String>, bool)> {
        let (stem, from_file) = match name.strip_suffix("__FILE") {
            Some(stem) => (stem, true),
            None => (name, false),
        };
        if let Some((_, path)) = PLAIN.iter().find(|(plain, _)| *plain == stem) {
            return Some((path.iter().map(|s| (*s).to_owned()).collect(), from_file));
        }
        if name == "PLIMSOLL_CONFIG" || name == CRASH_AT {
            return None;
        }
        let (prefix, short) = ["PLIMSOLL_", "DD_", LEGACY]
            .into_iter()
            .find_map(|prefix| Some((prefix, stem.strip_prefix(prefix)?)))?;
        let short = short.to_ascii_uppercase();
        // An empty file name is not an empty value.
        let value = if from_file { "file" } else { raw };
        let foreign = prefix != "PLIMSOLL_" && is_foreign_registry(&short);
        if !foreign && let Some(path) = names::find(&self.entries, &short, value) {
            if prefix == LEGACY {
                self.notices.push(Notice::Legacy {
                    name: name.into(),
                    instead: format!("DD_{}", &name[LEGACY.len()..]),
                });
            }
            return Some((path, from_file));
        }
        let nearest = names::nearest(&self.entries, &short).map(|near| format!("{prefix}{near}"));
        if prefix == "PLIMSOLL_" {
            self.problems.push(unknown(name, nearest));
        } else if foreign
            || names::is_meaningless(&short)
            || (nearest.is_none() && names::is_component(&short))
        {
            self.notices.push(Notice::Ignored { name: name.into() });
        } else {
            self.notices.push(Notice::Unknown {
                name: name.into(),
                nearest,
            });
        }
        None
    }

    fn read_value_file(&mut self, name: &str, path: &Path) -> Result<String, String> {
        let problem = |what: String| format!("{name}: {}: {what}", path.display());
        let file = File::open(path).map_err(|error| problem(error.to_string()))?;
        let metadata = file
            .metadata()
            .map_err(|error| problem(error.to_string()))?;
        if !metadata.is_file() {
            return Err(problem("it is not a file".into()));
        }
        if metadata.mode() & 0o007 != 0 {
            self.notices.push(Notice::LoosePermissions {
                name: name.into(),
                path: path.into(),
            });
        }
        let mut value = String::new();
        file.take(MAX_VALUE_FILE + 1)
            .read_to_string(&mut value)
            .map_err(|error| problem(error.to_string()))?;
        if value.len() as u64 > MAX_VALUE_FILE {
            return Err(problem("it is larger than 1 MiB".into()));
        }
        value.truncate(value.trim_end().len());
        Ok(value)
    }

    fn read_arguments(&mut self, args: &CommonArgs) {
        if let Some(listen) = args.listen {
            self.settings.listen = listen;
            self.settings.server.port = None;
        }
        if let Some(path) = &args.data_dir {
            self.settings.data_dir.clone_from(path);
        }
        if let Some(level) = &args.log_level {
            match LogLevel::parse(level) {
                Ok(level) => self.settings.log.level = level,
                Err(problem) => self.problems.push(format!("--log-level: {problem}")),
            }
        }
    }

    fn set(&mut self, name: &str, path: &[String], value: &str) {
        if let Err(problem) = self.settings.set(path, value) {
            // A secret that cannot be read is not repeated: no secret has a form to violate.
            self.problems.push(format!("{name}: {problem}"));
        }
    }

    fn finish(mut self) -> Result<Loaded, SettingsError> {
        if self.problems.is_empty() {
            self.problems = check::contradictions(&self.settings);
        }
        if self.problems.is_empty() {
            Ok(Loaded {
                settings: self.settings,
                notices: self.notices,
            })
        } else {
            Err(SettingsError {
                problems: self.problems,
            })
        }
    }
}

/// A type of registry that neither Drydock nor we know: with its prefix it is ignored, with ours it
/// is an error that `check` words.
fn is_foreign_registry(name: &str) -> bool {
    name.strip_prefix("REGISTRY_").is_some_and(|rest| {
        let kind = rest.split('_').next().unwrap_or_default();
        kind.parse::<RegistryKind>().is_err()
    })
}

/// The prefix of the program that Drydock came from.
const LEGACY: &str = "WUD_";

/// Not a setting: where a test wants the worker to die (`worker/src/operations/crash_point.rs`).
const CRASH_AT: &str = "PLIMSOLL_TEST_CRASH_AT";

fn unknown(name: &str, nearest: Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("{name}: there is no such setting; did you mean {nearest}?"),
        None => format!("{name}: there is no such setting; docs/settings.md lists them all"),
    }
}
