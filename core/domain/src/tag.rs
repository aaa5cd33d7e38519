//! Reading tags as versions: a prefix, numeric parts, and a suffix that says which flavour it is.
//!
//! No crate fits: container tags are not semantic versions. `1.27.3-alpine3.20` is version 1.27.3
//! in the flavour `-alpine#.#`, and an update stays in the flavour.

mod labelled;
mod order;

use std::cmp::Ordering;

pub use labelled::labelled_version;
pub use order::Stage;

use crate::container::{SemverDiff, TagPrecision};

/// More numeric parts than any known scheme has.
const MAX_PARTS: usize = 8;

/// From here on a first part is a year (or a year and more), and leading zeros are normal.
const CALVER_FROM: u64 = 1000;

/// Prefixes that contain digits without being part of the version.
const ARCHITECTURES: &[&str] = &[
    "amd64-", "arm64-", "arm64v8-", "arm32v6-", "arm32v7-", "armhf-", "armv7-", "i386-", "x86_64-",
    "x64-", "x86-", "ppc64le-", "s390x-", "riscv64-",
];

/// How the version was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `1.2.3`
    Dotted,
    /// `2024-01-31`
    DashedDate,
    /// `20240131`
    CompactDate,
}

/// A tag that reads as a version. Borrows from the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedTag<'a> {
    prefix: &'a str,
    parts: [u64; MAX_PARTS],
    count: usize,
    suffix: &'a str,
    form: Form,
    leading_zero: bool,
}

/// How two suffixes relate when their digits are not looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shape {
    Different,
    /// One is the other plus a version: `-alpine` and `-alpine3.20`.
    Extended,
    Same,
}

impl<'a> ParsedTag<'a> {
    /// Reads a tag. `None` when it carries no version: no digits, a commit hash, a number too big
    /// for 64 bits, or more than eight parts.
    pub fn parse(text: &'a str) -> Option<Self> {
        if is_commit_hash(text) {
            return None;
        }
        let start = version_start(text)?;
        let (prefix, rest) = text.split_at(start);
        if let Some(date) = dashed_date(rest) {
            return Some(Self::date(prefix, date, &rest[10..], Form::DashedDate));
        }
        let mut parts = [0; MAX_PARTS];
        let mut count = 0;
        let mut leading_zero = false;
        let mut at = 0;
        let bytes = rest.as_bytes();
        loop {
            let length = digits(&bytes[at..]);
            if count == MAX_PARTS {
                return None;
            }
            let text = &rest[at..at + length];
            parts[count] = text.parse().ok()?;
            leading_zero |= length > 1 && text.starts_with('0');
            count += 1;
            at += length;
            let continues =
                bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
            if !continues {
                break;
            }
            at += 1;
        }
        let suffix = &rest[at..];
        if count == 1
            && at == 8
            && let Some(date) = compact_date(parts[0])
        {
            return Some(Self::date(prefix, date, suffix, Form::CompactDate));
        }
        Some(Self {
            prefix,
            parts,
            count,
            suffix,
            form: Form::Dotted,
            leading_zero,
        })
    }

    fn date(prefix: &'a str, date: [u64; 3], suffix: &'a str, form: Form) -> Self {
        let mut parts = [0; MAX_PARTS];
        parts[..3].copy_from_slice(&date);
        Self {
            prefix,
            parts,
            count: 3,
            suffix,
            form,
            leading_zero: false,
        }
    }

