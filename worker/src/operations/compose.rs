//! The Compose file's part in an update, where a `dockercompose` trigger or a request asks for it.
//!
//! `docker compose up` would remove the old container before the new one has proved itself, so the
//! container is replaced by this program like any other. The file is looked at in `prepare`, where
//! everything that could keep it from being edited is a refusal that touches nothing; it is written
//! once the gate is passed, so that it never names an image that was not kept; and the new
//! container bears the hash that Compose will compute from the edited file, so that the next
//! `docker compose up` finds nothing to do.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use plimsoll_domain::{
    compose::{self, FileUse, Refusal},
    image::{Digest, ImageRef},
    labels::UserLabels,
    operation::Phase,
    recovery::SeenFile,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{error::StepError, plan::Snapshot, program::Program};
use crate::{
    compose::{
        Borrowed, ComposeOptions, Found, Project, Reconciliation, Substitute, Tool,
        file::{self, Keep, Replaced},
        refused,
    },
    json,
};

/// The label that Compose decides by.
pub(super) const CONFIG_HASH: &str = "com.docker.compose.config-hash";

/// What is to be written where, once the gate is passed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComposePlan {
    pub file: PathBuf,
    /// As that file calls it.
    pub service: String,
    /// Where the file is one of variables: the one that says what the service runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variable: Option<String>,
    /// What is written there before and after.
    pub before: String,
    pub after: String,
    pub backup: bool,
}

/// What `prepare` found.
pub(super) struct ComposeStep {
    /// Nothing where the file is to stay.
    pub(super) plan: Option<ComposePlan>,
    /// For the new container, where Compose agrees that the old one was made from the file, but
    /// for its image.
    pub(super) config_hash: Option<String>,
}

/// How the file stands to the plan.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Written,
    Owed(String),
    /// Somebody wants another image there.
    Theirs(String),
    Unknown(String),
}

