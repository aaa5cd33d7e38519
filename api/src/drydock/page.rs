//! Pages of lists (reference/drydock.md 1.1): `limit` 0 means all and is capped at 200; values that
//! are not numbers fall back silently.

use std::{borrow::Cow, num::IntErrorKind, ops::Range};

use poem_openapi::{
    Object,
    registry::{MetaSchema, MetaSchemaRef, Registry},
    types::{ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type},
};
use serde::Serialize;

/// The most entries of one page that is not the whole list.
pub const MAX_LIMIT: u64 = 200;

/// A query value that should be a whole number and is never refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageNumber(Option<u64>);

impl Type for PageNumber {
    const IS_REQUIRED: bool = false;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "integer".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        let mut schema = MetaSchema::new("integer");
        schema.minimum = Some(0.0);
        MetaSchemaRef::Inline(Box::new(schema))
    }

    fn register(_registry: &mut Registry) {}

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl ParseFromParameter for PageNumber {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        // Numbers out of range are numbers: negative ones count as 0, the others as the most that
        // the database can count to.
        let most = i64::MAX as u64;
        Ok(Self(match value.trim().parse::<u64>() {
            Ok(number) => Some(number.min(most)),
            Err(error) => match error.kind() {
                IntErrorKind::PosOverflow => Some(most),
                _ => value.trim().parse::<i64>().ok().map(|_| 0),
            },
        }))
    }
}

/// Which part of a list was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// 0: to the end.
    pub limit: u64,
    pub offset: u64,
}

impl Page {
    /// All by default (containers, components, operations).
    pub fn all(limit: Option<PageNumber>, offset: Option<PageNumber>) -> Self {
        Self {
            limit: number(limit).unwrap_or(0).min(MAX_LIMIT),
            offset: number(offset).unwrap_or(0),
        }
    }

    /// `default` entries where `limit` is absent, and never all: 1 to 200 (audit).
    pub fn bounded(limit: Option<PageNumber>, offset: Option<PageNumber>, default: u64) -> Self {
        Self {
            limit: number(limit).unwrap_or(default).clamp(1, MAX_LIMIT),
            offset: number(offset).unwrap_or(0),
        }
    }

    /// The part of `list` that this page shows.
    pub fn slice<T>(self, list: &[T]) -> &[T] {
        &list[self.range(list.len())]
    }

    /// The places of a list of `total` that this page shows.
    pub fn range(self, total: usize) -> Range<usize> {
        let start = usize::try_from(self.offset)
            .unwrap_or(usize::MAX)
            .min(total);
        let end = match self.limit {
            0 => total,
            limit => start.saturating_add(limit as usize).min(total),
        };
        start..end
    }

    /// Whether there is more after `shown` entries of `total`.
    pub const fn has_more(self, shown: u64, total: u64) -> bool {
        self.offset.saturating_add(shown) < total
    }

    /// `_links` for a list at `path` with `query` (without `?`; may be empty): only for real pages.
    pub fn links(self, path: &str, query: &str, shown: u64, total: u64) -> Option<Links> {
        if self.limit == 0 {
            return None;
        }
        let link = |offset: u64| {
            let mut url = format!("{path}?");
            // Not `p.is_empty()`: `&str` is a `Type` too, and that one's answer is always no.
            for pair in query.split('&').filter(|p| !str::is_empty(p)) {
                let key = pair.split('=').next().unwrap_or(pair);
                if key != "limit" && key != "offset" {
                    url.push_str(pair);
                    url.push('&');
                }
            }
            url.push_str(&format!("limit={}&offset={offset}", self.limit));
            url
        };
        Some(Links {
            this: link(self.offset),
            next: self
                .has_more(shown, total)
                .then(|| link(self.offset.saturating_add(shown))),
        })
    }
}

fn number(value: Option<PageNumber>) -> Option<u64> {
    value.and_then(|number| number.0)
}

/// Where this page and the next one are.
#[derive(Clone, Debug, Object, Serialize)]
#[oai(rename = "PageLinks")]
pub struct Links {
    #[oai(rename = "self")]
    #[serde(rename = "self")]
    pub this: String,
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One page of a list.
#[derive(Object, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
pub struct List<T: Type + ParseFromJSON + ToJSON> {
    pub data: Vec<T>,
    /// How many there are on all pages.
    pub total: u64,
    pub limit: u64,
    pub offset: u64,
    pub has_more: bool,
    #[oai(rename = "_links", skip_serializing_if_is_none)]
    #[serde(rename = "_links", skip_serializing_if = "Option::is_none")]
    pub links: Option<Links>,
}

impl<T: Type + ParseFromJSON + ToJSON> List<T> {
    /// `data` is the page itself; `path` and `query` are the request's, for the links.
    pub fn of(page: Page, data: Vec<T>, total: u64, path: &str, query: &str) -> Self {
        let shown = data.len() as u64;
        Self {
            data,
            total,
            limit: page.limit,
            offset: page.offset,
            has_more: page.has_more(shown, total),
            links: page.links(path, query, shown, total),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(text: &str) -> Option<PageNumber> {
        PageNumber::parse_from_parameter(text).ok()
    }

    #[test]
    fn what_is_not_a_number_falls_back_silently() {
        let page = Page::all(given("many"), given("-3"));
        assert_eq!(
            page,
            Page {
                limit: 0,
                offset: 0
            }
        );
        assert_eq!(Page::bounded(given("x"), None, 50).limit, 50);
    }

    #[test]
    fn a_limit_is_capped() {
        assert_eq!(Page::all(given("5000"), None).limit, 200);
        let huge = Page::all(given("99999999999999999999"), given("99999999999999999999"));
        assert_eq!(huge.limit, 200);
        assert!(huge.slice(&[1, 2, 3]).is_empty());
        assert_eq!(Page::bounded(given("0"), None, 50).limit, 1);
    }

    #[test]
    fn a_page_past_the_end_is_empty_and_the_last() {
        let page = Page::all(given("2"), given("9"));
        assert!(page.slice(&[1, 2, 3]).is_empty());
        assert!(!page.has_more(0, 3));
    }

    #[test]
    fn links_keep_the_filters_and_stop_at_the_end() {
        let page = Page::all(given("2"), None);
        let links = page
            .links("/api/v1/containers", "sort=-age&limit=2", 2, 3)
            .unwrap();
        assert_eq!(links.this, "/api/v1/containers?sort=-age&limit=2&offset=0");
        assert_eq!(
            links.next.as_deref(),
            Some("/api/v1/containers?sort=-age&limit=2&offset=2")
        );
        let bare = page.links("/x", "", 2, 2).unwrap();
        assert_eq!(bare.this, "/x?limit=2&offset=0");
        let last = Page::all(given("2"), given("2"));
        assert!(last.links("/x", "", 1, 3).unwrap().next.is_none());
        assert!(Page::all(None, None).links("/x", "", 3, 3).is_none());
    }
}
