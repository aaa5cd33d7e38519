//! A watcher's settings, as reference/drydock.md section 3 names them.

use std::{path::PathBuf, time::Duration};

use plimsoll_domain::{
    candidate::WatchDefault,
    ids::WatcherRef,
    labels::TagFamily,
    policy::{MaturityMode, UpdatePolicy},
    schedule::CronSchedule,
};
use serde_json::{Value, json};

use crate::docker::EngineAddress;

/// One watcher. Holds no secret: TLS keys are files.
#[derive(Clone, Debug)]
pub struct WatcherSettings {
    pub reference: WatcherRef,
    pub address: EngineAddress,
    /// When registries are asked, with its time zone.
    pub schedule: CronSchedule,
    /// The minutes in which watches that are due run; `None`: any.
    pub window: Option<CronSchedule>,
    /// The longest delay after each time of the schedule. The delay of one slot is the same on
    /// every worker.
    pub jitter: Duration,
    /// When everything that is watched is scanned; `None`: never by itself.
    pub scans: Option<ScanSchedule>,
    pub watch_by_default: WatchDefault,
    /// Whether cycles check containers that do not run, too.
    pub watch_all: bool,
    /// Whether containers are checked soon after they were discovered.
    pub watch_events: bool,
    /// Whether a cycle runs at start, unless one ran a moment ago.
    pub watch_at_start: bool,
    /// For containers without the label `dd.tag.family`.
    pub tag_family: TagFamily,
    pub maturity_mode: MaturityMode,
    /// Days.
    pub maturity_min_age_days: u16,
    /// Only containers with this label, `key` or `key=value`, exist for this watcher: several
    /// installations can share an engine without seeing each other's containers.
    pub scope: Option<LabelScope>,
    /// Where Compose files may be read, to tell what they say; none: nowhere.
    pub compose_directories: Vec<PathBuf>,
    /// Whose directories are Compose projects of this engine, whether or not they were ever
    /// started.
    pub stack_directories: Vec<PathBuf>,
}

/// When images are scanned without being asked.
#[derive(Clone, Debug)]
pub struct ScanSchedule {
    pub schedule: CronSchedule,
    /// As of watches.
    pub jitter: Duration,
}

/// A label that containers must carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelScope {
    pub key: String,
    /// `None`: any value.
    pub value: Option<String>,
}

impl LabelScope {
    /// Reads `key` or `key=value`; `None` without a key.
    pub fn parse(text: &str) -> Option<Self> {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key.trim(), Some(value.trim().to_owned())),
            None => (text.trim(), None),
        };
        (!key.is_empty()).then(|| Self {
            key: key.to_owned(),
            value,
        })
    }

    /// Whether an inspected container is in it.
    pub fn holds(&self, inspect: &Value) -> bool {
        let label = inspect["Config"]["Labels"][&self.key].as_str();
        match (&self.value, label) {
            (Some(wanted), Some(label)) => wanted == label,
            (None, Some(_)) => true,
            (_, None) => false,
        }
    }
}

impl std::fmt::Display for LabelScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.key)?;
        match &self.value {
            Some(value) => write!(f, "={value}"),
            None => Ok(()),
        }
    }
}

/// What is checked unless `watchall` says otherwise.
const ALIVE: &[&str] = &["running", "paused", "restarting"];

impl WatcherSettings {
    /// The states in which cycles check a container; `None`: in any.
    pub fn checked_statuses(&self) -> Option<&'static [&'static str]> {
        (!self.watch_all).then_some(ALIVE)
    }

    /// The defaults of reference/drydock.md 3, but for what the engine and its schedule are.
    pub fn new(reference: WatcherRef, address: EngineAddress, schedule: CronSchedule) -> Self {
        Self {
            reference,
            address,
            schedule,
            window: None,
            jitter: Duration::from_secs(60),
            scans: None,
            watch_by_default: WatchDefault::Watch,
            watch_all: false,
            watch_events: true,
            watch_at_start: true,
            tag_family: TagFamily::Strict,
            maturity_mode: MaturityMode::All,
            maturity_min_age_days: plimsoll_domain::policy::DEFAULT_MIN_AGE_DAYS,
            scope: None,
            compose_directories: Vec::new(),
            stack_directories: Vec::new(),
        }
    }

    /// The policy of containers that have none of their own.
    pub fn policy(&self) -> Option<UpdatePolicy> {
        (self.maturity_mode == MaturityMode::Mature).then(|| UpdatePolicy {
            maturity_mode: Some(MaturityMode::Mature),
            maturity_min_age_days: Some(self.maturity_min_age_days),
            ..UpdatePolicy::default()
        })
    }

    /// `configuration` of `GET /api/v1/watchers`.
    pub fn shown(&self) -> Value {
        json!({
            "address": self.address.to_string(),
            "cron": self.schedule.expression(),
            "timezone": self.schedule.zone().name(),
            "maintenancewindow": self.window.as_ref().map(CronSchedule::expression),
            "maintenancewindowtz": self.window.as_ref().map(|window| window.zone().name()),
            "jitter": self.jitter.as_millis() as u64,
            "watchbydefault": self.watch_by_default == WatchDefault::Watch,
            "watchall": self.watch_all,
            "watchevents": self.watch_events,
            "watchatstart": self.watch_at_start,
            "maturitymode": self.maturity_mode,
            "maturityminagedays": self.maturity_min_age_days,
            "tagfamily": self.tag_family,
            "scope": self.scope.as_ref().map(ToString::to_string),
            "stacks": self.stack_directories,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_a_label_with_or_without_a_value() {
        let container = json!({"Config": {"Labels": {"team": "web", "empty": ""}}});
        let holds = |text| LabelScope::parse(text).is_some_and(|scope| scope.holds(&container));
        assert!(holds("team"));
        assert!(holds("team=web"));
        assert!(holds("empty="));
        assert!(!holds("team=ops"));
        assert!(!holds("other"));
        assert_eq!(LabelScope::parse("=web"), None);
        assert!(!LabelScope::parse("team").is_some_and(|s| s.holds(&json!({}))));
    }
}
