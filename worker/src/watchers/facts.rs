//! From an engine's inspect documents to `ContainerFacts`. Pure: everything it needs is an
//! argument.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Utc};
use plimsoll_domain::{
    candidate::{TagRules, watches_digest},
    container::{ContainerFacts, Details, DigestFacts, Health, ImageFacts, RegistryFacts},
    ids::ContainerId,
    image::ImageRef,
    labels::{ContainerRules, TagFamily, UserLabels},
    redact::EnvVar,
    stack::Wiring,
    tag::inspected_version,
};
use serde_json::Value;

use super::settings::WatcherSettings;

/// What an image says of itself, from `GET /images/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ImageInfo {
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub architecture: String,
    pub os: String,
    pub variant: Option<String>,
    pub created: Option<DateTime<Utc>>,
    pub labels: BTreeMap<String, String>,
    /// The whole document, for `dd.inspect.tag.path`.
    pub document: Value,
}

impl ImageInfo {
    pub fn read(document: Value) -> Self {
        Self {
            id: text(&document["Id"]).unwrap_or_default(),
            repo_tags: texts(&document["RepoTags"]),
            repo_digests: texts(&document["RepoDigests"]),
            architecture: text(&document["Architecture"]).unwrap_or_default(),
            os: text(&document["Os"]).unwrap_or_default(),
            variant: text(&document["Variant"]),
            created: instant(&document["Created"]),
            labels: labels(&document["Config"]["Labels"]),
            document,
        }
    }

    /// An image that is no longer on the engine, although a container of it is.
    pub fn missing(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            ..Self::default()
        }
    }

    /// The digest that it has in the repository of `reference`.
    pub fn digest_in(&self, reference: &ImageRef) -> Option<String> {
        let repository = reference.repository_key();
        let known = self.repo_digests.iter();
        let mut known = known.filter_map(|known| ImageRef::parse(known).ok());
        let known = known.find(|known| known.repository_key() == repository)?;
        Some(known.digest()?.as_str().to_owned())
    }
}

/// Why an inspect document is of no use. One such container is left out; the others are not
/// affected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FactsError {
    #[error("the engine described a container without a usable id")]
    NoId,
    #[error("the engine described container {0} without a name")]
    NoName(ContainerId),
}

/// The reference that a container was created from. Docker shows an image id in its place when the
/// tag has moved on, or when the container was created from an id: then a tag or digest that the
/// image still has stands in for it.
pub fn image_reference(inspect: &Value, image: &ImageInfo) -> Option<ImageRef> {
    let named = inspect["Config"]["Image"].as_str().unwrap_or_default();
    ImageRef::parse(named).ok().or_else(|| {
        image
            .repo_tags
            .iter()
            .chain(&image.repo_digests)
            .find_map(|known| ImageRef::parse(known).ok())
    })
}

/// Reads `GET /containers/{id}/json`. `reference` is what [`image_reference`] found, `registry`
/// what the configured registries call its registry.
pub fn container_facts(
    inspect: &Value,
    image: &ImageInfo,
    reference: Option<&ImageRef>,
    registry: Option<RegistryFacts>,
    watcher: &WatcherSettings,
) -> Result<ContainerFacts, FactsError> {
    let id = inspect["Id"]
        .as_str()
        .and_then(ContainerId::parse)
        .ok_or(FactsError::NoId)?;
    let name = container_name(inspect).ok_or_else(|| FactsError::NoName(id.clone()))?;
    let config = &inspect["Config"];
    let labels = labels(&config["Labels"]);
    let user_labels = UserLabels::new(&labels, &image.labels);
    let mut rules = user_labels.rules();
    if watcher.tag_family != TagFamily::default() {
        rules.tag_family.get_or_insert(watcher.tag_family);
    }
    if let Some(policy) = watcher.policy() {
        rules.policy = Some(match &rules.policy {
            Some(declared) => declared.over(&policy),
            None => policy,
        });
    }
    let state = &inspect["State"];
    let source_repo = [
        "org.opencontainers.image.source",
        "org.label-schema.vcs-url",
    ]
    .iter()
    .find_map(|key| labels.get(*key).or_else(|| image.labels.get(*key)))
    .filter(|url| url.starts_with("https://") || url.starts_with("http://"))
    .cloned();
    Ok(ContainerFacts {
        compose: user_labels.compose(),
        manager: user_labels.manager(),
        wiring: Wiring::read(&user_labels, inspect),
        image: image_facts(inspect, image, reference, registry, &rules),
        status: text(&state["Status"]).unwrap_or_else(|| "unknown".to_owned()),
        health: state["Health"]["Status"].as_str().and_then(Health::parse),
        created: instant(&inspect["Created"]),
        source_repo,
        details: Details {
            ports: ports(&inspect["NetworkSettings"]["Ports"]),
            volumes: volumes(&inspect["Mounts"]),
            env: texts(&config["Env"])
                .iter()
                .map(|variable| EnvVar::from_docker(variable))
                .collect(),
            started_at: instant(&state["StartedAt"]),
        },
        compose_image: None,
        compose_labels: None,
        auto_remove: inspect["HostConfig"]["AutoRemove"] == true,
        watcher: watcher.reference.clone(),
        id,
        name,
        rules,
        labels,
    })
}

