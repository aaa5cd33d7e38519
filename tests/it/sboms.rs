//! Bills of materials, by the real Syft, of images in the real engine and a real registry.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use plimsoll_support::{
    postgres::Database, redis::Redis, server::Server, syft, trivy::Trivy, wait,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    replica::{Answer, answer},
    world::{SOON, World},
};

async fn world(settings: &[(&str, &str)]) -> World {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let set = |server: Server| {
        let all = settings.iter();
        all.fold(server, |server, (name, value)| server.env(name, value))
    };
    let api = set(Server::api(database.url(), &redis.url()));
    World::with(database, redis, api, set).await
}

/// Syft is there, as far as the worker has looked.
async fn looked(world: &World, status: &str) {
    wait::until_true("the worker to look for Syft", SOON, async || {
        let runtime = world.get("/api/v1/server/security/runtime").await;
        runtime.status == 200 && runtime.json()["sbom"]["status"] == status
    })
    .await;
}

async fn sbom(world: &World, id: &str, format: &str) -> Answer {
    let path = format!("/api/v1/containers/{id}/sbom?format={format}");
    world.get(&path).await
}

async fn security(world: &World, id: &str) -> Value {
    let shown = world.get(&format!("/api/v1/containers/{id}")).await.json();
    shown["security"].clone()
}

fn packages(document: &Value) -> Vec<&str> {
    let packages = document["packages"].as_array().expect("packages");
    packages.iter().filter_map(|p| p["name"].as_str()).collect()
}

#[tokio::test]
async fn what_runs_is_listed_package_by_package_and_kept() {
    let syft = syft::command();
    let world = world(&[
        ("DD_SECURITY_SBOM_ENABLED", "true"),
        ("DD_SECURITY_SYFT_COMMAND", syft.to_str().unwrap()),
    ])
    .await;
    let reference = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world.run("app", &reference, &[]).await;
    world.watch(&id).await;
    assert_eq!(security(&world, &id).await, Value::Null);
    let asked = world.registry.requests().len();

    let path = format!("/api/v1/containers/{id}/sbom");
    let made = world.get(&path).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let shown = made.json();
    let keys: Vec<&String> = shown.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "document",
            "error",
            "format",
            "generatedAt",
            "generator",
            "image"
        ]
    );
    assert_eq!(shown["generator"], "syft");
    assert_eq!(shown["image"], reference);
    assert_eq!(shown["format"], "spdx-json");
    assert_eq!(shown["error"], Value::Null);
    let document = &shown["document"];
    assert_eq!(document["spdxVersion"], "SPDX-2.3");
    let repository = reference.rsplit_once(':').unwrap().0;
    assert_eq!(document["name"], repository);
    assert!(packages(document).contains(&"busybox"), "{document}");
    // The image is the engine's: nothing was fetched.
    assert_eq!(world.registry.requests().len(), asked);

    // It is made once, however many ask.
    let (one, other) = tokio::join!(
        sbom(&world, &id, "cyclonedx-json"),
        sbom(&world, &id, "cyclonedx-json")
    );
    assert_eq!(
        (one.status, other.status),
        (200, 200),
        "{} {}",
        one.text,
        other.text
    );
    let (one, other) = (one.json(), other.json());
    assert_eq!(one["document"]["bomFormat"], "CycloneDX");
    assert_eq!(
        one["document"]["serialNumber"],
        other["document"]["serialNumber"]
    );
    let again = sbom(&world, &id, "spdx-json").await.json();
    assert_eq!(again, shown);

    let known = security(&world, &id).await;
    let report = &known["sbom"];
    assert_eq!(report["status"], "generated");
    assert_eq!(report["formats"], json!(["spdx-json", "cyclonedx-json"]));
    assert_eq!(report["documents"], json!({}));
    let digest = report["imageDigest"].as_str().unwrap();
    let root = document["packages"].as_array().unwrap().iter();
    let root: Vec<_> = root.filter(|p| p["name"] == repository).collect();
    assert_eq!(root[0]["versionInfo"], digest);

    let unsupported = sbom(&world, &id, "syft-json").await;
    assert_eq!(
        (unsupported.status, unsupported.error()),
        (
            400,
            "Unsupported SBOM format. Supported values: spdx-json, cyclonedx-json".into()
        )
    );
    let unknown = sbom(&world, &"0".repeat(64), "spdx-json").await;
    assert_eq!(
        (unknown.status, unknown.error()),
        (404, "Container not found".into())
    );
    let runtime = world.get("/api/v1/server/security/runtime").await.json();
    assert_eq!(
        runtime["sbom"],
        json!({"enabled": true, "formats": ["spdx-json"], "command": syft, "commandAvailable": true,
               "status": "ready", "message": format!("{} is there", syft.display())})
    );
}

