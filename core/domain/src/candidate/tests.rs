use super::*;

#[test]
fn digests_are_watched_as_in_the_contracts_era() {
    let watch = |image: &str, label: Option<bool>| {
        let image = ImageRef::parse(image).unwrap();
        let tag = TagRules::default().tag_facts(image.tag().map_or("latest", |tag| tag.as_str()));
        let rules = ContainerRules {
            watch_digest: label,
            ..ContainerRules::default()
        };
        watches_digest(&image, &tag, &rules)
    };
    assert!(!watch("ghcr.io/a/b:1.2.3", None));
    assert!(watch("ghcr.io/a/b:1.2", None));
    assert!(watch("ghcr.io/a/b:latest", None));
    assert!(watch("ghcr.io/a/b", None));
    assert!(!watch("nginx:latest", None));
    assert!(!watch("nginx:1", None));
    assert!(watch("nginx:latest", Some(true)));
    assert!(watch("ghcr.io/a/b:1.2.3", Some(true)));
    assert!(!watch("ghcr.io/a/b:latest", Some(false)));
    let digest = format!("ghcr.io/a/b@sha256:{}", "a".repeat(64));
    assert!(!watch(&digest, Some(true)));
}

#[test]
fn a_bad_pattern_names_its_label() {
    let rules = ContainerRules {
        exclude_tags: Some("(?!x)".into()),
        ..ContainerRules::default()
    };
    let error = TagRules::compile(&rules).unwrap_err().to_string();
    assert!(error.starts_with("dd.tag.exclude: "), "{error}");
}

#[test]
fn someone_on_latest_is_told_the_newest_release() {
    let tags = [
        "latest",
        "1.2.3",
        "v1.10.0",
        "2.0.0-rc1",
        "1.11",
        "sha-1234567",
    ];
    assert_eq!(
        decide("latest", &tags, &TagRules::default()),
        Decision::Stay {
            reason: NoUpdate::NotAVersion,
            suggested: Some("v1.10.0")
        }
    );
}
