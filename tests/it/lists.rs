//! Reading over HTTP: shapes, filters, orders, pages, entity tags
//! (contract/drydock-container-api.md, contract/drydock-app-api.md).

use plimsoll_app::store::{
    Store, StoreSettings,
    components::{self, Component, ComponentKind},
};
use plimsoll_domain::{
    container::{ComposeRef, ContainerFacts},
    ids::WatcherRef,
};
use plimsoll_support::{postgres::Database, redis::Redis};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    reads::{container, find_update, observe},
    replica::{Answer, Replica, answer},
};

struct Fleet {
    database: Database,
    one: Replica,
    two: Replica,
    token: String,
    _redis: Redis,
}

impl Fleet {
    /// `alpha` has an update, `beta` is stopped, `gamma` is in a stack, `Delta` asks to be watched.
    async fn start() -> (Self, Vec<ContainerFacts>) {
        let (database, redis) = (Database::migrated().await, Redis::start().await);
        let one = Replica::start(&database, &redis).await;
        let two = Replica::start(&database, &redis).await;
        let token = one.owner_token(&database).await;
        let mut facts: Vec<_> = ["alpha", "beta", "gamma", "Delta"]
            .iter()
            .zip(1..)
            .map(|(name, number)| container(name, number))
            .collect();
        facts[1].status = "exited".to_owned();
        facts[2].compose = Some(ComposeRef {
            project: "stack".to_owned(),
            service: "gamma".to_owned(),
        });
        facts[2].image.created = Some("2020-01-01T00:00:00Z".parse().unwrap());
        facts[3].rules.watch = Some(true);
        facts[3].rules.display_name = Some("The Delta".to_owned());
        facts[3].image.created = None;
        observe(&one.app, facts.clone()).await;
        find_update(&one.app, &facts[0], "1.1.0").await;
        let fleet = Self {
            database,
            one,
            two,
            token,
            _redis: redis,
        };
        (fleet, facts)
    }

    async fn get(&self, path: &str) -> Answer {
        self.one.get(path, &self.token).await
    }

