//! The session cookie (reference/drydock.md section 5).

use std::time::Duration;

use poem::http::{HeaderMap, header};

use crate::SameSite;

/// Drydock's name for it.
pub const SESSION: &str = "drydock.sid";

/// One for each sign-in that is on its way through an identity provider, so that two tabs do not
/// disturb each other.
const LOGIN: &str = "drydock.oidc.";
/// Characters of the state in its name.
const TAG: usize = 8;

/// Whether a cookie travels over TLS only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Https,
    Any,
}

/// The session id that a request carries.
pub fn session(headers: &HeaderMap) -> Option<&str> {
    value(headers, SESSION)
}

/// What [`login`] gave the browser for the sign-in with this `state`.
pub fn login_of<'a>(headers: &'a HeaderMap, state: &str) -> Option<&'a str> {
    value(headers, &format!("{LOGIN}{}", state.get(..TAG)?))
}

fn value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(candidate, value)| *candidate == name && !value.is_empty())
        .map(|(_, value)| value.trim_matches('"'))
}

/// `Set-Cookie` for a browser that leaves for an identity provider with `state`. The provider sends
/// it back by a link, which `SameSite=Strict` would not survive.
pub fn login(state: &str, secret: &str, max_age: Duration, transport: Transport) -> String {
    let tag = state.get(..TAG).unwrap_or(state);
    format!(
        "{LOGIN}{tag}={secret}; Path=/auth/oidc; HttpOnly; Max-Age={}{}",
        max_age.as_secs(),
        attributes(SameSite::Lax, transport)
    )
}

/// `Set-Cookie` for a session that ends after `max_age`.
pub fn begin(id: &str, max_age: Duration, same_site: SameSite, transport: Transport) -> String {
    format!(
        "{SESSION}={id}; Path=/; HttpOnly; Max-Age={}{}",
        max_age.as_secs(),
        attributes(same_site, transport)
    )
}

/// `Set-Cookie` that removes it.
pub fn end(same_site: SameSite, transport: Transport) -> String {
    format!(
        "{SESSION}=; Path=/; HttpOnly; Max-Age=0{}",
        attributes(same_site, transport)
    )
}

fn attributes(same_site: SameSite, transport: Transport) -> &'static str {
    match (same_site, transport) {
        (SameSite::Strict, Transport::Https) => "; SameSite=Strict; Secure",
        (SameSite::Strict, Transport::Any) => "; SameSite=Strict",
        (SameSite::Lax, Transport::Https) => "; SameSite=Lax; Secure",
        (SameSite::Lax, Transport::Any) => "; SameSite=Lax",
        // Browsers drop a `None` that is not secure.
        (SameSite::None, _) => "; SameSite=None; Secure",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_among_other_cookies() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "a=b; drydock.sid=abc; c=d".parse().unwrap());
        assert_eq!(session(&headers), Some("abc"));
        headers.clear();
        headers.append(header::COOKIE, "xdrydock.sid=abc".parse().unwrap());
        assert_eq!(session(&headers), None);
    }

    #[test]
    fn a_cookie_is_secure_over_https_only() {
        let plain = begin("x", Duration::from_secs(60), SameSite::Lax, Transport::Any);
        assert_eq!(
            plain,
            "drydock.sid=x; Path=/; HttpOnly; Max-Age=60; SameSite=Lax"
        );
        assert!(end(SameSite::Strict, Transport::Https).ends_with("; SameSite=Strict; Secure"));
    }
}
