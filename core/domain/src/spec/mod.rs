//! The new container's specification: a three-way merge of the old container, the old image's
//! defaults and the new image's defaults (DESIGN.md 4; reliability.md 2.8, rows S1-S31).
//!
//! The rule, per field: a value that equals the old image's default follows the new image; any
//! other value was set by the user and stays. A user who set the very value of the old default
//! cannot be told from one who set nothing; the tie goes to the image, and the report shows it.
//!
//! The body for `POST /containers/create` carries only what the user set: the engine merges the
//! new image's defaults into it by itself, and [`NewSpec::expected`] predicts the outcome, so
//! that [`fidelity`] can compare it with an inspection of the new container (invariant I-7).
//!
//! All JSON here is the Docker Engine API's own, as `inspect` shows it and `create` takes it.

mod config;
mod dependants;
mod entrypoint;
mod env;
mod fidelity;
mod health;
mod host;
mod image;
mod json;
mod labels;
mod mounts;
mod network;
mod privilege;
mod refusal;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::labels::UserLabels;

pub use dependants::{Dependant, Shared, dependants};
pub use fidelity::{Difference, fidelity};
pub use image::{is_compose_leftover, repo_digest};
pub use labels::{EPOCH_LABEL, OPERATION_LABEL, ROLE_LABEL};
pub use refusal::{Refusal, check};
pub use state::{PriorState, prior_state, stop_grace};

/// An Engine API version, `1.41`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ApiVersion {
    pub major: u16,
    pub minor: u16,
}

impl ApiVersion {
    /// From here on an endpoint has a MAC address of its own (reliability.md D11).
    pub const ENDPOINT_MAC: ApiVersion = ApiVersion::new(1, 44);

    pub const fn new(major: u16, minor: u16) -> Self {
        Self { major, minor }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self::new(major.parse().ok()?, minor.parse().ok()?))
    }
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What the merge must know of the engine. `default_runtime` and `host_name` are `DefaultRuntime`
/// and `Name` of `GET /info`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineFacts {
    pub api_version: ApiVersion,
    pub default_runtime: Option<String>,
    pub host_name: Option<String>,
}

impl EngineFacts {
    /// From the answer to `GET /info` and the negotiated version.
    pub fn from_info(api_version: ApiVersion, info: &Value) -> Self {
        let text = |key: &str| {
            info.get(key)
                .and_then(Value::as_str)
                .filter(|text| !text.is_empty())
                .map(str::to_owned)
        };
        Self {
            api_version,
            default_runtime: text("DefaultRuntime"),
            host_name: text("Name"),
        }
    }
}

/// What to do with a container that was started with `--rm`. Stopping it destroys it and its
/// anonymous volumes, so its only way back is the snapshot (reliability.md S9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AutoRemove {
    #[default]
    Refuse,
    /// The user opted in.
    Accept,
}

impl AutoRemove {
    /// What the container's own labels `plimsoll.update.auto-remove` or `dd.update.auto-remove`
    /// say. Labels of its image say nothing (invariant 11).
    pub fn chosen(labels: &UserLabels<'_>) -> Self {
        match labels.opts_in("auto-remove") {
            true => AutoRemove::Accept,
            false => AutoRemove::Refuse,
        }
    }
}

/// Everything the merge reads.
#[derive(Clone, Debug)]
pub struct SpecInput<'a> {
    /// `inspect` of the old container, taken before anything was changed on it: its own name, its
    /// own restart policy.
    pub container: &'a Value,
    /// `inspect` of the image that it runs. `Null` when that image is gone; everything then
    /// counts as set by the user, and a warning says so.
    pub old_image: &'a Value,
    /// `inspect` of the new image; `Id` and `Config` are read.
    pub new_image: &'a Value,
    /// What the new container calls its image (`docker ps` shows it), `repo:tag`. It must resolve
    /// to `new_image` on the engine when the container is created.
    pub image_reference: &'a str,
    pub engine: &'a EngineFacts,
    /// Old ids of containers that were re-created in this same operation, and their new ids:
    /// references to the former become references to the latter (S16, S18).
    pub remaps: &'a BTreeMap<String, String>,
    /// Labels of the operation: [`OPERATION_LABEL`], [`EPOCH_LABEL`], [`ROLE_LABEL`].
    pub labels: &'a BTreeMap<String, String>,
    pub auto_remove: AutoRemove,
    /// Paths that were changed in the container's file system (`GET /containers/{id}/changes`).
    /// Only needed for containers of Compose: it copies some secrets into the container (S26).
    /// Empty when unknown.
    pub changed_paths: &'a [String],
}

