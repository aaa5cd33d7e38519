//! The last lines of a container's output, for an operation's record.

use http::{Method, Request};
use http_body_util::BodyExt;
use plimsoll_domain::ids::ContainerId;
use tokio::time::timeout;

use super::containers::{about, named};
use super::engine::{Engine, deadline};
use super::error::EngineError;

impl Engine {
    /// The last `lines` lines of both streams in the order they were written, at most the last
    /// `max_bytes` bytes of them. Bytes that are not UTF-8 become replacement characters; control
    /// characters stay, so escape before showing on a terminal.
    pub async fn logs_tail(
        &self,
        id: &ContainerId,
        lines: u32,
        max_bytes: usize,
    ) -> Result<String, EngineError> {
        // Without a terminal the engine frames its answer, with one it does not, and only an
        // inspection tells (the content type does so from API 1.42 on).
        let inspect = self.inspect(id).await?;
        let framed = !inspect["Config"]["Tty"].as_bool().unwrap_or(false);
        let subject = named(id);
        let about = about("show the output of", &subject);
        let path = format!("/containers/{id}/logs?stdout=1&stderr=1&tail={lines}");
        let request = Request::builder().method(Method::GET);
        let mut body = self.open(request, &path, about, deadline::INSPECT).await?;
        let work = async {
            let mut tail = Tail::new(max_bytes, framed);
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|e| self.interrupted(about, &e.to_string()))?;
                if let Ok(data) = frame.into_data() {
                    tail.take(&data);
                }
            }
            Ok(tail.into_text())
        };
        match timeout(deadline::LIST, work).await {
            Ok(text) => text,
            Err(_) => Err(self.timed_out(about, deadline::LIST)),
        }
    }
}

/// Keeps the end of an output of any length in bounded memory.
struct Tail {
    max_bytes: usize,
    framed: bool,
    header: Vec<u8>,
    /// Bytes of the current frame that are still to come.
    left: usize,
    kept: Vec<u8>,
}

impl Tail {
    fn new(max_bytes: usize, framed: bool) -> Self {
        Self {
            max_bytes,
            framed,
            header: Vec::with_capacity(8),
            left: 0,
            kept: Vec::new(),
        }
    }

    fn take(&mut self, mut data: &[u8]) {
        if !self.framed {
            self.keep(data);
            return;
        }
        while !data.is_empty() {
            if self.left == 0 {
                let wanted = (8 - self.header.len()).min(data.len());
                self.header.extend_from_slice(&data[..wanted]);
                data = &data[wanted..];
                // [stream, 0, 0, 0, length as four bytes, big endian]
                if let [_, _, _, _, a, b, c, d] = self.header[..] {
                    self.left = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.header.clear();
                }
            } else {
                let wanted = self.left.min(data.len());
                self.keep(&data[..wanted]);
                self.left -= wanted;
                data = &data[wanted..];
            }
        }
    }

    fn keep(&mut self, data: &[u8]) {
        self.kept.extend_from_slice(data);
        // Cut in large steps, so that a long output is not copied byte by byte.
        if self.kept.len() > self.max_bytes.saturating_mul(2) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let surplus = self.kept.len().saturating_sub(self.max_bytes);
        self.kept.drain(..surplus);
    }

    fn into_text(mut self) -> String {
        self.cut();
        String::from_utf8_lossy(&self.kept).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let mut bytes = vec![stream, 0, 0, 0];
        bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
        bytes.extend_from_slice(text.as_bytes());
        bytes
    }

    #[test]
    fn frames_are_taken_apart_wherever_they_are_cut() {
        let bytes = [frame(1, "one\n"), frame(2, "two\n"), frame(1, "three\n")].concat();
        for cut in 0..bytes.len() {
            let mut tail = Tail::new(100, true);
            tail.take(&bytes[..cut]);
            tail.take(&bytes[cut..]);
            assert_eq!(tail.into_text(), "one\ntwo\nthree\n");
        }
    }

    #[test]
    fn only_the_end_of_a_long_output_is_kept() {
        let mut tail = Tail::new(10, false);
        for _ in 0..1000 {
            tail.take(b"0123456789abcdef");
        }
        assert_eq!(tail.into_text(), "6789abcdef");
    }
}
