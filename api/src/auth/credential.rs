//! Reads a credential from a request's head.

use base64::{Engine, engine::general_purpose::STANDARD};
use plimsoll_app::access::Presented;
use poem::http::{HeaderMap, header};
use secrecy::SecretString;

use super::cookie;

/// `Authorization` counts before the cookie: a program that sends a token means the token. A header
/// that cannot be read is a bad credential and never no credential, or it would become anonymous.
pub fn presented(headers: &HeaderMap) -> Presented {
    match headers.get(header::AUTHORIZATION) {
        Some(value) => match value.to_str() {
            Ok(value) => authorization(value),
            Err(_) => Presented::Unreadable,
        },
        None => match cookie::session(headers) {
            Some(id) => Presented::session(id),
            None => Presented::Nothing,
        },
    }
}

fn authorization(value: &str) -> Presented {
    let Some((scheme, rest)) = value.split_once(' ') else {
        return Presented::Unreadable;
    };
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Presented::token(rest);
    }
    if scheme.eq_ignore_ascii_case("basic") {
        return basic(rest).unwrap_or(Presented::Unreadable);
    }
    Presented::Unreadable
}

fn basic(encoded: &str) -> Option<Presented> {
    let decoded = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some(Presented::password(
        username,
        SecretString::from(password.to_owned()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn a_request_without_any_credential_presents_nothing() {
        assert!(matches!(presented(&head(&[])), Presented::Nothing));
        let other = head(&[("cookie", "theme=dark")]);
        assert!(matches!(presented(&other), Presented::Nothing));
    }

    #[test]
    fn what_cannot_be_read_is_a_bad_credential() {
        for value in [
            "Basic !!!",
            "Bearer",
            "Digest abc",
            "",
            "Basic bm9jb2xvbg==",
        ] {
            let headers = head(&[("authorization", value)]);
            assert!(
                matches!(presented(&headers), Presented::Unreadable),
                "{value:?}"
            );
        }
    }

    #[test]
    fn a_token_counts_before_the_cookie() {
        let headers = head(&[
            ("authorization", "bearer plim_abc"),
            ("cookie", "drydock.sid=xyz"),
        ]);
        assert!(matches!(presented(&headers), Presented::Token(_)));
    }

    #[test]
    fn a_password_may_contain_colons() {
        let encoded = STANDARD.encode("ann:a:b");
        let headers = head(&[("authorization", &format!("Basic {encoded}"))]);
        let Presented::Password { username, .. } = presented(&headers) else {
            panic!("not a password");
        };
        assert_eq!(username, "ann");
    }
}