#[tokio::test]
async fn a_scan_makes_that_of_the_update_which_is_there_when_it_runs() {
    let trivy = Trivy::install();
    let world = world(&[
        ("DD_SECURITY_SCANNER", "trivy"),
        (
            "DD_SECURITY_TRIVY_COMMAND",
            trivy.command().to_str().unwrap(),
        ),
        ("DD_SECURITY_SBOM_ENABLED", "true"),
        ("DD_SECURITY_SBOM_FORMATS", "cyclonedx-json,spdx-json"),
        (
            "DD_SECURITY_SYFT_COMMAND",
            syft::command().to_str().unwrap(),
        ),
    ])
    .await;
    let reference = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world
        .run("app", &reference, &[("dd.update.stability", "1")])
        .await;
    world.watch(&id).await;
    let path = format!("/api/v1/containers/{id}/scan");
    let scanned = answer(world.authorised(Method::POST, &path)).await;
    assert_eq!(scanned.status, 200, "{}", scanned.text);
    let found = &scanned.json()["security"];
    let report = &found["updateSbom"];
    assert_eq!(report["status"], "generated", "{found:#}");
    assert_eq!(report["formats"], json!(["spdx-json", "cyclonedx-json"]));
    assert!(report["image"].as_str().unwrap().ends_with(":1.1.0"));
    assert_eq!(found["sbom"], Value::Null, "nothing is known of what runs");

    let path = format!("/api/v1/containers/{id}/update");
    let updated = answer(world.authorised(Method::POST, &path)).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    let result = &updated.json()["result"];
    assert_eq!(result["security"]["sbom"], *report);
    let id = result["id"].as_str().unwrap();
    let document = sbom(&world, id, "spdx-json").await.json();
    assert!(document["generatedAt"].is_string(), "{document}");
    assert!(packages(&document["document"]).contains(&"busybox"));
}

/// A program in place of Syft.
fn script(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test]
async fn what_cannot_be_made_is_not_pretended() {
    let scratch = tempfile::tempdir().unwrap();
    let program = scratch.path().join("syft");
    script(
        &program,
        "#!/bin/sh\necho 'no space left on device' >&2\nexit 1\n",
    );
    let world = world(&[
        ("DD_SECURITY_SBOM_ENABLED", "true"),
        ("DD_SECURITY_SYFT_COMMAND", program.to_str().unwrap()),
        ("DD_SECURITY_SYFT_TIMEOUT", "1000"),
    ])
    .await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let id = world.run("app", &reference, &[]).await;
    looked(&world, "ready").await;
    for (text, reason) in [
        ("", "no space left on device"),
        (
            "#!/bin/sh\necho '{\"bomFormat\":\"CycloneDX\"}'\n",
            "did not write a document",
        ),
        (
            "#!/bin/sh\nprintf '{\"spdxVersion\":\"SPDX-2.3\",'\n",
            "did not write a document",
        ),
        ("#!/bin/sh\nexec sleep 600\n", "did not end within 1 s"),
    ] {
        if !text.is_empty() {
            script(&program, text);
        }
        let failed = sbom(&world, &id, "spdx-json").await;
        assert_eq!(
            (failed.status, failed.error()),
            (500, "Error generating SBOM".into()),
            "{}",
            failed.text
        );
        let said = failed.json()["details"]["reason"].to_string();
        assert!(said.contains(reason), "{said}");
    }
    let report = &security(&world, &id).await["sbom"];
    assert_eq!(report["status"], "error");
    assert_eq!(report["formats"], json!([]));

    // It takes longer than the client waits.
    script(&program, "#!/bin/sh\nexec sleep 600\n");
    let asked = world
        .authorised(Method::GET, &format!("/api/v1/containers/{id}/sbom"))
        .header("prefer", "wait=0");
    let busy = answer(asked).await;
    assert_eq!(busy.status, 503, "{}", busy.text);
    assert_eq!(busy.header("retry-after"), "5");
}

#[tokio::test]
async fn without_syft_it_says_what_is_missing() {
    let world = world(&[
        ("DD_SECURITY_SBOM_ENABLED", "true"),
        ("DD_SECURITY_SYFT_COMMAND", "/nowhere/syft"),
    ])
    .await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let id = world.run("app", &reference, &[]).await;
    looked(&world, "missing").await;
    let refused = sbom(&world, &id, "spdx-json").await;
    assert_eq!(refused.status, 503);
    assert_eq!(
        refused.json(),
        json!({
            "error": "Security scanner is not configured",
            "details": {"reason": "/nowhere/syft is not installed where the worker runs"},
        })
    );
    let runtime = world.get("/api/v1/server/security/runtime").await.json();
    assert_eq!(runtime["ready"], false);
    assert!(
        runtime["requirements"][0]
            .as_str()
            .unwrap()
            .starts_with("/nowhere/syft is not")
    );
}

#[tokio::test]
async fn where_none_are_wanted_there_are_none() {
    let world = World::start().await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let id = world.run("app", &reference, &[]).await;
    let refused = sbom(&world, &id, "spdx-json").await;
    assert_eq!(
        (refused.status, refused.text.as_str()),
        (503, "{\"error\":\"Security scanner is not configured\"}")
    );
}
