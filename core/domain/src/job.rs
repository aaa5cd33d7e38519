//! Jobs: what the API asks of workers. A job's row in Postgres is the truth; the queue carries
//! only its id (DESIGN.md 1, 3.5).

use serde::{Deserialize, Serialize};

use crate::ids::{ContainerId, OperationId, RemovalId};
use crate::security::SbomFormat;

/// What to do. Versioned on the wire by its tag: a worker that does not know a tag leaves the job
/// to one that does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum JobSpec {
    /// List the engine, check registries, for all containers or for the given ones.
    /// `fresh` demands answers that are not older than the request.
    Watch {
        #[serde(default)]
        containers: Vec<ContainerId>,
        #[serde(default)]
        fresh: bool,
        #[serde(default)]
        cause: WatchCause,
    },
    /// Something was pushed to this repository (`ImageRef::registry_key`): check what runs an image
    /// of it, now.
    Pushed { repository: String },
    /// Scan images of these containers, one after the other.
    Scan { containers: Vec<ContainerId> },
    /// Make a bill of materials of what this container runs.
    Sbom {
        container: ContainerId,
        format: SbomFormat,
    },
    /// Remove what this removal asks for from the engine.
    Removal { removal: RemovalId },
    /// Run the update program of this operation (update or rollback).
    Operation { operation: OperationId },
}

impl JobSpec {
    pub const KINDS: [&str; 6] = ["operation", "watch", "pushed", "scan", "sbom", "removal"];

    pub const fn kind(&self) -> &'static str {
        match self {
            JobSpec::Watch { .. } => "watch",
            JobSpec::Pushed { .. } => "pushed",
            JobSpec::Scan { .. } => "scan",
            JobSpec::Sbom { .. } => "sbom",
            JobSpec::Removal { .. } => "removal",
            JobSpec::Operation { .. } => "operation",
        }
    }
}

/// Why a watch runs, which decides whether updates may follow by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WatchCause {
    /// Its time has come.
    Schedule,
    /// Somebody asked for it.
    Request,
    /// A worker started or discovered containers, or whoever asked will decide about updates
    /// itself. Also what an older version wrote.
    #[default]
    Other,
}

impl WatchCause {
    /// Never merely because Plimsoll was started, updated or moved.
    pub const fn may_update(self) -> bool {
        matches!(self, Self::Schedule | Self::Request)
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    Queued,
    Running,
    Done,
    Failed,
}
