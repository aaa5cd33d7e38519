use super::*;

const DIGEST: &str = "sha256:ca0edc3fb0b4647963629bdfccbb3ccfa352184b45a9b4145832000c2878dd72";

#[test]
fn short_names_get_dockers_defaults() {
    for (text, canonical) in [
        ("nginx", "docker.io/library/nginx"),
        ("nginx:1.27", "docker.io/library/nginx:1.27"),
        ("grafana/loki", "docker.io/grafana/loki"),
        ("docker.io/nginx", "docker.io/library/nginx"),
        ("index.docker.io/library/nginx", "docker.io/library/nginx"),
        ("registry-1.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ("localhost/app:1", "localhost/app:1"),
        ("localhost:5000/app", "localhost:5000/app"),
        ("LOCALHOST:5000/app", "localhost:5000/app"),
        ("127.0.0.1:5000/a/b/c:2", "127.0.0.1:5000/a/b/c:2"),
        ("[::1]:5000/app:2", "[::1]:5000/app:2"),
        ("ghcr.io/a/b__c-d.e_f:x", "ghcr.io/a/b__c-d.e_f:x"),
    ] {
        assert_eq!(
            ImageRef::parse(text).unwrap().to_string(),
            canonical,
            "{text}"
        );
    }
}

#[test]
fn tag_and_digest_are_both_kept() {
    let image = ImageRef::parse(&format!("nginx:1.27@{DIGEST}")).unwrap();
    assert_eq!(image.tag().unwrap().as_str(), "1.27");
    assert_eq!(image.digest().unwrap().as_str(), DIGEST);
    assert_eq!(image.digest().unwrap().short(), "ca0edc3fb0b4");
    assert_eq!(image.familiar_name(), "nginx");
}

#[test]
fn ids_are_no_references() {
    for id in [DIGEST, &DIGEST[7..], "sha256:abcd", "sha256:"] {
        assert!(
            matches!(ImageRef::parse(id), Err(ReferenceError::ImageId(_))),
            "{id}"
        );
    }
}

#[test]
fn malformed_references_are_refused() {
    for text in [
        "",
        "Nginx",
        "nginx:",
        "nginx:.x",
        "nginx:a b",
        "nginx@sha256:12",
        "a//b",
        "/a",
        "a/",
        "a/_b",
        "a/b..c",
        "a/b___c",
        "host:port/app",
        "host.:5/app",
        "-x.y/app",
        "[::1/app",
        "[::1]x/app",
        "ghcr.io/",
        "nginx:\u{e9}",
        "localhost:99999/app",
        &"a".repeat(300),
    ] {
        assert!(ImageRef::parse(text).is_err(), "{text}");
    }
}

#[test]
fn the_registry_url_names_the_host_that_answers() {
    let hub = ImageRef::parse("nginx").unwrap();
    assert_eq!(hub.registry_url(), "https://registry-1.docker.io/v2");
    assert_eq!(hub.default_registry_name(), "hub");
    let local = ImageRef::parse("localhost:5000/app").unwrap();
    assert_eq!(
        local.registry_url_over(Scheme::Http),
        "http://localhost:5000/v2"
    );
    assert_eq!(local.familiar_name(), "localhost:5000/app");
    assert_eq!(local.repository_key(), "localhost:5000/app");
}

proptest::proptest! {
    #[test]
    fn what_parses_reads_back_the_same(text in "[a-z0-9./:@_-]{0,40}") {
        if let Ok(image) = ImageRef::parse(&text) {
            assert_eq!(ImageRef::parse(&image.to_string()).unwrap(), image);
        }
    }

    #[test]
    fn no_text_panics(text in "\\PC{0,200}") {
        let _ = ImageRef::parse(&text);
    }
}
