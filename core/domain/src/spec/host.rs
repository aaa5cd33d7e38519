//! `HostConfig`: the user's, byte for byte, but for what names the old container, what the engine
//! fills in by itself, and what it refuses (reliability.md S7, S10, S16, S18-S21, S23, S31).

use serde_json::{Value, json};

use super::json::{self, Object};
use super::mounts::{self, Volumes};
use super::network::{self, Networks};
use super::{EngineFacts, Notes, Source, SpecInput};

pub(super) fn carry_over(
    input: &SpecInput<'_>,
    old: &Object,
    networks: &Networks,
    volumes: &Volumes,
    notes: &mut Notes,
) -> Object {
    let mut host = old.clone();
    host.insert(
        "NetworkMode".to_owned(),
        Value::from(networks.mode.as_str()),
    );
    for key in ["IpcMode", "PidMode"] {
        let mode = json::text(old, key);
        if mode.starts_with("container:") {
            host.insert(key.to_owned(), network::remapped(mode, input).into());
        }
    }
    if let Some(from) = host.get_mut("VolumesFrom").and_then(Value::as_array_mut) {
        for entry in from {
            *entry = remapped_volumes_from(entry.as_str().unwrap_or_default(), input).into();
        }
    }
    if let Some(links) = host.get_mut("Links").and_then(Value::as_array_mut) {
        for link in links {
            *link = remapped_link(link.as_str().unwrap_or_default(), input).into();
        }
    }
    drop_filled_in(&mut host, input.engine);
    host.retain(|key, _| !networks.forbids(key));
    random_ports(input, &host, notes);
    mounts::apply(&mut host, volumes);
    report(old, &host, input.engine, notes);
    host
}

/// What the engine puts there by itself, and would refuse or double if it were sent.
fn drop_filled_in(host: &mut Object, engine: &EngineFacts) {
    let runtime = json::text(host, "Runtime");
    if runtime.is_empty() || engine.default_runtime.as_deref() == Some(runtime) {
        host.remove("Runtime");
    }
    // Unset shows as null or -1, and engines with cgroup v2 refuse it in any form.
    let swappiness = json::member(host, "MemorySwappiness");
    if swappiness.is_null() || swappiness.as_i64() == Some(-1) {
        host.remove("MemorySwappiness");
    }
    if json::is_unset(json::member(host, "ContainerIDFile")) {
        host.remove("ContainerIDFile");
    }
    if adds_label_disable(host)
        && let Some(options) = host.get_mut("SecurityOpt").and_then(Value::as_array_mut)
    {
        options.retain(|option| option != LABEL_DISABLE);
    }
}

const LABEL_DISABLE: &str = "label=disable";

/// For these the engine appends `label=disable` on each creation.
fn adds_label_disable(host: &Object) -> bool {
    json::member(host, "Privileged") == true
        || json::text(host, "IpcMode") == "host"
        || json::text(host, "PidMode") == "host"
}

/// `id[:ro]`: the mode stays.
fn remapped_volumes_from(entry: &str, input: &SpecInput<'_>) -> String {
    match entry.split_once(':') {
        Some((target, mode)) => format!("{}:{mode}", network::remapped_id(target, input)),
        None => network::remapped_id(entry, input).to_owned(),
    }
}

/// An inspection shows `/target:/container/alias`; a creation takes `target:alias`.
fn remapped_link(link: &str, input: &SpecInput<'_>) -> String {
    let (target, alias) = link.split_once(':').unwrap_or((link, link));
    let target = target.trim_start_matches('/');
    let alias = alias.rsplit('/').next().unwrap_or(alias);
    format!("{}:{alias}", network::remapped_id(target, input))
}

