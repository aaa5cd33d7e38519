//! Writing a new image into a Compose file without touching anything else: comments, quoting, order,
//! line ends and anchors stay as they are, byte for byte.
//!
//! The file is parsed only to find the one scalar that says what a service runs, through aliases,
//! merges and `extends` where it must be, and to prove afterwards that nothing else has changed. Of
//! an image with variables the one part is changed that differs: the text around them, a default, or
//! the value in the file that sets the variable. Where the scalar stands for more than this service,
//! or says something that only Compose can compute, the answer is a refusal with its reason and
//! never a guess.

pub mod labels;
mod lookup;
mod outline;
pub mod project;
mod reader;
mod variables;

use std::ops::Range;

use thiserror::Error;

use crate::image::{Digest, ImageRef, Tag};
use lookup::Lookup;
use outline::{Node, Quotes, parse};
pub use variables::{Environment, variable, with_variable};
use variables::{Origin, Segment, segments};

/// Larger files are not read (reliability.md S-35).
pub const MAX_BYTES: usize = 1 << 20;

/// What an operation does with the Compose file that its container came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileUse {
    /// Writes the new image into it, once that has proved itself.
    Edit,
    /// Makes the container run what it says; the file stays as it is.
    Apply,
}

impl FileUse {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Edit => "edit",
            Self::Apply => "apply",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Edit, Self::Apply]
            .into_iter()
            .find(|one| one.as_str() == text)
    }
}

/// Why a file is left alone. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("it is no YAML that can be edited safely: {0}")]
    Malformed(String),
    #[error("it holds several documents")]
    SeveralDocuments,
    #[error("it has no service `{0}`")]
    NoService(String),
    #[error("the service `{0}` comes from a file that it includes")]
    Included(String),
    #[error(
        "the image of the service `{0}` comes from a service that it extends, which would get \
             another one too; write an `image` beside `extends`"
    )]
    Extends(String),
    /// The file is as written, relative to the one that it is written in.
    #[error("the image of the service `{service}` comes from `{base}` in {file}, which it extends")]
    ExtendsFile {
        service: String,
        file: String,
        base: String,
    },
    #[error("the service `{0}` comes from what the services merge")]
    Merges(String),
    #[error("the service `{0}` is built, not pulled")]
    Built(String),
    #[error("the service `{0}` has no image")]
    NoImage(String),
    #[error(
        "what the service `{0}` runs is also used elsewhere in the file, by an alias; write an \
             `image` of its own"
    )]
    Shared(String),
    #[error("the service `{by}` extends `{service}` and would get its image too")]
    Extended { service: String, by: String },
    #[error("`{0}` stands in it more than once")]
    Duplicate(String),
    #[error(
        "the image `{0}` is computed from variables that its files do not set; change them where \
             they are set"
    )]
    Variable(String),
    #[error("the variable `{0}` is not set to a plain text on one line; change it where it is set")]
    VariableForm(String),
    #[error("the variable `{name}` cannot be changed for one service: {why}")]
    VariableUsed { name: String, why: &'static str },
    #[error(
        "the image `{0}` would need more than one of its variables changed; change them yourself"
    )]
    SeveralVariables(String),
    #[error("a file of variables beside it has lines that cannot be read safely")]
    EnvironmentForm,
    #[error("the image of the service `{0}` is not written as a plain or quoted text on one line")]
    Form(String),
    #[error("`{0}` is not an image reference")]
    NotAnImage(String),
    #[error("it runs `{found}`, which is not of the repository {wanted}")]
    OtherRepository { found: String, wanted: String },
}

/// Where the file says what a service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceImage {
    /// As written, without quotes, and with its variables.
    pub text: String,
    span: Range<usize>,
    quotes: Quotes,
    /// What stands there is an alias of what others use too: the service gets a text of its own.
    is_alias: bool,
}

/// Whether the digest is written beside the tag. One that stands there already is kept up to date
/// in any case: it decides what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pinning {
    AsItIs,
    Always,
}

/// A file's new text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub text: String,
    /// The image as it is written before and after.
    pub before: String,
    pub after: String,
}

impl Edit {
    pub fn changes_nothing(&self) -> bool {
        self.before == self.after
    }
}

/// What an image is with its variables filled in.
#[derive(Debug)]
pub struct Resolved {
    pub image: String,
    pub reference: ImageRef,
    segments: Vec<Segment>,
}

impl Resolved {
    /// Whether variables are part of it.
    pub fn is_computed(&self) -> bool {
        self.segments.iter().any(|one| !one.origin.is_literal())
    }

    /// The variable that its end is of, the tag's, where a file of variables sets it.
    pub fn variable(&self) -> Option<&str> {
        match &self.segments.last()?.origin {
            Origin::Set(name) => Some(name),
            Origin::Literal(_) | Origin::Default(_) | Origin::Unset => None,
        }
    }
}

/// What is to be written to make an image another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub place: Place,
    /// What stands there before and after.
    pub before: String,
    pub after: String,
    /// The image afterwards, with its variables filled in.
    pub image: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The service's `image`.
    Image,
    /// The value of this variable in the file that sets it.
    Variable(String),
}

