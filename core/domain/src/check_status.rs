//! What a check says of a container in one word, with what belongs to it: the form in which clients
//! that do not judge for themselves want it (reference/docksmith-dokploy-dockup.md 1.2, 1.4). It
//! decides nothing anew: updates are those of `assessment`, and what bars them is the one list of
//! `eligibility`.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::assessment::{Assessment, UpdateKindName, assess};
use crate::change::Change;
use crate::container::{ContainerFacts, ContainerState, TagPrecision, WatchResult};
use crate::eligibility::{Blocker, BlockerReason, Severity, evaluate_assessed};
use crate::image::ImageRef;
use crate::tag::{ParsedTag, labelled_version};
use crate::view::ViewContext;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum CheckStatus {
    UpToDate,
    /// It runs what its mutable tag means, and a tag that stands still has the same image:
    /// `Check::recommended_tag`.
    UpToDatePinnable,
    UpdateAvailable,
    /// There is an update, and a request for it would be refused, or failed when its check was
    /// asked last: `Check::blockers`.
    UpdateAvailableBlocked,
    /// It runs another image than its Compose file names.
    ComposeMismatch,
    /// Built here: no registry knows the image.
    LocalImage,
    /// A label asks not to look.
    Ignored,
    /// Nothing is known: `Check::error`.
    Error,
}

/// Why a check came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckError<'a> {
    /// No watch has spoken about the image that runs.
    NotChecked,
    /// The watch failed, or a label cannot be read.
    Failed(&'a str),
    /// The engine has forgotten which repository the image came from.
    Unnamed,
    /// Only a digest would tell, and this container's is not watched.
    NotCompared,
}

impl CheckError<'_> {
    /// For people.
    pub fn message(&self) -> &str {
        match self {
            CheckError::NotChecked => "The container has not been checked yet",
            CheckError::Failed(message) => message,
            CheckError::Unnamed => {
                "The engine no longer knows which repository the image came from"
            }
            CheckError::NotCompared => {
                "The tag is mutable and its digest is not watched; set docksmith.allow-latest=true \
                 or dd.watch.digest=true to compare digests"
            }
        }
    }
}

/// What the container's Compose file says, found by whoever can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComposeImage<'a> {
    /// The image as the engine shows it for the container; a bare id when the tag was lost.
    pub running: &'a str,
    /// `image:` of the service, with its variables filled in. Nothing is said about one that still
    /// has some.
    pub specified: &'a str,
}

impl<'a> ComposeImage<'a> {
    /// As the last look at the container saw it; `None` where no file could be read.
    pub fn of(facts: &'a ContainerFacts) -> Option<Self> {
        facts.compose_image.as_ref().map(|image| Self {
            running: &image.running,
            specified: &image.specified,
        })
    }

    /// Why that is a mismatch (contract/docksmith-api.md).
    pub fn message(&self) -> String {
        format!(
            "Running image ({}) differs from compose specification ({})",
            self.running, self.specified
        )
    }

    /// Whether the two name different images. A tag that is left out is `latest`, and a registry that
    /// is left out is Docker Hub.
    pub fn differs(&self) -> bool {
        let (running, specified) = (self.running.trim(), self.specified.trim());
        if specified.is_empty() || specified.contains("${") {
            return false;
        }
        let Ok(wanted) = ImageRef::parse(specified) else {
            return false;
        };
        let Ok(found) = ImageRef::parse(running) else {
            // A bare id: the container has lost its tag.
            return true;
        };
        let same_digest = match (wanted.digest(), found.digest()) {
            (Some(wanted), Some(found)) => wanted == found,
            _ => true,
        };
        wanted.registry_key() != found.registry_key()
            || wanted.tag_name() != found.tag_name()
            || !same_digest
    }
}

/// One container's check.
#[derive(Clone, Debug, PartialEq)]
pub struct Check<'a> {
    pub status: CheckStatus,
    /// From what runs to what an update would run.
    pub change: Change,
    /// The version that runs, as far as anything says it.
    pub current_version: Option<Cow<'a, str>>,
    /// The tag that an update would run; the running one when only its image is newer.
    pub latest_tag: Option<&'a str>,
    /// A tag that stands still and has the image that the mutable tag stands for now.
    pub recommended_tag: Option<&'a str>,
    /// What bars the update, hard ones first; empty without an update.
    pub blockers: Vec<Blocker>,
    /// The image that the Compose file names, where that is another one.
    pub compose_image: Option<&'a str>,
    pub error: Option<CheckError<'a>>,
}

/// Says what the last watch of `state` means at `now`.
pub fn check<'a>(
    state: &'a ContainerState,
    compose: Option<ComposeImage<'a>>,
    context: &ViewContext,
    now: DateTime<Utc>,
) -> Check<'a> {
    let facts = &*state.facts;
    let result = state.current_result();
    let assessment = assess(state, &context.maturity, now);
    let compose_image = compose
        .filter(ComposeImage::differs)
        .map(|compose| compose.specified);
    let blockers = match assessment.raw {
        true => blockers(state, &assessment, context),
        false => Vec::new(),
    };
    let judged = judge(facts, result, &assessment, &blockers);
    let (status, error) = if facts.rules.watch == Some(false) {
        (CheckStatus::Ignored, None)
    } else if compose_image.is_some() {
        (CheckStatus::ComposeMismatch, None)
    } else if facts.image.is_local_image {
        (CheckStatus::LocalImage, None)
    } else {
        match judged {
            Ok(status) => (status, None),
            Err(error) => (CheckStatus::Error, Some(error)),
        }
    };
    let current_version = running_version(facts, result);
    Check {
        status,
        change: change(facts, result, &assessment, current_version.as_deref()),
        latest_tag: result
            .filter(|_| assessment.raw)
            .map(|result| result.tag.as_deref().unwrap_or(&facts.image.tag.value)),
        recommended_tag: result.and_then(|result| result.recommended_tag.as_deref()),
        current_version,
        blockers,
        compose_image,
        error,
    }
}

