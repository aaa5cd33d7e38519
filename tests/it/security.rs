//! Security scans, with a recorded Trivy, the real engine and a real registry.

use std::time::Duration;

use plimsoll_support::{
    image::Image, postgres::Database, redis::Redis, server::Server, trivy::Trivy, wait,
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    replica::{Answer, answer},
    world::{SOON, World},
};

async fn world(trivy: &Trivy, timeout: Duration) -> World {
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url()).env("DD_SECURITY_SCANNER", "trivy");
    World::with(database, redis, api, |worker| {
        worker
            .env("DD_SECURITY_SCANNER", "trivy")
            .env("DD_SECURITY_TRIVY_COMMAND", trivy.command().display())
            .env("DD_SECURITY_TRIVY_TIMEOUT", timeout.as_millis())
            .env("DD_SECURITY_TRIVY_SERVER", "http://trivy:4954")
            .env("PLANTED_SECRET", "hunter2")
    })
    .await
}

const LONG: Duration = Duration::from_secs(60);

async fn scan(world: &World, id: &str) -> Answer {
    answer(world.authorised(Method::POST, &format!("/api/v1/containers/{id}/scan"))).await
}

async fn update(world: &World, id: &str) -> Answer {
    let path = format!("/api/v1/containers/{id}/update");
    answer(world.authorised(Method::POST, &path)).await
}

async fn vulnerabilities(world: &World, id: &str) -> Value {
    let path = format!("/api/v1/containers/{id}/vulnerabilities");
    world.get(&path).await.json()
}

#[tokio::test]
async fn what_is_watched_is_scanned_by_the_clock() {
    let trivy = Trivy::install();
    trivy.finds(&[("CVE-2024-1", "CRITICAL")]);
    let (database, redis) = (Database::migrated().await, Redis::start().await);
    let api = Server::api(database.url(), &redis.url()).env("DD_SECURITY_SCANNER", "trivy");
    let world = World::with(database, redis, api, |worker| {
        worker
            .env("DD_SECURITY_SCANNER", "trivy")
            .env("DD_SECURITY_TRIVY_COMMAND", trivy.command().display())
            .env("DD_SECURITY_SCAN_CRON", "* * * * * *")
            .env("DD_SECURITY_SCAN_JITTER", "0")
    })
    .await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let ignored = world
        .run("ignored", &reference, &[("dd.watch", "false")])
        .await;
    let watched = world.run("watched", &reference, &[]).await;
    wait::until_true("the scan", SOON, async || {
        vulnerabilities(&world, &watched).await["status"] == "blocked"
    })
    .await;
    let other = vulnerabilities(&world, &ignored).await;
    assert_eq!(other["status"], "not-scanned");
}

