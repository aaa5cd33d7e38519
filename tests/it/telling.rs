//! Who is told of what, how often, and in which form; services that hang or answer garbage.

use std::collections::BTreeMap;
use std::time::Duration;

use plimsoll_support::docker::Docker;
use plimsoll_support::hostile::{Answer, Hostile};
use plimsoll_support::image::Image;
use plimsoll_support::kafka::{Cluster, Gate, Login, Rules};
use plimsoll_support::mosquitto::Mosquitto;
use plimsoll_support::wait;
use reqwest::Method;
use serde_json::{Value, json};

use crate::notifications::{Service, deploy, outbox, world};
use crate::replica::answer;
use crate::world::{SOON, World, worker};

/// The names that each trigger was told of under `event`, request by request, by the last part of
/// the trigger's address.
fn told(service: &Service, event: &str) -> BTreeMap<String, Vec<Vec<String>>> {
    let name = |container: &Value| container["name"].as_str().unwrap_or_default().to_owned();
    let mut told: BTreeMap<String, Vec<Vec<String>>> = BTreeMap::new();
    for request in service.server.received() {
        if request.header("x-plimsoll-event") != Some(event) {
            continue;
        }
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let mut names: Vec<String> = match &body {
            Value::Array(all) => all.iter().map(name).collect(),
            one => vec![name(one)],
        };
        names.sort();
        let trigger = request.path.rsplit('/').next().unwrap_or_default();
        told.entry(trigger.to_owned()).or_default().push(names);
    }
    told
}

/// An HTTP trigger of that name with one more setting.
fn hook(service: &Service, name: &str, setting: &str, value: &str) -> [(String, String); 2] {
    let prefix = format!("DD_TRIGGER_HTTP_{}", name.to_uppercase());
    let url = format!("http://{}/{name}", service.server.host());
    [
        (format!("{prefix}_URL"), url),
        (format!("{prefix}_{setting}"), value.to_owned()),
    ]
}

async fn world_with(service: &Service, more: &[[(String, String); 2]]) -> World {
    let more: Vec<(&str, &str)> = more
        .iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    world(service, &more).await
}

async fn watch_all(world: &World) {
    let watched = answer(world.authorised(Method::POST, "/api/v1/containers/watch")).await;
    assert_eq!(watched.status, 200, "{}", watched.text);
}

/// Once nothing is on its way.
async fn settled(world: &World) {
    wait::until_true("all messages to be delivered", SOON, async || {
        let all = outbox(world).await;
        !all.is_empty() && all.iter().all(|message| message["state"] == "delivered")
    })
    .await;
}

async fn update(world: &World, id: &str) {
    let path = format!("/api/v1/containers/{id}/update");
    let updated = answer(world.authorised(Method::POST, &path)).await;
    assert_eq!(updated.status, 200, "{}", updated.text);
}

#[tokio::test]
async fn each_threshold_lets_its_updates_through() {
    const ALL: &[&str] = &["digest", "major", "minor", "patch"];
    let levels: &[(&str, &[&str])] = &[
        ("all", ALL),
        ("major", ALL),
        ("minor", &["digest", "minor", "patch"]),
        ("patch", &["digest", "patch"]),
        ("major-only", &["digest", "major"]),
        ("minor-only", &["digest", "minor"]),
        ("digest", &["digest"]),
        ("all-no-digest", &["major", "minor", "patch"]),
        ("major-no-digest", &["major", "minor", "patch"]),
        ("minor-no-digest", &["minor", "patch"]),
        ("patch-no-digest", &["patch"]),
        ("major-only-no-digest", &["major"]),
        ("minor-only-no-digest", &["minor"]),
    ];
    let service = Service::start().await;
    let hooks: Vec<_> = levels
        .iter()
        .map(|(level, _)| hook(&service, &level.replace('-', ""), "THRESHOLD", level))
        .collect();
    let world = world_with(&service, &hooks).await;
    for (stem, newer) in [("major", "2.0.0"), ("minor", "1.1.0"), ("patch", "1.0.1")] {
        let image = world.publish(stem, &["1.0.0", newer]).await;
        world.run(stem, &image, &[]).await;
    }
    let image = world.publish("digest", &["latest"]).await;
    let digests = [("dd.watch.digest", "true")];
    world.run("digest", &image, &digests).await;
    let moved = Image::app("moved").label("plimsoll.test", world.docker.id());
    world.registry.push("digest", "latest", &moved).await;

    watch_all(&world).await;
    settled(&world).await;
    let told = told(&service, "update-available");
    for (level, expected) in levels {
        let heard = told.get(&level.replace('-', "")).into_iter().flatten();
        let mut heard: Vec<&String> = heard.flatten().collect();
        heard.sort();
        let expected: Vec<String> = expected
            .iter()
            .map(|stem| world.docker.name(stem))
            .collect();
        assert_eq!(heard, expected.iter().collect::<Vec<_>>(), "{level}");
    }
}