/// Where the file says what the service runs.
///
/// # Errors
/// Whatever keeps it from being changed for this service alone; `ExtendsFile` where another file
/// says it.
pub fn service_image(file: &str, service: &str) -> Result<ServiceImage, Refusal> {
    let outline = parse(file)?;
    let located = Lookup::new(&outline, service)?.image(service)?;
    let image = located.scalar;
    let form = || Refusal::Form(service.to_owned());
    let quotes = image.quotes.filter(|_| !image.is_tagged).ok_or_else(form)?;
    let text = image.value.clone();
    if let Some(start) = located.alias {
        let ends = |c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']' | '{' | '}');
        let rest = file[start..].strip_prefix('*').ok_or_else(form)?;
        let name = rest.find(ends).unwrap_or(rest.len());
        return Ok(ServiceImage {
            span: start..start + 1 + name,
            text,
            quotes,
            is_alias: true,
        });
    }
    let start = match file[image.start..].strip_prefix('&') {
        // An anchor's name, and what is between it and the text.
        Some(anchor) if image.anchor != 0 => {
            let name = anchor.find([' ', '\t']).ok_or_else(form)?;
            let rest = anchor[name..].trim_start_matches([' ', '\t']);
            image.start + 1 + anchor.len() - rest.len()
        }
        _ => image.start,
    };
    // An image has no character that would have to be escaped.
    let raw = quotes.around(&text);
    if !file[start..].starts_with(&raw) {
        return Err(form());
    }
    Ok(ServiceImage {
        span: start..start + raw.len(),
        text,
        quotes,
        is_alias: false,
    })
}

/// Fills in the variables of an image as it is written.
pub fn resolve(image: &str, environment: &Environment) -> Result<Resolved, Refusal> {
    let segments = segments(image, environment)?;
    let filled: String = segments.iter().map(|one| one.value.as_str()).collect();
    let reference = match ImageRef::parse(&filled) {
        Ok(reference) if !has_unset(&segments) => reference,
        _ if has_unset(&segments) => return Err(Refusal::Variable(image.to_owned())),
        _ => return Err(Refusal::NotAnImage(filled)),
    };
    Ok(Resolved {
        image: filled,
        reference,
        segments,
    })
}

fn has_unset(segments: &[Segment]) -> bool {
    segments.iter().any(|one| one.origin == Origin::Unset)
}

/// What makes the image as it is written one with another tag, and another digest where one is to
/// be written, of the repository that it names.
///
/// # Errors
/// Whatever makes it unsafe to change exactly this.
pub fn change(
    image: &str,
    environment: &Environment,
    target: &ImageRef,
    digest: Option<&Digest>,
    pinning: Pinning,
) -> Result<Change, Refusal> {
    let found = resolve(image, environment)?;
    if found.reference.familiar_name() != target.familiar_name() {
        return Err(Refusal::OtherRepository {
            found: found.image,
            wanted: target.familiar_name(),
        });
    }
    let wanted = rewritten(&found.image, target.tag(), digest, pinning);
    if wanted == found.image {
        return Ok(Change {
            place: Place::Image,
            before: image.to_owned(),
            after: image.to_owned(),
            image: wanted,
        });
    }
    let (segment, part) =
        differing(&found, &wanted).ok_or_else(|| Refusal::SeveralVariables(image.to_owned()))?;
    let (place, before, after) = match &segment.origin {
        Origin::Literal(span) | Origin::Default(span) => {
            let after = format!("{}{part}{}", &image[..span.start], &image[span.end..]);
            (Place::Image, image.to_owned(), after)
        }
        Origin::Set(name) => (
            Place::Variable(name.clone()),
            segment.value.clone(),
            part.to_owned(),
        ),
        Origin::Unset => return Err(Refusal::Variable(image.to_owned())),
    };
    // A variable that is used twice in it changes in both places.
    let is_repeated = match &place {
        Place::Variable(name) => {
            let set = Origin::Set(name.clone());
            found
                .segments
                .iter()
                .filter(|one| one.origin == set)
                .count()
                > 1
        }
        Place::Image => resolve(&after, environment)?.image != wanted,
    };
    match is_repeated {
        true => Err(Refusal::SeveralVariables(image.to_owned())),
        false => Ok(Change {
            place,
            before,
            after,
            image: wanted,
        }),
    }
}

/// The one part of the image that has to change, and what it becomes: a variable before the text
/// around it, and never one of several variables.
fn differing<'a>(found: &'a Resolved, wanted: &'a str) -> Option<(&'a Segment, &'a str)> {
    let mut start = 0;
    let mut candidates = Vec::new();
    for segment in &found.segments {
        let end = start + segment.value.len();
        let (before, after) = (&found.image[..start], &found.image[end..]);
        start = end;
        let part = wanted
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after));
        candidates.extend(part.map(|part| (segment, part)));
    }
    let is_variable = |one: &&(&Segment, &str)| !one.0.origin.is_literal();
    match candidates.iter().filter(is_variable).count() {
        0 => candidates.pop(),
        1 => candidates.into_iter().find(|one| is_variable(&one)),
        _ => None,
    }
}