#[tokio::test]
async fn a_scan_is_kept_shown_and_told_of() {
    let trivy = Trivy::install();
    trivy.finds(&[("CVE-2024-1", "CRITICAL"), ("CVE-2024-2", "LOW")]);
    let world = world(&trivy, LONG).await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let id = world.run("app", &reference, &[]).await;
    let before = vulnerabilities(&world, &id).await;
    assert_eq!(before["status"], "not-scanned");
    assert_eq!(before["vulnerabilities"], json!([]));

    let scanned = scan(&world, &id).await;
    assert_eq!(scanned.status, 200, "{}", scanned.text);
    let shown = &scanned.json()["security"]["scan"];
    let digest = shown["imageDigest"].as_str().unwrap().to_owned();
    assert_eq!(shown["scanner"], "trivy");
    assert_eq!(shown["image"], reference);
    assert_eq!(shown["status"], "blocked");
    assert_eq!(shown["blockSeverities"], json!(["CRITICAL", "HIGH"]));
    assert_eq!(shown["blockingCount"], 1);
    assert_eq!(
        shown["summary"],
        json!({"unknown": 0, "low": 1, "medium": 0, "high": 0, "critical": 1})
    );
    assert_eq!(
        shown["vulnerabilities"],
        json!([]),
        "lists are read on request"
    );

    // The real command line: by digest, from the registry, no shell, no secrets.
    let calls = trivy.calls();
    assert_eq!(
        calls,
        [format!(
            "image --quiet --format json --scanners vuln --timeout 60s \
             --server http://trivy:4954 --image-src remote --platform linux/amd64 -- {}@{digest}",
            reference.rsplit_once(':').unwrap().0
        )]
    );
    let environment = trivy.environment();
    for secret in ["hunter2", "DATABASE_URL", "REDIS_URL"] {
        assert!(!environment.contains(secret), "{environment}");
    }

    let whole = vulnerabilities(&world, &id).await;
    assert_eq!(whole["imageDigest"], digest);
    assert_eq!(
        whole["vulnerabilities"][0],
        json!({
            "id": "CVE-2024-1", "severity": "CRITICAL", "target": "app (debian 12.8)",
            "packageName": "libssl3", "installedVersion": "3.0.11-1", "fixedVersion": "3.0.15-1",
            "title": "openssl: a flaw", "primaryUrl": "https://avd.aquasec.com/nvd/cve-2024-1",
            "publishedDate": "2024-06-27T11:15:24.447Z",
        })
    );
    let list = world.get("/api/v1/containers").await.json();
    assert_eq!(
        list["data"][0]["security"]["scan"]["vulnerabilities"],
        json!([])
    );
    let list = world
        .get("/api/v1/containers?includeVulnerabilities=true")
        .await
        .json();
    assert_eq!(
        list["data"][0]["security"]["scan"]["vulnerabilities"],
        whole["vulnerabilities"]
    );
    let summary = world.get("/api/v1/containers/summary").await.json();
    assert_eq!(summary["security"]["issues"], 1);
    let alerts = world
        .get("/api/v1/audit?action=security-alert")
        .await
        .json();
    assert_eq!(alerts["total"], 1, "{alerts:#}");
    let rows = world.database.client().await;
    let events = "SELECT type, payload::jsonb FROM events WHERE type LIKE 'dd:scan-%' ORDER BY id";
    let told: Vec<(String, Value)> = rows
        .query(events, &[])
        .await
        .unwrap()
        .iter()
        .map(|row| (row.get(0), row.get(1)))
        .collect();
    assert_eq!(
        told,
        [
            ("dd:scan-started".to_owned(), json!({"containerId": id})),
            (
                "dd:scan-completed".to_owned(),
                json!({"containerId": id, "status": "blocked"})
            ),
        ]
    );

    // The same image in a second container is one group.
    let second = world.run("second", &reference, &[]).await;
    assert_eq!(scan(&world, &second).await.status, 200);
    let path = "/api/v1/containers/security/vulnerabilities";
    let overview = world.get(path).await.json();
    assert_eq!(overview["totalContainers"], 2);
    assert_eq!(overview["scannedContainers"], 2);
    assert_eq!(overview["total"], 2);
    let image = &overview["images"][0];
    assert_eq!(image["image"], reference);
    assert_eq!(image["containerIds"].as_array().unwrap().len(), 2);
    assert_eq!(image["vulnerabilities"][0]["package"], "libssl3");
    assert_eq!(image["vulnerabilities"][0]["fixedIn"], "3.0.15-1");
    let page = world.get(&format!("{path}?limit=1&offset=1")).await.json();
    assert_eq!(page["images"][0]["vulnerabilities"][0]["id"], "CVE-2024-2");
    assert_eq!(page["hasMore"], false);

    let runtime = world.get("/api/v1/server/security/runtime").await.json();
    assert_eq!(runtime["scanner"]["status"], "ready", "{runtime:#}");
    assert_eq!(runtime["scanner"]["version"], "0.58.1");
    assert_eq!(runtime["ready"], true);
}

#[tokio::test]
async fn what_a_scan_of_the_update_finds_blocks_it_before_anything_is_touched() {
    let trivy = Trivy::install();
    let world = world(&trivy, LONG).await;
    let reference = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world
        .run("app", &reference, &[("dd.update.stability", "1")])
        .await;
    world.watch(&id).await;
    let before = world.docker.containers().await;

    // Nobody has scanned it yet: the update does.
    trivy.finds(&[("CVE-2024-1", "HIGH")]);
    let refused = update(&world, &id).await;
    assert_eq!(refused.status, 500, "{}", refused.text);
    assert!(refused.text.contains("security scan"), "{}", refused.text);
    assert_eq!(world.docker.containers().await, before);
    let shown = world.get(&format!("/api/v1/containers/{id}")).await.json();
    assert_eq!(shown["security"]["updateScan"]["status"], "blocked");
    assert!(
        shown["security"]["updateScan"]["image"]
            .as_str()
            .unwrap()
            .ends_with(":1.1.0")
    );

    // From then on it is refused at the door.
    let refused = update(&world, &id).await;
    assert_eq!(refused.status, 409, "{}", refused.text);
    let reason = &refused.json()["details"]["blockers"][0]["reason"];
    assert_eq!(reason, "security-scan-blocked");
    assert_eq!(trivy.calls().len(), 1);

    // Fixed in the database since: a new scan opens the door.
    trivy.finds(&[("CVE-2024-1", "MEDIUM")]);
    let scanned = scan(&world, &id).await;
    assert_eq!(scanned.status, 200, "{}", scanned.text);
    assert_eq!(scanned.json()["security"]["updateScan"]["status"], "passed");
    let updated = update(&world, &id).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    assert_eq!(
        trivy.calls().len(),
        2,
        "what was found a moment ago is believed"
    );
    // What was the candidate's is now what runs.
    let result = &updated.json()["result"]["security"];
    assert_eq!(result["scan"]["summary"]["medium"], 1, "{result:#}");
    assert_eq!(result["updateScan"], Value::Null);
}

