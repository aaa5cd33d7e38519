//! Networks, addresses, aliases (reliability.md S11-S16).

use serde_json::{Value, json};

use super::json::{self, Object};
use super::{ApiVersion, ExtraNetwork, Notes, Source, SpecInput};

pub(super) struct Networks {
    /// `HostConfig.NetworkMode`.
    pub(super) mode: String,
    pub(super) is_host: bool,
    shares_container: bool,
    shares_uts: bool,
    /// The endpoint to create on; absent where the engine takes none.
    pub(super) primary: Option<(String, Value)>,
    pub(super) extra: Vec<ExtraNetwork>,
    /// `Config.MacAddress`, for engines before 1.44.
    pub(super) container_mac: Option<String>,
    /// What an inspection shows per network, normalised.
    pub(super) expected: Object,
}

/// What the engine refuses to be told of a container in another's network namespace.
const FORBIDDEN_WHEN_SHARED: &[&str] = &[
    "Hostname",
    "Domainname",
    "ExposedPorts",
    "MacAddress",
    "PortBindings",
    "PublishAllPorts",
    "Links",
    "Dns",
    "ExtraHosts",
];

impl Networks {
    /// Whether this member of `Config` or `HostConfig` must not be sent.
    pub(super) fn forbids(&self, key: &str) -> bool {
        (self.shares_container && FORBIDDEN_WHEN_SHARED.contains(&key))
            || (self.shares_uts && matches!(key, "Hostname" | "Domainname"))
    }
}

/// A reference `container:<id or name>`, with the id of a container that was re-created in its
/// stead. A name stays: its new bearer has it.
pub(super) fn remapped(mode: &str, input: &SpecInput<'_>) -> String {
    match mode.strip_prefix("container:") {
        Some(target) => format!("container:{}", remapped_id(target, input)),
        None => mode.to_owned(),
    }
}

pub(super) fn remapped_id<'a>(target: &'a str, input: &'a SpecInput<'_>) -> &'a str {
    input
        .remaps
        .iter()
        .find(|(old, _)| old.as_str() == target || (target.len() >= 12 && old.starts_with(target)))
        .map_or(target, |(_, new)| new.as_str())
}

pub(super) fn plan(input: &SpecInput<'_>, notes: &mut Notes) -> Networks {
    let empty = Object::new();
    let host = json::object(input.container, "HostConfig").unwrap_or(&empty);
    let attached = input
        .container
        .get("NetworkSettings")
        .and_then(|settings| json::object(settings, "Networks"))
        .unwrap_or(&empty);
    let old_mode = json::text(host, "NetworkMode");
    let mut networks = Networks {
        mode: remapped(old_mode, input),
        is_host: old_mode == "host",
        shares_container: old_mode.starts_with("container:"),
        shares_uts: json::text(host, "UTSMode") == "host",
        primary: None,
        extra: Vec::new(),
        container_mac: None,
        expected: Object::new(),
    };
    if networks.shares_container || matches!(old_mode, "host" | "none") {
        return networks;
    }
    let Some(primary) = primary_name(old_mode, attached) else {
        move_to_attached(&mut networks, attached, input, notes);
        return networks;
    };
    let primary = primary.to_owned();
    attach_all(&mut networks, &primary, attached, input, notes);
    networks
}

/// The container was taken off the network it was created on. Creating it there again would put it
/// where somebody removed it from.
fn move_to_attached(
    networks: &mut Networks,
    attached: &Object,
    input: &SpecInput<'_>,
    notes: &mut Notes,
) {
    let old = networks.mode.clone();
    match attached.keys().next().cloned() {
        Some(first) => {
            networks.mode.clone_from(&first);
            attach_all(networks, &first, attached, input, notes);
        }
        None => {
            networks.mode = "none".to_owned();
            notes.warn(format!(
                "The container was disconnected from its network {old:?}, and from all others. \
                 The new one is created without a network; connect it when it should have one."
            ));
        }
    }
}

fn primary_name<'a>(mode: &str, attached: &'a Object) -> Option<&'a String> {
    let wanted = match mode {
        "default" | "" => "bridge",
        other => other,
    };
    attached
        .iter()
        .find(|(name, endpoint)| {
            name.as_str() == wanted
                || endpoint["NetworkID"].as_str().is_some_and(|id| {
                    id == wanted || (wanted.len() >= 12 && id.starts_with(wanted))
                })
        })
        .map(|(name, _)| name)
        // Podman and never-started containers may show the mode's own word.
        .or_else(|| attached.keys().find(|name| name.as_str() == mode))
}

fn attach_all(
    networks: &mut Networks,
    primary: &str,
    attached: &Object,
    input: &SpecInput<'_>,
    notes: &mut Notes,
) {
    for (name, settings) in attached {
        let Some(settings) = settings.as_object() else {
            continue;
        };
        let mut endpoint = endpoint(input, name, settings, notes);
        if name == primary {
            container_mac(networks, input, settings, notes);
        }
        networks
            .expected
            .insert(name.clone(), normalised_endpoint(name, "", &endpoint));
        let shown = Value::Object(endpoint.clone());
        notes.field(
            format!("Networks.{name}"),
            shown.clone(),
            shown,
            Source::User,
        );
        if name != primary {
            networks.extra.push(ExtraNetwork {
                name: name.clone(),
                id: Some(json::text(settings, "NetworkID"))
                    .filter(|id| !id.is_empty())
                    .map(str::to_owned),
                endpoint: Value::Object(endpoint),
            });
        } else if !endpoint.is_empty() || primary != "bridge" {
            if let Some(mac) = configured_endpoint_mac(input, settings, notes, name) {
                endpoint.insert("MacAddress".to_owned(), Value::from(mac));
            }
            networks.primary = Some((name.clone(), Value::Object(endpoint)));
        }
    }
}

