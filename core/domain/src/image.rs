//! References to images, as Docker reads them: `docker.io` and `library/` are implied, a first part
//! with a dot, a colon or the name `localhost` is a registry host.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::registry::RegistryKind;

const HUB_HOST: &str = "docker.io";
/// Where `docker.io` really answers.
const HUB_API_HOST: &str = "registry-1.docker.io";

/// Why a text is no reference. The messages are for people; they repeat at most 120 characters of
/// the input.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReferenceError {
    #[error("the image reference is empty")]
    Empty,
    #[error("`{0}` is an image id, not a reference; name a repository and tag instead")]
    ImageId(String),
    #[error("`{0}` is no image reference: {1}")]
    Invalid(String, &'static str),
}

/// A tag: 1-128 characters of `[A-Za-z0-9_.-]`, not starting with `.` or `-` (OCI distribution).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

impl Tag {
    pub fn parse(text: &str) -> Option<Self> {
        is_tag(text).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `algorithm:hex`, of which registries use `sha256` (64 digits) and `sha512` (128 digits).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    pub fn parse(text: &str) -> Option<Self> {
        let (algorithm, hex) = text.split_once(':')?;
        let length = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return None,
        };
        let ok = hex.len() == length
            && hex
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        ok.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first twelve hexadecimal digits, for people.
    pub fn short(&self) -> &str {
        let start = self.0.find(':').map_or(0, |colon| colon + 1);
        &self.0[start..start + 12]
    }
}

macro_rules! text_type {
    ($type:ident, $what:literal) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = String;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::parse(&text)
                    .ok_or_else(|| format!(concat!("`{}` is no ", $what), excerpt(&text)))
            }
        }
    };
}

text_type!(Tag, "image tag");
text_type!(Digest, "content digest");

/// How a registry is spoken to. HTTPS unless the configuration says otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    Https,
    Http,
}

impl Scheme {
    pub const fn as_str(self) -> &'static str {
        match self {
            Scheme::Https => "https",
            Scheme::Http => "http",
        }
    }
}

/// A normalised reference: registry host, repository, and a tag, a digest, both or neither.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ImageRef {
    registry: String,
    repository: String,
    tag: Option<Tag>,
    digest: Option<Digest>,
}

