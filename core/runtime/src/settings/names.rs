//! The names of settings: from environment names to paths in the tree, and the nearest name for a
//! misspelt one.

/// A part of a setting's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segment {
    Fixed(&'static str),
    /// Chosen by the user: a watcher's name, a registry's type.
    Name,
}

/// A setting that exists.
#[derive(Clone, Debug)]
pub struct Entry {
    pub path: Vec<Segment>,
    pub doc: &'static str,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    Value {
        syntax: &'static str,
        default: String,
        secret: bool,
    },
    /// A named section itself. Set to nothing, it exists with its defaults, as in
    /// `DD_REGISTRY_HUB_PUBLIC=`.
    Instance,
}

impl Entry {
    /// Such as `watcher.<name>.socket`.
    pub fn toml_name(&self) -> String {
        self.render(".", |s| s.to_owned())
    }

    /// Without its prefix: `WATCHER_<name>_SOCKET`.
    pub fn env_name(&self) -> String {
        self.render("_", str::to_ascii_uppercase)
    }

    fn render(&self, joint: &str, fixed: impl Fn(&str) -> String) -> String {
        let placeholders: &[&str] = match self.path.first() {
            Some(Segment::Fixed("registry")) => &["<type>", "<name>"],
            _ => &["<name>"],
        };
        let mut placeholders = placeholders.iter();
        let mut out = String::new();
        for segment in &self.path {
            if !out.is_empty() {
                out.push_str(joint);
            }
            match segment {
                Segment::Fixed(word) => out.push_str(&fixed(word)),
                Segment::Name => out.push_str(placeholders.next().unwrap_or(&"<name>")),
            }
        }
        out
    }

    /// The path that `name` (upper case, without prefix) means, if it is this setting's. Chosen
    /// names become lower case. They contain no `_`, as in Drydock: with it,
    /// `WATCHER_A_TAG_FAMILY` could be read in two ways.
    fn capture(&self, name: &str) -> Option<Vec<String>> {
        let mut rest = name;
        let mut path = Vec::new();
        for (at, segment) in self.path.iter().enumerate() {
            if at > 0 {
                rest = rest.strip_prefix('_')?;
            }
            match segment {
                Segment::Fixed(word) => {
                    rest = rest.strip_prefix(word.to_ascii_uppercase().as_str())?;
                    path.push((*word).to_owned());
                }
                Segment::Name => {
                    let (chosen, after) = rest.split_at(rest.find('_').unwrap_or(rest.len()));
                    if chosen.is_empty() {
                        return None;
                    }
                    path.push(chosen.to_ascii_lowercase());
                    rest = after;
                }
            }
        }
        rest.is_empty().then_some(path)
    }
}

/// The path of the setting that an environment name (without its prefix) means.
pub fn find(entries: &[Entry], name: &str, value: &str) -> Option<Vec<String>> {
    // Drydock's later names for triggers: those that change something, and those that tell of it.
    let later = ["ACTION_", "NOTIFICATION_"];
    let name = match later.iter().find_map(|prefix| name.strip_prefix(prefix)) {
        Some(rest) => format!("TRIGGER_{rest}"),
        None => name.to_owned(),
    };
    entries
        .iter()
        .filter(|entry| match entry.kind {
            Kind::Instance => value.trim().is_empty(),
            Kind::Value { .. } => true,
        })
        .find_map(|entry| entry.capture(&name))
}

/// Whether a path from a file is a setting.
pub fn is_known_path(entries: &[Entry], path: &[String]) -> bool {
    entries.iter().any(|entry| {
        entry.path.len() == path.len()
            && entry
                .path
                .iter()
                .zip(path)
                .all(|(segment, word)| match segment {
                    Segment::Name => true,
                    Segment::Fixed(fixed) => fixed == word,
                })
    })
}

/// The existing name that is nearest to `name`, if one is near enough to be meant.
pub fn nearest(entries: &[Entry], name: &str) -> Option<String> {
    let words: Vec<&str> = name.split('_').collect();
    entries
        .iter()
        .filter(|entry| matches!(entry.kind, Kind::Value { .. }))
        .map(|entry| {
            // Names chosen by the user are taken from the misspelt one.
            let mut chosen = words.iter().skip(1);
            entry
                .path
                .iter()
                .map(|segment| match segment {
                    Segment::Fixed(word) => word.to_ascii_uppercase(),
                    Segment::Name => (*chosen.next().unwrap_or(&"NAME")).to_owned(),
                })
                .collect::<Vec<_>>()
                .join("_")
        })
        .map(|candidate| (distance(&candidate, name), candidate))
        .min()
        .filter(|(distance, _)| *distance <= 3)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(row[j + 1] + 1);
        }
    }
    row[b.len()]
}

/// Drydock's settings that have no meaning in Plimsoll, as prefixes: they are mentioned in the log
/// and otherwise ignored.
pub const MEANINGLESS: &[&str] = &[
    "AGENT_",
    "ALLOW_INSECURE_ROOT",
    "DNS_MODE",
    "EVENT_HANDLER_TIMEOUT_MS",
    "EXPERIMENTAL_",
    "ICON_",
    "MATURITY_SWEEP_CRON",
    "PROMETHEUS_ENABLED",
    "RUN_AS_ROOT",
    "SECURITY_BACKEND",
    "SECURITY_DOCKER_",
    "SECURITY_GRYPE_",
    "SECURITY_SCAN_BATCH_TIMEOUT",
    "SECURITY_SCAN_CONCURRENCY",
    "SECURITY_SCAN_DIGEST_CACHE_",
    "SECURITY_SYFT_ARGS",
    "SECURITY_SYFT_WORKER_",
    "SELF_UPDATE_",
    "SERVER_ENABLED",
    "SERVER_UI_",
    "STORE_",
    "UPDATE_HEALTH_GATE_HEARTBEAT_MS",
    "UPDATE_OPERATION_ACTIVE_TTL_MS",
    "UPDATE_RECOVERY_BOOT_CONCURRENCY",
    "VERSION",
];

pub fn is_meaningless(name: &str) -> bool {
    MEANINGLESS.iter().any(|known| name.starts_with(known))
}

/// Components of which Plimsoll has some: a name below that is near to none of ours is Drydock's.
pub fn is_component(name: &str) -> bool {
    [
        "ACTION_",
        "NOTIFICATION_",
        "REGISTRY_",
        "TRIGGER_",
        "WATCHER_",
    ]
    .iter()
    .any(|prefix| name.starts_with(prefix))
}
