//! What containers write (contract/drydock-container-api.md, "Download container logs", "Stream
//! container logs (WebSocket)"). The worker beside the engine reads it, and it passes through.

use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveDateTime};
use plimsoll_queue::rpc::{RemoteStream, RpcError};
use serde::{Deserialize, Serialize};

use crate::{App, AppError, live};

/// The kinds of live read: all that is written, as text; and lines as JSON, as they come.
pub const DOWNLOAD: &str = "logs";
pub const FOLLOW: &str = "logs-follow";
/// Codes of the worker's refusals.
pub const TOO_LARGE: &str = "too-large";
pub const NOT_RUNNING: &str = "not-running";

/// Lines that are read at most.
pub const MAX_TAIL: u32 = 10_000;
/// Bytes of a download.
pub const MAX_DOWNLOAD: u64 = 16 << 20;

/// The worker inspects the container and looks through up to [`MAX_DOWNLOAD`] bytes meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is read of a container's output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogQuery {
    pub stdout: bool,
    pub stderr: bool,
    pub tail: u32,
    /// Seconds since the Unix epoch, with a fraction where there is one.
    pub since: Option<String>,
    pub timestamps: bool,
    pub follow: bool,
}

/// A [`LogQuery`] on its way to the worker.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRequest {
    pub container_id: String,
    #[serde(flatten)]
    pub query: LogQuery,
}

impl LogQuery {
    /// Bounds the number of lines, and refuses to read nothing.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn checked(mut self) -> Result<Self, AppError> {
        if !self.stdout && !self.stderr {
            let message = "At least one of stdout and stderr must be included";
            return Err(AppError::Invalid(message.to_owned()));
        }
        self.tail = self.tail.min(MAX_TAIL);
        Ok(self)
    }
}

/// `since` as the contract has it: seconds since the Unix epoch, or ISO 8601, where a time without
/// an offset is UTC. `0` and nothing mean from the beginning.
///
/// # Errors
/// `Invalid`.
pub fn parse_since(text: Option<&str>) -> Result<Option<String>, AppError> {
    let text = text.unwrap_or_default().trim();
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    if digits(seconds) && digits(fraction) && seconds.len() <= 12 && fraction.len() <= 9 {
        return Ok(Some(text.to_owned()));
    }
    let instant = DateTime::parse_from_rfc3339(text)
        .map(|at| at.to_utc())
        .or_else(|_| text.parse::<NaiveDateTime>().map(|at| at.and_utc()))
        .or_else(|_| {
            text.parse::<NaiveDate>()
                .map(|day| day.and_time(chrono::NaiveTime::MIN).and_utc())
        })
        .map_err(|_| AppError::Invalid("Invalid since query parameter".to_owned()))?;
    // Before the epoch is from the beginning.
    Ok((instant.timestamp() > 0).then(|| {
        format!(
            "{}.{:09}",
            instant.timestamp(),
            instant.timestamp_subsec_nanos()
        )
    }))
}

/// A download that has begun.
pub struct LogDownload {
    /// The container's.
    pub name: String,
    pub text: RemoteStream,
}

/// Why lines cannot be followed.
#[derive(Debug)]
pub enum FollowError {
    NotFound,
    NotRunning,
    Failed(String),
}

impl App {
    /// The end of a container's output, both streams as they were written.
    ///
    /// # Errors
    /// `NotFound`, `TooLarge` past [`MAX_DOWNLOAD`], `Unavailable` when no worker answers, `Failed`
    /// when it cannot read the output.
    pub async fn container_logs(
        &self,
        container: &str,
        query: LogQuery,
    ) -> Result<LogDownload, AppError> {
        let entry = self.get_container(container).await?;
        let query = query.checked()?;
        let text = self.open_logs(&entry.state.facts, DOWNLOAD, query).await;
        Ok(LogDownload {
            name: entry.state.facts.name.clone(),
            text: text.map_err(|error| match error {
                RpcError::Remote(error) if error.code == TOO_LARGE => {
                    AppError::TooLarge(error.message)
                }
                RpcError::Remote(error) if error.code != "not-found" && error.code != "busy" => {
                    AppError::Failed(format!("Error fetching container logs ({error})"))
                }
                error => live::refusal("The container's logs are", error),
            })?,
        })
    }

    /// A container's lines as they come: JSON objects `{type,ts,line}`, one per line.
    pub async fn follow_container_logs(
        &self,
        container: &str,
        query: LogQuery,
    ) -> Result<RemoteStream, FollowError> {
        let entry = match self.get_container(container).await {
            Ok(entry) => entry,
            Err(AppError::NotFound(_)) => return Err(FollowError::NotFound),
            Err(error) => return Err(FollowError::Failed(error.to_string())),
        };
        let opened = self.open_logs(&entry.state.facts, FOLLOW, query).await;
        opened.map_err(|error| match error {
            RpcError::Remote(error) if error.code == "not-found" => FollowError::NotFound,
            RpcError::Remote(error) if error.code == NOT_RUNNING => FollowError::NotRunning,
            error => FollowError::Failed(error.to_string()),
        })
    }

    async fn open_logs(
        &self,
        facts: &plimsoll_domain::container::ContainerFacts,
        kind: &str,
        query: LogQuery,
    ) -> Result<RemoteStream, RpcError> {
        let request = LogRequest {
            container_id: facts.id.as_str().to_owned(),
            query,
        };
        let request = live::payload(&request)?;
        self.open_at_worker(&facts.watcher, kind, request, PATIENCE)
            .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_seconds_or_a_time() {
        let since = |text: &str| parse_since(Some(text)).unwrap();
        assert_eq!(since("0"), None);
        assert_eq!(since(" "), None);
        assert_eq!(parse_since(None).unwrap(), None);
        assert_eq!(since("1700000000").as_deref(), Some("1700000000"));
        assert_eq!(since("1700000000.25").as_deref(), Some("1700000000.25"));
        let iso = Some("1767225601.500000000");
        assert_eq!(since("2026-01-01T00:00:01.5Z").as_deref(), iso);
        assert_eq!(since("2026-01-01T01:00:01.5+01:00").as_deref(), iso);
        assert_eq!(since("2026-01-01T00:00:01.5").as_deref(), iso);
        assert_eq!(since("2026-01-01").as_deref(), Some("1767225600.000000000"));
        assert_eq!(since("1960-01-01"), None);
        for bad in [
            "yesterday",
            "-1",
            "1e9",
            "1.2.3",
            "1700000000s",
            "9999999999999",
        ] {
            assert!(parse_since(Some(bad)).is_err(), "{bad}");
        }
    }
}
