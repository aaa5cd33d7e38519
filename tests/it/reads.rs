//! The inventory that lists are answered from: never older than the request, on any replica.

use std::time::{Duration, Instant};

use plimsoll_app::{
    App, AppSettings, Queue, Store,
    containers::{ListQuery, Page, page},
    observations::{Observed, WatchOutcome},
    store::StoreSettings,
};
use plimsoll_domain::{
    container::{ContainerFacts, SemverDiff, WatchResult},
    ids::WatcherRef,
};
use plimsoll_support::{
    postgres::Database,
    proxy::{Fault, Proxy, Upstream},
};
use secrecy::SecretString;
use serde_json::json;

/// A use-case layer of its own on `url`, as another replica would be.
pub fn replica(url: &str, redis: &str) -> App {
    let settings = StoreSettings {
        url: SecretString::from(url.to_owned()),
        connections: 4,
    };
    App::new(
        Store::new(&settings).unwrap(),
        Queue::new(&SecretString::from(redis.to_owned())).unwrap(),
        AppSettings::default(),
    )
}

/// Where nothing answers: Redis must not matter.
pub const NO_REDIS: &str = "redis://127.0.0.1:1";

/// A container as an engine would show it; `number` makes it distinct.
pub fn container(name: &str, number: u64) -> ContainerFacts {
    serde_json::from_value(json!({
        "id": format!("{number:064x}"),
        "name": name,
        "watcher": {"agent": "", "name": "local"},
        "status": "running",
        "created": "2026-01-01T00:00:00.000Z",
        "image": {
            "id": format!("sha256:{number:064x}"),
            "registry": {"name": "custom", "url": "http://registry.test/v2"},
            "name": format!("apps/{name}"),
            "tag": {"value": "1.0.0", "semver": true, "tagPrecision": "specific"},
            "digest": {"watch": false},
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-01-01T00:00:00.000Z",
        },
    }))
    .unwrap()
}

/// Makes containers known as a worker would.
pub async fn observe(app: &App, present: Vec<ContainerFacts>) {
    let observed = Observed {
        present,
        gone: Vec::new(),
    };
    app.observe(&WatcherRef::local("local"), &observed)
        .await
        .unwrap();
}

/// Makes an update known as a watch would.
pub async fn find_update(app: &App, facts: &ContainerFacts, tag: &str) {
    let outcome = WatchOutcome {
        facts: facts.clone(),
        result: WatchResult {
            tag: Some(tag.to_owned()),
            semver_diff: Some(SemverDiff::Minor),
            ..WatchResult::default()
        },
        observed_at: chrono::Utc::now(),
    };
    assert_eq!(app.record_watch(&[outcome], &[]).await.unwrap(), 1);
}

async fn list(app: &App, query: &ListQuery) -> Page {
    page(app.snapshot().await.unwrap(), query)
}

async fn names(app: &App) -> Vec<String> {
    let page = list(app, &ListQuery::default()).await;
    let name =
        |entry: &std::sync::Arc<plimsoll_app::inventory::Entry>| entry.state.facts.name.clone();
    page.entries.iter().map(name).collect()
}

#[tokio::test]
async fn a_change_by_anyone_is_in_the_next_read_of_every_replica() {
    let database = Database::migrated().await;
    let replicas = [
        replica(database.url(), NO_REDIS),
        replica(database.url(), NO_REDIS),
    ];
    let client = database.client().await;
    for app in &replicas {
        assert!(names(app).await.is_empty());
    }
    let facts = container("app", 1);
    observe(&replicas[0], vec![facts.clone(), container("Zoo", 2)]).await;
    for app in &replicas {
        assert_eq!(names(app).await, ["app", "Zoo"]);
    }
    for round in 0..20 {
        let tag = format!("1.{round}.0");
        find_update(&replicas[round % 2], &facts, &tag).await;
        for app in &replicas {
            let entry = app.get_container(facts.id.as_str()).await.unwrap();
            assert!(entry.update_available || tag == "1.0.0");
            let json: serde_json::Value = serde_json::from_slice(&entry.json).unwrap();
            assert_eq!(json["result"]["tag"], tag);
        }
    }
    client
        .execute(
            "UPDATE containers SET removed = true WHERE name = 'app'",
            &[],
        )
        .await
        .unwrap();
    for app in &replicas {
        assert_eq!(names(app).await, ["Zoo"]);
    }
}

