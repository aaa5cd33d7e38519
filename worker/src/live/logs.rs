//! Containers' output: as text to download, or line by line as it comes
//! (contract/drydock-container-api.md, "Download container logs", "Stream container logs").

use bytes::Bytes;
use plimsoll_app::{
    container_logs::{LogRequest, MAX_DOWNLOAD, NOT_RUNNING, TOO_LARGE},
    queue::rpc::{RemoteError, StreamHost, StreamRequest, StreamSink},
};
use plimsoll_domain::ids::ContainerId;
use serde::Serialize;
use serde_json::{Value, json};

use super::engine_failed;
use crate::docker::{
    Demux, Engine, EngineError, Framing, LogBody, LogOptions, LogSource, Piece, Stamps, framing,
};

/// Bytes of a download that are kept from the look that measures it. What is longer is read twice
/// and never held.
const KEPT: usize = 256 << 10;
/// Bytes of a line that is shown as such; the rest of it is cut off.
const MAX_LINE: usize = 64 << 10;

/// One container's output, found and ready to be read.
struct Source {
    engine: Engine,
    container: ContainerId,
    options: LogOptions,
    framing: Framing,
}

async fn source(engine: &Engine, request: &StreamRequest) -> Result<(Source, Value), RemoteError> {
    let bad = |what: String| RemoteError::new("bad-request", what);
    let LogRequest {
        container_id,
        query,
    } = serde_json::from_value(request.request.clone()).map_err(|e| bad(e.to_string()))?;
    let container = ContainerId::parse(&container_id)
        .ok_or_else(|| bad("containerId is not a container id".to_owned()))?;
    let inspect = engine.inspect(&container).await.map_err(engine_failed)?;
    let source = Source {
        engine: engine.clone(),
        framing: framing(&inspect),
        container,
        options: LogOptions {
            stdout: query.stdout,
            stderr: query.stderr,
            tail: query.tail,
            since: query.since,
            timestamps: query.timestamps,
            follow: query.follow,
        },
    };
    Ok((source, inspect))
}

impl Source {
    async fn open(&self) -> Result<LogBody, RemoteError> {
        let opened = self.engine.logs(&self.container, &self.options).await;
        opened.map_err(engine_failed)
    }
}

/// Streams the text. The length is measured first, because a download that is too large must be
/// refused before its first byte.
///
/// # Errors
/// `not-found`, `too-large`, `engine`.
pub(super) async fn download(
    engine: &Engine,
    streams: &StreamHost,
    request: &StreamRequest,
) -> Result<Value, RemoteError> {
    let (mut source, _) = source(engine, request).await?;
    source.options.follow = false;
    let mut body = source.open().await?;
    let mut text = Text::new(&source);
    let (mut kept, mut length) = (Some(Vec::new()), 0);
    while let Some(part) = text.next(&mut body).await.map_err(engine_failed)? {
        length += part.len() as u64;
        check_length(length)?;
        kept = kept.filter(|kept: &Vec<u8>| kept.len() + part.len() <= KEPT);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&part);
        }
    }
    drop(body);
    streams.start(request, json!({ "length": length }), move |sink| {
        send_text(source, kept, sink)
    })
}

async fn send_text(
    source: Source,
    kept: Option<Vec<u8>>,
    mut sink: StreamSink,
) -> Result<(), RemoteError> {
    if let Some(kept) = kept {
        return sink.send(kept.into()).await;
    }
    let mut body = source.open().await?;
    let mut text = Text::new(&source);
    let mut length = 0;
    while let Some(part) = text.next(&mut body).await.map_err(engine_failed)? {
        length += part.len() as u64;
        // It may have grown since it was measured.
        check_length(length)?;
        sink.send(part).await?;
    }
    Ok(())
}

fn check_length(length: u64) -> Result<(), RemoteError> {
    if length <= MAX_DOWNLOAD {
        return Ok(());
    }
    let megabytes = MAX_DOWNLOAD >> 20;
    let message = format!("The logs are larger than {megabytes} MiB; ask for a smaller tail");
    Err(RemoteError::new(TOO_LARGE, message))
}

