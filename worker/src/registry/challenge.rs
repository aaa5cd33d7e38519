//! `WWW-Authenticate`: what a registry wants to see (RFC 9110 11.6.1, the distribution
//! specification's token authentication), and whether to show it.

use http::HeaderMap;
use plimsoll_domain::registry::RegistryKind;
use url::Url;

use super::host;

/// How a registry authenticates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Challenge {
    Basic,
    Bearer {
        realm: String,
        service: Option<String>,
    },
}

/// The best challenge that we can answer: a token before a password.
pub(super) fn parse(headers: &HeaderMap) -> Option<Challenge> {
    let mut best = None;
    for value in headers.get_all(http::header::WWW_AUTHENTICATE) {
        let Ok(value) = value.to_str() else { continue };
        for (scheme, parameters) in challenges(value) {
            let find = |name: &str| {
                parameters
                    .iter()
                    .find(|(key, _)| key.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.clone())
            };
            if scheme.eq_ignore_ascii_case("bearer") {
                if let Some(realm) = find("realm") {
                    return Some(Challenge::Bearer {
                        realm,
                        service: find("service"),
                    });
                }
            } else if scheme.eq_ignore_ascii_case("basic") {
                best = Some(Challenge::Basic);
            }
        }
    }
    best
}

type Parameters = Vec<(String, String)>;

/// Splits `Bearer realm="a",service="b, c", Basic realm="d"`.
fn challenges(mut rest: &str) -> Vec<(String, Parameters)> {
    let mut found: Vec<(String, Parameters)> = Vec::new();
    while found.len() < 16 {
        rest = rest.trim_start_matches([',', ' ', '\t']);
        let end = rest.find(['=', ' ', ',', '\t']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        let Some(value) = after.trim_start().strip_prefix('=') else {
            found.push((word.to_owned(), Vec::new()));
            rest = after;
            continue;
        };
        let (value, after) = parameter_value(value.trim_start());
        if let Some((_, parameters)) = found.last_mut() {
            parameters.push((word.to_owned(), value));
        }
        rest = after;
    }
    found
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// Whether tokens for the registry at `base` may be fetched from `realm`, and credentials shown
/// there. `configured` is the host of the settings' `authurl`. The error says why not.
pub(super) fn check_realm(
    base: &Url,
    realm: &str,
    configured: Option<&str>,
) -> Result<Url, String> {
    let url = Url::parse(realm)
        .or_else(|_| base.join(realm))
        .map_err(|_| "its token service has no usable address".to_owned())?;
    let service = url.host_str().unwrap_or_default();
    match (base.scheme(), url.scheme()) {
        (_, "https") | ("http", "http") => {}
        _ => {
            return Err(format!(
                "its token service {service} does not use https, so credentials would be readable \
                 on the way"
            ));
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("its token service's address carries credentials".to_owned());
    }
    let registry = base.host_str().unwrap_or_default();
    let allowed = host::are_related(registry, service)
        || configured.is_some_and(|host| host.eq_ignore_ascii_case(service))
        || RegistryKind::of_host(&host::canonical(registry))
            .is_some_and(|kind| kind.trusts(service))
        || (host::is_loopback(base) && host::is_loopback(&url));
    if !allowed {
        return Err(format!(
            "it wants us to log in at {service}, which is not known to belong to it; if it does, \
             set the registry's authurl to https://{service}"
        ));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("www-authenticate", value.parse().expect("a header value"));
        }
        parse(&headers)
    }

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer {
                realm: realm.to_owned(),
                service: service.map(str::to_owned),
            })
        };
        assert_eq!(
            check(&[
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#
            ]),
            bearer("https://auth.docker.io/token", Some("registry.docker.io"))
        );
        assert_eq!(
            check(&[r#"bearer realm=https://x/y , service = z"#]),
            bearer("https://x/y", Some("z"))
        );
        assert_eq!(
            check(&[r#"Basic realm="a, Bearer", Bearer realm="https://x/\"y""#]),
            bearer("https://x/\"y", None)
        );
        assert_eq!(
            check(&[r#"Basic realm="Registry""#]),
            Some(Challenge::Basic)
        );
        assert_eq!(
            check(&["Basic realm=x", r#"Bearer realm="https://x""#]),
            bearer("https://x", None)
        );
        for nonsense in [
            "",
            "Bearer",
            "Negotiate",
            "Bearer realm",
            "=,=,=",
            "Bearer service=\"x",
            "\"\"",
        ] {
            assert_eq!(check(&[nonsense]), None, "{nonsense}");
        }
    }

    #[test]
    fn credentials_go_only_to_token_services_of_the_registry() {
        let cases = [
            (
                "https://registry-1.docker.io",
                "https://auth.docker.io/token",
                None,
                true,
            ),
            ("https://ghcr.io", "https://ghcr.io/token", None, true),
            ("https://quay.io", "https://quay.io/v2/auth", None, true),
            ("https://lscr.io", "https://ghcr.io/token", None, true),
            ("https://ghcr.io", "https://lscr.io/token", None, false),
            (
                "https://team.azurecr.io",
                "https://team.azurecr.io/oauth2/token",
                None,
                true,
            ),
            (
                "https://team.azurecr.io",
                "https://mallory.azurecr.io/oauth2/token",
                None,
                false,
            ),
            (
                "https://registry.cn-hangzhou.aliyuncs.com",
                "https://dockerauth.cn-hangzhou.aliyuncs.com/auth",
                None,
                true,
            ),
            (
                "https://registry.gitlab.com",
                "https://gitlab.com/jwt/auth",
                None,
                true,
            ),
            (
                "https://harbor.example.org",
                "https://harbor.example.org/service/token",
                None,
                true,
            ),
            ("https://registry.example.org", "/token", None, true),
            (
                "https://registry.example.org",
                "http://registry.example.org/token",
                None,
                false,
            ),
            (
                "https://registry.example.org",
                "https://evil.net/token",
                None,
                false,
            ),
            (
                "https://registry.example.org",
                "https://login.net/token",
                Some("login.net"),
                true,
            ),
            (
                "http://localhost:5000",
                "http://localhost:5001/token",
                None,
                true,
            ),
            (
                "http://localhost:5000",
                "http://127.0.0.1:5001/token",
                None,
                true,
            ),
            (
                "http://localhost:5000",
                "http://example.org/token",
                None,
                false,
            ),
            (
                "https://registry.example.org",
                "file:///etc/passwd",
                None,
                false,
            ),
            (
                "https://registry.example.org",
                "https://a:b@registry.example.org/",
                None,
                false,
            ),
        ];
        for (base, realm, configured, allowed) in cases {
            let base = Url::parse(base).expect("a URL");
            assert_eq!(
                check_realm(&base, realm, configured).is_ok(),
                allowed,
                "{base} {realm}"
            );
        }
    }
}