/// The container to create, and what to expect of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewSpec {
    /// The body of `POST /containers/create`. Holds environment values: treat it as a secret.
    pub create_body: Value,
    /// To be connected after the creation and before the start, in this order (S14).
    pub extra_networks: Vec<ExtraNetwork>,
    /// For [`fidelity`]. Opaque.
    pub expected: Value,
    /// One row per field that is set, whether or not it changes.
    pub report: Vec<FieldReport>,
    /// What the user should know before agreeing, in sentences.
    pub warnings: Vec<String>,
}

/// A network besides the one that the container is created on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExtraNetwork {
    pub name: String,
    /// Absent while the old container has never run.
    pub id: Option<String>,
    /// `EndpointConfig` of `POST /networks/{id}/connect`.
    pub endpoint: Value,
}

impl ExtraNetwork {
    /// What to address it by: its id, because names of networks need not be unique.
    pub fn target(&self) -> &str {
        self.id.as_deref().unwrap_or(&self.name)
    }
}

/// Where a value of the new container comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// Set when the old container was created.
    User,
    /// Brought by the old image and kept, because data hangs on it.
    OldImage,
    /// The new image's default; also for a default that the new image has dropped.
    NewImage,
    /// Set by this operation.
    Plimsoll,
    /// Chosen by the engine, and chosen anew.
    Engine,
}

/// One field of the dry run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FieldReport {
    /// `Env.PATH`, `HostConfig.Memory`, `Networks.app.Aliases`.
    pub path: String,
    /// `Null` where it was not set.
    pub old: Value,
    /// `Null` where it is not set any more.
    pub new: Value,
    pub source: Source,
}

impl FieldReport {
    pub fn is_change(&self) -> bool {
        self.old != self.new
    }
}

/// Collected while merging.
#[derive(Default)]
struct Notes {
    report: Vec<FieldReport>,
    warnings: Vec<String>,
}

impl Notes {
    fn field(&mut self, path: impl Into<String>, old: Value, new: Value, source: Source) {
        if !(old.is_null() && new.is_null()) {
            self.report.push(FieldReport {
                path: path.into(),
                old,
                new,
                source,
            });
        }
    }

    fn warn(&mut self, warning: impl Into<String>) {
        self.warnings.push(warning.into());
    }
}

/// Computes the new container. Pure: the same input gives the same output.
///
/// Errors when the container must not be updated this way, with a reason for people.
pub fn plan(input: &SpecInput<'_>) -> Result<NewSpec, Refusal> {
    check(input)?;
    let old = json::object(input.container, "Config").ok_or(Refusal::Unreadable("Config"))?;
    let old_host =
        json::object(input.container, "HostConfig").ok_or(Refusal::Unreadable("HostConfig"))?;
    let mut notes = Notes::default();
    if json::object(input.old_image, "Config").is_none() {
        notes.warn(
            "The image that the container was created from is gone, so inherited settings cannot \
             be told from chosen ones: all of them stay as they are.",
        );
    }
    let networks = network::plan(input, &mut notes);
    let merged = config::merge(input, old, &networks, &mut notes);
    let volumes = mounts::plan(input, old, old_host, &mut notes);
    let host = host::carry_over(input, old_host, &networks, &volumes, &mut notes);
    let gains = privilege::gains(old_host, &host);
    if !gains.is_empty() {
        return Err(Refusal::PrivilegeGain { fields: gains });
    }

    let mut body = merged.send;
    let expected = fidelity::expected(input, &merged.expected, &host, &networks, &volumes);
    body.insert("HostConfig".to_owned(), Value::Object(host));
    if let Some((name, endpoint)) = networks.primary {
        let endpoints = Map::from_iter([(name, endpoint)]);
        let networking = Map::from_iter([("EndpointsConfig".to_owned(), Value::Object(endpoints))]);
        body.insert("NetworkingConfig".to_owned(), Value::Object(networking));
    }
    Ok(NewSpec {
        create_body: Value::Object(body),
        extra_networks: networks.extra,
        expected,
        report: notes.report,
        warnings: notes.warnings,
    })
}
