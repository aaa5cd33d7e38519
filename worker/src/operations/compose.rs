//! The Compose file's part in an update through a `dockercompose` trigger.
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
    compose::{self, Pinning},
    image::{Digest, ImageRef},
    labels::UserLabels,
    operation::Phase,
    recovery::SeenFile,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{error::StepError, program::Program};
use crate::compose::{
    ComposeOptions, Project, Reconciliation, Tool,
    file::{self, Keep, Replaced},
    refused,
};

/// The label that Compose decides by.
pub(super) const CONFIG_HASH: &str = "com.docker.compose.config-hash";

/// What is to be written where, once the gate is passed.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ComposePlan {
    pub file: PathBuf,
    pub service: String,
    /// The image as it is written before and after.
    pub before: String,
    pub after: String,
    pub backup: bool,
}

/// What `prepare` found.
pub(super) struct ComposeStep {
    pub(super) plan: ComposePlan,
    /// For the new container, where Compose agrees that the old one was made from the file.
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
        let labels = |inspect: &Value| -> BTreeMap<String, String> {
            serde_json::from_value(inspect["Config"]["Labels"].clone()).unwrap_or_default()
        };
        let (own, default) = (labels(container), labels(image));
        let project = Project::locate(&UserLabels::new(&own, &default), &options)
            .map_err(StepError::Refused)?;
        let found = project.find().map_err(StepError::Refused)?;
        let digest = digest.and_then(Digest::parse);
        let edit = found
            .edit(&project.service, target, digest.as_ref(), options.pinning)
            .map_err(StepError::Refused)?;
        let mut disagreements = Vec::new();
        let runs = container["Config"]["Image"].as_str().unwrap_or_default();
        if !is_same(&found.image.reference, runs) {
            disagreements.push(format!(
                "it runs {runs}, and {} says {}",
                found.path.display(),
                found.image.text
            ));
        }
        let config_hash = match Tool::find().await {
            None => {
                tracing::warn!(
                    operation = %self.operation.id,
                    "docker compose is not installed here: its next `up` will make the container \
                     anew once"
                );
                None
            }
            Some(tool) => {
                let hash = tool.config_hash(&project, &found.path, &found.text);
                match hash.await {
                    Ok(now) if Some(&now) == project.config_hash.as_ref() => {
                        let hash = tool.config_hash(&project, &found.path, &edit.text);
                        Some(hash.await.map_err(StepError::Refused)?)
                    }
                    // What else was changed in the file is for `docker compose up` to apply: the
                    // old hash tells it so.
                    Ok(_) => {
                        disagreements.push(format!(
                            "it was made from another configuration than {} has now",
                            found.path.display()
                        ));
                        None
                    }
                    Err(why) => {
                        disagreements.push(why);
                        None
                    }
                }
            }
        };
        self.reconcile(&options, &disagreements)?;
        Ok(Some(ComposeStep {
            plan: ComposePlan {
                file: found.path,
                service: project.service,
                before: edit.before,
                after: edit.after,
                backup: options.keep == Keep::Backup,
            },
            config_hash,
        }))
    }

    fn reconcile(&self, options: &ComposeOptions, found: &[String]) -> Result<(), StepError> {
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
        let plan = self.plan.as_ref().and_then(|plan| plan.compose.as_ref());
        let is_due = matches!(
            self.operation.phase,
            Phase::OldStopped | Phase::HealthGate | Phase::HealthGatePassed
        );
        let Some(plan) = plan.filter(|_| is_due) else {
            return SeenFile::Settled;
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
        let plan = self.plan.as_ref()?.compose.as_ref()?;
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

/// A tag that is not written means `latest`; digests are no matter here.
fn is_same(written: &ImageRef, runs: &str) -> bool {
    let Ok(runs) = ImageRef::parse(runs) else {
        return false;
    };
    let tag = |one: &ImageRef| {
        one.tag()
            .map_or("latest".to_owned(), |tag| tag.as_str().to_owned())
    };
    written.familiar_name() == runs.familiar_name() && tag(written) == tag(&runs)
}

async fn standing(plan: &ComposePlan) -> Standing {
    let plan = plan.clone();
    let look = move || match file::read(&plan.file) {
        Err(error) => Standing::Unknown(error.to_string()),
        Ok(text) => match compose::service_image(&text, &plan.service) {
            Err(refusal) => Standing::Unknown(refused(&plan.file, &refusal)),
            Ok(image) if image.text == plan.after => Standing::Written,
            Ok(image) if image.text == plan.before => Standing::Owed(text),
            Ok(image) => Standing::Theirs(image.text),
        },
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|error| Standing::Unknown(error.to_string()))
}

async fn put(plan: &ComposePlan, text: String) -> Result<(), String> {
    let plan = plan.clone();
    let work = move || {
        let new = written(&plan, &text)?;
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

/// The text with the planned image: the same edit as in `prepare`, whatever else has changed.
fn written(plan: &ComposePlan, text: &str) -> Result<String, String> {
    let target = ImageRef::parse(&plan.after).map_err(|error| error.to_string())?;
    let digest = target.digest().cloned();
    let edit = compose::with_image(
        text,
        &plan.service,
        &target,
        digest.as_ref(),
        Pinning::Always,
    )
    .map_err(|refusal| refused(Path::new(&plan.file), &refusal))?;
    match edit.after == plan.after {
        true => Ok(edit.text),
        false => Err(format!(
            "it would say {} and not {}",
            edit.after, plan.after
        )),
    }
}
