//! Comparing whole versions: pre-releases by their stage, LinuxServer's build counters, and numbers
//! that are no versions at all.

use std::cmp::Ordering;

use super::{Form, ParsedTag, Prerelease, Shape, digits, shape};

/// From here on a number that stands alone counts builds or is part of a hash.
const BUILD_NUMBERS_ABOVE: u64 = 100;

impl<'a> ParsedTag<'a> {
    /// By numeric parts, then a pre-release before its release, then by how far the pre-release is,
    /// then by the numbers in suffixes of the same shape.
    pub fn cmp_version(&self, other: &ParsedTag<'_>) -> Ordering {
        self.cmp_parts(other)
            .then_with(|| self.stage().cmp(&other.stage()))
            .then_with(|| match self.shape_against(other) {
                Shape::Same => self.cmp_suffix_numbers(other),
                Shape::Extended | Shape::Different => Ordering::Equal,
            })
    }

    /// How near to its release it is.
    pub fn stage(&self) -> Stage {
        self.prerelease()
            .map_or(Stage::Release, |mark| mark.stage())
    }

    /// What is built, apart from how far it is: the suffix without a pre-release mark and without
    /// LinuxServer's build counter (`-ls12`). `None` where a mark stands between two other words.
    pub fn flavour(&self) -> Option<&'a str> {
        let Some(mark) = self.prerelease() else {
            return Some(without_build(self.suffix));
        };
        match (without_build(mark.before), without_build(mark.after)) {
            ("", rest) | (rest, "") => Some(rest),
            _ => None,
        }
    }

    /// Whether both are the same flavour; one may add a version to it (`-alpine`, `-alpine3.20`).
    pub fn same_flavour(&self, other: &ParsedTag<'_>) -> bool {
        match (self.flavour(), other.flavour()) {
            (Some(ours), Some(theirs)) => shape(ours, theirs) != Shape::Different,
            _ => false,
        }
    }

    /// The numeric part at `index`; missing ones count as zero.
    pub fn part(&self, index: usize) -> u64 {
        self.parts.get(index).copied().unwrap_or(0)
    }

    /// `4711`: a number alone that is too big for a version. It counts builds.
    pub fn is_build_number(&self) -> bool {
        self.form == Form::Dotted
            && self.count == 1
            && self.parts[0] > BUILD_NUMBERS_ABOVE
            && self.prefix.is_empty()
            && self.suffix.is_empty()
    }
}

/// How far a version is, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Alpha,
    Beta,
    Milestone,
    Preview,
    Candidate,
    Release,
}

impl Prerelease<'_> {
    pub fn stage(&self) -> Stage {
        match self.mark.as_bytes()[0].to_ascii_lowercase() {
            b'a' => Stage::Alpha,
            b'b' => Stage::Beta,
            b'm' => Stage::Milestone,
            b'p' => Stage::Preview,
            _ => Stage::Candidate,
        }
    }
}

/// The suffix without a build counter at its end.
fn without_build(suffix: &str) -> &str {
    match suffix.rfind("-ls") {
        Some(at) => {
            let number = &suffix.as_bytes()[at + 3..];
            match digits(number) {
                0 => suffix,
                length if length < number.len() => suffix,
                _ => &suffix[..at],
            }
        }
        None => suffix,
    }
}
