//! S32: whatever a user wished for comes back.

use super::*;
use proptest::prelude::*;

fn word() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_./ -]{1,8}"
}

fn words() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(word(), 0..4)
}

fn variables() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(
        ("[A-D]", "[a-z=]{0,3}").prop_map(|(key, value)| format!("{key}={value}")),
        0..5,
    )
}

fn set(of: &'static str) -> impl Strategy<Value = Value> {
    prop::collection::btree_set(of, 0..3).prop_map(|keys| {
        keys.into_iter()
            .map(|key| (key, json!({})))
            .collect::<serde_json::Map<_, _>>()
            .into()
    })
}

fn labels_map() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-f]{1,2}", "[a-z]{0,2}", 0..4).prop_map(|map| json!(map))
}

prop_compose! {
    /// An image's `Config`.
    fn image_config()(env in variables(), labels in labels_map(), entrypoint in words(), cmd in words(),
        user in "[a-z]{0,3}", dir in "(/[a-z]{1,2})?", ports in set("[1-3]/tcp"), volumes in set("/[v-x]"),
        interval in 0u32..3, test in words()) -> Value {
        let mut names: Vec<&str> = Vec::new();
        let mut unique = Vec::new();
        for entry in &env {
            let name = entry.split('=').next().unwrap_or_default();
            if !names.contains(&name) { names.push(name); unique.push(entry); }
        }
        json!({ "Env": unique, "Labels": labels, "Entrypoint": entrypoint, "Cmd": cmd, "User": user,
            "WorkingDir": dir, "ExposedPorts": ports, "Volumes": volumes,
            "Healthcheck": { "Test": test, "Interval": interval } })
    }
}

prop_compose! {
    /// What a user asks for, as a create body; the program is an entrypoint with a command.
    fn wishes()(env in variables(), labels in labels_map(), own in prop::option::of((words(), words())),
        user in "[a-z]{0,3}", dir in "(/[a-z]{1,2})?", ports in set("[1-5]/tcp"), volumes in set("/[v-z]"),
        retries in 0u32..3, tty in any::<bool>(), hostname in prop::option::of("[g-z]{1,5}"),
        memory in 0u64..3, caps in words(), policy in 0u8..4, aliases in words(), fixed in any::<bool>())
        -> (Value, Value, Value) {
        let mut config = json!({ "Env": env, "Labels": labels, "User": user, "WorkingDir": dir,
            "ExposedPorts": ports, "Volumes": volumes, "Healthcheck": { "Retries": retries }, "Tty": tty,
            "Hostname": hostname });
        if let Some((entrypoint, cmd)) = own {
            config["Entrypoint"] = json!(entrypoint);
            config["Cmd"] = json!(cmd);
        }
        let names = ["no", "always", "on-failure", "unless-stopped"];
        let host = json!({ "Memory": memory, "CapAdd": caps, "NetworkMode": "net", "Runtime": "runc",
            "RestartPolicy": { "Name": names[usize::from(policy)], "MaximumRetryCount": 0 } });
        let ipam = if fixed { json!({ "IPv4Address": "10.1.0.9" }) } else { Value::Null };
        (config, host, json!({ "Aliases": aliases, "IPAMConfig": ipam }))
    }
}

