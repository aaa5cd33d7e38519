//! Containers: reads, and the mutations of the update program. Everything but the look-up by name
//! addresses the full id (DESIGN.md 3.3).

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use plimsoll_domain::ids::ContainerId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::engine::{About, Engine, deadline, escape};
use super::error::EngineError;

/// Which containers a list shows: by default all, in any state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListFilter<'a> {
    /// Docker's own words; `None`: any.
    pub statuses: Option<&'a [&'a str]>,
    /// With the label of this name, and of this value where there is one.
    pub label: Option<(&'a str, Option<&'a str>)>,
}

impl<'a> ListFilter<'a> {
    pub fn label(key: &'a str, value: Option<&'a str>) -> Self {
        Self {
            label: Some((key, value)),
            ..Self::default()
        }
    }

    fn query(&self) -> String {
        let mut filters = serde_json::Map::new();
        if let Some(statuses) = self.statuses {
            filters.insert("status".to_owned(), json!(statuses));
        }
        if let Some((key, value)) = self.label {
            let label = value.map_or_else(|| key.to_owned(), |value| format!("{key}={value}"));
            filters.insert("label".to_owned(), json!([label]));
        }
        match filters.is_empty() {
            true => "all=1".to_owned(),
            false => format!(
                "all=1&filters={}",
                escape(&Value::from(filters).to_string())
            ),
        }
    }
}

/// What the engine's list says of one container: enough to notice change, without an inspection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSummary {
    pub id: ContainerId,
    /// Without the leading slash; its own name first. Links add further ones.
    pub names: Vec<String>,
    /// As the container was created, or an image id when that name has moved on.
    pub image: String,
    pub image_id: String,
    pub labels: BTreeMap<String, String>,
    /// `created`, `running`, `paused`, `restarting`, `removing`, `exited`, `dead`, or what another
    /// engine calls it.
    pub state: String,
    /// For people: `Up 2 hours (healthy)`.
    pub status: String,
    /// Seconds since the Unix epoch.
    pub created: i64,
    pub networks: Vec<NetworkSummary>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkSummary {
    pub name: String,
    /// Empty while the container has never run.
    pub network_id: String,
    /// Empty while the container does not run.
    pub ip_address: String,
}