fn blockers(
    state: &ContainerState,
    assessment: &Assessment<'_>,
    context: &ViewContext,
) -> Vec<Blocker> {
    let mut blockers = evaluate_assessed(state, assessment, &context.admission).blockers;
    blockers.retain(|blocker| blocker.reason != BlockerReason::NoUpdateAvailable);
    blockers
}

fn judge<'a>(
    facts: &ContainerFacts,
    result: Option<&'a WatchResult>,
    assessment: &Assessment<'_>,
    blockers: &[Blocker],
) -> Result<CheckStatus, CheckError<'a>> {
    let result = result.ok_or(CheckError::NotChecked)?;
    if let Some(error) = &result.error {
        return Err(CheckError::Failed(&error.message));
    }
    if assessment.raw {
        // What only holds back automatic updates bars nothing that is asked for.
        let barred = assessment.suppression.any()
            || blockers.iter().any(|one| {
                one.severity == Severity::Hard || one.reason == BlockerReason::UpdateCheckFailed
            });
        return Ok(match barred {
            true => CheckStatus::UpdateAvailableBlocked,
            false => CheckStatus::UpdateAvailable,
        });
    }
    let image = &facts.image;
    if image.repository().is_none() {
        return Err(CheckError::Unnamed);
    }
    // By digest alone it runs exactly what it names.
    if image.tag.value.is_empty() || !is_mutable(facts) {
        return Ok(CheckStatus::UpToDate);
    }
    let recommended = result.recommended_tag.as_deref();
    let newest = recommended.is_some() && recommended == result.suggested_tag.as_deref();
    if result.digest.is_none() && !newest {
        return Err(CheckError::NotCompared);
    }
    let pinnable =
        recommended.is_some_and(|tag| tag != image.tag.value) && !facts.rules.versions.allow_latest;
    Ok(match pinnable {
        true => CheckStatus::UpToDatePinnable,
        false => CheckStatus::UpToDate,
    })
}

/// Whether the tag may mean another image tomorrow: it is no version, or a line of versions.
pub fn is_mutable(facts: &ContainerFacts) -> bool {
    let tag = &facts.image.tag;
    !tag.semver || tag.tag_precision == TagPrecision::Floating
}

fn change(
    facts: &ContainerFacts,
    result: Option<&WatchResult>,
    assessment: &Assessment<'_>,
    current: Option<&str>,
) -> Change {
    if !assessment.raw {
        return Change::None;
    }
    let to = assessment.kind.remote_value;
    match (assessment.kind.kind, to) {
        (UpdateKindName::Tag, Some(to)) => {
            let from = match is_mutable(facts) {
                true => current.unwrap_or(&facts.image.tag.value),
                false => &facts.image.tag.value,
            };
            compared(facts, from, to)
        }
        (UpdateKindName::Digest, _) if !is_mutable(facts) => Change::Rebuild,
        // The version that the tag means now, where another tag names it.
        (UpdateKindName::Digest, _) => {
            let to = result.and_then(|result| result.recommended_tag.as_deref());
            match (current, to) {
                (Some(from), Some(to)) if from == to => Change::Rebuild,
                (Some(from), Some(to)) => compared(facts, from, to),
                _ => Change::Unknown,
            }
        }
        _ => Change::Unknown,
    }
}

/// As the container's rules compare tags.
fn compared(facts: &ContainerFacts, from: &str, to: &str) -> Change {
    let transform =
        facts.rules.transform_tags.as_deref().and_then(|formula| {
            crate::pattern::Transform::compile("dd.tag.transform", formula).ok()
        });
    match transform {
        Some(transform) => Change::between(&transform.apply(from), &transform.apply(to)),
        None => Change::between(from, to),
    }
}

/// The version that runs: of a tag that names one release, the tag. Of a mutable one, the tag with
/// the same image; else what the image says of itself, unless it calls itself a pre-release of what
/// the tag calls released (as some images do for years); else the tag's own line.
pub fn running_version<'a>(
    facts: &'a ContainerFacts,
    result: Option<&'a WatchResult>,
) -> Option<Cow<'a, str>> {
    let tag = facts.image.tag.value.as_str();
    let from_tag = ParsedTag::parse(tag);
    if from_tag.is_some() && !is_mutable(facts) {
        return Some(Cow::Borrowed(tag));
    }
    if let Some(result) = result
        && let Some(found) = result.recommended_tag.as_deref()
        // Where digests are not watched, the running image was looked for.
        && result
            .digest
            .as_deref()
            .is_none_or(|digest| facts.image.digest.is_current(digest))
    {
        return Some(Cow::Borrowed(found));
    }
    let prerelease =
        |text: &str| ParsedTag::parse(text).is_some_and(|version| version.prerelease().is_some());
    let label = labelled_version(&facts.labels)
        .filter(|label| !(from_tag.is_some() && prerelease(label) && !prerelease(tag)));
    label.or_else(|| from_tag.map(|_| Cow::Borrowed(tag)))
}

#[cfg(test)]
mod tests;