/// Without Docker's leading slash.
pub fn container_name(inspect: &Value) -> Option<String> {
    let name = inspect["Name"].as_str()?.trim_start_matches('/');
    (!name.is_empty()).then(|| name.to_owned())
}

fn image_facts(
    inspect: &Value,
    image: &ImageInfo,
    reference: Option<&ImageRef>,
    registry: Option<RegistryFacts>,
    rules: &ContainerRules,
) -> ImageFacts {
    // A filter that cannot be compiled is reported by the watch; the tag is what it is.
    let tag = TagRules::compile(rules)
        .unwrap_or_default()
        .tag_facts(&shown_tag(image, reference, rules));
    let repo = reference.and_then(|reference| image.digest_in(reference));
    ImageFacts {
        id: text(&inspect["Image"]).unwrap_or_else(|| image.id.clone()),
        name: match reference {
            Some(reference) => reference.repository().to_owned(),
            None => text(&inspect["Config"]["Image"]).unwrap_or_default(),
        },
        digest: DigestFacts {
            watch: reference.is_some_and(|reference| watches_digest(reference, &tag, rules)),
            value: repo.clone(),
            repo,
            repo_digests: image.repo_digests.clone(),
        },
        tag,
        registry: RegistryFacts {
            lookup_image: rules.lookup_image.clone(),
            ..registry.unwrap_or(RegistryFacts {
                name: String::new(),
                url: String::new(),
                lookup_image: None,
            })
        },
        architecture: image.architecture.clone(),
        os: image.os.clone(),
        variant: image.variant.clone(),
        created: image.created,
        is_local_image: image.repo_digests.is_empty(),
    }
}

/// The tag, or what `dd.inspect.tag.path` points at in the image's own document.
fn shown_tag(image: &ImageInfo, reference: Option<&ImageRef>, rules: &ContainerRules) -> String {
    let inspected = rules
        .inspect_tag_path
        .as_deref()
        .and_then(|path| inspected_version(&image.document, path));
    if let Some(inspected) = inspected {
        return inspected;
    }
    match reference {
        Some(reference) => match (reference.tag(), reference.digest()) {
            (Some(tag), _) => tag.as_str().to_owned(),
            // A reference that is only a digest names one image for ever.
            (None, Some(_)) => String::new(),
            (None, None) => "latest".to_owned(),
        },
        None => String::new(),
    }
}

fn ports(ports: &Value) -> Vec<String> {
    let Some(ports) = ports.as_object() else {
        return Vec::new();
    };
    let mut shown = Vec::new();
    for (port, bindings) in ports {
        match bindings.as_array() {
            Some(bindings) if !bindings.is_empty() => {
                shown.extend(bindings.iter().map(|binding| {
                    let host = binding["HostIp"].as_str().unwrap_or_default();
                    let host_port = binding["HostPort"].as_str().unwrap_or_default();
                    let host = match host {
                        "" => "0.0.0.0".to_owned(),
                        v6 if v6.contains(':') => format!("[{v6}]"),
                        v4 => v4.to_owned(),
                    };
                    format!("{host}:{host_port}->{port}")
                }));
            }
            _ => shown.push(port.clone()),
        }
    }
    shown
}

fn volumes(mounts: &Value) -> Vec<String> {
    let mounts = mounts.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut shown: Vec<String> = mounts
        .iter()
        .map(|mount| {
            let part = |key: &str| mount[key].as_str().unwrap_or_default();
            let source = match part("Name") {
                "" => part("Source"),
                name => name,
            };
            let destination = part("Destination");
            let mode = match (part("Mode"), &mount["RW"]) {
                ("", Value::Bool(false)) => "ro",
                (mode, _) => mode,
            };
            match (source, mode) {
                ("", _) => destination.to_owned(),
                (_, "") => format!("{source}:{destination}"),
                _ => format!("{source}:{destination}:{mode}"),
            }
        })
        .collect();
    // The engine lists mounts in the order of a hash table.
    shown.sort();
    shown
}