    async fn names(&self, query: &str) -> Vec<String> {
        let answer = self.get(&format!("/api/v1/containers{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        let name = |c: &Value| c["name"].as_str().unwrap().to_owned();
        answer.json()["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(name)
            .collect()
    }
}

#[tokio::test]
async fn a_list_has_the_contracts_envelope_and_pages() {
    let (fleet, _) = Fleet::start().await;
    let all = fleet.get("/api/v1/containers").await.json();
    for (field, value) in [
        ("total", json!(4)),
        ("limit", json!(0)),
        ("offset", json!(0)),
    ] {
        assert_eq!(all[field], value);
    }
    assert_eq!(all["hasMore"], false);
    assert!(all.get("_links").is_none());
    let alpha = &all["data"][0];
    assert_eq!(alpha["updateAvailable"], true);
    assert_eq!(alpha["result"], json!({"tag": "1.1.0"}));
    assert_eq!(alpha["updateKind"]["semverDiff"], "minor");
    assert_eq!(alpha["image"]["tag"]["value"], "1.0.0");
    assert_eq!(alpha["watcher"], "local");

    let page = fleet
        .get("/api/containers?limit=2&offset=1&sort=name")
        .await
        .json();
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    assert_eq!((&page["limit"], &page["offset"]), (&json!(2), &json!(1)));
    assert_eq!(page["hasMore"], true);
    assert_eq!(
        page["_links"],
        json!({
            "self": "/api/v1/containers?sort=name&limit=2&offset=1",
            "next": "/api/v1/containers?sort=name&limit=2&offset=3",
        })
    );
    let past = fleet
        .get("/api/v1/containers?limit=2&offset=9")
        .await
        .json();
    assert_eq!((&past["data"], &past["total"]), (&json!([]), &json!(4)));
    assert_eq!(past["hasMore"], false);
    let odd = fleet
        .get("/api/v1/containers?limit=x&offset=-1")
        .await
        .json();
    assert_eq!(odd["data"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn every_sort_and_filter_selects_what_it_says() {
    let (fleet, _) = Fleet::start().await;
    for (query, expected) in [
        ("", "alpha beta Delta gamma"),
        ("?sort=name", "alpha beta Delta gamma"),
        ("?sort=-name", "gamma Delta beta alpha"),
        ("?sort=name&order=desc", "gamma Delta beta alpha"),
        ("?sort=-name&order=asc", "alpha beta Delta gamma"),
        ("?sort=status", "alpha beta Delta gamma"),
        ("?sort=-status", "gamma Delta beta alpha"),
        ("?sort=created", "gamma alpha beta Delta"),
        ("?sort=-created", "Delta beta alpha gamma"),
        ("?status=update-available", "alpha"),
        ("?status=up-to-date", "beta Delta gamma"),
        ("?status=running", "alpha Delta gamma"),
        ("?status=stopped", "beta"),
        ("?status=exited", "beta"),
        ("?status=paused", ""),
        ("?kind=minor", "alpha"),
        ("?kind=major", ""),
        ("?kind=digest", ""),
        ("?kind=watched", "Delta"),
        ("?kind=unwatched", "alpha beta gamma"),
        ("?kind=all", "alpha beta Delta gamma"),
        ("?watcher=local", "alpha beta Delta gamma"),
        ("?watcher=other", ""),
        ("?maturity=hot", "alpha"),
        ("?maturity=established", ""),
        ("?image.name=apps%2Fgamma", "gamma"),
        ("?displayName=The+Delta", "Delta"),
        ("?updateAvailable=false&status=running", "Delta gamma"),
        ("?no.such.field=x", ""),
        ("?details.env=x", ""),
        ("?includeVulnerabilities=true&limit=1", "alpha"),
    ] {
        assert_eq!(fleet.names(query).await.join(" "), expected, "{query}");
    }
    let by_age = fleet.names("?sort=age").await;
    assert_eq!(by_age.len(), 4);
    let mut reversed = fleet.names("?sort=-age").await;
    reversed.reverse();
    assert_eq!(by_age, reversed);
}

#[tokio::test]
async fn bad_filters_are_refused_in_the_contracts_words() {
    let (fleet, _) = Fleet::start().await;
    for (query, error) in [
        ("sort=size", "Invalid sort value"),
        ("order=up", "Invalid order value"),
        ("status=up", "Invalid status filter value"),
        ("kind=huge", "Invalid kind filter value"),
        ("watcher=", "Invalid watcher filter value"),
        ("maturity=old", "Invalid maturity filter value"),
    ] {
        let answer = fleet.get(&format!("/api/v1/containers?{query}")).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, error));
    }
    for (query, error) in [
        ("action=a%20b", "Invalid action query parameter"),
        ("actions=a,b%3B", "Invalid actions query parameter"),
        ("container=%27", "Invalid container query parameter"),
        ("from=yesterday", "Invalid from query parameter"),
    ] {
        let answer = fleet.get(&format!("/api/v1/audit?{query}")).await;
        assert_eq!((answer.status, answer.error().as_str()), (400, error));
    }
}

#[tokio::test]
async fn entity_tags_are_the_same_on_every_replica_and_change_with_the_content() {
    let (fleet, facts) = Fleet::start().await;
    let one = format!("/api/v1/containers/{}", facts[0].id);
    for path in [
        "/api/v1/containers",
        "/api/v1/containers?limit=2",
        "/api/v1/containers?status=running",
        &one,
    ] {
        let first = fleet.get(path).await;
        let etag = first.header("etag").to_owned();
        assert!(etag.starts_with("W/\""), "{path}: {etag}");
        let other = fleet.two.get(path, &fleet.token).await;
        assert_eq!(
            (other.header("etag"), &other.text),
            (etag.as_str(), &first.text)
        );
        let again = fleet
            .two
            .request(Method::GET, path)
            .bearer_auth(&fleet.token)
            .header("if-none-match", &etag);
        let again = answer(again).await;
        assert_eq!((again.status, again.text.as_str()), (304, ""), "{path}");
        assert_eq!(again.header("etag"), etag);
    }
    let before = fleet.get("/api/v1/containers").await;
    find_update(&fleet.two.app, &facts[0], "1.2.0").await;
    let after = fleet.get("/api/v1/containers").await;
    assert_ne!(before.header("etag"), after.header("etag"));
    assert_eq!(after.json()["data"][0]["result"]["tag"], "1.2.0");
}

#[tokio::test]
async fn fixed_paths_win_over_a_containers_id() {
    let (fleet, facts) = Fleet::start().await;
    let summary = fleet.get("/api/v1/containers/summary").await.json();
    assert_eq!(
        summary,
        json!({
            "containers": {"total": 4, "running": 3, "stopped": 1, "updatesAvailable": 1},
            "security": {"issues": 0},
            "hotUpdates": 1,
            "matureUpdates": 0,
        })
    );
    let backups = fleet.get("/api/v1/containers/backups").await;
    assert_eq!(backups.json(), json!({"data": [], "total": 0}));
    let groups = fleet.get("/api/v1/containers/groups").await.json();
    assert_eq!(groups["total"], 2);
    assert_eq!(groups["data"][0]["name"], "stack");
    assert_eq!(groups["data"][0]["containerCount"], 1);
    assert_eq!(groups["data"][1]["name"], Value::Null);
    assert_eq!(
        groups["data"][1]["containers"][0],
        json!({"id": facts[0].id.as_str(), "name": "alpha", "displayName": "alpha", "updateAvailable": true})
    );
    assert_eq!(groups["data"][1]["updatesAvailable"], 1);
    let statuses = fleet.get("/api/v1/containers/recent-status").await.json();
    assert_eq!(statuses, json!({"statuses": {"alpha": "pending"}}));
}

#[tokio::test]
async fn an_unknown_container_is_not_found_everywhere() {
    let (fleet, _) = Fleet::start().await;
    let unknown = "f".repeat(64);
    for tail in ["", "/backups", "/update-operations", "/triggers"] {
        let answer = fleet
            .get(&format!("/api/v1/containers/{unknown}{tail}"))
            .await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (404, "Container not found"),
            "{tail}"
        );
    }
}

#[tokio::test]
async fn history_follows_the_container_and_is_paged() {
    let (fleet, facts) = Fleet::start().await;
    let client = fleet.database.client().await;
    let identity = facts[0].identity_key();
    for n in 0..3 {
        client
            .execute(
                "INSERT INTO update_operations (id, kind, agent, watcher, container_id,
                     container_name, identity_key, phase, target_image, actor, from_version,
                     to_version, rollback_reason, created_at, updated_at, completed_at)
                 VALUES (gen_random_uuid(), 'update', '', 'local', 'gone', 'alpha', $1,
                     'rolled-back', 'alpha:2', 'test', '1', '2', 'Health check failed',
                     now() + make_interval(secs => $2), now(), now())",
                &[&identity.as_str(), &f64::from(n)],
            )
            .await
            .unwrap();
    }
    let path = format!("/api/v1/containers/{}/update-operations", facts[0].id);
    let page = fleet.get(&format!("{path}?limit=2")).await.json();
    assert_eq!(
        (&page["total"], &page["hasMore"]),
        (&json!(3), &json!(true))
    );
    let newest = &page["data"][0];
    assert_eq!(newest["status"], "rolled-back");
    assert_eq!(newest["rollbackReason"], "Health check failed");
    assert!(newest["createdAt"].as_str().unwrap().ends_with('Z'));
    assert!(newest["createdAt"].as_str() > page["data"][1]["createdAt"].as_str());
    assert_eq!(page["_links"]["next"], format!("{path}?limit=2&offset=2"));
    let id = newest["id"].as_str().unwrap();
    let single = fleet.get(&format!("/api/v1/update-operations/{id}")).await;
    assert_eq!(&single.json(), newest);
    for id in ["x", "00000000-0000-0000-0000-000000000000"] {
        let answer = fleet.get(&format!("/api/v1/update-operations/{id}")).await;
        assert_eq!(answer.status, 404);
    }
}

#[tokio::test]
async fn of_a_long_history_the_newest_entries_are_kept() {
    let database = Database::migrated().await;
    let client = database.client().await;
    // Days since each was asked for, and whether it ended.
    for (container, days, ended) in [
        ("busy", 0, true),
        ("busy", 2, true),
        ("busy", 3, true),
        ("busy", 4, true),
        ("busy", 5, false),
        ("quiet", 6, true),
        ("quiet", 31, true),
    ] {
        client
            .execute(
                "INSERT INTO update_operations (id, kind, agent, watcher, container_id,
                     container_name, identity_key, phase, target_image, actor, created_at,
                     completed_at)
                 SELECT gen_random_uuid(), 'update', '', 'local', 'c', $1, $1,
                     CASE WHEN $3 THEN 'succeeded' ELSE 'prepare' END, 'app:2', 'test', at,
                     CASE WHEN $3 THEN at END
                   FROM (SELECT now() - make_interval(days => $2) AS at) asked",
                &[&container, &days, &ended],
            )
            .await
            .unwrap();
    }
    let store = Store::new(&StoreSettings {
        url: database.url().into(),
        connections: 1,
    });
    let month = 30.0 * 24.0 * 60.0 * 60.0;
    let forgotten = store.unwrap().expire_operations(month, 2).await.unwrap();
    assert_eq!(forgotten, 3);
    let left = "SELECT container_name, extract(day FROM now() - created_at)::int
                  FROM update_operations ORDER BY created_at DESC";
    let left = client.query(left, &[]).await.unwrap();
    let left: Vec<(String, i32)> = left.iter().map(|row| (row.get(0), row.get(1))).collect();
    let kept = [("busy", 0), ("busy", 2), ("busy", 5), ("quiet", 6)];
    assert_eq!(left, kept.map(|(name, days)| (name.to_owned(), days)));
}

#[tokio::test]
async fn the_audit_trail_is_filtered_and_paged() {
    let (fleet, _) = Fleet::start().await;
    let all = fleet.get("/api/v1/audit").await.json();
    assert_eq!((&all["limit"], &all["offset"]), (&json!(50), &json!(0)));
    assert_eq!(all["total"], 5, "{all}");
    let found = fleet
        .get("/api/v1/audit?action=update-available")
        .await
        .json();
    assert_eq!(found["total"], 1);
    let entry = &found["data"][0];
    assert_eq!(entry["containerName"], "alpha");
    assert_eq!(entry["toVersion"], "1.1.0");
    let several = "/api/v1/audit?actions=update-available,container-added&limit=1&offset=1";
    let several = fleet.get(several).await.json();
    assert_eq!(
        (&several["total"], &several["hasMore"]),
        (&json!(5), &json!(true))
    );
    let none = fleet.get("/api/v1/audit?from=2100-01-01").await.json();
    assert_eq!(none["total"], 0);
    let by_name = fleet.get("/api/v1/audit?container=beta").await.json();
    assert_eq!(by_name["total"], 1);
}

fn component(type_: &str, name: &str) -> Component {
    Component {
        agent: String::new(),
        type_: type_.to_owned(),
        name: name.to_owned(),
        configuration: json!({"password": "[REDACTED]"}),
    }
}

#[tokio::test]
async fn components_are_listed_and_found_by_type_name_and_agent() {
    let (fleet, facts) = Fleet::start().await;
    let client = fleet.one.app.store().client().await.unwrap();
    let triggers = [component("docker", "local"), component("docker", "other")];
    components::replace(&client, ComponentKind::Trigger, "", &triggers)
        .await
        .unwrap();
    let remote = [component("docker", "far")];
    components::replace(&client, ComponentKind::Trigger, "edge", &remote)
        .await
        .unwrap();
    let hub = [component("hub", "public")];
    components::replace(&client, ComponentKind::Registry, "", &hub)
        .await
        .unwrap();
    let watcher = WatcherRef::local("local");
    let store = fleet.one.app.store();
    store
        .register_watcher(&watcher, &json!({"socket": "/x"}))
        .await
        .unwrap();

    let list = fleet.get("/api/v1/triggers?limit=2").await.json();
    assert_eq!(
        (&list["total"], &list["hasMore"]),
        (&json!(3), &json!(true))
    );
    let ids: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["id"].clone())
        .collect();
    assert_eq!(ids, ["edge.docker.far", "docker.local"]);
    for (path, id) in [
        ("/api/v1/triggers/docker/local", "docker.local"),
        ("/api/v1/triggers/docker/far/edge", "edge.docker.far"),
        ("/api/v1/registries/hub/public", "hub.public"),
        ("/api/v1/watchers/docker/local", "docker.local"),
    ] {
        let found = fleet.get(path).await.json();
        assert_eq!(found["id"], id, "{path}");
        assert!(found["configuration"].is_object());
    }
    for path in [
        "/api/v1/triggers/docker/far",
        "/api/v1/triggers/docker/local/edge",
        "/api/v1/registries/hub/private",
        "/api/v1/watchers/docker/none",
    ] {
        let answer = fleet.get(path).await;
        assert_eq!(
            (answer.status, answer.error().as_str()),
            (404, "Component not found")
        );
    }
    let watchers = fleet.get("/api/v1/watchers").await.json();
    assert_eq!(watchers["data"][0]["metadata"]["containers"]["total"], 4);
    assert_eq!(watchers["data"][0]["metadata"]["connected"], false);

    let path = format!("/api/v1/containers/{}/triggers", facts[0].id);
    let own = fleet.get(&path).await.json();
    assert_eq!(own["total"], 2, "the far one is another agent's");
    let mut alpha = facts[0].clone();
    alpha.rules.trigger_exclude = Some("docker.other".to_owned());
    observe(&fleet.one.app, vec![alpha]).await;
    let own = fleet.get(&path).await.json();
    assert_eq!(own["data"][0]["id"], "docker.local");
    assert_eq!(own["total"], 1);
    let agents = fleet.get("/api/v1/agents").await.json();
    assert_eq!(agents, json!({"data": [], "total": 0}));
}