/// Output as text. A line that came in several messages has one timestamp, as it was written.
struct Text {
    demux: Demux,
    stamps: Option<Stamps>,
    /// Whether the next byte of each source begins a line.
    fresh: [bool; 2],
}

impl Text {
    fn new(source: &Source) -> Self {
        Self {
            demux: Demux::new(source.framing),
            stamps: source.options.timestamps.then(Stamps::default),
            fresh: [true; 2],
        }
    }

    async fn next(&mut self, body: &mut LogBody) -> Result<Option<Bytes>, EngineError> {
        let data = body.next_written().await?;
        Ok(data.map(|data| self.text(&data).into()))
    }

    fn text(&mut self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(data.len());
        let Self {
            demux,
            stamps,
            fresh,
        } = self;
        demux.take(data, |piece| {
            let fresh = &mut fresh[piece.source.index()];
            let bytes = match stamps {
                None => piece.bytes,
                Some(stamps) => {
                    let (stamp, bytes) = stamps.split(piece);
                    if let Some(stamp) = stamp.filter(|_| *fresh) {
                        out.extend_from_slice(stamp.as_bytes());
                        out.push(b' ');
                    }
                    bytes
                }
            };
            out.extend_from_slice(bytes);
            if let Some(last) = bytes.last() {
                *fresh = *last == b'\n';
            }
        });
        out
    }
}

/// Streams `{type,ts,line}` objects, one per line, as they come.
///
/// # Errors
/// `not-found`, `not-running`, `engine`.
pub(super) async fn follow(
    engine: &Engine,
    streams: &StreamHost,
    request: &StreamRequest,
) -> Result<Value, RemoteError> {
    let (mut source, inspect) = source(engine, request).await?;
    if inspect["State"]["Running"] != true {
        return Err(RemoteError::new(NOT_RUNNING, "Container is not running"));
    }
    source.options.timestamps = true;
    let body = source.open().await?;
    let lines = Lines::new(source.framing);
    streams.start(request, Value::Null, move |sink| {
        send_lines(body, lines, sink)
    })
}

async fn send_lines(
    mut body: LogBody,
    mut lines: Lines,
    mut sink: StreamSink,
) -> Result<(), RemoteError> {
    while let Some(data) = body.next().await.map_err(engine_failed)? {
        sink.send(lines.take(&data).into()).await?;
    }
    sink.send(lines.rest().into()).await
}

/// Puts lines together from messages. Holds one line of each source at most.
struct Lines {
    framing: Framing,
    demux: Demux,
    stamps: Stamps,
    open: [Line; 2],
}

#[derive(Default)]
struct Line {
    stamp: Option<String>,
    bytes: Vec<u8>,
    cut: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    ts: &'a str,
    line: &'a str,
    /// Beyond the contract: the end of a very long line is missing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
}

impl Lines {
    fn new(framing: Framing) -> Self {
        Self {
            framing,
            demux: Demux::new(framing),
            stamps: Stamps::default(),
            open: Default::default(),
        }
    }

    /// The lines that these bytes complete.
    fn take(&mut self, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let Self {
            framing,
            demux,
            stamps,
            open,
        } = self;
        demux.take(data, |piece: Piece<'_>| {
            let (stamp, bytes) = stamps.split(piece);
            let line = &mut open[piece.source.index()];
            // A later message of the same line has a timestamp of its own.
            line.stamp = line.stamp.take().or(stamp);
            for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                line.add(part);
                if part.ends_with(b"\n") {
                    line.show(piece.source, *framing, &mut out);
                }
            }
        });
        out
    }

    /// What has no line break because nothing comes after it.
    fn rest(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        for source in [LogSource::Stdout, LogSource::Stderr] {
            let line = &mut self.open[source.index()];
            if !line.bytes.is_empty() {
                line.show(source, self.framing, &mut out);
            }
        }
        out
    }
}

impl Line {
    fn add(&mut self, part: &[u8]) {
        let part = part.strip_suffix(b"\n").unwrap_or(part);
        let room = (MAX_LINE - self.bytes.len()).min(part.len());
        self.cut |= room < part.len();
        self.bytes.extend_from_slice(&part[..room]);
    }