/// The engine's own merge of a create body and an image, written apart from the one under test:
/// Docker 20.10, `daemon/commit.go`.
fn engine_creates(id: &str, body: &Value, host: &Value, endpoint: &Value, image: &Value) -> Value {
    let mut config = body.clone();
    let empty = |value: &Value| json::is_unset(value);
    for key in ["User", "WorkingDir"] {
        if empty(&config[key]) {
            config[key] = image[key].clone();
        }
    }
    if empty(&config["Env"]) {
        config["Env"] = image["Env"].clone();
    } else {
        let mut env = config["Env"].as_array().expect("env").clone();
        for entry in image["Env"].as_array().into_iter().flatten() {
            let name = |entry: &Value| {
                entry
                    .as_str()
                    .expect("text")
                    .split('=')
                    .next()
                    .map(str::to_owned)
            };
            if !env.iter().any(|own| name(own) == name(entry)) {
                env.push(entry.clone());
            }
        }
        config["Env"] = env.into();
    }
    for key in ["Labels", "ExposedPorts", "Volumes"] {
        let mut all = image[key].as_object().cloned().unwrap_or_default();
        all.extend(config[key].as_object().cloned().unwrap_or_default());
        config[key] = all.into();
    }
    if empty(&config["Entrypoint"]) {
        if empty(&config["Cmd"]) {
            config["Cmd"] = image["Cmd"].clone();
        }
        config["Entrypoint"] = image["Entrypoint"].clone();
    } else if config["Entrypoint"] == json!([""]) {
        config["Entrypoint"] = Value::Null;
    }
    for part in ["Test", "Interval", "Retries"] {
        if empty(&config["Healthcheck"][part]) {
            config["Healthcheck"][part] = image["Healthcheck"][part].clone();
        }
    }
    if empty(&config["Hostname"]) {
        config["Hostname"] = json!(&id[..12]);
    }
    config["Image"] = json!("app:2");
    let mut endpoint = endpoint.clone();
    let mut aliases = endpoint["Aliases"].as_array().cloned().unwrap_or_default();
    aliases.push(json!(&id[..12]));
    endpoint["Aliases"] = aliases.into();
    endpoint["NetworkID"] = json!("net-id");
    let kept = host["Mounts"].as_array().cloned().unwrap_or_default();
    let mounts: Vec<Value> = config["Volumes"]
        .as_object()
        .expect("volumes")
        .keys()
        .map(|path| {
            let named = kept.iter().find(|mount| mount["Target"] == path.as_str());
            let name = named.map_or_else(
                || format!("{}{path}", &id[..3]),
                |mount| mount["Source"].as_str().expect("name").to_owned(),
            );
            volume(path, &name)
        })
        .chain(
            kept.iter()
                .filter(|mount| {
                    config["Volumes"]
                        .get(mount["Target"].as_str().expect("target"))
                        .is_none()
                })
                .map(|mount| {
                    volume(
                        mount["Target"].as_str().expect("target"),
                        mount["Source"].as_str().expect("source"),
                    )
                }),
        )
        .collect();
    json!({ "Id": id, "Name": "/app", "Image": "sha256:new", "Config": config, "HostConfig": host,
        "NetworkSettings": { "Networks": { "net": endpoint } }, "Mounts": mounts })
}

/// Everything but what names the container or the operation.
fn essence(inspect: &Value, engine: &EngineFacts) -> Value {
    let mut normal = fidelity::normalised(inspect, engine);
    if let Some(labels) = normal
        .pointer_mut("/Config/Labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(OPERATION_LABEL);
        if labels.is_empty() {
            normal["Config"]
                .as_object_mut()
                .expect("config")
                .remove("Labels");
        }
    }
    if let Some(host) = normal["HostConfig"].as_object_mut() {
        host.remove("Mounts");
    }
    // A user's value that equals the image's moves behind the user's others; the order between
    // names says nothing.
    let env = normal.pointer_mut("/Config/Env");
    if let Some(env) = env.and_then(Value::as_array_mut) {
        env.sort_by_key(|entry| entry.as_str().map(|entry| entry[..1].to_owned()));
    }
    normal
}

proptest! {
    /// S32: with identical images, what the engine makes of the plan is what was there before.
    #[test]
    fn s32_with_identical_images_nothing_changes(image in image_config(), (config, host, endpoint) in wishes()) {
        let old = engine_creates(OLD_ID, &config, &host, &endpoint, &image);
        let mut case = Case::plain();
        case.container = old.clone();
        case.old_image = json!({ "Id": "sha256:new", "Config": image });
        case.new_image = case.old_image.clone();
        let spec = case.plan();
        let body = &spec.create_body;
        let endpoint = &body["NetworkingConfig"]["EndpointsConfig"]["net"];
        let new = engine_creates(NEW_PARENT, body, &body["HostConfig"], endpoint, &image);
        prop_assert_eq!(
essence(&old, &case.engine), essence(&new_without_extras(new.clone()), &case.engine));
        prop_assert_eq!(fidelity(&spec.expected, &new_without_extras(new)), Vec::<Difference>::new());
    }

    /// With any new image, what the engine makes of the plan is what the plan expects.
    #[test]
    fn s32_the_expectation_is_what_the_engine_makes_of_the_body(
        old_image in image_config(), new_image in image_config(), (config, host, endpoint) in wishes()) {
        let mut case = Case::plain();
        case.container = engine_creates(OLD_ID, &config, &host, &endpoint, &old_image);
        case.old_image = json!({ "Id": "sha256:old", "Config": old_image });
        case.new_image = json!({ "Id": "sha256:new", "Config": new_image });
        let spec = case.plan();
        let body = &spec.create_body;
        let endpoint = &body["NetworkingConfig"]["EndpointsConfig"]["net"];
        let new = engine_creates(NEW_PARENT, body, &body["HostConfig"], endpoint, &new_image);
        prop_assert_eq!(fidelity(&spec.expected, &new_without_extras(new)), Vec::<Difference>::new());
    }
}

/// The create body's own sections are no part of `Config`.
fn new_without_extras(mut inspect: Value) -> Value {
    let config = inspect["Config"].as_object_mut().expect("config");
    config.remove("HostConfig");
    config.remove("NetworkingConfig");
    inspect
}
