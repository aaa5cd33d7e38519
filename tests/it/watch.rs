//! Watching: the inventory follows the engine, cycles find candidates, and neither a failing
//! engine nor a failing registry takes away what is known.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bollard::models::ContainerCreateBody;
use plimsoll_app::store::{StoreSettings, containers};
use plimsoll_app::{App, AppSettings, Queue, Store};
use plimsoll_domain::candidate::WatchDefault;
use plimsoll_domain::container::ContainerState;
use plimsoll_domain::ids::{ContainerId, WatcherRef};
use plimsoll_domain::job::WatchCause;
use plimsoll_domain::schedule::CronSchedule;
use plimsoll_support::docker::Docker;
use plimsoll_support::image::Image;
use plimsoll_support::postgres::Database;
use plimsoll_support::proxy::{Fault, Proxy, Upstream};
use plimsoll_support::redis::Redis;
use plimsoll_support::registry::Registry;
use plimsoll_support::wait;
use plimsoll_worker::docker::{Engine, EngineAddress};
use plimsoll_worker::jobs::watch::{Asked, handle};
use plimsoll_worker::registry::{Options, Registries};
use plimsoll_worker::watchers::{self, Depth, Watcher, WatcherSettings};
use tokio_util::sync::CancellationToken;

use crate::world::World;

const SOON: Duration = wait::SOON;

/// A worker's parts for one engine, over services of its own.
struct Fleet {
    database: Database,
    redis: Redis,
    docker: Docker,
    app: App,
    watcher: Watcher,
}

impl Fleet {
    async fn start() -> Self {
        Self::at(EngineAddress::local()).await
    }

    /// Only containers with the label `dd.watch` are watched: the engine has others' too.
    async fn at(address: EngineAddress) -> Self {
        let docker = Docker::connect().await;
        let (database, redis) = (Database::migrated().await, Redis::start().await);
        let app = app(&database, &redis);
        let watcher = watcher(&app, address).await;
        Self {
            database,
            redis,
            docker,
            app,
            watcher,
        }
    }

    /// Runs `image` under a name of this test's. Its label keeps the watchers of other tests away,
    /// which share the engine; a watch that names it checks it all the same.
    async fn run(&self, stem: &str, image: &str) -> ContainerId {
        let name = self.docker.name(stem);
        let id = self.docker.run_with(&name, labelled(image, "false")).await;
        ContainerId::parse(&id).expect("Docker's ids are well-formed")
    }

    async fn look(&self) {
        let looked = self.watcher.inventory().resync(Depth::Everything).await;
        looked.expect("the engine answers");
    }

    async fn watch(&self, containers: &[&ContainerId]) {
        let ids: Vec<ContainerId> = containers.iter().map(|id| (*id).clone()).collect();
        let watched = handle(&self.watcher, &ids, Asked::ByRequest, WatchCause::Other).await;
        watched.expect("the cycle runs");
    }

    async fn state(&self, id: &ContainerId) -> Option<ContainerState> {
        let client = self.app.store().client().await.unwrap();
        let mut states = containers::states(&client, &[id.as_str()]).await.unwrap();
        states.pop()
    }

    async fn is_listed(&self, id: &ContainerId) -> bool {
        let query = "SELECT 1 FROM containers WHERE id = $1 AND NOT removed";
        let client = self.database.client().await;
        client
            .query_opt(query, &[&id.as_str()])
            .await
            .unwrap()
            .is_some()
    }

    /// The proposed tag, or the error's message.
    async fn verdict(&self, id: &ContainerId) -> Result<Option<String>, String> {
        let state = self.state(id).await.expect("the container is known");
        match state.current_result() {
            None => Ok(None),
            Some(result) => match &result.error {
                Some(error) => Err(error.message.clone()),
                None => Ok(result.tag.clone()),
            },
        }
    }

    async fn count(&self, query: &str, name: &str) -> i64 {
        let client = self.database.client().await;
        client.query_one(query, &[&name]).await.unwrap().get(0)
    }
}

