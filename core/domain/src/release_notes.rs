//! Which release of which GitHub repository tells of an image (contract/drydock-container-api.md,
//! "Get container release notes"). Where an image says that its source is kept is hostile text:
//! all that is taken of it is an owner and a name.

use std::{collections::BTreeMap, fmt};

use crate::tag::ParsedTag;

/// The OCI label that names an image's source.
pub const SOURCE_LABEL: &str = "org.opencontainers.image.source";

/// A repository at GitHub, or at the GitHub Enterprise server that is configured.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceRepository {
    owner: String,
    name: String,
}

impl SourceRepository {
    /// Reads `owner/name`, `github.com/owner/name`, `https://github.com/owner/name[.git][/…]`,
    /// `ssh://git@github.com/…` and `git@github.com:…`. Any other host than `hosts` is `None`.
    pub fn parse(text: &str, hosts: &[&str]) -> Option<Self> {
        let text = text.trim();
        let text = text.split(['?', '#']).next()?;
        let rest = match text.split_once("://") {
            Some(("http" | "https" | "git" | "ssh" | "git+https" | "git+ssh", rest)) => {
                let (host, path) = rest.split_once('/')?;
                known(host, hosts)?;
                path
            }
            Some(_) => return None,
            None => match text.split_once(':') {
                Some((host, path)) => {
                    known(host, hosts)?;
                    path
                }
                None => match text.split_once('/') {
                    Some((host, path)) if known(host, hosts).is_some() => path,
                    _ if text.matches('/').count() == 1 => text,
                    _ => return None,
                },
            },
        };
        let mut parts = rest.split('/');
        let (owner, name) = (parts.next()?, parts.next()?);
        Self::new(owner, name.strip_suffix(".git").unwrap_or(name))
    }

    /// `None` unless both are names as GitHub gives them.
    pub fn new(owner: &str, name: &str) -> Option<Self> {
        let word = |text: &str, others: &[u8]| {
            let known = |b: u8| b.is_ascii_alphanumeric() || others.contains(&b);
            !text.is_empty() && text.len() <= 100 && text.bytes().all(known)
        };
        let good = word(owner, b"-_") && !owner.starts_with('-') && word(name, b"-_.");
        (good && !name.bytes().all(|b| b == b'.')).then(|| Self {
            owner: owner.to_owned(),
            name: name.to_owned(),
        })
    }

    pub fn owner(&self) -> &str {
        &self.owner
    }

    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for SourceRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)
    }
}

/// `host`, perhaps with `git@` in front.
fn known<'h>(host: &'h str, hosts: &[&str]) -> Option<&'h str> {
    let bare = host.strip_prefix("git@").unwrap_or(host);
    let bare = bare.strip_prefix("www.").unwrap_or(bare);
    hosts
        .iter()
        .any(|known| known.eq_ignore_ascii_case(bare))
        .then_some(bare)
}

/// Where the source is kept: what the user's label says, else the image to go to, else the image
/// that runs.
pub fn source_text<'a>(
    user: Option<&'a str>,
    candidate: Option<&'a BTreeMap<String, String>>,
    running: Option<&'a str>,
) -> Option<&'a str> {
    user.or_else(|| candidate?.get(SOURCE_LABEL).map(String::as_str))
        .or(running)
}

/// Names that the release of an image `tag` may have, the likeliest first: the tag itself, with and
/// without `v`, behind the name of the repository or the image, and without the suffix that names a
/// base image. A pre-release is never told of by its release.
pub fn release_tags(repository: &str, image: &str, tag: &str) -> Vec<String> {
    let mut versions = vec![tag.to_owned()];
    if let Some(parsed) = ParsedTag::parse(tag)
        && parsed.prerelease().is_none()
    {
        let numbers = tag.strip_suffix(parsed.suffix()).unwrap_or(tag);
        versions.push(numbers.trim_end_matches(['-', '_', '+', '.']).to_owned());
    }
    let image = image.rsplit('/').next().unwrap_or(image);
    let mut tags: Vec<String> = Vec::new();
    let mut add = |tag: String| {
        if !tags.contains(&tag) {
            tags.push(tag);
        }
    };
    for version in &versions {
        let bare = match version.strip_prefix('v') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => rest,
            _ => version,
        };
        add(version.clone());
        if bare.starts_with(|c: char| c.is_ascii_digit()) {
            add(format!("v{bare}"));
            add(bare.to_owned());
            for name in [repository, image] {
                add(format!("{name}-{bare}"));
                add(format!("{name}-v{bare}"));
            }
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<String> {
        SourceRepository::parse(text, &["github.com", "git.example.org"]).map(|r| r.to_string())
    }

    #[test]
    fn only_an_owner_and_a_name_are_taken() {
        for text in [
            "acme/app",
            "github.com/acme/app",
            "https://github.com/acme/app",
            "https://github.com/acme/app.git",
            "http://www.github.com/acme/app/tree/main/docker?x#y",
            "git@github.com:acme/app.git",
            "ssh://git@github.com/acme/app",
            "https://git.example.org/acme/app/",
        ] {
            assert_eq!(parse(text).as_deref(), Some("acme/app"), "{text}");
        }
        for text in [
            "",
            "app",
            "https://gitlab.com/acme/app",
            "https://github.com.evil.example/acme/app",
            "https://github.com@evil.example/acme/app",
            "https://evil.example/github.com/acme/app",
            "file:///github.com/acme/app",
            "https://github.com/acme",
            "https://github.com/acme/..",
            "https://github.com/acme/a%2f..",
            "https://github.com/ac me/app",
            "../../repos",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_tag_itself_comes_first_and_its_base_image_does_not_matter() {
        assert_eq!(
            release_tags("app", "library/web", "1.2.3")[..4],
            ["1.2.3", "v1.2.3", "app-1.2.3", "app-v1.2.3"]
        );
        let with_suffix = release_tags("app", "app", "v1.2.3-alpine");
        assert_eq!(with_suffix[0], "v1.2.3-alpine");
        assert!(
            with_suffix.contains(&"v1.2.3".to_owned()),
            "{with_suffix:?}"
        );
        assert!(with_suffix.contains(&"app-1.2.3".to_owned()));
        let candidate = release_tags("app", "app", "1.2.3-rc.1");
        assert!(!candidate.contains(&"1.2.3".to_owned()), "{candidate:?}");
        assert_eq!(release_tags("app", "app", "latest"), ["latest"]);
    }

    #[test]
    fn the_users_word_counts_before_the_images() {
        let labels = BTreeMap::from([(SOURCE_LABEL.to_owned(), "b".to_owned())]);
        assert_eq!(source_text(Some("a"), Some(&labels), Some("c")), Some("a"));
        assert_eq!(source_text(None, Some(&labels), Some("c")), Some("b"));
        assert_eq!(
            source_text(None, Some(&BTreeMap::new()), Some("c")),
            Some("c")
        );
    }
}
