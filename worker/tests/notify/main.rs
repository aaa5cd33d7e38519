//! Every kind of notifier against servers that speak its service's protocol and answer what they
//! are told to; MQTT and Kafka against real brokers.

mod command;
mod kafka;
mod mail;
mod mqtt;
mod web;

use plimsoll_domain::message::Text;
use plimsoll_outbound::Reach;
use plimsoll_runtime::{
    CommonArgs, Settings,
    settings::notifiers::{ConfiguredNotifier, NotifierKind, NotifyOptions},
};
use plimsoll_worker::notify::{Failure, Outgoing, Sent, Trigger};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// A trigger that is configured as people do.
fn configured(environment: &[(&str, &str)]) -> Trigger {
    plimsoll_support::init();
    let environment = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let loaded = Settings::load(&CommonArgs::default(), environment).expect("usable settings");
    let notifiers = loaded.settings.trigger.notifiers();
    let [one] = notifiers.as_slice() else {
        panic!("one trigger: {notifiers:?}");
    };
    Trigger::new("", one, Reach::HOME).expect("a usable trigger")
}

/// A trigger whose settings would not be let through, such as a Discord without https.
fn unchecked(type_: &'static str, kind: NotifierKind) -> Trigger {
    plimsoll_support::init();
    let configured = ConfiguredNotifier {
        type_,
        name: "x".to_owned(),
        kind,
        common: NotifyOptions::default(),
        shown: Map::new(),
    };
    Trigger::new("", &configured, Reach::HOME).expect("a usable trigger")
}

fn container(name: &str) -> Value {
    json!({
        "id": "a".repeat(64), "name": name, "watcher": "local", "displayName": name,
        "image": {"tag": {"value": "1.0.0"}},
        "updateAvailable": true,
        "updateKind": {"kind": "tag", "localValue": "1.0.0", "remoteValue": "1.1.0"},
        "result": {"tag": "1.1.0"},
    })
}

fn outgoing(title: &str, body: &str) -> Outgoing {
    Outgoing {
        id: Uuid::from_u128(7),
        event: "update-available".to_owned(),
        text: Text {
            title: title.to_owned(),
            body: body.to_owned(),
        },
        subjects: vec![container("web")],
        many: false,
    }
}

async fn send(trigger: &Trigger, message: &Outgoing) -> Sent {
    trigger.notifier().send(message).await
}

async fn failure(trigger: &Trigger) -> Failure {
    let sent = send(trigger, &outgoing("t", "b")).await;
    sent.expect_err("the service says no")
}