fn app(database: &Database, redis: &Redis) -> App {
    let store = Store::new(&StoreSettings {
        url: database.url().into(),
        connections: 4,
    });
    let queue = Queue::new(&redis.url().into());
    App::new(store.unwrap(), queue.unwrap(), AppSettings::default())
}

async fn watcher(app: &App, address: EngineAddress) -> Watcher {
    let schedule = CronSchedule::parse("0 */6 * * *", "").unwrap();
    let mut settings = WatcherSettings::new(WatcherRef::local("local"), address.clone(), schedule);
    settings.watch_by_default = WatchDefault::Ignore;
    let registries = Registries::with_options(
        Vec::new(),
        Some(app.queue().clone()),
        Options::without_logins(),
    )
    .unwrap();
    app.store()
        .register_watcher(&settings.reference, &settings.shown())
        .await
        .unwrap();
    let engine = Engine::new(address).unwrap();
    Watcher::new(app.clone(), settings, engine, registries)
}

fn labelled(image: &str, watch: &str) -> ContainerCreateBody {
    ContainerCreateBody {
        image: Some(image.into()),
        labels: Some(HashMap::from([("dd.watch".into(), watch.into())])),
        ..Default::default()
    }
}

/// Pushes 1.0.0 and 1.1.0 of `repository` and pulls the first.
async fn publish(docker: &Docker, registry: &Registry, repository: &str) -> String {
    for version in ["1.0.0", "1.1.0"] {
        let image = Image::app(version).label("plimsoll.test", docker.id());
        registry.push(repository, version, &image).await;
    }
    let reference = registry.reference(repository, "1.0.0");
    docker.pull(&reference).await;
    reference
}

fn tag_questions(registry: &Registry) -> usize {
    let requests = registry.requests();
    requests
        .iter()
        .filter(|r| r.path.contains("/tags/list"))
        .count()
}

#[tokio::test]
async fn a_cycle_finds_the_next_version_and_asks_for_its_details_once() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let id = fleet.run("app", &image).await;
    fleet.look().await;
    fleet.watch(&[&id]).await;

    let state = fleet.state(&id).await.unwrap();
    let result = state.current_result().expect("a result");
    assert_eq!(result.tag.as_deref(), Some("1.1.0"));
    assert!(result.digest.as_deref().unwrap().starts_with("sha256:"));
    assert!(result.created.is_some());
    assert!(state.update_detected_at.is_some());
    assert_eq!(state.facts.image.tag.value, "1.0.0");
    let name = state.facts.name.as_str();
    let found =
        "SELECT count(*) FROM audit WHERE action = 'update-available' AND container_name = $1
                    AND from_version = '1.0.0' AND to_version = '1.1.0'";
    assert_eq!(fleet.count(found, name).await, 1);
    let told = "SELECT count(*) FROM events WHERE type = 'dd:container-updated'
                   AND payload::jsonb->>'name' = $1 AND payload::jsonb->>'updateAvailable' = 'true'";
    assert_eq!(fleet.count(told, name).await, 1);

    let before = registry.requests().len();
    fleet.watch(&[&id]).await;
    let new = registry.requests().split_off(before);
    assert_eq!(new.len(), 1, "only the tags are asked for again: {new:?}");
    assert!(new[0].path.starts_with("/v2/app/tags/list"));
    assert_eq!(
        fleet.count(found, name).await,
        1,
        "a known candidate is no news"
    );
    assert_eq!(fleet.count(told, name).await, 1);
}

#[tokio::test]
async fn a_cycle_asks_once_for_each_repository() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let mut ids = Vec::new();
    for repository in ["one", "two", "three"] {
        let image = publish(&fleet.docker, &registry, repository).await;
        for n in 0..3 {
            ids.push(fleet.run(&format!("{repository}-{n}"), &image).await);
        }
    }
    fleet.look().await;
    fleet.watch(&ids.iter().collect::<Vec<_>>()).await;
    assert_eq!(tag_questions(&registry), 3);
    for id in &ids {
        assert_eq!(fleet.verdict(id).await, Ok(Some("1.1.0".into())));
    }
    let requests = registry.requests();
    let details = requests
        .iter()
        .filter(|r| r.method == "GET" && r.path.ends_with("/manifests/1.1.0"))
        .count();
    assert_eq!(details, 3, "details of one candidate are fetched once");
}

