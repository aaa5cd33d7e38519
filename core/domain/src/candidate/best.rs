//! The best of the tags that a container may go to.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::TagRules;
use crate::container::SemverDiff;
use crate::tag::{ParsedTag, Shape};

/// The best tag so far. The order is total, so the order of the tags does not matter.
pub(super) struct Best<'t, 'r> {
    running: Option<ParsedTag<'r>>,
    rules: &'r TagRules,
    /// The tag and its transformed text.
    pub(super) tag: Option<(&'t str, Cow<'t, str>)>,
}

impl<'t, 'r> Best<'t, 'r> {
    pub(super) fn new(running: Option<ParsedTag<'r>>, rules: &'r TagRules) -> Self {
        Self {
            running,
            rules,
            tag: None,
        }
    }

    pub(super) fn offer(&mut self, tag: &'t str, parsed: &ParsedTag<'_>) {
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

    /// Numeric parts first. Among equal ones: the nearest to its release, the exact suffix that
    /// runs, its flavour, then the numbers in the suffix. Pre-release numbers are progress, not a
    /// flavour, so there the highest comes first.
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
            (tag.stage(), exact, shape, precision, prefix)
        };
        a.cmp_parts(b)
            .then_with(|| rank(a).cmp(&rank(b)))
            .then_with(|| a.cmp_suffix_numbers(b))
            // The more precise tag names the release better: `1.2.0` before `1.2`.
            .then_with(|| a.parts().len().cmp(&b.parts().len()))
    }

    pub(super) fn tag(self) -> Option<(&'t str, SemverDiff)> {
        let (tag, text) = self.tag?;
        let diff = match (&self.running, ParsedTag::parse(&text)) {
            (Some(running), Some(parsed)) => running.diff(&parsed),
            _ => SemverDiff::Unknown,
        };
        Some((tag, diff))
    }
}
