//! The tags of a repository: read page by page, kept in one piece of text.

use std::{collections::HashSet, time::Instant};

use http::{Method, header};
use url::Url;

use super::{
    error::{RegistryError, excerpt},
    host::Repository,
    tag_page::parse_page,
    transport::{Ask, Reply},
    upstream::Upstream,
};

/// Beyond these a list is cut and says so. Text, ends and one page stay below 64 MiB.
const MAX_TAGS: usize = 1_000_000;
const MAX_TEXT: usize = 36 * 1024 * 1024;
const MAX_PAGE: usize = 16 * 1024 * 1024;
const MAX_PAGES: usize = 1_100;
const MAX_TIME: std::time::Duration = std::time::Duration::from_secs(300);
/// What registries allow at most.
const PAGE_SIZE: &str = "1000";
const LONGEST_TAG: usize = 128;

/// Whether a list is all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Complete,
    /// Cut at a limit: 1,000,000 tags, 36 MiB, 1,100 pages, five minutes, or a repeated page.
    Truncated,
}

/// The tags of one repository, in the registry's order. Only well-formed tags are in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagList {
    text: String,
    ends: Vec<u32>,
    extent: Extent,
}

impl TagList {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.text[start as usize..*end as usize])
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// Bytes that the list holds.
    pub(super) fn weight(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<u32>()
    }

    /// For the shared cache: `c` or `t`, then the tags, each behind a line feed.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + self.text.len() + self.ends.len());
        bytes.push(match self.extent {
            Extent::Complete => b'c',
            Extent::Truncated => b't',
        });
        for tag in self.iter() {
            bytes.push(b'\n');
            bytes.extend_from_slice(tag.as_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let mut parts = text.split('\n');
        let extent = match parts.next()? {
            "c" => Extent::Complete,
            "t" => Extent::Truncated,
            _ => return None,
        };
        let mut list = Self::empty();
        list.text.reserve_exact(text.len());
        for tag in parts {
            list.push(tag);
        }
        list.extent = extent;
        Some(list)
    }

    pub(super) fn empty() -> Self {
        Self {
            text: String::new(),
            ends: Vec::new(),
            extent: Extent::Complete,
        }
    }

    fn is_full(&self) -> bool {
        self.ends.len() >= MAX_TAGS || self.text.len() + LONGEST_TAG > MAX_TEXT
    }

    /// Text that is no tag cannot be pulled, so it is left out.
    pub(super) fn push(&mut self, tag: &str) {
        if self.is_full() {
            self.extent = Extent::Truncated;
        } else if is_tag(tag) {
            // Doubling a large text would reserve far more than the limit.
            if self.text.capacity() - self.text.len() < tag.len() {
                let step = self.text.len().clamp(4 * 1024, 1024 * 1024);
                self.text.reserve_exact(step);
            }
            if self.ends.len() == self.ends.capacity() {
                let step = self.ends.len().clamp(256, 64 * 1024);
                self.ends.reserve_exact(step);
            }
            self.text.push_str(tag);
            // The text is far below 4 GiB.
            self.ends.push(self.text.len() as u32);
        }
    }
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let mut bytes = text.bytes();
    text.len() <= LONGEST_TAG
        && bytes.next().is_some_and(word)
        && bytes.all(|b| word(b) || b == b'.' || b == b'-')
}

/// Reads all pages of a repository's tags. One request per page and none besides.
pub(super) async fn list(
    upstream: &Upstream,
    repository: &Repository,
) -> Result<TagList, RegistryError> {
    let mut list = TagList::empty();
    let mut seen = HashSet::new();
    let mut next = upstream.url(&format!("{}/tags/list", repository.path()));
    next.set_query(Some(&format!("n={PAGE_SIZE}")));
    let began = Instant::now();
    let what = format!("the tags of {}", repository.path());
    loop {
        let mut ask = Ask {
            method: Method::GET,
            url: next,
            accept: "application/json",
            repository: repository.path(),
            what: what.clone(),
            limit: MAX_PAGE,
        };
        let reply = match upstream.ask(&ask).await {
            // Some registries refuse a page size instead of lowering it.
            Err(RegistryError::Rejected { status: 400, .. }) if seen.is_empty() => {
                ask.url.set_query(None);
                upstream.ask(&ask).await?
            }
            reply => reply?,
        };
        seen.insert(String::from(ask.url.clone()));
        parse_page(&reply, &mut list).map_err(|detail| RegistryError::Malformed {
            registry: upstream.name.clone(),
            what: what.clone(),
            detail,
        })?;
        next = match next_page(&reply, &ask.url) {
            Ok(Some(url)) => url,
            Ok(None) => return Ok(list),
            Err(detail) => {
                return Err(RegistryError::Untrusted {
                    registry: upstream.name.clone(),
                    detail,
                });
            }
        };
        let over = list.is_full()
            || seen.len() >= MAX_PAGES
            || began.elapsed() > MAX_TIME
            || seen.contains(next.as_str());
        if over {
            list.extent = Extent::Truncated;
            return Ok(list);
        }
    }
}