#[tokio::test]
async fn a_cycle_over_everything_checks_running_containers_that_are_watched() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let ignored = fleet.run("ignored", &image).await;
    let name = fleet.docker.name("watched");
    let watched = fleet.docker.run_with(&name, labelled(&image, "true")).await;
    let name = fleet.docker.name("stopped");
    let stopped = fleet.docker.create(&name, labelled(&image, "true")).await;
    // Nothing has looked at the engine yet: the cycle does, at what it checks.
    handle(&fleet.watcher, &[], Asked::ByRequest, WatchCause::Other)
        .await
        .unwrap();
    fleet.look().await;
    let [watched, stopped] = [watched, stopped].map(|id| ContainerId::parse(&id).unwrap());
    assert_eq!(fleet.verdict(&watched).await, Ok(Some("1.1.0".into())));
    assert_eq!(fleet.verdict(&ignored).await, Ok(None));
    assert_eq!(fleet.verdict(&stopped).await, Ok(None));
    let row = fleet.app.store().watcher(fleet.watcher.reference()).await;
    assert!(row.unwrap().unwrap().last_run_at.is_some());
}

#[tokio::test]
async fn a_cycle_checks_what_is_seen_for_the_first_time_while_it_runs() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let name = fleet.docker.name("watched");
    let watched = fleet.docker.run_with(&name, labelled(&image, "true")).await;
    let cycle = handle(&fleet.watcher, &[], Asked::ByRequest, WatchCause::Other);
    let ((), cycle) = tokio::join!(fleet.look(), cycle);
    cycle.unwrap();
    let watched = ContainerId::parse(&watched).unwrap();
    assert_eq!(fleet.verdict(&watched).await, Ok(Some("1.1.0".into())));
}

#[tokio::test]
async fn a_moved_tag_is_an_update_where_digests_are_watched() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let old = Image::app("1.0.0").label("plimsoll.test", fleet.docker.id());
    registry.push("app", "latest", &old).await;
    let reference = registry.reference("app", "latest");
    fleet.docker.pull(&reference).await;
    let id = fleet.run("app", &reference).await;
    fleet.look().await;
    fleet.watch(&[&id]).await;
    let state = fleet.state(&id).await.unwrap();
    assert!(state.facts.image.digest.watch);
    assert_eq!(state.update_detected_at, None, "nothing moved yet");

    let new = Image::app("2.0.0").label("plimsoll.test", fleet.docker.id());
    let digest = registry.push("app", "latest", &new).await;
    fleet.watch(&[&id]).await;
    let state = fleet.state(&id).await.unwrap();
    let result = state.current_result().unwrap();
    assert_eq!(result.digest.as_deref(), Some(digest.as_str()));
    assert!(state.update_detected_at.is_some());
}

