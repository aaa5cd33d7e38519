//! Questions to one broker and its answers, in the versions that every broker since 0.11 speaks.
//! What a broker says is read with its own length as the limit: no number in it reserves memory.

use std::{io, time::Duration};

use plimsoll_outbound::{Reach, Stream, Wire, dial};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::error::Trouble;

/// One question from its beginning to the end of its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of an answer: the metadata of one topic in a large cluster is far below.
const MAX_ANSWER: usize = 2 << 20;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    Produce,
    Metadata,
    SaslHandshake,
    Versions,
    SaslAuthenticate,
}

impl Api {
    pub const fn key(self) -> i16 {
        match self {
            Self::Produce => 0,
            Self::Metadata => 3,
            Self::SaslHandshake => 17,
            Self::Versions => 18,
            Self::SaslAuthenticate => 36,
        }
    }

    /// The one that we speak.
    pub const fn version(self) -> i16 {
        match self {
            Self::Produce => 3,
            Self::Metadata | Self::SaslHandshake => 1,
            Self::Versions | Self::SaslAuthenticate => 0,
        }
    }
}

pub struct Connection {
    stream: Box<dyn Stream>,
    client: String,
    asked: i32,
}

impl Connection {
    pub async fn open(
        (host, port): (&str, u16),
        wire: Wire,
        reach: Reach,
        client: &str,
    ) -> io::Result<Self> {
        Ok(Self {
            stream: dial(host, port, wire, reach).await?,
            client: client.to_owned(),
            asked: 0,
        })
    }

    pub async fn ask(&mut self, api: Api, body: &[u8]) -> Result<Vec<u8>, Trouble> {
        match timeout(PATIENCE, self.exchange(api, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(Trouble::Silent),
        }
    }

    async fn exchange(&mut self, api: Api, body: &[u8]) -> Result<Vec<u8>, Trouble> {
        self.asked = self.asked.wrapping_add(1);
        let mut question = Fields::default();
        question.i16(api.key());
        question.i16(api.version());
        question.i32(self.asked);
        question.text(&self.client);
        question.0.extend(body);
        let mut framed = Fields::default();
        framed.bytes(&question.0);
        self.stream.write_all(&framed.0).await?;
        self.stream.flush().await?;
        let length = self.stream.read_i32().await?;
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if !(4..=MAX_ANSWER).contains(&length) {
            return Err(Trouble::Garbage);
        }
        let number = self.stream.read_i32().await?;
        if number != self.asked {
            return Err(Trouble::Garbage);
        }
        let mut answer = vec![0; length - 4];
        self.stream.read_exact(&mut answer).await?;
        Ok(answer)
    }
}

/// A message that is written. Lengths are checked where they come from outside: the settings, and
/// what one claim of the outbox holds.
#[derive(Default)]
pub struct Fields(pub Vec<u8>);

impl Fields {
    pub fn i16(&mut self, number: i16) {
        self.0.extend(number.to_be_bytes());
    }

    pub fn i32(&mut self, number: i32) {
        self.0.extend(number.to_be_bytes());
    }

    pub fn i64(&mut self, number: i64) {
        self.0.extend(number.to_be_bytes());
    }

    /// As a count of what follows.
    pub fn count(&mut self, number: usize) {
        self.i32(i32::try_from(number).unwrap_or(i32::MAX));
    }

    pub fn text(&mut self, text: &str) {
        let end = text.floor_char_boundary(i16::MAX as usize);
        self.i16(i16::try_from(end).unwrap_or(i16::MAX));
        self.0.extend(&text.as_bytes()[..end]);
    }

    pub fn absent_text(&mut self) {
        self.i16(-1);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend(bytes);
    }
}

/// A message that is read, field by field.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Trouble> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Trouble::Garbage)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Trouble> {
        self.take(N)?.try_into().map_err(|_| Trouble::Garbage)
    }

    pub fn i16(&mut self) -> Result<i16, Trouble> {
        self.array().map(i16::from_be_bytes)
    }

    pub fn i32(&mut self) -> Result<i32, Trouble> {
        self.array().map(i32::from_be_bytes)
    }

    pub fn skip(&mut self, length: usize) -> Result<(), Trouble> {
        self.take(length).map(drop)
    }

    /// How often something follows. Whoever reads on finds the end of the message soon enough.
    pub fn count(&mut self) -> Result<i32, Trouble> {
        self.i32()
    }

    /// Empty where there is none.
    pub fn text(&mut self) -> Result<String, Trouble> {
        let length = usize::try_from(self.i16()?).unwrap_or(0);
        let text = self.take(length)?;
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Trouble> {
        let length = usize::try_from(self.i32()?).unwrap_or(0);
        self.take(length)
    }
}
