//! The helper: a container that runs one operation on the container that the worker itself is in
//! (reliability.md U1). It has the worker's image, settings and mounts, claims only that
//! operation, runs the ordinary program, and is removed by the reconciler of leftovers.

use plimsoll_app::store::update_operations::Operation;
use plimsoll_domain::{
    ids::{ContainerId, OperationId},
    spec::{OPERATION_LABEL, ROLE_LABEL},
};
use serde_json::{Map, Value, json};

use super::observe::run_of;
use crate::docker::{Engine, EngineError};

/// The role of a helper in its operation.
const ROLE_HELPER: &str = "helper";

/// How this process is started as a helper.
#[derive(Clone, Debug)]
pub struct HelperCommand {
    /// Where this program is, inside its container.
    program: String,
    /// Its arguments after the operation.
    arguments: Vec<String>,
}

impl HelperCommand {
    /// As this process was started; `None` where its program cannot be named.
    pub fn here() -> Option<Self> {
        let program = std::env::current_exe().ok()?;
        let mut arguments: Vec<String> = std::env::args().skip(1).collect();
        if let Some(at) = arguments.iter().position(|argument| argument == "run") {
            arguments.remove(at);
        }
        Some(Self {
            program: program.to_str()?.to_owned(),
            arguments,
        })
    }
}

/// A name that no image can give itself.
pub(super) fn helper_name(operation: OperationId) -> String {
    format!("plimsoll-helper-{operation}")
}

/// Whether a container of this name, with this label [`OPERATION_LABEL`], is a helper.
pub(crate) fn is_helper(name: &str, label: Option<&str>) -> bool {
    let operation = label.and_then(|label| label.parse::<OperationId>().ok());
    operation.is_some_and(|operation| name == helper_name(operation))
}

/// Where a helper finds the engine's own socket.
const SOCKET: &str = "/run/plimsoll-engine.sock";

/// The engine's socket on its host, if it is mounted into the container: then others may reach the
/// engine through it.
pub(super) fn socket_of(container: &Value) -> Option<&str> {
    let mounts = container["Mounts"].as_array()?;
    mounts
        .iter()
        .filter(|mount| mount["Type"] == "bind")
        .filter_map(|mount| mount["Source"].as_str())
        .find(|source| source.ends_with("/docker.sock"))
}

/// Sees to it that the operation's helper runs. `own`: the inspection of the container whose
/// image and settings it gets. `socket`: the engine's, on its host, for a helper that must not
/// reach it as the worker does. May be repeated.
pub(super) async fn ensure(
    engine: &Engine,
    operation: &Operation,
    own: &Value,
    command: &HelperCommand,
    socket: Option<&str>,
) -> Result<(), EngineError> {
    let name = helper_name(operation.id);
    if let Some(helper) = engine.find_by_name(&name).await? {
        if run_of(&helper).is_alive() {
            return Ok(());
        }
        let id = helper["Id"].as_str().and_then(ContainerId::parse);
        return match id {
            Some(id) => engine.start(&id).await,
            None => Ok(()),
        };
    }
    let created = match engine
        .create(&name, &body(operation.id, own, command, socket))
        .await
    {
        Ok(created) => created,
        // Another worker was faster.
        Err(error) if error.is_conflict() => return Ok(()),
        Err(error) => return Err(error),
    };
    for network in other_networks(own) {
        engine
            .connect_network(&network, &created.id, &json!({}))
            .await?;
    }
    engine.start(&created.id).await
}

