//! What engines have besides containers, and removing it. The worker's scope is this test's label,
//! so nothing of anybody else's is ever touched: that is tested, too.

use std::collections::HashMap;

use bollard::models::{ContainerCreateBody, HostConfig, Mount, MountType, VolumeCreateRequest};
use bollard::query_parameters::RemoveVolumeOptionsBuilder;
use plimsoll_support::docker::{CHECKOUT_LABEL, LABEL};
use plimsoll_support::image::Image;
use plimsoll_support::wait;
use reqwest::Method;
use serde_json::Value;

use crate::replica::{Answer, answer};
use crate::world::{SOON, World};

/// A volume with these labels; anonymous where the name is empty.
async fn volume(world: &World, name: &str, labels: HashMap<String, String>) -> String {
    let request = VolumeCreateRequest {
        name: Some(name.to_owned()).filter(|name| !name.is_empty()),
        labels: Some(labels),
        ..Default::default()
    };
    let made = world.docker.client().create_volume(request).await;
    made.expect("it can be created").name
}

async fn has_volume(world: &World, name: &str) -> bool {
    world.docker.client().inspect_volume(name).await.is_ok()
}

async fn remove(world: &World, path: &str, confirmation: &str) -> Answer {
    let method = match path.contains("/remove") || path.contains("/prune/") {
        true => Method::POST,
        false => Method::DELETE,
    };
    let request = world.authorised(method, &format!("/api/v1{path}"));
    answer(request.header("x-dd-confirm-action", confirmation)).await
}

async fn listed(world: &World, kind: &str) -> Vec<Value> {
    let list = world.get(&format!("/api/v1/{kind}?watcher=local")).await;
    assert_eq!(list.status, 200, "{}", list.text);
    list.json()["data"].as_array().cloned().unwrap_or_default()
}

fn find<'a>(all: &'a [Value], key: &str, value: &str) -> &'a Value {
    let found = all.iter().find(|one| one[key] == value);
    found.unwrap_or_else(|| panic!("no {key} {value} in {all:#?}"))
}

