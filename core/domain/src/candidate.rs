//! Which tag a container should go to, given every tag of its repository (reference/drydock.md 3,
//! "Choosing the candidate", in the contract's era: a pinned `1.2.3` climbs in its family).
//!
//! One pass over the tags, in any order, with one answer. Without a `transform` nothing is
//! allocated per tag: a repository may have 100,000.

mod best;
mod limits;
mod standing;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

pub use limits::RulesError;
pub use standing::standing_tags;

use crate::container::{SemverDiff, TagFacts, TagPrecision};
use crate::image::{ImageRef, is_tag};
use crate::labels::{ContainerRules, TagFamily};
use crate::pattern::{Pattern, PatternError, Transform};
use crate::tag::{ParsedTag, Shape};

use best::Best;
use limits::{Limits, Range};

/// Characters of a `docksmith.tag-regex`, as in Docksmith.
const MAX_TAG_REGEX: usize = 500;

/// The rules about tags, compiled once per container and watch.
#[derive(Clone, Debug, Default)]
pub struct TagRules {
    include: Option<Pattern>,
    exclude: Option<Pattern>,
    transform: Option<Transform>,
    family: TagFamily,
    /// What every candidate must match besides, wherever it comes from.
    only: Option<Pattern>,
    limits: Limits,
    prereleases: Prereleases,
}

/// Whether a container that runs a release may go to a pre-release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Prereleases {
    #[default]
    OfItsOwnKind,
    Any,
}

impl TagRules {
    /// The error names the label and is meant for the container's `error.message`. A container whose
    /// rules cannot be compiled has no candidate.
    pub fn compile(rules: &ContainerRules) -> Result<Self, RulesError> {
        let versions = &rules.versions;
        let pattern = |label, text: &Option<String>| {
            text.as_deref()
                .map(|text| Pattern::compile(label, text))
                .transpose()
        };
        Ok(Self {
            include: pattern("dd.tag.include", &rules.include_tags)?,
            exclude: pattern("dd.tag.exclude", &rules.exclude_tags)?,
            transform: rules
                .transform_tags
                .as_deref()
                .map(|formula| Transform::compile("dd.tag.transform", formula))
                .transpose()?,
            family: rules.tag_family.unwrap_or_default(),
            only: versions.tag_regex.as_deref().map(tag_regex).transpose()?,
            limits: Limits::compile(versions)?,
            prereleases: match versions.allow_prerelease {
                true => Prereleases::Any,
                false => Prereleases::OfItsOwnKind,
            },
        })
    }

    /// What a tag is compared as.
    pub fn transform<'t>(&self, tag: &'t str) -> Cow<'t, str> {
        match &self.transform {
            Some(transform) => transform.apply(tag),
            None => Cow::Borrowed(tag),
        }
    }

    /// The tag's facts for `image.tag`.
    pub fn tag_facts(&self, tag: &str) -> TagFacts {
        let text = self.transform(tag);
        let parsed = ParsedTag::parse(&text);
        TagFacts {
            value: tag.to_owned(),
            semver: parsed.is_some_and(|tag| !tag.has_stray_zero()),
            tag_precision: parsed.map_or(TagPrecision::Floating, |tag| tag.precision()),
        }
    }

    fn includes(&self, tag: &str) -> bool {
        self.include
            .as_ref()
            .is_none_or(|include| include.is_match(tag))
    }

    fn admits(&self, tag: &str) -> bool {
        is_tag(tag)
            && !is_attachment(tag)
            && (self.include.is_some() || !tag.starts_with("sha"))
            && self.includes(tag)
            && !self
                .exclude
                .as_ref()
                .is_some_and(|exclude| exclude.is_match(tag))
            && self.only.as_ref().is_none_or(|only| only.is_match(tag))
    }

    /// Whether `tag` is strictly newer than what runs.
    fn is_newer(&self, running: &ParsedTag<'_>, tag: &ParsedTag<'_>) -> bool {
        is_greater(running, tag)
            || (self.prereleases == Prereleases::Any
                && tag.prerelease().is_some()
                && tag.same_flavour(running)
                && tag.cmp_version(running).is_gt())
    }
}

fn tag_regex(text: &str) -> Result<Pattern, PatternError> {
    const LABEL: &str = "docksmith.tag-regex";
    let length = text.chars().count();
    if length > MAX_TAG_REGEX {
        return Err(PatternError::new(
            LABEL,
            format!("the regular expression has {length} characters, more than {MAX_TAG_REGEX}"),
        ));
    }
    Pattern::compile(LABEL, text)
}

/// Signatures and other documents about an image that registries keep as tags.
fn is_attachment(tag: &str) -> bool {
    [".sig", ".att", ".sbom"]
        .iter()
        .any(|end| tag.ends_with(end))
}

