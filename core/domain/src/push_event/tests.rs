use serde_json::json;

use super::*;

/// `source: image image …`, `unique` where the body is; `source: nothing`; or the error.
fn read(github_event: Option<&str>, body: &Value) -> String {
    match parse(github_event, body.to_string().as_bytes()) {
        Ok(RegistryEvent::Push(event)) => {
            let images: Vec<String> = event.images.iter().map(ToString::to_string).collect();
            let unique = if event.unique { " (unique)" } else { "" };
            format!("{}: {}{unique}", event.source.as_str(), images.join(" "))
        }
        Ok(RegistryEvent::Other(source)) => format!("{}: nothing", source.as_str()),
        Err(error) => error.to_string(),
    }
}

const DIGEST: &str = "sha256:0d7c1c4f5bd9d2ad4e3b3f1a4e9b6c1f8a7d6e5c4b3a29180706f5e4d3c2b1a0";

#[test]
fn what_docker_hub_sends() {
    let push = |name: &str, tag: &str| {
        json!({
            "callback_url": "https://registry.hub.docker.com/u/acme/shop/hook/2b1/",
            "push_data": {"pushed_at": 1_772_000_000, "pusher": "acme", "tag": tag, "images": null},
            "repository": {
                "name": "shop", "namespace": "acme", "owner": "acme", "repo_name": name,
                "repo_url": "https://hub.docker.com/r/acme/shop", "is_private": true, "status": "Active",
            },
        })
    };
    let cases = [
        (
            push("acme/shop", "latest"),
            "dockerhub: docker.io/acme/shop:latest (unique)",
        ),
        (
            push("library/redis", "7"),
            "dockerhub: docker.io/library/redis:7 (unique)",
        ),
        (
            push("redis", ""),
            "dockerhub: docker.io/library/redis (unique)",
        ),
        (
            push("", "latest"),
            "The Docker Hub event names no image: repository.repo_name is missing or cannot be read",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(read(None, &body), expected);
    }
}

#[test]
fn what_github_sends() {
    let package = |kind: &str, url: &str| {
        json!({
            "name": "Shop", "namespace": "Acme", "package_type": kind, "ecosystem": kind,
            "owner": {"login": "Acme", "type": "Organization"},
            "package_version": {
                "version": DIGEST, "package_url": url,
                "container_metadata": {"tag": {"name": "1.2.0", "digest": DIGEST}},
            },
        })
    };
    let event = |action: &str, package: Value| json!({"action": action, "package": package});
    let container = || package("CONTAINER", "ghcr.io/acme/shop:1.2.0");
    let cases = [
        (
            Some("package"),
            event("published", container()),
            "ghcr: ghcr.io/acme/shop:1.2.0".to_owned(),
        ),
        (
            Some("registry_package"),
            json!({"action": "updated", "registry_package": container()}),
            "ghcr: ghcr.io/acme/shop:1.2.0".to_owned(),
        ),
        // Without the header, as a relay may send it.
        (
            None,
            event("published", container()),
            "ghcr: ghcr.io/acme/shop:1.2.0".to_owned(),
        ),
        // An enterprise server's registry has a name of its own.
        (
            Some("package"),
            event(
                "published",
                package("container", "containers.github.acme.example/Acme/Shop:2"),
            ),
            "ghcr: containers.github.acme.example/acme/shop:2".to_owned(),
        ),
        // Pushed without a tag.
        (
            Some("package"),
            event("published", package("CONTAINER", "ghcr.io/acme/shop:")),
            "ghcr: ghcr.io/acme/shop".to_owned(),
        ),
        (
            Some("package"),
            event("published", package("CONTAINER", "")),
            format!("ghcr: ghcr.io/acme/shop:1.2.0@{DIGEST}"),
        ),
        (
            Some("package"),
            event("published", package("npm", "https://npm.pkg.github.com/x")),
            "ghcr: nothing".to_owned(),
        ),
        (
            Some("package"),
            event("deleted", container()),
            "ghcr: nothing".to_owned(),
        ),
        (
            Some("ping"),
            json!({"zen": "Keep it logically awesome.", "hook_id": 1}),
            "ghcr: nothing".to_owned(),
        ),
        (
            Some("package"),
            json!({"action": "published"}),
            "The GitHub event names no image: package is missing or cannot be read".to_owned(),
        ),
    ];
    for (header, body, expected) in cases {
        assert_eq!(read(header, &body), expected);
    }
}

#[test]
fn what_harbor_sends() {
    let resources = json!([
        {"digest": DIGEST, "tag": "1.2.0", "resource_url": "harbor.acme.example/shop/web:1.2.0"},
        {"digest": DIGEST, "tag": "edge", "resource_url": "harbor.acme.example/shop/web:edge"},
    ]);
    let repository = json!({"name": "web", "namespace": "shop", "repo_full_name": "shop/web",
                            "repo_type": "private", "date_created": 1_770_000_000});
    let own = |kind: &str| {
        json!({
            "type": kind, "occur_at": 1_772_000_000, "operator": "ci",
            "event_data": {"resources": resources, "repository": repository},
        })
    };
    let cloud = |kind: &str| {
        json!({
            "specversion": "1.0", "id": "66a9a5e5-1f4f-4c5d-8d2c-1e2f3a4b5c6d", "type": kind,
            "source": "/projects/1/webhook/policies/1", "time": "2026-03-01T10:00:00Z",
            "datacontenttype": "application/json", "operator": "ci",
            "data": {"resources": resources, "repository": repository},
        })
    };
    let both =
        "harbor: harbor.acme.example/shop/web:1.2.0 harbor.acme.example/shop/web:edge (unique)";
    let cases = [
        (own("PUSH_ARTIFACT"), both),
        (cloud("harbor.artifact.pushed"), both),
        (own("SCANNING_COMPLETED"), "harbor: nothing"),
        (cloud("harbor.artifact.pulled"), "harbor: nothing"),
        (
            json!({"type": "PUSH_ARTIFACT", "event_data": {"resources": []}}),
            "The Harbor event names no image: resources[].resource_url is missing or cannot be read",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(read(None, &body), expected);
    }
    let other = read(None, &cloud("com.example.else"));
    assert!(
        other.starts_with("The body is no event that is known"),
        "{other}"
    );
}

#[test]
fn what_quay_sends() {
    let event = |tags: Value| {
        json!({
            "name": "web", "namespace": "shop", "repository": "shop/web",
            "docker_url": "quay.acme.example:8443/shop/web", "updated_tags": tags,
            "homepage": "https://quay.acme.example:8443/repository/shop/web",
        })
    };
    let cases = [
        (
            event(json!(["latest", "1.2.0"])),
            "quay: quay.acme.example:8443/shop/web:latest quay.acme.example:8443/shop/web:1.2.0",
        ),
        (
            event(json!({"latest": "b750"})),
            "quay: quay.acme.example:8443/shop/web:latest",
        ),
        // A build was queued, a vulnerability was found.
        (event(Value::Null), "quay: nothing"),
        (
            event(json!([])),
            "The Quay event names no image: docker_url is missing or cannot be read",
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(read(None, &body), expected);
    }
}

#[test]
fn what_distribution_sends() {
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let event = |action: &str, kind: &str, tag: &str, url: &str| {
        json!({
            "id": "5f0c8b1e-9a3d-4c42-8f77-0a6f2d1b3c4e", "timestamp": "2026-03-01T10:00:00Z",
            "action": action,
            "target": {"mediaType": kind, "digest": DIGEST, "size": 708, "length": 708,
                       "repository": "shop/web", "url": url, "tag": tag},
            "request": {"id": "1", "addr": "10.0.0.9:40112", "host": "registry.acme.example:5000",
                        "method": "PUT", "useragent": "docker/29.0"},
            "actor": {}, "source": {"addr": "registry-1:5000", "instanceID": "a"},
        })
    };
    let at = |host: &str| format!("http://{host}/v2/shop/web/manifests/{DIGEST}");
    let envelope = |events: Vec<Value>| json!({"events": events});
    let same = at("registry.acme.example:5000");
    let pushed = || event("push", manifest, "1.2.0", &same);
    let one = format!("distribution: registry.acme.example:5000/shop/web:1.2.0@{DIGEST} (unique)");
    let cases = [
        (envelope(vec![pushed()]), one.clone()),
        // Azure's registry sends it without an envelope.
        (pushed(), one.clone()),
        (
            envelope(vec![
                event("push", "application/octet-stream", "", &same),
                event("pull", manifest, "1.2.0", &same),
                pushed(),
                pushed(),
            ]),
            one,
        ),
        (
            envelope(vec![event("push", manifest, "", &at("registry:5000"))]),
            format!(
                "distribution: registry.acme.example:5000/shop/web@{DIGEST} \
                 registry:5000/shop/web@{DIGEST} (unique)"
            ),
        ),
        (
            envelope(vec![event("delete", manifest, "1.2.0", &same)]),
            "distribution: nothing".to_owned(),
        ),
        (envelope(vec![]), "distribution: nothing".to_owned()),
        (
            json!({"id": "1", "action": "ping"}),
            "distribution: nothing".to_owned(),
        ),
        (
            envelope(vec![json!({"action": "push", "target": {"repository": "shop/web"}})]),
            "The distribution event names no image: target.repository with request.host is missing \
             or cannot be read"
                .to_owned(),
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(read(None, &body), expected);
    }
}

#[test]
fn what_anybody_may_send() {
    let nameless =
        "The generic event names no image: image or repository is missing or cannot be read";
    let cases = [
        (
            json!({"image": "registry.acme.example/shop/web:1.2.0"}),
            "generic: registry.acme.example/shop/web:1.2.0".to_owned(),
        ),
        (
            json!({"image": "nginx"}),
            "generic: docker.io/library/nginx".to_owned(),
        ),
        (
            json!({"repository": "registry.acme.example/shop/web", "tag": "1.2.0", "digest": DIGEST}),
            format!("generic: registry.acme.example/shop/web:1.2.0@{DIGEST}"),
        ),
        (
            json!({"repository": "registry.acme.example/shop/web"}),
            "generic: registry.acme.example/shop/web".to_owned(),
        ),
        (json!({"image": "Not An Image"}), nameless.to_owned()),
        (json!({"image": 7}), nameless.to_owned()),
        (json!({"repository": {"name": "web"}}), nameless.to_owned()),
    ];
    for (body, expected) in cases {
        assert_eq!(read(None, &body), expected);
    }
}

#[test]
fn what_nobody_sends() {
    for body in [
        json!({}),
        json!([]),
        json!("image"),
        json!(null),
        json!({"events": 1}),
    ] {
        let text = read(None, &body);
        assert!(
            text.starts_with("The body is no event that is known"),
            "{body}: {text}"
        );
    }
    let cut = parse(None, br#"{"image": "#).unwrap_err();
    assert!(matches!(cut, PushEventError::NotJson(_)), "{cut}");
}
