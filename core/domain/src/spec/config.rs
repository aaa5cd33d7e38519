//! The container's `Config`: the part of it that an image has defaults for, and the rest.

use serde_json::{Map, Value};

use super::json::{self, Object};
use super::network::Networks;
use super::{Notes, Source, SpecInput, entrypoint, env, health, labels};

pub(super) struct Config {
    /// Top-level members of the create body.
    pub(super) send: Object,
    pub(super) expected: Object,
}

/// Text fields whose default is the image's (reliability.md S3).
const TEXTS: &[&str] = &["User", "WorkingDir", "StopSignal"];

/// Decided here or elsewhere by name; everything else in `Config` is the user's alone.
const MERGED: &[&str] = &[
    "ArgsEscaped",
    "Cmd",
    "Entrypoint",
    "Env",
    "ExposedPorts",
    "Healthcheck",
    "Hostname",
    "Image",
    "Labels",
    "MacAddress",
    "OnBuild",
    "Shell",
    "StopSignal",
    "User",
    "Volumes",
    "WorkingDir",
];

pub(super) fn merge(
    input: &SpecInput<'_>,
    container: &Object,
    networks: &Networks,
    notes: &mut Notes,
) -> Config {
    let old_image = json::object(input.old_image, "Config");
    let new_image = json::object(input.new_image, "Config");
    let mut config = Config {
        send: Object::new(),
        expected: Object::new(),
    };
    config.both("Image", Value::from(input.image_reference));
    notes.field(
        "Image",
        json::member(container, "Image").clone(),
        Value::from(input.image_reference),
        Source::Plimsoll,
    );

    let environment = env::merge(
        &env::list(Some(container)),
        &env::list(old_image),
        &env::list(new_image),
        notes,
    );
    config
        .send
        .insert("Env".to_owned(), environment.send.into());
    config
        .expected
        .insert("Env".to_owned(), environment.expected.into());

    let program = entrypoint::merge(container, old_image, new_image, notes);
    config.each(
        "Entrypoint",
        program.send_entrypoint,
        program.expected_entrypoint,
    );
    config.each("Cmd", program.send_command, program.expected_command);

    let health = health::merge(container, old_image, new_image, notes);
    config.each("Healthcheck", health.send, health.expected);

    let labels = labels::merge(input, container, old_image, new_image, notes);
    config.send.insert("Labels".to_owned(), labels.send.into());
    config
        .expected
        .insert("Labels".to_owned(), labels.expected.into());

    for key in TEXTS {
        config.text(key, container, old_image, new_image, notes);
    }
    config.shell(container, old_image, notes);
    config.ports(input, networks, container, notes);
    config.volumes(container, old_image, new_image, notes);
    config.hostname(input, networks, container, notes);
    if let Some(mac) = &networks.container_mac {
        config.both("MacAddress", Value::from(mac.as_str()));
    }
    for (key, value) in container {
        if !MERGED.contains(&key.as_str()) && !networks.forbids(key) {
            config.both(key, value.clone());
            if !json::is_unset(value) {
                notes.field(key, value.clone(), value.clone(), Source::User);
            }
        }
    }
    config
}

impl Config {
    fn both(&mut self, key: &str, value: Value) {
        self.send.insert(key.to_owned(), value.clone());
        self.expected.insert(key.to_owned(), value);
    }

    fn each(&mut self, key: &str, send: Option<Value>, expected: Value) {
        if let Some(value) = send {
            self.send.insert(key.to_owned(), value);
        }
        self.expected.insert(key.to_owned(), expected);
    }

    fn text(
        &mut self,
        key: &str,
        container: &Object,
        old_image: Option<&Object>,
        new_image: Option<&Object>,
        notes: &mut Notes,
    ) {
        let of = |config: Option<&Object>| -> String {
            config
                .map(|config| json::text(config, key).to_owned())
                .unwrap_or_default()
        };
        let current = of(Some(container));
        let own = !current.is_empty() && current != of(old_image);
        let new = if own { current.clone() } else { of(new_image) };
        if own {
            self.send
                .insert(key.to_owned(), Value::from(current.as_str()));
        }
        let shown = |text: &str| match text {
            "" => Value::Null,
            text => Value::from(text),
        };
        let source = if own { Source::User } else { Source::NewImage };
        notes.field(key, shown(&current), shown(&new), source);
        self.expected.insert(key.to_owned(), Value::from(new));
    }

