//! Which tag a container should go to, given every tag of its repository (reference/drydock.md 3,
//! "Choosing the candidate", in the contract's era: a pinned `1.2.3` climbs in its family).
//!
//! One pass over the tags, in any order, with one answer. Without a `transform` nothing is
//! allocated per tag: a repository may have 100,000.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use crate::container::{SemverDiff, TagFacts, TagPrecision};
use crate::image::{ImageRef, is_tag};
use crate::labels::{ContainerRules, TagFamily};
use crate::pattern::{Pattern, PatternError, Transform};
use crate::tag::{ParsedTag, Shape};

/// The rules about tags, compiled once per container and watch.
#[derive(Clone, Debug, Default)]
pub struct TagRules {
    include: Option<Pattern>,
    exclude: Option<Pattern>,
    transform: Option<Transform>,
    family: TagFamily,
}

impl TagRules {
    /// The error names the label and is meant for the container's `error.message`.
    pub fn compile(rules: &ContainerRules) -> Result<Self, PatternError> {
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
    }
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
    /// It runs the newest one.
    UpToDate,
}

impl fmt::Display for NoUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            NoUpdate::NotAVersion => {
                "The tag is not a version, so only its digest is watched; set dd.tag.include to \
                 follow versions"
            }
            NoUpdate::Floating => {
                "The tag follows a line of versions, so only its digest is watched; set \
                 dd.tag.include or dd.tag.family=loose to follow tags"
            }
            NoUpdate::NothingMatches => "No version among the tags matches the tag filters",
            NoUpdate::OtherFamilies => {
                "Newer versions exist only with another prefix, number of parts or suffix; set \
                 dd.tag.family=loose to follow them"
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
    let mut others = false;
    for tag in tags.iter().map(AsRef::as_ref) {
        if !rules.admits(tag) {
            continue;
        }
        let text = rules.transform(tag);
        let Some(parsed) = ParsedTag::parse(&text) else {
            continue;
        };
        if !is_greater(&running, &parsed) {
            continue;
        }
        if is_family(&running, &parsed, rules.family) {
            best.offer(tag, &parsed);
        } else {
            others = true;
        }
    }
    match best.tag() {
        Some((tag, diff)) => Decision::Climb { tag, diff },
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
    let mut matched = false;
    for tag in tags.iter().map(AsRef::as_ref) {
        if !rules.admits(tag) {
            continue;
        }
        let text = rules.transform(tag);
        let Some(parsed) = ParsedTag::parse(&text).filter(|tag| !tag.has_stray_zero()) else {
            continue;
        };
        matched = true;
        if running.is_none_or(|running| is_greater(running, &parsed)) {
            best.offer(tag, &parsed);
        }
    }
    let reason = if matched {
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

fn is_family(running: &ParsedTag<'_>, tag: &ParsedTag<'_>, family: TagFamily) -> bool {
    if tag.has_stray_zero() && !running.has_stray_zero() {
        return false;
    }
    let released = running
        .prerelease()
        .is_some_and(|mark| mark.released_as(tag.suffix()));
    match family {
        TagFamily::Strict => {
            tag.prefix() == running.prefix()
                && tag.parts().len() == running.parts().len()
                && tag.same_scheme(running)
                && (released || tag.shape_against(running) != Shape::Different)
                // `-alpine` to `-alpine-rc1` is another shape already; this is for marks that
                // are pure extensions.
                && (running.prerelease().is_some() || tag.prerelease().is_none())
        }
        TagFamily::Loose => {
            bare(tag.prefix()) == bare(running.prefix())
                && tag.same_scheme(running)
                && (running.prerelease().is_some() || tag.prerelease().is_none())
        }
    }
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
        if let Some(parsed) = plain {
            best.offer(tag, &parsed);
        }
    }
    best.tag.map(|(tag, _)| tag)
}

/// The best tag so far. The order is total, so the order of the tags does not matter.
struct Best<'t, 'r> {
    running: Option<ParsedTag<'r>>,
    rules: &'r TagRules,
    /// The tag and its transformed text.
    tag: Option<(&'t str, Cow<'t, str>)>,
}

impl<'t, 'r> Best<'t, 'r> {
    fn new(running: Option<ParsedTag<'r>>, rules: &'r TagRules) -> Self {
        Self {
            running,
            rules,
            tag: None,
        }
    }

    fn offer(&mut self, tag: &'t str, parsed: &ParsedTag<'_>) {
        let better = match &self.tag {
            None => true,
            Some((best, text)) => match ParsedTag::parse(text) {
                Some(best_parsed) => self
                    .compare(parsed, &best_parsed)
                    .then_with(|| tag.cmp(best))
                    .is_gt(),
                None => true,
            },
        };
        if better {
            self.tag = Some((tag, self.rules.transform(tag)));
        }
    }

    /// Numeric parts first. Among equal ones: a release before a pre-release, the exact suffix
    /// that runs, its flavour, then the numbers in the suffix. Pre-release numbers are progress,
    /// not a flavour, so there the highest comes first.
    fn compare(&self, a: &ParsedTag<'_>, b: &ParsedTag<'_>) -> Ordering {
        let rank = |tag: &ParsedTag<'_>| {
            let release = tag.prerelease().is_none();
            let (exact, shape, precision, prefix) = match &self.running {
                Some(running) => (
                    release && tag.suffix() == running.suffix(),
                    tag.shape_against(running),
                    tag.parts().len() == running.parts().len(),
                    tag.prefix() == running.prefix(),
                ),
                None => (tag.suffix().is_empty(), Shape::Same, true, true),
            };
            (release, exact, shape, precision, prefix)
        };
        a.cmp_parts(b)
            .then_with(|| rank(a).cmp(&rank(b)))
            .then_with(|| a.cmp_suffix_numbers(b))
            // The more precise tag names the release better: `1.2.0` before `1.2`.
            .then_with(|| a.parts().len().cmp(&b.parts().len()))
    }

    fn tag(self) -> Option<(&'t str, SemverDiff)> {
        let (tag, text) = self.tag?;
        let diff = match (&self.running, ParsedTag::parse(&text)) {
            (Some(running), Some(parsed)) => running.diff(&parsed),
            _ => SemverDiff::Unknown,
        };
        Some((tag, diff))
    }
}

/// Whether a new digest under the same tag counts as an update, as of the contract's era: a label
/// decides; else a specific version is taken to stand still; else yes, except on Docker Hub, whose
/// limits a fleet of `latest` would use up. A reference by digest never moves.
pub fn watches_digest(image: &ImageRef, tag: &TagFacts, rules: &ContainerRules) -> bool {
    if image.tag().is_none() && image.digest().is_some() {
        return false;
    }
    rules.watch_digest.unwrap_or_else(|| {
        let stands_still = tag.semver && tag.tag_precision == TagPrecision::Specific;
        !stands_still && !image.is_docker_hub()
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
