//! A removal and an operation on one container: the second that is asked for is refused at once, in
//! each dialect, and whichever comes first is alone.

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::KillContainerOptionsBuilder;
use plimsoll_app::store::jobs::{self, NewJob};
use plimsoll_app::store::removals::{self, Item, ItemState, NewRemoval};
use plimsoll_app::store::requests::NewRequest;
use plimsoll_app::store::reservations::REMOVED;
use plimsoll_app::store::update_operations::NewOperation;
use plimsoll_app::store::{begin, commit};
use plimsoll_domain::explorer::removal::{ObjectKind, RemovalRequest};
use plimsoll_domain::ids::{ContainerId, IdentityKey, JobId, OperationId, RemovalId, WatcherRef};
use plimsoll_domain::job::JobSpec;
use plimsoll_domain::operation::OperationKind;
use plimsoll_support::{postgres::Database, redis::Redis, wait};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::reads::replica;
use crate::replica::{Answer, answer};
use crate::world::{SOON, World};

async fn ask(world: &World, method: Method, path: &str, body: Option<&Value>) -> Answer {
    let mut request = world
        .authorised(method, path)
        .header("X-DD-Confirm-Action", "container-remove");
    if let Some(body) = body {
        request = request.json(body);
    }
    answer(request).await
}

/// A container that takes no notice of being asked to stop.
async fn stubborn(world: &World, stem: &str, image: &str) -> (String, String) {
    let deaf = "trap '' TERM; while :; do sleep 1; done";
    let labels = [
        ("com.docker.compose.project", stem),
        ("com.docker.compose.service", "app"),
        ("com.docker.compose.container-number", "1"),
    ];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let body = ContainerCreateBody {
        image: Some(image.to_owned()),
        cmd: Some(["sh", "-c", deaf].map(str::to_owned).into()),
        stop_timeout: Some(600),
        labels: Some(labels.into()),
        ..Default::default()
    };
    let name = world.docker.name(stem);
    let id = world.docker.run_with(&name, body).await;
    world.listed(&id).await;
    world.watch(&id).await;
    (id, name)
}

async fn kill(world: &World, name: &str) {
    let options = KillContainerOptionsBuilder::default()
        .signal("KILL")
        .build();
    let killed = world.docker.client().kill_container(name, Some(options));
    killed.await.expect("it runs until then");
}