/// `Link: </v2/…?last=…&n=…>; rel="next"` (RFC 8288). The next page is on the same server, or it
/// is not fetched. A registry behind a proxy that ends TLS may call itself `http:`; that is the same
/// server, and it is asked over https.
fn next_page(reply: &Reply, current: &Url) -> Result<Option<Url>, String> {
    let links = reply.headers.get_all(header::LINK);
    let next = links
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .find_map(|link| {
            let (target, parameters) = link.trim().strip_prefix('<')?.split_once('>')?;
            let is_next = parameters.split(';').any(|parameter| {
                let parameter: String = parameter.split_whitespace().collect();
                let parameter = parameter.to_ascii_lowercase();
                matches!(parameter.as_str(), "rel=\"next\"" | "rel=next")
            });
            is_next.then_some(target)
        });
    let Some(target) = next else {
        return Ok(None);
    };
    let url = current
        .join(target)
        .map_err(|_| "the address of its next page of tags is unusable".to_owned())?;
    let same_port = url.port_or_known_default() == current.port_or_known_default()
        || (url.port().is_none() && current.port().is_none());
    let known_scheme = matches!(url.scheme(), "http" | "https");
    if !known_scheme || url.host() != current.host() || !same_port {
        let place = excerpt(url.host_str().unwrap_or(url.scheme()));
        return Err(format!(
            "its next page of tags is at {place}, not at itself"
        ));
    }
    let mut same = current.clone();
    same.set_path(url.path());
    same.set_query(url.query());
    Ok(Some(same))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, StatusCode};

    use super::*;

    fn reply(body: &str, link: Option<&str>) -> Reply {
        let mut headers = HeaderMap::new();
        if let Some(link) = link {
            headers.insert("link", link.parse().expect("a header value"));
        }
        Reply {
            status: StatusCode::OK,
            headers,
            body: body.as_bytes().to_vec(),
        }
    }

    #[test]
    fn the_next_page_is_on_the_same_server() {
        let check = |link: &str| {
            let current = Url::parse("https://r.example/v2/a/tags/list?n=1000").expect("a URL");
            next_page(&reply("", Some(link)), &current).map(|url| url.map(String::from))
        };
        let next = "https://r.example/v2/a/tags/list?last=x&n=1000".to_owned();
        for link in [
            r#"</v2/a/tags/list?last=x&n=1000>; rel="next""#,
            "</v2/a/tags/list?last=x&n=1000>; rel=next",
            r#"</v2/a/tags/list>; rel="first", <https://r.example/v2/a/tags/list?last=x&n=1000>; rel="next""#,
            r#"<http://r.example/v2/a/tags/list?last=x&n=1000>; rel="next""#,
        ] {
            assert_eq!(check(link), Ok(Some(next.clone())), "{link}");
        }
        assert_eq!(check(r#"</v2/a>; rel="prev""#), Ok(None));
        assert_eq!(check("garbage"), Ok(None));
        for link in [
            r#"<https://evil.net/v2/a/tags/list>; rel="next""#,
            r#"<https://r.example:8443/v2/a/tags/list>; rel="next""#,
            r#"<javascript:alert(1)>; rel="next""#,
            r#"<//evil.net/>; rel="next""#,
        ] {
            assert!(check(link).is_err(), "{link}");
        }
    }

    #[test]
    fn a_list_survives_the_cache_and_never_outgrows_its_limits() {
        let mut list = TagList::empty();
        for n in 0..MAX_TAGS + 5 {
            list.push(&format!("1.2.{n}-{:-<50}", "x"));
        }
        assert_eq!(list.extent(), Extent::Truncated);
        assert!(list.weight() <= MAX_TEXT + 2 * 1024 * 1024 + 4 * MAX_TAGS);
        let copy = TagList::decode(&list.encode()).expect("it was just encoded");
        assert_eq!(copy, list);
        let empty = TagList::empty();
        assert_eq!(TagList::decode(&empty.encode()), Some(empty));
    }
}
