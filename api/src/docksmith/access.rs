//! Who needs no credential. Docksmith has none by design; here that is so only where the owner said
//! so, or where nobody but this machine can ask.

use std::net::{IpAddr, SocketAddr};

use plimsoll_app::access::Presented;
use poem::{Request, http::HeaderMap};

use super::error::NOT_LOCAL;
use crate::{
    ApiSettings, DocksmithAccess, drydock::error::ApiError, middleware::context::RequestContext,
};

/// How far a door stands open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// To credentials only.
    Closed,
    /// To this machine.
    Loopback,
    ToAll,
}

impl Open {
    /// `own`: the address of the dialect's own listener, where the request came in there.
    pub fn of(access: DocksmithAccess, own: Option<SocketAddr>) -> Self {
        match (access, own) {
            (DocksmithAccess::Everybody, _) => Self::ToAll,
            (DocksmithAccess::Loopback, Some(own)) if own.ip().is_loopback() => Self::Loopback,
            _ => Self::Closed,
        }
    }
}

/// The context of a request, let in where it presents nothing and needs nothing.
pub fn context(
    request: &Request,
    context: RequestContext,
    settings: &ApiSettings,
    open: Open,
) -> RequestContext {
    let lets_in = match open {
        Open::Closed => false,
        Open::Loopback => is_local(request, settings),
        Open::ToAll => true,
    };
    if lets_in && matches!(context.presented, Presented::Nothing) {
        context.let_in()
    } else {
        context
    }
}

/// Says why a request without a credential was not let in at a door that is open to this machine.
pub fn check(context: &RequestContext, open: Open) -> Result<(), ApiError> {
    match (&context.presented, open) {
        (Presented::Nothing, Open::Loopback) => Err(ApiError::forbidden(NOT_LOCAL)),
        _ => Ok(()),
    }
}

/// Whether a request without a credential really comes from this machine: to its own address, past
/// no proxy, and for a name of this machine. A page elsewhere that lets its own name point here (DNS
/// rebinding) sends that name.
fn is_local(request: &Request, settings: &ApiSettings) -> bool {
    let headers = request.headers();
    let forwarded = ["forwarded", "x-forwarded-for", "x-real-ip", "via"]
        .iter()
        .any(|name| headers.contains_key(*name));
    !forwarded && host(headers).is_some_and(|host| is_ours(host, settings))
}

/// The name that the client asked for, without its port.
fn host(headers: &HeaderMap) -> Option<&str> {
    let host = headers.get("host")?.to_str().ok()?;
    match host.strip_prefix('[') {
        Some(rest) => Some(rest.split_once(']')?.0),
        None => Some(host.split_once(':').map_or(host, |(name, _)| name)),
    }
}

fn is_ours(host: &str, settings: &ApiSettings) -> bool {
    let public = settings.public_url.as_deref().and_then(|url| {
        let authority = url.split_once("://")?.1.split('/').next()?;
        Some(
            authority
                .rsplit_once(':')
                .map_or(authority, |(name, _)| name),
        )
    });
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || public.is_some_and(|public| public.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_open_that_others_reach_unless_the_owner_says_so() {
        use DocksmithAccess::{Everybody, Loopback, Nobody};
        let at = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
        for (access, own, expected) in [
            (Loopback, None, Open::Closed),
            (Loopback, at("127.0.0.1:3001"), Open::Loopback),
            (Loopback, at("[::1]:3001"), Open::Loopback),
            (Loopback, at("0.0.0.0:3001"), Open::Closed),
            (Loopback, at("192.168.1.5:3001"), Open::Closed),
            (Nobody, at("127.0.0.1:3001"), Open::Closed),
            (Everybody, None, Open::ToAll),
            (Everybody, at("0.0.0.0:3001"), Open::ToAll),
        ] {
            assert_eq!(Open::of(access, own), expected, "{access:?} {own:?}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_local() {
        let verdict = |pairs: &[(&str, &str)]| {
            let mut builder = Request::builder();
            for (name, value) in pairs {
                builder = builder.header(*name, *value);
            }
            let settings = ApiSettings {
                public_url: Some("https://dock.example:8443/x".to_owned()),
                ..ApiSettings::default()
            };
            is_local(&builder.finish(), &settings)
        };
        for host in ["localhost:3001", "127.0.0.1", "[::1]:3001", "dock.example"] {
            assert!(verdict(&[("host", host)]), "{host}");
        }
        for host in [
            "evil.example:3001",
            "localhost.evil.example",
            "10.0.0.1",
            "",
        ] {
            assert!(!verdict(&[("host", host)]), "{host}");
        }
        assert!(!verdict(&[]));
        assert!(!verdict(&[
            ("host", "localhost"),
            ("x-forwarded-for", "1.2.3.4")
        ]));
    }
}