#[tokio::test]
async fn modes_say_when_and_together_with_what() {
    let service = Service::start().await;
    let modes = ["simple", "batch", "digest", "batch+digest"];
    let hooks = modes.map(|mode| hook(&service, &mode.replace('+', ""), "MODE", mode));
    let world = world_with(&service, &hooks).await;
    let mut names = Vec::new();
    let mut ids = Vec::new();
    for stem in ["one", "three", "two"] {
        let image = world.publish(stem, &["1.0.0", "1.1.0"]).await;
        ids.push(world.run(stem, &image, &[]).await);
        names.push(world.docker.name(stem));
    }
    watch_all(&world).await;
    let each: Vec<Vec<String>> = names.iter().map(|name| vec![name.clone()]).collect();
    wait::until_true("everything but digests", SOON, async || {
        let all = outbox(&world).await;
        let is_done = |m: &Value| m["form"] == "digest" || m["state"] == "delivered";
        all.iter().filter(|m| m["form"] == "digest").count() == 6 && all.iter().all(is_done)
    })
    .await;
    let heard = told(&service, "update-available");
    let mut simple = heard["simple"].clone();
    simple.sort();
    assert_eq!(simple, each);
    assert_eq!(heard["batch"], std::slice::from_ref(&names));
    assert_eq!(heard["batchdigest"], std::slice::from_ref(&names));
    assert!(!heard.contains_key("digest"));

    // What was updated by the time of the digest is left out of it.
    update(&world, &ids[0]).await;
    let rows = world.database.client().await;
    let hurry = "UPDATE notification_outbox SET due_at = now() WHERE form = 'digest'";
    rows.execute(hurry, &[]).await.unwrap();
    let left = names[1..].to_vec();
    wait::until_true("the digests", SOON, async || {
        let heard = told(&service, "update-available");
        heard.contains_key("digest") && heard["batchdigest"].len() == 2
    })
    .await;
    let heard = told(&service, "update-available");
    assert_eq!(heard["digest"], std::slice::from_ref(&left));
    assert_eq!(heard["batchdigest"], [names.clone(), left]);
    // Everything else is told at once, whatever the mode.
    wait::until_true("the update's end to be told", SOON, async || {
        told(&service, "update-applied").len() == 5
    })
    .await;
}

#[tokio::test]
async fn a_trigger_may_want_to_hear_of_an_update_with_every_watch() {
    let service = Service::start().await;
    let [url, once] = hook(&service, "again", "ONCE", "false");
    let more = [
        (url.0.as_str(), url.1.as_str()),
        (once.0.as_str(), once.1.as_str()),
        // No watch but those that are counted.
        ("PLIMSOLL_WATCHER_LOCAL_WATCHATSTART", "false"),
    ];
    let world = world(&service, &more).await;
    let (id, name) = deploy(&world).await;
    for _ in 0..3 {
        world.watch(&id).await;
        settled(&world).await;
    }
    let heard = told(&service, "update-available");
    assert_eq!(heard["again"], vec![vec![name.clone()]; 3]);
    assert_eq!(service.told("update-available").len(), 4);
    update(&world, &id).await;
    let shown = world.get("/api/v1/containers?limit=0").await.json();
    let new = shown["data"][0]["id"].as_str().unwrap().to_owned();
    world.watch(&new).await;
    settled(&world).await;
    assert_eq!(
        told(&service, "update-available"),
        heard,
        "nothing is left to update"
    );
}

