//! The last entries of a process's own log (reference/drydock.md 1.4). Each process has its own:
//! those of an agent are read through its worker.

use std::{
    collections::{BTreeSet, VecDeque},
    str::FromStr,
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use plimsoll_domain::ids::WatcherRef;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

use crate::{App, AppError, live};

/// Entries that are kept.
pub const KEPT: usize = 1000;
/// Entries that are given out unless a number is named.
pub const DEFAULT_TAIL: usize = 100;
/// Entries that a listener may be behind.
const BEHIND: usize = 256;

/// The kind of live read.
pub const ENTRIES: &str = "log-entries";
const PATIENCE: Duration = Duration::from_secs(8);

/// The order of the variants is the order of importance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    /// Nothing of ours is; Drydock's clients may ask for it.
    Fatal,
}

impl LogLevel {
    const ALL: [Self; 6] = [
        Self::Trace,
        Self::Debug,
        Self::Info,
        Self::Warn,
        Self::Error,
        Self::Fatal,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Fatal => "fatal",
        }
    }
}

impl FromStr for LogLevel {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let found = Self::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or(())
    }
}

/// One line of the log, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEntry {
    /// Milliseconds since the Unix epoch.
    pub timestamp: i64,
    pub level: LogLevel,
    pub component: String,
    pub msg: String,
}

/// Which entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFilter {
    /// This level and what is more important.
    pub level: Option<LogLevel>,
    /// A part of the component's name.
    pub component: Option<String>,
    /// Milliseconds since the Unix epoch.
    pub since: Option<i64>,
    /// So many of the last ones.
    pub tail: usize,
}

impl LogFilter {
    /// # Errors
    /// `Invalid`, in Drydock's words.
    pub fn parse(
        level: Option<&str>,
        component: Option<&str>,
        tail: Option<&str>,
        since: Option<&str>,
    ) -> Result<Self, AppError> {
        let given = |text: Option<&str>| {
            let text = text.map(str::trim).filter(|text| !text.is_empty());
            text.map(str::to_owned)
        };
        let level = given(level).map(|text| {
            let invalid = |()| AppError::Invalid("Invalid level query parameter".to_owned());
            text.to_ascii_lowercase().parse().map_err(invalid)
        });
        let component = given(component).map(|text| {
            let word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
            match text.len() <= 128 && text.bytes().all(word) {
                true => Ok(text),
                false => Err(AppError::Invalid(
                    "Invalid component query parameter".to_owned(),
                )),
            }
        });
        // Numbers that are none fall back, as everywhere in Drydock.
        let number = |text: Option<&str>| given(text).and_then(|text| text.parse::<i64>().ok());
        let tail = number(tail).and_then(|tail| usize::try_from(tail).ok());
        Ok(Self {
            level: level.transpose()?,
            component: component.transpose()?,
            since: number(since),
            tail: tail.unwrap_or(DEFAULT_TAIL).min(KEPT),
        })
    }

    pub fn matches(&self, entry: &LogEntry) -> bool {
        self.level.is_none_or(|least| entry.level >= least)
            && self.since.is_none_or(|since| entry.timestamp >= since)
            && self
                .component
                .as_ref()
                .is_none_or(|part| entry.component.contains(part))
    }
}

/// A ring of entries.
pub struct LogRing {
    state: Mutex<State>,
    told: broadcast::Sender<Arc<LogEntry>>,
}

struct State {
    level: &'static str,
    entries: VecDeque<Arc<LogEntry>>,
}

/// The ring of this process, as the process has one log.
pub fn process_log() -> &'static LogRing {
    static RING: LazyLock<LogRing> = LazyLock::new(LogRing::default);
    &RING
}

impl Default for LogRing {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                level: LogLevel::Info.as_str(),
                entries: VecDeque::new(),
            }),
            told: broadcast::Sender::new(BEHIND),
        }
    }
}

impl LogRing {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The least important level that is logged.
    pub fn level(&self) -> &'static str {
        self.lock().level
    }

    pub fn set_level(&self, level: &'static str) {
        self.lock().level = level;
    }

    pub fn push(&self, entry: LogEntry) {
        let entry = Arc::new(entry);
        let mut state = self.lock();
        if state.entries.len() == KEPT {
            state.entries.pop_front();
        }
        state.entries.push_back(entry.clone());
        // Under the lock, so that a listener that has just looked misses none. Nobody may listen.
        let _ = self.told.send(entry);
    }

    /// Oldest first.
    pub fn entries(&self, filter: &LogFilter) -> Vec<Arc<LogEntry>> {
        matching(&self.lock(), filter)
    }

    /// Entries so far, and all that follow.
    pub fn follow(
        &self,
        filter: &LogFilter,
    ) -> (Vec<Arc<LogEntry>>, broadcast::Receiver<Arc<LogEntry>>) {
        let state = self.lock();
        (matching(&state, filter), self.told.subscribe())
    }

    /// The components that have an entry, by name.
    pub fn components(&self) -> Vec<String> {
        let state = self.lock();
        let names: BTreeSet<&str> = state.entries.iter().map(|e| e.component.as_str()).collect();
        names.into_iter().map(str::to_owned).collect()
    }
}