async fn holds(world: &World, sql: &str) -> bool {
    let client = world.database.client().await;
    client.query_one(sql, &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn what_is_asked_of_a_container_that_is_being_removed_is_refused_at_once() {
    let world = World::start().await;
    let image = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let (id, name) = stubborn(&world, "going", &image).await;
    let path = format!("/docksmith/api/containers/{name}?force=true");
    let removal = world.authorised(Method::DELETE, &path);
    let removal = tokio::spawn(answer(removal));
    let begun = "SELECT EXISTS (SELECT 1 FROM removal_items WHERE reserved_at IS NOT NULL)";
    wait::until_true("the removal to begin", SOON, async || {
        holds(&world, begun).await
    })
    .await;

    let labels = json!({"set": {"docksmith.ignore": "true"}});
    for (method, path, body) in [
        (
            Method::POST,
            format!("/api/v1/containers/{id}/update"),
            None,
        ),
        (Method::POST, format!("/api/v1/containers/{id}/start"), None),
        (Method::POST, format!("/api/v1/containers/{id}/stop"), None),
        (
            Method::POST,
            format!("/api/v1/containers/{id}/restart"),
            None,
        ),
        (
            Method::PATCH,
            format!("/api/v1/containers/{id}/labels"),
            Some(labels),
        ),
        (
            Method::POST,
            "/api/v1/stacks/going/restart".to_owned(),
            None,
        ),
        (Method::POST, "/api/v1/stacks/going/update".to_owned(), None),
        (
            Method::POST,
            "/docksmith/api/update".to_owned(),
            Some(json!({"container": name})),
        ),
        (
            Method::POST,
            "/docksmith/api/restart".to_owned(),
            Some(json!({"container": name})),
        ),
        (
            Method::POST,
            format!("/docksmith/api/containers/{name}/stop"),
            None,
        ),
    ] {
        let refused = ask(&world, method, &path, body.as_ref()).await;
        assert_eq!(refused.status, 409, "{path}: {}", refused.text);
        assert!(
            refused.text.contains("Container is being removed"),
            "{path}: {}",
            refused.text
        );
        assert!(
            refused.text.contains("removalId"),
            "{path}: {}",
            refused.text
        );
    }
    // Of several, each is told.
    let many = json!({"containerIds": [id]});
    let path = "/api/v1/containers/update";
    let many = ask(&world, Method::POST, path, Some(&many)).await.json();
    assert_eq!(many["rejected"][0]["statusCode"], 409, "{many:#}");
    assert_eq!(many["rejected"][0]["message"], "Container is being removed");
    let many = json!({"containers": [name]});
    for path in ["/containers/batch/stop", "/update/batch"] {
        let path = format!("/docksmith/api{path}");
        let told = ask(&world, Method::POST, &path, Some(&many)).await;
        assert!(
            told.text.contains("Container is being removed"),
            "{path}: {}",
            told.text
        );
    }
    let none = "SELECT NOT EXISTS (SELECT 1 FROM update_operations)
                   AND (SELECT completed_at IS NULL FROM removals)";
    assert!(holds(&world, none).await, "nothing was accepted meanwhile");

    kill(&world, &name).await;
    let removed = removal.await.unwrap();
    assert_eq!(removed.status, 200, "{}", removed.text);
    assert!(world.docker.inspect(&name).await.is_none());
}

#[tokio::test]
async fn a_removal_of_a_container_that_an_operation_works_on_is_refused_at_once() {
    let world = World::start().await;
    let image = world.publish("app", &["1.0.0"]).await;
    let (id, name) = stubborn(&world, "busy", &image).await;
    let stop = world
        .authorised(Method::POST, &format!("/api/v1/containers/{id}/stop"))
        .header("Prefer", "respond-async");
    let stop = answer(stop).await;
    assert_eq!(stop.status, 202, "{}", stop.text);
    let operation = stop.json()["operationId"].as_str().unwrap().to_owned();

    let sentence = format!("The container {name} stays: an operation that is not over needs it");
    for (method, path) in [
        (
            Method::DELETE,
            format!("/docksmith/api/containers/{name}?force=true"),
        ),
        (
            Method::POST,
            format!("/api/v1/containers/{name}/remove?force=true"),
        ),
        (
            Method::POST,
            format!("/api/v1/containers/{id}/remove?force=true"),
        ),
    ] {
        let refused = ask(&world, method, &path, None).await;
        assert_eq!(refused.status, 409, "{path}: {}", refused.text);
        assert!(refused.text.contains(&sentence), "{path}: {}", refused.text);
        assert!(
            refused.text.contains(&operation),
            "{path}: {}",
            refused.text
        );
    }
    let many = json!({"containers": [name], "force": true});
    let path = "/docksmith/api/containers/batch/remove";
    let many = ask(&world, Method::POST, path, Some(&many)).await;
    assert!(many.text.contains(&sentence), "{}", many.text);
    let none = "SELECT NOT EXISTS (SELECT 1 FROM removals)";
    assert!(holds(&world, none).await, "nothing was accepted meanwhile");

    kill(&world, &name).await;
    wait::until_true("the stop to be over", SOON, async || {
        holds(
            &world,
            "SELECT bool_and(completed_at IS NOT NULL) FROM update_operations",
        )
        .await
    })
    .await;
    let path = format!("/docksmith/api/containers/{name}");
    let removed = ask(&world, Method::DELETE, &path, None).await;
    assert_eq!(removed.status, 200, "{}", removed.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_removal_and_an_operation_at_the_same_moment_one_gets_the_container() {
    let database = Database::migrated().await;
    let redis = Redis::start().await;
    let app = replica(database.url(), &redis.url());
    let store = app.store();
    let watcher = WatcherRef::local("local");
    for round in 0..40 {
        let (container, name) = (format!("{round:064x}"), format!("app-{round}"));
        let request = RemovalRequest::One {
            kind: ObjectKind::Container,
            reference: name.clone(),
            force: true,
            volumes: false,
        };
        let removal = RemovalId::generate();
        let new = NewRemoval {
            id: removal,
            watcher: &watcher,
            request: &request,
            actor: "tester",
            request_id: None,
            batch: None,
        };
        let mut client = store.client().await.unwrap();
        let tx = begin(&mut client).await.unwrap();
        removals::insert(&tx, &new).await.unwrap();
        let job = NewJob::now(watcher.clone(), JobSpec::Removal { removal });
        jobs::insert(&tx, &job).await.unwrap();
        commit(tx).await.unwrap();
        drop(client);
        let room = [("removal", 100)];
        let claimed = store.claim_next_jobs(&watcher, &room, Uuid::new_v4()).await;
        let lease = claimed.unwrap().remove(0).lease;
        let item = Item {
            place: 0,
            kind: ObjectKind::Container,
            id: container.clone(),
            name: name.clone(),
            tag: None,
            size: None,
            state: ItemState::Planned,
            reason: None,
            message: None,
            is_reserved: false,
        };
        let items = [item];
        store.plan_removal(&lease, removal, &items).await.unwrap();
        let found = store.removal(removal, 600.0).await.unwrap().unwrap();
        let operation = NewOperation {
            id: OperationId::generate(),
            kind: OperationKind::Stop,
            identity: IdentityKey::new(&watcher, &name, None),
            watcher: watcher.clone(),
            container: ContainerId::parse(&container).unwrap(),
            container_name: name,
            trigger_name: None,
            from_version: None,
            to_version: None,
            target_image: "app:1".to_owned(),
            target_digest: None,
            backup: None,
            compose_file: None,
            rollback_reason: None,
            actor: "tester".to_owned(),
            request_id: None,
        };
        let request = NewRequest {
            operation: &operation,
            job: JobId::generate(),
            audit_action: "container-stop",
            audit_details: None,
            event: "{}",
            idempotency: None,
            input: Default::default(),
        };
        let (reserved, accepted) = tokio::join!(
            store.reserve_removed(&lease, &found, &items[0]),
            store.accept_operation(&request)
        );
        let is_accepted = match accepted {
            Ok(()) => true,
            Err(error) if error.is_constraint(REMOVED) => false,
            Err(error) => panic!("{error}"),
        };
        let is_reserved = reserved.unwrap();
        assert_ne!(is_reserved, is_accepted, "round {round}");
    }
}
