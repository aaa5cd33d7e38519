//! What the document says of containers, of what hosts have and of removing it, asked of a whole
//! installation. The worker's scope is this test's label.

use bollard::models::ContainerCreateBody;
use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::replica::{Answer, answer};
use crate::world::World;

async fn ask(world: &World, method: Method, path: &str, body: Option<Value>) -> Answer {
    let mut request = world.authorised(method, &format!("/docksmith/api{path}"));
    if let Some(body) = body {
        request = request.body(body.to_string());
    }
    answer(request).await
}

async fn get(world: &World, path: &str) -> Value {
    data(ask(world, Method::GET, path, None).await, path)
}

async fn post(world: &World, path: &str) -> Value {
    data(ask(world, Method::POST, path, None).await, path)
}

fn data(answer: Answer, path: &str) -> Value {
    assert_eq!(answer.status, 200, "{path}: {}", answer.text);
    let json = answer.json();
    assert_eq!(json["success"], true, "{path}: {}", answer.text);
    json["data"].clone()
}

async fn state(world: &World, name: &str) -> String {
    let found = world.docker.inspect(name).await.expect("it is there");
    let status = found.state.and_then(|state| state.status);
    status.map(|status| status.to_string()).unwrap_or_default()
}

/// The document's examples: what is asked of the container `nginx`, and the fields under `data`.
const EXAMPLES: &[(&str, &str, &[&str])] = &[
    (
        "GET",
        "/explorer",
        &["containers", "images", "networks", "volumes"],
    ),
    ("GET", "/images", &["images", "count"]),
    ("GET", "/networks", &["networks", "count"]),
    ("GET", "/volumes", &["volumes", "count"]),
    ("GET", "/containers/nginx/logs?tail=100", &["logs"]),
    (
        "GET",
        "/containers/nginx/logs?since=2024-01-15T10:00:00Z",
        &["logs"],
    ),
    ("GET", "/containers/nginx/inspect", &["id", "name", "state"]),
    (
        "GET",
        "/containers/nginx/stats",
        &[
            "cpu_percent",
            "memory_usage",
            "memory_limit",
            "memory_percent",
            "network_rx",
            "network_tx",
        ],
    ),
    (
        "POST",
        "/containers/nginx/stop",
        &["operation_id", "status"],
    ),
    (
        "POST",
        "/containers/nginx/stop?timeout=10",
        &["operation_id", "status"],
    ),
    (
        "POST",
        "/containers/nginx/start",
        &["operation_id", "status"],
    ),
    (
        "POST",
        "/containers/nginx/restart",
        &["operation_id", "status"],
    ),
    (
        "POST",
        "/restart/container/nginx",
        &["success", "container_names"],
    ),
    (
        "POST",
        "/restart/stack/web",
        &["success", "container_names"],
    ),
];

