//! Volumes that only the container knows of (reliability.md S6, S8).
//!
//! Binds, `--mount` and tmpfs are in `HostConfig` and carried over as they are. An anonymous
//! volume is not: the new container gets it by its name.

use serde_json::{Value, json};

use super::json::{self, Object};
use super::{Notes, Source, SpecInput};

pub(super) struct Volumes {
    /// Destination and name of each anonymous volume, to be mounted by name.
    pub(super) kept: Vec<KeptVolume>,
    /// Destinations where the new image brings a volume of its own.
    pub(super) new: Vec<String>,
}

pub(super) struct KeptVolume {
    pub(super) destination: String,
    pub(super) name: String,
    pub(super) read_only: bool,
}

fn clean(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" => "/",
        path => path,
    }
}

/// The destination of an entry of `Binds`; `None` for an anonymous one, which names no source.
pub(super) fn bind_destination(bind: &str) -> Option<&str> {
    let mut parts = bind.split(':');
    let (_, destination) = (parts.next()?, parts.next()?);
    Some(clean(destination))
}

pub(super) fn plan(
    input: &SpecInput<'_>,
    config: &Object,
    host: &Object,
    notes: &mut Notes,
) -> Volumes {
    let mut covered: Vec<&str> = json::strings(host, "Binds")
        .into_iter()
        .filter_map(bind_destination)
        .collect();
    covered.extend(
        json::members(host, "Tmpfs")
            .into_iter()
            .map(|(path, _)| clean(path)),
    );
    for mount in json::member(host, "Mounts")
        .as_array()
        .into_iter()
        .flatten()
    {
        let is_anonymous = mount["Type"] == "volume" && json::is_unset(&mount["Source"]);
        if !is_anonymous {
            covered.extend(mount["Target"].as_str().map(clean));
        }
    }
    let declared = json::nested(config, "Volumes");
    let is_declared = |path: &str| {
        declared.is_some_and(|volumes| volumes.keys().any(|declared| clean(declared) == path))
    };
    let borrows = !json::strings(host, "VolumesFrom").is_empty();
    let image_volumes = |image: &Value| -> Vec<String> {
        json::object(image, "Config")
            .map(|config| json::members(config, "Volumes"))
            .unwrap_or_default()
            .into_iter()
            .map(|(path, _)| clean(path).to_owned())
            .collect()
    };
    let old_image = image_volumes(input.old_image);

    let mut kept = Vec::new();
    let mut mounted = Vec::new();
    let mounts = input.container.get("Mounts").and_then(Value::as_array);
    for mount in mounts.into_iter().flatten() {
        let destination = clean(mount["Destination"].as_str().unwrap_or_default());
        mounted.push(destination);
        let (Some("volume"), Some(name)) = (mount["Type"].as_str(), mount["Name"].as_str()) else {
            continue;
        };
        // With --volumes-from, a volume that nobody declared here is the other container's.
        let is_borrowed = borrows && !is_declared(destination);
        if covered.contains(&destination) || is_borrowed {
            continue;
        }
        let source = if old_image.iter().any(|path| path == destination) {
            Source::OldImage
        } else {
            Source::User
        };
        let value = json!({ "volume": name });
        notes.field(
            format!("Mounts.{destination}"),
            value.clone(),
            value,
            source,
        );
        kept.push(KeptVolume {
            destination: destination.to_owned(),
            name: name.to_owned(),
            read_only: mount["RW"] == false,
        });
    }
    let new: Vec<String> = image_volumes(input.new_image)
        .into_iter()
        .filter(|path| {
            !mounted.contains(&path.as_str())
                && !covered.contains(&path.as_str())
                && !is_declared(path)
        })
        .collect();
    for path in &new {
        notes.warn(format!(
            "The new image declares a volume at {path}: the new container gets an empty one there."
        ));
    }
    Volumes { kept, new }
}

/// Puts the anonymous volumes into `Binds` and `Mounts`, each where the container named its
/// destination first.
pub(super) fn apply(host: &mut Object, volumes: &Volumes) {
    for volume in &volumes.kept {
        if !name_bind(host, volume) && !name_mount(host, volume) {
            let mount = json::pruned(&json!({
                "Type": "volume",
                "Source": volume.name,
                "Target": volume.destination,
                "ReadOnly": volume.read_only,
            }));
            match host.get_mut("Mounts").and_then(Value::as_array_mut) {
                Some(mounts) => mounts.push(mount),
                None => {
                    host.insert("Mounts".to_owned(), Value::Array(vec![mount]));
                }
            }
        }
    }
}

fn name_bind(host: &mut Object, volume: &KeptVolume) -> bool {
    let binds = host.get_mut("Binds").and_then(Value::as_array_mut);
    let bind = binds.into_iter().flatten().find(|bind| {
        bind.as_str()
            .is_some_and(|bind| !bind.contains(':') && clean(bind) == volume.destination)
    });
    match bind {
        Some(bind) => {
            *bind = Value::from(format!("{}:{}", volume.name, volume.destination));
            true
        }
        None => false,
    }
}

fn name_mount(host: &mut Object, volume: &KeptVolume) -> bool {
    let mounts = host.get_mut("Mounts").and_then(Value::as_array_mut);
    let mount = mounts.into_iter().flatten().find(|mount| {
        mount["Type"] == "volume"
            && json::is_unset(&mount["Source"])
            && mount["Target"].as_str().map(clean) == Some(&volume.destination)
    });
    match mount {
        Some(mount) => {
            mount["Source"] = Value::from(volume.name.as_str());
            true
        }
        None => false,
    }
}
