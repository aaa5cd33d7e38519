//! Keeps the last entries of the log for those who ask over HTTP, without secrets.

use std::fmt::{Debug, Write};

use chrono::Utc;
use plimsoll_app::log::{LogEntry, LogLevel, LogRing, process_log};
use plimsoll_domain::redact::{REDACTED, is_sensitive, redact_text};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{Layer, layer::Context};

/// Bytes of one entry; longer ones are cut.
const LONGEST: usize = 4096;

/// Writes entries into a ring.
pub struct RingLayer {
    ring: &'static LogRing,
}

impl RingLayer {
    pub fn of_process() -> Self {
        Self {
            ring: process_log(),
        }
    }
}

impl<S: Subscriber> Layer<S> for RingLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        if !is_ours(metadata) {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        self.ring.push(LogEntry {
            timestamp: Utc::now().timestamp_millis(),
            level: level(*metadata.level()),
            component: component(metadata.target()),
            msg: text.finish(),
        });
    }
}

/// Libraries are kept from `warn` on: what they say at a socket's every frame would be told by a
/// frame of the socket that shows it.
fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with("plimsoll") || *metadata.level() <= Level::WARN
}

fn level(level: Level) -> LogLevel {
    match level {
        Level::TRACE => LogLevel::Trace,
        Level::DEBUG => LogLevel::Debug,
        Level::INFO => LogLevel::Info,
        Level::WARN => LogLevel::Warn,
        Level::ERROR => LogLevel::Error,
    }
}

/// `plimsoll_worker::watchers::events` is `worker.watchers.events`.
fn component(target: &str) -> String {
    let target = target.strip_prefix("plimsoll_").unwrap_or(target);
    target.replace("::", ".")
}

/// The message, then the other fields as `name=value`.
#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn field(&mut self, name: &str, value: &str) {
        let shown = match is_sensitive(name, value) {
            true => REDACTED,
            false => value,
        };
        // Writing to a string cannot fail.
        let _ = write!(self.fields, " {name}={shown}");
    }

    fn finish(self) -> String {
        let mut text = redact_text(&(self.message + &self.fields))
            .trim_start()
            .to_owned();
        if text.len() > LONGEST {
            let mut end = LONGEST;
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text.truncate(end);
        }
        text
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => self.field(name, value),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn entries_have_their_component_and_no_secrets() {
        let ring: &'static LogRing = Box::leak(Box::default());
        let subscriber = tracing_subscriber::registry().with(RingLayer { ring });
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(
                target: "plimsoll_worker::watchers::events",
                db_password = "hunter2",
                url = "redis://:hunter2@host/0",
                count = 3,
                "away: Authorization: Bearer hunter2hunter2"
            );
            tracing::debug!(target: "hyper::proto", "a frame");
            tracing::error!(target: "rustls::check", "bad certificate");
        });
        let entries = ring.entries(&plimsoll_app::log::LogFilter {
            tail: 10,
            ..Default::default()
        });
        let [ours, library] = &entries[..] else {
            panic!("two entries: {entries:?}");
        };
        assert_eq!(ours.component, "worker.watchers.events");
        assert_eq!(ours.level, LogLevel::Warn);
        assert!(!ours.msg.contains("hunter2"), "{}", ours.msg);
        assert!(ours.msg.starts_with("away: ") && ours.msg.contains("count=3"));
        assert_eq!(library.component, "rustls.check");
    }
}
