//! Volumes, restart policy and everything else in `HostConfig`: S6 to S10, S17 to S23.

use super::*;

#[test]
fn s6_anonymous_volumes_are_mounted_by_name() {
    let case = Case::new(
        json!({ "Volumes": { "/data": {}, "/mine": {} } }),
        json!({ "Volumes": { "/data": {} } }),
        json!({ "Volumes": { "/data": {} } }),
    )
    .with(json!({
        "HostConfig": { "Binds": ["named:/named", "/anon"],
            "Mounts": [{ "Type": "volume", "Target": "/mount" }, { "Type": "volume", "Source": "n2", "Target": "/n2" }] },
        "Mounts": [volume("/data", "v1"), volume("/mine", "v2"), volume("/named", "named"),
            volume("/anon", "v3"), volume("/mount", "v4"), volume("/n2", "n2"),
            { "Type": "bind", "Source": "/x", "Destination": "/x" }],
    }));
    let spec = case.plan();
    assert_eq!(host(&spec)["Binds"], json!(["named:/named", "v3:/anon"]));
    assert_eq!(
        host(&spec)["Mounts"],
        json!([
            { "Type": "volume", "Target": "/mount", "Source": "v4" },
            { "Type": "volume", "Source": "n2", "Target": "/n2" },
            { "Type": "volume", "Source": "v1", "Target": "/data" },
            { "Type": "volume", "Source": "v2", "Target": "/mine" },
        ])
    );
    assert_eq!(
        spec.expected["Volumes"],
        json!({ "/data": "v1", "/mine": "v2", "/anon": "v3", "/mount": "v4" })
    );
}

#[test]
fn s7_mounts_are_carried_over_byte_by_byte() {
    let host_config = json!({
        "Binds": ["/a:/b:ro,z,U", "/c:/d:rslave", "vol:/e:nocopy"],
        "Tmpfs": { "/t": "size=1m,noexec" },
        "VolumeDriver": "local",
        "Mounts": [{ "Type": "volume", "Source": "v", "Target": "/v", "VolumeOptions": {
            "NoCopy": true, "Subpath": "x", "DriverConfig": { "Name": "nfs", "Options": { "o": "addr=h" } } } }],
    });
    let spec = Case::plain()
        .with(json!({ "HostConfig": host_config }))
        .plan();
    for (key, value) in host_config.as_object().expect("object") {
        assert_eq!(&host(&spec)[key], value, "{key}");
    }
}

#[test]
fn s8_a_new_volume_of_the_image_is_reported_and_a_dropped_one_kept() {
    let case = Case::new(
        json!({ "Volumes": { "/old": {} } }),
        json!({ "Volumes": { "/old": {} } }),
        json!({ "Volumes": { "/new": {} } }),
    )
    .with(json!({ "Mounts": [volume("/old", "v1")] }));
    let spec = case.plan();
    assert_eq!(host(&spec)["Mounts"][0]["Source"], "v1");
    assert!(spec.warnings[0].contains("/new"), "{:?}", spec.warnings);
    let row = spec.report.iter().find(|field| field.path == "Mounts./old");
    assert_eq!(row.expect("reported").source, Source::OldImage);
}

#[test]
fn s9_auto_remove_is_refused_without_consent() {
    let mut case = Case::plain().with(json!({ "HostConfig": { "AutoRemove": true } }));
    assert_eq!(case.try_plan(), Err(Refusal::AutoRemove));
    case.auto_remove = AutoRemove::Accept;
    assert_eq!(host(&case.plan())["AutoRemove"], true);
}

#[test]
fn s10_the_restart_policy_is_exact() {
    for policy in [
        json!({ "Name": "no", "MaximumRetryCount": 0 }),
        json!({ "Name": "on-failure", "MaximumRetryCount": 5 }),
        json!({ "Name": "always", "MaximumRetryCount": 0 }),
        json!({ "Name": "unless-stopped", "MaximumRetryCount": 0 }),
    ] {
        let case = Case::plain().with(json!({ "HostConfig": { "RestartPolicy": policy } }));
        assert_eq!(host(&case.plan())["RestartPolicy"], policy);
    }
}

