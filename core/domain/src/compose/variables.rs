//! Variables in an image, and the files of variables that Compose reads beside its own
//! (`.env`). Only what can be read without doubt is: a value that is itself computed, or that goes
//! over several lines, is a refusal.

use std::{collections::HashMap, ops::Range};

use super::{MAX_BYTES, Refusal};

/// Files of variables; a later one counts before an earlier one.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// The value, or `None` for one that cannot be read, and the file that it is of.
    values: HashMap<String, (Option<String>, usize)>,
}

impl Environment {
    /// # Errors
    /// Those of a file that cannot be read safely.
    pub fn parse<'a>(files: impl IntoIterator<Item = &'a str>) -> Result<Self, Refusal> {
        let mut values = HashMap::new();
        for (number, text) in files.into_iter().enumerate() {
            for entry in entries(text)? {
                values.insert(entry.name.to_owned(), (entry.value, number));
            }
        }
        Ok(Self { values })
    }

    /// Whether one of the files sets the variable.
    pub fn sets(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    /// What they set the variable to.
    ///
    /// # Errors
    /// `VariableForm`.
    pub fn value(&self, name: &str) -> Result<Option<&str>, Refusal> {
        match self.values.get(name) {
            Some((Some(value), _)) => Ok(Some(value)),
            Some((None, _)) => Err(Refusal::VariableForm(name.to_owned())),
            None => Ok(None),
        }
    }

    /// Which of the files sets the variable.
    pub fn file_of(&self, name: &str) -> Option<usize> {
        self.values.get(name).map(|(_, file)| *file)
    }
}

/// A part of an image, as it is filled in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub value: String,
    pub origin: Origin,
}

/// Where a part can be changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Written as it is, at this place of the image's text.
    Literal(Range<usize>),
    /// The default of a variable that is not set, at this place.
    Default(Range<usize>),
    /// In a file of variables.
    Set(String),
    Unset,
}

impl Origin {
    pub fn is_literal(&self) -> bool {
        matches!(self, Self::Literal(_))
    }
}

/// The image's text in pieces.
pub(super) fn segments(image: &str, environment: &Environment) -> Result<Vec<Segment>, Refusal> {
    let refused = || Refusal::Variable(image.to_owned());
    let mut found = Vec::new();
    let mut at = 0;
    while at < image.len() {
        let next = image[at..].find('$').map_or(image.len(), |next| at + next);
        if next > at {
            found.push(Segment {
                value: image[at..next].to_owned(),
                origin: Origin::Literal(at..next),
            });
        }
        at = next;
        if at == image.len() {
            break;
        }
        let (inner, end) = match image.as_bytes().get(at + 1) {
            Some(b'{') => {
                let close = image[at..].find('}').ok_or_else(refused)? + at;
                (at + 2..close, close + 1)
            }
            _ => {
                let length = name_length(&image[at + 1..]);
                (at + 1..at + 1 + length, at + 1 + length)
            }
        };
        let length = name_length(&image[inner.clone()]);
        let name = &image[inner.start..inner.start + length];
        let rest = inner.start + length..inner.end;
        if name.is_empty() || image[rest.clone()].contains(['$', '{']) {
            return Err(refused());
        }
        found.push(segment(image, name, rest, environment)?);
        at = end;
    }
    Ok(found)
}

/// The text with its variables filled in; as it is written where that cannot be told.
pub(super) fn filled(text: &str, environment: &Environment) -> String {
    if !text.contains('$') {
        return text.to_owned();
    }
    match segments(text, environment) {
        Ok(segments) => segments.into_iter().map(|one| one.value).collect(),
        Err(_) => text.to_owned(),
    }
}

fn segment(
    image: &str,
    name: &str,
    rest: Range<usize>,
    environment: &Environment,
) -> Result<Segment, Refusal> {
    let (set, _) = match environment.values.get(name) {
        Some((None, _)) => return Err(Refusal::VariableForm(name.to_owned())),
        Some((Some(value), file)) => (Some(value), *file),
        None => (None, 0),
    };
    let of_file = |value: &str| Segment {
        value: value.to_owned(),
        origin: Origin::Set(name.to_owned()),
    };
    let default = |skip: usize| {
        let place = rest.start + skip..rest.end;
        Segment {
            value: image[place.clone()].to_owned(),
            origin: Origin::Default(place),
        }
    };
    let text = &image[rest.clone()];
    Ok(if text.starts_with(":-") {
        match set.filter(|value| !value.is_empty()) {
            Some(value) => of_file(value),
            None => default(2),
        }
    } else if text.starts_with('-') {
        set.map_or_else(|| default(1), |value| of_file(value))
    } else if text.is_empty() || text.starts_with(":?") || text.starts_with('?') {
        match set {
            Some(value) => of_file(value),
            None => Segment {
                value: String::new(),
                origin: Origin::Unset,
            },
        }
    } else {
        return Err(Refusal::Variable(image.to_owned()));
    })
}

