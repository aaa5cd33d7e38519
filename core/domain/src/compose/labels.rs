//! Changing labels of a service in its Compose file, where they are written as a map or as a list,
//! as lines or in brackets. Everything else stays as it is, byte for byte.
//!
//! The text is cut where the parser says that keys and values begin; then it is parsed again, and
//! the edit stands only if the service has exactly the labels that were asked for and every event
//! of the parser outside of them is what it was. So a form that is not foreseen here is a refusal
//! and never a broken file.

use std::{collections::BTreeMap, ops::Range};

use thiserror::Error;

use super::{
    Refusal,
    outline::{Map, Node, Outline, Quotes, Scalar, Sequence, parse},
};
use crate::labels::LabelChange;

/// Why labels in a file are left alone. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LabelRefusal {
    #[error(transparent)]
    File(#[from] Refusal),
    #[error("the service `{0}` is not described in a form that can be edited safely")]
    Service(String),
    #[error("the labels of the service `{0}` are also used elsewhere in the file, by an alias")]
    Shared(String),
    #[error("the labels of the service `{0}` may come from what it merges or extends")]
    Merges(String),
    #[error("the service `{by}` extends `{service}` and would get its labels too")]
    Extended { service: String, by: String },
    #[error("its label `{0}` is not written in a form that can be edited safely")]
    Form(String),
}

/// A label as it has to be written for Compose to read `value`.
pub fn escaped(value: &str) -> String {
    value.replace('$', "$$")
}

/// What Compose reads where a label is written so; `None` where variables are to be filled in.
pub fn unescaped(written: &str) -> Option<String> {
    let mut parts = written.split("$$");
    let has_variable = parts.any(|part| part.contains('$'));
    (!has_variable).then(|| written.replace("$$", "$"))
}

/// The labels that the file itself gives the service, as they are written; `None` where it says
/// nothing of labels.
///
/// # Errors
/// Also for what could not be changed.
pub fn labels_of(
    file: &str,
    service: &str,
) -> Result<Option<BTreeMap<String, String>>, LabelRefusal> {
    let outline = parse(file)?;
    let place = Place::find(&outline, service)?;
    match place.held {
        Held::Nothing => Ok(None),
        held => held.read(service).map(Some),
    }
}

/// The file with the labels changed. What is so already stays as it is written.
///
/// # Errors
/// Whatever makes it unsafe to change exactly this.
pub fn with_labels(
    file: &str,
    service: &str,
    change: &LabelChange,
) -> Result<String, LabelRefusal> {
    let mut text = file.to_owned();
    for (key, value) in change.wanted() {
        let value = value.map(escaped);
        if let Some(next) = with_label(&text, service, key, value.as_deref())? {
            text = next;
        }
    }
    Ok(text)
}

/// `None` where nothing has to be changed.
fn with_label(
    file: &str,
    service: &str,
    key: &str,
    value: Option<&str>,
) -> Result<Option<String>, LabelRefusal> {
    let outline = parse(file)?;
    let place = Place::find(&outline, service)?;
    let elsewhere = ["extends", "label_file"];
    if value.is_none() && elsewhere.iter().any(|key| place.own.has(key)) {
        return Err(LabelRefusal::Merges(service.to_owned()));
    }
    let mut expected = match &place.held {
        Held::Nothing => BTreeMap::new(),
        held => held.read(service)?,
    };
    if expected.get(key).map(String::as_str) == value {
        return match (value, &place.held) {
            (None, Held::Map(labels)) if labels.has("<<") => {
                Err(LabelRefusal::Merges(service.to_owned()))
            }
            _ => Ok(None),
        };
    }
    let cuts = Editor { file, key }.cuts(&place, value);
    let cuts = cuts.ok_or_else(|| LabelRefusal::Form(key.to_owned()))?;
    let text = cut(file, cuts);
    match value {
        Some(value) => expected.insert(key.to_owned(), value.to_owned()),
        None => expected.remove(key),
    };
    prove(&outline, &place, &text, service, &expected)
        .map_err(|_| LabelRefusal::Form(key.to_owned()))?;
    Ok(Some(text))
}

/// Where labels of a service stand, or could.
struct Place<'a> {
    own: &'a Map,
    held: Held<'a>,
    /// Of the key `labels` in `own`.
    at: Option<usize>,
    /// Where the service's name begins.
    name: usize,
}

