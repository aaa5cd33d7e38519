//! A container in Docksmith's words (reference/docksmith-dokploy-dockup.md 1.2, "Containers"). Values
//! of variables that look secret are hidden, which Docksmith does not do.

use plimsoll_app::names::named;
use std::collections::BTreeMap;

use poem_openapi::{OpenApi, param::Path, types::Any};
use serde_json::{Map, Value, json};

use super::{
    Tag, envelope,
    envelope::Envelope,
    error::{ErrorOf, ReadsOne},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{operations::plain_caller, raw::RawPayload},
    middleware::context::RequestContext,
};

/// `GET /api/containers/{name}/inspect`.
pub struct Inspections;

/// The fields of `from` under Docksmith's names.
fn fields(from: &Value, names: &[(&str, &str)]) -> Map<String, Value> {
    let pairs = names.iter();
    pairs
        .map(|(theirs, engines)| ((*theirs).to_owned(), from[*engines].clone()))
        .collect()
}

/// Each member of an object, in Docksmith's words.
fn each(object: &Value, write: impl Fn(&Value) -> Value) -> BTreeMap<String, Value> {
    let members = object.as_object().into_iter().flatten();
    members
        .map(|(key, one)| (key.clone(), write(one)))
        .collect()
}

fn list(array: &Value, write: impl Fn(&Value) -> Value) -> Vec<Value> {
    array.as_array().into_iter().flatten().map(write).collect()
}

fn bindings(ports: &Value) -> Value {
    let binding = |one: &Value| {
        json!(fields(
            one,
            &[("host_ip", "HostIp"), ("host_port", "HostPort")]
        ))
    };
    json!(each(ports, |bound| json!(list(bound, binding))))
}

/// What Docksmith shows of an inspection.
fn shown(inspect: &Value) -> Value {
    let name = inspect["Name"].as_str().unwrap_or_default();
    let (config, host) = (&inspect["Config"], &inspect["HostConfig"]);
    let mut state = fields(
        &inspect["State"],
        &[
            ("status", "Status"),
            ("running", "Running"),
            ("paused", "Paused"),
            ("restarting", "Restarting"),
            ("oom_killed", "OOMKilled"),
            ("dead", "Dead"),
            ("pid", "Pid"),
            ("exit_code", "ExitCode"),
            ("error", "Error"),
            ("started_at", "StartedAt"),
            ("finished_at", "FinishedAt"),
        ],
    );
    if let Some(health) = inspect["State"]["Health"]["Status"].as_str() {
        state.insert("health".to_owned(), health.into());
    }
    let mut configured = fields(
        config,
        &[
            ("hostname", "Hostname"),
            ("user", "User"),
            ("env", "Env"),
            ("cmd", "Cmd"),
            ("entrypoint", "Entrypoint"),
            ("working_dir", "WorkingDir"),
            ("labels", "Labels"),
        ],
    );
    let exposed = each(&config["ExposedPorts"], |_| true.into());
    configured.insert("exposed_ports".to_owned(), json!(exposed));
    let settings = &inspect["NetworkSettings"];
    let mut network = fields(
        settings,
        &[
            ("ip_address", "IPAddress"),
            ("gateway", "Gateway"),
            ("mac_address", "MacAddress"),
        ],
    );
    network.insert("ports".to_owned(), bindings(&settings["Ports"]));
    let endpoint = |one: &Value| {
        json!(fields(
            one,
            &[
                ("network_id", "NetworkID"),
                ("endpoint_id", "EndpointID"),
                ("gateway", "Gateway"),
                ("ip_address", "IPAddress"),
                ("mac_address", "MacAddress"),
                ("aliases", "Aliases"),
            ],
        ))
    };
    let networks = each(&settings["Networks"], endpoint);
    network.insert("networks".to_owned(), json!(networks));
    let mount = |one: &Value| {
        json!(fields(
            one,
            &[
                ("type", "Type"),
                ("source", "Source"),
                ("destination", "Destination"),
                ("mode", "Mode"),
                ("rw", "RW"),
            ],
        ))
    };
    let mut host_config = fields(
        host,
        &[
            ("binds", "Binds"),
            ("network_mode", "NetworkMode"),
            ("memory", "Memory"),
            ("memory_swap", "MemorySwap"),
            ("cpu_shares", "CpuShares"),
            ("cpu_period", "CpuPeriod"),
            ("cpu_quota", "CpuQuota"),
            ("privileged", "Privileged"),
            ("readonly_rootfs", "ReadonlyRootfs"),
        ],
    );
    let policy = fields(
        &host["RestartPolicy"],
        &[
            ("name", "Name"),
            ("maximum_retry_count", "MaximumRetryCount"),
        ],
    );
    host_config.insert("restart_policy".to_owned(), json!(policy));
    let ports = bindings(&host["PortBindings"]);
    host_config.insert("port_bindings".to_owned(), ports);
    json!({
        "id": inspect["Id"],
        "name": name.trim_start_matches('/'),
        "image": config["Image"],
        "created": inspect["Created"],
        "state": state,
        "config": configured,
        "network_settings": network,
        "mounts": list(&inspect["Mounts"], mount),
        "host_config": host_config,
        "labels": config["Labels"],
    })
}

#[OpenApi(prefix_path = "/api")]
impl Inspections {
    /// Inspect a container
    ///
    /// `id`, `name`, `image`, `created`, `state`, `config`, `network_settings`, `mounts`,
    /// `host_config` and `labels`. Values of variables that look secret are `***`.
    #[oai(
        path = "/containers/:name/inspect",
        method = "get",
        operation_id = "inspectContainer",
        tag = "Tag::Containers"
    )]
    async fn get(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
    ) -> Result<RawPayload<Envelope<Any<Value>>>, ErrorOf<ReadsOne>> {
        let entry = named(&who.snapshot().inventory, &name.0)?;
        let caller = plain_caller(who.principal(), &context);
        let inspect = state.app.inspect_container(entry.id(), &caller).await?;
        Ok(envelope::raw(&shown(&inspect)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inspection_is_written_in_docksmiths_names() {
        let shown = shown(&json!({
            "Id": "a", "Name": "/web", "State": {"Status": "running", "OOMKilled": false},
            "Config": {"Image": "app:1", "Env": ["A=1"], "ExposedPorts": {"80/tcp": {}}},
            "HostConfig": {"RestartPolicy": {"Name": "always"},
                "PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}},
            "NetworkSettings": {"Networks": {"front": {"IPAddress": "172.1.0.2"}}, "Ports": null},
            "Mounts": [{"Type": "bind", "RW": true}],
        }));
        assert_eq!(shown["name"], "web");
        assert_eq!(shown["image"], "app:1");
        assert_eq!(shown["state"]["oom_killed"], false);
        assert_eq!(shown["config"]["exposed_ports"], json!({"80/tcp": true}));
        assert_eq!(shown["host_config"]["restart_policy"]["name"], "always");
        let port = &shown["host_config"]["port_bindings"]["80/tcp"][0]["host_port"];
        assert_eq!(port, "8080");
        let address = &shown["network_settings"]["networks"]["front"]["ip_address"];
        assert_eq!(address, "172.1.0.2");
        assert_eq!(shown["mounts"][0]["rw"], true);
    }
}