fn reason(answer: &Answer) -> String {
    let json = answer.json();
    json["details"]["reason"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[tokio::test]
async fn what_nobody_uses_goes_and_what_is_needed_stays() {
    let world = World::start().await;
    let docker = &world.docker;
    let reference = world.publish("app", &["1.0.0", "1.1.0"]).await;

    // In use: by a container that runs, and by one that never did.
    let data = volume(&world, &docker.name("data"), docker.labels()).await;
    let mount = Mount {
        target: Some("/data".to_owned()),
        source: Some(data.clone()),
        typ: Some(MountType::VOLUME),
        ..Default::default()
    };
    let body = ContainerCreateBody {
        image: Some(reference.clone()),
        labels: Some(HashMap::from([("dd.update.stability".into(), "1".into())])),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            ..Default::default()
        }),
        ..Default::default()
    };
    let app = docker.run_with(&docker.name("app"), body).await;
    world.listed(&app).await;
    let network_name = docker.name("net");
    let network = docker.network(&network_name).await;
    let idle_name = docker.name("idle");
    let idle = ContainerCreateBody {
        image: Some(reference.clone()),
        host_config: Some(HostConfig {
            network_mode: Some(network_name.clone()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let idle = docker.create(&idle_name, idle).await;
    let unused_network = docker.network(&docker.name("unused")).await;

    let images = listed(&world, "images").await;
    let image = images
        .iter()
        .find(|one| one["tags"][0] == reference.as_str());
    let image = image.expect("the pulled image is listed").clone();
    assert_eq!(image["inUse"], true);
    assert_eq!(image["obstacle"], "in-use");
    assert_eq!(image["containers"].as_array().unwrap().len(), 2);
    assert!(image["size"].as_u64() > Some(0) && image["watcher"] == "local");
    let networks = listed(&world, "networks").await;
    assert_eq!(find(&networks, "name", "bridge")["obstacle"], "built-in");
    let used = find(&networks, "id", &network);
    assert_eq!(used["containers"][0]["name"], idle_name.as_str());
    assert_eq!(
        find(&networks, "id", &unused_network)["obstacle"],
        Value::Null
    );
    let volumes = listed(&world, "volumes").await;
    let used = find(&volumes, "name", &data);
    assert_eq!(used["containers"][0]["state"], "running");
    assert_eq!(used["anonymous"], false);
    let all = world.get("/api/v1/explorer").await.json();
    let containers = all["engines"][0]["containers"].as_array().unwrap();
    assert_eq!(find(containers, "id", &app)["obstacle"], "running");
    assert_eq!(
        world.get("/api/v1/images?watcher=nowhere").await.status,
        404
    );

    // Nothing of this changes anything.
    let image_id = image["id"].as_str().unwrap().to_owned();
    let unconfirmed = world.authorised(Method::DELETE, &format!("/api/v1/volumes/{data}"));
    assert_eq!(answer(unconfirmed).await.status, 428);
    for (path, confirmation, status, why) in [
        (format!("/images/{image_id}"), "image-delete", 409, "in-use"),
        (format!("/volumes/{data}"), "volume-delete", 409, "in-use"),
        (
            format!("/networks/{network}"),
            "network-delete",
            409,
            "in-use",
        ),
        (
            "/networks/bridge".to_owned(),
            "network-delete",
            409,
            "built-in",
        ),
        (
            format!("/containers/{app}/remove"),
            "container-remove",
            409,
            "running",
        ),
        (
            "/volumes/..%2f..%2fetc".to_owned(),
            "volume-delete",
            404,
            "not-found",
        ),
        (
            "/images/..%2fcontainers".to_owned(),
            "image-delete",
            404,
            "not-found",
        ),
        (
            "/networks/%2a".to_owned(),
            "network-delete",
            404,
            "not-found",
        ),
    ] {
        let refused = remove(&world, &path, confirmation).await;
        assert_eq!(refused.status, status, "{path}: {}", refused.text);
        assert_eq!(reason(&refused), why, "{path}");
    }
    for bad in [
        "/volumes/%0a",
        "/prune/everything",
        "/prune/volumes?label=%3dx",
    ] {
        let confirmation = if bad.contains("prune") {
            "prune"
        } else {
            "volume-delete"
        };
        assert_eq!(remove(&world, bad, confirmation).await.status, 400, "{bad}");
    }

    // A kept backup needs its image and its volume, whatever becomes of the container.
    world.watch(&app).await;
    let update = world.authorised(Method::POST, &format!("/api/v1/containers/{app}/update"));
    let updated = answer(update).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
    let path = format!(
        "/containers/{}/remove?force=true&volumes=true",
        docker.name("app")
    );
    let removed = remove(&world, &path, "container-remove").await;
    assert_eq!(removed.status, 200, "{}", removed.text);
    assert_eq!(removed.json()["removed"]["containers"], 1);
    assert!(docker.inspect(&docker.name("app")).await.is_none());
    wait::until_true("the container to be gone from the list", SOON, async || {
        let list = world.get("/api/v1/containers").await.json();
        list["data"]
            .as_array()
            .is_some_and(|all| all.iter().all(|c| c["name"] != docker.name("app")))
    })
    .await;

    // What was never anybody's, and what is somebody else's.
    let anonymous = volume(&world, "", docker.labels()).await;
    let named = volume(&world, &docker.name("named"), docker.labels()).await;
    let mut others = docker.labels();
    others.insert(LABEL.to_owned(), format!("{}-other", docker.id()));
    assert!(others.contains_key(CHECKOUT_LABEL), "the reaper finds it");
    let foreign = volume(&world, "", others).await;

    let only = remove(
        &world,
        "/prune/volumes?all=true&label=no-such-label",
        "prune",
    )
    .await;
    assert_eq!(only.json()["items"], serde_json::json!([]), "{}", only.text);
    let pruned = remove(&world, "/prune/system?volumes=true", "prune").await;
    assert_eq!(pruned.status, 200, "{}", pruned.text);
    let pruned = pruned.json();
    assert_eq!(pruned["status"], "completed");
    assert_eq!(pruned["removed"]["containers"], 1, "{pruned:#}");
    assert_eq!(pruned["removed"]["networks"], 2, "{pruned:#}");
    assert_eq!(pruned["removed"]["volumes"], 1, "{pruned:#}");
    assert!(docker.inspect(&idle).await.is_none());
    assert!(!has_volume(&world, &anonymous).await);
    for kept in [&named, &foreign, &data] {
        assert!(has_volume(&world, kept).await, "{kept}");
    }

    let volumes = remove(&world, "/prune/volumes?all=true", "prune")
        .await
        .json();
    assert_eq!(
        find(volumes["items"].as_array().unwrap(), "name", &named)["state"],
        "removed"
    );
    let kept = find(volumes["items"].as_array().unwrap(), "name", &data);
    assert_eq!(
        (&kept["state"], &kept["reason"]),
        (&"kept".into(), &"backup".into())
    );
    let refused = remove(&world, &format!("/volumes/{data}"), "volume-delete").await;
    assert_eq!(
        (refused.status, reason(&refused)),
        (409, "backup".to_owned())
    );
    assert!(has_volume(&world, &data).await && has_volume(&world, &foreign).await);

    let images = remove(&world, "/prune/images?all=true", "prune")
        .await
        .json();
    let kept = find(images["items"].as_array().unwrap(), "id", &image_id);
    assert_eq!(
        (&kept["state"], &kept["reason"]),
        (&"kept".into(), &"backup".into())
    );
    assert_eq!(
        images["removed"]["images"], 1,
        "the one that was updated to: {images:#}"
    );
    let refused = remove(&world, &format!("/images/{image_id}"), "image-delete").await;
    assert_eq!(
        (refused.status, reason(&refused)),
        (409, "backup".to_owned())
    );
    assert!(docker.client().inspect_image(&image_id).await.is_ok());

    // A name of an image goes alone; the answer can be had later; all of it is in the trail.
    let other = Image::app("2.0.0").label(LABEL, docker.id());
    world.registry.push("other", "2.0.0", &other).await;
    let other = world.registry.reference("other", "2.0.0");
    docker.pull(&other).await;
    let path = format!("/api/v1/images/{}", other.replace('/', "%2F"));
    let request = world
        .authorised(Method::DELETE, &path)
        .header("x-dd-confirm-action", "image-delete")
        .header("prefer", "respond-async");
    let accepted = answer(request).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let location = accepted.header("location").to_owned();
    let over = wait::until("the removal to be over", SOON, async || {
        let removal = world.get(&location).await.json();
        (removal["status"] == "completed").then_some(removal)
    })
    .await;
    assert_eq!(over["items"][0]["state"], "removed", "{over:#}");
    assert!(docker.client().inspect_image(&other).await.is_err());
    let trail = world
        .get("/api/v1/audit?action=volume-removed")
        .await
        .json();
    let entry = find(trail["data"].as_array().unwrap(), "containerName", &named);
    assert_eq!(
        (&entry["status"], &entry["actor"]),
        (&"success".into(), &"owner".into())
    );

    let tags = world
        .get(&format!("/api/v1/registry-tags?image={reference}&limit=1"))
        .await;
    assert_eq!(tags.status, 200, "{}", tags.text);
    let tags = tags.json();
    assert_eq!(
        (&tags["total"], &tags["hasMore"]),
        (&2.into(), &true.into())
    );
    // A stranger's word leads to no address at home.
    let stranger = world
        .get("/api/v1/registry-tags?image=127.0.0.1:1/app")
        .await;
    assert_eq!(stranger.status, 502, "{}", stranger.text);
    assert_eq!(
        world.get("/api/v1/registry-tags?image=A%2FB").await.status,
        400
    );

    let force = RemoveVolumeOptionsBuilder::default().force(true).build();
    let gone = docker.client().remove_volume(&foreign, Some(force)).await;
    gone.expect("it was left alone");
}
