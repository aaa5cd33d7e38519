//! A YAML document with the place of each scalar. Aliases are kept as such and never expanded.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};

use super::{MAX_BYTES, Refusal};

const MAX_DEPTH: usize = 64;

pub(super) struct Outline {
    pub root: Map,
    /// Every event without its place, for comparison.
    pub events: Vec<String>,
    /// By anchor: how many aliases refer to what bears it.
    aliases: HashMap<usize, usize>,
}

pub(super) enum Node {
    Scalar(Scalar),
    Alias(Alias),
    Map(Map),
    Sequence(Sequence),
}

#[derive(Clone, Copy)]
pub(super) struct Alias {
    /// Of what it stands for.
    pub anchor: usize,
    /// Where it begins, in bytes.
    pub start: usize,
}

pub(super) struct Sequence {
    pub items: Vec<Node>,
    /// Where it begins, in bytes.
    pub start: usize,
    pub anchor: usize,
}

pub(super) struct Scalar {
    pub value: String,
    /// Where it begins, in bytes. (Where the parser says that it ends may be after a comment.)
    pub start: usize,
    /// `None` for block scalars.
    pub quotes: Option<Quotes>,
    pub is_tagged: bool,
    pub anchor: usize,
}

pub(super) struct Map {
    pub entries: Vec<(String, Node)>,
    /// Where the keys of `entries` stand.
    pub keys: Vec<Place>,
    /// Where it begins, in bytes.
    pub start: usize,
    pub anchor: usize,
}

#[derive(Clone, Copy)]
pub(super) struct Place {
    /// In bytes.
    pub start: usize,
    /// In `Outline::events`.
    pub event: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quotes {
    None,
    Single,
    Double,
}

impl Quotes {
    pub fn around(self, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::Single => format!("'{text}'"),
            Self::Double => format!("\"{text}\""),
        }
    }
}

impl Map {
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|(known, _)| known == key)
    }

    /// # Errors
    /// `Duplicate`: which of two Compose would take is not ours to say.
    pub fn get(&self, key: &str) -> Result<Option<&Node>, Refusal> {
        let mut found = self.entries.iter().filter(|(known, _)| known == key);
        let first = found.next().map(|(_, node)| node);
        match found.next() {
            Some(_) => Err(Refusal::Duplicate(key.to_owned())),
            None => Ok(first),
        }
    }
}

impl Outline {
    /// How many aliases refer to what bears this anchor. 0 is no anchor.
    pub fn aliases_of(&self, anchor: usize) -> usize {
        self.aliases.get(&anchor).copied().unwrap_or_default()
    }

    /// What bears each anchor.
    pub fn anchored(&self) -> HashMap<usize, &Node> {
        let mut found = HashMap::new();
        let mut open: Vec<&Node> = self.root.entries.iter().map(|(_, node)| node).collect();
        while let Some(node) = open.pop() {
            let anchor = match node {
                Node::Scalar(scalar) => scalar.anchor,
                Node::Alias(_) => 0,
                Node::Map(map) => {
                    open.extend(map.entries.iter().map(|(_, node)| node));
                    map.anchor
                }
                Node::Sequence(sequence) => {
                    open.extend(&sequence.items);
                    sequence.anchor
                }
            };
            if anchor != 0 {
                found.insert(anchor, node);
            }
        }
        found
    }
}

/// # Errors
/// What is no YAML, too large, too deep, or more or less than one mapping.
pub(super) fn parse(text: &str) -> Result<Outline, Refusal> {
    if text.len() > MAX_BYTES {
        return Err(Refusal::Malformed(format!(
            "it is larger than {MAX_BYTES} bytes"
        )));
    }
    let mut builder = Builder {
        places: Places::new(text),
        open: Vec::new(),
        root: None,
        documents: 0,
        aliases: HashMap::new(),
        events: Vec::new(),
    };
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| Refusal::Malformed(error.to_string()))?;
        builder.add(event, span.start.index())?;
    }
    match (builder.documents, builder.root) {
        (0 | 1, Some(Node::Map(root))) => Ok(Outline {
            root,
            events: builder.events,
            aliases: builder.aliases,
        }),
        (2.., _) => Err(Refusal::SeveralDocuments),
        _ => Err(Refusal::Malformed("it is no mapping".to_owned())),
    }
}