#[tokio::test]
async fn the_inventory_follows_the_engine_within_moments() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let shutdown = CancellationToken::new();
    let follower = tokio::spawn(watchers::follow(fleet.watcher.clone(), shutdown.clone()));
    wait::until_true("the engine to be connected", SOON, async || {
        let row = fleet.app.store().watcher(fleet.watcher.reference()).await;
        row.unwrap()
            .is_some_and(|row| row.connected && row.engine.is_some())
    })
    .await;

    let name = fleet.docker.name("app");
    let id = fleet.docker.create(&name, labelled(&image, "false")).await;
    let id = ContainerId::parse(&id).unwrap();
    let status = async |wanted: &str| {
        let start = Instant::now();
        wait::until_true(wanted, SOON, async || {
            let state = fleet.state(&id).await;
            state.is_some_and(|state| state.facts.status == wanted)
        })
        .await;
        start.elapsed()
    };
    status("created").await;
    let client = fleet.docker.client();
    client.start_container(&id.to_string(), None).await.unwrap();
    status("running").await;
    client.pause_container(id.as_str()).await.unwrap();
    status("paused").await;
    client.unpause_container(id.as_str()).await.unwrap();
    status("running").await;
    client.stop_container(id.as_str(), None).await.unwrap();
    status("exited").await;
    fleet.docker.remove(id.as_str()).await;
    wait::until_true("the container to be gone", SOON, async || {
        !fleet.is_listed(&id).await
    })
    .await;
    for event in ["dd:container-added", "dd:container-removed"] {
        let told = format!(
            "SELECT count(*) FROM events WHERE type = '{event}' AND payload::jsonb->>'name' = $1"
        );
        assert_eq!(fleet.count(&told, &name).await, 1, "{event}");
    }
    for action in ["container-added", "container-removed"] {
        let written =
            format!("SELECT count(*) FROM audit WHERE action = '{action}' AND container_name = $1");
        assert_eq!(fleet.count(&written, &name).await, 1, "{action}");
    }
    shutdown.cancel();
    follower.await.unwrap();
}

#[tokio::test]
async fn an_engine_that_does_not_answer_changes_nothing_that_is_known() {
    let proxy = Proxy::unix(Upstream::Unix("/var/run/docker.sock".into())).await;
    let address = EngineAddress::Unix {
        socket: proxy.path().into(),
    };
    let fleet = Fleet::at(address).await;
    let registry = Registry::start().await;
    let image = publish(&fleet.docker, &registry, "app").await;
    let id = fleet.run("app", &image).await;
    let shutdown = CancellationToken::new();
    let follower = tokio::spawn(watchers::follow(fleet.watcher.clone(), shutdown.clone()));
    let store = fleet.app.store();
    let connected = async |wanted: bool| {
        wait::until_true("the watcher's state to change", SOON, async || {
            let row = store.watcher(fleet.watcher.reference()).await.unwrap();
            row.is_some_and(|row| row.connected == wanted && row.last_error.is_none() == wanted)
        })
        .await;
    };
    connected(true).await;
    assert!(fleet.is_listed(&id).await);

    proxy.set(Fault::Refuse);
    connected(false).await;
    assert!(
        fleet
            .watcher
            .inventory()
            .resync(Depth::ListedWithImages)
            .await
            .is_err()
    );
    assert!(
        handle(&fleet.watcher, &[], Asked::ByRequest, WatchCause::Other)
            .await
            .is_err()
    );
    assert!(fleet.is_listed(&id).await);

    // What happened meanwhile is seen as soon as the engine is back.
    fleet.docker.remove(id.as_str()).await;
    let next = fleet.run("next", &image).await;
    proxy.set(Fault::None);
    connected(true).await;
    wait::until_true("the inventory to catch up", SOON, async || {
        !fleet.is_listed(&id).await && fleet.is_listed(&next).await
    })
    .await;
    shutdown.cancel();
    follower.await.unwrap();
}

#[tokio::test]
async fn a_re_created_container_keeps_its_policy_its_clock_and_its_result() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let old = fleet.run("app", &image).await;
    fleet.look().await;
    fleet.watch(&[&old]).await;
    let before = fleet.state(&old).await.unwrap();
    let client = fleet.database.client().await;
    client
        .execute(
            "INSERT INTO policies (identity_key, policy) VALUES ($1, '{\"skipTags\": [\"9.9.9\"]}')",
            &[&before.identity_key.as_str()],
        )
        .await
        .unwrap();

    fleet.docker.remove(old.as_str()).await;
    let new = fleet.run("app", &image).await;
    fleet.look().await;
    let after = fleet.state(&new).await.unwrap();
    assert!(!fleet.is_listed(&old).await);
    assert_ne!(before.facts.id, after.facts.id);
    assert_eq!(before.identity_key, after.identity_key);
    assert_eq!(after.policy.as_ref().unwrap().skip_tags, ["9.9.9"]);
    assert_eq!(before.result, after.result);
    assert_eq!(before.update_detected_at, after.update_detected_at);
    assert!(after.update_detected_at.is_some());
}