#[tokio::test]
async fn the_label_opens_the_gate_unless_it_is_the_images() {
    let trivy = Trivy::install();
    trivy.finds(&[("CVE-2024-1", "CRITICAL")]);
    let world = world(&trivy, LONG).await;
    for version in ["1.0.0", "1.1.0"] {
        let image = Image::app(version)
            .label("plimsoll.test", world.docker.id())
            .label("dd.security.gate", "off");
        world.registry.push("liar", version, &image).await;
    }
    let reference = world.registry.reference("liar", "1.0.0");
    world.docker.pull(&reference).await;
    let liar = world.run("liar", &reference, &[]).await;
    world.watch(&liar).await;
    assert_eq!(update(&world, &liar).await.status, 500);

    let reference = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let labels = [("dd.security.gate", "off"), ("dd.update.stability", "1")];
    let open = world.run("open", &reference, &labels).await;
    world.watch(&open).await;
    let updated = update(&world, &open).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
}

#[tokio::test]
async fn scans_that_come_to_nothing_say_why_and_change_nothing_that_is_known() {
    let trivy = Trivy::install();
    let world = world(&trivy, Duration::from_secs(2)).await;
    let reference = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let id = world.run("app", &reference, &[]).await;
    let known = scan(&world, &id).await;
    assert_eq!(
        known.json()["security"]["scan"]["status"],
        "passed",
        "{}",
        known.text
    );

    trivy.fails("2026-11-20T10:00:00Z\tFATAL\tFatal error\tdatabase error: no database");
    let failed = scan(&world, &id).await;
    assert_eq!(
        (failed.status, failed.error()),
        (500, "Security scan failed".into())
    );
    assert!(failed.text.contains("no database"), "{}", failed.text);
    let shown = world.get(&format!("/api/v1/containers/{id}")).await.json();
    assert_eq!(shown["security"]["scan"], known.json()["security"]["scan"]);
    world.watch(&id).await;
    let update = update(&world, &id).await;
    assert_eq!(update.status, 500, "{}", update.text);
    assert!(
        update.text.contains("could not be scanned"),
        "{}",
        update.text
    );
    trivy.works();

    // One at a time on an engine; one that hangs is ended.
    trivy.hangs();
    let path = format!("/api/v1/containers/{id}/scan");
    let first = world
        .authorised(Method::POST, &path)
        .header("prefer", "respond-async");
    assert_eq!(answer(first).await.status, 202);
    let busy = scan(&world, &id).await;
    assert_eq!(
        (busy.status, busy.error()),
        (429, "Too many concurrent security scans in progress".into())
    );
    wait::until_true("the scan to hang", SOON, async || trivy.is_hanging()).await;
    trivy.works();
    let again = wait::until("the engine to be free", SOON, async || {
        let again = scan(&world, &id).await;
        (again.status != 429).then_some(again)
    })
    .await;
    assert_eq!(again.status, 200, "{}", again.text);

    // Everything, once a minute.
    let all = || world.authorised(Method::POST, "/api/v1/containers/scan-all");
    let accepted = answer(all()).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    assert_eq!(accepted.json()["scheduledCount"], 1);
    assert_eq!(answer(all()).await.status, 429);
}

#[tokio::test]
async fn without_a_scanner_nobody_pretends() {
    let world = World::start().await;
    let reference = world.publish("app", &["1.0.0"]).await;
    let id = world.run("app", &reference, &[]).await;
    let refused = scan(&world, &id).await;
    assert_eq!(
        (refused.status, refused.error()),
        (400, "Security scanner is not configured".into())
    );
    assert_eq!(scan(&world, &"0".repeat(64)).await.status, 404);
    let runtime = world.get("/api/v1/server/security/runtime").await.json();
    assert_eq!(runtime["scanner"]["status"], "disabled");
    assert_eq!(runtime["ready"], false);
}