/// Why no other tag is proposed. `Display` is the contract's `noUpdateReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoUpdate {
    /// Only a new digest under the same tag is an update.
    NotAVersion,
    /// `1` and `1.2` follow their line by digest.
    Floating,
    /// The filters left no version at all.
    NothingMatches,
    /// There are newer versions, but only in other flavours or schemes.
    OtherFamilies,
    /// There are newer versions in the family, but a pin or a bound excludes them.
    Limited,
    /// It runs the newest one.
    UpToDate,
}

impl fmt::Display for NoUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoUpdate::NotAVersion => {
                "The tag is not a version, so only its digest can be watched; set dd.tag.include to \
                 follow versions"
            }
            NoUpdate::Floating => {
                "The tag follows a line of versions, so only its digest can be watched; set \
                 dd.tag.include or dd.tag.family=loose to follow tags"
            }
            NoUpdate::NothingMatches => "No version among the tags matches the tag filters",
            NoUpdate::OtherFamilies => {
                "Newer versions exist only with another prefix, number of parts or suffix; set \
                 dd.tag.family=loose to follow them"
            }
            NoUpdate::Limited => {
                "Newer versions exist only outside of what docksmith.version-pin-…, version-min and \
                 version-max allow"
            }
            NoUpdate::UpToDate => "No tag is newer",
        })
    }
}

/// What to do about one container's tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision<'t> {
    /// Go to this tag.
    Climb { tag: &'t str, diff: SemverDiff },
    /// Stay on the tag (its digest may still move). `suggested` is a version worth naming to
    /// someone whose tag is none.
    Stay {
        reason: NoUpdate,
        suggested: Option<&'t str>,
    },
}

impl<'t> Decision<'t> {
    /// The proposed tag.
    pub fn tag(&self) -> Option<&'t str> {
        match self {
            Decision::Climb { tag, .. } => Some(tag),
            Decision::Stay { .. } => None,
        }
    }
}

/// Decides for a container that runs `current`. `tags` are all tags of the repository, in any
/// order; texts that are no tags are ignored.
pub fn decide<'t, T: AsRef<str>>(current: &str, tags: &'t [T], rules: &TagRules) -> Decision<'t> {
    let stay = |reason| Decision::Stay {
        reason,
        suggested: None,
    };
    let text = rules.transform(current);
    // A stray zero makes other people's tags suspect; the tag that runs is what it is.
    let running = ParsedTag::parse(&text);
    if rules.include.is_some() && !rules.includes(current) {
        return recover(running.as_ref(), tags, rules);
    }
    let Some(running) = running else {
        let suggested = rules
            .include
            .is_none()
            .then(|| newest_release(tags, rules))
            .flatten();
        return Decision::Stay {
            reason: NoUpdate::NotAVersion,
            suggested,
        };
    };
    if running.precision() == TagPrecision::Floating
        && rules.family == TagFamily::Strict
        && rules.include.is_none()
    {
        return stay(NoUpdate::Floating);
    }
    let mut best = Best::new(Some(running), rules);
    let range = rules.limits.range(Some(running));
    let (mut others, mut limited) = (false, false);
    for tag in tags.iter().map(AsRef::as_ref) {
        if !rules.admits(tag) {
            continue;
        }
        let text = rules.transform(tag);
        let Some(parsed) = ParsedTag::parse(&text) else {
            continue;
        };
        if !rules.is_newer(&running, &parsed) {
            continue;
        }
        if !is_family(&running, &parsed, rules) {
            others = true;
        } else if range.holds(&parsed) {
            best.offer(tag, &parsed);
        } else {
            limited = true;
        }
    }
    match best.tag() {
        Some((tag, diff)) => Decision::Climb { tag, diff },
        None if limited => stay(NoUpdate::Limited),
        None if others => stay(NoUpdate::OtherFamilies),
        None => stay(NoUpdate::UpToDate),
    }
}

/// The running tag is outside of its own include filter: the user wants something else than what
/// runs, so the filters alone decide, but still only upwards.
fn recover<'t, T: AsRef<str>>(
    running: Option<&ParsedTag<'_>>,
    tags: &'t [T],
    rules: &TagRules,
) -> Decision<'t> {
    let mut best = Best::new(running.copied(), rules);
    let range = rules.limits.range(running.copied());
    let (mut matched, mut limited) = (false, false);
    for tag in tags.iter().map(AsRef::as_ref) {
        if !rules.admits(tag) {
            continue;
        }
        let text = rules.transform(tag);
        let Some(parsed) = ParsedTag::parse(&text).filter(|tag| !tag.has_stray_zero()) else {
            continue;
        };
        if counts_builds(running, &parsed) {
            continue;
        }
        matched = true;
        if running.is_none_or(|running| rules.is_newer(running, &parsed)) {
            if range.holds(&parsed) {
                best.offer(tag, &parsed);
            } else {
                limited = true;
            }
        }
    }
    let reason = if limited {
        NoUpdate::Limited
    } else if matched {
        NoUpdate::UpToDate
    } else {
        NoUpdate::NothingMatches
    };
    match best.tag() {
        Some((tag, diff)) => Decision::Climb { tag, diff },
        None => Decision::Stay {
            reason,
            suggested: None,
        },
    }
}