enum Held<'a> {
    /// There is no key `labels`.
    Nothing,
    /// `labels:` and nothing behind it.
    Empty,
    Map(&'a Map),
    List(&'a Sequence),
}

impl<'a> Place<'a> {
    fn find(outline: &'a Outline, service: &str) -> Result<Self, LabelRefusal> {
        let named = || service.to_owned();
        let root = &outline.root;
        let missing = || match root.has("include") {
            true => Refusal::Included(named()),
            false => Refusal::NoService(named()),
        };
        let services = match root.get("services")? {
            Some(Node::Map(services)) => services,
            Some(Node::Alias(_)) => return Err(LabelRefusal::Shared(named())),
            _ => return Err(missing().into()),
        };
        let own = match services.get(service)? {
            Some(Node::Map(own)) => own,
            Some(Node::Alias(_)) => return Err(LabelRefusal::Shared(named())),
            Some(_) => return Err(LabelRefusal::Service(named())),
            None => return Err(missing().into()),
        };
        for (name, other) in &services.entries {
            if let Node::Map(other) = other
                && extends(other, service)?
            {
                return Err(LabelRefusal::Extended {
                    service: named(),
                    by: name.clone(),
                });
            }
        }
        let held = match own.get("labels")? {
            None if own.has("<<") => return Err(LabelRefusal::Merges(named())),
            None => Held::Nothing,
            Some(Node::Map(labels)) => Held::Map(labels),
            Some(Node::Sequence(labels)) => Held::List(labels),
            Some(Node::Scalar(nothing)) if nothing.value.is_empty() => Held::Empty,
            Some(Node::Scalar(_)) => return Err(LabelRefusal::Service(named())),
            Some(Node::Alias(_)) => return Err(LabelRefusal::Shared(named())),
        };
        let anchor = match held {
            Held::Map(labels) => labels.anchor,
            Held::List(labels) => labels.anchor,
            Held::Nothing | Held::Empty => 0,
        };
        let anchors = [services.anchor, own.anchor, anchor];
        if anchors.iter().any(|anchor| outline.aliases_of(*anchor) > 0) {
            return Err(LabelRefusal::Shared(named()));
        }
        let position = |map: &Map, key: &str| map.entries.iter().position(|(name, _)| name == key);
        let name = position(services, service).map(|at| services.keys[at].start);
        Ok(Self {
            own,
            held,
            at: position(own, "labels"),
            name: name.unwrap_or_default(),
        })
    }

    /// The events of the key `labels` and of what it says.
    fn events(&self) -> Option<Range<usize>> {
        let at = self.at?;
        let start = self.own.keys[at].event;
        Some(start..start + 1 + size(&self.own.entries[at].1))
    }
}

impl Held<'_> {
    fn read(&self, service: &str) -> Result<BTreeMap<String, String>, LabelRefusal> {
        let mut labels = BTreeMap::new();
        let pairs: Vec<(String, String)> = match self {
            Held::Nothing | Held::Empty => Vec::new(),
            Held::Map(map) => map
                .entries
                .iter()
                .filter(|(key, _)| key != "<<")
                .map(|(key, value)| match value {
                    Node::Scalar(scalar) => Ok((key.clone(), scalar.value.clone())),
                    _ => Err(LabelRefusal::Form(key.clone())),
                })
                .collect::<Result<_, _>>()?,
            Held::List(list) => list
                .items
                .iter()
                .map(|item| match item {
                    Node::Scalar(scalar) => {
                        let (key, value) =
                            scalar.value.split_once('=').unwrap_or((&scalar.value, ""));
                        Ok((key.to_owned(), value.to_owned()))
                    }
                    _ => Err(LabelRefusal::Service(service.to_owned())),
                })
                .collect::<Result<_, _>>()?,
        };
        for (key, value) in pairs {
            if labels.insert(key.clone(), value).is_some() {
                return Err(Refusal::Duplicate(key).into());
            }
        }
        Ok(labels)
    }
}