#[tokio::test]
async fn what_is_not_true_any_more_is_taken_back() {
    let service = Service::start().await;
    let chats = Hostile::start(|request| {
        Answer::json(match request.path.rsplit('/').next() {
            Some("chat.postMessage") => r#"{"ok": true, "channel": "C7", "ts": "1.2"}"#,
            Some("sendMessage") => r#"{"ok": true, "result": {"message_id": 7}}"#,
            _ if request.path.contains("/send/") => r#"{"event_id": "$seven"}"#,
            _ => r#"{"ok": true}"#,
        })
    })
    .await;
    let url = format!("http://{}", chats.host());
    let world = world(
        &service,
        &[
            ("DD_TRIGGER_SLACK_BACK_URL", &url),
            ("DD_TRIGGER_SLACK_BACK_TOKEN", "xoxb-1"),
            ("DD_TRIGGER_SLACK_BACK_CHANNEL", "updates"),
            ("DD_TRIGGER_SLACK_BACK_RESOLVENOTIFICATIONS", "true"),
            ("DD_TRIGGER_SLACK_KEEPS_URL", &url),
            ("DD_TRIGGER_SLACK_KEEPS_TOKEN", "xoxb-2"),
            ("DD_TRIGGER_SLACK_KEEPS_CHANNEL", "kept"),
            ("DD_TRIGGER_TELEGRAM_BACK_URL", &url),
            ("DD_TRIGGER_TELEGRAM_BACK_BOTTOKEN", "12:ab"),
            ("DD_TRIGGER_TELEGRAM_BACK_CHATID", "99"),
            ("DD_TRIGGER_TELEGRAM_BACK_RESOLVENOTIFICATIONS", "true"),
            ("DD_TRIGGER_MATRIX_BACK_URL", &url),
            ("DD_TRIGGER_MATRIX_BACK_ROOMID", "!r:x"),
            ("DD_TRIGGER_MATRIX_BACK_ACCESSTOKEN", "syt"),
            ("DD_TRIGGER_MATRIX_BACK_RESOLVENOTIFICATIONS", "true"),
        ],
    )
    .await;
    let (id, _) = deploy(&world).await;
    world.watch(&id).await;
    settled(&world).await;
    assert_eq!(chats.received().len(), 4);
    update(&world, &id).await;
    // Of five triggers each hears of the update and its end, and three take one back.
    wait::until_true("the messages to be taken back", SOON, async || {
        outbox(&world).await.len() == 13
    })
    .await;
    settled(&world).await;
    let taken = |end: &str| -> Vec<Value> {
        let received = chats.received();
        let all = received.iter().filter(|request| request.path.contains(end));
        all.map(|request| serde_json::from_str(&request.body).unwrap())
            .collect()
    };
    assert_eq!(
        taken("/chat.delete"),
        [json!({"channel": "C7", "ts": "1.2"})]
    );
    assert_eq!(
        taken("/deleteMessage"),
        [json!({"chat_id": "99", "message_id": 7})]
    );
    assert_eq!(taken("/redact/").len(), 1);
    assert_eq!(chats.received().len(), 11);
}

#[tokio::test]
async fn an_agent_that_is_gone_is_told_of_once_each_time() {
    let service = Service::start().await;
    let world = world(&service, &[]).await;
    let rule = world
        .authorised(Method::PATCH, "/api/v1/notifications/agent-disconnect")
        .json(&json!({"enabled": true}));
    assert_eq!(answer(rule).await.status, 200);
    let other = Docker::connect().await;
    let mut edge = worker(world.database.url(), &world.redis.url(), &other)
        .env("PLIMSOLL_WORKER_AGENT", "edge")
        // Nobody is there to send what it would have to say of its own end.
        .env("DD_TRIGGER_HTTP_OWN_URL", service.url())
        .spawn();
    let connected = async |wanted: bool| {
        let what = format!("the agent to be connected: {wanted}");
        wait::until_true(&what, 2 * SOON, async || {
            let agents = world.get("/api/v1/agents").await.json();
            agents["data"][0]["connected"] == wanted
        })
        .await;
    };
    connected(true).await;
    for round in 1..=2 {
        match round {
            1 => edge.kill(),
            _ => drop(edge.terminate(SOON).await),
        }
        connected(false).await;
        wait::until_true("the news", SOON, async || {
            service.told("agent-disconnect").len() == round
        })
        .await;
        edge.start();
        connected(true).await;
    }
    let received = service.server.received();
    let news: Vec<Value> = received
        .iter()
        .filter(|request| request.header("x-plimsoll-event") == Some("agent-disconnect"))
        .map(|request| serde_json::from_str(&request.body).unwrap())
        .collect();
    assert_eq!(news.len(), 2);
    assert_eq!(news[0]["agent"], "edge");
    assert_eq!(news[0]["reason"], "The agent has not been heard of");
    assert_eq!(news[1]["reason"], "The agent has shut down");
    let audit = world.get("/api/v1/audit?action=agent-disconnect").await;
    assert_eq!(audit.json()["total"], 2);
}

