//! Names of registries: which are the same, which are local, which belong together.

use std::net::IpAddr;

use plimsoll_domain::image::ImageRef;
use url::{Host, Url};

/// Docker Hub's name in references.
pub(super) const HUB: &str = "docker.io";
/// Docker Hub's API.
pub(super) const HUB_API: &str = "registry-1.docker.io";
/// Docker Hub's name in Docker's configuration file and in `X-Registry-Auth`.
pub(super) const HUB_LOGIN: &str = "https://index.docker.io/v1/";

/// One repository of one registry: what is asked for once, however many containers use it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    registry: String,
    path: String,
}

impl Repository {
    /// `docker.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// `library/nginx`.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl From<&ImageRef> for Repository {
    fn from(image: &ImageRef) -> Self {
        Self {
            registry: canonical(image.registry()),
            path: image.repository().to_owned(),
        }
    }
}

impl std::fmt::Display for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.registry, self.path)
    }
}

/// One name for all of Docker Hub's.
pub(super) fn canonical(host: &str) -> String {
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        HUB_API | "index.docker.io" | "registry.hub.docker.com" | "hub.docker.com" => HUB.into(),
        _ => host,
    }
}

/// Host and, where it is not the scheme's own, port.
pub(super) fn of_url(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// Where a registry without settings is: HTTPS, except on this very machine, where Docker speaks
/// plain HTTP without being told, too.
pub(super) fn default_base(registry: &str) -> Option<Url> {
    let host = if registry == HUB { HUB_API } else { registry };
    let mut url = Url::parse(&format!("https://{host}")).ok()?;
    if is_loopback(&url) {
        url = Url::parse(&format!("http://{host}")).ok()?;
    }
    Some(url)
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

/// Domains under which strangers have names side by side, beyond those of two letters with a
/// generic second level (`co.uk`). Not the whole public suffix list: what is missing here can be
/// closed only by the owner's `authurl`, which is also what opens anything else.
const SHARED: &[&str] = &[
    "amazonaws.com",
    "azurecr.io",
    "azurewebsites.net",
    "cloudfront.net",
    "ddns.net",
    "duckdns.org",
    "dynu.net",
    "fly.dev",
    "github.io",
    "gitlab.io",
    "herokuapp.com",
    "hopto.org",
    "myds.me",
    "netlify.app",
    "ngrok.io",
    "nip.io",
    "no-ip.org",
    "on.aws",
    "pages.dev",
    "run.app",
    "sslip.io",
    "synology.me",
    "ts.net",
    "vercel.app",
    "web.app",
    "workers.dev",
    "zapto.org",
];

fn is_shared(domain: &str) -> bool {
    let labels: Vec<&str> = domain.split('.').collect();
    match labels.as_slice() {
        [] | [_] => true,
        [second, top] => {
            let generic = matches!(
                *second,
                "ac" | "co" | "com" | "edu" | "gob" | "gov" | "gv" | "ne" | "net" | "or" | "org"
            );
            (top.len() == 2 && generic) || SHARED.contains(&domain)
        }
        _ => SHARED.contains(&domain),
    }
}

/// Whether two hosts are run by the same people, as far as names tell: the same, one inside the
/// other, or both inside one domain that is not shared by strangers.
pub(super) fn are_related(a: &str, b: &str) -> bool {
    if a.eq_ignore_ascii_case(b) {
        return true;
    }
    let is_address =
        |host: &str| host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() || !host.contains('.');
    if is_address(a) || is_address(b) {
        return false;
    }
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    let inside = |inner: &str, outer: &str| {
        !is_shared(outer)
            && inner
                .strip_suffix(outer)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    let parent = |host: &str| host.split_once('.').map(|(_, rest)| rest.to_owned());
    inside(&a, &b)
        || inside(&b, &a)
        || parent(&a).is_some_and(|shared| !is_shared(&shared) && parent(&b) == Some(shared))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_related_only_inside_a_domain_of_one_owner() {
        let cases = [
            ("ghcr.io", "ghcr.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("registry.example.org", "auth.example.org", true),
            ("example.org", "auth.example.org", true),
            ("registry.example.org", "example.net", false),
            (
                "registry.example.org",
                "registry.example.org.evil.net",
                false,
            ),
            ("alice.duckdns.org", "mallory.duckdns.org", false),
            ("alice.duckdns.org", "duckdns.org", false),
            ("shop.co.uk", "evil.co.uk", false),
            ("example.org", "org", false),
            ("10.0.0.1", "20.0.0.1", false),
            ("registry", "auth", false),
            ("localhost", "localhost", true),
        ];
        for (registry, realm, related) in cases {
            assert_eq!(are_related(registry, realm), related, "{registry} {realm}");
        }
    }

    #[test]
    fn only_loopback_registries_are_plain_http_without_settings() {
        let cases = [
            ("localhost:5000", "http"),
            ("127.0.0.1:5000", "http"),
            ("[::1]:5000", "http"),
            ("docker.io", "https"),
            ("192.168.1.5:5000", "https"),
            ("registry.lan", "https"),
            ("localhost.evil.net", "https"),
        ];
        for (registry, scheme) in cases {
            let url = default_base(registry).expect("a usable host");
            assert_eq!(url.scheme(), scheme, "{registry}");
        }
    }
}
