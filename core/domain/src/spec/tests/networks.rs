//! Addresses, names and shared namespaces: S11 to S16.

use super::*;

fn on_network(name: &str, endpoint: Value) -> Case {
    let mut full = json!({ "NetworkID": format!("{name}-id"), "IPAddress": "10.1.0.2",
        "MacAddress": "02:42:0a:01:00:02", "Gateway": "10.1.0.1", "EndpointID": "e" });
    merge_into(&mut full, endpoint);
    Case::plain()
        .with(json!({ "HostConfig": { "NetworkMode": name } }))
        .networks(json!({ name: full }))
}

#[test]
fn s11_fixed_addresses_are_kept_and_assigned_ones_are_not() {
    let ipam = json!({ "IPv4Address": "10.1.0.9", "IPv6Address": "fd00::9", "LinkLocalIPs": ["169.254.1.1"] });
    let spec = on_network("app", json!({ "IPAMConfig": ipam })).plan();
    let endpoints = &spec.create_body["NetworkingConfig"]["EndpointsConfig"];
    assert_eq!(*endpoints, json!({ "app": { "IPAMConfig": ipam } }));
    assert!(spec.warnings[0].contains("10.1.0.9"));
    let spec = on_network("app", json!({ "IPAMConfig": {} })).plan();
    let endpoints = &spec.create_body["NetworkingConfig"]["EndpointsConfig"];
    assert_eq!(*endpoints, json!({ "app": {} }));
}

#[test]
fn s12_a_configured_mac_is_kept_and_a_generated_one_dropped() {
    let mac =
        |mac: &str| on_network("app", json!({})).with(json!({ "Config": { "MacAddress": mac } }));
    assert_eq!(
        mac("92:d0:c6:0a:29:33").plan().create_body["MacAddress"],
        "92:d0:c6:0a:29:33"
    );
    // Like a generated one, but of another address.
    assert_eq!(
        mac("02:42:0a:01:00:63").plan().create_body["MacAddress"],
        "02:42:0a:01:00:63"
    );
    let spec = mac("02:42:0a:01:00:02").plan();
    assert_eq!(spec.create_body.get("MacAddress"), None);
    assert!(spec.warnings[0].contains("looks generated"));
}

#[test]
fn s12_from_1_44_the_mac_belongs_to_the_endpoint() {
    let mut case = on_network("app", json!({ "MacAddress": "92:d0:c6:0a:29:33" }))
        .with(json!({ "Config": { "MacAddress": "92:d0:c6:0a:29:33" } }));
    case.engine.api_version = ApiVersion::new(1, 44);
    let spec = case.plan();
    assert_eq!(spec.create_body.get("MacAddress"), None);
    let endpoint = &spec.create_body["NetworkingConfig"]["EndpointsConfig"]["app"];
    assert_eq!(endpoint["MacAddress"], "92:d0:c6:0a:29:33");
}

#[test]
fn s13_the_short_id_is_no_alias_and_the_default_bridge_has_none() {
    let aliases = json!({ "Aliases": ["web", &OLD_ID[..12], "api", "web"] });
    let spec = on_network("app", aliases).plan();
    let endpoint = &spec.create_body["NetworkingConfig"]["EndpointsConfig"]["app"];
    assert_eq!(endpoint["Aliases"], json!(["web", "api"]));
    let spec = on_network("bridge", json!({ "Aliases": ["web"] })).plan();
    assert_eq!(spec.create_body.get("NetworkingConfig"), None);
}

#[test]
fn s14_further_networks_are_connected_by_id_with_their_options() {
    let case = on_network("app", json!({ "Aliases": ["a"] })).networks(json!({
        "app": { "NetworkID": "id1", "Aliases": ["a"] },
        "back": { "NetworkID": "id2", "Aliases": ["b"], "DriverOpts": { "x": "1" }, "GwPriority": 5 },
        "bridge": { "NetworkID": "id3", "Aliases": ["c"] },
    }));
    let spec = case.plan();
    let endpoints = &spec.create_body["NetworkingConfig"]["EndpointsConfig"];
    assert_eq!(*endpoints, json!({ "app": { "Aliases": ["a"] } }));
    let extra: Vec<(&str, &Value)> = spec
        .extra_networks
        .iter()
        .map(|network| (network.target(), &network.endpoint))
        .collect();
    let back = json!({ "Aliases": ["b"], "DriverOpts": { "x": "1" }, "GwPriority": 5 });
    assert_eq!(extra, [("id2", &back), ("id3", &json!({}))]);
}

#[test]
fn s14_a_container_taken_off_its_first_network_is_not_put_back() {
    let case = on_network("app", json!({})).networks(json!({ "other": { "NetworkID": "id2" } }));
    let spec = case.plan();
    assert_eq!(host(&spec)["NetworkMode"], "other");
    assert!(spec.extra_networks.is_empty());
    let spec = on_network("app", json!({})).networks(json!({})).plan();
    assert_eq!(host(&spec)["NetworkMode"], "none");
    assert!(!spec.warnings.is_empty());
}

#[test]
fn s15_host_and_none_get_no_endpoint_and_no_host_name_of_the_engine() {
    for mode in ["host", "none", "default", "bridge"] {
        let name = if mode == "default" { "bridge" } else { mode };
        let case = Case::plain()
            .with(
                json!({ "HostConfig": { "NetworkMode": mode }, "Config": { "Hostname":
                if mode == "host" { "host1" } else { &OLD_ID[..12] } } }),
            )
            .networks(json!({ name: { "NetworkID": "n" } }));
        let spec = case.plan();
        assert_eq!(host(&spec)["NetworkMode"], mode);
        assert_eq!(spec.create_body.get("NetworkingConfig"), None, "{mode}");
        assert_eq!(spec.create_body.get("Hostname"), None, "{mode}");
    }
}

#[test]
fn s16_a_shared_namespace_follows_its_owner_and_takes_nothing_else() {
    let mut case = Case::new(
        json!({ "Hostname": "parent", "Domainname": "x", "MacAddress": "92:d0:c6:0a:29:33",
            "ExposedPorts": { "80/tcp": {}, "81/tcp": {} } }),
        json!({ "ExposedPorts": { "80/tcp": {} } }),
        json!({ "ExposedPorts": { "80/tcp": {} } }),
    )
    .with(json!({ "HostConfig": { "NetworkMode": format!("container:{PARENT}"), "Dns": [], "Links": null,
        "PortBindings": {}, "IpcMode": format!("container:{}", &PARENT[..12]), "PidMode": "container:by-name" } }))
    .networks(json!({}));
    case.remaps = BTreeMap::from([(PARENT.to_owned(), NEW_PARENT.to_owned())]);
    let spec = case.plan();
    let now = json!(format!("container:{NEW_PARENT}"));
    assert_eq!(host(&spec)["NetworkMode"], now);
    assert_eq!(host(&spec)["IpcMode"], now);
    assert_eq!(host(&spec)["PidMode"], "container:by-name");
    for key in [
        "Hostname",
        "Domainname",
        "MacAddress",
        "ExposedPorts",
        "NetworkingConfig",
    ] {
        assert_eq!(spec.create_body.get(key), None, "{key}");
    }
}
