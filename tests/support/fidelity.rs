//! I-7 of reliability.md 2.1: the new container is the old one, with what came from the old image
//! exchanged for what comes from the new one. Written apart from the code that it judges, and
//! simpler: for containers that override neither command nor entrypoint with the image's own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

/// Ours, on every container that an operation made.
const OURS: &str = "plimsoll.";
/// Looked at by themselves, or chosen by the engine.
const APART: [&str; 4] = ["Binds", "Mounts", "RestartPolicy", "ConsoleSize"];

/// What differs for no reason, from inspections of the old container and its image, and of the new
/// ones.
pub(crate) fn differences(
    old: &Value,
    old_image: &Value,
    new: &Value,
    image: &Value,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, expected: String, actual: String| {
        if expected != actual {
            found.push(format!("I-7: {what} is {actual}, and should be {expected}"));
        }
    };
    let (host, new_host) = (&old["HostConfig"], &new["HostConfig"]);
    for key in keys(host, new_host) {
        if !APART.contains(&key.as_str()) {
            compare(&key, shown(&host[&key]), shown(&new_host[&key]));
        }
    }
    for part in [environment, labels] {
        let (of_old, of_old_image) = (part(old), part(old_image));
        let mut expected = part(image);
        // What the user set stays; what the old image had set follows the new one.
        expected.extend(
            of_old
                .into_iter()
                .filter(|(key, value)| of_old_image.get(key) != Some(value)),
        );
        compare(
            "its environment or labels",
            format!("{expected:?}"),
            format!("{:?}", part(new)),
        );
    }
    for key in [
        "Cmd",
        "Entrypoint",
        "User",
        "WorkingDir",
        "StopSignal",
        "Healthcheck",
    ] {
        let own = &old["Config"][key];
        let is_inherited = shown(own) == shown(&old_image["Config"][key]);
        let expected = if is_inherited {
            &image["Config"][key]
        } else {
            own
        };
        compare(key, shown(expected), shown(&new["Config"][key]));
    }
    compare(
        "its networks",
        format!("{:?}", networks(old)),
        format!("{:?}", networks(new)),
    );
    let (wanted, mounted) = (mounts(old), mounts(new));
    let lost: Vec<_> = wanted.difference(&mounted).collect();
    compare("its lost mounts", "[]".to_owned(), format!("{lost:?}"));
    found
}

fn keys(one: &Value, two: &Value) -> BTreeSet<String> {
    let of = |value: &Value| value.as_object().cloned().unwrap_or_default();
    of(one)
        .into_iter()
        .chain(of(two))
        .map(|(key, _)| key)
        .collect()
}

/// Absent, null, empty and zero are the same to the engine.
fn shown(value: &Value) -> String {
    let is_nothing = match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    };
    if is_nothing {
        String::new()
    } else {
        value.to_string()
    }
}

/// Of a container or an image.
fn environment(inspect: &Value) -> BTreeMap<String, String> {
    let list = inspect["Config"]["Env"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(|entry| entry.split_once('=').unwrap_or((entry, "")))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// What Compose decides by: they follow the image and the file (reliability.md S25). Whether they
/// are right is for `docker compose up` to say.
const FOLLOWING: [&str; 2] = ["com.docker.compose.image", "com.docker.compose.config-hash"];

fn labels(inspect: &Value) -> BTreeMap<String, String> {
    let all = inspect["Config"]["Labels"].as_object();
    all.into_iter()
        .flatten()
        .filter(|(key, _)| !key.starts_with(OURS) || key.starts_with(crate::docker::LABEL))
        .filter(|(key, _)| !FOLLOWING.contains(&key.as_str()))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn networks(inspect: &Value) -> Vec<String> {
    let all = inspect["NetworkSettings"]["Networks"].as_object();
    all.unwrap_or(&Map::new()).keys().cloned().collect()
}

/// Destination, and volume or path.
fn mounts(inspect: &Value) -> BTreeSet<(String, String)> {
    let all = inspect["Mounts"].as_array();
    all.into_iter()
        .flatten()
        .map(|mount| {
            let place = mount["Name"].as_str().or(mount["Source"].as_str());
            let destination = mount["Destination"].as_str().unwrap_or_default();
            (destination.to_owned(), place.unwrap_or_default().to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_follows_the_image_is_no_difference_and_the_rest_is() {
        let image = |version: &str| json!({"Config": {"Env": [format!("V={version}")]}});
        let container = |version: &str, memory: u64| {
            json!({
                "Config": {"Env": [format!("V={version}"), "OWN=1"]},
                "HostConfig": {"Memory": memory, "Init": null},
                "Mounts": [{"Destination": "/data", "Name": "data"}],
            })
        };
        let old = container("1", 64);
        let found = |new: &Value| differences(&old, &image("1"), new, &image("2"));
        assert_eq!(found(&container("2", 64)), Vec::<String>::new());
        assert_eq!(
            found(&container("1", 64)).len(),
            1,
            "the image's variable stayed"
        );
        assert_eq!(found(&container("2", 0)).len(), 1, "the limit is lost");
        let mut bare = container("2", 64);
        bare["Mounts"] = json!([]);
        assert_eq!(found(&bare).len(), 1, "the volume is lost");
    }
}
