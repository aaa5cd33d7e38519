//! Which triggers a container's labels choose, and which updates a trigger is for
//! (reference/drydock.md 4, `threshold`; labels `dd.trigger.include` and `.exclude`).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::assessment::{UpdateKind, UpdateKindName};
use crate::container::SemverDiff;

/// The steps between tags that a trigger is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Steps {
    #[default]
    All,
    /// Up to and including.
    Major,
    Minor,
    Patch,
    MajorOnly,
    MinorOnly,
    /// None: digests only.
    None,
}

/// `all`, `major`, `minor`, `patch`, `major-only`, `minor-only`, each with `-no-digest`, or
/// `digest`. The default is `all`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Threshold {
    steps: Steps,
    digests: bool,
}

impl Default for Threshold {
    fn default() -> Self {
        Self::ALL
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no threshold; expected all, major, minor, patch, major-only, minor-only (each may end \
     in -no-digest) or digest"
)]
pub struct ThresholdError(String);

const NAMES: [(&str, Steps); 6] = [
    ("all", Steps::All),
    ("major", Steps::Major),
    ("minor", Steps::Minor),
    ("patch", Steps::Patch),
    ("major-only", Steps::MajorOnly),
    ("minor-only", Steps::MinorOnly),
];

impl Threshold {
    pub const ALL: Self = Self {
        steps: Steps::All,
        digests: true,
    };

    /// Whether an update of this kind is to be acted upon. A step of unknown size passes every
    /// threshold but `digest`: better one message too many than a release nobody hears of.
    pub fn is_reached(&self, kind: &UpdateKind<'_>) -> bool {
        if kind.kind == UpdateKindName::Digest {
            return self.digests;
        }
        let diff = kind.semver_diff;
        match self.steps {
            Steps::All | Steps::Major => true,
            Steps::None => false,
            _ if diff == SemverDiff::Unknown => true,
            Steps::Minor => diff != SemverDiff::Major,
            Steps::Patch => !matches!(diff, SemverDiff::Major | SemverDiff::Minor),
            Steps::MajorOnly => diff == SemverDiff::Major,
            Steps::MinorOnly => diff == SemverDiff::Minor,
        }
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim().to_ascii_lowercase();
        if name == "digest" {
            return Ok(Self {
                steps: Steps::None,
                digests: true,
            });
        }
        let (base, digests) = match name.strip_suffix("-no-digest") {
            Some(base) => (base, false),
            None => (name.as_str(), true),
        };
        NAMES
            .iter()
            .find(|(known, _)| *known == base)
            .map(|(_, steps)| Self {
                steps: *steps,
                digests,
            })
            .ok_or_else(|| ThresholdError(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES
            .iter()
            .find(|(_, steps)| *steps == self.steps)
            .map_or("digest", |(name, _)| name);
        f.write_str(name)?;
        if !self.digests {
            f.write_str("-no-digest")?;
        }
        Ok(())
    }
}

impl TryFrom<String> for Threshold {
    type Error = ThresholdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Threshold> for String {
    fn from(threshold: Threshold) -> Self {
        threshold.to_string()
    }
}

/// How a container's labels stand to one trigger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Association {
    /// It applies, with the label's threshold or else the trigger's own.
    Applies(Threshold),
    /// An include label names others only.
    NotIncluded,
    /// The exclude label names it.
    Excluded,
}

/// Judges `type.name` by `dd.trigger.include` and `dd.trigger.exclude`: comma-separated
/// `type.name[:threshold]`, where the name alone will do. An unreadable threshold counts as the
/// trigger's own. Exclusion wins.
pub fn associate(
    include: Option<&str>,
    exclude: Option<&str>,
    kind: &str,
    name: &str,
    own: Threshold,
) -> Association {
    let find = |list: Option<&str>| -> Option<Option<Threshold>> {
        list?.split(',').find_map(|entry| {
            let (id, threshold) = match entry.split_once(':') {
                Some((id, threshold)) => (id.trim(), threshold.parse().ok()),
                None => (entry.trim(), None),
            };
            let named = id.eq_ignore_ascii_case(name)
                || id.split_once('.').is_some_and(|(k, n)| {
                    k.eq_ignore_ascii_case(kind) && n.eq_ignore_ascii_case(name)
                });
            named.then_some(threshold)
        })
    };
    if find(exclude).is_some() {
        return Association::Excluded;
    }
    match (include, find(include)) {
        (None, _) => Association::Applies(own),
        (Some(_), Some(threshold)) => Association::Applies(threshold.unwrap_or(own)),
        (Some(_), None) => Association::NotIncluded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(kind: UpdateKindName, semver_diff: SemverDiff) -> UpdateKind<'static> {
        UpdateKind {
            kind,
            local_value: None,
            remote_value: None,
            semver_diff,
        }
    }

    #[test]
    fn each_threshold_lets_its_steps_through() {
        use SemverDiff::*;
        let all = [Major, Minor, Patch, Prerelease, Unknown];
        for (name, passing, digest) in [
            ("all", &all[..], true),
            ("major", &all[..], true),
            ("minor", &[Minor, Patch, Prerelease, Unknown], true),
            ("patch", &[Patch, Prerelease, Unknown], true),
            ("major-only", &[Major, Unknown], true),
            ("minor-only", &[Minor, Unknown], true),
            ("digest", &[], true),
            ("all-no-digest", &all[..], false),
            (
                "minor-no-digest",
                &[Minor, Patch, Prerelease, Unknown],
                false,
            ),
            ("minor-only-no-digest", &[Minor, Unknown], false),
        ] {
            let threshold: Threshold = name.parse().unwrap();
            assert_eq!(threshold.to_string(), name);
            for diff in all {
                assert_eq!(
                    threshold.is_reached(&kind(UpdateKindName::Tag, diff)),
                    passing.contains(&diff),
                    "{name} {diff:?}"
                );
            }
            let moved = kind(UpdateKindName::Digest, Unknown);
            assert_eq!(threshold.is_reached(&moved), digest, "{name}");
        }
    }

    #[test]
    fn unknown_thresholds_are_refused() {
        for text in ["", "huge", "digest-no-digest", "-no-digest"] {
            assert!(text.parse::<Threshold>().is_err(), "{text}");
        }
    }

    #[test]
    fn labels_choose_triggers() {
        let minor: Threshold = "minor".parse().unwrap();
        let own = Threshold::ALL;
        for (include, exclude, expected) in [
            (None, None, Association::Applies(own)),
            (Some("docker.local"), None, Association::Applies(own)),
            (
                Some("DOCKER.Local:minor"),
                None,
                Association::Applies(minor),
            ),
            (Some("local:minor"), None, Association::Applies(minor)),
            (
                Some("slack.x, docker.local : minor"),
                None,
                Association::Applies(minor),
            ),
            (Some("docker.local:odd"), None, Association::Applies(own)),
            (Some("slack.x"), None, Association::NotIncluded),
            (Some("slack.local"), None, Association::NotIncluded),
            (None, Some("docker.local"), Association::Excluded),
            (Some("docker.local"), Some("local"), Association::Excluded),
            (None, Some("slack.x"), Association::Applies(own)),
        ] {
            assert_eq!(
                associate(include, exclude, "docker", "local", own),
                expected,
                "{include:?} {exclude:?}"
            );
        }
    }
}
