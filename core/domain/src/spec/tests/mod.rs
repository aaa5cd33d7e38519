//! The rows of reliability.md 2.8, by number.

mod host_fields;
mod image_fields;
mod networks;
mod origins;
mod property;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

const OLD_ID: &str = "aaaaaaaaaaaabbbbbbbbbbbbccccccccccccddddddddddddeeeeeeeeeeee0123";
const PARENT: &str = "1111111111112222222222223333333333334444444444445555555555550123";
const NEW_PARENT: &str = "9999999999992222222222223333333333334444444444445555555555550123";

/// An old container with its image and a new image, all three to be changed by the test.
struct Case {
    container: Value,
    old_image: Value,
    new_image: Value,
    engine: EngineFacts,
    remaps: BTreeMap<String, String>,
    auto_remove: AutoRemove,
    changed_paths: Vec<String>,
}

fn merge_into(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Object(target), Value::Object(patch)) => {
            for (key, value) in patch {
                merge_into(target.entry(key).or_insert(Value::Null), value);
            }
        }
        (target, patch) => *target = patch,
    }
}

impl Case {
    /// `config` is the container's; the images' are given apart.
    fn new(config: Value, old_image: Value, new_image: Value) -> Self {
        let mut container = json!({
            "Id": OLD_ID,
            "Name": "/app",
            "Image": "sha256:old",
            "State": { "Running": true },
            "Config": {
                "Hostname": &OLD_ID[..12], "Domainname": "", "User": "", "AttachStdin": false,
                "Tty": false, "Env": null, "Cmd": null, "Image": "app:1", "Volumes": null,
                "WorkingDir": "", "Entrypoint": null, "OnBuild": null, "Labels": {},
            },
            "HostConfig": {
                "NetworkMode": "default", "Binds": null, "RestartPolicy": { "Name": "no" },
                "Runtime": "runc", "MemorySwappiness": null, "Privileged": false,
            },
            "NetworkSettings": { "Networks": { "bridge": {
                "IPAMConfig": null, "Links": null, "Aliases": null, "NetworkID": "f00",
                "IPAddress": "172.17.0.2", "MacAddress": "02:42:ac:11:00:02" } } },
            "Mounts": [],
        });
        merge_into(&mut container["Config"], config);
        Self {
            container,
            old_image: json!({ "Id": "sha256:old", "Config": old_image }),
            new_image: json!({ "Id": "sha256:new", "Config": new_image }),
            engine: EngineFacts {
                api_version: ApiVersion::new(1, 41),
                default_runtime: Some("runc".to_owned()),
                host_name: Some("host1".to_owned()),
            },
            remaps: BTreeMap::new(),
            auto_remove: AutoRemove::Refuse,
            changed_paths: Vec::new(),
        }
    }

    fn plain() -> Self {
        Self::new(json!({}), json!({}), json!({}))
    }

    fn with(mut self, patch: Value) -> Self {
        merge_into(&mut self.container, patch);
        self
    }

    /// Replaces the networks it is attached to.
    fn networks(mut self, networks: Value) -> Self {
        self.container["NetworkSettings"]["Networks"] = networks;
        self
    }

    fn try_plan(&self) -> Result<NewSpec, Refusal> {
        let labels = BTreeMap::from([(OPERATION_LABEL.to_owned(), "op-1".to_owned())]);
        plan(&SpecInput {
            container: &self.container,
            old_image: &self.old_image,
            new_image: &self.new_image,
            image_reference: "app:2",
            engine: &self.engine,
            remaps: &self.remaps,
            labels: &labels,
            auto_remove: self.auto_remove,
            changed_paths: &self.changed_paths,
        })
    }

    fn plan(&self) -> NewSpec {
        self.try_plan().expect("planned")
    }
}

/// What is sent for one member of `Config`, and what is expected of it.
fn field(spec: &NewSpec, key: &str) -> (Value, Value) {
    let sent = spec.create_body[key].clone();
    (sent, spec.expected["Config"][key].clone())
}

fn host(spec: &NewSpec) -> &Value {
    &spec.create_body["HostConfig"]
}

fn volume(destination: &str, name: &str) -> Value {
    json!({ "Type": "volume", "Name": name, "Destination": destination, "RW": true })
}
