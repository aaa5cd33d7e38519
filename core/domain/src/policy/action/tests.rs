use serde_json::json;

use super::*;
use crate::container::SemverDiff;
use crate::testing::at;

fn error(body: Value) -> String {
    PolicyAction::parse(&body).unwrap_err().to_string()
}

fn after(policy: Value, body: Value) -> Value {
    let policy: Option<UpdatePolicy> = serde_json::from_value(policy).unwrap();
    let action = PolicyAction::parse(&body).unwrap();
    serde_json::to_value(apply(policy, &action, None, at(0)).unwrap()).unwrap()
}

#[test]
fn bad_bodies_get_the_contracts_messages() {
    for (body, message) in [
        (json!(null), "Action is required"),
        (json!([]), "Action is required"),
        (json!({}), "Action is required"),
        (json!({"action": ""}), "Action is required"),
        (json!({"action": 7}), "Action is required"),
        (json!({"action": "jump"}), "Unknown action jump"),
        (
            json!({"action": "remove-skip"}),
            "Invalid remove-skip kind; expected \"tag\" or \"digest\"",
        ),
        (
            json!({"action": "remove-skip", "kind": "x", "value": ""}),
            "Invalid remove-skip kind; expected \"tag\" or \"digest\"",
        ),
        (
            json!({"action": "remove-skip", "kind": "tag", "value": " "}),
            "Invalid remove-skip value; expected a non-empty string",
        ),
        (
            json!({"action": "snooze", "snoozeUntil": "soon", "days": 0}),
            "Invalid snoozeUntil date",
        ),
        (
            json!({"action": "snooze", "snoozeUntil": "2026-13-01"}),
            "Invalid snoozeUntil date",
        ),
        (
            json!({"action": "snooze", "snoozeUntil": {}}),
            "Invalid snoozeUntil date",
        ),
        (
            json!({"action": "snooze", "days": 0}),
            "Invalid snooze days value",
        ),
        (
            json!({"action": "snooze", "days": -1}),
            "Invalid snooze days value",
        ),
        (
            json!({"action": "snooze", "days": 365.01}),
            "Invalid snooze days value",
        ),
        (
            json!({"action": "snooze", "days": "many"}),
            "Invalid snooze days value",
        ),
        (
            json!({"action": "snooze", "days": "NaN"}),
            "Invalid snooze days value",
        ),
        (
            json!({"action": "snooze", "days": "inf"}),
            "Invalid snooze days value",
        ),
        (
            json!({"action": "snooze", "days": [7]}),
            "Invalid snooze days value",
        ),
        (
            json!({"action": "set-maturity-policy", "minAgeDays": 0}),
            "Invalid maturity mode; expected \"all\" or \"mature\"",
        ),
        (
            json!({"action": "set-maturity-policy", "mode": "mature", "minAgeDays": 0}),
            "Invalid maturity minAgeDays value",
        ),
        (
            json!({"action": "set-maturity-policy", "mode": "mature", "minAgeDays": 366}),
            "Invalid maturity minAgeDays value",
        ),
        (
            json!({"action": "set-maturity-policy", "mode": "mature", "minAgeDays": 1.5}),
            "Invalid maturity minAgeDays value",
        ),
    ] {
        assert_eq!(error(body.clone()), message, "{body}");
    }
}

#[test]
fn skipping_the_current_update_needs_one() {
    let kind = |kind, remote_value| UpdateKind {
        kind,
        local_value: None,
        remote_value,
        semver_diff: SemverDiff::Unknown,
    };
    let skip =
        |current: Option<&UpdateKind<'_>>| apply(None, &PolicyAction::SkipCurrent, current, at(0));
    assert_eq!(skip(None), Err(PolicyError::NothingToSkip));
    let unknown = kind(UpdateKindName::Unknown, None);
    assert_eq!(skip(Some(&unknown)), Err(PolicyError::NothingToSkip));
    let empty = kind(UpdateKindName::Tag, None);
    assert_eq!(skip(Some(&empty)), Err(PolicyError::NoValueToSkip));
    let tag = kind(UpdateKindName::Tag, Some("1.1"));
    assert_eq!(skip(Some(&tag)).unwrap().unwrap().skip_tags, ["1.1"]);
    let digest = kind(UpdateKindName::Digest, Some("sha256:a"));
    let once = skip(Some(&digest)).unwrap();
    let twice = apply(once, &PolicyAction::SkipCurrent, Some(&digest), at(0)).unwrap();
    assert_eq!(twice.unwrap().skip_digests, ["sha256:a"]);
}

