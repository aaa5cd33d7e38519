//! Limits on request bodies.
//!
//! poem's `SizeLimit` answers 411 to every GET without a body and to every chunked one; this one
//! counts what arrives.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use poem::{
    Body, Request,
    http::{HeaderMap, Method, StatusCode, header},
};

use crate::drydock::error::{ApiError, JSON_REQUIRED};

/// Bodies of the API, and of `/auth` (reference/drydock.md 1.1).
pub const API_LIMIT: usize = 256 * 1024;
pub const AUTH_LIMIT: usize = 64 * 1024;
/// What is read and thrown away of a body that is too large: a client that is still sending when
/// the connection closes sees a reset instead of the answer.
const DISCARD: usize = 4 * 1024 * 1024;

/// What a body says that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentType {
    /// JSON.
    Checked,
    /// Whatever it likes: it is read as JSON. For a dialect whose clients do not say.
    Ignored,
}

/// Reads the whole body, so that handlers get one that is complete and small.
pub async fn admit(
    request: &mut Request,
    deadline: Duration,
    content_type: ContentType,
) -> Result<(), ApiError> {
    if !has_body(request.headers()) {
        return Ok(());
    }
    let limit = if request.uri().path().starts_with("/auth/") {
        AUTH_LIMIT
    } else {
        API_LIMIT
    };
    let declared = declared_length(request.headers()).unwrap_or_default();
    if declared > (limit + DISCARD) as u64 {
        return Err(too_large(limit));
    }
    let body = match tokio::time::timeout(deadline, read(request.take_body(), limit)).await {
        Ok(body) => body?,
        Err(_) if declared > limit as u64 => return Err(too_large(limit)),
        Err(_) => {
            return Err(ApiError::new(
                StatusCode::REQUEST_TIMEOUT,
                "The request body did not arrive in time",
            ));
        }
    };
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    let checked = changes && content_type == ContentType::Checked;
    if checked && !body.is_empty() && !is_json(request.headers()) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            JSON_REQUIRED,
        ));
    }
    request.set_body(body);
    Ok(())
}

async fn read(body: Body, limit: usize) -> Result<Bytes, ApiError> {
    let mut stream = body.into_bytes_stream();
    let mut whole = BytesMut::new();
    let mut length = 0;
    loop {
        let chunk = stream.try_next().await.map_err(|_| {
            ApiError::bad_request("The request body ended early or is not valid HTTP")
        })?;
        let Some(chunk) = chunk else {
            break;
        };
        length += chunk.len();
        if length <= limit {
            whole.extend_from_slice(&chunk);
        } else if length <= limit + DISCARD {
            whole = BytesMut::new();
        } else {
            break;
        }
    }
    if length > limit {
        return Err(too_large(limit));
    }
    Ok(whole.freeze())
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || declared_length(headers).is_some_and(|length| length > 0)
}

fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse().ok())
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| {
            let essence = essence.trim().to_ascii_lowercase();
            // Registries send events under names of their own, which end so (RFC 6839).
            let named = essence.starts_with("application/") && essence.ends_with("+json");
            named || essence == "application/json"
        })
}

fn too_large(limit: usize) -> ApiError {
    ApiError::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("The request body is larger than {} kB", limit / 1024),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn status(path: &str, content_type: &str, body: Vec<u8>, length: usize) -> Option<u16> {
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path.parse().unwrap())
            .header("content-type", content_type)
            .header("content-length", length)
            .body(body);
        admit(&mut request, Duration::from_secs(5), ContentType::Checked)
            .await
            .err()
            .map(|error| error.status.as_u16())
    }

    #[tokio::test]
    async fn a_small_json_body_passes_and_stays_readable() {
        let mut request = Request::builder()
            .method(Method::POST)
            .content_type("application/json; charset=utf-8")
            .header("transfer-encoding", "chunked")
            .body("{}");
        admit(&mut request, Duration::from_secs(5), ContentType::Checked)
            .await
            .unwrap();
        assert_eq!(request.take_body().into_string().await.unwrap(), "{}");
    }

    #[tokio::test]
    async fn the_limit_counts_what_arrives_not_what_is_declared() {
        let big = vec![b' '; API_LIMIT + 1];
        assert_eq!(
            status("/api/v1/x", "application/json", big.clone(), 5).await,
            Some(413)
        );
        assert_eq!(
            status("/api/v1/x", "application/json", Vec::new(), 2 * DISCARD).await,
            Some(413)
        );
        let medium = vec![b' '; AUTH_LIMIT + 1];
        let length = medium.len();
        assert_eq!(
            status("/auth/login", "application/json", medium.clone(), length).await,
            Some(413)
        );
        assert_eq!(
            status("/api/v1/x", "application/json", medium, length).await,
            None
        );
    }

    #[tokio::test]
    async fn a_body_that_is_not_json_is_refused() {
        assert_eq!(
            status("/api/v1/x", "text/plain", b"{}".to_vec(), 2).await,
            Some(415)
        );
        assert_eq!(
            status("/api/v1/x", "application/jsonp", b"{}".to_vec(), 2).await,
            Some(415)
        );
        let events = "application/vnd.docker.distribution.events.v2+json";
        assert_eq!(status("/api/v1/x", events, b"{}".to_vec(), 2).await, None);
    }
}