#[tokio::test]
async fn a_failing_registry_marks_its_own_containers_and_keeps_their_last_good_result() {
    let fleet = Fleet::start().await;
    let (good, bad) = (Registry::start().await, Registry::start().await);
    let good_image = publish(&fleet.docker, &good, "app").await;
    let bad_image = publish(&fleet.docker, &bad, "app").await;
    let healthy = fleet.run("healthy", &good_image).await;
    let ill = fleet.run("ill", &bad_image).await;
    fleet.look().await;
    fleet.watch(&[&healthy, &ill]).await;
    assert_eq!(fleet.verdict(&ill).await, Ok(Some("1.1.0".into())));

    drop(bad);
    fleet.redis.flush_all().await;
    let newest = Image::app("1.2.0").label("plimsoll.test", fleet.docker.id());
    good.push("app", "1.2.0", &newest).await;
    fleet.watch(&[&healthy, &ill]).await;
    assert_eq!(fleet.verdict(&healthy).await, Ok(Some("1.2.0".into())));
    fleet.verdict(&ill).await.expect_err("the registry is away");
    let result = fleet.state(&ill).await.unwrap().result.unwrap();
    assert_eq!(result.tag.as_deref(), Some("1.1.0"), "still known");
}

#[tokio::test]
async fn docksmiths_labels_take_part_in_the_decision() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let newest = Image::app("2.0.0").label("plimsoll.test", fleet.docker.id());
    registry.push("app", "2.0.0", &newest).await;
    let run = async |name: &str, label: Option<(&str, &str)>| {
        let mut container = labelled(&image, "false");
        let labels = container.labels.get_or_insert_default();
        labels.extend(label.map(|(key, value)| (format!("docksmith.{key}"), value.to_owned())));
        let id = fleet
            .docker
            .run_with(&fleet.docker.name(name), container)
            .await;
        ContainerId::parse(&id).unwrap()
    };
    let pinned = run("pinned", Some(("version-pin-major", "true"))).await;
    let free = run("free", None).await;
    fleet.look().await;
    fleet.watch(&[&pinned, &free]).await;
    assert_eq!(fleet.verdict(&pinned).await, Ok(Some("1.1.0".into())));
    assert_eq!(fleet.verdict(&free).await, Ok(Some("2.0.0".into())));

    // Made again with a filter that cannot be read: what was found before is not proposed any more.
    fleet.docker.remove(free.as_str()).await;
    let broken = run("free", Some(("tag-regex", "("))).await;
    fleet.look().await;
    assert_eq!(fleet.verdict(&broken).await, Ok(None));
    fleet.watch(&[&broken]).await;
    let refused = fleet.verdict(&broken).await.unwrap_err();
    assert!(refused.starts_with("docksmith.tag-regex: "), "{refused}");
    let result = fleet.state(&broken).await.unwrap().result.unwrap();
    assert_eq!((result.tag, result.digest), (None, None));
}