struct Builder<'a> {
    places: Places<'a>,
    open: Vec<Open>,
    root: Option<Node>,
    documents: usize,
    aliases: HashMap<usize, usize>,
    events: Vec<String>,
}

enum Open {
    Map { map: Map, key: Option<String> },
    Sequence(Sequence),
}

impl Builder<'_> {
    fn add(&mut self, event: Event<'_>, start: usize) -> Result<(), Refusal> {
        if self.open.len() > MAX_DEPTH {
            return Err(Refusal::Malformed("it is nested too deeply".to_owned()));
        }
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => self.documents += 1,
            Event::Alias(anchor) => {
                *self.aliases.entry(anchor).or_default() += 1;
                self.events.push(format!("alias {anchor}"));
                let start = self.places.bytes(start);
                self.put(Node::Alias(Alias { anchor, start }));
            }
            Event::Scalar(value, style, anchor, tag) => {
                self.events
                    .push(format!("scalar {style:?} {anchor} {tag:?} {value}"));
                let quotes = match style {
                    ScalarStyle::Plain => Some(Quotes::None),
                    ScalarStyle::SingleQuoted => Some(Quotes::Single),
                    ScalarStyle::DoubleQuoted => Some(Quotes::Double),
                    ScalarStyle::Literal | ScalarStyle::Folded => None,
                };
                let start = self.places.bytes(start);
                self.put(Node::Scalar(Scalar {
                    value: value.into_owned(),
                    start,
                    quotes,
                    is_tagged: tag.is_some(),
                    anchor,
                }));
            }
            Event::SequenceStart(anchor, tag) => {
                self.events.push(format!("sequence {anchor} {tag:?}"));
                self.open.push(Open::Sequence(Sequence {
                    items: Vec::new(),
                    start: self.places.bytes(start),
                    anchor,
                }));
            }
            Event::MappingStart(anchor, tag) => {
                self.events.push(format!("mapping {anchor} {tag:?}"));
                self.open.push(Open::Map {
                    map: Map {
                        entries: Vec::new(),
                        keys: Vec::new(),
                        start: self.places.bytes(start),
                        anchor,
                    },
                    key: None,
                });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.events.push("end".to_owned());
                match self.open.pop() {
                    Some(Open::Map { map, .. }) => self.put(Node::Map(map)),
                    Some(Open::Sequence(sequence)) => self.put(Node::Sequence(sequence)),
                    None => {}
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, node: Node) {
        let event = self.events.len().saturating_sub(1);
        match self.open.last_mut() {
            None => self.root = Some(node),
            Some(Open::Sequence(sequence)) => sequence.items.push(node),
            Some(Open::Map { map, key }) => match key.take() {
                Some(key) => map.entries.push((key, node)),
                // A key that is no text is none that Compose knows.
                None => {
                    let (text, start) = match node {
                        Node::Scalar(scalar) => (scalar.value, scalar.start),
                        _ => (String::new(), map.start),
                    };
                    map.keys.push(Place { start, event });
                    *key = Some(text);
                }
            },
        }
    }
}

/// From the parser's characters to bytes. Scalars come in order, so each look goes on where the
/// last one ended.
struct Places<'a> {
    text: &'a str,
    chars: usize,
    bytes: usize,
}

impl<'a> Places<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text,
            chars: 0,
            bytes: 0,
        }
    }

    fn bytes(&mut self, chars: usize) -> usize {
        if chars < self.chars {
            (self.chars, self.bytes) = (0, 0);
        }
        let rest = &self.text[self.bytes..];
        let ahead = rest.char_indices().nth(chars - self.chars);
        self.bytes += ahead.map_or(rest.len(), |(at, _)| at);
        self.chars = chars;
        self.bytes
    }
}
