//! Where images and containers come from, who manages them, and bad input: S24 to S31, S-48.

use super::*;

#[test]
fn s24_the_digest_of_the_right_repository_is_chosen() {
    let image = json!({ "RepoDigests": ["mirror:5000/nginx@sha256:m", "nginx@sha256:hub", "ghcr.io/o/nginx@sha256:g"] });
    for (repository, digest) in [
        ("nginx", Some("sha256:hub")),
        ("docker.io/library/nginx", Some("sha256:hub")),
        ("mirror:5000/nginx", Some("sha256:m")),
        ("ghcr.io/o/nginx", Some("sha256:g")),
        ("o/nginx", None),
    ] {
        assert_eq!(repo_digest(&image, repository), digest, "{repository}");
    }
    assert_eq!(repo_digest(&json!({ "RepoDigests": null }), "nginx"), None);
}

#[test]
fn s25_compose_labels_are_kept_and_its_image_label_follows() {
    let labels = json!({ "com.docker.compose.project": "p", "com.docker.compose.service": "s",
        "com.docker.compose.config-hash": "abc", "com.docker.compose.image": "sha256:old" });
    // Even if the image was built to carry the same.
    let case = Case::new(
        json!({ "Labels": labels }),
        json!({ "Labels": labels }),
        json!({}),
    );
    let (sent, _) = field(&case.plan(), "Labels");
    assert_eq!(sent["com.docker.compose.config-hash"], "abc");
    assert_eq!(sent["com.docker.compose.project"], "p");
    assert_eq!(sent["com.docker.compose.image"], "sha256:new");
}

#[test]
fn s26_secrets_that_compose_copied_in_are_a_reason_to_refuse() {
    let mut case = Case::plain().with(json!({
        "Config": { "Labels": { "com.docker.compose.project": "p" } },
        "Mounts": [{ "Type": "bind", "Source": "/s", "Destination": "/run/secrets/mounted" }] }));
    case.changed_paths = vec![
        "/run".into(),
        "/run/secrets".into(),
        "/run/secrets/mounted".into(),
    ];
    assert!(case.try_plan().is_ok());
    case.changed_paths.push("/run/secrets/token".into());
    let refusal = case.try_plan().unwrap_err();
    assert!(
        refusal.to_string().contains("/run/secrets/token"),
        "{refusal}"
    );
}

#[test]
fn s27_leftovers_of_compose_are_recognised() {
    let named =
        |name: &str, label: &str| json!({ "Name": name, "Config": { "Labels": { label: "p" } } });
    let compose = "com.docker.compose.project";
    assert!(is_compose_leftover(&named("/0123456789ab_web", compose)));
    assert!(!is_compose_leftover(&named("/0123456789ab_web", "other")));
    assert!(!is_compose_leftover(&named("/myproject_web_1", compose)));
}

#[test]
fn s28_s29_what_others_manage_is_refused_unless_the_image_says_so() {
    for (label, part) in [
        ("com.docker.swarm.task.id", "Swarm service"),
        ("io.kubernetes.pod.name", "Kubernetes"),
        ("com.hashicorp.nomad.alloc_id", "Nomad"),
        ("PODMAN_SYSTEMD_UNIT", "systemd"),
    ] {
        let labels = json!({ "Labels": { label: "x" } });
        let refusal = Case::new(labels.clone(), json!({}), json!({}))
            .try_plan()
            .unwrap_err();
        assert!(refusal.to_string().contains(part), "{refusal}");
        assert!(
            Case::new(labels.clone(), labels, json!({}))
                .try_plan()
                .is_ok()
        );
    }
}

#[test]
fn s31_the_state_before_is_read() {
    let state = |state: Value| prior_state(&json!({ "State": state }));
    assert_eq!(
        state(json!({ "Running": true, "Paused": true })),
        PriorState::Paused
    );
    assert_eq!(
        state(json!({ "Running": true, "Restarting": true })),
        PriorState::Running
    );
    assert_eq!(
        state(json!({ "Running": false, "Dead": true })),
        PriorState::Stopped
    );
    assert_eq!(
        stop_grace(&json!({ "Config": { "StopTimeout": 120 } })).as_secs(),
        120
    );
    assert_eq!(stop_grace(&json!({ "Config": {} })).as_secs(), 10);
    assert_eq!(
        stop_grace(&json!({ "Config": { "StopTimeout": -1 } })).as_secs(),
        3600
    );
}

#[test]
fn s48_an_image_grants_nothing() {
    let hostile = json!({ "Labels": { "x": "1" }, "HostConfig": { "Privileged": true }, "Privileged": true,
        "CapAdd": ["ALL"], "Devices": ["/dev/sda"], "Volumes": { "/var/run/docker.sock": {} },
        "SecurityOpt": ["seccomp=unconfined"], "NetworkMode": "host" });
    let case = Case::new(json!({}), json!({}), hostile);
    let spec = case.plan();
    let plain = Case::plain().plan();
    assert_eq!(host(&spec), host(&plain));
    let gained = |old: Value, new: Value| {
        privilege::gains(old.as_object().expect("old"), new.as_object().expect("new"))
    };
    assert_eq!(
        gained(json!({}), json!({ "Privileged": true })),
        ["Privileged"]
    );
    assert_eq!(
        gained(json!({ "CapAdd": ["A"] }), json!({ "CapAdd": ["A", "B"] })),
        ["CapAdd"]
    );
    assert_eq!(gained(json!({}), json!({ "Binds": ["/:/h"] })), ["Binds"]);
    assert_eq!(gained(json!({}), json!({ "PidMode": "host" })), ["PidMode"]);
    assert_eq!(
        gained(json!({ "SecurityOpt": ["a"] }), json!({})),
        ["SecurityOpt"]
    );
    assert!(gained(json!({ "CapAdd": ["A", "B"] }), json!({ "CapAdd": ["A"] })).is_empty());
}

#[test]
fn a_missing_old_image_keeps_everything_and_says_so() {
    let mut case = Case::new(
        json!({ "Env": ["A=1"], "Cmd": ["x"] }),
        json!({}),
        json!({ "Env": ["A=2"], "Cmd": ["y"] }),
    );
    case.old_image = Value::Null;
    let spec = case.plan();
    assert_eq!(field(&spec, "Env").1, json!(["A=1"]));
    assert_eq!(field(&spec, "Cmd").1, json!(["x"]));
    assert!(spec.warnings[0].contains("is gone"));
}

#[test]
fn malformed_input_is_an_error_and_never_a_panic() {
    for container in [
        json!(null),
        json!({}),
        json!([]),
        json!({ "Config": 1 }),
        json!({ "Config": {} }),
    ] {
        let mut case = Case::plain();
        case.container = container;
        assert!(matches!(case.try_plan(), Err(Refusal::Unreadable(_))));
    }
    let mut case = Case::plain();
    case.container = json!({ "Config": { "Env": "x", "Labels": [1], "Healthcheck": 3, "Cmd": {}, "Volumes": [] },
        "HostConfig": { "Binds": [1, null], "Mounts": [{}, 1], "Links": [null], "VolumesFrom": [1] },
        "Mounts": { "a": 1 }, "NetworkSettings": 3 });
    case.old_image = json!([]);
    case.new_image = json!("text");
    let _ = case.try_plan();
}
