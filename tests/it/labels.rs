//! Labels are shown and changed: of plain containers, and of Compose services in their files.

use bollard::models::ContainerInspectResponse;
use plimsoll_support::image::Image;
use reqwest::Method;
use serde_json::{Value, json};

use crate::compose::compose;
use crate::fleet::{Case, Fleet, operation_of, text};
use crate::replica::{Answer, answer};

async fn change(fleet: &Fleet, id: &str, body: &Value) -> Answer {
    let path = format!("/containers/{id}/labels");
    answer(fleet.request(0, Method::PATCH, &path).json(body)).await
}

async fn inspect(fleet: &Fleet, name: &str) -> ContainerInspectResponse {
    fleet.docker.inspect(name).await.expect("it is there")
}

async fn label(fleet: &Fleet, name: &str, key: &str) -> Option<String> {
    let labels = inspect(fleet, name).await.config?.labels?;
    labels.get(key).cloned()
}

/// The container of a finished change.
fn changed(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    text(&answer.json()["result"], "id")
}

#[tokio::test]
async fn a_plain_container_is_made_anew_with_other_labels_and_the_same_image() {
    let fleet = Fleet::start(1).await;
    let image = Image::app("1.0.0").label("dd.display.name", "Of the image");
    let labels = [("docksmith.ignore", "true"), ("com.example", "kept")];
    let case = Case {
        image,
        labels: &labels,
        ..Case::app()
    };
    let name = fleet.deploy("app", case).await;
    let _worker = fleet.worker("local").spawn();
    let id = text(&fleet.listed(&name).await, "id");
    let before = inspect(&fleet, &name).await;

    for (body, why) in [
        (json!({}), "No label is named"),
        (json!({"set": {"traefik.enable": "true"}}), "traefik.enable"),
        (
            json!({"set": {"dd.watch": "true", "com.docker.compose.project": "x"}}),
            "compose.project",
        ),
        (json!({"remove": ["com.example"]}), "com.example"),
        (
            json!({"set": {"plimsoll.operation": "x"}}),
            "Plimsoll writes it",
        ),
        (
            json!({"set": {"dd.compose.file": "/etc/x.yml"}}),
            "which file",
        ),
        (
            json!({"set": {"docksmith.ignore": "a\nb"}}),
            "docksmith.ignore",
        ),
        (
            json!({"set": {"docksmith.ignore": "x"}, "recreate": false}),
            "no Compose service",
        ),
        (
            json!({"set": {"docksmith.ignore": [1]}}),
            "Invalid request parameters",
        ),
        (json!("x"), "Invalid request parameters"),
    ] {
        let refused = change(&fleet, &id, &body).await;
        assert_eq!(refused.status, 400, "{body}: {}", refused.text);
        assert!(refused.error().contains(why), "{body}: {}", refused.text);
    }
    let own = change(&fleet, &id, &json!({"remove": ["dd.display.name"]})).await;
    assert_eq!(own.status, 500, "{}", own.text);
    assert!(text(&own.json()["details"], "lastError").contains("the image's own"));
    assert_eq!(inspect(&fleet, &name).await.id, before.id);

    let body = json!({
        "set": {"docksmith.tag-regex": "^v?\\d+$", "dd.watch": "true"},
        "remove": ["docksmith.ignore", "docksmith.nothing"],
    });
    let done = change(&fleet, &id, &body).await;
    let new = changed(&done);
    assert_ne!(new, id);
    let after = inspect(&fleet, &name).await;
    assert_eq!(after.id.as_deref(), Some(&*new));
    assert_eq!(after.image, before.image);
    assert_eq!(after.state.unwrap().running, Some(true));
    let labels = fleet.get(0, &format!("/containers/{new}/labels")).await;
    assert_eq!(labels["source"], "container");
    assert_eq!(labels["labels"]["docksmith.tag-regex"], "^v?\\d+$");
    assert_eq!(labels["labels"]["com.example"], "kept");
    assert_eq!(labels["labels"].get("docksmith.ignore"), None);
    let operation = fleet
        .get(0, &format!("/update-operations/{}", operation_of(&done)))
        .await;
    assert_eq!(
        (&operation["kind"], &operation["status"]),
        (&json!("label-change"), &json!("succeeded"))
    );
    // What is so already is left as it is.
    let again = change(&fleet, &new, &body).await;
    assert_eq!(changed(&again), new);
    let trail = fleet.get(0, "/audit?action=label-change").await;
    let asked = trail["data"].as_array().unwrap().iter();
    assert!(
        asked
            .map(|one| text(one, "details"))
            .any(|details| details.contains("without docksmith.ignore")),
        "{trail:#}"
    );

    // As Docksmith's clients ask, in the document's words and in the product's.
    let pinned = json!({
        "container": name,
        "labels": {"docksmith.version-pin-major": "true", "docksmith.ignore": "false"},
    });
    let set = docksmith(&fleet, "/labels/set", &pinned).await;
    assert_eq!(set["data"]["restarted"], true, "{set:#}");
    assert_eq!(
        label(&fleet, &name, "docksmith.ignore").await.as_deref(),
        Some("false")
    );
    let typed = json!({"container": name, "version_pin_major": false, "allow_latest": true});
    docksmith(&fleet, "/labels/set", &typed).await;
    let both =
        json!({"container": name, "labels": ["dd.watch"], "label_names": ["docksmith.ignore"]});
    docksmith(&fleet, "/labels/remove", &both).await;
    let url = fleet.apis[0].url(&format!("/docksmith/api/labels/{name}"));
    let shown = answer(reqwest::Client::new().get(url)).await.json();
    let labels = &shown["data"]["labels"];
    assert_eq!(labels["docksmith.allow-latest"], "true", "{shown:#}");
    for gone in [
        "docksmith.version-pin-major",
        "docksmith.ignore",
        "dd.watch",
    ] {
        assert_eq!(labels.get(gone), None, "{shown:#}");
    }
}