#[tokio::test]
async fn services_that_hang_or_answer_garbage_delay_nobody() {
    let silent = Hostile::start(|_| Answer::silence()).await;
    let endless = Hostile::start(|_| Answer::endless(1 << 40)).await;
    let garbage = Hostile::start(|_| Answer::new(200, "\0\u{1}{{{")).await;
    let service = Service::start().await;
    let (deaf, chatty, odd) = (silent.host(), endless.host(), garbage.host());
    let url = |host: &str| format!("http://{host}/");
    let world = world(
        &service,
        &[
            ("DD_TRIGGER_HTTP_DEAF_URL", &url(&deaf)),
            ("DD_TRIGGER_HTTP_CHATTY_URL", &url(&chatty)),
            ("DD_TRIGGER_SLACK_ODD_URL", &url(&odd)),
            ("DD_TRIGGER_SLACK_ODD_TOKEN", "t"),
            ("DD_TRIGGER_SLACK_ODD_CHANNEL", "c"),
            ("DD_TRIGGER_MQTT_DEAF_URL", &format!("mqtt://{deaf}")),
            ("DD_TRIGGER_MQTT_WEB_URL", &format!("ws://{odd}/")),
            ("DD_TRIGGER_KAFKA_DEAF_BROKERS", &deaf),
            ("DD_TRIGGER_KAFKA_ODD_BROKERS", &odd),
            // It outlives its worker, which is killed.
            ("DD_TRIGGER_COMMAND_STUCK_CMD", "sleep 60"),
        ],
    )
    .await;
    let (id, name) = deploy(&world).await;
    world.watch(&id).await;
    wait::until_true("the silent one to be asked", SOON, async || {
        !silent.received().is_empty()
    })
    .await;
    let soon = Duration::from_secs(8);
    wait::until_true("the other one to be told", soon, async || {
        service.told("update-available") == [name.as_str()]
    })
    .await;
    update(&world, &id).await;
    wait::until_true("the other one to be told again", soon, async || {
        service.told("update-applied") == [name.as_str()]
    })
    .await;
    let refused = wait::until("the garbage to be noted", SOON, async || {
        let all = outbox(&world).await;
        all.into_iter()
            .find(|m| m["trigger"] == "slack.odd" && m["error"].is_string())
    })
    .await;
    assert_eq!(refused["state"], "pending", "{refused}");
}

/// What the broker holds, once that is so many topics and what is expected of some.
async fn held(
    broker: &Mosquitto,
    expected: BTreeMap<String, String>,
    topics: usize,
) -> BTreeMap<String, String> {
    wait::until(&format!("{expected:?}"), 3 * SOON, async || {
        let held = broker.retained("#", topics).await;
        let has = |(topic, value): (&String, &String)| held.get(topic) == Some(value);
        (expected.iter().all(has) && held.len() == topics).then_some(held)
    })
    .await
}