/// A port that the engine chose is chosen anew: keeping its number could take another's
/// (reliability.md S21).
fn random_ports(input: &SpecInput<'_>, host: &Object, notes: &mut Notes) {
    let assigned = input.container.get("NetworkSettings");
    let assigned = assigned.and_then(|settings| json::object(settings, "Ports"));
    for (port, bindings) in assigned.into_iter().flatten() {
        let Some(first) = bindings.get(0) else {
            continue;
        };
        let chosen = json::nested(host, "PortBindings")
            .and_then(|ports| ports.get(port)?.as_array().cloned())
            .unwrap_or_default();
        let is_fixed = chosen
            .iter()
            .any(|binding| !matches!(binding["HostPort"].as_str(), None | Some("") | Some("0")));
        if !is_fixed {
            let old = first["HostPort"].clone();
            notes.warn(format!(
                "The host port of {port} (now {}) was chosen by the engine and will be another.",
                old.as_str().unwrap_or("unknown")
            ));
            notes.field(format!("Ports.{port}"), old, Value::Null, Source::Engine);
        }
    }
}

/// The values that engines write where the user wrote nothing.
fn is_engine_default(key: &str, value: &Value, engine: &EngineFacts) -> bool {
    match key {
        "NetworkMode" => value == "default" || value == "bridge",
        "IpcMode" => value == "private" || value == "shareable",
        "CgroupnsMode" => value == "host" || value == "private",
        "ShmSize" => value == 67_108_864,
        "Runtime" => value.as_str() == engine.default_runtime.as_deref(),
        "ConsoleSize" => *value == json!([0, 0]),
        "RestartPolicy" => value["Name"] == "no" || value["Name"] == "",
        "LogConfig" => value["Type"] == "json-file" && json::is_unset(&value["Config"]),
        "MaskedPaths" | "ReadonlyPaths" => value.as_array().is_some_and(|list| !list.is_empty()),
        _ => false,
    }
}

fn report(old: &Object, new: &Object, engine: &EngineFacts, notes: &mut Notes) {
    for (key, value) in old {
        // Reported per mount, per port or per network.
        if key == "Mounts" || (key == "NetworkMode" && new.get(key) == Some(value)) {
            continue;
        }
        let new_value = json::member(new, key);
        if json::is_unset(value) && json::is_unset(new_value) {
            continue;
        }
        let is_default = is_engine_default(key, value, engine)
            || (key == "SecurityOpt"
                && adds_label_disable(old)
                && *value == json!([LABEL_DISABLE]));
        if json::is_unset(new_value) && is_default {
            // Not sent, because the engine fills in the same.
            notes.field(
                format!("HostConfig.{key}"),
                value.clone(),
                value.clone(),
                Source::Engine,
            );
            continue;
        }
        let source = match is_default {
            true => Source::Engine,
            false if value == new_value => Source::User,
            false => Source::Plimsoll,
        };
        notes.field(
            format!("HostConfig.{key}"),
            value.clone(),
            new_value.clone(),
            source,
        );
    }
}

/// `HostConfig` as both sides of a comparison see it.
pub(super) fn normalised(host: &Object, engine: &EngineFacts) -> Object {
    let mut normal = host.clone();
    drop_filled_in(&mut normal, engine);
    if let Some(links) = normal.get_mut("Links").and_then(Value::as_array_mut) {
        for link in links.iter_mut() {
            let text = link.as_str().unwrap_or_default().to_owned();
            let (target, alias) = text.split_once(':').unwrap_or((&text, &text));
            let alias = alias.rsplit('/').next().unwrap_or(alias);
            *link = format!("{}:{alias}", target.trim_start_matches('/')).into();
        }
        links.sort_by_key(|link| link.to_string());
    }
    if normal
        .get("RestartPolicy")
        .is_some_and(|policy| matches!(policy["Name"].as_str(), None | Some("") | Some("no")))
    {
        normal.remove("RestartPolicy");
    }
    for key in ["RestartPolicy", "LogConfig", "Mounts", "PortBindings"] {
        if let Some(value) = normal.get_mut(key) {
            *value = json::pruned(value);
        }
    }
    normal.retain(|key, value| match key.as_str() {
        // Zero, false and empty say something here that absence does not.
        "MemorySwappiness" | "Init" | "MaskedPaths" | "ReadonlyPaths" | "OomScoreAdj" => {
            !value.is_null()
        }
        "ConsoleSize" => *value != json!([0, 0]),
        _ => !json::is_unset(value),
    });
    normal
}