/// Another service that would have the labels too.
fn extends(other: &Map, service: &str) -> Result<bool, Refusal> {
    let text = |node: Option<&Node>| match node {
        Some(Node::Scalar(scalar)) => Some(scalar.value.clone()),
        _ => None,
    };
    Ok(match other.get("extends")? {
        Some(Node::Scalar(name)) => name.value == service,
        Some(Node::Map(of)) => {
            text(of.get("service")?).as_deref() == Some(service) && of.get("file")?.is_none()
        }
        _ => false,
    })
}

/// How many events a node is.
fn size(node: &Node) -> usize {
    match node {
        Node::Scalar(_) | Node::Alias(_) => 1,
        Node::Map(map) => {
            2 + map
                .entries
                .iter()
                .map(|(_, value)| 1 + size(value))
                .sum::<usize>()
        }
        Node::Sequence(list) => 2 + list.items.iter().map(size).sum::<usize>(),
    }
}

/// That the service has exactly these labels, and nothing else is another.
fn prove(
    old: &Outline,
    before: &Place<'_>,
    text: &str,
    service: &str,
    expected: &BTreeMap<String, String>,
) -> Result<(), LabelRefusal> {
    let new = parse(text)?;
    let after = Place::find(&new, service)?;
    let unproved = || LabelRefusal::Service(service.to_owned());
    if after.held.read(service)? != *expected {
        return Err(unproved());
    }
    let there = after.events().ok_or_else(unproved)?;
    let here = before.events().unwrap_or(there.start..there.start);
    let same = old.events.get(..here.start) == new.events.get(..there.start)
        && old.events.get(here.end..) == new.events.get(there.end..);
    same.then_some(()).ok_or_else(unproved)
}

/// Pieces of the text and what comes in their places, in any order, none within another.
type Cuts = Vec<(Range<usize>, String)>;

fn cut(file: &str, mut cuts: Cuts) -> String {
    cuts.sort_by_key(|(range, _)| std::cmp::Reverse(range.start));
    let mut text = file.to_owned();
    for (range, new) in cuts {
        text.replace_range(range, &new);
    }
    text
}

struct Editor<'a> {
    file: &'a str,
    key: &'a str,
}

