//! How big the step from one version to another is, for clients that tell rebuilds and downgrades
//! apart (reference/docksmith-dokploy-dockup.md 1.2).

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::tag::{ParsedTag, Stage};

/// What changes between two versions. The first part that differs names it, also of calendar
/// versions; parts after the third are patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// Nothing.
    None,
    /// The same version, built anew.
    Rebuild,
    Patch,
    Minor,
    Major,
    /// An older version.
    Downgrade,
    /// One of the two is not known as a version.
    Unknown,
}

impl Change {
    /// Between two tags, or what they are compared as.
    pub fn between(from: &str, to: &str) -> Self {
        match (ParsedTag::parse(from), ParsedTag::parse(to)) {
            _ if from == to => Change::None,
            (Some(from), Some(to)) if from.same_scheme(&to) => Self::of(&from, &to),
            _ => Change::Unknown,
        }
    }

    fn of(from: &ParsedTag<'_>, to: &ParsedTag<'_>) -> Self {
        match to.cmp_parts(from) {
            Ordering::Less => return Change::Downgrade,
            Ordering::Greater => {
                let first = (0..).find(|part| from.part(*part) != to.part(*part));
                return match first {
                    Some(0) => Change::Major,
                    Some(1) => Change::Minor,
                    _ => Change::Patch,
                };
            }
            Ordering::Equal => {}
        }
        match (to.stage().cmp(&from.stage()), to.stage()) {
            (Ordering::Less, _) => Change::Downgrade,
            // From a pre-release to its release: the step that the release makes.
            (Ordering::Greater, Stage::Release) => match (to.part(1), to.part(2)) {
                (_, patch) if patch != 0 => Change::Patch,
                (minor, _) if minor != 0 => Change::Minor,
                _ => Change::Major,
            },
            (Ordering::Greater, _) => Change::Patch,
            (Ordering::Equal, stage) => match to.cmp_version(from) {
                Ordering::Less => Change::Downgrade,
                // Another release candidate is other code; another build counter is not.
                Ordering::Greater if stage < Stage::Release => Change::Patch,
                _ if from.same_flavour(to) => Change::Rebuild,
                _ => Change::Unknown,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_named_by_the_first_part_that_differs() {
        for (from, to, expected) in [
            ("1.2.3", "1.2.3", Change::None),
            ("latest", "latest", Change::None),
            ("1.2.3", "1.2.4", Change::Patch),
            ("1.2.3", "1.3.0", Change::Minor),
            ("1.2.3", "2.0.0", Change::Major),
            ("1.2.3", "1.2.2", Change::Downgrade),
            ("2.0.0", "1.9.9", Change::Downgrade),
            ("1.2.3.4", "1.2.3.5", Change::Patch),
            ("4.0.9-ls290", "4.0.9-ls291", Change::Rebuild),
            ("4.0.9-ls291", "4.0.9-ls290", Change::Downgrade),
            ("4.0.9-ls291", "4.0.10-ls1", Change::Patch),
            ("4.0.9", "4.0.9-ls291", Change::Rebuild),
            (
                "16.2.0-debian-12-r4",
                "16.2.0-debian-12-r5",
                Change::Rebuild,
            ),
            ("1.2.3-alpine3.19", "1.2.3-alpine3.20", Change::Rebuild),
            ("1.2.3-alpine", "1.2.3-slim", Change::Unknown),
            ("2.0.0-rc1", "2.0.0-rc2", Change::Patch),
            ("2.0.0-beta1", "2.0.0-rc1", Change::Patch),
            ("2.0.0-rc1", "2.0.0", Change::Major),
            ("2.1.0-rc1", "2.1.0", Change::Minor),
            ("2.0.0", "2.0.0-rc1", Change::Downgrade),
            ("v1.2.3", "1.2.4", Change::Patch),
            ("1.2", "1.2.5", Change::Patch),
            ("2024.11.3", "2025.1.0", Change::Major),
            ("2024-01-15", "2024-01-16", Change::Patch),
            ("20240115", "20240201", Change::Minor),
            ("1.2.3", "2024.1.1", Change::Unknown),
            ("latest", "1.2.3", Change::Unknown),
            ("1.2.3", "main", Change::Unknown),
        ] {
            assert_eq!(Change::between(from, to), expected, "{from} -> {to}");
        }
    }
}