#[tokio::test]
async fn a_mutable_tag_is_told_the_version_that_has_its_image() {
    let world = World::start().await;
    let push = async |version: &str, tags: &[&str]| {
        let image = Image::app(version).label("plimsoll.test", world.docker.id());
        world.registry.push_tags("app", tags, &image).await
    };
    for minor in 0..12 {
        let version = format!("1.{minor}.0");
        push(&version, &[&version]).await;
    }
    // `latest` lags behind, and an image that calls itself 1.4.1 has another flavour's tag as well.
    push("1.4.1", &["latest", "1.4.1", "1.4", "1.4.1-slim"]).await;
    let reference = world.registry.reference("app", "latest");
    world.docker.pull(&reference).await;
    let id = world.run("app", &reference, &[]).await;
    let looks = || {
        let requests = world.registry.requests();
        let looks = requests.iter().filter(|r| r.path.contains("/manifests/1."));
        looks.count()
    };
    let path = format!("/api/v1/containers/{id}");
    let recommended = async || world.get(&path).await.json()["result"]["recommendedTag"].clone();

    let before = looks();
    world.watch(&id).await;
    wait::until_true("the tag to be found", SOON, async || {
        recommended().await == "1.4.1"
    })
    .await;
    let asked = looks() - before;
    assert!((1..=6).contains(&asked), "{asked} questions");

    // It is known from now on, and said with the first result.
    let (before, told) = (looks(), "SELECT count(*) FROM events WHERE type = $1");
    let client = world.database.client().await;
    let count = async || -> i64 {
        let row = client.query_one(told, &[&"dd:container-updated"]).await;
        row.unwrap().get(0)
    };
    let events = count().await;
    let watched = world.watch(&id).await;
    assert_eq!(watched["result"]["recommendedTag"], "1.4.1");
    assert_eq!(looks(), before, "nothing is asked again");
    assert_eq!(count().await, events, "nothing has changed");

    // Where `latest` goes, the tag goes with it.
    let digest = push("2.0.0", &["latest", "2.0.0"]).await;
    world.watch(&id).await;
    wait::until_true("the new tag", SOON, async || recommended().await == "2.0.0").await;
    let json = world.get(&path).await.json();
    assert_eq!(json["result"]["digest"], digest.as_str());
    assert_eq!(json["updateAvailable"], true);
}

#[tokio::test]
async fn a_result_for_an_image_that_no_longer_runs_is_dropped() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let id = fleet.run("app", &image).await;
    fleet.look().await;
    let state = fleet.state(&id).await.unwrap();
    let mut facts = Arc::unwrap_or_clone(state.facts);
    facts.image.id = format!("sha256:{}", "0".repeat(64));
    let outcome = plimsoll_app::observations::WatchOutcome {
        facts,
        result: plimsoll_domain::container::WatchResult {
            tag: Some("9.0.0".into()),
            ..Default::default()
        },
        observed_at: chrono::Utc::now(),
    };
    assert_eq!(fleet.app.record_watch(&[outcome], &[]).await.unwrap(), 0);
    assert_eq!(fleet.verdict(&id).await, Ok(None));
}

#[tokio::test]
async fn a_check_that_knows_a_moment_ago_does_not_write_over_one_that_asked_since() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let id = fleet.run("app", &image).await;
    fleet.look().await;
    let check = async |watcher: &Watcher, asked| {
        let ids = std::slice::from_ref(&id);
        let checked = handle(watcher, ids, asked, WatchCause::Other).await;
        checked.expect("the cycle runs");
        fleet.verdict(&id).await
    };
    let first = check(&fleet.watcher, Asked::BySchedule).await;
    assert_eq!(first, Ok(Some("1.1.0".into())));
    let newer = Image::app("1.2.0").label("plimsoll.test", fleet.docker.id());
    registry.push("app", "1.2.0", &newer).await;
    // Another worker, so that the first still has what it heard.
    let other = watcher(&fleet.app, EngineAddress::local()).await;
    let asked = check(&other, Asked::ByRequest).await;
    assert_eq!(asked, Ok(Some("1.2.0".into())));
    let questions = tag_questions(&registry);
    let late = check(&fleet.watcher, Asked::BySchedule).await;
    assert_eq!(
        tag_questions(&registry),
        questions,
        "it answers from memory"
    );
    assert_eq!(late, Ok(Some("1.2.0".into())));
}