    /// The engine does not copy an image's shell into a container; only a user's shows there.
    fn shell(&mut self, container: &Object, old_image: Option<&Object>, notes: &mut Notes) {
        let current = json::member(container, "Shell");
        let default = old_image.map_or(&Value::Null, |config| json::member(config, "Shell"));
        if !json::is_unset(current) && current != default {
            self.both("Shell", current.clone());
            notes.field("Shell", current.clone(), current.clone(), Source::User);
        }
    }

    /// A port that is published was chosen by the user, even if the old image exposes it too: a
    /// new image that does not expose it must not unpublish it.
    fn ports(
        &mut self,
        input: &SpecInput<'_>,
        networks: &Networks,
        container: &Object,
        notes: &mut Notes,
    ) {
        let published = json::object(input.container, "HostConfig")
            .and_then(|host| host.get("PortBindings")?.as_object());
        let is_published = |port: &String| published.is_some_and(|ports| ports.contains_key(port));
        // A shared network namespace has its owner's ports; the engine refuses to be told any.
        let may_send = !networks.forbids("ExposedPorts");
        self.keyed("ExposedPorts", input, container, notes, |port| {
            may_send && is_published(port)
        });
        if !may_send {
            self.send.remove("ExposedPorts");
        }
    }

    fn volumes(
        &mut self,
        container: &Object,
        old_image: Option<&Object>,
        new_image: Option<&Object>,
        notes: &mut Notes,
    ) {
        let (send, expected) =
            keyed_parts("Volumes", container, old_image, new_image, notes, |_| false);
        self.send.insert("Volumes".to_owned(), Value::Object(send));
        self.expected
            .insert("Volumes".to_owned(), Value::Object(expected));
    }

    fn keyed(
        &mut self,
        field: &str,
        input: &SpecInput<'_>,
        container: &Object,
        notes: &mut Notes,
        is_own: impl Fn(&String) -> bool,
    ) {
        let old_image = json::object(input.old_image, "Config");
        let new_image = json::object(input.new_image, "Config");
        let (send, expected) = keyed_parts(field, container, old_image, new_image, notes, is_own);
        self.send.insert(field.to_owned(), Value::Object(send));
        self.expected
            .insert(field.to_owned(), Value::Object(expected));
    }

    /// The default name is the old container's short id; sent on, it would outlive its meaning
    /// (reliability.md S22).
    fn hostname(
        &mut self,
        input: &SpecInput<'_>,
        networks: &Networks,
        container: &Object,
        notes: &mut Notes,
    ) {
        let current = json::text(container, "Hostname");
        if current.is_empty() || networks.forbids("Hostname") {
            return;
        }
        let id = input.container["Id"].as_str().unwrap_or_default();
        let is_default = id.get(..12) == Some(current)
            || (networks.is_host && input.engine.host_name.as_deref() == Some(current));
        if is_default {
            let value = Value::from(current);
            notes.field("Hostname", value, Value::Null, Source::Engine);
        } else {
            self.both("Hostname", Value::from(current));
            let value = Value::from(current);
            notes.field("Hostname", value.clone(), value, Source::User);
        }
    }
}

/// A set written as an object with empty members, to which the engine adds the image's.
fn keyed_parts(
    field: &str,
    container: &Object,
    old_image: Option<&Object>,
    new_image: Option<&Object>,
    notes: &mut Notes,
    is_own: impl Fn(&String) -> bool,
) -> (Object, Object) {
    let set = |config: Option<&Object>| -> Object {
        config
            .and_then(|config| config.get(field)?.as_object())
            .cloned()
            .unwrap_or_default()
    };
    let (current, old_default, new_default) =
        (set(Some(container)), set(old_image), set(new_image));
    let send: Object = current
        .iter()
        .filter(|(key, _)| !old_default.contains_key(*key) || is_own(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let mut expected = send.clone();
    for (key, value) in new_default {
        expected.entry(key).or_insert(value);
    }
    let mut keys: Vec<&String> = current.keys().chain(expected.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let source = if send.contains_key(key) {
            Source::User
        } else {
            Source::NewImage
        };
        let shown = |set: &Map<String, Value>| match set.contains_key(key) {
            true => Value::Bool(true),
            false => Value::Null,
        };
        notes.field(
            format!("{field}.{key}"),
            shown(&current),
            shown(&expected),
            source,
        );
    }
    (send, expected)
}
