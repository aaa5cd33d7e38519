//! Regular expressions that users write in labels. They run in linear time (no back-tracking), are
//! bounded in size and depth, and a bad one is a message on its container, never a failed watch.

use std::borrow::Cow;

use regex::bytes::{Captures, Regex, RegexBuilder};
use thiserror::Error;

/// Bytes. Drydock's limit, kept so that labels move over unchanged.
pub const MAX_PATTERN_BYTES: usize = 1024;
/// Bytes of compiled program, and the same again of lazily built automaton.
const MAX_COMPILED_BYTES: usize = 1 << 20;
const MAX_NESTING: u32 = 50;

/// Why a pattern cannot be used. `label` is what the user wrote it in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{label}: {problem}")]
pub struct PatternError {
    label: &'static str,
    problem: String,
}

impl PatternError {
    pub(crate) fn new(label: &'static str, problem: impl Into<String>) -> Self {
        Self {
            label,
            problem: problem.into(),
        }
    }
}

/// A filter on tags. Like JavaScript's `test`, it matches anywhere unless anchored.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl Pattern {
    pub fn compile(label: &'static str, pattern: &str) -> Result<Self, PatternError> {
        if pattern.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::new(
                label,
                format!(
                    "the regular expression has {} bytes, more than {MAX_PATTERN_BYTES}",
                    pattern.len()
                ),
            ));
        }
        RegexBuilder::new(pattern)
            // Tags are ASCII; Unicode classes would only make programs bigger.
            .unicode(false)
            .size_limit(MAX_COMPILED_BYTES)
            .dfa_size_limit(MAX_COMPILED_BYTES)
            .nest_limit(MAX_NESTING)
            .build()
            .map(Self)
            .map_err(|error| PatternError::new(label, explain(pattern, &error)))
    }

    pub fn is_match(&self, tag: &str) -> bool {
        self.0.is_match(tag.as_bytes())
    }
}

fn explain(pattern: &str, error: &regex::Error) -> String {
    const AHEAD: [&str; 4] = ["(?=", "(?!", "(?<=", "(?<!"];
    if AHEAD.iter().any(|look| pattern.contains(look)) {
        return "look-ahead and look-behind are not supported, because expressions run in linear \
                time; use an exclude filter for what must not match"
            .to_owned();
    }
    match error {
        regex::Error::CompiledTooBig(_) => {
            "the regular expression is too big when compiled; shorten its repetitions".to_owned()
        }
        // The last line is the reason; those before it draw the pattern.
        error => {
            let text = error.to_string();
            let reason = text.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            format!("the regular expression cannot be read: {reason}")
        }
    }
}

/// `regex => replacement`: what a tag is compared as. The replacement names groups (`$1`), as in
/// `^v(\d+)_(\d+)$ => $1.$2`, and becomes the whole version. A tag that does not match stays.
#[derive(Clone, Debug)]
pub struct Transform {
    pattern: Pattern,
    replacement: String,
}

impl Transform {
    pub fn compile(label: &'static str, formula: &str) -> Result<Self, PatternError> {
        let (pattern, replacement) = formula.split_once("=>").ok_or_else(|| {
            PatternError::new(label, "expected `regular expression => replacement`")
        })?;
        let (pattern, replacement) = (pattern.trim(), replacement.trim());
        if replacement.len() > MAX_PATTERN_BYTES {
            return Err(PatternError::new(label, "the replacement is too long"));
        }
        // Without a group every tag would become the same version.
        if !replacement.contains('$') {
            return Err(PatternError::new(
                label,
                "the replacement names no group of the expression, such as `$1`",
            ));
        }
        Ok(Self {
            pattern: Pattern::compile(label, pattern)?,
            replacement: replacement.to_owned(),
        })
    }

    pub fn apply<'t>(&self, tag: &'t str) -> Cow<'t, str> {
        let Some(groups) = self.pattern.0.captures(tag.as_bytes()) else {
            return Cow::Borrowed(tag);
        };
        let mut out = Vec::with_capacity(tag.len());
        expand(&self.replacement, &groups, &mut out);
        match String::from_utf8(out) {
            Ok(out) => Cow::Owned(out),
            Err(_) => Cow::Borrowed(tag),
        }
    }
}