#[tokio::test]
async fn containers_and_what_hosts_have_are_answered_as_the_document_says() {
    let world = World::start().await;
    let reference = world.publish("app", &["1.0.0", "1.1.0"]).await;
    let body = ContainerCreateBody {
        image: Some(reference.clone()),
        env: Some(vec!["DB_PASSWORD=hunter2".to_owned()]),
        labels: Some(
            [
                ("com.docker.compose.project", "web"),
                ("com.docker.compose.service", "nginx"),
                ("com.docker.compose.container-number", "1"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        ),
        ..Default::default()
    };
    let name = world.docker.name("nginx");
    let id = world.docker.run_with(&name, body).await;
    world.listed(&id).await;

    for (method, path, fields) in EXAMPLES {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let path = path.replace("nginx", &name);
        let found = data(ask(&world, method, &path, None).await, &path);
        for field in *fields {
            assert!(!found[field].is_null(), "{path} has {field}: {found:#}");
        }
    }
    assert_eq!(state(&world, &name).await, "running");
    let explorer = get(&world, "/explorer").await;
    assert_eq!(
        explorer["container_stacks"]["web"][0]["name"],
        name.as_str()
    );
    let image = explorer["images"].as_array().unwrap().iter();
    let image = image
        .clone()
        .find(|one| one["tags"][0] == reference.as_str());
    let image = image.expect("its image is there").clone();
    assert_eq!(
        (&image["in_use"], &image["containers"][0]),
        (&true.into(), &json!(name))
    );
    let inspect = get(&world, &format!("/containers/{name}/inspect")).await;
    assert!(!inspect.to_string().contains("hunter2"), "{inspect}");
    assert!(
        inspect["config"]["env"]
            .to_string()
            .contains("DB_PASSWORD=***")
    );
    let canonical = world.get(&format!("/api/v1/containers/{id}/inspect")).await;
    assert_eq!(canonical.status, 200, "{}", canonical.text);
    assert!(!canonical.text.contains("hunter2") && canonical.json()["Id"] == id.as_str());

    let logs = get(&world, &format!("/containers/{name}/logs?tail=1")).await;
    assert_eq!(logs["logs"], "started\n");
    let path = format!("/docksmith/api/containers/{name}/logs?follow=true&timestamps=true&tail=1");
    let followed = world.authorised(Method::GET, &path).send().await.unwrap();
    let kind = followed.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(kind.starts_with("text/plain"), "{kind}");
    let mut followed = followed.bytes_stream();
    let first = followed
        .next()
        .await
        .expect("it begins")
        .expect("it is text");
    let first = String::from_utf8_lossy(&first).into_owned();
    assert!(first.ends_with("Z started\n"), "{first}");
    drop(followed);

    let restarted = ask(
        &world,
        Method::POST,
        "/restart",
        Some(json!({"container": name})),
    )
    .await;
    let restarted = data(restarted, "/restart");
    assert_eq!(restarted["container_names"], json!([name]));
    let begun = post(&world, &format!("/restart/start/{name}")).await;
    assert_eq!(
        (&begun["status"], &begun["container_name"]),
        (&"started".into(), &json!(name))
    );
    let operation = begun["operation_id"].as_str().unwrap();
    plimsoll_support::wait::until_true("the restart to be over", crate::world::SOON, async || {
        let path = format!("/api/v1/update-operations/{operation}");
        world.get(&path).await.json()["data"]["status"] == "succeeded"
            || world.get(&path).await.json()["status"] == "succeeded"
    })
    .await;
    let batch = Some(json!({"containers": [name, "nobody"], "timeout": 5}));
    let batch = data(
        ask(&world, Method::POST, "/containers/batch/stop", batch).await,
        "batch",
    );
    assert_eq!(batch["results"][0]["success"], true, "{batch:#}");
    assert_eq!(batch["results"][1]["success"], false);
    assert_eq!(state(&world, &name).await, "exited");
    // What was asked for at once is found together, and as one.
    let operation = &batch["results"][0]["operation_id"];
    let group = batch["batch_group_id"].as_str().unwrap();
    let together = get(&world, &format!("/operations/group/{group}")).await;
    assert_eq!(together["count"], 1, "{together:#}");
    let stop = &together["operations"][0];
    for (field, expected) in [
        ("operation_id", operation),
        ("batch_group_id", &json!(group)),
        ("operation_type", &json!("stop")),
        ("container_name", &json!(name)),
        ("status", &json!("complete")),
    ] {
        assert_eq!(&stop[field], expected, "{field}: {stop:#}");
    }
    let operation = operation.as_str().unwrap();
    let one = get(&world, &format!("/operations/{group}")).await;
    assert_eq!(one["batch_details"][0]["operation_id"], operation);
    assert_eq!(
        (&one["status"], &one["dependents_affected"]),
        (&json!("complete"), &json!([]))
    );
    post(&world, &format!("/containers/{name}/start")).await;

    // Nothing of this changes anything.
    let image_id = image["id"].as_str().unwrap();
    for (method, path, status) in [
        (Method::DELETE, format!("/containers/{name}"), 400),
        (
            Method::DELETE,
            format!("/images/{image_id}?force=true"),
            409,
        ),
        (Method::DELETE, "/networks/host".to_owned(), 409),
        (Method::DELETE, "/volumes/..%2f..%2fvar".to_owned(), 404),
        (Method::DELETE, "/containers/..%2fimages".to_owned(), 404),
        (Method::POST, "/containers/nobody/stop".to_owned(), 404),
        (
            Method::POST,
            format!("/containers/{name}/stop?timeout=-1"),
            400,
        ),
        (
            Method::POST,
            format!("/containers/{name}/stop?timeout=3601"),
            400,
        ),
        (
            Method::POST,
            format!("/containers/{name}/restart?timeout=soon"),
            400,
        ),
        (Method::GET, format!("/operations/{id}"), 404),
        (Method::GET, format!("/operations/group/{operation}"), 404),
        (Method::POST, "/restart/stack/nothing".to_owned(), 404),
        (Method::POST, "/restart".to_owned(), 400),
        (Method::POST, "/containers/batch/remove".to_owned(), 400),
        (Method::POST, "/prune/images?label=%3D".to_owned(), 400),
        (Method::POST, "/prune/images?label=a%3D%00".to_owned(), 400),
        (Method::GET, "/containers/nobody/logs".to_owned(), 404),
        (
            Method::GET,
            format!("/containers/{name}/logs?tail=many"),
            400,
        ),
        (Method::GET, "/registry/tags/..%2f..%2fetc".to_owned(), 400),
    ] {
        let refused = ask(&world, method, &path, None).await;
        assert_eq!(refused.status, status, "{path}: {}", refused.text);
        assert!(
            refused.json()["error"]["message"].is_string(),
            "{path}: {}",
            refused.text
        );
    }
    assert_eq!(state(&world, &name).await, "running");

    let repository = reference.rsplit_once(':').unwrap().0;
    let tags = get(&world, &format!("/registry/tags/{repository}")).await;
    assert_eq!(tags["count"], 2, "{tags}");
    assert_eq!(tags["image_ref"], repository);

    let stopped = world.docker.name("stopped");
    let idle = ContainerCreateBody {
        image: Some(reference.clone()),
        ..Default::default()
    };
    world.docker.create(&stopped, idle).await;
    // Removals are operations too, alone and together.
    let idle = ContainerCreateBody {
        image: Some(reference.clone()),
        ..Default::default()
    };
    let other = world.docker.name("other");
    world.docker.create(&other, idle).await;
    let body = Some(json!({"containers": [other, "nobody"]}));
    let removed = ask(&world, Method::POST, "/containers/batch/remove", body).await;
    let removed = data(removed, "batch/remove");
    assert_eq!(removed["results"][0]["success"], true, "{removed:#}");
    let removal = removed["results"][0]["operation_id"].as_str().unwrap();
    let removal = get(&world, &format!("/operations/{removal}")).await;
    assert_eq!(
        (&removal["operation_type"], &removal["status"]),
        (&json!("remove"), &json!("complete"))
    );
    assert_eq!(removal["container_name"], other.as_str());
    assert_eq!(removal["batch_group_id"], removed["batch_group_id"]);
    let group = removed["batch_group_id"].as_str().unwrap();
    let together = get(&world, &format!("/operations/group/{group}")).await;
    let names = together["operations"].as_array().unwrap().iter();
    let shown: Vec<_> = names
        .map(|one| (&one["container_name"], &one["status"]))
        .collect();
    let expected = [(json!(other), "complete"), (json!("nobody"), "failed")];
    let expected = expected.map(|(name, status)| (name, json!(status)));
    assert!(
        shown
            .iter()
            .copied()
            .eq(expected.iter().map(|(a, b)| (a, b))),
        "{together:#}"
    );
    let network = world.docker.network(&world.docker.name("unused")).await;
    let pruned = post(&world, "/prune/system").await;
    assert_eq!(pruned["containers_deleted"], 1, "{pruned:#}");
    assert_eq!(pruned["networks_deleted"], 1, "{pruned:#}");
    assert_eq!(
        (&pruned["images_deleted"], &pruned["volumes_deleted"]),
        (&0.into(), &0.into())
    );
    assert!(pruned["space_reclaimed"].is_i64());
    assert!(world.docker.inspect(&stopped).await.is_none());
    let gone = ask(
        &world,
        Method::DELETE,
        &format!("/networks/{network}"),
        None,
    )
    .await;
    assert_eq!(gone.status, 404, "{}", gone.text);
    for what in ["containers", "images", "networks", "volumes"] {
        let pruned = post(&world, &format!("/prune/{what}")).await;
        assert_eq!(pruned["items_deleted"], json!([]), "{what}: {pruned:#}");
    }
    let removed = ask(
        &world,
        Method::DELETE,
        &format!("/containers/{name}?force=true"),
        None,
    )
    .await;
    assert_eq!(data(removed, "remove")["status"], "removed");
    assert!(world.docker.inspect(&name).await.is_none());
    let removed = ask(&world, Method::DELETE, &format!("/images/{image_id}"), None).await;
    assert_eq!(data(removed, "image")["deleted"], json!([reference]));
    assert!(world.docker.client().inspect_image(image_id).await.is_err());
}

#[tokio::test]
async fn a_stop_takes_as_long_as_is_asked_for() {
    let world = World::start().await;
    let reference = world.publish("app", &["1.0.0"]).await;
    // Longer than the grace that it is made with, and shorter than what is asked for.
    let ends = "trap 'sleep 2; exit 7' TERM; while :; do sleep 1 & wait $!; done";
    let body = ContainerCreateBody {
        image: Some(reference),
        cmd: Some(["sh", "-c", ends].map(str::to_owned).into()),
        stop_timeout: Some(1),
        ..Default::default()
    };
    let name = world.docker.name("slow");
    let id = world.docker.run_with(&name, body).await;
    world.listed(&id).await;
    let events = world.authorised(Method::GET, "/docksmith/api/events");
    let events = events.send().await.unwrap();
    let code = async || {
        let found = world.docker.inspect(&name).await.expect("it is there");
        found.state.and_then(|state| state.exit_code)
    };
    post(&world, &format!("/containers/{name}/stop")).await;
    assert_eq!(code().await, Some(137), "its own grace holds");
    post(&world, &format!("/containers/{name}/start")).await;
    post(&world, &format!("/containers/{name}/stop?timeout=20")).await;
    assert_eq!(code().await, Some(7));
    post(&world, &format!("/containers/{name}/start")).await;
    let body = Some(json!({"containers": [name], "timeout": 20}));
    let stopped = ask(&world, Method::POST, "/containers/batch/stop", body).await;
    data(stopped, "batch/stop");
    assert_eq!(code().await, Some(7));
    post(&world, &format!("/containers/{name}/start")).await;
    let body = Some(json!({"containers": [name], "timeout": -1}));
    let refused = ask(&world, Method::POST, "/containers/batch/stop", body).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    assert_eq!(state(&world, &name).await, "running");
    let trail = world.get("/api/v1/audit?action=container-stop").await;
    assert!(trail.text.contains("with 20 s to stop"), "{}", trail.text);

    // What all of it was told as.
    post(&world, &format!("/containers/{name}/restart?timeout=0")).await;
    let path = format!("/containers/{name}?force=true");
    data(ask(&world, Method::DELETE, &path, None).await, "remove");
    let is = |event: &Value, kind: &str| {
        event["type"] == kind && event["payload"]["container"] == name.as_str()
    };
    let heard = super::walk::heard(events, |event| is(event, "container.removed")).await;
    for kind in ["restart.progress", "container.stopped", "container.updated"] {
        assert!(
            heard.iter().any(|event| is(event, kind)),
            "{kind}: {heard:#?}"
        );
    }
}