impl Program<'_> {
    /// What has to be written, or why the file keeps the update from being made.
    pub(super) async fn compose_step(
        &self,
        container: &Value,
        image: &Value,
        target: &ImageRef,
        digest: Option<&str>,
    ) -> Result<Option<ComposeStep>, StepError> {
        let Some(options) = self.options.compose.clone() else {
            return Ok(None);
        };
        if image.is_null() {
            return Err(StepError::Refused(
                "the image that it runs is gone, so nobody can tell which labels are its own"
                    .to_owned(),
            ));
        }
        let (own, default) = (json::labels(container), json::labels(image));
        let mut project = Project::locate(&UserLabels::new(&own, &default), &options)
            .map_err(StepError::Refused)?;
        let found = project.find().map_err(StepError::Refused)?;
        let digest = digest.and_then(Digest::parse);
        let tool = self.tool().await;
        project.borrowed = Borrowed::of(container);
        let runs = container["Config"]["Image"].as_str().unwrap_or_default();
        if self.operation.compose_file == Some(FileUse::Apply) {
            let applied = self.applied(tool.as_ref(), &project, &found, runs, target);
            return applied.await.map(Some);
        }
        let edited = found
            .edit(&project, target, digest.as_ref(), options.pinning)
            .map_err(StepError::Refused)?;
        let mut disagreements = Vec::new();
        let says = &found.resolved;
        // Another container of the same service may have been updated before.
        if !is_same(&says.reference, runs) && edited.before != edited.after {
            let why = format!(
                "it runs {runs}, and {} says {}",
                found.path.display(),
                says.image
            );
            if says.is_computed() {
                return Err(StepError::Refused(format!(
                    "{why}: a variable may be set where Compose is run, and not in its files"
                )));
            }
            disagreements.push(why);
        }
        let config_hash = match &tool {
            None => None,
            Some(tool) => {
                let with = match &edited.variable {
                    Some(_) => Substitute::Environment(&edited.file, &edited.text),
                    None if project.files.contains(&edited.file) => {
                        Substitute::File(&edited.file, &edited.text)
                    }
                    None => Substitute::Image(&edited.image),
                };
                match self.hashes(tool, &project, runs).await {
                    Ok((now, is_made_from_it)) => {
                        let then = tool.hashes(&project, with).await;
                        let then = then.map_err(StepError::Refused)?;
                        refuse_others(&project, &edited.file, &now, &then)?;
                        let hash = then.get(&project.service).cloned();
                        // What else was changed in the file is for `docker compose up` to apply:
                        // the old hash tells it so.
                        if !is_made_from_it {
                            disagreements.push(format!(
                                "it was made from another configuration than {} has now",
                                found.path.display()
                            ));
                        }
                        hash.filter(|_| is_made_from_it)
                    }
                    Err(why) => {
                        disagreements.push(why);
                        None
                    }
                }
            }
        };
        self.reconcile(&options, &disagreements)?;
        let service = match &edited.variable {
            Some(_) => project.service,
            None => found.service,
        };
        Ok(Some(ComposeStep {
            plan: Some(ComposePlan {
                file: edited.file,
                service,
                variable: edited.variable,
                before: edited.before,
                after: edited.after,
                backup: options.keep == Keep::Backup,
            }),
            config_hash,
        }))
    }

    /// The container becomes what the file says, which stays as it is.
    async fn applied(
        &self,
        tool: Option<&Tool>,
        project: &Project,
        found: &Found,
        runs: &str,
        target: &ImageRef,
    ) -> Result<ComposeStep, StepError> {
        let says = &found.resolved;
        if says.reference.familiar_tagged() != target.familiar_tagged() {
            return Err(StepError::Refused(format!(
                "{} says {} by now and not {target}; ask again",
                found.path.display(),
                says.image
            )));
        }
        let mut config_hash = None;
        if let Some(tool) = tool
            && let Ok((mut now, true)) = self.hashes(tool, project, runs).await
        {
            config_hash = now.remove(&project.service);
        }
        Ok(ComposeStep {
            plan: None,
            config_hash,
        })
    }

    pub(super) async fn tool(&self) -> Option<Tool> {
        let tool = Tool::find().await;
        if tool.is_none() {
            tracing::warn!(
                operation = %self.operation.id,
                "docker compose is not installed here: its next `up` will make the container \
                 anew once"
            );
        }
        tool
    }

    /// What Compose's hash of the container becomes when the containers whose namespaces or volumes
    /// it has are made anew. Nothing where Compose does not know it as it is: then the next `docker
    /// compose up` has something to do anyway.
    pub(super) async fn moved_hash(
        &self,
        was: &Snapshot,
        remaps: &BTreeMap<String, String>,
    ) -> Option<String> {
        let borrowed = Borrowed::of(&was.container);
        if was.image.is_null() || borrowed.is_empty() {
            return None;
        }
        let (own, default) = (json::labels(&was.container), json::labels(&was.image));
        let user = UserLabels::new(&own, &default);
        user.compose()?;
        let options = self.options.compose.clone();
        let options = options
            .unwrap_or_else(|| ComposeOptions::asked_for(self.world.settings.compose.clone()));
        let mut project = Project::locate(&user, &options).ok()?;
        let own = project.config_hash.clone()?;
        // Only what may be read, and only what there is.
        for file in &project.files {
            project.access.read(file).ok()?;
        }
        let tool = self.tool().await?;
        let mut moved = project.clone();
        moved.borrowed = borrowed.clone().moved(remaps);
        project.borrowed = borrowed;
        let (before, after) = tokio::join!(
            tool.hashes(&project, Substitute::Nothing),
            tool.hashes(&moved, Substitute::Nothing),
        );
        let is_known = before.ok()?.get(&project.service) == Some(&own);
        after.ok()?.remove(&project.service).filter(|_| is_known)
    }

    /// What the files hash to, by service, and whether the container was made from them: as they
    /// are, or as they were with the image that it runs.
    pub(super) async fn hashes(
        &self,
        tool: &Tool,
        project: &Project,
        runs: &str,
    ) -> Result<(BTreeMap<String, String>, bool), String> {
        let now = tool.hashes(project, Substitute::Nothing).await?;
        let own = project.config_hash.as_ref();
        if own.is_none() || now.get(&project.service) == own {
            return Ok((now, own.is_some()));
        }
        let as_it_was = tool.hashes(project, Substitute::Image(runs)).await?;
        let is_made_from_it = as_it_was.get(&project.service) == own;
        Ok((now, is_made_from_it))
    }

    pub(super) fn reconcile(
        &self,
        options: &ComposeOptions,
        found: &[String],
    ) -> Result<(), StepError> {
        if found.is_empty() {
            return Ok(());
        }
        let why = found.join("; ");
        match options.reconciliation {
            Reconciliation::Off => Ok(()),
            Reconciliation::Warn => {
                tracing::warn!(
                    operation = %self.operation.id,
                    container = self.operation.container_name,
                    why,
                    "container and Compose file do not agree"
                );
                Ok(())
            }
            Reconciliation::Block => Err(StepError::Refused(format!(
                "container and Compose file do not agree: {why}"
            ))),
        }
    }

    /// Whether the file is still to be written. Looked at only when that may be due.
    pub(super) async fn seen_file(&self) -> SeenFile {
        let plan = self.plan.as_ref();
        let is_due = matches!(
            self.operation.phase,
            Phase::OldStopped | Phase::HealthGate | Phase::HealthGatePassed
        );
        let Some(plan) = plan.filter(|_| is_due) else {
            return SeenFile::Settled;
        };
        let Some(plan) = plan.compose.as_ref() else {
            return self.seen_labels().await.unwrap_or(SeenFile::Settled);
        };
        match standing(plan).await {
            Standing::Written | Standing::Theirs(_) => SeenFile::Settled,
            Standing::Owed(_) | Standing::Unknown(_) => SeenFile::Owed,
        }
    }

    /// Writes the image. What somebody else has changed in the file meanwhile stays; so does the
    /// image, if they changed that. A failure is noted and is no reason to go back.
    pub(super) async fn write_file(&mut self) -> Result<(), StepError> {
        self.filings += 1;
        if self.write_labels().await {
            return Ok(());
        }
        let plan = self.plan.as_ref().and_then(|plan| plan.compose.clone());
        let Some(plan) = plan else { return Ok(()) };
        let why = match standing(&plan).await {
            Standing::Written | Standing::Theirs(_) => None,
            Standing::Unknown(why) => Some(why),
            Standing::Owed(text) => put(&plan, text).await.err(),
        };
        if let Some(why) = why {
            tracing::error!(
                operation = %self.operation.id,
                file = %plan.file.display(),
                why,
                "the Compose file could not be written"
            );
            self.pause(super::program::POLL * self.filings).await;
        }
        Ok(())
    }

    /// What became of the file, for the audit trail.
    pub(super) async fn end_of_file(&self) -> Option<String> {
        let Some(plan) = self.plan.as_ref()?.compose.as_ref() else {
            return self.end_of_labels().await;
        };
        let file = plan.file.display();
        Some(match standing(plan).await {
            Standing::Written if plan.before == plan.after => return None,
            Standing::Written => format!("{file}: {} became {}", plan.before, plan.after),
            Standing::Theirs(other) => format!(
                "{file} was left alone: somebody wrote {other} there meanwhile, and {} runs",
                plan.after
            ),
            Standing::Owed(_) => {
                format!("{file} could not be written: it still says {}", plan.before)
            }
            Standing::Unknown(why) => format!("{file} could not be written: {why}"),
        })
    }
}

