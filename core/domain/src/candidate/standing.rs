//! Which tags that stand still may be what a mutable tag (`latest`, `stable-alpine`, `24-alpine`)
//! stands for just now. Only their digests can tell, and each is a question to a registry: so the
//! likeliest come first.

use std::collections::HashSet;

use super::{TagRules, counts_builds};
use crate::container::TagPrecision;
use crate::tag::{ParsedTag, Stage};

/// More than anyone asks for.
const MAX_LISTED: usize = 16;
/// Lines of versions that are looked at by their newest one: a tag such as `stable` lags behind.
const MAX_LINES: usize = 8;

/// What mutable tags are called without their flavour, and whether pre-releases are to be found
/// under the name.
const CHANNELS: &[(&str, Channel)] = &[
    ("latest", Channel::Releases),
    ("stable", Channel::Releases),
    ("release", Channel::Releases),
    ("current", Channel::Releases),
    ("lts", Channel::Releases),
    ("mainline", Channel::Releases),
    ("main", Channel::Anything),
    ("master", Channel::Anything),
    ("develop", Channel::Anything),
    ("dev", Channel::Anything),
    ("edge", Channel::Anything),
    ("next", Channel::Anything),
    ("nightly", Channel::Anything),
    ("preview", Channel::Anything),
    ("beta", Channel::Anything),
    ("alpha", Channel::Anything),
    ("rc", Channel::Anything),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    Releases,
    Anything,
}

/// What a tag must be to stand for the same as the mutable one.
struct Family<'a> {
    /// A line of versions; none for a word.
    line: Option<ParsedTag<'a>>,
    /// What the word says beside the channel, without a separator in front: `alpine`.
    flavour: &'a str,
    channel: Channel,
}

impl<'a> Family<'a> {
    fn of(mutable: &'a str) -> Self {
        if let Some(line) = ParsedTag::parse(mutable) {
            let channel = match line.stage() {
                Stage::Release => Channel::Releases,
                _ => Channel::Anything,
            };
            return Self {
                line: Some(line),
                flavour: "",
                channel,
            };
        }
        let channel = CHANNELS.iter().find_map(|(name, channel)| {
            let rest = mutable.strip_prefix(name)?;
            let flavour = rest.strip_prefix(['-', '_', '.']);
            (rest.is_empty() || flavour.is_some()).then(|| (flavour.unwrap_or_default(), *channel))
        });
        let (flavour, channel) = channel.unwrap_or((mutable, Channel::Releases));
        Self {
            line: None,
            flavour,
            channel,
        }
    }

    fn holds(&self, tag: &ParsedTag<'_>) -> bool {
        let staged = self.channel == Channel::Anything || tag.prerelease().is_none();
        staged
            && match &self.line {
                Some(line) => {
                    tag.prefix() == line.prefix()
                        && tag.same_scheme(line)
                        && tag.parts().len() > line.parts().len()
                        && tag.parts().starts_with(line.parts())
                        && tag.same_flavour(line)
                }
                None => self.is_flavour(tag),
            }
    }

    /// `alpine` is the flavour of `1.2.3-alpine3.20`, and `jammy` that of `jammy-20240111`.
    fn is_flavour(&self, tag: &ParsedTag<'_>) -> bool {
        let Some(flavour) = tag.flavour() else {
            return false;
        };
        if matches!(tag.prefix(), "" | "v" | "V") {
            let word = flavour.strip_prefix(['-', '_', '.']).unwrap_or(flavour);
            let rest = word.strip_prefix(self.flavour);
            return match self.flavour {
                "" => word.is_empty(),
                _ => rest.is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.')),
            };
        }
        let prefix = tag.prefix().strip_suffix(['-', '_', '.']);
        !self.flavour.is_empty() && flavour.is_empty() && prefix == Some(self.flavour)
    }
}