/// Whether the text uses the variable.
pub(super) fn mentions(text: &str, name: &str) -> bool {
    text.match_indices('$').any(|(at, _)| {
        let rest = text[at + 1..].trim_start_matches('{');
        rest.starts_with(name) && name_length(rest) == name.len()
    })
}

fn name_length(text: &str) -> usize {
    let is_name = |(at, byte): &(usize, u8)| {
        byte.is_ascii_alphabetic() || *byte == b'_' || (*at > 0 && byte.is_ascii_digit())
    };
    text.bytes().enumerate().take_while(is_name).count()
}

struct Entry<'a> {
    name: &'a str,
    /// `None` for one that is computed or escaped.
    value: Option<String>,
    /// Where it stands, without quotes.
    place: Range<usize>,
}

/// The lines that set something.
fn entries(text: &str) -> Result<Vec<Entry<'_>>, Refusal> {
    if text.len() > MAX_BYTES {
        return Err(Refusal::EnvironmentForm);
    }
    let mut found = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let at = start;
        start += line.len();
        let line = line.trim_end_matches(['\n', '\r']);
        let skipped = line.len() - line.trim_start_matches(['\u{feff}', ' ', '\t']).len();
        let (at, line) = (at + skipped, &line[skipped..]);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let exported = line.strip_prefix("export ").map(str::trim_start);
        let shift = exported.map_or(0, |rest| line.len() - rest.len());
        let (at, line) = (at + shift, &line[shift..]);
        let length = name_length(line);
        let after = line[length..].trim_start();
        let Some(raw) = after.strip_prefix('=') else {
            // `NAME` alone takes it from elsewhere; anything else is not for us to read.
            match after.is_empty() && length > 0 {
                true => {
                    found.push(Entry {
                        name: &line[..length],
                        value: None,
                        place: at..at,
                    });
                    continue;
                }
                false => return Err(Refusal::EnvironmentForm),
            }
        };
        if length == 0 {
            return Err(Refusal::EnvironmentForm);
        }
        let value = raw.trim_start();
        let from = at + line.len() - value.len();
        let (inner, is_plain) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let rest = &value[1..];
                let close = rest.find(quote).ok_or(Refusal::EnvironmentForm)?;
                let inner = &rest[..close];
                if quote == '"' && inner.ends_with('\\') {
                    return Err(Refusal::EnvironmentForm);
                }
                let tail = rest[close + 1..].trim_start();
                if !tail.is_empty() && !tail.starts_with('#') {
                    return Err(Refusal::EnvironmentForm);
                }
                let is_plain = quote == '\'' || !inner.contains(['$', '\\']);
                (from + 1..from + 1 + close, is_plain)
            }
            _ => {
                let comment = value.starts_with('#').then_some(0);
                let comment = comment.or_else(|| value.find(" #"));
                let inner = value[..comment.unwrap_or(value.len())].trim_end();
                (from..from + inner.len(), !inner.contains(['$', '\\']))
            }
        };
        found.push(Entry {
            name: &line[..length],
            value: is_plain.then(|| text[inner.clone()].to_owned()),
            place: inner,
        });
    }
    Ok(found)
}

/// What the file sets the variable to.
///
/// # Errors
/// Where that cannot be told, or it is set more than once.
pub fn variable(text: &str, name: &str) -> Result<String, Refusal> {
    place_of(text, name).map(|place| text[place].to_owned())
}

fn place_of(text: &str, name: &str) -> Result<Range<usize>, Refusal> {
    let entries = entries(text)?;
    let mut own = entries.iter().filter(|entry| entry.name == name);
    let unset = || Refusal::VariableForm(name.to_owned());
    let entry = own.next().ok_or_else(unset)?;
    if own.next().is_some() {
        return Err(Refusal::Duplicate(name.to_owned()));
    }
    match entry.value {
        Some(_) => Ok(entry.place.clone()),
        None => Err(unset()),
    }
}

/// The file with another value of the variable; every other byte stays.
///
/// # Errors
/// As [`variable`]; and where another line of the file uses the variable.
pub fn with_variable(text: &str, name: &str, value: &str) -> Result<String, Refusal> {
    let place = place_of(text, name)?;
    let others = || text[..place.start].lines().chain(text[place.end..].lines());
    let code = |line: &str| !line.trim_start().starts_with('#');
    if others().any(|line| code(line) && mentions(line, name)) {
        return Err(Refusal::VariableUsed {
            name: name.to_owned(),
            why: "another variable uses it too",
        });
    }
    let edited = format!("{}{value}{}", &text[..place.start], &text[place.end..]);
    // What was written is what is read, and nothing else has changed.
    let (old, new) = (entries(text)?, entries(&edited)?);
    let is_same = old.len() == new.len()
        && old.iter().zip(&new).all(|(old, new)| {
            let expected = match old.place == place {
                true => Some(value),
                false => old.value.as_deref(),
            };
            old.name == new.name && new.value.as_deref() == expected
        });
    match is_same {
        true => Ok(edited),
        false => Err(Refusal::EnvironmentForm),
    }
}