#[tokio::test]
async fn what_follows_the_identity_is_in_the_next_read_too() {
    let database = Database::migrated().await;
    let app = replica(database.url(), NO_REDIS);
    let client = database.client().await;
    let facts = container("app", 1);
    observe(&app, vec![facts.clone()]).await;
    find_update(&app, &facts, "1.1.0").await;
    let entry = app.get_container(facts.id.as_str()).await.unwrap();
    assert!(entry.update_available);
    assert!(entry.state.update_detected_at.is_some());

    let identity = facts.identity_key();
    client
        .execute(
            "INSERT INTO policies (identity_key, policy) VALUES ($1, '{\"skipTags\": [\"1.1.0\"]}')",
            &[&identity.as_str()],
        )
        .await
        .unwrap();
    let entry = app.get_container(facts.id.as_str()).await.unwrap();
    assert!(!entry.update_available, "skipped");
    assert_eq!(
        app.snapshot()
            .await
            .unwrap()
            .inventory
            .totals()
            .updates_available,
        0
    );
}

#[tokio::test]
async fn a_row_of_a_slow_transaction_is_seen_when_it_commits() {
    let database = Database::migrated().await;
    let app = replica(database.url(), NO_REDIS);
    observe(&app, vec![container("one", 1), container("two", 2)]).await;
    let mut slow = database.client().await;
    let tx = slow.transaction().await.unwrap();
    tx.execute(
        "UPDATE containers SET status = 'paused', \
                facts = jsonb_set(facts, '{status}', '\"paused\"') WHERE name = 'one'",
        &[],
    )
    .await
    .unwrap();
    // Others commit later transactions meanwhile, and readers move on.
    let mut two = container("two", 2);
    for status in ["exited", "running", "exited"] {
        two.status = status.to_owned();
        observe(&app, vec![two.clone()]).await;
        let entry = app.get_container(two.id.as_str()).await.unwrap();
        assert_eq!(entry.state.facts.status, status);
    }
    tx.commit().await.unwrap();
    let entry = app
        .get_container(container("one", 1).id.as_str())
        .await
        .unwrap();
    assert_eq!(entry.state.facts.status, "paused");
}

#[tokio::test]
async fn requests_share_reads_and_equal_content_has_equal_hashes() {
    let database = Database::migrated().await;
    let (one, two) = (
        replica(database.url(), NO_REDIS),
        replica(database.url(), NO_REDIS),
    );
    let fleet = (1..=50)
        .map(|n| container(&format!("app-{n}"), n))
        .collect();
    observe(&one, fleet).await;
    let answers = futures::future::join_all((0..200).map(|_| one.snapshot())).await;
    assert!(
        answers
            .iter()
            .all(|a| a.as_ref().unwrap().inventory.entries().len() == 50)
    );
    let hashes = async |app: &App| {
        let page = list(app, &ListQuery::default()).await;
        page.entries.iter().map(|e| e.hash).collect::<Vec<_>>()
    };
    assert_eq!(hashes(&one).await, hashes(&two).await);
}

#[tokio::test]
async fn without_postgres_a_read_fails_within_a_second_and_recovers_by_itself() {
    let database = Database::migrated().await;
    let proxy = Proxy::tcp(Upstream::Unix(database.socket())).await;
    let app = replica(&database.url_through(proxy.port()), NO_REDIS);
    observe(&app, vec![container("app", 1)]).await;
    assert_eq!(names(&app).await, ["app"]);
    for fault in [Fault::Refuse, Fault::Blackhole] {
        proxy.set(fault);
        let start = Instant::now();
        assert!(app.snapshot().await.is_err());
        plimsoll_support::wait::took_at_most(start, Duration::from_millis(1000));
        proxy.set(Fault::None);
        plimsoll_support::wait::until_true(
            "a read after the fault",
            Duration::from_secs(5),
            || async { app.snapshot().await.is_ok() },
        )
        .await;
        assert_eq!(names(&app).await, ["app"]);
    }
}
