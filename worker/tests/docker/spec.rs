//! Containers of many shapes, re-created by the merge on the real engine, compared with what they
//! were (invariant I-7; reliability.md 2.8).

use std::collections::BTreeMap;

use plimsoll_domain::ids::ContainerId;
use plimsoll_domain::spec::{
    AutoRemove, Difference, EngineFacts, NewSpec, SpecInput, fidelity, plan,
};
use serde_json::{Value, json};

use crate::host::Host;

/// An old container and what the merge made of it.
struct Recreated {
    old: Value,
    new: Value,
    spec: NewSpec,
}

impl Recreated {
    fn config(&self, key: &str) -> &Value {
        &self.new["Config"][key]
    }

    fn host(&self, key: &str) -> &Value {
        &self.new["HostConfig"][key]
    }
}

/// A test image whose command keeps running.
async fn image(host: &Host, version: &str, changes: &[&str]) -> String {
    let reference = format!("{}:{version}", host.tag);
    let mut all = vec![r#"CMD ["/bin/sleep","600"]"#];
    all.extend(changes);
    host.image(&reference, &all).await;
    reference
}

async fn planned(
    host: &Host,
    old: &Value,
    new_image: &str,
    remaps: &BTreeMap<String, String>,
) -> NewSpec {
    let engine = &host.engine;
    let old_image = engine
        .inspect_image(old["Image"].as_str().expect("image"))
        .await
        .expect("old image");
    let new_image_json = engine.inspect_image(new_image).await.expect("new image");
    let info = engine.info().await.expect("info");
    let facts = EngineFacts::from_info(engine.api_version().await.expect("version"), &info);
    let labels = BTreeMap::from([("plimsoll.operation".to_owned(), host.tag.to_string())]);
    plan(&SpecInput {
        container: old,
        old_image: &old_image,
        new_image: &new_image_json,
        image_reference: new_image,
        engine: &facts,
        remaps,
        labels: &labels,
        auto_remove: AutoRemove::Refuse,
        changed_paths: &[],
    })
    .expect("plan")
}

/// Renames the old one, creates the new one, stops the old, starts the new: the way of an update.
async fn recreate(host: &Host, id: &ContainerId, new_image: &str) -> Recreated {
    recreate_with(host, id, new_image, &BTreeMap::new()).await
}

async fn recreate_with(
    host: &Host,
    id: &ContainerId,
    new_image: &str,
    remaps: &BTreeMap<String, String>,
) -> Recreated {
    let engine = &host.engine;
    let old = engine.inspect(id).await.expect("inspect");
    let spec = planned(host, &old, new_image, remaps).await;
    let name = old["Name"].as_str().expect("name").trim_start_matches('/');
    engine.rename(id, &host.name("old")).await.expect("rename");
    let created = engine
        .create(name, &spec.create_body)
        .await
        .unwrap_or_else(|e| panic!("{e}: {:#}", spec.create_body));
    for network in &spec.extra_networks {
        engine
            .connect_network(network.target(), &created.id, &network.endpoint)
            .await
            .expect("connect");
    }
    let fresh = engine.inspect(&created.id).await.expect("inspect");
    assert_no_difference(&fidelity(&spec.expected, &fresh), "created");
    let was_running = old["State"]["Running"] == true;
    engine
        .stop(id, std::time::Duration::ZERO)
        .await
        .expect("stop");
    if was_running {
        engine.start(&created.id).await.expect("start");
    }
    let new = engine.inspect(&created.id).await.expect("inspect");
    assert_no_difference(&fidelity(&spec.expected, &new), "started");
    Recreated { old, new, spec }
}

fn assert_no_difference(differences: &[Difference], when: &str) {
    assert!(differences.is_empty(), "{when}: {differences:#?}");
}

/// The members of `Config` and `HostConfig` that differ between two inspections, without the ones
/// that name the container or the operation.
fn raw_changes(old: &Value, new: &Value) -> Vec<String> {
    let mut changed = Vec::new();
    for section in ["Config", "HostConfig"] {
        let empty = serde_json::Map::new();
        let of = |side: &Value| side[section].as_object().unwrap_or(&empty).clone();
        let (old, new) = (of(old), of(new));
        for key in old.keys().chain(new.keys()) {
            // The engine writes its default runtime down at some point of its own choosing.
            let ignored = matches!(key.as_str(), "Hostname" | "Labels" | "Image" | "Runtime");
            if !ignored && old.get(key) != new.get(key) && !changed.contains(key) {
                changed.push(key.clone());
            }
        }
    }
    changed
}

async fn started(host: &Host, what: &str, body: Value) -> ContainerId {
    let id = host.create(&host.name(what), body).await;
    host.engine.start(&id).await.expect("start");
    id
}

/// The image that shapes are made of.
async fn shape_image(host: &Host) -> String {
    image(
        host,
        "1",
        &[
            "ENV COLOUR=red SIZE=1",
            "EXPOSE 80/tcp",
            "LABEL vendor=acme",
            "WORKDIR /data",
            r#"HEALTHCHECK --interval=30s CMD ["/bin/true"]"#,
        ],
    )
    .await
}

enum Run {
    Started,
    /// For shapes that cannot run everywhere, and for those that a start changes nothing about.
    Created,
}

/// Re-creates a container of this shape with its own image and expects no change but of what
/// names the container.
async fn comes_back(host: &Host, image: &str, name: &str, mut body: Value, run: Run) {
    body["Image"] = json!(image);
    let id = host.create(&host.name(name), body).await;
    if let Run::Started = run {
        host.engine.start(&id).await.expect("start");
    }
    let done = recreate(host, &id, image).await;
    let changed = raw_changes(&done.old, &done.new);
    assert!(
        changed.is_empty(),
        "{name}: {changed:?}\n{:#}\n{:#}",
        done.old,
        done.new
    );
    let unexpected: Vec<_> = done
        .spec
        .report
        .iter()
        .filter(|field| field.is_change() && !field.path.starts_with("Ports."))
        .filter(|field| {
            !matches!(
                field.path.as_str(),
                "Hostname" | "Labels.plimsoll.operation"
            )
        })
        .collect();
    assert!(unexpected.is_empty(), "{name}: {unexpected:#?}");
    let new_id = ContainerId::parse(done.new["Id"].as_str().expect("id")).expect("id");
    host.engine
        .stop(&new_id, std::time::Duration::ZERO)
        .await
        .expect("stop");
    host.engine.remove(&new_id).await.expect("remove");
}

#[tokio::test]
async fn with_the_same_image_every_shape_comes_back_as_it_was() {
    let host = Host::connect().await;
    let image = shape_image(&host).await;
    let shapes: Vec<(&str, Value)> = vec![
        ("plain", json!({})),
        (
            "env",
            json!({ "Env": ["COLOUR=blue", "X=1", "X=2", "EMPTY=", "BARE"] }),
        ),
        (
            "entry",
            json!({ "Entrypoint": ["/bin/sleep"], "Cmd": ["600"] }),
        ),
        (
            "cleared",
            json!({ "Entrypoint": [""], "Cmd": ["/bin/sleep", "600"] }),
        ),
        (
            "identity",
            json!({ "User": "1000:1000", "WorkingDir": "/tmp", "StopSignal": "SIGQUIT",
                "StopTimeout": 3, "Hostname": "chosen", "Domainname": "example.org" }),
        ),
        (
            "terminal",
            json!({ "Tty": true, "OpenStdin": true, "StdinOnce": true, "AttachStdin": true }),
        ),
        ("nohealth", json!({ "Healthcheck": { "Test": ["NONE"] } })),
        (
            "interval",
            json!({ "Healthcheck": { "Interval": 7_000_000_000_i64, "Retries": 9 } }),
        ),
        (
            "onfailure",
            json!({ "HostConfig": { "RestartPolicy": { "Name": "on-failure", "MaximumRetryCount": 3 } } }),
        ),
        (
            "unlessstopped",
            json!({ "HostConfig": { "RestartPolicy": { "Name": "unless-stopped" } } }),
        ),
        (
            "privileged",
            json!({ "HostConfig": { "Privileged": true, "CgroupnsMode": "private" } }),
        ),
        (
            "security",
            json!({ "HostConfig": { "CapAdd": ["NET_ADMIN"], "CapDrop": ["CHOWN"],
                "SecurityOpt": ["no-new-privileges"], "ReadonlyRootfs": true, "GroupAdd": ["12"],
                "Sysctls": { "net.ipv4.ip_forward": "1" }, "MaskedPaths": [], "ReadonlyPaths": [] } }),
        ),
        ("init", json!({ "HostConfig": { "Init": false } })),
        (
            "devices",
            json!({ "HostConfig": { "Devices": [
                { "PathOnHost": "/dev/null", "PathInContainer": "/dev/x", "CgroupPermissions": "r" }],
                "DeviceCgroupRules": ["c 1:3 r"] } }),
        ),
        (
            "gpu",
            json!({ "HostConfig": { "DeviceRequests": [{ "Driver": "", "Count": -1,
                "DeviceIDs": null, "Capabilities": [["gpu", "utility"]], "Options": {} }] } }),
        ),
        (
            "cgroup",
            json!({ "HostConfig": { "CgroupParent": "/plimsoll-test", "CpuShares": 512,
                "CpuPeriod": 100_000, "CpuQuota": 50_000, "OomKillDisable": false } }),
        ),
        (
            "logs",
            json!({ "HostConfig": { "LogConfig": { "Type": "local", "Config": { "max-size": "1m" } } } }),
        ),
        (
            "dns",
            json!({ "HostConfig": { "Dns": ["10.0.0.1"], "DnsSearch": ["x.org"],
                "DnsOptions": ["ndots:2"], "ExtraHosts": ["a:10.0.0.2"] } }),
        ),
        (
            "sctp",
            json!({ "ExposedPorts": { "7/sctp": {}, "8000/tcp": {} }, "HostConfig": { "PortBindings": {
                "7/sctp": [{ "HostIp": "", "HostPort": "7777" }],
                "8000/tcp": [{ "HostIp": "::1", "HostPort": "8000-8010" }] } } }),
        ),
        (
            "labels",
            json!({ "Labels": { "empty": "", "com.docker.compose.config-hash": "abc" } }),
        ),
    ];
    for (name, body) in shapes {
        comes_back(&host, &image, name, body, Run::Created).await;
    }
}

#[tokio::test]
async fn a_running_container_comes_back_as_it_was() {
    let host = Host::connect().await;
    let image = shape_image(&host).await;
    let volume = host.volume().await;
    let (network, prefix) = host.addressed_network().await;
    let other = host.network().await;
    let shapes: Vec<(&str, Value)> = vec![
        (
            "plain",
            json!({ "HostConfig": { "RestartPolicy": { "Name": "always" } } }),
        ),
        (
            "mounts",
            json!({ "HostConfig": {
                "Binds": ["/etc/hostname:/mnt/a:ro", format!("{volume}:/mnt/b:nocopy"), "/tmp:/mnt/p:private"],
                "Tmpfs": { "/mnt/t": "size=1m,mode=1777" },
                "Mounts": [
                    { "Type": "bind", "Source": "/etc/hosts", "Target": "/mnt/c", "ReadOnly": true,
                      "BindOptions": { "Propagation": "private" } },
                    { "Type": "tmpfs", "Target": "/mnt/d", "TmpfsOptions": { "SizeBytes": 1_048_576, "Mode": 448 } },
                    { "Type": "volume", "Source": volume, "Target": "/mnt/e", "VolumeOptions": { "NoCopy": true } } ] } }),
        ),
        (
            "address",
            json!({ "HostConfig": { "NetworkMode": network }, "NetworkingConfig": {
                "EndpointsConfig": { network.clone(): {
                    "IPAMConfig": { "IPv4Address": format!("{prefix}.77") }, "Aliases": ["first", "second"] } } } }),
        ),
        (
            "mac",
            json!({ "MacAddress": "92:d0:c6:0a:29:33", "HostConfig": { "NetworkMode": other } }),
        ),
        ("host", json!({ "HostConfig": { "NetworkMode": "host" } })),
        ("none", json!({ "HostConfig": { "NetworkMode": "none" } })),
        (
            "bridge",
            json!({ "HostConfig": { "NetworkMode": "bridge" } }),
        ),
        (
            "namespaces",
            json!({ "HostConfig": { "PidMode": "host", "IpcMode": "host", "UTSMode": "host" } }),
        ),
        (
            "resources",
            json!({ "HostConfig": { "Memory": 67_108_864, "MemoryReservation": 33_554_432,
                "NanoCpus": 500_000_000, "CpusetCpus": "0", "PidsLimit": 50, "MemorySwappiness": 0,
                "OomScoreAdj": 100, "ShmSize": 1_048_576, "Init": true,
                "Ulimits": [{ "Name": "nofile", "Soft": 100, "Hard": 200 }] } }),
        ),
        (
            "ports",
            json!({ "ExposedPorts": { "80/tcp": {}, "53/udp": {} }, "HostConfig": { "PortBindings": {
                "80/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "0" }], "53/udp": [{ "HostPort": "" }] } } }),
        ),
        (
            "publishall",
            json!({ "HostConfig": { "PublishAllPorts": true } }),
        ),
    ];
    for (name, body) in shapes {
        comes_back(&host, &image, name, body, Run::Started).await;
    }
}

#[tokio::test]
async fn inherited_values_follow_the_new_image_and_chosen_ones_stay() {
    let host = Host::connect().await;
    let old = image(
        &host,
        "1",
        &[
            "ENV KEPT=1 CHANGED=old DROPPED=1 OVERRIDDEN=image",
            "LABEL kind=old fixed=yes",
            "EXPOSE 80/tcp 81/tcp",
            "USER root",
            "WORKDIR /data",
            r#"HEALTHCHECK --interval=30s CMD ["/bin/true"]"#,
            "VOLUME /data",
        ],
    )
    .await;
    let new = image(
        &host,
        "2",
        &[
            "ENV KEPT=1 CHANGED=new ADDED=1 OVERRIDDEN=image2",
            "LABEL kind=new fixed=no",
            "EXPOSE 82/tcp",
            "USER nobody",
            "WORKDIR /tmp",
            r#"HEALTHCHECK --interval=20s CMD ["/bin/echo","ok"]"#,
            "VOLUME /tmp/more",
        ],
    )
    .await;
    let body = json!({
        "Image": old,
        "Env": ["OVERRIDDEN=user", "MINE=1"],
        "Labels": { "mine": "1", "fixed": "user", "com.docker.compose.image": "sha256:old" },
        "ExposedPorts": { "81/tcp": {} },
        "Healthcheck": { "Retries": 7 },
        "HostConfig": { "PortBindings": { "81/tcp": [{ "HostIp": "127.0.0.1", "HostPort": "" }] } },
    });
    let id = started(&host, "app", body).await;
    let done = recreate(&host, &id, &new).await;
    assert_eq!(
        *done.config("Env"),
        json!([
            "OVERRIDDEN=user",
            "MINE=1",
            "KEPT=1",
            "CHANGED=new",
            "ADDED=1"
        ])
    );
    let labels = done.config("Labels");
    assert_eq!(labels["kind"], "new");
    assert_eq!(labels["fixed"], "user");
    assert_eq!(labels["mine"], "1");
    assert_eq!(labels["com.docker.compose.image"], done.new["Image"]);
    assert_eq!(labels["plimsoll.operation"], &*host.tag);
    assert_eq!(
        *done.config("ExposedPorts"),
        json!({ "81/tcp": {}, "82/tcp": {} })
    );
    assert_eq!(*done.config("User"), "nobody");
    assert_eq!(*done.config("WorkingDir"), "/tmp");
    let health = done.config("Healthcheck");
    assert_eq!(health["Test"], json!(["CMD", "/bin/echo", "ok"]));
    assert_eq!(health["Interval"], 20_000_000_000_i64);
    assert_eq!(health["Retries"], 7);
    // The volume that only the old image declared is still mounted, by its name.
    let volume = |inspect: &Value, path: &str| {
        let mounts = inspect["Mounts"].as_array().expect("mounts").clone();
        let mount = mounts.into_iter().find(|m| m["Destination"] == path);
        mount.map(|m| m["Name"].clone())
    };
    assert_eq!(volume(&done.new, "/data"), volume(&done.old, "/data"));
    assert!(volume(&done.new, "/tmp/more").is_some());
    assert!(done.spec.warnings.iter().any(|w| w.contains("/tmp/more")));
}

#[tokio::test]
async fn s6_a_file_in_an_anonymous_volume_is_there_after_two_updates() {
    let host = Host::connect().await;
    let image = image(&host, "1", &["VOLUME /data"]).await;
    let write = json!({
        "Image": image,
        "Cmd": ["/bin/sh", "-c", "echo run >> /data/file; cat /data/file; exec sleep 600"],
        "Volumes": { "/other": {} },
        "HostConfig": { "Mounts": [{ "Type": "volume", "Target": "/third" }] },
    });
    let mut id = started(&host, "app", write).await;
    let read = |id: ContainerId| {
        let engine = host.engine.clone();
        async move { engine.logs_tail(&id, 10, 1000).await.expect("logs") }
    };
    let names = |inspect: &Value| {
        let mut names: Vec<(String, String)> = inspect["Mounts"]
            .as_array()
            .expect("mounts")
            .iter()
            .map(|m| (m["Destination"].to_string(), m["Name"].to_string()))
            .collect();
        names.sort();
        names
    };
    for runs in 2..=3 {
        let done = recreate(&host, &id, &image).await;
        assert_eq!(names(&done.old), names(&done.new));
        assert_eq!(names(&done.new).len(), 3);
        let old = id;
        id = ContainerId::parse(done.new["Id"].as_str().expect("id")).expect("id");
        host.engine.remove(&old).await.expect("remove the old one");
        let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        let expected = "run\n".repeat(runs);
        while read(id.clone()).await != expected {
            assert!(tokio::time::Instant::now() < deadline);
        }
    }
}

#[tokio::test]
async fn s14_all_networks_are_attached_before_the_start_and_aliases_are_kept() {
    let host = Host::connect().await;
    let image = image(&host, "1", &[]).await;
    let first = host.network().await;
    let (second, prefix) = host.addressed_network().await;
    let address = format!("{prefix}.9");
    let body = json!({ "Image": image, "HostConfig": { "NetworkMode": first },
            "NetworkingConfig": { "EndpointsConfig": { first.clone(): { "Aliases": ["web"] } } } });
    let name = host.name("app");
    let id = host.create(&name, body).await;
    let endpoint = json!({ "Aliases": ["api"], "IPAMConfig": { "IPv4Address": address } });
    host.engine
        .connect_network(&second, &id, &endpoint)
        .await
        .expect("connect");
    host.engine.start(&id).await.expect("start");
    let done = recreate(&host, &id, &image).await;
    let networks = &done.new["NetworkSettings"]["Networks"];
    let new_id = &done.new["Id"].as_str().expect("id")[..12];
    assert_eq!(networks[&first]["Aliases"], json!(["web", new_id]));
    assert_eq!(networks[&second]["Aliases"], json!(["api", new_id]));
    assert_eq!(networks[&second]["IPAddress"], address.as_str());
    assert_eq!(done.spec.extra_networks.len(), 1);
}

#[tokio::test]
async fn s16_s18_references_to_a_recreated_container_get_its_new_id() {
    let host = Host::connect().await;
    let image = image(&host, "1", &["VOLUME /shared"]).await;
    let parent = started(
        &host,
        "parent",
        json!({ "Image": image, "HostConfig": { "IpcMode": "shareable" } }),
    )
    .await;
    let shares = format!("container:{parent}");
    let child = started(
        &host,
        "child",
        json!({ "Image": image, "HostConfig": {
            "NetworkMode": shares, "IpcMode": shares, "PidMode": shares,
            "VolumesFrom": [format!("{parent}:ro")] } }),
    )
    .await;
    let parent_name = host.engine.inspect(&parent).await.expect("inspect")["Name"].clone();
    let linked = started(&host, "linked", json!({ "Image": image, "HostConfig": {
            "Links": [format!("{}:db", parent_name.as_str().expect("name").trim_start_matches('/'))] } }))
        .await;
    let old_parent = host.engine.inspect(&parent).await.expect("inspect");
    let all = [
        old_parent.clone(),
        host.engine.inspect(&child).await.expect("inspect"),
        host.engine.inspect(&linked).await.expect("inspect"),
    ];
    let found = plimsoll_domain::spec::dependants(&old_parent, &all);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].id, child.as_str());
    assert_eq!(found[0].shares.len(), 4);

    // The link's target is read before the parent is renamed.
    let relinked = recreate(&host, &linked, &image).await;
    assert_eq!(relinked.host("Links").as_array().expect("links").len(), 1);
    host.engine
        .stop(&child, std::time::Duration::ZERO)
        .await
        .expect("stop");
    let new_parent = recreate(&host, &parent, &image).await;
    let new_id = new_parent.new["Id"].as_str().expect("id").to_owned();
    let remaps = BTreeMap::from([(parent.to_string(), new_id.clone())]);
    let done = recreate_with(&host, &child, &image, &remaps).await;
    for key in ["NetworkMode", "IpcMode", "PidMode"] {
        assert_eq!(*done.host(key), format!("container:{new_id}"), "{key}");
    }
    assert_eq!(*done.host("VolumesFrom"), json!([format!("{new_id}:ro")]));
    let child = ContainerId::parse(done.new["Id"].as_str().expect("id")).expect("id");
    host.engine
        .start(&child)
        .await
        .expect("the child starts in its new parent's namespaces");
}

#[tokio::test]
async fn a_tampered_container_is_told_from_the_plan() {
    let host = Host::connect().await;
    let image = image(&host, "1", &[]).await;
    let id = host
        .create(&host.name("app"), json!({ "Image": image, "Env": ["A=1"] }))
        .await;
    let old = host.engine.inspect(&id).await.expect("inspect");
    let mut spec = planned(&host, &old, &image, &BTreeMap::new()).await;
    spec.create_body["Env"] = json!(["A=2"]);
    spec.create_body["HostConfig"]["CapAdd"] = json!(["SYS_ADMIN"]);
    let created = host
        .engine
        .create(&host.name("app"), &spec.create_body)
        .await
        .expect("create");
    let new = host.engine.inspect(&created.id).await.expect("inspect");
    let differences = fidelity(&spec.expected, &new);
    let paths: Vec<&str> = differences.iter().map(|d| d.path.as_str()).collect();
    assert_eq!(paths, ["Config.Env", "HostConfig.CapAdd"]);
}