#[test]
fn skips_are_bounded_and_the_oldest_give_way() {
    let mut policy = None;
    for n in 0..250 {
        let tag = format!("1.{n}");
        let current = UpdateKind {
            kind: UpdateKindName::Tag,
            local_value: None,
            remote_value: Some(&tag),
            semver_diff: SemverDiff::Minor,
        };
        policy = apply(policy, &PolicyAction::SkipCurrent, Some(&current), at(0)).unwrap();
    }
    let tags = policy.unwrap().skip_tags;
    assert_eq!((tags.len(), tags[0].as_str()), (200, "1.50"));
}

#[test]
fn each_action_changes_its_own_fields() {
    let full = || {
        json!({
            "skipTags": ["1.1", "1.2"], "skipDigests": ["sha256:a"],
            "snoozeUntil": "2030-01-01T00:00:00.000Z",
            "maturityMode": "mature", "maturityMinAgeDays": 3,
        })
    };
    let without = |keys: &[&str]| {
        let mut policy = full();
        for key in keys {
            policy.as_object_mut().unwrap().remove(*key);
        }
        policy
    };
    let removed = after(
        full(),
        json!({"action": "remove-skip", "kind": "tag", "value": "1.1"}),
    );
    assert_eq!(removed["skipTags"], json!(["1.2"]));
    assert_eq!(
        after(
            full(),
            json!({"action": "remove-skip", "kind": "digest", "value": "sha256:a"})
        ),
        without(&["skipDigests"])
    );
    assert_eq!(
        after(full(), json!({"action": "clear-skips"})),
        without(&["skipTags", "skipDigests"])
    );
    assert_eq!(
        after(full(), json!({"action": "unsnooze"})),
        without(&["snoozeUntil"])
    );
    assert_eq!(
        after(full(), json!({"action": "clear-maturity-policy"})),
        without(&["maturityMode", "maturityMinAgeDays"])
    );
    assert_eq!(after(full(), json!({"action": "clear"})), Value::Null);
    let kept = after(
        full(),
        json!({"action": "set-maturity-policy", "mode": "all"}),
    );
    assert_eq!(
        (&kept["maturityMode"], &kept["maturityMinAgeDays"]),
        (&json!("all"), &json!(3))
    );
}

#[test]
fn snoozes_take_days_or_a_date() {
    let until = |body: Value| after(Value::Null, body)["snoozeUntil"].clone();
    assert_eq!(
        until(json!({"action": "snooze"})),
        crate::iso::to_string(at(7 * 86_400))
    );
    assert_eq!(
        until(json!({"action": "snooze", "days": 0.5})),
        crate::iso::to_string(at(43_200))
    );
    assert_eq!(
        until(json!({"action": "snooze", "days": "365"})),
        crate::iso::to_string(at(365 * 86_400))
    );
    assert_eq!(
        until(json!({"action": "snooze", "snoozeUntil": "2030-05-06"})),
        "2030-05-06T00:00:00.000Z"
    );
    assert_eq!(
        until(json!({"action": "snooze", "snoozeUntil": "2030-05-06T01:02:03+01:00", "days": 0})),
        "2030-05-06T00:02:03.000Z"
    );
    assert_eq!(
        until(json!({"action": "snooze", "snoozeUntil": null, "days": 1})),
        crate::iso::to_string(at(86_400))
    );
}

#[test]
fn an_empty_policy_is_none() {
    for action in ["clear", "clear-skips", "unsnooze", "clear-maturity-policy"] {
        assert_eq!(after(Value::Null, json!({"action": action})), Value::Null);
    }
    assert_eq!(
        after(
            Value::Null,
            json!({"action": "set-maturity-policy", "mode": "mature"})
        ),
        json!({"maturityMode": "mature", "maturityMinAgeDays": 7})
    );
}
