//! Takes the output of containers apart.
//!
//! Without a terminal the engine frames its answer, with one it does not. With timestamps each
//! message begins with one. A long line is several messages, of which only the last ends in a line
//! break, and a character may lie across two of them.

/// Which of its outputs a container wrote to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogSource {
    Stdout,
    Stderr,
}

impl LogSource {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Stdout => 0,
            Self::Stderr => 1,
        }
    }
}

/// How the engine separates messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `[stream, 0, 0, 0, length as four bytes, big endian]` before each message.
    Framed,
    /// Not at all: the container has a terminal, whose lines are its messages.
    Raw,
}

/// Some bytes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    pub source: LogSource,
    /// Whether these are the message's first bytes.
    pub begins: bool,
    pub bytes: &'a [u8],
}

/// The engine cuts messages here. A shorter one ends its line, whatever its last byte is: the log
/// driver `local` forgets the line break of the last message of a long line.
const FULL: usize = 16 << 10;

/// Keeps what it must know between two reads, never more than a frame's head.
#[derive(Debug)]
pub struct Demux {
    framing: Framing,
    header: Vec<u8>,
    /// Length of the current frame, and bytes of it that are still to come.
    length: usize,
    left: usize,
    source: LogSource,
    begins: bool,
    /// Whether each source's last message was cut.
    cut: [bool; 2],
}

impl Demux {
    pub fn new(framing: Framing) -> Self {
        Self {
            framing,
            header: Vec::with_capacity(8),
            length: 0,
            left: 0,
            source: LogSource::Stdout,
            begins: true,
            cut: [false; 2],
        }
    }