/// The file with this text where it says what the service runs.
///
/// # Errors
/// Whatever makes it unsafe to change exactly this.
pub fn with_text(file: &str, service: &str, after: &str) -> Result<Edit, Refusal> {
    let found = service_image(file, service)?;
    if found.text == after {
        return Ok(Edit {
            text: file.to_owned(),
            before: found.text,
            after: after.to_owned(),
        });
    }
    let mut text = String::with_capacity(file.len() + after.len());
    text.push_str(&file[..found.span.start]);
    text.push_str(&found.quotes.around(after));
    text.push_str(&file[found.span.end..]);
    let edit = Edit {
        text,
        before: found.text,
        after: after.to_owned(),
    };
    prove(file, &edit, found.is_alias)?;
    Ok(edit)
}

/// The services that the file describes.
pub fn services(file: &str) -> Result<Vec<String>, Refusal> {
    let outline = parse(file)?;
    Ok(match outline.root.get("services")? {
        Some(Node::Map(services)) => services
            .entries
            .iter()
            .map(|(name, _)| name.clone())
            .collect(),
        _ => Vec::new(),
    })
}

/// The files that it includes, as they are written; `None` for what Compose reads in another way
/// than a file of the project (with variables or a directory of its own, several merged, or from
/// elsewhere).
pub fn includes(file: &str) -> Result<Vec<Option<String>>, Refusal> {
    let outline = parse(file)?;
    let plain = |node: &Node| match node {
        Node::Scalar(path) => {
            let path = path.value.clone();
            let is_elsewhere = path.contains([':', '$', '#']) || path.is_empty();
            (!is_elsewhere).then_some(path)
        }
        _ => None,
    };
    let path = |node: &Node| match node {
        Node::Map(of) if of.entries.len() == 1 => match of.get("path") {
            Ok(Some(Node::Sequence(paths))) if paths.items.len() == 1 => plain(&paths.items[0]),
            Ok(Some(one)) => plain(one),
            _ => None,
        },
        other => plain(other),
    };
    Ok(match outline.root.get("include")? {
        None => Vec::new(),
        Some(Node::Sequence(all)) => all.items.iter().map(path).collect(),
        Some(_) => vec![None],
    })
}

/// That nothing in the file but the service's own image uses the variable, as far as the file
/// tells. `environment_file` is the name of the file that sets it.
///
/// # Errors
/// `VariableUsed`.
pub fn only_use(
    file: &str,
    service: &str,
    name: &str,
    environment_file: &str,
) -> Result<(), Refusal> {
    let outline = parse(file)?;
    let own = match Lookup::new(&outline, service).and_then(|lookup| lookup.image(service)) {
        // One that others use too is a use of theirs.
        Ok(image) => Some(image.scalar.start).filter(|_| image.alias.is_none()),
        Err(Refusal::NoService(_) | Refusal::NoImage(_)) => None,
        Err(refusal) => return Err(refusal),
    };
    match lookup::use_of(&outline, name, own, environment_file) {
        Some(why) => Err(Refusal::VariableUsed {
            name: name.to_owned(),
            why,
        }),
        None => Ok(()),
    }
}

/// The name as the user writes it, with the new tag and digest.
fn rewritten(found: &str, tag: Option<&Tag>, digest: Option<&Digest>, pinning: Pinning) -> String {
    let (unpinned, pinned) = match found.split_once('@') {
        Some((name, _)) => (name, true),
        None => (found, false),
    };
    let colon = unpinned
        .rfind(':')
        .filter(|at| !unpinned[*at..].contains('/'));
    let name = &unpinned[..colon.unwrap_or(unpinned.len())];
    let mut text = name.to_owned();
    // `nginx` is `nginx:latest`, and stays as it was written; `nginx@sha256:…` has no tag.
    let tag = tag.map_or("latest", Tag::as_str);
    if colon.is_some() || (tag != "latest" && !(pinned && digest.is_none())) {
        text.push(':');
        text.push_str(tag);
    }
    if let Some(digest) = digest
        && (pinned || pinning == Pinning::Always)
    {
        text.push('@');
        text.push_str(digest.as_str());
    }
    text
}

/// That the edit changed the one scalar and nothing else that a parser sees.
fn prove(file: &str, edit: &Edit, is_alias: bool) -> Result<(), Refusal> {
    let (old, new) = (parse(file)?.events, parse(&edit.text)?.events);
    let differ: Vec<_> = old.iter().zip(&new).filter(|(a, b)| a != b).collect();
    let is_the_image = |(old, new): &(&String, &String)| {
        let was_it = match is_alias {
            true => old.starts_with("alias "),
            false => old.ends_with(&edit.before),
        };
        was_it && new.starts_with("scalar ") && new.ends_with(&edit.after)
    };
    let expected = usize::from(!edit.changes_nothing());
    if old.len() == new.len() && differ.len() == expected && differ.iter().all(is_the_image) {
        return Ok(());
    }
    Err(Refusal::Malformed(
        "another text than the image would change its meaning".to_owned(),
    ))
}

#[cfg(test)]
mod tests;
