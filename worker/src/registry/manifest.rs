//! Digests, manifests and image configurations. Whatever is read is hashed; a name that does not
//! match its content is never used (reliability.md G7, G10).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use http::Method;
use plimsoll_domain::image::{Digest, ImageRef};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256, Sha512};

use super::{
    error::{RegistryError, excerpt},
    host::Repository,
    platform::Platform,
    transport::{Ask, Reply, is_html},
    upstream::Upstream,
};

/// Everything that can stand for an image, newest first. A registry converts or fails when the
/// kind that it has is missing here.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
const MAX_MANIFEST: usize = 4 * 1024 * 1024;
const MAX_CONFIG: usize = 4 * 1024 * 1024;
const MAX_ENTRIES: usize = 200;
/// An index may name indexes, and those no further ones.
const MAX_DEPTH: usize = 2;

/// What a registry knows about one image.
#[derive(Clone, Debug)]
pub struct ImageDetails {
    /// What the tag points at, and what Docker keeps in `RepoDigests`: the index where there is one.
    pub digest: Digest,
    /// The manifest of the platform asked for.
    pub manifest_digest: Digest,
    /// Docker's image id: the digest of the configuration.
    pub config_digest: Digest,
    pub created: Option<DateTime<Utc>>,
    pub labels: BTreeMap<String, String>,
    /// Compressed bytes of all layers, as the manifest says.
    pub size: u64,
    /// The image's configuration, whole (OCI image specification, "Image Configuration").
    pub config: Value,
}

#[derive(Deserialize)]
struct Manifest {
    #[serde(rename = "schemaVersion", default)]
    schema: u32,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
}

#[derive(Deserialize)]
struct Descriptor {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    digest: String,
    #[serde(default)]
    size: u64,
    platform: Option<OfferedPlatform>,
}

#[derive(Deserialize)]
struct OfferedPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    variant: Option<String>,
}

impl OfferedPlatform {
    fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

/// The digest that `image`'s tag points at: a `HEAD`, or a `GET` where the registry does not say.
pub(super) async fn digest(upstream: &Upstream, image: &ImageRef) -> Result<Digest, RegistryError> {
    let ask = manifest_ask(upstream, image, &reference(image), Method::HEAD);
    match upstream.ask(&ask).await {
        Ok(reply) => {
            if let Some(digest) = announced(&reply) {
                return Ok(digest);
            }
        }
        // Some registries and proxies know no HEAD.
        Err(RegistryError::Rejected {
            status: 400 | 405 | 406,
            ..
        }) => {}
        Err(error) => return Err(error),
    }
    let (_, digest) = fetch_manifest(upstream, image, &reference(image)).await?;
    Ok(digest)
}

/// What `image` is, for `platform`. Three requests: index, manifest, configuration; two where the
/// tag points at a manifest.
pub(super) async fn details(
    upstream: &Upstream,
    image: &ImageRef,
    platform: &Platform,
) -> Result<ImageDetails, RegistryError> {
    let (mut manifest, digest) = fetch_manifest(upstream, image, &reference(image)).await?;
    let mut manifest_digest = digest.clone();
    let malformed = |detail: &str| malformed(upstream, &what(image), detail);
    let mut depth = 0;
    while let Some(entries) = &manifest.manifests {
        depth += 1;
        if depth > MAX_DEPTH {
            return Err(malformed("an index inside an index inside an index"));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(malformed("an index with more than 200 entries"));
        }
        let entry = choose(entries, platform).ok_or_else(|| RegistryError::NoPlatform {
            image: image.to_string(),
            platform: platform.to_string(),
            available: available(entries),
        })?;
        let wanted =
            Digest::parse(&entry.digest).ok_or_else(|| malformed("an index without digests"))?;
        (manifest, manifest_digest) = fetch_manifest(upstream, image, wanted.as_str()).await?;
    }
    let config = manifest.config.as_ref().filter(|_| manifest.schema == 2);
    let Some(config) = config else {
        return Err(malformed(
            "a manifest without an image configuration; images in the format of Docker 1.9 and \
             before cannot be read",
        ));
    };
    if !is_image_config(&config.media_type) {
        return Err(malformed(&format!(
            "something that is no container image ({})",
            excerpt(&config.media_type)
        )));
    }
    let config_digest =
        Digest::parse(&config.digest).ok_or_else(|| malformed("a manifest without digests"))?;
    let value = fetch_config(upstream, image, &config_digest).await?;
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    let (os, architecture) = (text("os").unwrap_or(""), text("architecture").unwrap_or(""));
    let offered = Platform::new(os, architecture, text("variant"));
    let same = offered.os == platform.os && offered.architecture == platform.architecture;
    if !os.is_empty() && !architecture.is_empty() && !same {
        return Err(RegistryError::NoPlatform {
            image: image.to_string(),
            platform: platform.to_string(),
            available: offered.to_string(),
        });
    }
    let labels = value.pointer("/config/Labels").and_then(Value::as_object);
    Ok(ImageDetails {
        digest,
        manifest_digest,
        config_digest,
        created: text("created")
            .and_then(|created| DateTime::parse_from_rfc3339(created).ok())
            .map(|created| created.to_utc()),
        labels: labels
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
        size: manifest
            .layers
            .iter()
            .flatten()
            .fold(0, |sum: u64, layer| sum.saturating_add(layer.size)),
        config: value,
    })
}

fn reference(image: &ImageRef) -> String {
    match (image.digest(), image.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, Some(tag)) => tag.to_string(),
        (None, None) => "latest".to_owned(),
    }
}

