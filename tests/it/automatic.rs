//! Updates that nobody asks for, and what keeps them from happening (reference/drydock.md 4).

use std::time::Duration;

use plimsoll_support::image::Image;
use plimsoll_support::oracle::End;
use plimsoll_support::server::Server;
use plimsoll_support::wait;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::fleet::{Case, Fleet, text};
use crate::replica::answer;

const SOON: Duration = wait::SOON;
const OF: &str = "SELECT id FROM update_operations WHERE container_name = $1 AND kind = 'update'
                   ORDER BY created_at";

async fn updates_of(fleet: &Fleet, name: &str) -> Vec<Uuid> {
    let rows = fleet.rows.query(OF, &[&name]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A watch that somebody asks for, to its end: what it updates by itself is asked for by then.
async fn watch_all(fleet: &Fleet) {
    let watched = answer(fleet.request(0, Method::POST, "/containers/watch")).await;
    assert_eq!(watched.status, 200, "{}", watched.text);
}

async fn watches_done(fleet: &Fleet) -> i64 {
    let sql = "SELECT count(*) FROM jobs WHERE kind = 'watch' AND state = 'done'";
    fleet.rows.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn a_trigger_that_acts_by_itself_updates_after_a_watch_and_never_because_of_a_start() {
    let fleet = Fleet::start(1).await;
    let name = fleet.deploy("app", Case::app()).await;
    fleet.publish("app", "1.1.0", Image::app("1.1.0")).await;
    let start = |server: Server| {
        server
            .env("DD_TRIGGER_DOCKER_LOCAL_AUTO", "true")
            .env("DD_TRIGGER_DOCKER_LOCAL_PRUNE", "true")
            .env("PLIMSOLL_WATCHER_LOCAL_WATCHATSTART", "true")
    };
    let _worker = start(fleet.worker("local")).spawn();
    wait::until_true("the watch at start to end", SOON, async || {
        watches_done(&fleet).await > 0
    })
    .await;
    let found = fleet.listed(&name).await;
    assert_eq!(found["updateAvailable"], true, "{found:#}");
    assert!(
        updates_of(&fleet, &name).await.is_empty(),
        "a start is no reason"
    );
    let shown = fleet.get(0, "/triggers/docker/local").await;
    assert_eq!(shown["configuration"]["auto"], true);
    assert_eq!(shown["configuration"]["prune"], true);

    watch_all(&fleet).await;
    let updates = updates_of(&fleet, &name).await;
    let [update] = updates.as_slice() else {
        panic!("one update: {updates:?}");
    };
    let (end, row) = fleet.judged(*update).await;
    assert_eq!(end, End::Succeeded, "{row:#}");
    assert_eq!(row["actor"], "plimsoll");
    assert_eq!(row["trigger_name"], "docker.local");

    // Of the old image only the name is left that keeps the way back, and that expires.
    let old = fleet.registry.reference("app", "1.0.0");
    wait::until_true("the old image to lose its name", SOON, async || {
        fleet.docker.client().inspect_image(&old).await.is_err()
    })
    .await;
    watch_all(&fleet).await;
    assert_eq!(updates_of(&fleet, &name).await.len(), 1, "nothing is newer");
}

#[tokio::test]
async fn only_what_its_owner_included_and_nothing_holds_back_is_updated_by_itself() {
    let fleet = Fleet::start(1).await;
    // Configured, and so `oninclude`.
    let _worker = fleet
        .worker("local")
        .env("DD_TRIGGER_DOCKER_LOCAL_THRESHOLD", "all")
        .spawn();
    let included = ("dd.trigger.include", "docker.local");
    let sly = Image::app("1.0.0").label(included.0, included.1);
    type Labels = Vec<(&'static str, &'static str)>;
    let cases: [(&str, Image, Labels); 6] = [
        ("yes", Image::app("1.0.0"), vec![included]),
        ("no", Image::app("1.0.0"), vec![]),
        ("image", sly, vec![]),
        (
            "patch",
            Image::app("1.0.0"),
            vec![("dd.trigger.include", "docker.local:patch")],
        ),
        (
            "skipped",
            Image::app("1.0.0"),
            vec![included, ("dd.updatePolicy.skipTags", "1.1.0")],
        ),
        ("snoozed", Image::app("1.0.0"), vec![included]),
    ];
    let mut names = Vec::new();
    for (stem, image, labels) in cases {
        let case = Case {
            repository: stem,
            image,
            labels: &labels,
            ..Case::app()
        };
        names.push((stem, fleet.deploy(stem, case).await));
        fleet.publish(stem, "1.1.0", Image::app("1.1.0")).await;
    }
    let snoozed = text(&fleet.listed(&names[5].1).await, "id");
    let path = format!("/containers/{snoozed}/update-policy");
    let snooze = fleet.request(0, Method::PATCH, &path);
    let snooze = answer(snooze.json(&json!({"action": "snooze", "days": 1}))).await;
    assert_eq!(snooze.status, 200, "{}", snooze.text);
    watch_all(&fleet).await;
    for (stem, name) in &names {
        let updates = updates_of(&fleet, name).await;
        assert_eq!(updates.len(), usize::from(*stem == "yes"), "{stem}");
        for update in updates {
            assert_eq!(fleet.judged(update).await.0, End::Succeeded);
        }
    }
}

#[tokio::test]
async fn a_candidate_is_tried_once() {
    let fleet = Fleet::start(1).await;
    let _worker = fleet
        .worker("local")
        .env("DD_TRIGGER_DOCKER_LOCAL_AUTO", "true")
        .spawn();
    let case = Case {
        // A target that was rolled back would be barred otherwise.
        labels: &[("dd.update.rollback-gate", "off")],
        ..Case::app()
    };
    let name = fleet.deploy("app", case).await;
    let bad = Image::exits("1.1.0", 3, "cannot start");
    fleet.publish("app", "1.1.0", bad).await;
    fleet.listed(&name).await;
    watch_all(&fleet).await;
    let updates = updates_of(&fleet, &name).await;
    assert_eq!(updates.len(), 1);
    assert_eq!(fleet.judged(updates[0]).await.0, End::RolledBack);
    fleet.listed(&name).await;
    watch_all(&fleet).await;
    assert_eq!(updates_of(&fleet, &name).await, updates, "not again");
    fleet.publish("app", "1.2.0", Image::app("1.2.0")).await;
    watch_all(&fleet).await;
    let updates = updates_of(&fleet, &name).await;
    assert_eq!(updates.len(), 2, "a newer one is another candidate");
    assert_eq!(fleet.judged(updates[1]).await.0, End::Succeeded);
}
