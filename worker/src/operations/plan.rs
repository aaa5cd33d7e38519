//! What is in the database before the first change (reliability.md R-4): what the old container
//! was, and what the new one will be.

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    ids::OperationId,
    recovery::Prior,
    spec::{NewSpec, PriorState, prior_state},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{compose::ComposePlan, labels::LabelPlan, observe::own_name, prepare::own_repo_digest};

/// What the old container was: enough to make it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The engine's inspection, unabridged, before anything was changed. Holds environment values.
    pub container: Value,
    /// The inspection of its image; `Null` if the image is gone.
    pub image: Value,
    /// The digest its image was pulled by, from the repository the container names.
    pub repo_digest: Option<String>,
    pub prior: Prior,
    /// The containers that live in its namespaces, in the order they start in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependants: Vec<Snapshot>,
}

/// What the new container will be.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// `repository:tag`, as `docker ps` will show it.
    pub reference: String,
    /// The engine's id of the target image: what must run in the end.
    pub image_id: String,
    /// The label rules of the container, as far as the gate needs them.
    pub gate: GateRules,
    pub spec: NewSpec,
    /// What is to be written into a Compose file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<ComposePlan>,
    /// What is to be written there of labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<LabelPlan>,
}

/// What the container's labels and the settings ask of the health gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GateRules {
    pub stability_secs: u64,
    pub health_deadline_secs: Option<u64>,
    pub lifetime: plimsoll_domain::gate::Lifetime,
}

impl Snapshot {
    /// As both were inspected.
    pub(super) fn of(container: Value, image: Value, dependants: Vec<Self>) -> Self {
        Self {
            prior: prior_of(&container),
            repo_digest: own_repo_digest(&container, &image),
            container,
            image,
            dependants,
        }
    }

    pub(super) fn name(&self) -> &str {
        own_name(&self.container)
    }

    pub(super) fn image_id(&self) -> &str {
        self.container["Image"].as_str().unwrap_or_default()
    }

    /// What the container calls its image.
    pub(super) fn reference(&self) -> &str {
        self.container["Config"]["Image"]
            .as_str()
            .unwrap_or_default()
    }

    /// The restart policy as the user set it.
    pub(super) fn restart_policy(&self) -> &Value {
        &self.container["HostConfig"]["RestartPolicy"]
    }

    /// Whether somebody has changed the container's configuration since (reliability.md F-7).
    pub(super) fn is_still_true_of(&self, container: &Value) -> bool {
        let configuration = |inspect: &Value| {
            let networks = inspect["NetworkSettings"]["Networks"].as_object();
            let mut names: Vec<String> = networks
                .into_iter()
                .flat_map(|n| n.keys().cloned())
                .collect();
            names.sort();
            (
                inspect["Config"].clone(),
                inspect["HostConfig"].clone(),
                names,
            )
        };
        configuration(&self.container) == configuration(container)
            && self.image_id() == container["Image"]
    }
}

pub(super) fn prior_of(container: &Value) -> Prior {
    match prior_state(container) {
        PriorState::Running => Prior::Running,
        PriorState::Paused => Prior::Paused,
        PriorState::Stopped => Prior::Stopped,
    }
}

/// `<name>-old-<milliseconds>`, the pattern of the contract. From the operation's id, so that
/// every worker finds the same name.
pub(super) fn temporary_name(name: &str, operation: OperationId, created: DateTime<Utc>) -> String {
    let milliseconds = operation
        .as_uuid()
        .get_timestamp()
        .map(|time| {
            let (seconds, nanoseconds) = time.to_unix();
            seconds * 1_000 + u64::from(nanoseconds) / 1_000_000
        })
        .or_else(|| u64::try_from(created.timestamp_millis()).ok())
        .unwrap_or_default();
    format!("{name}-old-{milliseconds:013}")
}

/// Evidence of a success that needed no change.
pub(super) fn already_current(image_id: &str, observed_at: DateTime<Utc>) -> Value {
    json!({ "by": "already current", "imageId": image_id, "observedAt": observed_at })
}

#[cfg(test)]
mod tests {
    use plimsoll_domain::target::is_rollback_name;

    use super::*;

    #[test]
    fn the_temporary_name_is_one_that_is_never_updated_itself() {
        let id = OperationId::generate();
        let name = temporary_name("web", id, Utc::now());
        assert!(is_rollback_name(&name), "{name}");
        assert_eq!(name, temporary_name("web", id, Utc::now()));
    }

    #[test]
    fn a_change_of_configuration_is_noticed() {
        let container = json!({
            "Image": "sha256:a", "Config": {"Env": ["A=1"]}, "HostConfig": {},
            "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "10.0.0.1"}}},
        });
        let snapshot = Snapshot {
            container: container.clone(),
            image: Value::Null,
            repo_digest: None,
            prior: Prior::Running,
            dependants: Vec::new(),
        };
        let mut moved = container.clone();
        moved["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] = json!("10.0.0.2");
        assert!(snapshot.is_still_true_of(&moved));
        let mut changed = container;
        changed["HostConfig"]["Memory"] = json!(1 << 20);
        assert!(!snapshot.is_still_true_of(&changed));
    }
}
