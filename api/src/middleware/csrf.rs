//! Requests that a browser sends by itself, with its cookies (reference/drydock.md 1.1).

use poem::{
    Request,
    http::{HeaderMap, Method, header},
};

use super::context::RequestContext;
use crate::{ApiSettings, auth::cookie::Transport, drydock::error::ApiError};

/// Refuses unsafe methods with a `Cookie` header unless they come from our own origin: `Origin`, or
/// else `Referer`, must be it; where a browser sends neither, `Sec-Fetch-Site` must say so. Bearer
/// tokens are never sent by a browser on its own, so they are exempt.
///
/// WebSockets are read across origins without asking anyone, so a browser's `Origin` must be ours
/// there too, whatever credential it sends along.
pub fn check(
    request: &Request,
    context: &RequestContext,
    settings: &ApiSettings,
) -> Result<(), ApiError> {
    let headers = request.headers();
    let safe = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE
    );
    let from_page = match headers.contains_key(header::UPGRADE) {
        true => headers.contains_key(header::ORIGIN),
        false => !safe && headers.contains_key(header::COOKIE),
    };
    if !from_page || is_bearer(headers) {
        return Ok(());
    }
    let same_origin = match origin_of(headers, context, settings) {
        Whence::Elsewhere => false,
        Whence::Here => true,
        Whence::Unsaid => text(headers, "sec-fetch-site") == Some("same-origin"),
    };
    if same_origin { Ok(()) } else { Err(refused()) }
}

/// The same for a dialect that answers whoever asks: a page needs no cookie there, and some of what
/// it may read changes something. So whatever `changes` something is refused where a browser says
/// that another site asks for it.
pub fn check_open(
    request: &Request,
    context: &RequestContext,
    settings: &ApiSettings,
    changes: bool,
) -> Result<(), ApiError> {
    let headers = request.headers();
    if !changes || is_bearer(headers) {
        return Ok(());
    }
    let site = text(headers, "sec-fetch-site");
    let fine = match origin_of(headers, context, settings) {
        Whence::Elsewhere => false,
        Whence::Here => true,
        Whence::Unsaid => match site {
            Some("same-origin") => true,
            // Typed into the address bar.
            Some("none") => *request.method() == Method::GET,
            // No browser at all, or one that says nothing; then its cookie must not do anything.
            None => *request.method() == Method::GET || !headers.contains_key(header::COOKIE),
            Some(_) => false,
        },
    };
    if fine { Ok(()) } else { Err(refused()) }
}

fn refused() -> ApiError {
    ApiError::forbidden("CSRF validation failed")
}

/// Where a browser says that a request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whence {
    /// A page of our own origin.
    Here,
    Elsewhere,
    Unsaid,
}

