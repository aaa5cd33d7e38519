//! A Compose project as the files in a directory describe it, whether or not anything of it runs.

use serde::{Deserialize, Serialize};

use super::{Reason, ServiceDependency};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Described {
    /// What Compose calls the project; of a directory that it could not use, the directory's name.
    pub name: String,
    /// On the worker's host, as the files are.
    pub directory: String,
    /// A later one counts before an earlier one.
    pub files: Vec<String>,
    /// What keeps this from being all that there is to tell, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// By name, each once.
    pub services: Vec<DescribedService>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DescribedService {
    pub name: String,
    /// With its variables filled in, as far as the file beside it sets them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    pub is_built: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<String>,
    /// `docker compose up` makes no container of it: it is of a profile, or has a scale of 0.
    pub is_optional: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<ServiceDependency>,
    /// Whose namespaces and volumes it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<(Reason, Neighbour)>,
    /// Containers or services that it comes after, in place of `depends_on`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub comes_after: Vec<String>,
    /// Containers or services that it is to be restarted after.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub restart_after: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Neighbour {
    Service(String),
    Container(String),
}