fn labels(value: &Value) -> BTreeMap<String, String> {
    let Some(labels) = value.as_object() else {
        return BTreeMap::new();
    };
    labels
        .iter()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn text(value: &Value) -> Option<String> {
    value
        .as_str()
        .filter(|text| !text.is_empty())
        .map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(text).collect()
}

/// Docker writes the year 1 for "never".
fn instant(value: &Value) -> Option<DateTime<Utc>> {
    let instant: DateTime<Utc> = value.as_str()?.parse().ok()?;
    (instant.year() > 1).then_some(instant)
}

#[cfg(test)]
mod tests {
    use plimsoll_domain::{ids::WatcherRef, schedule::CronSchedule};
    use serde_json::json;

    use super::*;
    use crate::docker::EngineAddress;

    const DIGEST: &str = "sha256:ca0edc3fb0b4647963629bdfccbb3ccfa352184b45a9b4145832000c2878dd72";

    fn image(digests: &[&str]) -> ImageInfo {
        ImageInfo::read(json!({
            "Id": "sha256:1",
            "RepoTags": ["ghcr.io/team/app:1.2.3"],
            "RepoDigests": digests,
            "Architecture": "amd64",
            "Os": "linux",
            "Created": "2026-01-01T00:00:00Z",
            "Config": { "Labels": { "dd.watch": "false" } },
        }))
    }

    fn read(name: &str, image: &ImageInfo) -> ContainerFacts {
        let inspect = json!({
            "Id": "a".repeat(64),
            "Name": "/app",
            "Created": "2026-02-01T00:00:00Z",
            "Image": "sha256:1",
            "State": { "Status": "created", "StartedAt": "0001-01-01T00:00:00Z" },
            "Config": {
                "Image": name,
                "Env": ["TZ=UTC", "DB_PASSWORD=hunter2"],
                "Labels": { "dd.watch": "false", "dd.group": "web" },
            },
            "NetworkSettings": { "Ports": {
                "80/tcp": [{ "HostIp": "::", "HostPort": "8080" }],
                "90/udp": null,
            } },
            "Mounts": [
                { "Type": "volume", "Name": "data", "Source": "/x/y", "Destination": "/data", "RW": true },
                { "Type": "bind", "Source": "/etc/a", "Destination": "/a", "Mode": "", "RW": false },
            ],
        });
        let schedule = CronSchedule::parse("0 * * * *", "").unwrap();
        let settings =
            WatcherSettings::new(WatcherRef::local("local"), EngineAddress::local(), schedule);
        let reference = image_reference(&inspect, image);
        let registry = reference.as_ref().map(|reference| RegistryFacts {
            name: "ghcr".to_owned(),
            url: reference.registry_url(),
            lookup_image: None,
        });
        container_facts(&inspect, image, reference.as_ref(), registry, &settings).unwrap()
    }

    #[test]
    fn the_parts_of_an_inspection_are_found() {
        let known = format!("ghcr.io/team/app@{DIGEST}");
        let facts = read(
            "ghcr.io/team/app:1.2.3",
            &image(&["mirror/app@sha256:0", &known]),
        );
        assert_eq!(facts.name, "app");
        assert_eq!(facts.identity_key().as_str(), "::local::app");
        assert_eq!(facts.image.name, "team/app");
        assert_eq!(facts.image.tag.value, "1.2.3");
        assert_eq!(facts.image.digest.repo.as_deref(), Some(DIGEST));
        assert_eq!(facts.details.ports, ["[::]:8080->80/tcp", "90/udp"]);
        assert_eq!(facts.details.volumes, ["/etc/a:/a:ro", "data:/data"]);
        assert_eq!(facts.details.started_at, None, "never started");
        assert_eq!(facts.rules.group.as_deref(), Some("web"));
        assert_eq!(
            facts.rules.watch, None,
            "the image's own label is not the user's"
        );
        let stored = serde_json::to_string(&facts).unwrap();
        assert!(!stored.contains("hunter2"), "{stored}");
    }

    #[test]
    fn a_lost_reference_is_found_by_the_images_tags() {
        let facts = read("sha256:1", &image(&[&format!("ghcr.io/team/app@{DIGEST}")]));
        assert_eq!(facts.image.tag.value, "1.2.3");
    }

    #[test]
    fn an_image_that_no_registry_knows_is_local() {
        assert!(
            read("ghcr.io/team/app:1.2.3", &image(&[]))
                .image
                .is_local_image
        );
    }

    #[test]
    fn a_reference_by_digest_alone_has_no_tag() {
        let name = format!("ghcr.io/team/app@{DIGEST}");
        let facts = read(&name, &image(&[&name]));
        assert_eq!(facts.image.tag.value, "");
        assert!(!facts.image.digest.watch);
        assert_eq!(
            read("ghcr.io/team/app", &image(&[&name])).image.tag.value,
            "latest"
        );
    }
}