impl ImageRef {
    /// Reads a reference by Docker's rules.
    ///
    /// Image ids (`sha256:…`, or 64 hexadecimal digits) are refused: Docker reports one in the
    /// place of a reference when an image has lost its tag, and a reader that takes
    /// `sha256:abcd` for repository `sha256` with tag `abcd` asks Docker Hub for it.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let invalid = |why| ReferenceError::Invalid(excerpt(text), why);
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let hex = text.strip_prefix("sha256:").unwrap_or(text);
        let is_hex = hex.bytes().all(|b| b.is_ascii_hexdigit());
        if is_hex && (hex.len() == 64 || hex.len() < text.len()) {
            return Err(ReferenceError::ImageId(excerpt(text)));
        }
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (
                name,
                Some(Digest::parse(digest).ok_or_else(|| {
                    invalid("the part after `@` must be a sha256 or sha512 digest")
                })?),
            ),
            None => (text, None),
        };
        let (name, tag) = match name.rsplit_once(':') {
            // A colon before the last slash belongs to the host's port.
            Some((name, tag)) if !tag.contains('/') => (
                name,
                Some(Tag::parse(tag).ok_or_else(|| {
                    invalid("a tag has 1-128 characters of letters, digits, `_`, `.` and `-`")
                })?),
            ),
            _ => (name, None),
        };
        let (host, path) = match name.split_once('/') {
            Some((first, rest)) if is_host(first) => (first.to_ascii_lowercase(), rest),
            _ => (HUB_HOST.to_owned(), name),
        };
        let registry = match host.as_str() {
            "index.docker.io" | HUB_API_HOST => HUB_HOST.to_owned(),
            _ => host,
        };
        if !is_valid_host(&registry) {
            return Err(invalid("the registry host is not a host name and port"));
        }
        let repository = if registry == HUB_HOST && !path.contains('/') {
            format!("library/{path}")
        } else {
            path.to_owned()
        };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid("the repository must be lower case"));
        }
        if repository.len() > 255 || !repository.split('/').all(is_path_part) {
            return Err(invalid(
                "repository parts are lower-case letters and digits, joined by `.`, `_`, `__` or `-`",
            ));
        }
        Ok(Self {
            registry,
            repository,
            tag,
            digest,
        })
    }

    /// The registry's host as people name it, with the port: `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository inside the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// The tag; `latest` where none is written, as Docker reads it.
    pub fn tag_name(&self) -> &str {
        self.tag.as_ref().map_or("latest", Tag::as_str)
    }

    /// `repository:tag` as people call it, without a digest.
    pub fn familiar_tagged(&self) -> String {
        format!("{}:{}", self.familiar_name(), self.tag_name())
    }

    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    pub fn is_docker_hub(&self) -> bool {
        self.registry == HUB_HOST
    }

    /// The host that answers the registry's API.
    pub fn api_host(&self) -> &str {
        if self.is_docker_hub() {
            HUB_API_HOST
        } else {
            &self.registry
        }
    }

    /// The API's base over HTTPS: `https://registry-1.docker.io/v2`, the form of
    /// `image.registry.url`.
    pub fn registry_url(&self) -> String {
        self.registry_url_over(Scheme::Https)
    }

    /// The API's base, for a registry that is configured to be reached over `scheme`.
    pub fn registry_url_over(&self, scheme: Scheme) -> String {
        format!("{}://{}/v2", scheme.as_str(), self.api_host())
    }

    /// The name that Drydock gives to a registry that has no configuration of its own.
    pub fn default_registry_name(&self) -> &'static str {
        RegistryKind::of_host(&self.registry).map_or("custom", RegistryKind::as_str)
    }

    /// Registry and repository without tag or digest: the key of everything that is asked for
    /// once per repository.
    pub fn repository_key(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same for all names of one repository: Docker Hub is reached by more hosts than those that
    /// references are normalised from.
    pub fn registry_key(&self) -> String {
        match self.registry.as_str() {
            "registry.hub.docker.com" | "hub.docker.com" => {
                format!("{HUB_HOST}/{}", self.repository)
            }
            _ => self.repository_key(),
        }
    }

    /// What a person would type: without `docker.io/` and `library/`.
    pub fn familiar_name(&self) -> String {
        let name = self.familiar_repository();
        if self.is_docker_hub() {
            name.to_owned()
        } else {
            format!("{}/{name}", self.registry)
        }
    }

    /// As people say it: without the registry, and without Docker Hub's `library/`.
    pub fn familiar_repository(&self) -> &str {
        match self.repository.strip_prefix("library/") {
            Some(short) if self.is_docker_hub() => short,
            _ => &self.repository,
        }
    }

    /// The same repository at another tag, without a digest.
    pub fn with_tag(&self, tag: Tag) -> Self {
        Self {
            tag: Some(tag),
            digest: None,
            ..self.clone()
        }
    }

    /// The same reference pinned to a digest; the tag stays as a remark, as Docker does it.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }
}

impl fmt::Display for ImageRef {
    /// The canonical form: `docker.io/library/nginx:1.27@sha256:…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageRef {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl TryFrom<String> for ImageRef {
    type Error = ReferenceError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<ImageRef> for String {
    fn from(reference: ImageRef) -> Self {
        reference.to_string()
    }
}

pub(crate) fn is_tag(text: &str) -> bool {
    let bytes = text.as_bytes();
    matches!(bytes.first(), Some(b) if b.is_ascii_alphanumeric() || *b == b'_')
        && bytes.len() <= 128
        && bytes
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

/// Docker's test for "this first part is a host and not a namespace".
fn is_host(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_valid_host(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) => {
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            match rest {
                "" => return true,
                _ => match rest.strip_prefix(':') {
                    Some(port) => return port.parse::<u16>().is_ok(),
                    None => return false,
                },
            }
        }
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    port.is_none_or(|port| port.parse::<u16>().is_ok())
        && name.len() <= 253
        && name.split('.').all(|label| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

fn is_path_part(part: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = part.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    part.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(|joint| {
            matches!(joint, "" | "." | "_" | "__")
                || (!joint.is_empty() && joint.bytes().all(|b| b == b'-'))
        })
}

fn excerpt(text: &str) -> String {
    match text.char_indices().nth(120) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
