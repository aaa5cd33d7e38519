//! What registries and build systems send when something was pushed: which repositories it names.
//!
//! Read from the payloads that the products document: Docker Hub ("Webhooks"), GitHub (events
//! `package` and `registry_package`), Harbor ("Configure Webhook Notifications", both of its
//! formats), Quay ("Repository Notifications"), CNCF Distribution ("Work with notifications", which
//! Azure's registry sends one by one), and a form of our own for everything else. Only the
//! repositories decide: what is there is then asked of the registry itself, so a payload that lies
//! costs one check.

use std::fmt;

use serde_json::Value;
use thiserror::Error;

use crate::image::ImageRef;

/// Who sends events of this form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushSource {
    DockerHub,
    Ghcr,
    Harbor,
    Quay,
    /// CNCF Distribution, the `registry:2` image and what is made of it.
    Distribution,
    /// The form that anybody may send.
    Generic,
}

impl PushSource {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DockerHub => "dockerhub",
            Self::Ghcr => "ghcr",
            Self::Harbor => "harbor",
            Self::Quay => "quay",
            Self::Distribution => "distribution",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for PushSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DockerHub => "Docker Hub",
            Self::Ghcr => "GitHub",
            Self::Harbor => "Harbor",
            Self::Quay => "Quay",
            Self::Distribution => "distribution",
            Self::Generic => "generic",
        })
    }
}

/// What was pushed. One push may be told under several names of its registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushEvent {
    pub source: PushSource,
    /// At least one, each once.
    pub images: Vec<ImageRef>,
    /// Whether the body names the moment or the event, so that an equal body is the same push told
    /// again. Quay's for one is equal for each push of a tag.
    pub unique: bool,
}

/// A payload that was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegistryEvent {
    Push(PushEvent),
    /// A pull, a deletion, a test of the connection: nothing was pushed.
    Other(PushSource),
}

/// Why a payload says nothing. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PushEventError {
    #[error("The body is not JSON: {0}")]
    NotJson(String),
    #[error(
        "The body is no event that is known: expected one of Docker Hub, GitHub (package), Harbor, \
         Quay or distribution, or {{\"image\": \"host/repository:tag\"}}"
    )]
    Unknown,
    #[error("The {0} event names no image: {1} is missing or cannot be read")]
    Nameless(PushSource, &'static str),
}

/// Reads a payload; `github_event` is the header `X-GitHub-Event`.
pub fn parse(github_event: Option<&str>, body: &[u8]) -> Result<RegistryEvent, PushEventError> {
    let body: Value =
        serde_json::from_slice(body).map_err(|e| PushEventError::NotJson(e.to_string()))?;
    let has = |field: &str| body.get(field).is_some_and(|value| !value.is_null());
    let is_object = |field: &str| body.get(field).is_some_and(Value::is_object);
    match github_event {
        Some("package" | "registry_package") => return github(&body),
        Some(_) => return Ok(RegistryEvent::Other(PushSource::Ghcr)),
        None => {}
    }
    if is_object("package") || is_object("registry_package") {
        github(&body)
    } else if let Some(events) = body.get("events").and_then(Value::as_array) {
        distribution(events)
    } else if has("specversion") || has("event_data") {
        harbor(&body)
    } else if is_object("push_data") {
        docker_hub(&body)
    } else if has("docker_url") {
        quay(&body)
    } else if has("action") {
        distribution(std::slice::from_ref(&body))
    } else if has("image") || has("repository") {
        generic(&body)
    } else {
        Err(PushEventError::Unknown)
    }
}

/// `POST` of the events `package` and `registry_package`, which differ in the name of one field.
fn github(body: &Value) -> Result<RegistryEvent, PushEventError> {
    let source = PushSource::Ghcr;
    let package = body.get("package").or_else(|| body.get("registry_package"));
    let package = package.ok_or(PushEventError::Nameless(source, "package"))?;
    let is = |field: &str, word: &str| {
        text(package, &[field]).is_some_and(|found| found.eq_ignore_ascii_case(word))
    };
    let published = matches!(text(body, &["action"]), Some("published" | "updated"));
    if !published || !(is("package_type", "container") || is("ecosystem", "container")) {
        return Ok(RegistryEvent::Other(source));
    }
    let tag = package.pointer("/package_version/container_metadata/tag");
    let part = |field| tag.and_then(|tag| text(tag, &[field]));
    // An image without a tag has an address that ends with the colon.
    let address = text(package, &["package_version", "package_url"])
        .map(|url| url.trim_end_matches(':').to_lowercase());
    let owner = text(package, &["namespace"]).or_else(|| text(package, &["owner", "login"]));
    let built = owner
        .zip(text(package, &["name"]))
        .map(|(owner, name)| format!("ghcr.io/{owner}/{name}").to_lowercase());
    let image = address
        .and_then(|address| image(&address, None, None))
        .filter(|image| !image.is_docker_hub())
        .or_else(|| image(&built?, part("name"), part("digest")));
    pushed(source, "package.package_version.package_url", image, false)
}

