//! Pages of other origins that may read our answers (`DD_SERVER_CORS_*`). Off unless switched on;
//! what may be changed with cookies is `csrf`'s matter and stays as it is.

use poem::{
    Request, Response,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
};

/// What other origins may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    pub origins: Origins,
    /// As `Access-Control-Allow-Methods` names them.
    pub methods: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origins {
    /// Never with cookies.
    All,
    /// Scheme, host and port of each.
    These(Vec<String>),
}

const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, Prefer, \
     X-DD-Confirm-Action, X-Request-Id",
);
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "ETag, Link, Location, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset, Retry-After, \
     X-Request-Id",
);
/// Seconds that a browser may remember the answer to its question.
const REMEMBER: HeaderValue = HeaderValue::from_static("600");

impl Cors {
    /// The answer to a browser that asks whether it may ask.
    pub fn preflight(&self, request: &Request) -> Option<Response> {
        let asks = *request.method() == Method::OPTIONS
            && request
                .headers()
                .contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        let origin = request.headers().get(header::ORIGIN).filter(|_| asks)?;
        let mut response = Response::builder().status(StatusCode::NO_CONTENT).finish();
        let headers = response.headers_mut();
        if self.describe(Some(origin), headers)
            && let Ok(methods) = HeaderValue::from_str(&self.methods)
        {
            headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, REMEMBER);
        }
        Some(response)
    }

    /// Says that the page that asked may read the answer, if it may.
    pub fn describe(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) -> bool {
        let allowed = match &self.origins {
            Origins::All => HeaderValue::from_static("*"),
            Origins::These(origins) => {
                // The answer depends on who asks: caches must know.
                headers.append(header::VARY, HeaderValue::from_static("Origin"));
                let known = |origin: &&HeaderValue| {
                    origins
                        .iter()
                        .any(|known| known.as_bytes() == origin.as_bytes())
                };
                let Some(origin) = origin.filter(known) else {
                    return false;
                };
                let yes = HeaderValue::from_static("true");
                headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
                origin.clone()
            }
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: Origins) -> Cors {
        Cors {
            origins,
            methods: "GET,POST".to_owned(),
        }
    }

    fn described(cors: &Cors, origin: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        cors.describe(Some(&HeaderValue::from_static(origin)), &mut headers);
        headers
    }

    #[test]
    fn everybody_may_read_but_not_with_cookies() {
        let headers = described(&cors(Origins::All), "https://a.example");
        assert_eq!(headers["access-control-allow-origin"], "*");
        assert!(!headers.contains_key("access-control-allow-credentials"));
    }

    #[test]
    fn a_known_origin_is_named_and_another_hears_nothing() {
        let cors = cors(Origins::These(vec!["https://a.example".to_owned()]));
        let headers = described(&cors, "https://a.example");
        assert_eq!(headers["access-control-allow-origin"], "https://a.example");
        assert_eq!(headers["access-control-allow-credentials"], "true");
        for other in ["https://a.example.evil", "http://a.example", "null", ""] {
            let headers = described(&cors, other);
            assert!(
                !headers.contains_key("access-control-allow-origin"),
                "{other}"
            );
            assert_eq!(headers["vary"], "Origin");
        }
    }

    #[test]
    fn only_a_browsers_question_is_answered_for_it() {
        let cors = cors(Origins::All);
        let ask = |method: Method, asks: bool| {
            let request = Request::builder()
                .method(method)
                .header("origin", "https://a");
            let request = match asks {
                true => request.header("access-control-request-method", "POST"),
                false => request,
            };
            cors.preflight(&request.finish())
        };
        let answer = ask(Method::OPTIONS, true).unwrap();
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.headers()["access-control-allow-methods"], "GET,POST");
        assert!(ask(Method::OPTIONS, false).is_none());
        assert!(ask(Method::POST, true).is_none());
    }
}