impl Editor<'_> {
    /// `None` for a form that is not foreseen.
    fn cuts(&self, place: &Place<'_>, value: Option<&str>) -> Option<Cuts> {
        match (&place.held, value) {
            (Held::Nothing, None) | (Held::Empty, None) => None,
            (Held::Nothing, Some(value)) => self.begin(place, value),
            (Held::Empty, Some(value)) => self.fill(place, value),
            (Held::Map(labels), Some(value)) => {
                match labels.entries.iter().position(|(key, _)| key == self.key) {
                    Some(at) => {
                        let old = self.scalar(&labels.entries[at].1)?;
                        Some(vec![(old.0, quoted(value, old.1))])
                    }
                    None => self.add(&Entries::of_map(self, labels), &self.pair(value)),
                }
            }
            (Held::List(labels), Some(value)) => {
                let text = format!("{}={value}", self.key);
                let is_it = |item: &&Node| self.is_item(item);
                match labels.items.iter().find(is_it) {
                    Some(item) => {
                        let (range, quotes) = self.scalar(item)?;
                        let quotes = match quotes {
                            Quotes::None if !is_plain(&text) => Quotes::Single,
                            other => other,
                        };
                        Some(vec![(range, quoted_or_plain(&text, quotes))])
                    }
                    None => {
                        let quotes = match is_plain(&text) {
                            true => Quotes::None,
                            false => Quotes::Single,
                        };
                        self.add(
                            &Entries::of_list(self, labels),
                            &quoted_or_plain(&text, quotes),
                        )
                    }
                }
            }
            (Held::Map(labels), None) => {
                let at = labels.entries.iter().position(|(key, _)| key == self.key)?;
                self.take(place, &Entries::of_map(self, labels), at, "{}")
            }
            (Held::List(labels), None) => {
                let at = labels.items.iter().position(|item| self.is_item(&item))?;
                self.take(place, &Entries::of_list(self, labels), at, "[]")
            }
        }
    }

    fn pair(&self, value: &str) -> String {
        format!("{}: {}", self.key, quoted(value, Quotes::Single))
    }

    fn is_item(&self, item: &&Node) -> bool {
        matches!(item, Node::Scalar(scalar)
            if scalar.value.split('=').next() == Some(self.key))
    }

    /// Where a scalar stands, if it stands on one line.
    fn scalar(&self, node: &Node) -> Option<(Range<usize>, Quotes)> {
        let Node::Scalar(scalar) = node else {
            return None;
        };
        Some((scalar.start..self.end(scalar)?, scalar.quotes?))
    }

    fn end(&self, scalar: &Scalar) -> Option<usize> {
        if scalar.is_tagged || scalar.anchor != 0 {
            return None;
        }
        let rest = &self.file[scalar.start..];
        let line = &rest[..rest.find(['\n', '\r']).unwrap_or(rest.len())];
        let length = match scalar.quotes? {
            Quotes::None if scalar.value.is_empty() => None,
            Quotes::None => line
                .starts_with(&scalar.value)
                .then_some(scalar.value.len()),
            Quotes::Single => {
                let mut at = line.starts_with('\'').then_some(1)?;
                loop {
                    at += line[at..].find('\'')? + 1;
                    match line[at..].starts_with('\'') {
                        true => at += 1,
                        false => break Some(at),
                    }
                }
            }
            Quotes::Double => {
                let inner = line.strip_prefix('"')?;
                let mut escaped = false;
                let close = inner.char_indices().find(|(_, c)| {
                    let closes = *c == '"' && !escaped;
                    escaped = *c == '\\' && !escaped;
                    closes
                });
                close.map(|(at, _)| at + 2)
            }
        };
        length.map(|length| scalar.start + length)
    }

    fn line_start(&self, at: usize) -> usize {
        self.file[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// Behind the end of the line.
    fn line_end(&self, at: usize) -> usize {
        self.file[at..]
            .find('\n')
            .map_or(self.file.len(), |newline| at + newline + 1)
    }

    /// As the line at `at` ends, or the one before the last.
    fn newline(&self, at: usize) -> &'static str {
        let end = self.line_end(at);
        let ended = match self.file[..end].ends_with('\n') {
            true => &self.file[..end],
            false => &self.file[..self.line_start(at)],
        };
        match ended.ends_with("\r\n") {
            true => "\r\n",
            false => "\n",
        }
    }

    /// What stands on the line before `at`: blanks, and the hyphen of a list.
    fn indent(&self, at: usize) -> Option<&str> {
        let before = &self.file[self.line_start(at)..at];
        let before = before.strip_prefix('\u{feff}').unwrap_or(before);
        let rest = before.trim_start_matches(' ');
        let rest = rest.strip_prefix('-').unwrap_or(rest);
        rest.trim_start_matches(' ').is_empty().then_some(before)
    }

    /// A line behind the one on which `at` is.
    fn line_behind(&self, at: usize, line: &str) -> (Range<usize>, String) {
        let (end, newline) = (self.line_end(at), self.newline(at));
        let text = match self.file[..end].ends_with('\n') {
            true => format!("{line}{newline}"),
            false => format!("{newline}{line}"),
        };
        (end..end, text)
    }

    /// The first labels of a service.
    fn begin(&self, place: &Place<'_>, value: &str) -> Option<Cuts> {
        let first = place.own.keys.first()?.start;
        if is_bracket(self.file, place.own.start) {
            let text = format!("labels: {{{}}}, ", self.pair(value));
            return Some(vec![(first..first, text)]);
        }
        let indent = self.indent(first).filter(|indent| !indent.contains('-'))?;
        let column = |at: usize| at - self.line_start(at);
        let step = column(first).saturating_sub(column(place.name));
        let inner = " ".repeat(step.clamp(1, 8));
        let newline = self.newline(first);
        let text = format!(
            "{indent}labels:{newline}{indent}{inner}{}",
            self.pair(value)
        );
        // Behind the image, where that is a line of its own.
        let image = place.own.entries.iter().find(|(key, _)| key == "image");
        let end = image.and_then(|(_, image)| self.scalar(image));
        Some(vec![match end {
            Some((image, _)) => self.line_behind(image.end, &text),
            None => {
                let at = self.line_start(first);
                (at..at, format!("{text}{newline}"))
            }
        }])
    }

    /// `labels:` and nothing behind it.
    fn fill(&self, place: &Place<'_>, value: &str) -> Option<Cuts> {
        let colon = self.colon(place)?;
        Some(vec![(colon..colon, format!(" {{{}}}", self.pair(value)))])
    }

    /// Behind the colon of `labels:`.
    fn colon(&self, place: &Place<'_>) -> Option<usize> {
        const KEY: &str = "labels:";
        let start = place.own.keys[place.at?].start;
        self.file[start..]
            .starts_with(KEY)
            .then_some(start + KEY.len())
    }

    fn add(&self, entries: &Entries, text: &str) -> Option<Cuts> {
        let Some(first) = entries.all.first() else {
            // Behind the bracket.
            let at = entries.start + 1;
            return entries.in_brackets.then(|| vec![(at..at, text.to_owned())]);
        };
        if entries.in_brackets {
            return Some(vec![(first.start..first.start, format!("{text}, "))]);
        }
        let indent = self.indent(first.start)?;
        let line = format!("{indent}{text}");
        Some(vec![match entries.all.last()?.end {
            Some(end) => self.line_behind(end, &line),
            None => {
                let at = self.line_start(first.start);
                (at..at, format!("{line}{}", self.newline(at)))
            }
        }])
    }

    fn take(&self, place: &Place<'_>, entries: &Entries, at: usize, nothing: &str) -> Option<Cuts> {
        let one = &entries.all[at];
        let end = one.end?;
        if entries.in_brackets {
            let gone = match (entries.all.get(at + 1), at.checked_sub(1)) {
                (Some(next), _) => one.start..next.start,
                (None, Some(before)) => entries.all[before].end?..end,
                (None, None) => one.start..end,
            };
            // A comment or the end of a line in between is not ours to take away.
            let is_clean = !self.file[gone.clone()].contains(['\n', '#']);
            return is_clean.then(|| vec![(gone, String::new())]);
        }
        self.indent(one.start)?;
        let mut line = self.line_start(one.start)..self.line_end(end);
        // The line before is the last one then, and ends as this one did.
        if !self.file[..line.end].ends_with('\n') && entries.all.len() > 1 {
            let before = &self.file[..line.start];
            let before = before.strip_suffix('\n').unwrap_or(before);
            line.start = before.strip_suffix('\r').unwrap_or(before).len();
        }
        let mut cuts = vec![(line, String::new())];
        if entries.all.len() == 1 {
            let colon = self.colon(place)?;
            cuts.push((colon..colon, format!(" {nothing}")));
        }
        Some(cuts)
    }
}