/// A change that must succeed.
async fn docksmith(fleet: &Fleet, path: &str, body: &Value) -> Value {
    let url = fleet.apis[0].url(&format!("/docksmith/api{path}"));
    let done = answer(reqwest::Client::new().post(url).json(body)).await;
    assert_eq!(done.status, 200, "{}", done.text);
    done.json()
}

#[tokio::test]
async fn labels_of_a_service_are_changed_in_its_file_and_compose_finds_nothing_left_to_do() {
    let fleet = Fleet::start(1).await;
    let reference = fleet.publish("app", "1.0.0", Image::app("1.0.0")).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("compose.yaml");
    let project = fleet.docker.name("labelled").to_lowercase();
    let id = fleet.docker.id();
    let original = format!(
        "# Labelled by hand.\r\nname: {project}\nservices:\n  web:\n    image: \"{reference}\" # web\n    \
         container_name: {project}-web\n    labels:\n      plimsoll.test: \"{id}\"\n      # whose it is\n      \
         plimsoll.test.case: \"{id}-local\"\n      dd.update.stability: '1'\n\n  db:\n    image: {reference}\n    \
         container_name: {project}-db\n    labels:\n    - plimsoll.test={id}\n    - \
         plimsoll.test.case={id}-local\n    - dd.update.stability=1\n    - docksmith.ignore=true # for now\n\
         networks:\n  default:\n    labels:\n      plimsoll.test: \"{id}\"\n"
    );
    std::fs::write(&file, &original).unwrap();
    compose(&file, &["up", "--detach"]).await;
    let _worker = fleet
        .worker("local")
        .env("PLIMSOLL_COMPOSE_DIRECTORIES", directory.path().display())
        .spawn();
    let read = || std::fs::read_to_string(&file).unwrap();
    let (web, db) = (format!("{project}-web"), format!("{project}-db"));
    let settled = async || {
        let ids = async || {
            (
                inspect(&fleet, &web).await.id,
                inspect(&fleet, &db).await.id,
            )
        };
        let before = ids().await;
        compose(&file, &["up", "--detach"]).await;
        assert_eq!(ids().await, before, "Compose has nothing to do");
    };

    // A map, and a value that Compose would fill in.
    let listed = text(&fleet.listed(&web).await, "id");
    let done = change(
        &fleet,
        &listed,
        &json!({"set": {"docksmith.tag-regex": "^1\\.${X}$"}}),
    )
    .await;
    let new = changed(&done);
    let with_map = original.replace(
        "dd.update.stability: '1'\n",
        "dd.update.stability: '1'\n      docksmith.tag-regex: '^1\\.$${X}$$'\n",
    );
    assert_eq!(read(), with_map);
    let backup = directory.path().join("compose.yaml.back");
    assert_eq!(std::fs::read_to_string(backup).unwrap(), original);
    assert_eq!(
        label(&fleet, &web, "docksmith.tag-regex").await.as_deref(),
        Some("^1\\.${X}$")
    );
    settled().await;
    let shown = fleet.get(0, &format!("/containers/{new}/labels")).await;
    assert_eq!(shown["source"], "compose");

    // A list, and back to the file as it was.
    let listed = text(&fleet.listed(&db).await, "id");
    changed(&change(&fleet, &listed, &json!({"remove": ["docksmith.ignore"]})).await);
    assert_eq!(
        read(),
        with_map.replace("    - docksmith.ignore=true # for now\n", "")
    );
    assert_eq!(label(&fleet, &db, "docksmith.ignore").await, None);
    settled().await;
    let done = change(&fleet, &new, &json!({"remove": ["docksmith.tag-regex"]})).await;
    let new = changed(&done);
    settled().await;

    // The file alone; Compose applies it.
    let body = json!({"set": {"docksmith.ignore": "true"}, "recreate": false});
    assert_eq!(changed(&change(&fleet, &new, &body).await), new);
    assert!(read().contains("docksmith.ignore: 'true'\n"), "{}", read());
    assert_eq!(label(&fleet, &web, "docksmith.ignore").await, None);
    compose(&file, &["up", "--detach"]).await;
    assert_eq!(
        label(&fleet, &web, "docksmith.ignore").await.as_deref(),
        Some("true")
    );

    // What cannot be edited safely changes nothing.
    let merged = read().replace(
        "    labels:\n    - plimsoll",
        "    labels: &l\n    - plimsoll",
    ) + "x-l: *l\n";
    std::fs::write(&file, &merged).unwrap();
    let before = inspect(&fleet, &db).await.id;
    let listed = text(&fleet.listed(&db).await, "id");
    let refused = change(&fleet, &listed, &json!({"set": {"dd.watch": "false"}})).await;
    assert_eq!(refused.status, 500, "{}", refused.text);
    let why = text(&refused.json()["details"], "lastError");
    assert!(why.contains("by an alias"), "{why}");
    assert_eq!((inspect(&fleet, &db).await.id, read()), (before, merged));
}
