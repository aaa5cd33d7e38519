//! The table of candidates: `candidates.txt` says what each line means.

use std::collections::BTreeMap;

use plimsoll_domain::candidate::{Decision, NoUpdate, TagRules, decide};
use plimsoll_domain::container::SemverDiff;
use plimsoll_domain::labels::UserLabels;
use plimsoll_domain::tag::ParsedTag;

struct Case {
    line: usize,
    name: &'static str,
    current: &'static str,
    tags: Vec<&'static str>,
    labels: &'static str,
    expected: &'static str,
}

fn cases() -> Vec<Case> {
    include_str!("candidates.txt")
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .map(|(index, line)| {
            let line_number = index + 1;
            // A field may be empty, so the separators are the bars with a space before them.
            let fields: Vec<&str> = line.split(" |").map(str::trim).collect();
            let [name, current, tags, labels, expected] = fields[..] else {
                panic!("line {line_number} has {} fields, not 5", fields.len());
            };
            Case {
                line: line_number,
                name,
                current,
                tags: tags.split_whitespace().collect(),
                labels,
                expected,
            }
        })
        .collect()
}

/// The error is the label that is to blame.
fn rules(labels: &str) -> Result<TagRules, String> {
    let set: BTreeMap<String, String> = labels
        .split(" ; ")
        .filter(|label| !label.is_empty())
        .map(|label| {
            let (key, value) = label.split_once('=').expect("a label has a value");
            let whole = key.starts_with("wud.") || key.starts_with("docksmith.");
            let key = match whole {
                true => key.to_owned(),
                false => format!("dd.{key}"),
            };
            // What a line cannot hold.
            let value = match value.split_once(" times ") {
                Some((text, times)) => text.repeat(times.parse().expect("a number of times")),
                None => value.to_owned(),
            };
            (key, value)
        })
        .collect();
    let rules = UserLabels::new(&set, &BTreeMap::new()).rules();
    let compiled = TagRules::compile(&rules).map_err(|error| {
        let message = error.to_string();
        message.split(':').next().unwrap_or_default().to_owned()
    });
    let told = rules.problems.is_empty() || compiled.is_err();
    assert!(told, "{:?}", rules.problems);
    compiled
}

fn told(decision: Decision<'_>) -> String {
    match decision {
        Decision::Climb { tag, diff } => {
            let diff = match diff {
                SemverDiff::Major => "major",
                SemverDiff::Minor => "minor",
                SemverDiff::Patch => "patch",
                SemverDiff::Prerelease => "prerelease",
                SemverDiff::Unknown => "unknown",
            };
            format!("{tag} {diff}")
        }
        Decision::Stay { reason, suggested } => {
            let reason = match reason {
                NoUpdate::NotAVersion => "not-a-version",
                NoUpdate::Floating => "floating",
                NoUpdate::NothingMatches => "nothing-matches",
                NoUpdate::OtherFamilies => "other-families",
                NoUpdate::Limited => "limited",
                NoUpdate::UpToDate => "up-to-date",
            };
            match suggested {
                Some(tag) => format!("= {reason} {tag}"),
                None => format!("= {reason}"),
            }
        }
    }
}

#[test]
fn every_line_of_the_table_holds_in_any_order_of_tags() {
    let cases = cases();
    assert!(cases.len() >= 300, "only {} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let rules = match rules(case.labels) {
            Ok(rules) => rules,
            Err(label) => {
                if case.expected != format!("! {label}") {
                    wrong.push(format!("line {}, {}: {label} is bad", case.line, case.name));
                }
                continue;
            }
        };
        let mut tags = case.tags.clone();
        for _ in 0..=tags.len() {
            let told = told(decide(case.current, &tags, &rules));
            if told != case.expected {
                wrong.push(format!(
                    "line {}, {}: expected `{}`, got `{told}` for {tags:?}",
                    case.line, case.name, case.expected
                ));
                break;
            }
            if !tags.is_empty() {
                tags.rotate_left(1);
            }
        }
        tags.reverse();
        assert_eq!(
            told(decide(case.current, &tags, &rules)),
            told(decide(case.current, &case.tags, &rules)),
            "{}",
            case.name
        );
    }
    assert!(wrong.is_empty(), "{}\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn names_of_cases_are_unique() {
    let mut names: Vec<_> = cases().iter().map(|case| case.name).collect();
    names.sort_unstable();
    let total = names.len();
    names.dedup();
    assert_eq!(names.len(), total);
}

