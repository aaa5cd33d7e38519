//! JSON that is already written.

use std::{borrow::Cow, marker::PhantomData};

use bytes::Bytes;
use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::{ParseFromJSON, ParseResult, ToJSON, Type},
};
use serde_json::Value;

/// A body of ready bytes, documented as a `T`: lists are kept serialised, because a value tree per
/// request costs eight times as much as writing the bytes (reference/poem.md 3.7).
pub struct RawJson<T> {
    body: Option<Bytes>,
    etag: Option<HeaderValue>,
    cache: HeaderValue,
    schema: PhantomData<fn() -> T>,
}

impl<T> RawJson<T> {
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self {
            body: Some(body.into()),
            etag: None,
            cache: HeaderValue::from_static("no-store"),
            schema: PhantomData,
        }
    }

    /// 304: what the client has is what there is.
    pub fn not_modified(etag: HeaderValue) -> Self {
        Self {
            body: None,
            ..Self::new(Bytes::new()).with_etag(etag)
        }
    }

    /// Lets the client ask again with `If-None-Match`. It must ask each time.
    #[must_use]
    pub fn with_etag(mut self, etag: HeaderValue) -> Self {
        self.etag = Some(etag);
        self.cache = HeaderValue::from_static("private, no-cache");
        self
    }

    /// The body, or 304 where the client has it. Entity tags stand for the content, so they are the
    /// same on every replica; they are weak, because a body may be compressed ([`weak_etag`]).
    pub fn conditional(
        etag: &str,
        if_none_match: Option<&str>,
        render: impl FnOnce() -> Bytes,
    ) -> Self {
        let known = if_none_match.is_some_and(|known| matches(known, etag));
        match (HeaderValue::from_str(etag), known) {
            (Ok(etag), true) => Self::not_modified(etag),
            (Ok(etag), false) => Self::new(render()).with_etag(etag),
            (Err(_), _) => Self::new(render()),
        }
    }

    #[must_use]
    pub fn with_cache_control(mut self, cache: &'static str) -> Self {
        self.cache = HeaderValue::from_static(cache);
        self
    }
}

/// Of the beginning of a SHA-256 of the content.
pub fn weak_etag(hash: &[u8; 16]) -> String {
    format!("W/\"{}\"", hex::encode(hash))
}

impl<T: Send> IntoResponse for RawJson<T> {
    fn into_response(self) -> Response {
        let mut response = match self.body {
            Some(body) => Response::builder()
                .content_type("application/json; charset=utf-8")
                .body(body),
            None => StatusCode::NOT_MODIFIED.into(),
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, self.cache);
        if let Some(etag) = self.etag {
            headers.insert(header::ETAG, etag);
        }
        response
    }
}

impl<T: Type> ApiResponse for RawJson<T> {
    fn meta() -> MetaResponses {
        let etag = || MetaHeader {
            name: "ETag".to_owned(),
            description: Some("For `If-None-Match`".to_owned()),
            required: false,
            deprecated: false,
            schema: String::schema_ref(),
        };
        let answer = |description, status, content| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content,
            headers: vec![etag()],
        };
        let content = vec![MetaMediaType {
            content_type: "application/json",
            schema: T::schema_ref(),
        }];
        MetaResponses {
            responses: vec![
                answer("", 200, content),
                answer("What the client has is current", 304, Vec::new()),
            ],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// Ready bytes as the payload of one variant of an answer, documented as a `T`.
pub struct RawPayload<T> {
    body: Bytes,
    schema: PhantomData<fn() -> T>,
}

impl<T> RawPayload<T> {
    pub fn new(body: Bytes) -> Self {
        Self {
            body,
            schema: PhantomData,
        }
    }
}

impl<T: Send> IntoResponse for RawPayload<T> {
    fn into_response(self) -> Response {
        Response::builder()
            .content_type("application/json; charset=utf-8")
            .body(self.body)
    }
}

impl<T: Type> Payload for RawPayload<T> {
    const CONTENT_TYPE: &'static str = "application/json; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

/// A value that another part renders, documented as a `T`.
pub struct Shown<T> {
    value: Value,
    schema: PhantomData<fn() -> T>,
}

impl<T> Shown<T> {
    pub const fn new(value: Value) -> Self {
        Self {
            value,
            schema: PhantomData,
        }
    }
}

impl<T: Type> Type for Shown<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T: Type> ParseFromJSON for Shown<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        Ok(Self::new(value.unwrap_or_default()))
    }
}

impl<T: Type> ToJSON for Shown<T> {
    fn to_json(&self) -> Option<Value> {
        Some(self.value.clone())
    }
}

/// Whether `If-None-Match` names `etag`.
fn matches(if_none_match: &str, etag: &str) -> bool {
    if_none_match
        .split(',')
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == "*" || tag == etag.trim_start_matches("W/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_matches_weakly_and_among_others() {
        assert!(matches("\"a\", W/\"b\"", "\"b\""));
        assert!(matches("*", "\"b\""));
        assert!(!matches("\"a\"", "\"b\""));
    }

    #[tokio::test]
    async fn nothing_is_sent_of_what_the_client_has() {
        let tag = HeaderValue::from_static("\"b\"");
        let response = RawJson::<String>::not_modified(tag).into_response();
        assert_eq!(response.status(), 304);
        assert_eq!(response.headers()["etag"], "\"b\"");
        assert!(response.into_body().into_bytes().await.unwrap().is_empty());
    }
}
