//! Writing a new image into a Compose file without touching anything else: comments, quoting, order,
//! line ends and anchors stay as they are, byte for byte.
//!
//! The file is parsed only to find the one scalar that says what a service runs, and to prove
//! afterwards that nothing else has changed. Where that scalar does not stand in this file, stands
//! for more than this service, or says something that only Compose can compute, the answer is a
//! refusal with its reason and never a guess.

mod outline;

use std::ops::Range;

use thiserror::Error;

use crate::image::{Digest, ImageRef, Tag};
use outline::{Map, Node, Quotes, parse};

/// Larger files are not read (reliability.md S-35).
pub const MAX_BYTES: usize = 1 << 20;

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
    #[error("the image of the service `{0}` comes from what it extends")]
    Extends(String),
    #[error("the image of the service `{0}` comes from what it merges")]
    Merges(String),
    #[error("the service `{0}` is built, not pulled")]
    Built(String),
    #[error("the service `{0}` has no image")]
    NoImage(String),
    #[error("what the service `{0}` runs is also used elsewhere in the file, by an alias")]
    Shared(String),
    #[error("the service `{by}` extends `{service}` and would get its image too")]
    Extended { service: String, by: String },
    #[error("`{0}` stands in it more than once")]
    Duplicate(String),
    #[error("the image `{0}` is computed from variables; change them where they are set")]
    Variable(String),
    #[error("the image of the service `{0}` is not written as a plain or quoted text on one line")]
    Form(String),
    #[error("`{0}` is not an image reference")]
    NotAnImage(String),
    #[error("it runs `{found}`, which is not of the repository {wanted}")]
    OtherRepository { found: String, wanted: String },
}

/// What the file says a service runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceImage {
    /// As written, without quotes.
    pub text: String,
    pub reference: ImageRef,
    span: Range<usize>,
    quotes: Quotes,
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

/// What the file says the service runs.
pub fn service_image(file: &str, service: &str) -> Result<ServiceImage, Refusal> {
    let outline = parse(file)?;
    let root = &outline.root;
    let named = || service.to_owned();
    let services = match root.get("services")? {
        Some(Node::Map(services)) => services,
        Some(Node::Alias) => return Err(Refusal::Shared(named())),
        _ if root.get("include")?.is_some() => return Err(Refusal::Included(named())),
        _ => return Err(Refusal::NoService(named())),
    };
    let own = match services.get(service)? {
        Some(Node::Map(own)) => own,
        Some(Node::Alias) => return Err(Refusal::Shared(named())),
        Some(_) => return Err(Refusal::NoImage(named())),
        None if root.get("include")?.is_some() => return Err(Refusal::Included(named())),
        None => return Err(Refusal::NoService(named())),
    };
    if own.get("build")?.is_some() {
        return Err(Refusal::Built(named()));
    }
    let image = match own.get("image")? {
        Some(image) => image,
        None if own.get("extends")?.is_some() => return Err(Refusal::Extends(named())),
        None if own.has("<<") => return Err(Refusal::Merges(named())),
        None => return Err(Refusal::NoImage(named())),
    };
    let image = match image {
        Node::Scalar(image) => image,
        Node::Alias => return Err(Refusal::Shared(named())),
        _ => return Err(Refusal::Form(named())),
    };
    let anchors = [services.anchor, own.anchor, image.anchor];
    if anchors.iter().any(|anchor| outline.is_aliased(*anchor)) {
        return Err(Refusal::Shared(named()));
    }
    if let Some(by) = extended_by(services, service)? {
        return Err(Refusal::Extended {
            service: named(),
            by,
        });
    }
    let text = image.value.clone();
    if text.contains('$') {
        return Err(Refusal::Variable(text));
    }
    let quotes = image.quotes.filter(|_| !image.is_tagged);
    let quotes = quotes.ok_or_else(|| Refusal::Form(named()))?;
    // An image has no character that would have to be escaped.
    let raw = quotes.around(&text);
    if !file[image.start..].starts_with(&raw) {
        return Err(Refusal::Form(named()));
    }
    let reference = ImageRef::parse(&text).map_err(|_| Refusal::NotAnImage(text.clone()))?;
    Ok(ServiceImage {
        text,
        reference,
        span: image.start..image.start + raw.len(),
        quotes,
    })
}

/// The file with another tag, and another digest where one is to be written, of the repository
/// that it names.
///
/// # Errors
/// Whatever makes it unsafe to change exactly this.
pub fn with_image(
    file: &str,
    service: &str,
    target: &ImageRef,
    digest: Option<&Digest>,
    pinning: Pinning,
) -> Result<Edit, Refusal> {
    let found = service_image(file, service)?;
    if found.reference.familiar_name() != target.familiar_name() {
        return Err(Refusal::OtherRepository {
            found: found.text,
            wanted: target.familiar_name(),
        });
    }
    let after = rewritten(&found, target.tag(), digest, pinning);
    let mut text = String::with_capacity(file.len() + after.len());
    text.push_str(&file[..found.span.start]);
    text.push_str(&found.quotes.around(&after));
    text.push_str(&file[found.span.end..]);
    let edit = Edit {
        text,
        before: found.text,
        after,
    };
    prove(file, &edit)?;
    Ok(edit)
}

/// The name as the user writes it, with the new tag and digest.
fn rewritten(
    found: &ServiceImage,
    tag: Option<&Tag>,
    digest: Option<&Digest>,
    pinning: Pinning,
) -> String {
    let (unpinned, pinned) = match found.text.split_once('@') {
        Some((name, _)) => (name, true),
        None => (found.text.as_str(), false),
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

/// The other service that takes this one's image by extending it.
fn extended_by(services: &Map, service: &str) -> Result<Option<String>, Refusal> {
    for (key, other) in &services.entries {
        let Node::Map(other) = other else { continue };
        let extends = match other.get("extends")? {
            Some(Node::Scalar(name)) => name.value == service,
            Some(Node::Map(of)) => {
                let names = |key: &str| -> Result<Option<&str>, Refusal> {
                    Ok(match of.get(key)? {
                        Some(Node::Scalar(scalar)) => Some(scalar.value.as_str()),
                        _ => None,
                    })
                };
                names("service")? == Some(service) && names("file")?.is_none()
            }
            _ => false,
        };
        if extends && other.get("image")?.is_none() {
            return Ok(Some(key.clone()));
        }
    }
    Ok(None)
}

/// That the edit changed the one scalar and nothing else that a parser sees.
fn prove(before: &str, edit: &Edit) -> Result<(), Refusal> {
    let (old, new) = (parse(before)?.events, parse(&edit.text)?.events);
    let differ: Vec<_> = old.iter().zip(&new).filter(|(a, b)| a != b).collect();
    let is_the_image =
        |(old, new): &(&String, &String)| old.ends_with(&edit.before) && new.ends_with(&edit.after);
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