/// JavaScript's replacement syntax. `Captures::expand` is not used: it reads `$1a` as a group
/// named `1a`.
fn expand(replacement: &str, groups: &Captures<'_>, out: &mut Vec<u8>) {
    let mut rest = replacement;
    while let Some(at) = rest.find('$') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let digits = rest
            .bytes()
            .take(2)
            .take_while(|b| b.is_ascii_digit())
            .count();
        // `$12` is group 12 if there is one, else group 1 followed by a 2.
        let number = (1..=digits).rev().find_map(|length| {
            let index: usize = rest[..length].parse().ok()?;
            (index < groups.len()).then_some((index, length))
        });
        if let Some((index, length)) = number {
            if let Some(group) = groups.get(index) {
                out.extend_from_slice(group.as_bytes());
            }
            rest = &rest[length..];
        } else if let Some((name, after)) = rest.strip_prefix('<').and_then(|r| r.split_once('>')) {
            if let Some(group) = groups.name(name) {
                out.extend_from_slice(group.as_bytes());
            }
            rest = after;
        } else if let Some(after) = rest.strip_prefix('$') {
            out.push(b'$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('&') {
            if let Some(all) = groups.get(0) {
                out.extend_from_slice(all.as_bytes());
            }
            rest = after;
        } else {
            out.push(b'$');
        }
    }
    out.extend_from_slice(rest.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(pattern: &str) -> String {
        Pattern::compile("dd.tag.include", pattern)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn patterns_match_anywhere_unless_anchored() {
        let pattern = Pattern::compile("x", r"\d+\.\d+").unwrap();
        assert!(pattern.is_match("v1.2-alpine"));
        assert!(!pattern.is_match("latest"));
        assert!(
            !Pattern::compile("x", r"^\d+\.\d+$")
                .unwrap()
                .is_match("v1.2")
        );
    }

    #[test]
    fn look_around_is_refused_with_a_way_out() {
        for pattern in ["^(?!.*rc)", "(?=a)b", "(?<!x)1", r"(?<=v)\d+"] {
            let text = problem(pattern);
            assert!(text.starts_with("dd.tag.include: look-ahead"), "{text}");
            assert!(text.contains("exclude"), "{text}");
        }
    }

    #[test]
    fn unreadable_and_oversized_patterns_are_refused_with_the_reason() {
        assert!(problem("(").contains("unclosed group"), "{}", problem("("));
        assert!(problem(&"a".repeat(1025)).contains("1025 bytes"));
        assert!(problem("((a{900}){900}){900}").contains("too big"));
        assert!(problem(&format!("{}a{}", "(".repeat(60), ")".repeat(60))).contains("nest"));
        assert!(problem(r"(a)\1").contains("backreferences"));
    }

    #[test]
    fn an_evil_pattern_is_still_fast() {
        let pattern = Pattern::compile("x", "^(a+)+$").unwrap();
        assert!(!pattern.is_match(&format!("{}b", "a".repeat(100_000))));
    }

    #[test]
    fn a_transform_rebuilds_the_whole_tag_from_groups() {
        for (formula, tag, expected) in [
            (r"^v(\d+)_(\d+)_(\d+)$ => $1.$2.$3", "v1_2_3", "1.2.3"),
            (r"^(\d+\.\d+\.\d+)-.*$=>$1", "1.2.3-noble-build7", "1.2.3"),
            (r"^(\d+\.\d+\.\d+)-.*$ => $1", "latest", "latest"),
            (r"^(\d+)-(\d+) => $1a$2", "4-5", "4a5"),
            (r"^(\d) => $12", "7x", "72"),
            (r"(?<major>\d+)x => $<major>.0.0", "7x", "7.0.0"),
            (r"^(\d+)(-rc)?$ => $1$2", "7", "7"),
            (r"\d+ => [$&]$$", "a7b", "[7]$"),
            (r"(\d+) => $x$1$", "7", "$x7$"),
        ] {
            let transform = Transform::compile("dd.tag.transform", formula).unwrap();
            assert_eq!(transform.apply(tag), expected, "{formula}");
        }
    }

    #[test]
    fn a_transform_without_arrow_or_group_is_refused() {
        assert!(Transform::compile("dd.tag.transform", r"^v(\d+)$").is_err());
        assert!(Transform::compile("dd.tag.transform", r"^v(\d+)$ => latest").is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_pattern_or_tag_panics(pattern in "\\PC{0,40}", replacement in "\\PC{0,20}", tag in "\\PC{0,40}") {
            if let Ok(p) = Pattern::compile("x", &pattern) {
                p.is_match(&tag);
            }
            if let Ok(t) = Transform::compile("x", &format!("{pattern} => {replacement}$1")) {
                t.apply(&tag);
            }
        }
    }
}