    fn show(&mut self, source: LogSource, framing: Framing, out: &mut Vec<u8>) {
        let Line {
            stamp,
            mut bytes,
            cut,
        } = std::mem::take(self);
        if cut
            && let Err(error) = std::str::from_utf8(&bytes)
            && error.error_len().is_none()
        {
            // Not in the middle of a character.
            bytes.truncate(error.valid_up_to());
        }
        if framing == Framing::Raw && bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        let shown = Shown {
            kind: source.as_str(),
            ts: stamp.as_deref().unwrap_or_default(),
            line: &String::from_utf8_lossy(&bytes),
            truncated: cut,
        };
        if serde_json::to_writer(&mut *out, &shown).is_ok() {
            out.push(b'\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
        let mut framed = vec![stream, 0, 0, 0];
        framed.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        framed.extend_from_slice(bytes);
        framed
    }

    fn rows(bytes: &[u8]) -> Vec<Value> {
        let lines = bytes.split(|byte| *byte == b'\n');
        let lines = lines.filter(|line| !line.is_empty());
        lines
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect()
    }

    #[test]
    fn a_line_of_several_messages_is_one_line_and_keeps_its_characters() {
        let euro = "\u{20ac}".as_bytes();
        let bytes = [
            frame(1, &[b"t1 long ", &euro[..1]].concat()),
            frame(2, b"t2 between\n"),
            frame(1, &[b"t3 ", &euro[1..], b" line\n"].concat()),
            frame(1, b"t4 no end"),
        ]
        .concat();
        for cut in 0..bytes.len() {
            let mut lines = Lines::new(Framing::Framed);
            let mut out = lines.take(&bytes[..cut]);
            out.extend(lines.take(&bytes[cut..]));
            out.extend(lines.rest());
            let expected = [
                json!({"type": "stderr", "ts": "t2", "line": "between"}),
                json!({"type": "stdout", "ts": "t1", "line": "long \u{20ac} line"}),
                json!({"type": "stdout", "ts": "t4", "line": "no end"}),
            ];
            assert_eq!(rows(&out), expected, "cut at {cut}");
        }
    }

    #[test]
    fn a_very_long_line_is_cut_between_characters() {
        let mut lines = Lines::new(Framing::Framed);
        let mut out = Vec::new();
        for _ in 0..100 {
            let message = format!("t1 x{}", "\u{20ac}".repeat(1000));
            out.extend(lines.take(&frame(1, message.as_bytes())));
        }
        out.extend(lines.take(&frame(1, b"t2 end\n")));
        let [row] = &rows(&out)[..] else {
            panic!("one line");
        };
        assert_eq!(row["truncated"], true);
        let line = row["line"].as_str().unwrap();
        assert!(line.len() > MAX_LINE - 3 && line.len() <= MAX_LINE);
        assert!(line.chars().all(|c| c == 'x' || c == '\u{20ac}'));
        assert_eq!(rows(&lines.take(&frame(1, b"t3 next\n"))).len(), 1);
    }

    #[test]
    fn text_of_a_download_has_one_timestamp_per_line() {
        let bytes = [
            frame(1, b"t1 long "),
            frame(1, b"t2 line\n"),
            frame(2, b"t3 \n"),
        ]
        .concat();
        let mut text = Text {
            demux: Demux::new(Framing::Framed),
            stamps: Some(Stamps::default()),
            fresh: [true; 2],
        };
        let text = text.text(&bytes);
        assert_eq!(String::from_utf8(text).unwrap(), "t1 long line\nt3 \n");
    }

    #[test]
    fn a_terminals_carriage_returns_are_no_part_of_its_lines() {
        let mut lines = Lines::new(Framing::Raw);
        let out = lines.take(b"t1 one\r\nt2 two\r\n");
        let shown: Vec<Value> = rows(&out).iter().map(|row| row["line"].clone()).collect();
        assert_eq!(shown, ["one", "two"]);
    }
}
