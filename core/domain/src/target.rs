//! What an update of a container would run: decided from what the last watch found.

use chrono::{DateTime, Utc};

use crate::assessment::{MaturityScale, UpdateKindName, assess};
use crate::container::{ContainerFacts, ContainerState, ImageFacts};
use crate::image::{Digest, ImageRef, Tag};

/// Where an update goes, and how people read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateTarget {
    /// Repository and tag. The digest is fixed when the update is prepared.
    pub image: ImageRef,
    /// The digest the watch saw under that tag; the tag may have moved since.
    pub seen_digest: Option<Digest>,
    pub from_version: String,
    pub to_version: String,
}

impl UpdateTarget {
    /// `repository:tag` as a person would type it.
    pub fn familiar(&self) -> String {
        let name = self.image.familiar_name();
        match self.image.tag() {
            Some(tag) => format!("{name}:{tag}"),
            None => name,
        }
    }
}

impl ContainerFacts {
    /// The repository in which versions of the container's image are looked up: its own, or the one
    /// that a label names. `None` where nothing newer can be found.
    pub fn checked_repository(&self) -> Option<ImageRef> {
        let own = self.image.repository()?;
        if self.image.tag.value.is_empty() {
            return None;
        }
        match self.rules.lookup_image.as_deref() {
            Some(label) => ImageRef::parse(label).ok(),
            None => Some(own),
        }
    }
}

impl ImageFacts {
    /// The repository the container's image comes from. `None` for an image that no registry
    /// knows, or whose reference the engine has lost.
    pub fn repository(&self) -> Option<ImageRef> {
        if self.is_local_image {
            return None;
        }
        let url = &self.registry.url;
        let host = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
        let host = host.split('/').next()?;
        ImageRef::parse(&format!("{host}/{}", self.name)).ok()
    }

    /// `os/arch[/variant]`
    pub fn platform(&self) -> String {
        let mut platform = format!("{}/{}", self.os, self.architecture);
        if let Some(variant) = &self.variant {
            platform.push('/');
            platform.push_str(variant);
        }
        platform
    }
}

/// Repository and tag of what the last watch found to be newer, whether or not the policy holds it
/// back; for a moved digest the tag that runs.
pub fn candidate_image(state: &ContainerState) -> Option<ImageRef> {
    let result = state.current_result()?;
    let tag = result.tag.as_deref();
    let tag = tag.unwrap_or(&state.facts.image.tag.value);
    Some(state.facts.image.repository()?.with_tag(Tag::parse(tag)?))
}

/// The target of an update of `state` at `now`; `None` where no update is available, also when the
/// policy holds it back.
pub fn update_target(
    state: &ContainerState,
    scale: &MaturityScale,
    now: DateTime<Utc>,
) -> Option<UpdateTarget> {
    let assessment = assess(state, scale, now);
    if !assessment.available() {
        return None;
    }
    let result = state.current_result()?;
    let current = &state.facts.image.tag.value;
    let tag = match assessment.kind.kind {
        UpdateKindName::Tag => assessment.kind.remote_value?,
        UpdateKindName::Digest | UpdateKindName::Unknown => current.as_str(),
    };
    let value = |v: Option<&str>| v.unwrap_or(current).to_owned();
    Some(UpdateTarget {
        image: state.facts.image.repository()?.with_tag(Tag::parse(tag)?),
        seen_digest: result.digest.as_deref().and_then(Digest::parse),
        from_version: value(assessment.kind.local_value),
        to_version: value(assessment.kind.remote_value),
    })
}

/// Whether the name is one that a program gave to the container it is replacing: Plimsoll's own
/// `<name>-old-<operation>`, or Drydock's `<name>-old-<milliseconds>`. Such a container is never a
/// candidate: it is somebody's way back.
pub fn is_rollback_name(name: &str) -> bool {
    name.rsplit_once("-old-").is_some_and(|(stem, mark)| {
        let digits = mark.bytes().all(|b| b.is_ascii_digit());
        let hex = mark.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        !stem.is_empty() && ((mark.len() >= 10 && digits) || (mark.len() >= 8 && hex))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_given_by_a_replacement_are_told_from_names_people_choose() {
        for name in [
            "app-old-1733047200000",
            "app-old-0199aa42b6c07",
            "my-old-app-old-1733047200000",
            "app-old-0199aa42-b6c0-7000-8000-000000000000",
        ] {
            assert!(is_rollback_name(name), "{name}");
        }
        for name in [
            "app",
            "app-old",
            "app-old-2",
            "old-app",
            "-old-1733047200000",
            "app-old-blue",
        ] {
            assert!(!is_rollback_name(name), "{name}");
        }
    }
}