/// An edit that would make Compose replace the containers of other services is none.
pub(super) fn refuse_others(
    project: &Project,
    edited: &Path,
    now: &BTreeMap<String, String>,
    then: &BTreeMap<String, String>,
) -> Result<(), StepError> {
    let others = now.iter().filter(|(name, _)| **name != project.service);
    let changed: Vec<&str> = others
        .filter(|(name, hash)| then.get(*name) != Some(hash))
        .map(|(name, _)| name.as_str())
        .collect();
    match changed.is_empty() {
        true => Ok(()),
        false => Err(StepError::Refused(format!(
            "{} is left alone: what would be changed there is also used by {}",
            edited.display(),
            changed.join(", ")
        ))),
    }
}

/// A tag that is not written means `latest`; digests are no matter here.
fn is_same(written: &ImageRef, runs: &str) -> bool {
    let Ok(runs) = ImageRef::parse(runs) else {
        return false;
    };
    written.familiar_tagged() == runs.familiar_tagged()
}

async fn standing(plan: &ComposePlan) -> Standing {
    let plan = plan.clone();
    let look = move || {
        let text = match file::read(&plan.file) {
            Ok(text) => text,
            Err(error) => return Standing::Unknown(error.to_string()),
        };
        let written = match &plan.variable {
            Some(name) => compose::variable(&text, name),
            None => compose::service_image(&text, &plan.service).map(|image| image.text),
        };
        match written {
            Err(refusal) => Standing::Unknown(refused(&plan.file, &refusal)),
            Ok(image) if image == plan.after => Standing::Written,
            Ok(image) if image == plan.before => Standing::Owed(text),
            Ok(image) => Standing::Theirs(image),
        }
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|error| Standing::Unknown(error.to_string()))
}

async fn put(plan: &ComposePlan, text: String) -> Result<(), String> {
    let plan = plan.clone();
    let work = move || {
        let new = written(&plan, &text).map_err(|refusal| refused(&plan.file, &refusal))?;
        let keep = match plan.backup {
            true => Keep::Backup,
            false => Keep::Nothing,
        };
        match file::replace(&plan.file, &text, &new, keep) {
            Ok(Replaced::Done) => Ok(()),
            Ok(Replaced::Changed) => Err("it is being changed by somebody else".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(error.to_string()))
}

/// The text with what was planned: the same edit as in `prepare`, whatever else has changed.
fn written(plan: &ComposePlan, text: &str) -> Result<String, Refusal> {
    match &plan.variable {
        Some(name) => compose::with_variable(text, name, &plan.after),
        None => compose::with_text(text, &plan.service, &plan.after).map(|edit| edit.text),
    }
}
