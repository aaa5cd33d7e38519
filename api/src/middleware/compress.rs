//! gzip for whole bodies of some size. Streams are never compressed: an event would wait in the
//! compressor for the next one.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::body::Body as _;
use poem::{
    Body, Response,
    http::{HeaderMap, HeaderValue, header},
};

/// Larger ones are compressed on a thread of their own.
const BLOCKING: u64 = 64 * 1024;

/// Whether the client asked for gzip.
pub fn accepts(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| {
            let mut parts = coding.split(';');
            let name = parts.next().unwrap_or("").trim();
            let refused = parts.any(|p| matches!(p.trim(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
            (name.eq_ignore_ascii_case("gzip") || name == "*") && !refused
        })
}

/// The response with its body compressed, unless it is smaller than `threshold` bytes.
pub async fn compress(mut response: Response, threshold: u64) -> Response {
    let headers = response.headers();
    let streams = headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if streams || headers.contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let body: BoxBody<Bytes, std::io::Error> = response.take_body().into();
    let length = body.size_hint().exact();
    let Some(length) = length.filter(|length| *length >= threshold) else {
        response.set_body(Body::from(body));
        return response;
    };
    let whole = match body.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) => {
            response.set_body(Body::from_bytes_stream(futures::stream::once(async move {
                Err::<Bytes, _>(error)
            })));
            return response;
        }
    };
    let packed = if length > BLOCKING {
        let whole = whole.clone();
        tokio::task::spawn_blocking(move || gzip(&whole))
            .await
            .ok()
            .flatten()
    } else {
        gzip(&whole)
    };
    let Some(packed) = packed else {
        response.set_body(whole);
        return response;
    };
    response.set_body(packed);
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

fn gzip(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
        accepts(&headers)
    }

    #[test]
    fn gzip_is_used_only_when_asked_for() {
        assert!(asked("deflate, gzip;q=0.8"));
        assert!(!asked("identity"));
        assert!(!asked("gzip;q=0"));
        assert!(!accepts(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn small_bodies_and_event_streams_stay_as_they_are() {
        let small = compress(Response::builder().body("x".repeat(1023)), 1024).await;
        assert!(!small.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(small.into_body().into_string().await.unwrap().len(), 1023);
        let stream = Response::builder()
            .content_type("text/event-stream")
            .body("x".repeat(5000));
        let stream = compress(stream, 1024).await;
        assert!(!stream.headers().contains_key(header::CONTENT_ENCODING));
    }

    #[tokio::test]
    async fn a_large_body_reads_back_the_same() {
        use std::io::Read;
        for size in [2_000, 200_000] {
            let response = compress(Response::builder().body("ab".repeat(size / 2)), 1024).await;
            assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
            let packed = response.into_body().into_bytes().await.unwrap();
            let mut text = String::new();
            flate2::read::GzDecoder::new(&packed[..])
                .read_to_string(&mut text)
                .unwrap();
            assert_eq!(text.len(), size);
        }
    }
}
