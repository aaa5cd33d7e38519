//! Digests and image details.

use plimsoll_domain::image::Digest;
use plimsoll_support::{
    image::{Image, MANIFEST, sha256},
    registry::Registry,
};
use plimsoll_worker::registry::{Platform, RegistryError};
use serde_json::json;

use crate::{
    cached,
    hostile::{Answer, Hostile, Received},
    image, now, registries,
};

fn amd64() -> Platform {
    Platform::new("linux", "x86_64", None)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_is_one_head_request() {
    let registry = Registry::start().await;
    let pushed = registry.push("team/app", "1.0.0", &Image::app("1")).await;
    let before = registry.requests().len();
    let registries = registries(vec![], None);
    let app = image(&registry.reference("team/app", "1.0.0"));
    let digest = registries.digest(&app, now()).await.expect("a digest");
    assert_eq!(digest.as_str(), pushed);
    let requests = registry.requests();
    assert_eq!(requests.len() - before, 1);
    assert_eq!(requests[before].method, "HEAD");

    // A tag that moved is seen by whoever asks now, and by a cycle when its answer is too old.
    let moved = registry.push("team/app", "1.0.0", &Image::app("2")).await;
    let old = registries.digest(&app, cached(3600)).await;
    assert_eq!(old.expect("a digest").as_str(), pushed);
    let new = registries.digest(&app, now()).await;
    assert_eq!(new.expect("a digest").as_str(), moved);
}

#[tokio::test(flavor = "multi_thread")]
async fn details_come_from_the_manifest_of_the_platform() {
    let registry = Registry::start().await;
    let arm = Image::app("arm").platform("linux", "arm64");
    let amd = Image::app("amd")
        .platform("linux", "amd64")
        .created("2026-03-04T05:06:07Z")
        .label("org.opencontainers.image.source", "https://example.org");
    let list = registry
        .push_list("team/app", "1.0.0", &[arm, amd.clone()])
        .await;
    let registries = registries(vec![], None);
    let app = image(&registry.reference("team/app", "1.0.0"));
    let details = registries.details(&app, &amd64()).await.expect("details");
    let built = amd.build();
    assert_eq!(details.digest.as_str(), list);
    assert_eq!(details.manifest_digest.as_str(), built.digest);
    assert_eq!(details.config_digest.as_str(), built.image_id);
    assert_eq!(
        details.labels["org.opencontainers.image.source"],
        "https://example.org"
    );
    let created = details.created.expect("a time").to_rfc3339();
    assert_eq!(created, "2026-03-04T05:06:07+00:00");
    assert_eq!(details.config["architecture"], "amd64");
    assert!(details.size > 0);

    let pinned = app.with_digest(details.digest.clone());
    let again = registries
        .details(&pinned, &amd64())
        .await
        .expect("details");
    assert_eq!(again.manifest_digest, details.manifest_digest);

    let windows = Platform::new("windows", "amd64", None);
    let error = registries.details(&app, &windows).await.expect_err("none");
    assert!(matches!(error, RegistryError::NoPlatform { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("no image for windows/amd64"), "{text}");
    assert!(text.contains("linux/arm64, linux/amd64"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_manifest_for_another_platform_is_refused() {
    let registry = Registry::start().await;
    let arm = Image::app("arm").platform("linux", "arm64");
    registry.push("team/app", "1.0.0", &arm).await;
    let registries = registries(vec![], None);
    let app = image(&registry.reference("team/app", "1.0.0"));
    let error = registries.details(&app, &amd64()).await.expect_err("arm");
    assert!(
        error.to_string().contains("no image for linux/amd64"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_the_digest_header_is_read_and_hashed() {
    let manifest = json!({"schemaVersion": 2}).to_string();
    let expected = sha256(manifest.as_bytes());
    let server = Hostile::start(move |_| Answer::json(manifest.clone())).await;
    let registries = registries(vec![], None);
    let app = image(&format!("{}/team/app:1", server.host()));
    let digest = registries.digest(&app, now()).await.expect("a digest");
    assert_eq!(digest.as_str(), expected);
}

fn manifests(request: &Received, body: &str, digest: &str) -> Answer {
    if request.path.contains("/manifests/") {
        Answer::json(body).with("docker-content-digest", digest)
    } else {
        Answer::new(404, "")
    }
}

async fn error_of(body: String, digest: Option<String>) -> RegistryError {
    let digest = digest.unwrap_or_else(|| sha256(body.as_bytes()));
    let server = Hostile::start(move |request| manifests(request, &body, &digest)).await;
    let registries = registries(vec![], None);
    let app = image(&format!("{}/team/app:1", server.host()));
    registries.details(&app, &amd64()).await.expect_err("bad")
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_is_not_what_its_digest_says_is_never_used() {
    let body = json!({"schemaVersion": 2}).to_string();
    let error = error_of(body.clone(), Some(sha256(b"something else"))).await;
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );

    // Asked for by digest, the registry's own word does not count.
    let (other, said) = (body.clone(), sha256(body.as_bytes()));
    let server = Hostile::start(move |request| manifests(request, &other, &said)).await;
    let registries = registries(vec![], None);
    let wanted = Digest::parse(&sha256(b"what we want")).expect("a digest");
    let app = image(&format!("{}/team/app:1", server.host())).with_digest(wanted);
    let error = registries.details(&app, &amd64()).await.expect_err("a lie");
    assert!(
        matches!(error, RegistryError::DigestMismatch { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_manifests_are_clear_errors() {
    let index = "application/vnd.oci.image.index.v1+json";
    let entry = |media: &str| {
        json!({"mediaType": media, "digest": sha256(b"x"), "size": 1,
            "platform": {"os": "linux", "architecture": "amd64"}})
    };
    let many: Vec<_> = (0..201).map(|_| entry(MANIFEST)).collect();
    let helm = json!({"schemaVersion": 2, "layers": [], "config":
        {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": sha256(b"x"), "size": 1}});
    let cases = [
        (String::new(), "no manifest"),
        ("<html>".to_owned(), "web page"),
        ("[]".to_owned(), "no manifest"),
        (
            r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
            "Docker 1.9",
        ),
        (
            json!({"schemaVersion": 2, "mediaType": index, "manifests": many}).to_string(),
            "200",
        ),
        (
            json!({"schemaVersion": 2, "manifests": []}).to_string(),
            "no image for",
        ),
        (
            json!({"schemaVersion": 2, "manifests": [
                {"digest": "sha256:../../etc", "platform": {"os": "linux", "architecture": "amd64"}}
            ]})
            .to_string(),
            "without digests",
        ),
        (helm.to_string(), "no container image"),
    ];
    for (body, words) in cases {
        let error = error_of(body.clone(), None).await;
        assert!(error.to_string().contains(words), "{body}: {error}");
    }
    let error = error_of(" ".repeat(4 * 1024 * 1024 + 1), None).await;
    assert!(matches!(error, RegistryError::TooLarge { .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_inside_indexes_end_after_two() {
    // Four indexes, each naming the next one by its true digest.
    let mut bodies = vec![json!({"schemaVersion": 2, "manifests": []}).to_string()];
    for _ in 0..3 {
        let inner = sha256(bodies[bodies.len() - 1].as_bytes());
        let index = json!({"schemaVersion": 2, "manifests": [{
            "mediaType": "application/vnd.oci.image.index.v1+json", "digest": inner, "size": 1,
        }]});
        bodies.push(index.to_string());
    }
    let server = Hostile::start(move |request| {
        let by_digest = bodies
            .iter()
            .find(|body| request.path.ends_with(&sha256(body.as_bytes())));
        let body = by_digest.unwrap_or(&bodies[3]);
        Answer::json(body.clone())
    })
    .await;
    let registries = registries(vec![], None);
    let app = image(&format!("{}/team/app:1", server.host()));
    let error = registries.details(&app, &amd64()).await.expect_err("deep");
    assert!(error.to_string().contains("inside an index"), "{error}");
    assert_eq!(server.received().len(), 3);
}
