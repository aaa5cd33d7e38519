//! What containers write: read as it comes, and the last lines for an operation's record.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use plimsoll_domain::ids::ContainerId;
use serde_json::Value;
use tokio::time::timeout;

use super::containers::{about, named};
use super::engine::{Engine, deadline, escape};
use super::error::EngineError;
use super::log_pieces::{Demux, Framing};

/// What to read of a container's output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    /// So many of the last lines.
    pub tail: u32,
    /// Seconds since the Unix epoch, with a fraction where there is one.
    pub since: Option<String>,
    pub timestamps: bool,
    /// Whether to wait for what is still to be written.
    pub follow: bool,
}

impl LogOptions {
    fn query(&self) -> String {
        let flag = |name: &str, on: bool| format!("{name}={}", u8::from(on));
        let mut query = [
            flag("stdout", self.stdout),
            flag("stderr", self.stderr),
            flag("timestamps", self.timestamps),
            flag("follow", self.follow),
            format!("tail={}", self.tail),
        ]
        .join("&");
        if let Some(since) = &self.since {
            query.push_str("&since=");
            query.push_str(&escape(since));
        }
        query
    }
}

/// A container's output as it arrives. Dropping it ends the request.
pub struct LogBody {
    engine: Engine,
    subject: String,
    body: Incoming,
}

impl LogBody {
    /// The next bytes, `None` at the end. May be dropped while it waits without losing anything.
    pub async fn next(&mut self) -> Result<Option<Bytes>, EngineError> {
        let about = about("show the output of", &self.subject);
        while let Some(frame) = self.body.frame().await {
            let frame = frame.map_err(|e| self.engine.interrupted(about, &e.to_string()))?;
            if let Ok(data) = frame.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// As [`LogBody::next`], for what is written already: an engine that sends nothing for long
    /// has hung.
    pub async fn next_written(&mut self) -> Result<Option<Bytes>, EngineError> {
        match timeout(deadline::LIST, self.next()).await {
            Ok(next) => next,
            Err(_) => {
                let about = about("show the output of", &self.subject);
                Err(self.engine.timed_out(about, deadline::LIST))
            }
        }
    }
}

/// How the engine frames the output of the container that was inspected. (The content type says so
/// too, but only from API 1.42 on.)
pub fn framing(inspect: &Value) -> Framing {
    match inspect["Config"]["Tty"].as_bool() {
        Some(true) => Framing::Raw,
        _ => Framing::Framed,
    }
}

impl Engine {
    /// Opens a container's output.
    pub async fn logs(
        &self,
        id: &ContainerId,
        options: &LogOptions,
    ) -> Result<LogBody, EngineError> {
        let subject = named(id);
        let path = format!("/containers/{id}/logs?{}", options.query());
        let request = Request::builder().method(Method::GET);
        let about = about("show the output of", &subject);
        let body = self.open(request, &path, about, deadline::INSPECT).await?;
        Ok(LogBody {
            engine: self.clone(),
            subject,
            body,
        })
    }

    /// The last `lines` lines of both streams in the order they were written, at most the last
    /// `max_bytes` bytes of them. Bytes that are not UTF-8 become replacement characters; control
    /// characters stay, so escape before showing on a terminal.
    pub async fn logs_tail(
        &self,
        id: &ContainerId,
        lines: u32,
        max_bytes: usize,
    ) -> Result<String, EngineError> {
        let inspect = self.inspect(id).await?;
        let options = LogOptions {
            stdout: true,
            stderr: true,
            tail: lines,
            since: None,
            timestamps: false,
            follow: false,
        };
        let mut body = self.logs(id, &options).await?;
        let work = async {
            let mut tail = Tail::new(max_bytes, framing(&inspect));
            while let Some(data) = body.next().await? {
                tail.take(&data);
            }
            Ok(tail.into_text())
        };
        match timeout(deadline::LIST, work).await {
            Ok(text) => text,
            Err(_) => {
                let subject = named(id);
                Err(self.timed_out(about("show the output of", &subject), deadline::LIST))
            }
        }
    }
}

/// Keeps the end of an output of any length in bounded memory.
struct Tail {
    max_bytes: usize,
    demux: Demux,
    kept: Vec<u8>,
}

impl Tail {
    fn new(max_bytes: usize, framing: Framing) -> Self {
        Self {
            max_bytes,
            demux: Demux::new(framing),
            kept: Vec::new(),
        }
    }

    fn take(&mut self, data: &[u8]) {
        let (kept, max_bytes) = (&mut self.kept, self.max_bytes);
        self.demux.take(data, |piece| {
            kept.extend_from_slice(piece.bytes);
            // Cut in large steps, so that a long output is not copied byte by byte.
            if kept.len() > max_bytes.saturating_mul(2) {
                cut(kept, max_bytes);
            }
        });
    }

    fn into_text(mut self) -> String {
        cut(&mut self.kept, self.max_bytes);
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

fn cut(kept: &mut Vec<u8>, max_bytes: usize) {
    let surplus = kept.len().saturating_sub(max_bytes);
    kept.drain(..surplus);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_end_of_a_long_output_is_kept() {
        let mut tail = Tail::new(10, Framing::Raw);
        for _ in 0..1000 {
            tail.take(b"0123456789abcdef");
        }
        assert_eq!(tail.into_text(), "6789abcdef");
    }
}