/// The configured part of an endpoint: what the user chose, without what the engine assigned.
fn endpoint(input: &SpecInput<'_>, name: &str, settings: &Object, notes: &mut Notes) -> Object {
    let mut endpoint = Object::new();
    for key in ["IPAMConfig", "Links", "DriverOpts", "GwPriority"] {
        let value = json::member(settings, key);
        if !json::is_unset(value) {
            endpoint.insert(key.to_owned(), value.clone());
        }
    }
    let id = input.container["Id"].as_str().unwrap_or_default();
    let aliases = aliases(name, id, json::member(settings, "Aliases"));
    if !aliases.is_empty() {
        endpoint.insert("Aliases".to_owned(), json::texts(aliases));
    }
    if let Some(ip) = settings
        .get("IPAMConfig")
        .and_then(|ipam| ipam["IPv4Address"].as_str())
        .filter(|ip| !ip.is_empty())
    {
        notes.warn(format!(
            "The address {ip} on the network {name} is fixed, so the old and the new container \
             cannot run side by side."
        ));
    }
    endpoint
}

/// User's aliases; not the short id that the engine adds, and none on networks without a name
/// server (reliability.md S13).
fn aliases<'a>(network: &str, id: &str, aliases: &'a Value) -> Vec<&'a str> {
    if matches!(network, "bridge" | "host" | "none") {
        return Vec::new();
    }
    let mut kept: Vec<&str> = Vec::new();
    for alias in aliases.as_array().into_iter().flatten() {
        if let Some(alias) = alias.as_str()
            && !(alias.len() >= 12 && id.starts_with(alias))
            && !kept.contains(&alias)
        {
            kept.push(alias);
        }
    }
    kept
}

/// An endpoint as both sides of a comparison see it.
pub(super) fn normalised_endpoint(name: &str, id: &str, endpoint: &Object) -> Value {
    let mut aliases = aliases(name, id, json::member(endpoint, "Aliases"));
    aliases.sort_unstable();
    json::pruned(&json!({
        "IPAMConfig": json::member(endpoint, "IPAMConfig"),
        "Links": json::member(endpoint, "Links"),
        "DriverOpts": json::member(endpoint, "DriverOpts"),
        "GwPriority": json::member(endpoint, "GwPriority"),
        "Aliases": aliases,
    }))
}

/// Before 1.44 a container has one MAC address, and the engine shows it in `Config` only when it
/// was configured; some engines copy a generated one there, `02:42` and the four bytes of the
/// address (reliability.md S12).
fn container_mac(
    networks: &mut Networks,
    input: &SpecInput<'_>,
    settings: &Object,
    notes: &mut Notes,
) {
    let configured = json::object(input.container, "Config")
        .map(|config| json::text(config, "MacAddress"))
        .unwrap_or_default();
    if configured.is_empty() || input.engine.api_version >= ApiVersion::ENDPOINT_MAC {
        return;
    }
    let value = Value::from(configured);
    if is_generated(configured, json::text(settings, "IPAddress")) {
        notes.field("MacAddress", value, Value::Null, Source::Engine);
        notes.warn(format!(
            "The MAC address {configured} looks generated, so the new container gets its own."
        ));
    } else {
        networks.container_mac = Some(configured.to_owned());
        notes.field("MacAddress", value.clone(), value, Source::User);
    }
}

/// From 1.44 on an endpoint shows the address in use, chosen or generated alike. Generated ones
/// begin with `02:42`.
fn configured_endpoint_mac(
    input: &SpecInput<'_>,
    settings: &Object,
    notes: &mut Notes,
    network: &str,
) -> Option<String> {
    let mac = json::text(settings, "MacAddress");
    if mac.is_empty() || input.engine.api_version < ApiVersion::ENDPOINT_MAC {
        return None;
    }
    let value = Value::from(mac);
    let path = format!("Networks.{network}.MacAddress");
    if mac.starts_with("02:42:") {
        notes.field(path, value, Value::Null, Source::Engine);
        return None;
    }
    notes.field(path, value.clone(), value, Source::User);
    Some(mac.to_owned())
}

fn is_generated(mac: &str, address: &str) -> bool {
    let Some(tail) = mac
        .to_ascii_lowercase()
        .strip_prefix("02:42:")
        .map(str::to_owned)
    else {
        return false;
    };
    match address.parse::<std::net::Ipv4Addr>() {
        Ok(address) => {
            let [a, b, c, d] = address.octets();
            tail == format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}")
        }
        // It does not run, so the address it would be made from is unknown.
        Err(_) => true,
    }
}
