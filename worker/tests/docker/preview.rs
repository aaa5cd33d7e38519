//! The dry run against a real registry and the real engine: it shows what the update would do, and
//! does nothing.

use plimsoll_app::store::StoreSettings;
use plimsoll_app::{App, AppSettings, Queue, Store};
use plimsoll_domain::ids::{ContainerId, WatcherRef};
use plimsoll_outbound::Reach;
use plimsoll_support::docker::LABEL;
use plimsoll_support::image::Image;
use plimsoll_support::registry::Registry;
use plimsoll_worker::docker::PullRequest;
use plimsoll_worker::explorer::Explorer;
use plimsoll_worker::live::LiveReads;
use plimsoll_worker::operations::Own;
use plimsoll_worker::registry::{Options, Registries};
use plimsoll_worker::release_notes::{Github, GithubSettings};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::host::Host;

async fn reads(host: &Host) -> LiveReads {
    let nowhere = Queue::new(&"redis://127.0.0.1:1".into()).expect("an address");
    // A preview is no stream, so nobody needs to listen.
    let streams = nowhere.stream_host(1).expect("a host");
    let registries = Registries::with_options(Vec::new(), None, Options::without_logins());
    let registries = registries.expect("registries");
    let settings = StoreSettings {
        url: "postgres://nobody@127.0.0.1:1/none".to_owned().into(),
        connections: 1,
    };
    let store = Store::new(&settings).expect("an address");
    LiveReads {
        engine: host.engine.clone(),
        github: Github::new(
            nowhere.clone(),
            GithubSettings {
                base: "http://127.0.0.1:1".parse().expect("an address"),
                token: None,
                reach: Reach::HOME,
            },
        ),
        streams,
        strangers: registries.clone(),
        explorer: Explorer {
            app: App::new(store, nowhere, AppSettings::default()),
            watcher: WatcherRef::local("local"),
            engine: host.engine.clone(),
            scope: None,
            own: Own::default(),
            crash_at: None,
        },
        registries,
        compose: plimsoll_worker::compose::Access::Within(Vec::new()),
        scripts: None,
    }
}

/// Pulls `reference` and creates a container of it.
async fn container(host: &Host, reference: &str) -> ContainerId {
    let request = PullRequest {
        reference: reference.to_owned(),
        auth: None,
        platform: None,
    };
    let never = CancellationToken::new();
    host.engine
        .pull(&request, &never, drop)
        .await
        .expect("pull");
    let body = json!({ "Image": reference, "Env": ["API_TOKEN=hunter2"] });
    host.create(&host.name("app"), body).await
}

fn field(document: &Value, path: &str) -> Value {
    let fields = document["fields"].as_array().expect("fields");
    let found = fields.iter().find(|field| field["path"] == path);
    found
        .unwrap_or_else(|| panic!("{path} in {document:#}"))
        .clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_reads_the_new_image_from_the_registry_and_pulls_nothing() {
    let host = Host::connect().await;
    let registry = Registry::start().await;
    let image = |version: &str| Image::app(version).label(LABEL, &host.tag);
    registry.push("team/app", "1.0.0", &image("1")).await;
    let second = image("2").env("ADDED", "yes").volume("/data");
    registry.push("team/app", "2.0.0", &second).await;
    let old = registry.reference("team/app", "1.0.0");
    let new = registry.reference("team/app", "2.0.0");
    let id = container(&host, &old).await;
    let before = host.engine.inspect(&id).await.expect("inspect");

    let payload = json!({ "containerId": id.as_str(), "targetImage": new,
        "updateKind": { "kind": "tag", "semverDiff": "major" } });
    let document = reads(&host)
        .await
        .answer("preview", payload)
        .await
        .expect("preview");

    assert_eq!(document["currentImage"], old.as_str());
    assert_eq!(document["newImage"], new.as_str());
    assert_eq!(document["isRunning"], false);
    assert_eq!(document["networks"], json!(["bridge"]));
    assert_eq!(document["updateKind"]["semverDiff"], "major");
    assert_eq!(
        field(&document, "Env.APP_VERSION"),
        json!({ "path": "Env.APP_VERSION", "old": "1", "new": "2", "source": "new-image", "changed": true })
    );
    assert_eq!(field(&document, "Env.ADDED")["new"], "yes");
    assert_eq!(field(&document, "Env.API_TOKEN")["source"], "user");
    assert!(!document.to_string().contains("hunter2"));
    assert!(
        document["warnings"][0]
            .as_str()
            .expect("warning")
            .contains("/data")
    );

    assert_eq!(host.engine.inspect(&id).await.expect("inspect"), before);
    let pulled = host.engine.inspect_image(&new).await;
    assert!(pulled.unwrap_err().is_not_found());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_that_cannot_be_made_says_why() {
    let host = Host::connect().await;
    let registry = Registry::start().await;
    let image = Image::app("1").label(LABEL, &host.tag);
    registry.push("team/app", "1.0.0", &image).await;
    let id = container(&host, &registry.reference("team/app", "1.0.0")).await;
    let reads = reads(&host).await;
    let ask = |id: String, image: String| {
        reads.answer(
            "preview",
            json!({ "containerId": id, "targetImage": image }),
        )
    };
    let absent = registry.reference("team/app", "9.9.9");
    let error = ask(id.to_string(), absent).await.unwrap_err();
    assert_eq!(error.code, "registry", "{error}");
    let error = ask("0".repeat(64), "app:1".to_owned()).await.unwrap_err();
    assert_eq!(error.code, "not-found", "{error}");
    let error = reads.answer("stats", Value::Null).await.unwrap_err();
    assert_eq!(error.code, "unknown-read", "{error}");
}
