//! What a container says of the others that it needs: Compose's labels, the namespaces and volumes
//! that it takes from others, and the labels that ask for a restart after others.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{container::ComposeRef, labels::UserLabels};

/// So many names are taken from one label; what names more is no list that a person wrote.
const MAX_NAMES: usize = 100;

/// Everything here was set by the user or by Compose: labels of the image's own enable nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wiring {
    /// Compose's number of this container among those of its service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// On the host where Compose was run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub config_files: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub working_directory: Option<String>,
    /// By name, each once. None where `dd.depends_on` says what is needed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ServiceDependency>,
    /// Containers that this one comes after, where both are updated or restarted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comes_after: Vec<String>,
    /// The service that `docker compose run` made this container of. It is none of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_off: Option<ComposeRef>,
    /// The container, by id or name, whose network this one has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipc: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes_from: Vec<String>,
    /// Containers that this one is to be restarted after.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restart_after: Vec<String>,
}

/// One entry of a service's `depends_on`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceDependency {
    pub service: String,
    pub condition: Condition,
    /// `restart: true`: this service restarts when the other one does.
    pub restart: bool,
}

/// What a dependent waits for, the least first.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Condition {
    #[default]
    #[serde(rename = "service_started")]
    Started,
    #[serde(rename = "service_healthy")]
    Healthy,
    #[serde(rename = "service_completed_successfully")]
    CompletedSuccessfully,
}

impl Condition {
    pub const ALL: [Self; 3] = [Self::Started, Self::Healthy, Self::CompletedSuccessfully];

    /// As Compose writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "service_started",
            Self::Healthy => "service_healthy",
            Self::CompletedSuccessfully => "service_completed_successfully",
        }
    }
}

impl Wiring {
    /// Reads a container's labels and its inspect document.
    pub fn read(labels: &UserLabels<'_>, inspect: &Value) -> Self {
        let compose = |key: &str| labels.get(&format!("com.docker.compose.{key}"));
        let host = &inspect["HostConfig"];
        let other = |key: &str| {
            let mode = host[key].as_str()?.strip_prefix("container:")?;
            Some(mode.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty())
        };
        let is_one_off = compose("oneoff").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        let service = compose("project").zip(compose("service"));
        let services = depends_on(compose("depends_on").unwrap_or_default());
        let needs = Needs::read(|key| labels.even_blank(key), services);
        Self {
            number: compose("container-number").and_then(|number| number.parse().ok()),
            config_files: names(compose("project.config_files")),
            working_directory: compose("project.working_dir").map(str::to_owned),
            depends_on: needs.services,
            comes_after: needs.comes_after,
            one_off: service
                .filter(|_| is_one_off)
                .map(|(project, service)| ComposeRef {
                    project: project.to_owned(),
                    service: service.to_owned(),
                }),
            network: other("NetworkMode"),
            ipc: other("IpcMode"),
            pid: other("PidMode"),
            volumes_from: volumes_from(&host["VolumesFrom"]),
            restart_after: needs.restart_after,
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What a container or a service says that it needs.
pub struct Needs {
    pub services: Vec<ServiceDependency>,
    pub comes_after: Vec<String>,
    pub restart_after: Vec<String>,
}

impl Needs {
    /// The labels that say so.
    pub const LABELS: [&str; 3] = [
        "docksmith.restart-after",
        "dd.depends_on",
        "dd.depends_on.action",
    ];

    /// As Drydock reads `dd.depends_on` and `dd.depends_on.action`: the former replaces what Compose
    /// says, also where it is empty, and the latter, `update` or `restart`, goes for either.
    pub fn read<'a>(
        label: impl Fn(&str) -> Option<&'a str>,
        compose: Vec<ServiceDependency>,
    ) -> Self {
        let [after, depends_on, action] = Self::LABELS.map(label);
        let restarts = action.is_some_and(|action| action.eq_ignore_ascii_case("restart"));
        let mut restart_after = containers(after);
        let (mut services, mut comes_after) = (Vec::new(), Vec::new());
        match depends_on {
            None => services = compose,
            Some(list) if restarts => restart_after.extend(containers(Some(list))),
            Some(list) => comes_after = containers(Some(list)),
        }
        for one in &mut services {
            one.restart |= restarts;
        }
        for list in [&mut comes_after, &mut restart_after] {
            list.sort();
            list.dedup();
        }
        Self {
            services,
            comes_after,
            restart_after,
        }
    }
}

/// Names of containers, separated by commas.
fn containers(list: Option<&str>) -> Vec<String> {
    let names = names(list).into_iter();
    names
        .map(|name| name.trim_start_matches('/').to_owned())
        .collect()
}

/// `db:service_healthy:true,cache:service_started:false`; older versions of Compose wrote less.
fn depends_on(label: &str) -> Vec<ServiceDependency> {
    let mut found: Vec<ServiceDependency> = names(Some(label))
        .into_iter()
        .filter_map(|entry| {
            let mut parts = entry.split(':').map(str::trim);
            let service = parts.next().filter(|name| !name.is_empty())?;
            let condition = parts.next().unwrap_or_default();
            let known = Condition::ALL.into_iter().find(|c| c.as_str() == condition);
            Some(ServiceDependency {
                service: service.to_owned(),
                condition: known.unwrap_or_default(),
                restart: parts.next() == Some("true"),
            })
        })
        .collect();
    // Compose writes them in the order of a hash table.
    found.sort_by(|a, b| a.service.cmp(&b.service));
    found.dedup_by(|a, b| a.service == b.service);
    found
}

/// `name[:mode]` each.
fn volumes_from(value: &Value) -> Vec<String> {
    let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut found: Vec<String> = entries
        .iter()
        .filter_map(Value::as_str)
        .map(|entry| entry.split(':').next().unwrap_or(entry))
        .map(|name| name.trim_start_matches('/').to_owned())
        .filter(|name| !name.is_empty())
        .take(MAX_NAMES)
        .collect();
    found.sort();
    found.dedup();
    found
}

fn names(list: Option<&str>) -> Vec<String> {
    list.unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .take(MAX_NAMES)
        .map(str::to_owned)
        .collect()
}