fn origin_of(headers: &HeaderMap, context: &RequestContext, settings: &ApiSettings) -> Whence {
    if text(headers, "sec-fetch-site") == Some("cross-site") {
        return Whence::Elsewhere;
    }
    let Some(from) = text(headers, "origin").or_else(|| text(headers, "referer")) else {
        return Whence::Unsaid;
    };
    let proto = match context.transport {
        Transport::Https => "https",
        Transport::Any => "http",
    };
    let public = settings.public_url.as_deref().and_then(origin);
    let own = text(headers, "host").map(|host| (proto, host));
    let ours = origin(from).is_some_and(|from| {
        [own, public].into_iter().flatten().any(|(proto, host)| {
            from.0.eq_ignore_ascii_case(proto) && from.1.eq_ignore_ascii_case(host)
        })
    });
    if ours {
        Whence::Here
    } else {
        Whence::Elsewhere
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn is_bearer(headers: &HeaderMap) -> bool {
    text(headers, "authorization").is_some_and(|value| {
        value
            .get(..7)
            .is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "))
    })
}

/// Scheme and authority of a URL.
fn origin(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some((scheme, authority))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(method: Method, pairs: &[(&str, &str)]) -> bool {
        let mut builder = Request::builder().method(method);
        for (name, value) in pairs {
            builder = builder.header(*name, *value);
        }
        let request = builder.header("host", "dock.example:3000").finish();
        let settings = ApiSettings {
            public_url: Some("https://public.example".to_owned()),
            ..ApiSettings::default()
        };
        let plain = ApiSettings::default();
        let context = RequestContext::of(&request, &plain);
        check(&request, &context, &settings).is_ok()
    }

    #[test]
    fn reading_is_never_refused() {
        assert!(verdict(
            Method::GET,
            &[("cookie", "a=b"), ("origin", "http://evil.example")]
        ));
    }

    #[test]
    fn a_request_without_cookies_is_no_browsers_own_idea() {
        assert!(verdict(Method::POST, &[("origin", "http://evil.example")]));
    }

    #[test]
    fn only_our_own_origin_may_change_things_with_cookies() {
        let table = [
            ("origin", "http://dock.example:3000", true),
            ("origin", "https://public.example", true),
            ("origin", "https://dock.example:3000", false),
            ("origin", "http://dock.example", false),
            ("origin", "http://evil.example", false),
            ("origin", "null", false),
            ("referer", "http://dock.example:3000/ui/x?y", true),
            ("referer", "http://dock.example:3000.evil.example/", false),
            ("x-nothing", "", false),
            ("sec-fetch-site", "same-origin", true),
        ];
        for (name, value, expected) in table {
            let pairs = [("cookie", "drydock.sid=1"), (name, value)];
            assert_eq!(verdict(Method::POST, &pairs), expected, "{name}: {value}");
        }
    }

    #[test]
    fn only_our_own_pages_open_web_sockets() {
        let opens = |credential: (&str, &str), origin: &str| {
            let pairs = [("upgrade", "websocket"), credential, ("origin", origin)];
            verdict(Method::GET, &pairs)
        };
        let cookie = ("cookie", "drydock.sid=1");
        assert!(opens(cookie, "http://dock.example:3000"));
        assert!(!opens(cookie, "http://evil.example"));
        assert!(!opens(
            ("authorization", "Basic YTpi"),
            "http://evil.example"
        ));
        assert!(opens(
            ("authorization", "Bearer plim_x"),
            "http://evil.example"
        ));
        // No browser opens one without saying where it comes from.
        assert!(verdict(Method::GET, &[("upgrade", "websocket"), cookie]));
    }

    #[test]
    fn a_cross_site_fetch_is_refused_whatever_else_it_says() {
        assert!(!verdict(
            Method::DELETE,
            &[
                ("cookie", "drydock.sid=1"),
                ("origin", "http://dock.example:3000"),
                ("sec-fetch-site", "cross-site"),
            ]
        ));
    }

    #[test]
    fn an_open_dialect_changes_nothing_for_pages_of_other_sites() {
        let verdict = |method: Method, changes, pairs: &[(&str, &str)]| {
            let mut builder = Request::builder().method(method);
            for (name, value) in pairs {
                builder = builder.header(*name, *value);
            }
            let request = builder.header("host", "127.0.0.1:3001").finish();
            let settings = ApiSettings::default();
            let context = RequestContext::of(&request, &settings);
            check_open(&request, &context, &settings, changes).is_ok()
        };
        let evil = [
            [("origin", "http://evil.example")],
            [("origin", "null")],
            [("referer", "http://evil.example/page")],
            [("sec-fetch-site", "cross-site")],
            [("sec-fetch-site", "same-site")],
        ];
        for pairs in &evil {
            assert!(!verdict(Method::POST, true, pairs), "{pairs:?}");
            assert!(!verdict(Method::GET, true, pairs), "{pairs:?}");
            assert!(verdict(Method::GET, false, pairs), "{pairs:?}");
        }
        let own = [("origin", "http://127.0.0.1:3001")];
        for (method, pairs) in [
            (Method::POST, &[][..]),
            (Method::POST, &own[..]),
            (Method::GET, &[("sec-fetch-site", "none")]),
            (Method::GET, &[("cookie", "drydock.sid=1")]),
            (Method::POST, &[("sec-fetch-site", "same-origin")]),
        ] {
            assert!(verdict(method.clone(), true, pairs), "{method} {pairs:?}");
        }
        let cookie = [("cookie", "drydock.sid=1")];
        assert!(!verdict(Method::POST, true, &cookie));
    }

    #[test]
    fn a_bearer_token_is_no_ambient_credential() {
        assert!(verdict(
            Method::POST,
            &[("cookie", "a=b"), ("authorization", "Bearer plim_x")]
        ));
    }
}