    pub fn prefix(&self) -> &'a str {
        self.prefix
    }

    /// The numeric parts; a date has three.
    pub fn parts(&self) -> &[u64] {
        &self.parts[..self.count]
    }

    pub fn suffix(&self) -> &'a str {
        self.suffix
    }

    /// One release, or a line of them: fewer than three parts float.
    pub fn precision(&self) -> TagPrecision {
        if self.count >= 3 {
            TagPrecision::Specific
        } else {
            TagPrecision::Floating
        }
    }

    pub fn is_calendar(&self) -> bool {
        self.parts[0] >= CALVER_FROM
    }

    /// `1.02.3`: not a version by semantic versioning's rules. Calendar versions have such parts.
    pub fn has_stray_zero(&self) -> bool {
        self.leading_zero && !self.is_calendar()
    }

    /// Same way of writing versions: the same form, both or neither by the calendar.
    pub fn same_scheme(&self, other: &ParsedTag<'_>) -> bool {
        self.form == other.form && self.is_calendar() == other.is_calendar()
    }

    /// By numeric parts alone; missing parts count as zero.
    pub fn cmp_parts(&self, other: &ParsedTag<'_>) -> Ordering {
        // The arrays are zero beyond `count`.
        self.parts.cmp(&other.parts)
    }

    /// By the numbers inside the suffixes, in order: `-rc10` after `-rc9`.
    pub fn cmp_suffix_numbers(&self, other: &ParsedTag<'_>) -> Ordering {
        numbers(self.suffix)
            .map(Number)
            .cmp(numbers(other.suffix).map(Number))
    }

    pub fn shape_against(&self, other: &ParsedTag<'_>) -> Shape {
        shape(self.suffix, other.suffix)
    }

    /// The suffix's pre-release mark (`-rc.1`, `b2`) with what stands before and after it.
    pub fn prerelease(&self) -> Option<Prerelease<'a>> {
        Prerelease::find(self.suffix)
    }

    /// The size of the step from `self` to `to`. Parts after the third count as `prerelease`, as
    /// in Drydock, which reads `1.2.3.4` as `1.2.3-4`.
    pub fn diff(&self, to: &ParsedTag<'_>) -> SemverDiff {
        let changed = (0..MAX_PARTS).find(|i| self.parts[*i] != to.parts[*i]);
        match changed {
            Some(0) => SemverDiff::Major,
            Some(1) => SemverDiff::Minor,
            Some(2) => SemverDiff::Patch,
            Some(_) => SemverDiff::Prerelease,
            None if self.suffix == to.suffix => SemverDiff::Unknown,
            // From a pre-release to its release: the step that the release makes.
            None if self.prerelease().is_some() && to.prerelease().is_none() => {
                match (self.parts[1], self.parts[2]) {
                    (_, patch) if patch != 0 => SemverDiff::Patch,
                    (minor, _) if minor != 0 => SemverDiff::Minor,
                    _ => SemverDiff::Major,
                }
            }
            None => SemverDiff::Prerelease,
        }
    }
}

/// A pre-release mark inside a suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prerelease<'a> {
    /// `alpha`, `rc` … as written.
    pub mark: &'a str,
    /// What stands before the mark, without the separator.
    pub before: &'a str,
    /// What stands after the mark and its number.
    pub after: &'a str,
}

impl<'a> Prerelease<'a> {
    fn find(suffix: &'a str) -> Option<Self> {
        const MARKS: &[&str] = &[
            "alpha",
            "beta",
            "rc",
            "pre",
            "preview",
            "prerelease",
            "milestone",
        ];
        // Python's `3.13.0b1`: only right behind the version, and with a number.
        const SHORT: &[&str] = &["a", "b", "c"];
        let bytes = suffix.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            if !bytes[at].is_ascii_alphabetic() {
                at += 1;
                continue;
            }
            let length = bytes[at..]
                .iter()
                .take_while(|b| b.is_ascii_alphabetic())
                .count();
            let end = at + length;
            let word = &suffix[at..end];
            let own_word = at == 0 || is_separator(bytes[at - 1]);
            let is = |list: &[&str]| list.iter().any(|mark| mark.eq_ignore_ascii_case(word));
            let numbered = bytes.get(end).is_some_and(u8::is_ascii_digit);
            let milestone = word.eq_ignore_ascii_case("m") && numbered && at <= 1;
            if own_word && (is(MARKS) || milestone || (at == 0 && numbered && is(SHORT))) {
                return Some(Self {
                    mark: word,
                    before: &suffix[..at.saturating_sub(1)],
                    after: &suffix[end + number_length(&bytes[end..])..],
                });
            }
            at = end;
        }
        None
    }

    /// Whether `suffix` is this one's flavour without the mark: `-rc1-alpine` becomes `-alpine`.
    pub fn released_as(&self, suffix: &str) -> bool {
        let rest = match (self.before, self.after) {
            ("", rest) | (rest, "") => rest,
            _ => return false,
        };
        shape(rest, suffix) == Shape::Same && Prerelease::find(suffix).is_none()
    }
}

/// The length of a mark's number: `1`, `.1`, `-1`, `.1.2`.
fn number_length(bytes: &[u8]) -> usize {
    let mut at = digits(bytes);
    loop {
        let separated = bytes.get(at).is_some_and(|b| matches!(b, b'.' | b'-'));
        let more = if separated {
            digits(&bytes[at + 1..])
        } else {
            0
        };
        // A dash leads to the next word unless nothing has been read yet: `-rc1-2024` has number 1.
        if more == 0 || (bytes[at] == b'-' && at > 0) {
            return at;
        }
        at += 1 + more;
    }
}

fn is_separator(byte: u8) -> bool {
    matches!(byte, b'-' | b'.' | b'_' | b'+' | b'~')
}