/// Labels as they stand in the text.
struct Entries {
    start: usize,
    in_brackets: bool,
    all: Vec<Entry>,
}

struct Entry {
    start: usize,
    /// `None` for what does not stand on one line.
    end: Option<usize>,
}

impl Entries {
    fn of_map(editor: &Editor<'_>, map: &Map) -> Self {
        let all = map.keys.iter().zip(&map.entries);
        Self {
            start: map.start,
            in_brackets: is_bracket(editor.file, map.start),
            all: all
                .map(|(key, (_, value))| Entry {
                    start: key.start,
                    end: editor.scalar(value).map(|(range, _)| range.end),
                })
                .collect(),
        }
    }

    fn of_list(editor: &Editor<'_>, list: &Sequence) -> Self {
        let start = |item: &Node| match item {
            Node::Scalar(scalar) => scalar.start,
            _ => list.start,
        };
        Self {
            start: list.start,
            in_brackets: is_bracket(editor.file, list.start),
            all: list
                .items
                .iter()
                .map(|item| Entry {
                    start: start(item),
                    end: editor.scalar(item).map(|(range, _)| range.end),
                })
                .collect(),
        }
    }
}

fn is_bracket(file: &str, at: usize) -> bool {
    file[at..].starts_with(['{', '['])
}

/// Between quotes: a label's value is a text, whatever it looks like. Double quotes stay where
/// nothing in the text means something between them.
fn quoted(text: &str, was: Quotes) -> String {
    match was {
        Quotes::Double if !text.contains(['"', '\\']) => format!("\"{text}\""),
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}

fn quoted_or_plain(text: &str, was: Quotes) -> String {
    match was {
        Quotes::None => text.to_owned(),
        other => quoted(text, other),
    }
}

/// An item of a list that is a text without quotes. It begins with a letter.
fn is_plain(text: &str) -> bool {
    text.bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'=' | b'/'))
}

#[cfg(test)]
mod tests;
