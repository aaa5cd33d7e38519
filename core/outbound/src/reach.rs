//! Where Plimsoll connects to. Whatever the settings say, link-local, cloud-metadata and multicast
//! addresses are out of reach.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// The addresses that one client may connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    loopback: bool,
    private: bool,
    public: bool,
}

impl Reach {
    /// Also this machine and private networks: for what the owner named in the settings.
    pub const HOME: Self = Self {
        loopback: true,
        private: true,
        public: true,
    };
    /// Public addresses only: for what a stranger named.
    pub const INTERNET: Self = Self {
        loopback: false,
        private: false,
        public: true,
    };

    /// What the settings `outbound.loopback` and `outbound.private` let the owner's addresses reach.
    pub const fn configured(loopback: bool, private: bool) -> Self {
        Self {
            loopback,
            private,
            public: true,
        }
    }

    /// Of these, not what is reached over the internet: for what anybody on the way could read.
    #[must_use]
    pub const fn nearby(self) -> Self {
        Self {
            public: false,
            ..self
        }
    }
}

/// Refuses addresses at the moment of connecting, so that a name that changes its address between
/// check and use gains nothing.
pub(crate) struct Guarded(pub Reach);

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (allowed, denied): (Vec<SocketAddr>, Vec<SocketAddr>) =
                found.partition(|address| denied(address.ip(), reach).is_none());
            if let (true, Some(first)) = (allowed.is_empty(), denied.first()) {
                return Err(Denied(first.ip()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// The addresses of `host` that may be connected to, for protocols other than HTTP. Connect to one
/// of these and not to the name, which may mean something else a moment later.
///
/// # Errors
/// A name that means nothing, or only addresses out of reach.
pub async fn resolve(host: &str, port: u16, reach: Reach) -> std::io::Result<Vec<SocketAddr>> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let found = tokio::net::lookup_host((bare, port)).await?;
    let (allowed, denied): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.partition(|address| denied(address.ip(), reach).is_none());
    match (allowed.is_empty(), denied.first()) {
        (true, Some(first)) => Err(std::io::Error::other(Denied(first.ip()))),
        (true, None) => Err(std::io::Error::other("its name has no address")),
        (false, _) => Ok(allowed),
    }
}

/// In the source chain of a connection error.
#[derive(Debug, thiserror::Error)]
#[error("its address {0} is one that Plimsoll does not connect to")]
pub struct Denied(IpAddr);

/// An address written in the URL itself never meets the resolver.
pub fn check_literal(url: &Url, reach: Reach) -> Result<(), Denied> {
    let ip = match url.host() {
        Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
        Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
        _ => return Ok(()),
    };
    match denied(ip, reach) {
        Some(_) => Err(Denied(ip)),
        None => Ok(()),
    }
}

/// Why an address is out of reach, if it is.
fn denied(ip: IpAddr, reach: Reach) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => denied_v4(ip, reach),
        IpAddr::V6(ip) => denied_v6(ip, reach),
    }
}

fn denied_v4(ip: Ipv4Addr, reach: Reach) -> Option<&'static str> {
    let octets = ip.octets();
    if ip.is_link_local() {
        return Some("link-local");
    }
    if matches!(
        octets,
        [100, 100, 100, 200] | [192, 0, 0, 192] | [168, 63, 129, 16]
    ) {
        return Some("cloud metadata");
    }
    if octets[0] == 0 || octets[0] >= 224 {
        return Some("unspecified, multicast or reserved");
    }
    if ip.is_loopback() {
        return (!reach.loopback).then_some("loopback");
    }
    let carrier = octets[0] == 100 && (64..128).contains(&octets[1]);
    match ip.is_private() || carrier {
        true => (!reach.private).then_some("private"),
        false => (!reach.public).then_some("public"),
    }
}

fn denied_v6(ip: Ipv6Addr, reach: Reach) -> Option<&'static str> {
    let segments = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        denied_v4(Ipv4Addr::new(a, b, c, d), reach)
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => return (!reach.loopback).then_some("loopback"),
        // IPv4 in other clothes: compatible, mapped, NAT64, 6to4.
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            return v4(high, low);
        }
        [0x2002, high, low, ..] => return v4(high, low),
        [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254] => return Some("cloud metadata"),
        _ => {}
    }
    match segments[0] {
        0xfe80..=0xfebf => Some("link-local"),
        0xff00..=0xffff => Some("multicast"),
        0xfc00..=0xfdff | 0xfec0..=0xfeff => (!reach.private).then_some("private"),
        _ => (!reach.public).then_some("public"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_and_link_local_addresses_are_denied_in_every_form() {
        for text in [
            "http://169.254.169.254/",
            "http://2852039166/",
            "http://0xa9fea9fe/",
            "http://0251.0376.0251.0376/",
            "http://[::ffff:169.254.169.254]/",
            "http://[64:ff9b::a9fe:a9fe]/",
            "http://[2002:a9fe:a9fe::]/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://0.0.0.0/",
            "http://100.100.100.200/",
            "http://[::]/",
        ] {
            let url = Url::parse(text).expect("a URL");
            assert!(check_literal(&url, Reach::HOME).is_err(), "{text}");
        }
    }

    #[test]
    fn home_registries_are_reached_but_not_redirected_to() {
        for text in [
            "http://127.0.0.1:5000/",
            "http://[::1]:5000/",
            "http://192.168.1.2/",
            "http://10.1.2.3/",
            "http://[fd12::1]/",
            "http://100.64.0.1/",
        ] {
            let url = Url::parse(text).expect("a URL");
            assert!(check_literal(&url, Reach::HOME).is_ok(), "{text}");
            assert!(check_literal(&url, Reach::HOME.nearby()).is_ok(), "{text}");
            assert!(check_literal(&url, Reach::INTERNET).is_err(), "{text}");
        }
        for text in ["https://93.184.216.34/", "https://[2606:2800:220::1]/"] {
            let public = Url::parse(text).expect("a URL");
            assert!(check_literal(&public, Reach::INTERNET).is_ok());
            assert!(check_literal(&public, Reach::HOME.nearby()).is_err());
        }
    }
}
