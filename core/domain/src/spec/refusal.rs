//! Containers that must not be re-created by us, and why.

use serde_json::Value;

use super::json::{self, Object};
use super::{AutoRemove, SpecInput};

/// Why a container is not updated. The text is shown to the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is a task of the Swarm service {service}: update the service, not its container")]
    SwarmTask { service: String },
    #[error(
        "it is managed by {manager}, which would undo or duplicate the change: update it there"
    )]
    ManagedElsewhere { manager: &'static str },
    #[error(
        "it was started with --rm: stopping it destroys it and its anonymous volumes, so there is \
         no way back but its recorded settings; allow this for the container if that is acceptable"
    )]
    AutoRemove,
    #[error(
        "Compose copied files into it ({}), and a new container would not have them: update it \
         with docker compose", paths.join(", ")
    )]
    CopiedFiles { paths: Vec<String> },
    #[error("the new container would have more privileges than the old one ({})", fields.join(", "))]
    PrivilegeGain { fields: Vec<String> },
    #[error("the engine's description of it has no {0}")]
    Unreadable(&'static str),
}

/// Label prefixes or names by which other managers own a container (reliability.md S29, S30).
const MANAGERS: &[(&str, &str)] = &[
    ("io.kubernetes.", "Kubernetes"),
    ("com.hashicorp.nomad.", "Nomad"),
    ("com.amazonaws.ecs.", "Amazon ECS"),
    ("io.rancher.container.", "Rancher"),
    ("io.balena.service-id", "balena"),
    ("PODMAN_SYSTEMD_UNIT", "systemd"),
];

/// Where Compose puts a secret that does not come from a file on the host.
const COPIED_SECRETS: &str = "/run/secrets/";

/// Whether the container may be updated at all. Called by [`super::plan`]; admission calls it
/// too, with what it has, so that the user hears the reason before anything starts.
///
/// Labels that come from the image count for nothing: an image cannot exempt itself
/// (invariant 11).
pub fn check(input: &SpecInput<'_>) -> Result<(), Refusal> {
    let config = json::object(input.container, "Config").ok_or(Refusal::Unreadable("Config"))?;
    let host =
        json::object(input.container, "HostConfig").ok_or(Refusal::Unreadable("HostConfig"))?;
    let own = |key: &str| own_label(config, input.old_image, key);
    if own("com.docker.swarm.task.id").is_some() {
        let service = own("com.docker.swarm.service.name").unwrap_or("of unknown name");
        return Err(Refusal::SwarmTask {
            service: service.to_owned(),
        });
    }
    for (key, _) in json::members(config, "Labels") {
        let manager = MANAGERS.iter().find(|(start, _)| key.starts_with(start));
        if let Some((_, manager)) = manager
            && own(key).is_some()
        {
            return Err(Refusal::ManagedElsewhere { manager });
        }
    }
    if json::member(host, "AutoRemove").as_bool() == Some(true)
        && input.auto_remove == AutoRemove::Refuse
    {
        return Err(Refusal::AutoRemove);
    }
    if own("com.docker.compose.project").is_some() {
        let mounted = mounted_paths(input.container);
        let paths: Vec<String> = input
            .changed_paths
            .iter()
            .filter(|path| path.starts_with(COPIED_SECRETS) && !mounted.contains(&path.as_str()))
            .cloned()
            .collect();
        if !paths.is_empty() {
            return Err(Refusal::CopiedFiles { paths });
        }
    }
    Ok(())
}

/// A mount point shows as a changed path too; it comes back with the mount.
fn mounted_paths(container: &Value) -> Vec<&str> {
    let mounts = container.get("Mounts").and_then(Value::as_array);
    mounts
        .into_iter()
        .flatten()
        .filter_map(|mount| mount.get("Destination").and_then(Value::as_str))
        .collect()
}

fn own_label<'a>(config: &'a Object, image: &Value, key: &str) -> Option<&'a str> {
    let value = config.get("Labels")?.get(key)?.as_str()?;
    let from_image = json::object(image, "Config")
        .and_then(|config| config.get("Labels")?.get(key)?.as_str())
        == Some(value);
    (!from_image).then_some(value)
}
