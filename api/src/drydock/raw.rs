//! JSON that is already written.

use std::marker::PhantomData;

use bytes::Bytes;
use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse,
    payload::Payload,
    registry::{MetaHeader, MetaMediaType, MetaResponse, MetaResponses, MetaSchemaRef, Registry},
    types::Type,
};

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

    #[must_use]
    pub fn with_cache_control(mut self, cache: &'static str) -> Self {
        self.cache = HeaderValue::from_static(cache);
        self
    }
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

/// Whether `If-None-Match` names `etag`.
pub fn matches(if_none_match: &str, etag: &str) -> bool {
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