/// Whether `tag` is strictly newer than `running`: by its parts, else a release after its own
/// pre-release, else by the numbers in an equal suffix.
pub fn is_greater(running: &ParsedTag<'_>, tag: &ParsedTag<'_>) -> bool {
    match tag.cmp_parts(running) {
        Ordering::Greater => true,
        Ordering::Less => false,
        Ordering::Equal => {
            let released = running
                .prerelease()
                .is_some_and(|mark| mark.released_as(tag.suffix()));
            let next = tag.shape_against(running) == Shape::Same
                && tag.cmp_suffix_numbers(running) == Ordering::Greater;
            released || next
        }
    }
}

fn is_family(running: &ParsedTag<'_>, tag: &ParsedTag<'_>, rules: &TagRules) -> bool {
    if tag.has_stray_zero() && !running.has_stray_zero() || counts_builds(Some(running), tag) {
        return false;
    }
    let any = rules.prereleases == Prereleases::Any;
    // `-alpine` to `-alpine-rc1` is another shape already; this is for marks that are pure
    // extensions.
    let mark = any || running.prerelease().is_some() || tag.prerelease().is_none();
    match rules.family {
        TagFamily::Strict => {
            tag.prefix() == running.prefix()
                && tag.parts().len() == running.parts().len()
                && tag.same_scheme(running)
                && mark
                && is_flavour(running, tag, rules.prereleases)
        }
        TagFamily::Loose => {
            bare(tag.prefix()) == bare(running.prefix()) && tag.same_scheme(running) && mark
        }
    }
}

/// Same shape of suffix, or its own release, or apart from LinuxServer's build counter the same.
fn is_flavour(running: &ParsedTag<'_>, tag: &ParsedTag<'_>, prereleases: Prereleases) -> bool {
    let released = running
        .prerelease()
        .is_some_and(|mark| mark.released_as(tag.suffix()));
    let same_kind = prereleases == Prereleases::Any
        || tag.prerelease().is_none() && running.prerelease().is_none();
    released
        || tag.shape_against(running) != Shape::Different
        || same_kind && tag.same_flavour(running)
}

/// A number too big for a version is one only for who runs such a number.
fn counts_builds(running: Option<&ParsedTag<'_>>, tag: &ParsedTag<'_>) -> bool {
    tag.is_build_number() && !running.is_some_and(|running| running.is_build_number())
}

fn bare(prefix: &str) -> &str {
    match prefix {
        "v" | "V" => "",
        other => other,
    }
}

/// For someone on `latest`: the newest plain release.
fn newest_release<'t, T: AsRef<str>>(tags: &'t [T], rules: &TagRules) -> Option<&'t str> {
    let mut best = Best::new(None, rules);
    let range: Range<'_> = rules.limits.range(None);
    for tag in tags.iter().map(AsRef::as_ref) {
        if !rules.admits(tag) {
            continue;
        }
        let text = rules.transform(tag);
        let plain = ParsedTag::parse(&text).filter(|tag| {
            tag.precision() == TagPrecision::Specific
                && tag.suffix().is_empty()
                && bare(tag.prefix()).is_empty()
                && !tag.has_stray_zero()
        });
        if let Some(parsed) = plain.filter(|tag| range.holds(tag)) {
            best.offer(tag, &parsed);
        }
    }
    best.tag.map(|(tag, _)| tag)
}

/// Whether a new digest under the same tag counts as an update, as of the contract's era: a label
/// decides; else a specific version is taken to stand still; else yes, except on Docker Hub, whose
/// limits a fleet of `latest` would use up, unless `docksmith.allow-latest` says that the mutable
/// tag is meant. A reference by digest never moves.
pub fn watches_digest(image: &ImageRef, tag: &TagFacts, rules: &ContainerRules) -> bool {
    if image.tag().is_none() && image.digest().is_some() {
        return false;
    }
    rules.watch_digest.unwrap_or_else(|| {
        let stands_still = tag.semver && tag.tag_precision == TagPrecision::Specific;
        !stands_still && (rules.versions.allow_latest || !image.is_docker_hub())
    })
}

/// Whether the container is watched at all: its label, else the watcher's `watchbydefault`.
pub fn is_watched(rules: &ContainerRules, by_default: WatchDefault) -> bool {
    rules.watch.unwrap_or(by_default == WatchDefault::Watch)
}

/// A watcher's `watchbydefault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchDefault {
    Watch,
    Ignore,
}

#[cfg(test)]
mod tests;