fn what(image: &ImageRef) -> String {
    format!("the image {image}")
}

fn manifest_ask<'a>(
    upstream: &Upstream,
    image: &'a ImageRef,
    reference: &str,
    method: Method,
) -> Ask<'a> {
    Ask {
        method,
        url: upstream.url(&format!("{}/manifests/{reference}", image.repository())),
        accept: ACCEPT,
        repository: image.repository(),
        what: format!("the image {}:{reference}", image.repository()).replace(":sha", "@sha"),
        limit: MAX_MANIFEST,
    }
}

async fn fetch_manifest(
    upstream: &Upstream,
    image: &ImageRef,
    reference: &str,
) -> Result<(Manifest, Digest), RegistryError> {
    let ask = manifest_ask(upstream, image, reference, Method::GET);
    let reply = upstream.ask(&ask).await?;
    if is_html(&reply) {
        return Err(malformed(upstream, &ask.what, "a web page"));
    }
    // By digest: the content must be what was asked for. By tag: what the registry says it is.
    let expected = Digest::parse(reference).or_else(|| announced(&reply));
    let digest = verified(upstream, &ask.what, &reply.body, expected)?;
    let manifest = serde_json::from_slice(&reply.body).map_err(|error| {
        let detail = format!("no manifest ({})", excerpt(&error.to_string()));
        malformed(upstream, &ask.what, &detail)
    })?;
    Ok((manifest, digest))
}

async fn fetch_config(
    upstream: &Upstream,
    image: &ImageRef,
    digest: &Digest,
) -> Result<Value, RegistryError> {
    let repository = Repository::from(image);
    let ask = Ask {
        method: Method::GET,
        url: upstream.url(&format!("{}/blobs/{digest}", repository.path())),
        accept: "*/*",
        repository: repository.path(),
        what: format!("the configuration of {}", repository.path()),
        limit: MAX_CONFIG,
    };
    let reply = upstream.ask(&ask).await?;
    verified(upstream, &ask.what, &reply.body, Some(digest.clone()))?;
    let value: Value = crate::json::read(&reply.body).map_err(|error| {
        let detail = format!("no configuration ({})", excerpt(&error.to_string()));
        malformed(upstream, &ask.what, &detail)
    })?;
    if !value.is_object() {
        return Err(malformed(upstream, &ask.what, "no configuration"));
    }
    Ok(value)
}

/// What the registry says that the manifest's digest is.
fn announced(reply: &Reply) -> Option<Digest> {
    let value = reply.headers.get("docker-content-digest")?;
    Digest::parse(value.to_str().ok()?.trim())
}