#[tokio::test]
async fn results_have_the_order_in_which_they_were_observed() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let id = fleet.run("app", &image).await;
    fleet.look().await;
    let state = fleet.state(&id).await.unwrap();
    let facts = Arc::unwrap_or_clone(state.facts);
    let now = chrono::Utc::now();
    let found = |tag: &str| plimsoll_domain::container::WatchResult {
        tag: Some(tag.to_owned()),
        ..Default::default()
    };
    let failed = plimsoll_domain::container::WatchResult::failed("away");
    for (second, result, verdict) in [
        (10, found("1.1.0"), Ok("1.1.0")),
        (5, found("1.0.1"), Ok("1.1.0")),
        // It was observed again, though nothing new was.
        (20, found("1.1.0"), Ok("1.1.0")),
        (15, found("1.0.1"), Ok("1.1.0")),
        (5, failed.clone(), Ok("1.1.0")),
        (40, failed, Err("away")),
        // Asked before the failure, and told after it.
        (30, found("1.2.0"), Ok("1.2.0")),
        // No answer is that late: a clock was set back.
        (-7200, found("1.3.0"), Ok("1.3.0")),
    ] {
        let outcome = plimsoll_app::observations::WatchOutcome {
            facts: facts.clone(),
            result,
            observed_at: now + chrono::Duration::seconds(second),
        };
        fleet.app.record_watch(&[outcome], &[]).await.unwrap();
        let verdict = verdict.map(|tag| Some(tag.to_owned()));
        let verdict = verdict.map_err(str::to_owned);
        assert_eq!(fleet.verdict(&id).await, verdict, "at {second} s");
    }
}

#[tokio::test]
async fn a_renamed_container_with_a_rollback_name_stays_what_it_was() {
    let (fleet, registry) = (Fleet::start().await, Registry::start().await);
    let image = publish(&fleet.docker, &registry, "app").await;
    let old = fleet.run("app", &image).await;
    fleet.look().await;
    let name = fleet.docker.name("app");
    let rename = async |id: &str, name: &str| {
        let options = bollard::query_parameters::RenameContainerOptionsBuilder::default()
            .name(name)
            .build();
        fleet
            .docker
            .client()
            .rename_container(id, options)
            .await
            .unwrap();
    };
    rename(old.as_str(), &format!("{name}-old-0a1b2c3d4e5f")).await;
    fleet.look().await;
    assert!(fleet.is_listed(&old).await);
    assert_eq!(fleet.state(&old).await.unwrap().facts.name, name);

    // Its successor takes the name, and with it the place in the inventory.
    let new = fleet.run("app", &image).await;
    fleet.look().await;
    assert!(!fleet.is_listed(&old).await);
    assert!(fleet.is_listed(&new).await);

    // And back.
    fleet.docker.remove(new.as_str()).await;
    rename(old.as_str(), &name).await;
    fleet.look().await;
    assert!(fleet.is_listed(&old).await);
    assert!(!fleet.is_listed(&new).await);
}

#[tokio::test]
async fn two_workers_make_one_job_of_a_slot() {
    let fleet = Fleet::start().await;
    let other = watcher(&app(&fleet.database, &fleet.redis), EngineAddress::local()).await;
    let shutdown = CancellationToken::new();
    let keepers: Vec<_> = [fleet.watcher.clone(), other]
        .into_iter()
        .map(|watcher| tokio::spawn(watchers::keep_schedule(watcher, shutdown.clone())))
        .collect();
    let reference = fleet.watcher.reference().clone();
    wait::until_true("the next run to be known", SOON, async || {
        let row = fleet.app.store().watcher(&reference).await.unwrap();
        row.is_some_and(|row| row.next_run_at.is_some())
    })
    .await;
    let slot = Some("watch:local:1".to_owned());
    for watcher in [&fleet.watcher, &fleet.watcher] {
        watcher
            .enqueue_watch(Vec::new(), slot.clone(), WatchCause::Other)
            .await
            .unwrap();
    }
    let jobs = "SELECT count(*) FROM jobs WHERE slot = $1";
    assert_eq!(fleet.count(jobs, "watch:local:1").await, 1);
    let started = "SELECT count(*) FROM jobs WHERE slot LIKE $1";
    wait::until_true("the start cycle to be enqueued", SOON, async || {
        fleet.count(started, "start:local:%").await >= 1
    })
    .await;
    shutdown.cancel();
    for keeper in keepers {
        keeper.await.unwrap();
    }
    // Two only where a minute began between the two.
    assert!(fleet.count(started, "start:local:%").await <= 2);
}
