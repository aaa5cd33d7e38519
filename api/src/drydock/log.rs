//! The log of this process, and of agents (reference/drydock.md 1.4). Replicas have a log each: the
//! one that answers shows its own.

use std::sync::Arc;

use futures::Stream;
use plimsoll_app::log::{LogEntry, LogFilter, process_log};
use plimsoll_domain::access::Scope;
use poem::web::websocket::BoxWebSocketUpgraded;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use tokio::sync::broadcast::{Receiver, error::RecvError};

use super::{
    Tag,
    described::{Text, text},
    error::{ErrorOf, Reads},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    choices, error_set,
    middleware::context::RequestContext,
    sockets::{Close, Upgrade},
    words,
};

/// `GET /api/v1/log`, `/log/entries`, `/log/components`, the WebSocket `/log/stream`, and
/// `/agents/{name}/log/entries`.
pub struct Log;

error_set!(
    /// Reads of another process.
    pub AgentReads = 400, 404, 502
);

#[derive(Object)]
#[oai(rename = "LogSettings")]
struct LogView {
    /// The least important level that is logged.
    level: String,
}

#[derive(Object)]
#[oai(rename = "LogEntry")]
struct LogEntryView {
    /// Milliseconds since the Unix epoch.
    timestamp: i64,
    level: String,
    component: String,
    msg: String,
}

impl From<LogEntry> for LogEntryView {
    fn from(entry: LogEntry) -> Self {
        Self {
            timestamp: entry.timestamp,
            level: entry.level.as_str().to_owned(),
            component: entry.component,
            msg: entry.msg,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Log {
    /// Show the log level
    #[oai(
        path = "/log",
        method = "get",
        operation_id = "getLog",
        tag = "Tag::App"
    )]
    async fn level(
        &self,
        _who: Authorized<perm::SystemRead>,
    ) -> Result<Json<LogView>, ErrorOf<Reads>> {
        let level = process_log().level().to_owned();
        Ok(Json(LogView { level }))
    }

    /// List log entries
    ///
    /// The last ones of this process, oldest first. Secrets are redacted.
    #[oai(
        path = "/log/entries",
        method = "get",
        operation_id = "listLogEntries",
        tag = "Tag::App"
    )]
    async fn entries(
        &self,
        _who: Authorized<perm::AuditRead>,
        /// This level and what is more important: trace, debug, info, warn, error or fatal
        level: Query<Option<Text<LevelWord>>>,
        /// A part of the component's name
        component: Query<Option<Text<ComponentWord>>>,
        /// So many of the last ones, 100 by default, 1000 at most
        tail: Query<Option<String>>,
        /// Only later ones: milliseconds since the Unix epoch
        since: Query<Option<String>>,
    ) -> Result<Json<Vec<LogEntryView>>, ErrorOf<Reads>> {
        let filter = filter(&level, &component, &tail, &since)?;
        let entries = process_log().entries(&filter);
        let entries = entries.into_iter().map(Arc::unwrap_or_clone);
        Ok(Json(entries.map(LogEntryView::from).collect()))
    }

    /// List the components that have log entries
    #[oai(
        path = "/log/components",
        method = "get",
        operation_id = "listLogComponents",
        tag = "Tag::App"
    )]
    async fn components(
        &self,
        _who: Authorized<perm::AuditRead>,
    ) -> Result<Json<Vec<String>>, ErrorOf<Reads>> {
        Ok(Json(process_log().components()))
    }

    /// Follow the log (WebSocket)
    ///
    /// Each message is an entry: the last ones first, then each as it is written. Close codes: 1013
    /// the client reads too slowly, 1008 the credential ended, 1001 the server ends.
    #[oai(
        path = "/log/stream",
        method = "get",
        operation_id = "streamLog",
        tag = "Tag::App"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn follow(
        &self,
        _who: Authorized<perm::AuditRead>,
        state: ApiState,
        context: RequestContext,
        /// This level and what is more important: trace, debug, info, warn, error or fatal
        level: Query<Option<Text<LevelWord>>>,
        /// A part of the component's name
        component: Query<Option<Text<ComponentWord>>>,
        /// So many of the last ones to begin with, 100 by default, 1000 at most
        tail: Query<Option<String>>,
        /// Only later ones: milliseconds since the Unix epoch
        since: Query<Option<String>>,
        upgrade: Upgrade,
    ) -> Result<BoxWebSocketUpgraded, ErrorOf<Reads>> {
        let filter = filter(&level, &component, &tail, &since)?;
        let open = async move || {
            let (first, next) = process_log().follow(&filter);
            Ok(texts(filter, first, next))
        };
        Ok(upgrade.serve(state, context, Scope::AuditRead, open))
    }

    /// List an agent's log entries
    ///
    /// As its worker keeps them, oldest first. Secrets are redacted.
    #[oai(
        path = "/agents/:name/log/entries",
        method = "get",
        operation_id = "listAgentLogEntries",
        tag = "Tag::Components"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn agent_entries(
        &self,
        _who: Authorized<perm::AuditRead>,
        state: ApiState,
        name: Path<String>,
        /// This level and what is more important: trace, debug, info, warn, error or fatal
        level: Query<Option<Text<LevelWord>>>,
        /// A part of the component's name
        component: Query<Option<Text<ComponentWord>>>,
        /// So many of the last ones, 100 by default, 1000 at most
        tail: Query<Option<String>>,
        /// Only later ones: milliseconds since the Unix epoch
        since: Query<Option<String>>,
    ) -> Result<Json<Vec<LogEntryView>>, ErrorOf<AgentReads>> {
        let filter = filter(&level, &component, &tail, &since)?;
        let entries = state.app.agent_log_entries(&name, &filter).await?;
        Ok(Json(entries.into_iter().map(LogEntryView::from).collect()))
    }
}

choices!(
    LevelWord as "LogLevel" = "trace",
    "debug",
    "info",
    "warn",
    "error",
    "fatal",
    ""
);
words!(ComponentWord = 0..=128, "^[a-zA-Z0-9._-]*$");

fn filter(
    level: &Option<Text<LevelWord>>,
    component: &Option<Text<ComponentWord>>,
    tail: &Option<String>,
    since: &Option<String>,
) -> Result<LogFilter, plimsoll_app::AppError> {
    LogFilter::parse(
        text(level),
        text(component),
        tail.as_deref(),
        since.as_deref(),
    )
}

fn texts(
    filter: LogFilter,
    first: Vec<Arc<LogEntry>>,
    mut next: Receiver<Arc<LogEntry>>,
) -> impl Stream<Item = Result<Vec<String>, Close>> + Send {
    let text = |entry: &LogEntry| serde_json::to_string(entry).ok();
    async_stream::stream! {
        yield Ok(first.iter().filter_map(|entry| text(entry)).collect());
        loop {
            match next.recv().await {
                Ok(entry) if filter.matches(&entry) => {
                    yield Ok(text(&entry).into_iter().collect());
                }
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => {
                    yield Err(Close::slow());
                    return;
                }
                Err(RecvError::Closed) => return,
            }
        }
    }
}