#[test]
fn s17_dependants_are_found_by_id_by_name_and_through_each_other() {
    let sharing =
        |id: &str, name: &str, host: Value| json!({ "Id": id, "Name": name, "HostConfig": host });
    let parent = sharing(PARENT, "/vpn", json!({ "NetworkMode": "default" }));
    let all = [
        sharing(
            "by-id",
            "/a",
            json!({ "NetworkMode": format!("container:{PARENT}") }),
        ),
        sharing(
            "by-prefix",
            "/b",
            json!({ "IpcMode": format!("container:{}", &PARENT[..12]) }),
        ),
        sharing(
            "by-name",
            "/c",
            json!({ "PidMode": "container:vpn", "NetworkMode": "container:vpn" }),
        ),
        sharing("through", "/d", json!({ "NetworkMode": "container:c" })),
        sharing("other", "/e", json!({ "NetworkMode": "container:vpn2" })),
        parent.clone(),
    ];
    let found = dependants(&parent, &all);
    let mut ids: Vec<&str> = found
        .iter()
        .map(|dependant| dependant.id.as_str())
        .collect();
    assert_eq!(ids.pop(), Some("through"));
    ids.sort_unstable();
    assert_eq!(ids, ["by-id", "by-name", "by-prefix"]);
    let named = found
        .iter()
        .find(|dependant| dependant.id == "by-name")
        .expect("found");
    assert_eq!(named.shares, [Shared::Network, Shared::Pid]);
}

#[test]
fn s18_those_with_volumes_of_a_container_by_its_id_depend_on_it_too() {
    let parent = json!({ "Id": PARENT, "Name": "/web", "HostConfig": {} });
    let one = |id: &str, from: Value, status: &str, labels: Value| {
        json!({ "Id": id, "Name": format!("/{id}"), "HostConfig": { "VolumesFrom": from },
            "State": { "Status": status }, "Config": { "Labels": labels } })
    };
    let of_service = json!({ "com.docker.compose.service": "side" });
    let once = json!({ "com.docker.compose.service": "side", "com.docker.compose.oneoff": "True" });
    let mut both = one("both", json!([PARENT, "service"]), "running", json!({}));
    both["HostConfig"]["VolumesFrom"][1] = json!(format!("{}:ro", "5".repeat(64)));
    let service = one(
        &"5".repeat(64),
        json!([format!("{PARENT}:ro")]),
        "exited",
        of_service,
    );
    let mut inside = one("inside", json!([PARENT]), "running", json!({}));
    inside["HostConfig"]["NetworkMode"] = json!("container:both");
    let all = [
        inside,
        both,
        service,
        one("short", json!([&PARENT[..12]]), "paused", json!({})),
        // The name stands for the new container without further ado.
        one("named", json!(["web", "/web:ro"]), "running", json!({})),
        one("ended", json!([PARENT]), "exited", json!({})),
        one("once", json!([PARENT]), "exited", once),
        one("other", json!(["other", 1]), "running", json!({})),
    ];
    let found = dependants(&parent, &all);
    let shown: Vec<(&str, &[Shared], bool)> = found
        .iter()
        .map(|one| (&*one.name, &*one.shares, one.runs_without()))
        .collect();
    let volumes: &[Shared] = &[Shared::Volumes];
    let name = "5".repeat(64);
    assert_eq!(
        shown,
        [
            (&*name, volumes, true),
            ("both", volumes, true),
            ("inside", &[Shared::Network, Shared::Volumes], false),
            ("short", volumes, true),
        ]
    );
}

#[test]
fn s18_links_and_volumes_from_point_at_the_new_container() {
    let mut case = Case::plain().with(json!({ "HostConfig": {
        "Links": ["/db:/app/database", format!("/{PARENT}:/app/p")],
        "VolumesFrom": [format!("{PARENT}:ro"), "other"], "CgroupParent": "/slice" } }));
    case.remaps = BTreeMap::from([(PARENT.to_owned(), NEW_PARENT.to_owned())]);
    let spec = case.plan();
    assert_eq!(
        host(&spec)["Links"],
        json!(["db:database", format!("{NEW_PARENT}:p")])
    );
    assert_eq!(
        host(&spec)["VolumesFrom"],
        json!([format!("{NEW_PARENT}:ro"), "other"])
    );
    assert_eq!(host(&spec)["CgroupParent"], "/slice");
}

#[test]
fn s18_a_borrowed_volume_is_not_taken_for_an_anonymous_one() {
    let case = Case::new(json!({ "Volumes": { "/own": {} } }), json!({}), json!({})).with(json!({
        "HostConfig": { "VolumesFrom": ["other"] },
        "Mounts": [volume("/own", "v1"), volume("/borrowed", "v2")] }));
    assert_eq!(case.plan().expected["Volumes"], json!({ "/own": "v1" }));
}

