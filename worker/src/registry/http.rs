//! The one place that builds HTTP clients for registries and token services: timeouts, TLS, no
//! automatic redirects, and the guard on addresses.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use reqwest::{
    Certificate, Client, Identity, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use url::{Host, Url};

use super::settings::Verify;

const CONNECT: Duration = Duration::from_secs(5);
/// Until the response headers are there.
pub(super) const HEADERS: Duration = Duration::from_secs(10);
/// Between two pieces of a body.
const IDLE: Duration = Duration::from_secs(15);
/// One request from start to end, at most.
pub(super) const TOTAL: Duration = Duration::from_secs(60);
/// Connections to one registry, and requests under way.
pub(super) const CONNECTIONS: usize = 10;

/// Where a client may connect to. Link-local, metadata and multicast addresses are never allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// The registry that the owner's containers name may be on this machine or at home.
    Registry,
    /// Where a registry on the Internet redirects to must be on the Internet.
    Internet,
}

/// TLS as configured for one registry.
#[derive(Clone, Debug, Default)]
pub(super) struct Tls {
    pub verify: Verify,
    pub ca: Vec<Certificate>,
    pub identity: Option<Identity>,
    pub roots: Roots,
}

/// Which authorities count besides the configured ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Roots {
    #[default]
    Machine,
    None,
}

impl Tls {
    /// For a client that never speaks TLS: nothing is read.
    pub(super) fn none() -> Self {
        Self {
            roots: Roots::None,
            ..Self::default()
        }
    }

    /// The part that holds for other hosts, too.
    pub(super) fn for_strangers(&self) -> Self {
        Self {
            ca: self.ca.clone(),
            ..Self::default()
        }
    }

    /// Reads the files once, at start. The error names the file.
    pub(super) fn read(
        verify: Verify,
        ca: Option<&Path>,
        client: Option<(&Path, &Path)>,
    ) -> Result<Self, String> {
        let read = |path: &Path| {
            std::fs::read(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
        };
        let ca = match ca {
            Some(path) => Certificate::from_pem_bundle(&read(path)?)
                .map_err(|_| format!("{} holds no PEM certificates", path.display()))?,
            None => Vec::new(),
        };
        let identity = match client {
            Some((certificate, key)) => {
                let mut pem = read(certificate)?;
                pem.push(b'\n');
                pem.extend_from_slice(&read(key)?);
                let identity = Identity::from_pem(&pem).map_err(|_| {
                    format!(
                        "{} and {} are no PEM certificate and key",
                        certificate.display(),
                        key.display()
                    )
                })?;
                Some(identity)
            }
            None => None,
        };
        Ok(Self {
            verify,
            ca,
            identity,
            roots: Roots::Machine,
        })
    }
}

/// Proxies of the environment apply, as they do for Docker, but never to this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    FromEnvironment,
    Never,
}

/// How requests of one registry travel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub proxy: Proxy,
    /// One request from start to end.
    pub timeout: Duration,
}

pub(super) fn client(reach: Reach, tls: &Tls, line: Line) -> reqwest::Result<Client> {
    let mut builder = Client::builder()
        .user_agent(concat!("plimsoll/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .connect_timeout(CONNECT)
        .read_timeout(IDLE)
        .timeout(line.timeout)
        .pool_max_idle_per_host(CONNECTIONS)
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
        .gzip(true)
        .dns_resolver(Guarded(reach));
    builder = match tls.roots {
        Roots::Machine => builder.tls_certs_merge(tls.ca.iter().cloned()),
        Roots::None => builder.tls_certs_only([]),
    };
    if tls.verify == Verify::Nothing {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    if let Some(identity) = &tls.identity {
        builder = builder.identity(identity.clone());
    }
    if line.proxy == Proxy::Never {
        builder = builder.no_proxy();
    }
    builder.build()
}

/// Refuses addresses at the moment of connecting, so that a name that changes its address between
/// check and use gains nothing.
struct Guarded(Reach);

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

/// In the source chain of a connection error.
#[derive(Debug, thiserror::Error)]
#[error("its address {0} is one that Plimsoll does not connect to")]
pub(super) struct Denied(IpAddr);

/// An address written in the URL itself never meets the resolver.
pub(super) fn check_literal(url: &Url, reach: Reach) -> Result<(), Denied> {
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
    if reach == Reach::Registry {
        return None;
    }
    let carrier = octets[0] == 100 && (64..128).contains(&octets[1]);
    (ip.is_loopback() || ip.is_private() || carrier).then_some("private")
}

fn denied_v6(ip: Ipv6Addr, reach: Reach) -> Option<&'static str> {
    let segments = ip.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        denied_v4(Ipv4Addr::new(a, b, c, d), reach)
    };
    match segments {
        [0, 0, 0, 0, 0, 0, 0, 1] => return (reach == Reach::Internet).then_some("loopback"),
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
        0xfc00..=0xfdff | 0xfec0..=0xfeff if reach == Reach::Internet => Some("private"),
        _ => None,
    }
}

/// Why a body was not read.
pub(super) enum BodyError {
    TooLarge,
    Broken(reqwest::Error),
}

/// Reads a body up to `limit` bytes, counted after decompression.
pub(super) async fn read_body(mut response: Response, limit: usize) -> Result<Vec<u8>, BodyError> {
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    // An announcement costs the sender nothing, so it reserves little.
    let mut body = Vec::with_capacity(announced.min(256 * 1024) as usize);
    while let Some(piece) = response.chunk().await.map_err(BodyError::Broken)? {
        if body.len() + piece.len() > limit {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
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
            assert!(check_literal(&url, Reach::Registry).is_err(), "{text}");
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
            assert!(check_literal(&url, Reach::Registry).is_ok(), "{text}");
            assert!(check_literal(&url, Reach::Internet).is_err(), "{text}");
        }
        let public = Url::parse("https://93.184.216.34/").expect("a URL");
        assert!(check_literal(&public, Reach::Internet).is_ok());
    }
}