/// The tags that may stand for what `mutable` stands for, the likeliest first. `hint` is the version
/// that the image calls itself. Tags that name a line of other ones (`1.2` where there is `1.2.3`)
/// are left out.
pub fn standing_tags<'t, T: AsRef<str>>(
    mutable: &str,
    hint: Option<&str>,
    tags: &'t [T],
    rules: &TagRules,
) -> Vec<&'t str> {
    let family = Family::of(mutable);
    let range = rules.limits.range(None);
    // What `transform` makes of a tag is for comparing; the tags here are only told apart.
    let mut found: Vec<(&'t str, ParsedTag<'t>)> = tags
        .iter()
        .map(AsRef::as_ref)
        .filter(|tag| *tag != mutable && rules.admits(tag))
        .filter_map(|tag| Some((tag, ParsedTag::parse(tag)?)))
        .filter(|(_, tag)| {
            !tag.has_stray_zero()
                && !counts_builds(family.line.as_ref(), tag)
                && family.holds(tag)
                && range.holds(tag)
        })
        .collect();
    drop_lines(&mut found);
    // Newest first; of one version the one that says most: `4.0.9-ls291` before `4.0.9`.
    found.sort_by(|(a, ours), (b, theirs)| {
        theirs
            .cmp_parts(ours)
            .then_with(|| theirs.stage().cmp(&ours.stage()))
            .then_with(|| theirs.cmp_suffix_numbers(ours))
            .then_with(|| theirs.parts().len().cmp(&ours.parts().len()))
            .then_with(|| b.len().cmp(&a.len()))
            .then_with(|| a.cmp(b))
    });
    likeliest(found, hint)
}

