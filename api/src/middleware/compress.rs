//! gzip for bodies of some size. Streams of events are never compressed: an event would wait in the
//! compressor for the next one. Text of unknown length is, as it passes.

use std::io::Write;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use futures::{Stream, StreamExt};
use http_body_util::{BodyExt, BodyStream, combinators::BoxBody};
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
    let is = |kind: &[u8]| {
        headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|found| found.as_bytes().starts_with(kind))
    };
    let text = is(b"text/plain");
    if is(b"text/event-stream") || headers.contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    let body: BoxBody<Bytes, std::io::Error> = response.take_body().into();
    let length = body.size_hint().exact();
    if length.is_none() && text {
        response.set_body(Body::from_bytes_stream(gzip_stream(body)));
        mark(response.headers_mut());
        return response;
    }
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
    mark(response.headers_mut());
    response
}

fn mark(headers: &mut HeaderMap) {
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
}

/// Holds no more than the compressor's window. An error passes in place of the end, so that what is
/// missing shows.
fn gzip_stream(
    body: BoxBody<Bytes, std::io::Error>,
) -> impl Stream<Item = std::io::Result<Bytes>> + Send {
    async_stream::try_stream! {
        let mut parts = BodyStream::new(body);
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        while let Some(part) = parts.next().await {
            if let Ok(part) = part?.into_data() {
                encoder.write_all(&part)?;
            }
            if !encoder.get_ref().is_empty() {
                yield Bytes::from(std::mem::take(encoder.get_mut()));
            }
        }
        yield Bytes::from(encoder.finish()?);
    }
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
    async fn text_of_unknown_length_is_packed_as_it_passes() {
        use std::io::Read;
        let parts = (0..1000).map(|n| Ok::<_, std::io::Error>(Bytes::from(format!("line {n}\n"))));
        let body = Body::from_bytes_stream(futures::stream::iter(parts));
        let response = Response::builder().content_type("text/plain").body(body);
        let response = compress(response, 1024).await;
        assert_eq!(response.headers()[header::CONTENT_ENCODING], "gzip");
        let packed = response.into_body().into_bytes().await.unwrap();
        assert!(packed.len() < 5000);
        let mut text = String::new();
        flate2::read::GzDecoder::new(&packed[..])
            .read_to_string(&mut text)
            .unwrap();
        assert!(text.starts_with("line 0\nline 1\n") && text.ends_with("line 999\n"));
    }

    #[tokio::test]
    async fn what_breaks_off_is_not_made_whole() {
        let parts = [
            Ok(Bytes::from_static(b"half")),
            Err(std::io::Error::other("gone")),
        ];
        let body = Body::from_bytes_stream(futures::stream::iter(parts));
        let response = Response::builder().content_type("text/plain").body(body);
        let response = compress(response, 1024).await;
        assert!(response.into_body().into_bytes().await.is_err());
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