fn digits(bytes: &[u8]) -> usize {
    bytes.iter().take_while(|b| b.is_ascii_digit()).count()
}

/// Where the version begins: the first digit that is not part of an architecture's name.
fn version_start(text: &str) -> Option<usize> {
    let skipped = ARCHITECTURES
        .iter()
        .find(|arch| text.starts_with(**arch))
        .map_or(0, |arch| arch.len());
    text[skipped..]
        .find(|c: char| c.is_ascii_digit())
        .map(|at| skipped + at)
}

/// 7-64 hexadecimal digits with both letters and digits: `3f2a9bc` is a commit, not version 3.
/// Words such as `sha-3f2a9bc` and `git-…` name one too.
fn is_commit_hash(text: &str) -> bool {
    let hash = ["sha-", "sha256-", "git-", "commit-", "g"]
        .iter()
        .find_map(|mark| text.strip_prefix(mark))
        .unwrap_or(text);
    (7..=64).contains(&hash.len())
        && hash
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        && (hash.len() < text.len() || hash.bytes().any(|b| b.is_ascii_alphabetic()))
        && hash.bytes().any(|b| b.is_ascii_digit())
}

fn dashed_date(text: &str) -> Option<[u64; 3]> {
    let bytes = text.as_bytes();
    let formed = bytes.len() >= 10
        && bytes[4] == b'-'
        && bytes[7] == b'-'
        && !bytes.get(10).is_some_and(u8::is_ascii_digit);
    if !formed {
        return None;
    }
    let part = |range: std::ops::Range<usize>| -> Option<u64> {
        let digits = &bytes[range];
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        Some(
            digits
                .iter()
                .fold(0, |n, digit| n * 10 + u64::from(digit - b'0')),
        )
    };
    valid_date(part(0..4)?, part(5..7)?, part(8..10)?)
}

fn compact_date(number: u64) -> Option<[u64; 3]> {
    valid_date(number / 10_000, number / 100 % 100, number % 100)
}

fn valid_date(year: u64, month: u64, day: u64) -> Option<[u64; 3]> {
    let ok = (1970..2200).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
    ok.then_some([year, month, day])
}

/// Compares two suffixes with every run of digits taken as one `#`.
fn shape(a: &str, b: &str) -> Shape {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    let mut at_start = true;
    loop {
        match (a.first(), b.first()) {
            (None, None) => return Shape::Same,
            (None, Some(_)) | (Some(_), None) => {
                // "No suffix" is a flavour of its own.
                let rest = if a.is_empty() { b } else { a };
                let version = rest
                    .iter()
                    .all(|byte| byte.is_ascii_digit() || is_separator(*byte));
                return if version && !at_start {
                    Shape::Extended
                } else {
                    Shape::Different
                };
            }
            (Some(x), Some(y)) if x.is_ascii_digit() && y.is_ascii_digit() => {
                a = &a[digits(a)..];
                b = &b[digits(b)..];
            }
            (Some(x), Some(y)) if x == y => {
                a = &a[1..];
                b = &b[1..];
            }
            _ => return Shape::Different,
        }
        at_start = false;
    }
}

/// The runs of digits in a text.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|run| !run.is_empty())
}

/// A run of digits of any length, compared by value.
#[derive(PartialEq, Eq)]
struct Number<'a>(&'a str);

impl Number<'_> {
    fn significant(&self) -> &str {
        self.0.trim_start_matches('0')
    }
}

impl Ord for Number<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.significant(), other.significant());
        a.len().cmp(&b.len()).then_with(|| a.cmp(b))
    }
}

impl PartialOrd for Number<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The version that an image says of itself, found at a path like
/// `Config/Labels/org.opencontainers.image.version` or `Config/Env/APP_VERSION` in its inspect
/// document (`dd.inspect.tag.path`). `None` unless it could be a tag.
pub fn inspected_version(inspect: &serde_json::Value, path: &str) -> Option<String> {
    let mut value = inspect;
    for key in path.split('/').filter(|key| !key.is_empty()) {
        value = match value {
            serde_json::Value::Object(map) => map.get(key)?,
            // `Env` is a list of `KEY=value`.
            serde_json::Value::Array(items) => {
                let found = items.iter().find_map(|item| {
                    let (name, text) = item.as_str()?.split_once('=')?;
                    (name == key).then_some(text)
                })?;
                return crate::image::is_tag(found).then(|| found.to_owned());
            }
            _ => return None,
        };
    }
    let text = value.as_str()?.trim();
    crate::image::is_tag(text).then(|| text.to_owned())
}

#[cfg(test)]
mod tests;
