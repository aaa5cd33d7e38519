use plimsoll_support::mosquitto::Mosquitto;

use super::*;

#[tokio::test]
async fn a_container_has_a_retained_topic_of_its_own() {
    let broker = Mosquitto::start().await;
    let url = broker.url();
    let trigger = configured(&[
        ("DD_TRIGGER_MQTT_X_URL", &url),
        ("DD_TRIGGER_MQTT_X_EXCLUDE", "db, cache"),
        ("DD_TRIGGER_MQTT_X_HASS_ENABLED", "true"),
        ("DD_TRIGGER_MQTT_X_HASS_DISCOVERY", "true"),
    ]);
    let mut message = outgoing("t", "b");
    let mut remote = container("we/b");
    remote["agent"] = "nas".into();
    message.subjects.extend([container("db"), remote]);
    message.many = true;
    send(&trigger, &message).await.unwrap();

    // After the fact: only what is retained is still there.
    let held = broker.retained("#", 4).await;
    let topics: Vec<&str> = held.keys().map(String::as_str).collect();
    assert_eq!(
        topics,
        [
            "dd/container/local/web",
            "dd/container/nas/local/we-b",
            "homeassistant/update/dd_container_local_web/config",
            "homeassistant/update/dd_container_nas_local_we_b/config",
        ]
    );
    let state: Value = serde_json::from_str(&held["dd/container/local/web"]).unwrap();
    assert_eq!(state["name"], "web");
    assert_eq!(state["update_kind_remote_value"], "1.1.0");
    let entity = &held["homeassistant/update/dd_container_local_web/config"];
    let entity: Value = serde_json::from_str(entity).unwrap();
    assert_eq!(entity["state_topic"], "dd/container/local/web");
    assert_eq!(entity["device"]["identifiers"], json!(["plimsoll"]));
    assert_eq!(entity["latest_version_topic"], "dd/container/local/web");
}

#[tokio::test]
async fn home_assistant_may_want_names_and_versions_only() {
    let broker = Mosquitto::start().await;
    let url = broker.url();
    let trigger = configured(&[
        ("DD_TRIGGER_MQTT_X_URL", &url),
        ("DD_TRIGGER_MQTT_X_HASS_ENABLED", "true"),
        ("DD_TRIGGER_MQTT_X_HASS_DISCOVERY", "true"),
        ("DD_TRIGGER_MQTT_X_HASS_ATTRIBUTES", "short"),
    ]);
    let mut message = outgoing("t", "b");
    message.subjects[0]["labels"] = json!({"much": "to say"});
    send(&trigger, &message).await.unwrap();
    let held = broker.retained("#", 2).await;
    let state: Value = serde_json::from_str(&held["dd/container/local/web"]).unwrap();
    assert!(state.get("labels_much").is_none(), "{state}");
    // What the entity's templates ask for is there.
    for (name, value) in [
        ("image_tag_value", "1.0.0"),
        ("result_tag", "1.1.0"),
        ("update_kind_kind", "tag"),
    ] {
        assert_eq!(state[name], value, "{state}");
    }
}

#[tokio::test]
async fn a_broker_may_want_a_password() {
    let broker = Mosquitto::with_password("me", "hunter2").await;
    let url = broker.url();
    let with = |password: &'static str| {
        configured(&[
            ("DD_TRIGGER_MQTT_X_URL", &url),
            ("DD_TRIGGER_MQTT_X_USER", "me"),
            ("DD_TRIGGER_MQTT_X_PASSWORD", password),
        ])
    };
    send(&with("hunter2"), &outgoing("t", "b")).await.unwrap();
    let said = failure(&with("hunter3")).await.why;
    assert!(
        said.contains("credentials") && !said.contains("hunter"),
        "{said}"
    );
}

#[tokio::test]
async fn more_than_the_pipeline_holds_arrives() {
    let broker = Mosquitto::start().await;
    let url = broker.url();
    let trigger = configured(&[("DD_TRIGGER_MQTT_X_URL", &url)]);
    let mut message = outgoing("t", "b");
    message.subjects = (0..100).map(|n| container(&format!("c{n}"))).collect();
    message.many = true;
    send(&trigger, &message).await.unwrap();
    assert_eq!(broker.retained("dd/container/#", 100).await.len(), 100);
}

#[tokio::test]
async fn mqtt_is_spoken_over_websockets() {
    let broker = Mosquitto::with_password("me", "hunter2").await;
    // The login is said to the broker and not in the address that is asked for.
    let url = broker.web_url().replace("ws://", "ws://me:hunter2@");
    let trigger = configured(&[("DD_TRIGGER_MQTT_X_URL", &url)]);
    let mut message = outgoing("t", "b");
    message.subjects = (0..100).map(|n| container(&format!("c{n}"))).collect();
    message.many = true;
    send(&trigger, &message).await.unwrap();
    let held = broker
        .retained_for("me", "hunter2", "dd/container/#", 100)
        .await;
    assert_eq!(held.len(), 100);
    let url = broker.web_url();
    let stranger = configured(&[("DD_TRIGGER_MQTT_X_URL", &url)]);
    let said = failure(&stranger).await.why;
    assert!(said.contains("credentials"), "{said}");
    // Its certificate is its own word only.
    let url = broker.secure_web_url();
    let secure = configured(&[("DD_TRIGGER_MQTT_X_URL", &url)]);
    let said = failure(&secure).await.why;
    assert!(said.to_lowercase().contains("certificate"), "{said}");
}

#[tokio::test]
async fn what_is_no_websocket_is_said() {
    use plimsoll_support::hostile::{Answer, Hostile};
    let server = Hostile::start(|_| Answer::json("{}")).await;
    let url = format!("ws://{}/mqtt", server.host());
    let trigger = configured(&[("DD_TRIGGER_MQTT_X_URL", &url)]);
    let said = failure(&trigger).await.why;
    assert!(said.contains("no WebSocket"), "{said}");
}