fn matching(state: &State, filter: &LogFilter) -> Vec<Arc<LogEntry>> {
    let newest_first = state.entries.iter().rev();
    let mut found: Vec<Arc<LogEntry>> = newest_first
        .filter(|entry| filter.matches(entry))
        .take(filter.tail)
        .cloned()
        .collect();
    found.reverse();
    found
}

/// Where a worker listens for questions about itself: an engine without a name.
pub fn agent_itself(agent: &str) -> WatcherRef {
    WatcherRef {
        agent: agent.to_owned(),
        name: String::new(),
    }
}

impl App {
    /// The log of one agent; of several workers under its name, one answers.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable` while the agent is not connected, `Upstream` when it does not
    /// answer.
    pub async fn agent_log_entries(
        &self,
        agent: &str,
        filter: &LogFilter,
    ) -> Result<Vec<LogEntry>, AppError> {
        let agents = self.agents().await?;
        let known = agents.iter().find(|known| known.name == agent);
        let known = known.ok_or_else(|| AppError::NotFound("Agent not found".to_owned()))?;
        if !known.connected {
            return Err(AppError::Unavailable {
                message: "Agent is not connected".to_owned(),
                retry_after: Duration::from_secs(5),
            });
        }
        let failed = || AppError::Upstream("Failed to fetch logs from agent".to_owned());
        let request = live::payload(filter).map_err(|_| failed())?;
        let queue = self.queue();
        let answer = queue
            .call(&agent_itself(agent), ENTRIES, &request, PATIENCE)
            .await;
        let answer = answer.map_err(|error| {
            tracing::debug!(agent, %error, "an agent's log cannot be read");
            failed()
        })?;
        serde_json::from_value(answer).map_err(|_| failed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(timestamp: i64, level: LogLevel, component: &str) -> LogEntry {
        LogEntry {
            timestamp,
            level,
            component: component.to_owned(),
            msg: format!("entry {timestamp}"),
        }
    }

    #[test]
    fn a_thousand_entries_are_kept_and_a_hundred_shown() {
        let ring = LogRing::default();
        for number in 0..1500 {
            ring.push(entry(number, LogLevel::Info, "worker"));
        }
        let times = |filter: &LogFilter| -> Vec<i64> {
            ring.entries(filter).iter().map(|e| e.timestamp).collect()
        };
        let default = LogFilter::parse(None, None, None, None).unwrap();
        assert_eq!(times(&default), (1400..1500).collect::<Vec<_>>());
        let all = LogFilter::parse(None, None, Some("99999"), None).unwrap();
        assert_eq!(times(&all), (500..1500).collect::<Vec<_>>());
        let some = LogFilter::parse(None, None, Some("2"), Some("1400")).unwrap();
        assert_eq!(times(&some), [1498, 1499]);
    }

    #[test]
    fn entries_are_chosen_by_level_and_part_of_the_component() {
        let ring = LogRing::default();
        ring.push(entry(1, LogLevel::Debug, "worker.watchers"));
        ring.push(entry(2, LogLevel::Warn, "worker.watchers"));
        ring.push(entry(3, LogLevel::Error, "api.edge"));
        let chosen = |level, component| -> Vec<i64> {
            let filter = LogFilter::parse(level, component, Some("bogus"), None).unwrap();
            ring.entries(&filter).iter().map(|e| e.timestamp).collect()
        };
        assert_eq!(chosen(Some("WARN"), None), [2, 3]);
        assert!(chosen(Some("fatal"), None).is_empty());
        assert_eq!(chosen(None, Some("watch")), [1, 2]);
        assert!(chosen(Some("error"), Some("watch")).is_empty());
        assert_eq!(ring.components(), ["api.edge", "worker.watchers"]);
    }

    #[test]
    fn what_is_no_level_and_no_component_is_refused_by_name() {
        let refused = |level, component| {
            let filter = LogFilter::parse(level, component, None, None);
            filter.unwrap_err().to_string()
        };
        assert_eq!(refused(Some("loud"), None), "Invalid level query parameter");
        assert_eq!(
            refused(None, Some("a b")),
            "Invalid component query parameter"
        );
    }
}
