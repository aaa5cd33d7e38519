//! What replicas and workers say to each other about streams, as Redis messages.
//!
//! Each process has one channel, named after its id, and listens on it with one connection however
//! many streams it has. Messages may be lost (Redis restarts, a connection breaks) and never come
//! twice or out of order, so frames are numbered and both sides repeat every two seconds where they
//! stand.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::RemoteError;

/// Bytes (as [`cost`] counts them) of one stream that may be on their way or waiting to be read. A
/// reader that does not read stops its writer here.
pub(super) const WINDOW: u64 = 128 * 1024;
/// Bytes of one frame. Larger data travels in several.
pub(super) const CHUNK: usize = 32 * 1024;
/// How often both sides say that they are there.
pub(super) const BEAT: Duration = Duration::from_secs(2);
/// After so long without a word the other side is gone.
pub(super) const SILENCE: Duration = Duration::from_secs(7);

pub(super) fn replica_channel(id: Uuid) -> String {
    format!("plimsoll:rpc:replica:{id}")
}

pub(super) fn worker_channel(id: Uuid) -> String {
    format!("plimsoll:rpc:worker:{id}")
}

/// What a frame of so many bytes takes from the window. Small ones are not free: a million lines of
/// one byte are no megabyte.
pub(super) const fn cost(bytes: usize) -> u64 {
    bytes as u64 + 64
}

/// From a worker to the replica that asked.
#[derive(Debug, PartialEq)]
pub(super) enum ToReplica {
    /// The `number`-th frame of its stream, counted from 0.
    Data {
        stream: Uuid,
        number: u64,
        bytes: Bytes,
    },
    /// After so many frames the stream is over.
    End {
        stream: Uuid,
        number: u64,
        outcome: Result<(), RemoteError>,
    },
    /// These streams live, and so many frames of each were sent.
    Beat(Vec<(Uuid, u64)>),
}

const DATA: u8 = b'd';
const END: u8 = b'e';
const BEATS: u8 = b'b';

impl ToReplica {
    /// One byte for the kind; for data and ends the stream and the number; then bytes or JSON.
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Data {
                stream,
                number,
                bytes,
            } => {
                out.reserve(bytes.len() + 25);
                head(&mut out, DATA, *stream, *number);
                out.put_slice(bytes);
            }
            Self::End {
                stream,
                number,
                outcome,
            } => {
                head(&mut out, END, *stream, *number);
                put_json(&mut out, outcome);
            }
            Self::Beat(streams) => {
                out.put_u8(BEATS);
                put_json(&mut out, streams);
            }
        }
        out.freeze()
    }

    /// `None` for what is not ours.
    pub(super) fn decode(message: Bytes) -> Option<Self> {
        let (kind, rest) = (*message.first()?, message.slice(1..));
        if kind == BEATS {
            return serde_json::from_slice(&rest).ok().map(Self::Beat);
        }
        let stream = Uuid::from_slice(rest.get(..16)?).ok()?;
        let number = u64::from_be_bytes(rest.get(16..24)?.try_into().ok()?);
        let bytes = rest.slice(24..);
        match kind {
            DATA => Some(Self::Data {
                stream,
                number,
                bytes,
            }),
            END => Some(Self::End {
                stream,
                number,
                outcome: serde_json::from_slice(&bytes).ok()?,
            }),
            _ => None,
        }
    }
}

fn head(out: &mut BytesMut, kind: u8, stream: Uuid, number: u64) {
    out.put_u8(kind);
    out.put_slice(stream.as_bytes());
    out.put_u64(number);
}

/// Ids, numbers and texts can always be written as JSON.
fn put_json(out: &mut BytesMut, value: &impl Serialize) {
    out.put_slice(&serde_json::to_vec(value).unwrap_or_default());
}

/// From a replica to the worker of some of its streams.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ToWorker {
    /// Streams that are wanted, and how much of each (as [`cost`] counts) has been read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub taken: Vec<(Uuid, u64)>,
    /// Streams that nobody wants any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Uuid>,
}

/// Asks for a stream: travels as the payload of an ordinary call.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opening {
    pub stream: Uuid,
    /// The replica that listens.
    pub replica: Uuid,
    pub request: serde_json::Value,
}

/// The answer to an [`Opening`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Opened {
    pub worker: Uuid,
    pub head: serde_json::Value,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_back_as_they_were_written() {
        let stream = Uuid::new_v4();
        let messages = [
            ToReplica::Data {
                stream,
                number: 7,
                bytes: Bytes::from_static(b"\0\xff line\n"),
            },
            ToReplica::End {
                stream,
                number: 8,
                outcome: Err(RemoteError::new("engine", "away")),
            },
            ToReplica::End {
                stream,
                number: 8,
                outcome: Ok(()),
            },
            ToReplica::Beat(vec![(stream, 9)]),
        ];
        for message in messages {
            assert_eq!(ToReplica::decode(message.encode()), Some(message));
        }
    }

    #[test]
    fn what_is_not_ours_is_nothing() {
        for message in [&b""[..], b"d", b"x0123456789abcdef01234567", b"b{", b"e"] {
            assert_eq!(ToReplica::decode(Bytes::from_static(message)), None);
        }
    }
}