#[test]
fn s19_s20_devices_and_limits_are_byte_equal() {
    let settings = json!({
        "DeviceRequests": [{ "Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]], "Options": {} }],
        "Devices": [{ "PathOnHost": "/dev/x", "PathInContainer": "/dev/y", "CgroupPermissions": "rwm" }],
        "DeviceCgroupRules": ["c 1:3 r"],
        "Ulimits": [{ "Name": "nofile", "Soft": 1, "Hard": 2 }], "Sysctls": { "net.core.somaxconn": "1" },
        "CapAdd": ["NET_ADMIN"], "CapDrop": ["ALL"], "SecurityOpt": ["seccomp={}"], "ReadonlyRootfs": true,
        "Init": false, "ShmSize": 1, "OomScoreAdj": -5, "OomKillDisable": true, "CpusetCpus": "0-1",
        "MemorySwap": -1, "MemorySwappiness": 0, "BlkioWeight": 10, "Runtime": "nvidia",
        "UsernsMode": "host", "Privileged": false, "FutureField": { "A": [1] },
    });
    let spec = Case::plain().with(json!({ "HostConfig": settings })).plan();
    for (key, value) in settings.as_object().expect("object") {
        assert_eq!(&host(&spec)[key], value, "{key}");
    }
}

#[test]
fn s20_the_default_runtime_and_unset_swappiness_are_not_sent() {
    for swappiness in [Value::Null, json!(-1)] {
        let case = Case::plain().with(json!({ "HostConfig": { "MemorySwappiness": swappiness } }));
        let spec = case.plan();
        assert_eq!(host(&spec).get("Runtime"), None);
        assert_eq!(host(&spec).get("MemorySwappiness"), None);
    }
}

#[test]
fn s20_what_the_engine_appends_does_not_pile_up() {
    let case = Case::plain().with(json!({ "HostConfig": { "Privileged": true,
        "SecurityOpt": ["label=disable", "no-new-privileges", "label=disable"] } }));
    assert_eq!(
        host(&case.plan())["SecurityOpt"],
        json!(["no-new-privileges"])
    );
}

#[test]
fn s21_fixed_ports_are_kept_and_random_ones_reported() {
    let bindings = json!({ "80/tcp": [{ "HostIp": "", "HostPort": "8080" }],
        "81/tcp": [{ "HostIp": "", "HostPort": "0" }], "53/udp": [{ "HostIp": "::1", "HostPort": "9000-9010" }] });
    let case = Case::plain().with(json!({
        "HostConfig": { "PortBindings": bindings },
        "NetworkSettings": { "Ports": { "80/tcp": [{ "HostPort": "8080" }], "81/tcp": [{ "HostPort": "49153" }],
            "53/udp": [{ "HostPort": "9003" }], "82/tcp": null } } }));
    let spec = case.plan();
    assert_eq!(host(&spec)["PortBindings"], bindings);
    assert_eq!(spec.warnings.len(), 1);
    assert!(spec.warnings[0].contains("81/tcp") && spec.warnings[0].contains("49153"));
}

#[test]
fn s22_a_chosen_host_name_stays_and_the_default_is_not_pinned() {
    assert_eq!(Case::plain().plan().create_body.get("Hostname"), None);
    let case = Case::plain().with(json!({ "Config": { "Hostname": "chosen" } }));
    assert_eq!(case.plan().create_body["Hostname"], "chosen");
}

#[test]
fn s23_logging_storage_and_terminal_settings_are_kept() {
    let log = json!({ "Type": "syslog", "Config": { "tag": "x" } });
    let case = Case::plain().with(json!({
        "Config": { "Tty": true, "OpenStdin": true, "StdinOnce": true, "AttachStdin": true },
        "HostConfig": { "LogConfig": log, "StorageOpt": { "size": "1G" } } }));
    let spec = case.plan();
    for key in ["Tty", "OpenStdin", "StdinOnce", "AttachStdin"] {
        assert_eq!(spec.create_body[key], true, "{key}");
    }
    assert_eq!(host(&spec)["LogConfig"], log);
    assert_eq!(host(&spec)["StorageOpt"], json!({ "size": "1G" }));
}
