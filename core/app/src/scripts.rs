//! Scripts that check updates: programs in one configured directory of a worker's host, and which of
//! them are assigned to which containers. Only the worker sees the directory: it lists it, and it
//! runs what is in it (`worker/src/scripts.rs`).

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    access::Scope, container::ContainerState, ids::WatcherRef, labels::ScriptPath,
    update_check::CheckReport,
};
pub use plimsoll_store::scripts::Assignment;
use plimsoll_store::{
    audit::{self, AuditStatus, NewAudit},
    begin, commit, image_reports, retrying, scripts,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{App, AppError, live, requests::Caller};

/// The kind of live read.
pub const SCRIPTS: &str = "scripts";
const PATIENCE: Duration = Duration::from_secs(10);

/// A worker's answer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ScriptList {
    /// On the worker's host; `None` where none is configured and no script is run.
    pub directory: Option<String>,
    /// By path.
    pub scripts: Vec<Script>,
}

/// A program in the directory.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Script {
    /// Relative to the directory.
    pub path: ScriptPath,
    /// Whether the worker may execute it.
    pub executable: bool,
    /// Bytes.
    pub size: u64,
    pub modified_at: DateTime<Utc>,
}

/// An assignment, and the container that has it now.
#[derive(Clone, Debug)]
pub struct AssignedScript {
    pub assignment: Assignment,
    /// `None` while there is no container of that identity.
    pub container_id: Option<String>,
}

impl App {
    /// The scripts that the worker of an agent has; the empty name is this installation's own.
    ///
    /// # Errors
    /// `NotFound` for an agent that watches nothing, `Unavailable` when no worker answers.
    pub async fn scripts(&self, agent: &str) -> Result<ScriptList, AppError> {
        let watchers = self.store().watchers().await?;
        let watcher = watchers
            .into_iter()
            .map(|row| row.watcher)
            .find(|watcher| watcher.agent == agent);
        let watcher = watcher.ok_or_else(|| AppError::NotFound("Agent not found".to_owned()))?;
        self.scripts_beside(&watcher).await
    }

    async fn scripts_beside(&self, watcher: &WatcherRef) -> Result<ScriptList, AppError> {
        let answer = self
            .ask_worker(watcher, SCRIPTS, &json!({}), PATIENCE)
            .await
            .map_err(|error| live::refusal("The scripts are", error))?;
        serde_json::from_value(answer)
            .map_err(|_| AppError::Failed("The worker's answer cannot be read".to_owned()))
    }

    /// All assignments, by the containers' names.
    pub async fn assigned_scripts(&self) -> Result<Vec<AssignedScript>, AppError> {
        let assignments = self.store().script_assignments().await?;
        let snapshot = self.snapshot().await?;
        let by_identity: HashMap<&str, &str> = snapshot
            .inventory
            .entries()
            .iter()
            .map(|entry| (entry.state.identity_key.as_str(), entry.id()))
            .collect();
        Ok(assignments
            .into_iter()
            .map(|assignment| AssignedScript {
                container_id: by_identity
                    .get(assignment.identity.as_str())
                    .map(|id| (*id).to_owned()),
                assignment,
            })
            .collect())
    }

    /// From now on updates of the container are made only when this script says so.
    ///
    /// # Errors
    /// `NotFound` container, `Invalid` for what is no script in the directory of its worker,
    /// `Unavailable` when that does not answer.
    pub async fn assign_script(
        &self,
        container: &str,
        script: &str,
        caller: &Caller<'_>,
    ) -> Result<AssignedScript, AppError> {
        caller.authorise(Scope::PolicyWrite)?;
        let entry = self.get_container(container).await?;
        let (state, facts) = (&entry.state, &entry.state.facts);
        let script = parse(script)?;
        let list = self.scripts_beside(&facts.watcher).await?;
        let Some(directory) = &list.directory else {
            return Err(AppError::Invalid(NO_DIRECTORY.to_owned()));
        };
        match list.scripts.iter().find(|one| one.path == script) {
            None => {
                return Err(AppError::Invalid(format!(
                    "There is no script {} in {directory}",
                    script.as_str()
                )));
            }
            Some(found) if !found.executable => {
                return Err(AppError::Invalid(format!(
                    "The script {} in {directory} is not executable",
                    script.as_str()
                )));
            }
            Some(_) => {}
        }
        let mut assignment = Assignment {
            identity: state.identity_key.clone(),
            watcher: facts.watcher.clone(),
            container_name: facts.name.clone(),
            script: script.as_str().to_owned(),
            actor: caller.actor().to_owned(),
            assigned_at: Utc::now(),
        };
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        assignment.assigned_at = scripts::assign(&tx, &assignment).await?;
        let entry = audit_entry("script-assigned", state, script.as_str(), caller);
        audit::append(&tx, &entry).await?;
        commit(tx).await?;
        Ok(AssignedScript {
            container_id: Some(facts.id.as_str().to_owned()),
            assignment,
        })
    }

    /// Takes the assignment away.
    ///
    /// # Errors
    /// `NotFound` container, or one without an assignment.
    pub async fn unassign_script(
        &self,
        container: &str,
        caller: &Caller<'_>,
    ) -> Result<(), AppError> {
        caller.authorise(Scope::PolicyWrite)?;
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let Some(script) = scripts::unassign(&tx, &state.identity_key).await? else {
            return Err(AppError::NotFound(
                "No script is assigned to the container".to_owned(),
            ));
        };
        let entry = audit_entry("script-unassigned", state, &script, caller);
        audit::append(&tx, &entry).await?;
        commit(tx).await?;
        Ok(())
    }

    /// Keeps what a check said, so that it is shown beside the update.
    pub async fn record_check(
        &self,
        state: &ContainerState,
        report: &CheckReport,
    ) -> Result<(), AppError> {
        retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            if image_reports::write_check(&tx, &state.identity_key, report).await? {
                self.tell_of_change(&tx, state.facts.id.as_str()).await?;
            }
            commit(tx).await?;
            Ok::<_, AppError>(())
        })
        .await?;
        self.announce().await;
        Ok(())
    }
}

const NO_DIRECTORY: &str = "No directory of scripts is configured on the worker's host \
                            (PLIMSOLL_SCRIPTS_DIR)";

/// A path inside of the directory of scripts.
pub(crate) fn parse(script: &str) -> Result<ScriptPath, AppError> {
    ScriptPath::parse(script).ok_or_else(|| {
        let shown: String = script
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect();
        AppError::Invalid(format!(
            "`{shown}` is no script inside of the directory of scripts"
        ))
    })
}

fn audit_entry<'a>(
    action: &'a str,
    state: &'a ContainerState,
    script: &'a str,
    caller: &'a Caller<'_>,
) -> NewAudit<'a> {
    NewAudit {
        identity_key: Some(state.identity_key.as_str()),
        details: Some(script),
        actor: Some(caller.principal.name()),
        request_id: caller.request_id,
        ..NewAudit::new(action, &state.facts.name, AuditStatus::Info)
    }
}
