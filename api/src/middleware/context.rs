//! What is known of a request before it is routed.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, OnceLock},
};

use plimsoll_app::{access::Presented, requests::BAD_KEY};
use plimsoll_domain::access::Principal;
use poem::{Addr, FromRequest, Request, RequestBody, http::HeaderMap};
use secrecy::SecretString;

use crate::{ApiSettings, auth, auth::cookie::Transport, drydock::error::ApiError};

/// Attached to every request; handlers take it as an argument where they write audit rows.
#[derive(Clone)]
pub struct RequestContext(Arc<Inner>);

struct Inner {
    id: String,
    session_id: Option<SecretString>,
    principal: OnceLock<Arc<Principal>>,
    known: Known,
}

/// The parts that never change.
pub struct Known {
    /// Who is asking, behind the proxies that are trusted.
    pub client: IpAddr,
    /// Whether the client's side of the connection is TLS.
    pub transport: Transport,
    pub presented: Presented,
}

impl std::ops::Deref for RequestContext {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.0.known
    }
}

impl RequestContext {
    pub fn of(request: &Request, settings: &ApiSettings) -> Self {
        let headers = request.headers();
        let presented = auth::credential::presented(headers);
        let session_id = match presented {
            Presented::Session(_) => {
                auth::cookie::session(headers).map(|id| SecretString::from(id.to_owned()))
            }
            _ => None,
        };
        Self(Arc::new(Inner {
            id: request_id(headers),
            session_id,
            principal: OnceLock::new(),
            known: Known {
                client: client(direct(request), headers, settings.trusted_proxies),
                transport: transport(headers, settings),
                presented,
            },
        }))
    }

    /// The same request, let in without a credential.
    #[must_use]
    pub fn let_in(&self) -> Self {
        Self(Arc::new(Inner {
            id: self.0.id.clone(),
            session_id: None,
            principal: OnceLock::new(),
            known: Known {
                client: self.client,
                transport: self.transport,
                presented: Presented::Unasked,
            },
        }))
    }

    /// The id that the response, the log and the audit trail name. Random unless the client gave a
    /// sensible one.
    pub fn id(&self) -> &str {
        &self.0.id
    }

    /// Remembers the principal for the log.
    pub fn seen(&self, principal: &Arc<Principal>) {
        // The first one stays; a request has one principal.
        let _ = self.0.principal.set(principal.clone());
    }

    /// The session's own id, where the request came with one that was read.
    pub fn session_id(&self) -> Option<&SecretString> {
        self.0.session_id.as_ref()
    }

    pub fn principal(&self) -> Option<&Arc<Principal>> {
        self.0.principal.get()
    }
}

impl<'a> FromRequest<'a> for RequestContext {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        let (_, context) = auth::parts(request)?;
        // poem takes a header that is no text for one that is absent; this one must not be lost.
        let key = request.headers().get("idempotency-key");
        if key.is_some_and(|key| key.to_str().is_err()) {
            return Err(ApiError::bad_request(BAD_KEY).into());
        }
        Ok(context.clone())
    }
}

fn request_id(headers: &HeaderMap) -> String {
    let given = headers
        .get("x-request-id")
        .and_then(|value| value.to_str().ok())
        .filter(|id| {
            (8..=128).contains(&id.len())
                && id
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        });
    match given {
        Some(id) => id.to_owned(),
        None => uuid::Uuid::now_v7().simple().to_string(),
    }
}

fn direct(request: &Request) -> IpAddr {
    match request.remote_addr().0 {
        Addr::SocketAddr(address) => address.ip(),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

/// The address that the outermost trusted proxy saw. `X-Forwarded-For` is believed only as far as
/// there are trusted proxies, counted from the right: what is left of that, the client invented.
fn client(direct: IpAddr, headers: &HeaderMap, trusted_proxies: u8) -> IpAddr {
    if trusted_proxies == 0 {
        return direct;
    }
    let hops: Vec<IpAddr> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|hop| hop.trim().parse().ok())
        .collect();
    let back = usize::from(trusted_proxies).min(hops.len());
    hops.get(hops.len() - back).copied().unwrap_or(direct)
}

fn transport(headers: &HeaderMap, settings: &ApiSettings) -> Transport {
    let forwarded = settings.trusted_proxies > 0
        && headers
            .get("x-forwarded-proto")
            .and_then(|value| value.to_str().ok())
            .is_some_and(|proto| proto.trim().eq_ignore_ascii_case("https"));
    if forwarded || settings.is_https() {
        Transport::Https
    } else {
        Transport::Any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forwarded_address_counts_only_as_far_as_proxies_are_trusted() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let seen = |hops: &str, trusted| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", hops.parse().unwrap());
            client(ip("10.0.0.1"), &headers, trusted)
        };
        let chain = "1.1.1.1, 2.2.2.2, 3.3.3.3";
        assert_eq!(seen(chain, 0), ip("10.0.0.1"));
        assert_eq!(seen(chain, 1), ip("3.3.3.3"));
        assert_eq!(seen(chain, 2), ip("2.2.2.2"));
        assert_eq!(seen("nonsense", 1), ip("10.0.0.1"));
    }

    #[test]
    fn a_strange_request_id_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert("x-request-id", "abc-12345".parse().unwrap());
        assert_eq!(request_id(&headers), "abc-12345");
        headers.insert("x-request-id", "a\" onload=1".parse().unwrap());
        assert_eq!(request_id(&headers).len(), 32);
    }
}