fn body(
    operation: OperationId,
    own: &Value,
    command: &HelperCommand,
    socket: Option<&str>,
) -> Value {
    let mut arguments = vec!["assist".to_owned(), operation.to_string()];
    if socket.is_some() {
        arguments.extend(["--socket".to_owned(), SOCKET.to_owned()]);
    }
    arguments.extend(command.arguments.iter().cloned());
    let mut host = Map::new();
    for key in [
        "Binds",
        "Mounts",
        "VolumesFrom",
        "NetworkMode",
        "ExtraHosts",
        "Dns",
        "DnsOptions",
        "DnsSearch",
        "GroupAdd",
        "CapAdd",
        "CapDrop",
        "SecurityOpt",
        "Privileged",
        "UsernsMode",
        "Runtime",
        "ReadonlyRootfs",
        "Tmpfs",
    ] {
        let value = &own["HostConfig"][key];
        if !value.is_null() {
            host.insert(key.to_owned(), value.clone());
        }
    }
    let mut user = own["Config"]["User"].clone();
    if let Some(socket) = socket {
        let mut binds = host
            .get("Binds")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        binds.push(json!(format!("{socket}:{SOCKET}")));
        host.insert("Binds".to_owned(), Value::Array(binds));
        // The socket is root's, and the worker's own user was not meant to open it.
        user = json!("0:0");
    }
    // A helper that is killed, and one whose host lost power, comes back; one that is done, not.
    host.insert("RestartPolicy".to_owned(), json!({"Name": "on-failure"}));
    json!({
        "Image": own["Image"],
        "Entrypoint": [command.program],
        "Cmd": arguments,
        "Env": own["Config"]["Env"],
        "User": user,
        "WorkingDir": own["Config"]["WorkingDir"],
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {OPERATION_LABEL: operation.to_string(), ROLE_LABEL: ROLE_HELPER},
        "HostConfig": host,
    })
}

/// The networks beside the one of its network mode. Names of our own stay with their container.
fn other_networks(own: &Value) -> Vec<String> {
    let mode = own["HostConfig"]["NetworkMode"]
        .as_str()
        .unwrap_or_default();
    if matches!(mode, "host" | "none") || mode.starts_with("container:") {
        return Vec::new();
    }
    let first = match mode {
        "" | "default" => "bridge",
        mode => mode,
    };
    let networks = own["NetworkSettings"]["Networks"].as_object();
    networks
        .into_iter()
        .flatten()
        .filter(|(name, endpoint)| *name != first && endpoint["NetworkID"] != first)
        .map(|(name, _)| name.clone())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_helper_has_the_workers_settings_and_none_of_its_ports_or_names() {
        let own = json!({
            "Image": "sha256:old",
            "Config": {
                "Env": ["DATABASE_URL=x"], "User": "65534", "WorkingDir": "/",
                "Labels": {"com.docker.compose.service": "worker"},
                "Healthcheck": {"Test": ["CMD", "x"]},
            },
            "HostConfig": {
                "Binds": ["/var/run/docker.sock:/var/run/docker.sock"], "NetworkMode": "app_default",
                "PortBindings": {"3000/tcp": [{"HostPort": "3000"}]},
                "RestartPolicy": {"Name": "always"},
            },
            "NetworkSettings": {"Networks": {
                "app_default": {"NetworkID": "1", "Aliases": ["worker"]}, "db": {"NetworkID": "2"},
            }},
        });
        let operation = OperationId::generate();
        let command = HelperCommand {
            program: "/usr/bin/plimsoll-worker".to_owned(),
            arguments: vec!["--config".to_owned(), "/etc/plimsoll.toml".to_owned()],
        };
        let direct = body(operation, &own, &command, Some("/srv/docker.sock"));
        let binds = json!([
            "/var/run/docker.sock:/var/run/docker.sock",
            "/srv/docker.sock:/run/plimsoll-engine.sock"
        ]);
        assert_eq!(direct["HostConfig"]["Binds"], binds);
        assert_eq!(direct["User"], "0:0");
        assert_eq!(direct["Cmd"][2], "--socket");
        let body = body(operation, &own, &command, None);
        assert_eq!(body["Image"], "sha256:old");
        assert_eq!(
            body["Cmd"],
            json!([
                "assist",
                operation.to_string(),
                "--config",
                "/etc/plimsoll.toml"
            ])
        );
        assert_eq!(body["HostConfig"]["Binds"], own["HostConfig"]["Binds"]);
        assert_eq!(body["HostConfig"]["RestartPolicy"]["Name"], "on-failure");
        assert!(body["HostConfig"].get("PortBindings").is_none());
        assert_eq!(body["Labels"].as_object().map(Map::len), Some(2));
        assert_eq!(other_networks(&own), ["db"]);
        let label = operation.to_string();
        assert!(is_helper(&helper_name(operation), Some(&label)));
        assert!(
            !is_helper("web", Some(&label)),
            "a label alone makes no helper"
        );
        assert!(!is_helper(&helper_name(operation), None));
    }
}