fn docker_hub(body: &Value) -> Result<RegistryEvent, PushEventError> {
    let image = text(body, &["repository", "repo_name"])
        .and_then(|name| image(name, text(body, &["push_data", "tag"]), None));
    let dated = body.pointer("/push_data/pushed_at").is_some();
    pushed(PushSource::DockerHub, "repository.repo_name", image, dated)
}

/// Both of Harbor's formats: its own, and CloudEvents.
fn harbor(body: &Value) -> Result<RegistryEvent, PushEventError> {
    let source = PushSource::Harbor;
    let (data, dated) = match body.get("event_data") {
        Some(data) => (data, "occur_at"),
        None => (body.get("data").unwrap_or(&Value::Null), "id"),
    };
    match text(body, &["type"]) {
        Some("PUSH_ARTIFACT" | "pushImage" | "harbor.artifact.pushed") => {}
        Some(other) if body.get("event_data").is_some() || other.starts_with("harbor.") => {
            return Ok(RegistryEvent::Other(source));
        }
        _ => return Err(PushEventError::Unknown),
    }
    let resources = data.get("resources").and_then(Value::as_array);
    let images = resources
        .into_iter()
        .flatten()
        .filter_map(|resource| image(text(resource, &["resource_url"])?, None, None));
    let unique = body.get(dated).is_some();
    pushed(source, "resources[].resource_url", images, unique)
}

fn quay(body: &Value) -> Result<RegistryEvent, PushEventError> {
    let source = PushSource::Quay;
    // A list; older ones have an object with the tags as its keys.
    let tags: Vec<&str> = match body.get("updated_tags") {
        Some(Value::Array(tags)) => tags.iter().filter_map(Value::as_str).collect(),
        Some(Value::Object(tags)) => tags.keys().map(String::as_str).collect(),
        _ => return Ok(RegistryEvent::Other(source)),
    };
    let url = text(body, &["docker_url"]);
    let images = tags
        .into_iter()
        .filter_map(|tag| image(url?, Some(tag), None));
    pushed(source, "docker_url", images, false)
}

/// Layers are told of, too, and so are pulls.
fn distribution(events: &[Value]) -> Result<RegistryEvent, PushEventError> {
    let source = PushSource::Distribution;
    let is_push = |event: &&Value| {
        let kind = text(event, &["target", "mediaType"]);
        let of_image = kind.is_none_or(|kind| kind.contains("manifest") || kind.contains("index"));
        text(event, &["action"]) == Some("push") && of_image
    };
    let pushes: Vec<&Value> = events.iter().filter(is_push).collect();
    if pushes.is_empty() {
        return Ok(RegistryEvent::Other(source));
    }
    let images = pushes.iter().flat_map(|event| {
        let part = |field| text(event, &["target", field]);
        // Behind a proxy the registry may know itself by another name than its clients do.
        let url = part("url").and_then(host_of);
        let hosts = [text(event, &["request", "host"]), url];
        hosts.into_iter().flatten().filter_map(move |host| {
            let name = format!("{host}/{}", part("repository")?);
            image(&name, part("tag"), part("digest"))
        })
    });
    let unique = pushes.iter().all(|event| text(event, &["id"]).is_some());
    pushed(
        source,
        "target.repository with request.host",
        images,
        unique,
    )
}

/// `{"image": "host/repository:tag"}`, or `repository` with `tag` and `digest` where they are known.
fn generic(body: &Value) -> Result<RegistryEvent, PushEventError> {
    let part = |field| text(body, &[field]);
    let image = match part("image") {
        Some(name) => image(name, None, None),
        None => part("repository").and_then(|name| image(name, part("tag"), part("digest"))),
    };
    // The same tag is pushed again and again.
    pushed(PushSource::Generic, "image or repository", image, false)
}

fn pushed(
    source: PushSource,
    place: &'static str,
    found: impl IntoIterator<Item = ImageRef>,
    unique: bool,
) -> Result<RegistryEvent, PushEventError> {
    let mut images: Vec<ImageRef> = Vec::new();
    for image in found {
        if !images.contains(&image) {
            images.push(image);
        }
    }
    if images.is_empty() {
        return Err(PushEventError::Nameless(source, place));
    }
    Ok(RegistryEvent::Push(PushEvent {
        source,
        images,
        unique,
    }))
}

fn image(name: &str, tag: Option<&str>, digest: Option<&str>) -> Option<ImageRef> {
    let mut reference = name.to_owned();
    if let Some(tag) = tag.filter(|tag| !tag.is_empty()) {
        reference += &format!(":{tag}");
    }
    if let Some(digest) = digest.filter(|digest| !digest.is_empty()) {
        reference += &format!("@{digest}");
    }
    ImageRef::parse(&reference).ok()
}

/// Host and port of an address.
fn host_of(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    rest.split('/').next().filter(|host| !host.is_empty())
}

fn text<'a>(value: &'a Value, path: &[&str]) -> Option<&'a str> {
    path.iter()
        .try_fold(value, |value, field| value.get(field))?
        .as_str()
}

#[cfg(test)]
mod tests;
