//! How far a container may go: pins, the least and the greatest version.

use thiserror::Error;

use crate::labels::{Pin, VersionRules};
use crate::pattern::PatternError;
use crate::tag::ParsedTag;

/// Why a container's rules about tags cannot be followed. Nothing is proposed then. For the
/// container's `error.message`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RulesError {
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// A limit that cannot be read.
    #[error("{0}")]
    Limit(String),
}

/// Pins and bounds, checked once per container and watch.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pin: Option<Pin>,
    min: Option<String>,
    max: Option<String>,
}

impl Limits {
    pub(super) fn compile(rules: &VersionRules) -> Result<Self, RulesError> {
        if let Some(problem) = rules.unreadable.first() {
            return Err(RulesError::Limit(problem.clone()));
        }
        Ok(Self {
            pin: rules.pin,
            min: bound("docksmith.version-min", rules.min.as_deref())?,
            max: bound("docksmith.version-max", rules.max.as_deref())?,
        })
    }

    /// What they leave of the versions for a container that runs `running`; a pin holds only where
    /// that is a version.
    pub(super) fn range<'r>(&'r self, running: Option<ParsedTag<'r>>) -> Range<'r> {
        let parse = |text: &'r Option<String>| text.as_deref().and_then(ParsedTag::parse);
        Range {
            pinned: running.and_then(|running| {
                // Of a tag that names fewer parts, those.
                let parts = self.pin?.parts().min(running.parts().len());
                Some((running, parts))
            }),
            min: parse(&self.min),
            max: parse(&self.max),
        }
    }
}

/// `1.2.3` or `v1.2.3`, or anything else that compares: no word in front.
fn bound(label: &str, text: Option<&str>) -> Result<Option<String>, RulesError> {
    let Some(text) = text else {
        return Ok(None);
    };
    let readable = crate::image::is_tag(text)
        && ParsedTag::parse(text).is_some_and(|tag| matches!(tag.prefix(), "" | "v" | "V"));
    if !readable {
        let shown: String = text.chars().take(60).collect();
        return Err(RulesError::Limit(format!(
            "{label}: `{shown}` is not a version"
        )));
    }
    Ok(Some(text.to_owned()))
}

/// The versions that limits leave.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Range<'r> {
    /// The running version, and how many of its parts stay.
    pinned: Option<(ParsedTag<'r>, usize)>,
    min: Option<ParsedTag<'r>>,
    max: Option<ParsedTag<'r>>,
}

impl Range<'_> {
    pub(super) fn holds(&self, tag: &ParsedTag<'_>) -> bool {
        let pinned = self.pinned.is_none_or(|(running, parts)| {
            (0..parts).all(|part| running.parts().get(part) == Some(&tag.part(part)))
        });
        pinned
            && self.min.is_none_or(|min| tag.cmp_version(&min).is_ge())
            && self.max.is_none_or(|max| tag.cmp_version(&max).is_le())
    }
}