    /// The pieces of the next bytes, wherever they were cut.
    pub fn take(&mut self, mut data: &[u8], mut each: impl FnMut(Piece<'_>)) {
        if self.framing == Framing::Raw {
            for line in data.split_inclusive(|byte| *byte == b'\n') {
                each(Piece {
                    source: LogSource::Stdout,
                    begins: self.begins,
                    bytes: line,
                });
                self.begins = line.ends_with(b"\n");
            }
            return;
        }
        while !data.is_empty() {
            if self.left == 0 {
                let wanted = (8 - self.header.len()).min(data.len());
                self.header.extend_from_slice(&data[..wanted]);
                data = &data[wanted..];
                if let [stream, _, _, _, a, b, c, d] = self.header[..] {
                    self.length = u32::from_be_bytes([a, b, c, d]) as usize;
                    self.left = self.length;
                    self.source = match stream {
                        0 | 1 => LogSource::Stdout,
                        // 3 are the engine's own errors.
                        _ => LogSource::Stderr,
                    };
                    self.begins = true;
                    self.header.clear();
                }
            } else {
                let wanted = self.left.min(data.len());
                each(Piece {
                    source: self.source,
                    begins: self.begins,
                    bytes: &data[..wanted],
                });
                self.begins = false;
                self.left -= wanted;
                if self.left == 0 && self.ends_without_break(data[wanted - 1]) {
                    each(Piece {
                        source: self.source,
                        begins: false,
                        bytes: b"\n",
                    });
                }
                data = &data[wanted..];
            }
        }
    }

    /// At the end of a frame with that last byte.
    fn ends_without_break(&mut self, last: u8) -> bool {
        let (is_broken, is_full) = (last == b'\n', self.length >= FULL);
        let cut = &mut self.cut[self.source.index()];
        let was_cut = std::mem::replace(cut, is_full && !is_broken);
        was_cut && !is_full && !is_broken
    }
}

/// Takes the engine's timestamp off the beginning of each message.
#[derive(Debug, Default)]
pub struct Stamps {
    collecting: Option<Vec<u8>>,
}

/// The longest timestamp is shorter. What has no space by then is none.
const LONGEST: usize = 64;

impl Stamps {
    /// The timestamp where it has just been completed, and what is not part of it.
    pub fn split<'a>(&mut self, piece: Piece<'a>) -> (Option<String>, &'a [u8]) {
        if piece.begins {
            self.collecting = Some(Vec::new());
        }
        let Some(stamp) = &mut self.collecting else {
            return (None, piece.bytes);
        };
        let room = LONGEST.saturating_sub(stamp.len()).min(piece.bytes.len());
        match piece.bytes[..room].iter().position(|byte| *byte == b' ') {
            Some(space) => {
                stamp.extend_from_slice(&piece.bytes[..space]);
                let stamp = String::from_utf8_lossy(stamp).into_owned();
                self.collecting = None;
                (Some(stamp), &piece.bytes[space + 1..])
            }
            None if room == piece.bytes.len() => {
                stamp.extend_from_slice(piece.bytes);
                (None, &[])
            }
            None => {
                self.collecting = None;
                (None, piece.bytes)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn frame(stream: u8, bytes: &[u8]) -> Vec<u8> {
        let mut framed = vec![stream, 0, 0, 0];
        framed.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        framed.extend_from_slice(bytes);
        framed
    }

    #[test]
    fn frames_are_taken_apart_wherever_they_are_cut() {
        let bytes = [
            frame(1, b"t1 one\n"),
            frame(2, "t2 zw\u{f6}lf\n".as_bytes()),
            frame(1, b""),
            frame(1, b"t3 three\n"),
        ]
        .concat();
        for cut in 0..bytes.len() {
            let mut demux = Demux::new(Framing::Framed);
            let mut stamps = Stamps::default();
            let (mut seen, mut stamped) = (Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                demux.take(part, |piece| {
                    let (stamp, rest) = stamps.split(piece);
                    stamped.extend(stamp.map(|stamp| (piece.source, stamp)));
                    seen.extend_from_slice(rest);
                });
            }
            assert_eq!(String::from_utf8(seen).unwrap(), "one\nzw\u{f6}lf\nthree\n");
            let expected = [
                (LogSource::Stdout, "t1".to_owned()),
                (LogSource::Stderr, "t2".to_owned()),
                (LogSource::Stdout, "t3".to_owned()),
            ];
            assert_eq!(stamped, expected, "cut at {cut}");
        }
    }

    #[test]
    fn the_end_of_a_long_line_is_its_end() {
        let cut = "x".repeat(FULL);
        let take = |frames: &[Vec<u8>]| {
            let mut seen = Vec::new();
            let mut demux = Demux::new(Framing::Framed);
            demux.take(&frames.concat(), |piece| {
                seen.extend_from_slice(piece.bytes)
            });
            String::from_utf8(seen).unwrap().replace(&cut, "X")
        };
        let full = frame(1, cut.as_bytes());
        let lost = [full.clone(), frame(1, b"end"), frame(1, b"next\n")];
        assert_eq!(take(&lost), "Xend\nnext\n");
        let kept = [full.clone(), full, frame(2, b"other\n"), frame(1, b"end\n")];
        assert_eq!(take(&kept), "XXother\nend\n");
        let never_ended = [frame(1, b"prompt> "), frame(1, b"answer\n")];
        assert_eq!(take(&never_ended), "prompt> answer\n");
    }

    #[test]
    fn a_terminals_lines_are_its_messages() {
        let bytes = b"t1 one\r\nt2 \r\nt3 thr";
        for cut in 0..bytes.len() {
            let (mut demux, mut stamps) = (Demux::new(Framing::Raw), Stamps::default());
            let (mut seen, mut stamped) = (Vec::new(), Vec::new());
            for part in [&bytes[..cut], &bytes[cut..]] {
                demux.take(part, |piece| {
                    let (stamp, rest) = stamps.split(piece);
                    stamped.extend(stamp);
                    seen.extend_from_slice(rest);
                });
            }
            assert_eq!(seen, b"one\r\n\r\nthr");
            assert_eq!(stamped, ["t1", "t2", "t3"]);
        }
    }
}
