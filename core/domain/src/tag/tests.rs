use super::*;

#[test]
fn tags_split_into_prefix_parts_and_suffix() {
    for (text, prefix, parts, suffix) in [
        ("1.2.3", "", &[1, 2, 3][..], ""),
        ("v1.2.3-alpine3.19", "v", &[1, 2, 3], "-alpine3.19"),
        ("16", "", &[16], ""),
        ("1.2.3.4.5", "", &[1, 2, 3, 4, 5], ""),
        ("2024.12.0", "", &[2024, 12, 0], ""),
        ("2024-01-31", "", &[2024, 1, 31], ""),
        ("20240131-slim", "", &[2024, 1, 31], "-slim"),
        ("jammy-20240111", "jammy-", &[2024, 1, 11], ""),
        (
            "RELEASE.2024-01-16T16-07-38Z",
            "RELEASE.",
            &[2024, 1, 16],
            "T16-07-38Z",
        ),
        ("amd64-1.2.3", "amd64-", &[1, 2, 3], ""),
        ("1.2.x", "", &[1, 2], ".x"),
        ("20241399", "", &[20241399], ""),
        ("3.13.0rc1", "", &[3, 13, 0], "rc1"),
        ("17.0.9_9-jre", "", &[17, 0, 9], "_9-jre"),
    ] {
        let tag = ParsedTag::parse(text).unwrap();
        assert_eq!(
            (tag.prefix(), tag.parts(), tag.suffix()),
            (prefix, parts, suffix),
            "{text}"
        );
    }
}

#[test]
fn tags_without_a_version_are_none() {
    for text in [
        "latest",
        "",
        "stable-alpine",
        "3f2a9bc",
        "sha-1234567",
        "99999999999999999999999",
        "1.2.3.4.5.6.7.8.9",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    ] {
        assert_eq!(ParsedTag::parse(text), None, "{text}");
    }
}

#[test]
fn fewer_than_three_parts_float() {
    let precision = |text| ParsedTag::parse(text).unwrap().precision();
    assert_eq!(precision("1"), TagPrecision::Floating);
    assert_eq!(precision("1.2-alpine3.19.1"), TagPrecision::Floating);
    assert_eq!(precision("1.2.3"), TagPrecision::Specific);
    assert_eq!(precision("20240131"), TagPrecision::Specific);
}

#[test]
fn flavours_are_told_apart() {
    for (a, b, expected) in [
        ("", "", Shape::Same),
        ("-alpine3.19", "-alpine3.20", Shape::Same),
        ("-ls123", "-ls4", Shape::Same),
        ("-alpine", "-alpine3.20", Shape::Extended),
        ("-alpine3.20", "-alpine", Shape::Extended),
        ("", "-alpine", Shape::Different),
        ("-alpine", "", Shape::Different),
        ("", "-1", Shape::Different),
        ("-alpine", "-alpine-perl", Shape::Different),
        ("-slim", "-alpine", Shape::Different),
        ("-rc1", "-beta1", Shape::Different),
    ] {
        assert_eq!(shape(a, b), expected, "{a} {b}");
    }
}

#[test]
fn prerelease_marks_are_found_and_flavours_are_not_taken_for_them() {
    for (suffix, mark, before, after) in [
        ("-rc1", "rc", "", ""),
        ("-rc.1.2", "rc", "", ""),
        ("-RC-2", "RC", "", ""),
        ("b1", "b", "", ""),
        ("-beta", "beta", "", ""),
        ("-alpha.3-alpine3.19", "alpha", "", "-alpine3.19"),
        ("-alpine-rc1", "rc", "-alpine", ""),
        ("-M4", "M", "", ""),
    ] {
        let found = Prerelease::find(suffix).unwrap();
        assert_eq!(
            (found.mark, found.before, found.after),
            (mark, before, after),
            "{suffix}"
        );
    }
    for suffix in [
        "",
        "-alpine",
        "-bookworm",
        "-ls12",
        "-r4",
        "-arc1",
        "-prebuilt",
        "-build.b1",
    ] {
        assert_eq!(Prerelease::find(suffix), None, "{suffix}");
    }
}

#[test]
fn suffix_numbers_compare_by_value() {
    let cmp = |a, b| {
        ParsedTag::parse(a)
            .unwrap()
            .cmp_suffix_numbers(&ParsedTag::parse(b).unwrap())
    };
    assert_eq!(cmp("1.0.0-rc10", "1.0.0-rc9"), Ordering::Greater);
    assert_eq!(cmp("1.0.0-rc09", "1.0.0-rc9"), Ordering::Equal);
    assert_eq!(
        cmp("1.0.0-x99999999999999999999999", "1.0.0-x9"),
        Ordering::Greater
    );
}

#[test]
fn steps_are_named() {
    let diff = |a, b| {
        ParsedTag::parse(a)
            .unwrap()
            .diff(&ParsedTag::parse(b).unwrap())
    };
    assert_eq!(diff("1.2.3", "2.0.0"), SemverDiff::Major);
    assert_eq!(diff("1.2.3", "1.3.0"), SemverDiff::Minor);
    assert_eq!(diff("1.2.3", "1.2.4"), SemverDiff::Patch);
    assert_eq!(diff("1.2.3.4", "1.2.3.5"), SemverDiff::Prerelease);
    assert_eq!(diff("1.2.3-rc1", "1.2.3-rc2"), SemverDiff::Prerelease);
    assert_eq!(diff("1.2.0-rc1", "1.2.0"), SemverDiff::Minor);
    assert_eq!(diff("2.0.0-rc1", "2.0.0"), SemverDiff::Major);
}

#[test]
fn versions_are_read_from_inspect_documents() {
    let inspect = serde_json::json!({"Config": {
        "Labels": {"org.opencontainers.image.version": "1.4.2", "bad": "a b"},
        "Env": ["PATH=/bin", "APP_VERSION=2.0.1"],
    }});
    let at = |path| inspected_version(&inspect, path);
    assert_eq!(
        at("Config/Labels/org.opencontainers.image.version").as_deref(),
        Some("1.4.2")
    );
    assert_eq!(at("Config/Env/APP_VERSION").as_deref(), Some("2.0.1"));
    assert_eq!(at("Config/Labels/bad"), None);
    assert_eq!(at("Config/Nothing"), None);
    assert_eq!(at("Config"), None);
}

proptest::proptest! {
    #[test]
    fn no_text_panics(a in "\\PC{0,60}", b in "[0-9a-z.v_-]{0,30}") {
        for text in [&a, &b] {
            if let Some(tag) = ParsedTag::parse(text) {
                tag.prerelease();
                tag.diff(&tag);
                assert_eq!(tag.shape_against(&tag), Shape::Same);
            }
        }
    }
}
