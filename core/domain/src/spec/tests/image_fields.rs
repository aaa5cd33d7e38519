//! Fields that an image has defaults for: S1 to S5.

use super::*;

#[track_caller]
fn check_env(container: Value, old: Value, new: Value, sent: Value, expected: Value) {
    let case = Case::new(
        json!({ "Env": container }),
        json!({ "Env": old }),
        json!({ "Env": new }),
    );
    let spec = case.plan();
    assert_eq!(spec.create_body["Env"], sent, "sent");
    let seen = match &spec.expected["Config"]["Env"] {
        Value::Null => json!([]),
        list => list.clone(),
    };
    assert_eq!(seen, expected, "expected");
}

#[test]
fn s1_a_changed_default_follows_the_image() {
    check_env(
        json!(["PATH=/bin", "V=1"]),
        json!(["PATH=/bin", "V=1"]),
        json!(["PATH=/usr/bin", "V=2"]),
        json!([]),
        json!(["PATH=/usr/bin", "V=2"]),
    );
}

#[test]
fn s1_an_override_stays_and_a_removed_default_goes() {
    check_env(
        json!(["V=user", "GONE=1", "PATH=/bin"]),
        json!(["PATH=/bin", "V=1", "GONE=1"]),
        json!(["PATH=/bin", "V=2", "NEW=1"]),
        json!(["V=user"]),
        json!(["V=user", "PATH=/bin", "NEW=1"]),
    );
}

#[test]
fn s1_an_override_of_a_removed_default_stays() {
    check_env(
        json!(["V=user"]),
        json!(["V=1"]),
        json!([]),
        json!(["V=user"]),
        json!(["V=user"]),
    );
}

#[test]
fn s1_duplicates_and_bare_names_survive_in_order() {
    check_env(
        json!(["B=2", "A=1", "B=1", "BARE", "D=x", "EMPTY="]),
        json!(["D=x"]),
        json!(["D=y", "BARE=set"]),
        json!(["B=2", "A=1", "B=1", "BARE", "EMPTY="]),
        json!(["B=2", "A=1", "B=1", "BARE", "EMPTY=", "D=y"]),
    );
}

#[test]
fn s1_a_duplicate_that_ends_in_the_default_keeps_its_winner() {
    check_env(
        json!(["A=2", "A=1"]),
        json!(["A=1"]),
        json!(["A=9"]),
        json!(["A=2", "A=1"]),
        json!(["A=2", "A=1"]),
    );
}

#[test]
fn s1_a_value_with_equals_signs_is_one_value() {
    check_env(
        json!(["OPTS=-a=1 -b=2"]),
        json!(["OPTS=-a=1"]),
        json!(["OPTS=-a=3"]),
        json!(["OPTS=-a=1 -b=2"]),
        json!(["OPTS=-a=1 -b=2"]),
    );
}

#[track_caller]
fn check_program(
    container: [Value; 2],
    old: [Value; 2],
    new: [Value; 2],
    sent: [Value; 2],
    expected: [Value; 2],
) {
    let config =
        |[entrypoint, command]: [Value; 2]| json!({ "Entrypoint": entrypoint, "Cmd": command });
    let spec = Case::new(config(container), config(old), config(new)).plan();
    assert_eq!(
        [field(&spec, "Entrypoint").0, field(&spec, "Cmd").0],
        sent,
        "sent"
    );
    assert_eq!(
        [field(&spec, "Entrypoint").1, field(&spec, "Cmd").1],
        expected,
        "expected"
    );
}

#[test]
fn s2_inherited_entrypoint_and_command_follow_the_image() {
    check_program(
        [json!(["/e"]), json!(["c"])],
        [json!(["/e"]), json!(["c"])],
        [json!(["/e2"]), json!(["c2"])],
        [Value::Null, Value::Null],
        [json!(["/e2"]), json!(["c2"])],
    );
}

#[test]
fn s2_an_own_command_stays_behind_a_new_entrypoint() {
    check_program(
        [json!(["/e"]), json!(["mine"])],
        [json!(["/e"]), json!(["c"])],
        [json!(["/e2"]), json!(["c2"])],
        [Value::Null, json!(["mine"])],
        [json!(["/e2"]), json!(["mine"])],
    );
}

#[test]
fn s2_an_own_entrypoint_keeps_a_command_that_reads_like_the_images() {
    check_program(
        [json!(["/mine"]), json!(["c"])],
        [json!(["/e"]), json!(["c"])],
        [json!(["/e2"]), json!(["c2"])],
        [json!(["/mine"]), json!(["c"])],
        [json!(["/mine"]), json!(["c"])],
    );
}

#[test]
fn s2_an_own_entrypoint_without_a_command_gets_none() {
    check_program(
        [json!(["/mine"]), Value::Null],
        [json!(["/e"]), json!(["c"])],
        [json!(["/e2"]), json!(["c2"])],
        [json!(["/mine"]), Value::Null],
        [json!(["/mine"]), Value::Null],
    );
}

