//! Lists as the program had them that Drydock came from: bare arrays at the paths without a version,
//! which Homepage's widget and Home Assistant's card still expect (`DD_COMPAT_WUDCARD`,
//! reference/drydock.md 0).

use std::collections::BTreeMap;

use poem::{
    Body, Request, Response,
    http::{Method, StatusCode, header},
};
use serde_json::value::RawValue;

/// Whether the answer to this request, as it came, is to be a bare array.
pub fn wants(request: &Request) -> bool {
    let Some(rest) = request.uri().path().strip_prefix("/api/containers") else {
        return false;
    };
    let mut parts = rest.split('/');
    if parts.next() != Some("") {
        return false;
    }
    matches!(
        (request.method(), parts.next(), parts.next(), parts.next()),
        (&Method::GET, None, _, _)
            | (&Method::POST, Some("watch"), None, _)
            | (&Method::GET, Some(_), Some("triggers"), None)
    )
}

/// What is in the envelope, without it.
pub async fn unwrap(mut response: Response) -> Response {
    if response.status() != StatusCode::OK {
        return response;
    }
    let Ok(body) = response.take_body().into_bytes().await else {
        return response;
    };
    // As text: a long list is not taken apart.
    let envelope: BTreeMap<&str, &RawValue> = serde_json::from_slice(&body).unwrap_or_default();
    let data = envelope.get("data").map(|data| data.get().as_bytes());
    let bare = data.map_or_else(|| body.clone(), |data| body.slice_ref(data));
    response.headers_mut().remove(header::CONTENT_LENGTH);
    response.set_body(Body::from(bare));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_what_older_clients_list_is_bare() {
        let wants = |method: Method, path: &str| {
            wants(&Request::builder().method(method).uri_str(path).finish())
        };
        assert!(wants(Method::GET, "/api/containers?limit=1"));
        assert!(wants(Method::POST, "/api/containers/watch"));
        assert!(wants(Method::GET, "/api/containers/x/triggers"));
        for (method, path) in [
            (Method::GET, "/api/v1/containers"),
            (Method::GET, "/api/containers/x"),
            (Method::GET, "/api/containers/summary"),
            (Method::POST, "/api/containers/x/watch"),
            (Method::GET, "/api/containersx"),
        ] {
            assert!(!wants(method.clone(), path), "{method} {path}");
        }
        let envelope = r#"{"data":[{"id":"a"}],"total":1}"#;
        let answer = unwrap(Response::builder().body(envelope)).await;
        let bare = answer.into_body().into_string().await.unwrap();
        assert_eq!(bare, r#"[{"id":"a"}]"#);
    }
}