/// Leaves out what names a line of others.
fn drop_lines(found: &mut Vec<(&str, ParsedTag<'_>)>) {
    let mut lines = HashSet::new();
    for (_, tag) in found.iter() {
        for length in 1..tag.parts().len() {
            lines.insert((tag.prefix().to_owned(), tag.parts()[..length].to_vec()));
        }
    }
    found.retain(|(_, tag)| {
        tag.precision() == TagPrecision::Specific
            || !lines.contains(&(tag.prefix().to_owned(), tag.parts().to_vec()))
    });
}

/// The one that the image calls itself, the two newest, the newest of each line, then the others.
/// Versions by the calendar and others take turns: nobody knows which of them the tag follows.
fn likeliest<'t>(found: Vec<(&'t str, ParsedTag<'t>)>, hint: Option<&str>) -> Vec<&'t str> {
    let hinted = hint.and_then(ParsedTag::parse);
    let is_hinted = |(text, tag): &&(&str, ParsedTag<'_>)| {
        Some(*text) == hint
            || hinted
                .is_some_and(|hinted| hinted.cmp_version(tag).is_eq() && hinted.same_flavour(tag))
    };
    let (calendar, counted): (Vec<_>, Vec<_>) = found
        .iter()
        .partition::<Vec<_>, _>(|(_, tag)| tag.is_calendar());
    let [mut counted, mut calendar] = [in_turn(&counted), in_turn(&calendar)].map(Vec::into_iter);
    let mut order: Vec<&'t str> = found
        .iter()
        .filter(is_hinted)
        .map(|(text, _)| *text)
        .collect();
    loop {
        let next: Vec<&'t str> = counted.next().into_iter().chain(calendar.next()).collect();
        if next.is_empty() || order.len() >= MAX_LISTED {
            break;
        }
        for text in next {
            if !order.contains(&text) {
                order.push(text);
            }
        }
    }
    order.truncate(MAX_LISTED);
    order
}

fn in_turn<'t>(found: &[&(&'t str, ParsedTag<'t>)]) -> Vec<&'t str> {
    let mut lines = HashSet::new();
    let newest_of_lines = found
        .iter()
        .filter(|(_, tag)| lines.len() < MAX_LINES && lines.insert((tag.part(0), tag.part(1))));
    let mut order: Vec<&'t str> = Vec::new();
    let turns = found.iter().take(2).chain(newest_of_lines);
    for (text, _) in turns.chain(found.iter().take(MAX_LISTED)) {
        if !order.contains(text) {
            order.push(text);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::labels::{ContainerRules, VersionRules};

    fn standing(mutable: &str, hint: Option<&str>, tags: &str) -> String {
        let tags: Vec<&str> = tags.split_whitespace().collect();
        standing_tags(mutable, hint, &tags, &TagRules::default()).join(" ")
    }

    #[test]
    fn the_likeliest_tags_of_the_family_come_first() {
        for (mutable, tags, expected) in [
            (
                "latest",
                "latest 1 1.27 1.27.3 1.27.2 1.26.2",
                "1.27.3 1.27.2 1.26.2",
            ),
            // A channel that lags behind is found by the newest of each line.
            (
                "stable",
                "1.27.3 1.27.2 1.27.1 1.26.2 1.26.1 1.25.5",
                "1.27.3 1.27.2 1.26.2 1.25.5 1.27.1 1.26.1",
            ),
            ("latest", "1.2.3-alpine 1.2.3-slim", ""),
            ("latest", "1.3.0-rc1 1.2.3", "1.2.3"),
            ("beta", "1.3.0-rc1 1.2.3", "1.3.0-rc1 1.2.3"),
            (
                "latest-alpine",
                "1.2.3 1.2.3-alpine 1.2.3-alpine3.20",
                "1.2.3-alpine3.20 1.2.3-alpine",
            ),
            (
                "alpine",
                "1.2.3 1.2.3-alpine 1.2.3-alpine-slim",
                "1.2.3-alpine",
            ),
            (
                "stable-alpine-slim",
                "1.2.3-alpine 1.2.3-alpine-slim",
                "1.2.3-alpine-slim",
            ),
            (
                "server-cuda",
                "1.2.3 1.2.3-server-cuda server-cuda-1.2.4",
                "server-cuda-1.2.4 1.2.3-server-cuda",
            ),
            (
                "jammy",
                "jammy-20240111 jammy-20240227 noble-20240423",
                "jammy-20240227 jammy-20240111",
            ),
            (
                "24-alpine",
                "24 24.1 24.1.0 24.1.0-alpine 24.1.0-alpine3.20 25.0.0-alpine 24.1-alpine",
                "24.1.0-alpine3.20 24.1.0-alpine",
            ),
            ("1.2", "1.2 1.2.3 1.2.4 1.3.0 1.20.1 v1.2.5", "1.2.4 1.2.3"),
            ("v1", "v1.2.3 1.2.4 v2.0.0", "v1.2.3"),
            // Two parts are all there is.
            ("latest", "16 16.4 17 17.2 17.1", "17.2 17.1 16.4"),
            ("17", "16.4 17.2 17.1", "17.2 17.1"),
            ("17.2", "17.2 17.1", ""),
            (
                "latest",
                "latest 4.0.9 4.0.9-ls291 4.0.9-ls290 version-4.0.9",
                "4.0.9-ls291 4.0.9-ls290 4.0.9",
            ),
            (
                "stable",
                "0.118.5 2024.12.0 2024.11.3",
                "0.118.5 2024.12.0 2024.11.3",
            ),
            (
                "latest",
                "4711 sha-1234567 3f2a9bc 1.02.3 1.2.3.sig main",
                "",
            ),
            ("main-ubuntu", "11.3.0 11.3.0-ubuntu", "11.3.0-ubuntu"),
            ("latestish", "1.2.3", ""),
        ] {
            assert_eq!(standing(mutable, None, tags), expected, "{mutable}: {tags}");
        }
    }

    #[test]
    fn what_the_image_calls_itself_is_tried_first() {
        let tags = "1.27.3 1.27.2 1.26.2 1.25.5 1.25.4";
        let first = |hint| {
            standing("latest", Some(hint), tags)
                .split(' ')
                .next()
                .map(str::to_owned)
        };
        assert_eq!(first("1.25.4").as_deref(), Some("1.25.4"));
        assert_eq!(first("v1.26.2").as_deref(), Some("1.26.2"));
        assert_eq!(first("9.9.9").as_deref(), Some("1.27.3"));
        assert_eq!(first("garbage").as_deref(), Some("1.27.3"));
    }

    #[test]
    fn filters_and_bounds_hold_here_too() {
        let tags = ["1.2.3", "1.3.0", "2.0.0"];
        let standing = |rules: ContainerRules| {
            standing_tags("latest", None, &tags, &TagRules::compile(&rules).unwrap()).join(" ")
        };
        let max = VersionRules {
            max: Some("1.99".into()),
            ..VersionRules::default()
        };
        let filtered = VersionRules {
            tag_regex: Some(r"^1\.2\.".into()),
            ..VersionRules::default()
        };
        let by = |versions| ContainerRules {
            versions,
            ..ContainerRules::default()
        };
        assert_eq!(standing(by(max)), "1.3.0 1.2.3");
        assert_eq!(standing(by(filtered)), "1.2.3");
    }

    #[test]
    fn many_tags_are_no_burden_and_few_are_named() {
        let tags: Vec<String> = (0..50_000)
            .map(|n| format!("1.{}.{}", n / 100, n % 100))
            .collect();
        let found = standing_tags("latest", None, &tags, &TagRules::default());
        assert_eq!(found.len(), MAX_LISTED);
        assert_eq!(found[0], "1.499.99");
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(mutable in "\\PC{0,20}", tags in proptest::collection::vec("[0-9a-z.v_-]{0,20}", 0..8)) {
            let found = standing_tags(&mutable, Some(&mutable), &tags, &TagRules::default());
            for tag in found {
                assert!(tags.iter().any(|known| known == tag));
            }
        }
    }
}