#[test]
fn s2_an_entrypoint_equal_to_the_images_but_without_its_command_is_own() {
    check_program(
        [json!(["/e"]), json!([])],
        [json!(["/e"]), json!(["c"])],
        [json!(["/e2"]), json!(["c2"])],
        [json!(["/e"]), Value::Null],
        [json!(["/e"]), Value::Null],
    );
}

#[test]
fn s2_a_cleared_entrypoint_stays_cleared() {
    check_program(
        [Value::Null, json!(["/bin/x"])],
        [json!(["/e"]), json!(["c"])],
        [json!(["/e2"]), json!(["c2"])],
        [json!([""]), json!(["/bin/x"])],
        [Value::Null, json!(["/bin/x"])],
    );
}

#[test]
fn s3_each_field_is_decided_by_itself() {
    let old = json!({ "User": "root", "WorkingDir": "/a", "StopSignal": "SIGINT",
        "ExposedPorts": { "80/tcp": {}, "81/tcp": {} } });
    let new = json!({ "User": "app", "WorkingDir": "/b", "StopSignal": "SIGQUIT",
        "ExposedPorts": { "82/tcp": {} } });
    let mut config = old.clone();
    merge_into(
        &mut config,
        json!({ "WorkingDir": "/mine", "Shell": ["/bin/bash"],
        "ExposedPorts": { "9/tcp": {} } }),
    );
    let spec = Case::new(config, old, new).plan();
    assert_eq!(field(&spec, "User"), (Value::Null, json!("app")));
    assert_eq!(field(&spec, "WorkingDir"), (json!("/mine"), json!("/mine")));
    assert_eq!(field(&spec, "StopSignal"), (Value::Null, json!("SIGQUIT")));
    assert_eq!(field(&spec, "Shell").0, json!(["/bin/bash"]));
    let (sent, expected) = field(&spec, "ExposedPorts");
    assert_eq!(sent, json!({ "9/tcp": {} }));
    assert_eq!(expected, json!({ "9/tcp": {}, "82/tcp": {} }));
}

#[test]
fn s3_a_published_port_stays_exposed_when_the_image_forgets_it() {
    let exposed = json!({ "ExposedPorts": { "80/tcp": {} } });
    let case = Case::new(exposed.clone(), exposed, json!({})).with(json!({ "HostConfig": {
        "PortBindings": { "80/tcp": [{ "HostIp": "", "HostPort": "8080" }] } } }));
    assert_eq!(
        field(&case.plan(), "ExposedPorts").0,
        json!({ "80/tcp": {} })
    );
}

#[test]
fn s4_labels_of_the_image_follow_it_and_ours_are_new() {
    let case = Case::new(
        json!({ "Labels": { "version": "1", "gone": "1", "mine": "x", "empty": "",
            "plimsoll.operation": "op-0", "plimsoll.epoch": "7" } }),
        json!({ "Labels": { "version": "1", "gone": "1" } }),
        json!({ "Labels": { "version": "2", "mine": "image" } }),
    );
    let (sent, expected) = field(&case.plan(), "Labels");
    assert_eq!(
        sent,
        json!({ "mine": "x", "empty": "", "plimsoll.operation": "op-1" })
    );
    assert_eq!(
        expected,
        json!({ "version": "2", "mine": "x", "empty": "", "plimsoll.operation": "op-1" })
    );
}

#[track_caller]
fn check_health(container: Value, old: Value, new: Value, sent: Value, expected: Value) {
    let config = |check: Value| json!({ "Healthcheck": check });
    let spec = Case::new(config(container), config(old), config(new)).plan();
    assert_eq!(field(&spec, "Healthcheck"), (sent, expected));
}

#[test]
fn s5_an_inherited_check_follows_the_image() {
    let (old, new) = (
        json!({ "Test": ["CMD", "a"], "Interval": 1 }),
        json!({ "Test": ["CMD", "b"] }),
    );
    check_health(old.clone(), old, new.clone(), Value::Null, new);
}

#[test]
fn s5_a_partial_override_keeps_its_part_only() {
    check_health(
        json!({ "Test": ["CMD", "a"], "Interval": 9, "Retries": 3 }),
        json!({ "Test": ["CMD", "a"], "Interval": 1, "Retries": 3 }),
        json!({ "Test": ["CMD", "b"], "Interval": 2, "Retries": 4 }),
        json!({ "Interval": 9 }),
        json!({ "Test": ["CMD", "b"], "Interval": 9, "Retries": 4 }),
    );
}

#[test]
fn s5_a_disabled_check_stays_disabled() {
    check_health(
        json!({ "Test": ["NONE"] }),
        json!({ "Test": ["CMD", "a"] }),
        json!({ "Test": ["CMD", "b"] }),
        json!({ "Test": ["NONE"] }),
        json!({ "Test": ["NONE"] }),
    );
}

#[test]
fn s5_a_check_that_the_new_image_lacks_is_warned_of() {
    let old = json!({ "Healthcheck": { "Test": ["CMD", "a"] } });
    let spec = Case::new(old.clone(), old, json!({})).plan();
    assert!(
        spec.warnings[0].contains("no health check"),
        "{:?}",
        spec.warnings
    );
}