/// The digest of `content`, in the algorithm of `expected`, which it must equal.
fn verified(
    upstream: &Upstream,
    what: &str,
    content: &[u8],
    expected: Option<Digest>,
) -> Result<Digest, RegistryError> {
    let sha512 = expected
        .as_ref()
        .is_some_and(|digest| digest.as_str().starts_with("sha512:"));
    let text = if sha512 {
        format!("sha512:{}", hex::encode(Sha512::digest(content)))
    } else {
        format!("sha256:{}", hex::encode(Sha256::digest(content)))
    };
    let found =
        Digest::parse(&text).ok_or_else(|| malformed(upstream, what, "no usable digest"))?;
    match expected {
        Some(expected) if expected != found => Err(RegistryError::DigestMismatch {
            registry: upstream.name.clone(),
            what: what.to_owned(),
            expected,
            found,
        }),
        _ => Ok(found),
    }
}

/// The entry that runs best on `platform`; the first of equals. Attestations say
/// `unknown/unknown` and so fit nowhere. An entry without a platform may be an index.
fn choose<'e>(entries: &'e [Descriptor], platform: &Platform) -> Option<&'e Descriptor> {
    let mut best: Option<(u32, &Descriptor)> = None;
    for entry in entries {
        let fit = match &entry.platform {
            Some(offered) => platform.fit(&offered.platform()),
            None => is_index(&entry.media_type).then_some(0),
        };
        if let Some(fit) = fit
            && best.is_none_or(|(other, _)| fit > other)
        {
            best = Some((fit, entry));
        }
    }
    best.map(|(_, entry)| entry)
}

fn available(entries: &[Descriptor]) -> String {
    let mut platforms: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.platform.as_ref())
        .filter(|offered| offered.os != "unknown")
        .map(|offered| excerpt(&offered.platform().to_string()))
        .collect();
    platforms.dedup();
    platforms.truncate(12);
    if platforms.is_empty() {
        "none".to_owned()
    } else {
        platforms.join(", ")
    }
}

fn is_index(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

fn is_image_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.docker.container.image.v1+json"
            | "application/vnd.oci.image.config.v1+json"
            // What BuildKit's first versions and some old tools wrote.
            | "application/octet-stream"
            | ""
    )
}

fn malformed(upstream: &Upstream, what: &str, detail: &str) -> RegistryError {
    RegistryError::Malformed {
        registry: upstream.name.clone(),
        what: what.to_owned(),
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/');
        let mut next = || parts.next().unwrap_or_default();
        let (os, architecture) = (next(), next());
        Platform::new(os, architecture, Some(next()))
    }

    fn check(here: &str, offered: &[&str]) -> Option<usize> {
        let entries: Vec<Descriptor> = offered
            .iter()
            .map(|text| {
                let offered = platform(text);
                Descriptor {
                    media_type: String::new(),
                    digest: String::new(),
                    size: 0,
                    platform: Some(OfferedPlatform {
                        os: offered.os,
                        architecture: offered.architecture,
                        variant: offered.variant,
                    }),
                }
            })
            .collect();
        let chosen = choose(&entries, &platform(here))?;
        entries.iter().position(|entry| std::ptr::eq(entry, chosen))
    }

    #[test]
    fn the_best_entry_for_the_platform_is_chosen() {
        assert_eq!(
            check("linux/amd64", &["linux/arm64", "linux/amd64"]),
            Some(1)
        );
        assert_eq!(
            check("linux/x86_64", &["unknown/unknown", "linux/amd64"]),
            Some(1)
        );
        assert_eq!(
            check("linux/amd64", &["windows/amd64", "linux/arm/v7"]),
            None
        );
        assert_eq!(
            check("linux/arm/v7", &["linux/arm/v6", "linux/arm/v7"]),
            Some(1)
        );
        assert_eq!(
            check("linux/armv6l", &["linux/arm/v7", "linux/arm/v6"]),
            Some(1)
        );
        assert_eq!(check("linux/arm/v6", &["linux/arm/v7"]), None);
        assert_eq!(check("linux/arm/v7", &["linux/arm/v5"]), Some(0));
        assert_eq!(check("linux/aarch64", &["linux/arm64/v8"]), Some(0));
        assert_eq!(check("linux/arm64/v8", &["linux/arm64"]), Some(0));
        assert_eq!(
            check("linux/amd64", &["linux/amd64/v3", "linux/amd64"]),
            Some(1)
        );
        assert_eq!(
            check("linux/amd64", &["linux/amd64", "linux/amd64"]),
            Some(0)
        );
        assert_eq!(check("linux/amd64", &[]), None);
    }
}