#[test]
fn a_hundred_thousand_tags_are_no_burden() {
    let mut tags: Vec<String> = (0..50_000)
        .map(|n| format!("1.{}.{}", n / 100, n % 100))
        .collect();
    tags.extend((0..50_000).map(|n| format!("1.{}.{}-alpine3.{}", n / 100, n % 100, n % 7)));
    assert_eq!(
        decide("1.2.3", &tags, &TagRules::default()).tag(),
        Some("1.499.99")
    );
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn tag() -> impl Strategy<Value = String> {
        let version = prop::collection::vec(0u32..12, 1..5).prop_map(|parts| {
            let parts: Vec<String> = parts.iter().map(u32::to_string).collect();
            parts.join(".")
        });
        let prefix = prop::sample::select(vec!["", "", "", "v", "release-", "amd64-"]);
        let suffix = prop::sample::select(vec![
            "",
            "",
            "",
            "-alpine",
            "-alpine3.19",
            "-alpine3.20",
            "-rc1",
            "-rc2",
            "-rc.3",
            "-beta1-alpine",
            "-ls7",
            "b2",
            "-slim",
            ".sig",
        ]);
        let odd = prop::sample::select(vec![
            "latest",
            "2024.01.15",
            "20240131",
            "2024-02-01",
            "1.02.3",
            "sha-1234567",
            "3f2a9bc",
        ]);
        prop_oneof![
            8 => (prefix, version, suffix).prop_map(|(p, v, s)| format!("{p}{v}{s}")),
            1 => odd.prop_map(str::to_owned),
            1 => "\\PC{0,12}",
        ]
    }

    fn labels() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "",
            "",
            "tag.family=loose",
            r"tag.include=^\d+\.\d+\.\d+$",
            r"tag.include=^v",
            r"tag.include=.* ; tag.exclude=^1\.",
            r"tag.transform=^v?(\d+)\.(\d+)(.*)$ => $2.$1$3",
            "docksmith.allow-prerelease=true",
            "docksmith.allow-prerelease=true ; tag.family=loose",
            "docksmith.version-pin-major=true ; docksmith.version-min=1.1",
            "docksmith.version-pin-minor=true ; docksmith.version-max=9.9.9",
            r"docksmith.tag-regex=^\d",
        ])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(500))]

        #[test]
        fn a_proposal_is_strictly_newer_and_one_of_the_tags(
            current in tag(),
            tags in prop::collection::vec(tag(), 0..12),
            labels in labels(),
        ) {
            let rules = rules(labels).expect("the labels compile");
            if let Some(found) = decide(&current, &tags, &rules).tag() {
                prop_assert!(tags.iter().any(|tag| tag == found));
                prop_assert_ne!(found, &current);
                let (from, to) = (rules.transform(&current), rules.transform(found));
                if let Some(running) = ParsedTag::parse(&from) {
                    let target = ParsedTag::parse(&to).expect("a proposal is a version");
                    prop_assert!(target.cmp_parts(&running).is_ge());
                    // From a pre-release to one of another kind only where a label asks for it.
                    let kinds = labels.contains("allow-prerelease")
                        && target.cmp_version(&running).is_gt();
                    prop_assert!(
                        (plimsoll_domain::candidate::is_greater(&running, &target) || kinds)
                            && !plimsoll_domain::candidate::is_greater(&target, &running),
                        "{} -> {}", current, found
                    );
                }
            }
        }

        #[test]
        fn going_there_ends_the_climb(
            current in tag(),
            tags in prop::collection::vec(tag(), 0..12),
            labels in labels(),
        ) {
            let rules = rules(labels).expect("the labels compile");
            let mut at = current;
            let mut steps = 0;
            while let Some(next) = decide(&at, &tags, &rules).tag() {
                at = next.to_owned();
                steps += 1;
                prop_assert!(steps <= tags.len(), "it goes round in circles at {}", at);
            }
        }

        #[test]
        fn the_order_of_the_tags_is_irrelevant(
            current in tag(),
            (tags, shuffled) in prop::collection::vec(tag(), 0..12)
                .prop_flat_map(|tags| (Just(tags.clone()), Just(tags).prop_shuffle())),
            labels in labels(),
        ) {
            let rules = rules(labels).expect("the labels compile");
            prop_assert_eq!(
                told(decide(&current, &tags, &rules)),
                told(decide(&current, &shuffled, &rules))
            );
        }

        #[test]
        fn a_release_never_goes_to_a_pre_release_without_being_asked(
            current in tag(),
            tags in prop::collection::vec(tag(), 0..12),
        ) {
            if let Some(found) = decide(&current, &tags, &TagRules::default()).tag() {
                let running = ParsedTag::parse(&current).expect("only versions climb");
                let target = ParsedTag::parse(found).expect("a proposal is a version");
                prop_assert!(running.prerelease().is_some() || target.prerelease().is_none());
            }
        }

        #[test]
        fn no_text_panics(
            current in "\\PC{0,40}",
            tags in prop::collection::vec("\\PC{0,40}", 0..6),
        ) {
            decide(&current, &tags, &TagRules::default());
        }
    }
}