#[tokio::test]
async fn the_broker_mirrors_the_inventory_for_home_assistant() {
    let service = Service::start().await;
    let mut broker = Mosquitto::start().await;
    let url = broker.url();
    let world = world(
        &service,
        &[
            ("DD_TRIGGER_MQTT_HOME_URL", &url),
            ("DD_TRIGGER_MQTT_HOME_HASS_ENABLED", "true"),
            ("DD_TRIGGER_MQTT_HOME_HASS_DISCOVERY", "true"),
        ],
    )
    .await;
    // A container that is new is looked up at once, so there is nothing newer yet.
    let image = world.publish("app", &["1.0.0"]).await;
    let id = world.run("web", &image, &[]).await;
    let name = world.docker.name("web");
    let topic = format!("dd/container/local/{name}");
    let entity = format!(
        "homeassistant/update/dd_container_local_{}/config",
        name.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
    );
    let counts = |total: &str, updates: &str, status: &str| {
        BTreeMap::from([
            ("dd/container/total_count".to_owned(), total.to_owned()),
            ("dd/container/update_count".to_owned(), updates.to_owned()),
            ("dd/container/update_status".to_owned(), status.to_owned()),
        ])
    };
    // State and entity of the container; three counts with an entity each.
    let first = held(&broker, counts("1", "0", "false"), 8).await;
    let state: Value = serde_json::from_str(&first[&topic]).unwrap();
    assert_eq!(state["image_tag_value"], "1.0.0");
    assert!(
        state.get("result_tag").is_none_or(|tag| tag == "1.0.0"),
        "{state}"
    );
    let told: Value = serde_json::from_str(&first[&entity]).unwrap();
    assert_eq!(told["state_topic"], topic.as_str());
    for (kind, count) in [
        ("sensor", "total_count"),
        ("sensor", "update_count"),
        ("binary_sensor", "update_status"),
    ] {
        let config = format!("homeassistant/{kind}/dd_container_{count}/config");
        let config: Value = serde_json::from_str(&first[&config]).unwrap();
        assert_eq!(config["state_topic"], format!("dd/container/{count}"));
    }

    world.publish("app", &["1.1.0"]).await;
    world.watch(&id).await;
    let found = held(&broker, counts("1", "1", "true"), 8).await;
    let state: Value = serde_json::from_str(&found[&topic]).unwrap();
    assert_eq!(state["result_tag"], "1.1.0");
    assert_eq!(state["update_available"], true);

    let image = world.publish("steady", &["1.0.0"]).await;
    let second = world.run("steady", &image, &[]).await;
    held(&broker, counts("2", "1", "true"), 10).await;

    // It is away when something changes, and has forgotten everything when it is back.
    broker.stop();
    world.docker.remove(&second).await;
    let why = "the MQTT broker is told again later";
    world.worker.wait_for_log(why, SOON).await;
    broker.start_again().await;
    let last = held(&broker, counts("1", "1", "true"), 8).await;
    assert!(last.contains_key(&topic) && last.contains_key(&entity));
}

#[tokio::test]
async fn brokers_are_reached_by_tls_with_a_login() {
    let service = Service::start().await;
    let cluster = Cluster::start(1).await;
    let rules = Rules {
        login: Some(Login::Plain("me", "hunter2hunter2")),
        ..Rules::default()
    };
    let gate = Gate::tls(&cluster, rules).await;
    let broker = Mosquitto::start().await;
    // What the worker's machine trusts.
    let directory = tempfile::tempdir().unwrap();
    let trusted = directory.path().join("trusted.pem");
    let both = [gate.certificate().path(), broker.certificate().path()];
    let both = both.map(|path| std::fs::read_to_string(path).unwrap());
    std::fs::write(&trusted, both.concat()).unwrap();
    let world = world(
        &service,
        &[
            ("SSL_CERT_FILE", &trusted.display().to_string()),
            ("DD_TRIGGER_KAFKA_X_BROKERS", &gate.broker()),
            ("DD_TRIGGER_KAFKA_X_SSL", "true"),
            ("DD_TRIGGER_KAFKA_X_AUTHENTICATION_TYPE", "PLAIN"),
            ("DD_TRIGGER_KAFKA_X_AUTHENTICATION_USER", "me"),
            (
                "DD_TRIGGER_KAFKA_X_AUTHENTICATION_PASSWORD",
                "hunter2hunter2",
            ),
            ("DD_TRIGGER_MQTT_X_URL", &broker.secure_web_url()),
        ],
    )
    .await;
    let (id, name) = deploy(&world).await;
    world.watch(&id).await;
    settled(&world).await;
    let records = cluster.read("drydock-container").await;
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}");
    };
    let container: Value = serde_json::from_str(record["payload"].as_str().unwrap()).unwrap();
    assert_eq!(container["id"], id.as_str());
    assert_eq!(container["name"], name.as_str());
    assert_eq!(container["updateKind"]["remoteValue"], "1.1.0");
    let held = broker.retained("#", 1).await;
    assert!(
        held.contains_key(&format!("dd/container/local/{name}")),
        "{held:?}"
    );
    let shown = world.get("/api/v1/triggers/kafka/x").await;
    assert!(!shown.text.contains("hunter2"), "{}", shown.text);
    let shown = &shown.json()["configuration"];
    assert_eq!(shown["ssl"], true);
    assert_eq!(shown["topic"], "drydock-container");
    let title = "New ${kind} found for container ${name}";
    assert_eq!(shown["simpletitle"], title);
    let login = json!({"type": "PLAIN", "user": "me", "password": "[REDACTED]"});
    assert_eq!(shown["authentication"], login);
}