/// The answer to a create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreatedContainer {
    pub id: ContainerId,
    /// The engine's own warnings (a discarded memory limit, a platform that differs).
    pub warnings: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawSummary {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "ImageID")]
    image_id: String,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    created: i64,
    #[serde(default)]
    network_settings: Option<RawNetworks>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawNetworks {
    #[serde(default)]
    networks: Option<BTreeMap<String, RawEndpoint>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawEndpoint {
    #[serde(default, rename = "NetworkID")]
    network_id: String,
    #[serde(default, rename = "IPAddress")]
    ip_address: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RawCreated {
    id: String,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

impl Engine {
    /// One call, whatever the number of containers. A list that cannot be read in full is an
    /// error, never a shorter list (invariant 10).
    pub async fn list(&self, filter: ListFilter<'_>) -> Result<Vec<ContainerSummary>, EngineError> {
        let about = About {
            action: "list",
            subject: "its containers",
        };
        let path = format!("/containers/json?{}", filter.query());
        let raw: Vec<RawSummary> = self.get(&path, about, deadline::LIST).await?;
        raw.into_iter().map(|raw| self.summary(raw)).collect()
    }

    fn summary(&self, raw: RawSummary) -> Result<ContainerSummary, EngineError> {
        let id = self.container_id(&raw.id)?;
        let mut names: Vec<String> = raw.names.unwrap_or_default();
        // `/parent/alias` is a link's name for it, not its own.
        names.sort_by_key(|name| name.matches('/').count());
        let networks = raw
            .network_settings
            .and_then(|settings| settings.networks)
            .unwrap_or_default();
        Ok(ContainerSummary {
            id,
            names: names
                .into_iter()
                .map(|name| name.trim_start_matches('/').to_owned())
                .collect(),
            image: raw.image,
            image_id: raw.image_id,
            labels: raw.labels.unwrap_or_default(),
            state: raw.state,
            status: raw.status,
            created: raw.created,
            networks: networks
                .into_iter()
                .map(|(name, endpoint)| NetworkSummary {
                    name,
                    network_id: endpoint.network_id,
                    ip_address: endpoint.ip_address,
                })
                .collect(),
        })
    }

    /// The engine's own JSON, unabridged: the snapshot that a container can be re-made from.
    pub async fn inspect(&self, id: &ContainerId) -> Result<Value, EngineError> {
        let subject = named(id);
        let path = format!("/containers/{id}/json");
        self.get(&path, about("inspect", &subject), deadline::INSPECT)
            .await
    }

    /// Paths in the container's file system that differ from its image. Not bounded in number;
    /// asked for containers of Compose only (reliability.md S26).
    pub async fn changed_paths(&self, id: &ContainerId) -> Result<Vec<String>, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Change {
            path: String,
        }
        let subject = named(id);
        let path = format!("/containers/{id}/changes");
        let about = about("compare the files of", &subject);
        let changes: Option<Vec<Change>> = self.get(&path, about, deadline::LIST).await?;
        let changes = changes.unwrap_or_default();
        Ok(changes.into_iter().map(|change| change.path).collect())
    }

    /// The inspection of the container that has exactly this name, if there is one. An id or a
    /// prefix of one is not a name, although the engine would accept it.
    pub async fn find_by_name(&self, name: &str) -> Result<Option<Value>, EngineError> {
        let subject = format!("the container {name}");
        let path = format!("/containers/{}/json", escape(name));
        let found = self
            .get::<Value>(&path, about("inspect", &subject), deadline::INSPECT)
            .await;
        match found {
            Ok(inspect) => {
                let own = inspect["Name"].as_str().unwrap_or_default();
                Ok((own.trim_start_matches('/') == name).then_some(inspect))
            }
            Err(EngineError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates, does not start. `body` is the body of `POST /containers/create` as it goes over
    /// the wire. A taken name is `Conflict`.
    pub async fn create(&self, name: &str, body: &Value) -> Result<CreatedContainer, EngineError> {
        let subject = format!("the container {name}");
        let path = format!("/containers/create?name={}", escape(name));
        let about = about("create", &subject);
        let bytes = self
            .call(Method::POST, &path, Some(body), about, deadline::CHANGE)
            .await?;
        let created: RawCreated = self.parse(&bytes)?;
        Ok(CreatedContainer {
            id: self.container_id(&created.id)?,
            warnings: created.warnings.unwrap_or_default(),
        })
    }

    /// A taken name is `Conflict`. Renaming to the name it has is an error in Docker, so look
    /// before repeating an ambiguous rename.
    pub async fn rename(&self, id: &ContainerId, name: &str) -> Result<(), EngineError> {
        self.change(id, "rename", &format!("rename?name={}", escape(name)))
            .await
    }

    /// Sets only the restart policy; everything else stays. `policy` is `HostConfig.RestartPolicy`
    /// as an inspection shows it: `{"Name":"on-failure","MaximumRetryCount":3}`.
    pub async fn set_restart_policy(
        &self,
        id: &ContainerId,
        policy: &Value,
    ) -> Result<(), EngineError> {
        let subject = named(id);
        let body = json!({ "RestartPolicy": policy });
        let path = format!("/containers/{id}/update");
        let about = about("set the restart policy of", &subject);
        self.call(Method::POST, &path, Some(&body), about, deadline::CHANGE)
            .await
            .map(drop)
    }

    /// Success if it runs already.
    pub async fn start(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.change(id, "start", "start").await
    }

    /// Asks with its stop signal, kills after `grace`. Success if it does not run. Success also
    /// when the engine thinks so: the caller inspects afterwards (reliability.md D6).
    pub async fn stop(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        let subject = named(id);
        let path = format!("/containers/{id}/stop?t={}", grace.as_secs());
        let within = grace + deadline::STOP_EXTRA;
        self.call(Method::POST, &path, None, about("stop", &subject), within)
            .await
            .map(drop)
    }

    /// Stops like `stop`, then starts; only starts what does not run.
    pub async fn restart(&self, id: &ContainerId, grace: Duration) -> Result<(), EngineError> {
        let subject = named(id);
        let path = format!("/containers/{id}/restart?t={}", grace.as_secs());
        let about = about("restart", &subject);
        let within = grace + deadline::STOP_EXTRA + deadline::CHANGE;
        self.call(Method::POST, &path, None, about, within)
            .await
            .map(drop)
    }

    /// SIGKILL. `Conflict` if it does not run.
    pub async fn kill(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.change(id, "kill", "kill?signal=KILL").await
    }

    pub async fn pause(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.change(id, "pause", "pause").await
    }

    pub async fn unpause(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.change(id, "unpause", "unpause").await
    }

    /// Removes a container that does not run, never its volumes (reliability.md S6). `NotFound`
    /// if it is gone, `Conflict` if it runs or is being removed.
    pub async fn remove(&self, id: &ContainerId) -> Result<(), EngineError> {
        let subject = named(id);
        let path = format!("/containers/{id}?v=false&force=false&link=false");
        let about = about("remove", &subject);
        self.call(Method::DELETE, &path, None, about, deadline::CHANGE)
            .await
            .map(drop)
    }

    async fn change(
        &self,
        id: &ContainerId,
        action: &'static str,
        tail: &str,
    ) -> Result<(), EngineError> {
        let subject = named(id);
        let path = format!("/containers/{id}/{tail}");
        let about = about(action, &subject);
        self.call(Method::POST, &path, None, about, deadline::CHANGE)
            .await
            .map(drop)
    }

    fn container_id(&self, id: &str) -> Result<ContainerId, EngineError> {
        ContainerId::parse(id)
            .ok_or_else(|| self.protocol(&format!("{id:?} is not a container id")))
    }
}

pub(super) fn about<'a>(action: &'static str, subject: &'a str) -> About<'a> {
    About { action, subject }
}

pub(super) fn named(id: &ContainerId) -> String {
    format!("the container {}", id.short())
}
