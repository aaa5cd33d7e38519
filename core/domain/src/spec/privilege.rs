//! No update gains a privilege (reliability.md S-48). By construction nothing here can: this is
//! the check of the construction, and it looks at the outcome only.

use serde_json::Value;

use super::json::{self, Object};

/// Lists in which more is more.
const GRANTS: &[&str] = &[
    "CapAdd",
    "Devices",
    "DeviceRequests",
    "DeviceCgroupRules",
    "Binds",
    "GroupAdd",
];
/// Settings in which any difference may be a gain.
const FIXED: &[&str] = &[
    "Privileged",
    "UsernsMode",
    "UTSMode",
    "CgroupnsMode",
    "CgroupParent",
    "ReadonlyRootfs",
    "Sysctls",
    "CapDrop",
    "MaskedPaths",
    "ReadonlyPaths",
];
/// Namespaces that may point at another container, whose id may change.
const NAMESPACES: &[&str] = &["NetworkMode", "IpcMode", "PidMode"];

/// The fields in which the new container would have more than the old one.
pub(super) fn gains(old: &Object, new: &Object) -> Vec<String> {
    let mut gains = Vec::new();
    for key in GRANTS {
        let had = json::member(old, key)
            .as_array()
            .cloned()
            .unwrap_or_default();
        let added = json::member(new, key)
            .as_array()
            .into_iter()
            .flatten()
            .any(|grant| !had.contains(grant) && !is_named_volume(key, grant));
        if added {
            gains.push((*key).to_owned());
        }
    }
    for key in FIXED {
        let (old, new) = (json::member(old, key), json::member(new, key));
        if old != new && !(json::is_unset(old) && json::is_unset(new)) {
            gains.push((*key).to_owned());
        }
    }
    for key in NAMESPACES {
        let (old, new) = (json::text(old, key), json::text(new, key));
        let shares = |mode: &str| mode == "host" || mode.starts_with("container:");
        let same_kind = old.starts_with("container:") && new.starts_with("container:");
        if old != new && shares(new) && !same_kind {
            gains.push((*key).to_owned());
        }
    }
    let runtime = json::text(new, "Runtime");
    if !runtime.is_empty() && runtime != json::text(old, "Runtime") {
        gains.push("Runtime".to_owned());
    }
    let confined = |host: &Object| -> Vec<Value> {
        let options = json::member(host, "SecurityOpt").as_array().cloned();
        let options = options.unwrap_or_default().into_iter();
        options.filter(|option| option != "label=disable").collect()
    };
    if confined(old) != confined(new) {
        gains.push("SecurityOpt".to_owned());
    }
    gains
}

/// An anonymous bind that is now spelled with its volume's name reaches nothing new.
fn is_named_volume(key: &str, grant: &Value) -> bool {
    key == "Binds" && grant.as_str().is_some_and(|bind| !bind.starts_with('/'))
}
