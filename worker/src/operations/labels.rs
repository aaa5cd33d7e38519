//! Changing the labels of a container: it is made anew, from the image that it runs, by the program
//! of updates.
//!
//! One of a Compose service has labels in its file too. As with the image of an update (`compose`),
//! whatever could keep the file from being edited is a refusal in `prepare`, and the file is written
//! past the gate: it never has labels that the container has not, and a way back has nothing to undo.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use plimsoll_app::store::journal::{Changes, Completion};
use plimsoll_domain::{
    compose::{
        Refusal,
        labels::{LabelRefusal, escaped, labels_of, with_labels},
    },
    image::ImageRef,
    labels::{LabelChange, LabelReach, UserLabels},
    operation::Phase,
    recovery::{Action, SeenFile},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    compose::refuse_others,
    crash_point::Side,
    error::StepError,
    plan::{Plan, Snapshot},
    prepare::Wanted,
    program::{POLL, Program, Turn},
};
use crate::{
    compose::{
        Borrowed, ComposeOptions, Project, Substitute,
        file::{self, Keep, Replaced},
    },
    jobs::Outcome,
    json,
};

type Labels = BTreeMap<String, String>;

/// As the journal names it, whether the container is made anew or not.
const WRITE_FILE: &str = Action::WriteFile.as_str();

/// What is to be written where.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelPlan {
    pub file: PathBuf,
    pub service: String,
    pub change: LabelChange,
    /// What the file said of each of these labels, as it was written there.
    pub before: BTreeMap<String, Option<String>>,
}

/// What `prepare` found.
struct LabelStep {
    plan: LabelPlan,
    /// For the new container, where Compose agrees that the old one was made from the file.
    config_hash: Option<String>,
}

/// How the file stands to the plan.
enum Standing {
    Written,
    Owed(String),
    /// Somebody wants other labels there.
    Theirs,
    Unknown(String),
}

impl Program<'_> {
    pub(super) async fn prepare_labels(&mut self, container: Value) -> Result<Turn, StepError> {
        let refused = |why: &str| StepError::Refused(why.to_owned());
        let store = self.world.app.store();
        let asked = store.label_request(self.operation.id).await?;
        let asked = asked.ok_or_else(|| refused("nothing says which labels are to be changed"))?;
        let image = self.image_of(&container).await?;
        if image.is_null() {
            return Err(refused(
                "the image that it runs is gone, so it could not be made anew",
            ));
        }
        if let Some(turn) = self.infrastructure(&container, &image).await? {
            return Ok(turn);
        }
        let labels = changed(&container, &image, &asked.change).map_err(StepError::Refused)?;
        // Boxed: what they hold is large, and not needed any more when they are done.
        let step = Box::pin(self.label_file(&container, &image, &asked.change)).await?;
        if asked.reach == LabelReach::File {
            let step = step.ok_or_else(|| refused("it is of no Compose service"))?;
            return Box::pin(self.change_file(step.plan)).await;
        }
        let image_id = container["Image"].as_str().unwrap_or_default().to_owned();
        let is_so = labels == json::labels(&container);
        let is_filed = match &step {
            Some(step) => matches!(standing(&step.plan).await, Standing::Written),
            None => true,
        };
        if is_so && is_filed {
            return self.is_current(&image_id).await;
        }
        let dependants = self.dependants_of(&container).await?;
        if let Some(turn) = Box::pin(self.hold(&container, &dependants)).await? {
            return Ok(turn);
        }
        let reference = self.own_reference(&container, &image_id).await?;
        let facts = self.engine_facts().await?;
        let mut labelled = container.clone();
        labelled["Config"]["Labels"] = json!(labels);
        let snapshot = Snapshot::of(container, image, dependants);
        let wanted = Wanted {
            container: &labelled,
            image: &snapshot.image,
            image_id,
            reference,
            config_hash: step.as_ref().and_then(|step| step.config_hash.clone()),
        };
        let plan = Plan {
            labels: step.map(|step| step.plan),
            ..Box::pin(self.plan_for(&snapshot, wanted, &facts)).await?
        };
        self.keep(snapshot, plan, None).await
    }

    /// What the container calls its image, which must still be that image: the engine makes the new
    /// container from whatever the name means.
    async fn own_reference(&self, container: &Value, image_id: &str) -> Result<String, StepError> {
        let shown = container["Config"]["Image"].as_str().unwrap_or_default();
        match self.engine.inspect_image(shown).await {
            Ok(found) if found["Id"] == image_id => Ok(shown.to_owned()),
            Ok(_) => Err(StepError::Refused(format!(
                "{shown} is another image by now than the one that it runs; update it first"
            ))),
            Err(error) if error.is_not_found() => {
                let named = ImageRef::parse(shown).ok();
                let Some(named) = named.filter(|one| one.digest().is_none()) else {
                    return Ok(image_id.to_owned());
                };
                // The image has lost its name, and gets it back.
                self.engine
                    .tag_image(image_id, &named.familiar_name(), named.tag_name())
                    .await?;
                Ok(shown.to_owned())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What is to be written into the file of its service, if it is of one.
    async fn label_file(
        &self,
        container: &Value,
        image: &Value,
        change: &LabelChange,
    ) -> Result<Option<LabelStep>, StepError> {
        let (own, default) = (json::labels(container), json::labels(image));
        let user = UserLabels::new(&own, &default);
        if user.compose().is_none() {
            return Ok(None);
        }
        let options = self
            .options
            .compose
            .clone()
            .unwrap_or_else(|| ComposeOptions::asked_for(self.world.settings.compose.clone()));
        if change.wanted().any(|(key, _)| key == options.label) {
            return Err(StepError::Refused(format!(
                "the label {} says which file is written to",
                options.label
            )));
        }
        let mut project = Project::locate(&user, &options).map_err(StepError::Refused)?;
        let (wanted, located) = (change.clone(), project.clone());
        let look = move || look_into(&located, &wanted);
        let looked = tokio::task::spawn_blocking(look).await;
        let looked = looked.map_err(|error| StepError::Refused(error.to_string()))?;
        let Looked {
            path,
            edited,
            before,
        } = looked.map_err(StepError::Refused)?;
        let mut disagreements = Vec::new();
        let mut config_hash = None;
        if let Some(tool) = self.tool().await {
            project.borrowed = Borrowed::of(container);
            let runs = container["Config"]["Image"].as_str().unwrap_or_default();
            match Box::pin(self.hashes(&tool, &project, runs)).await {
                Ok((now, true)) => {
                    let then = tool.hashes(&project, Substitute::File(&path, &edited));
                    let then = Box::pin(then).await.map_err(StepError::Refused)?;
                    refuse_others(&project, &path, &now, &then)?;
                    // What else differs from the file (another image) is for Compose to apply.
                    if now.get(&project.service) == project.config_hash.as_ref() {
                        config_hash = then.get(&project.service).cloned();
                    }
                }
                Ok((_, false)) => disagreements.push(format!(
                    "it was made from another configuration than {} has now",
                    path.display()
                )),
                Err(why) => disagreements.push(why),
            }
        }
        // The worker before this one may have changed the file and died: then they do not agree
        // because of this change.
        let store = self.world.app.store();
        if store.count_intents(self.operation.id, WRITE_FILE).await? == 0 {
            self.reconcile(&options, &disagreements)?;
        }
        Ok(Some(LabelStep {
            plan: LabelPlan {
                file: path,
                service: project.service,
                change: change.clone(),
                before,
            },
            config_hash,
        }))
    }

    /// Changes the file and leaves the container as it is.
    async fn change_file(&mut self, plan: LabelPlan) -> Result<Turn, StepError> {
        self.write(None, Some(WRITE_FILE), Changes::default(), Completion::Open)
            .await?;
        self.crash_point(WRITE_FILE, Side::Before);
        let why = match standing(&plan).await {
            Standing::Written => None,
            Standing::Theirs => Some("somebody else changes it".to_owned()),
            Standing::Unknown(why) => Some(why),
            Standing::Owed(text) => put(&plan, text).await.err(),
        };
        if let Some(why) = why {
            let file = plan.file.display();
            return Err(StepError::Refused(format!("{file} is left alone: {why}")));
        }
        self.crash_point(WRITE_FILE, Side::After);
        self.file_end = Some(end(&plan, &Standing::Written));
        let evidence = json!({
            "by": "file", "file": plan.file.display().to_string(), "observedAt": self.now(),
        });
        let changes = Changes {
            evidence: Some(evidence),
            ..Changes::default()
        };
        self.write(Some(Phase::Succeeded), None, changes, Completion::Completed)
            .await?;
        Ok(Turn::End(Outcome::Done))
    }

    fn label_plan(&self) -> Option<&LabelPlan> {
        self.plan.as_ref()?.labels.as_ref()
    }

    /// As `seen_file` of an update, where labels are to be written; looked at when it may be due.
    pub(super) async fn seen_labels(&self) -> Option<SeenFile> {
        Some(match standing(self.label_plan()?).await {
            Standing::Written | Standing::Theirs => SeenFile::Settled,
            Standing::Owed(_) | Standing::Unknown(_) => SeenFile::Owed,
        })
    }

    /// As `write_file` of an update. Whether there was anything to be written.
    pub(super) async fn write_labels(&mut self) -> bool {
        let Some(plan) = self.label_plan().cloned() else {
            return false;
        };
        let why = match standing(&plan).await {
            Standing::Written | Standing::Theirs => None,
            Standing::Unknown(why) => Some(why),
            Standing::Owed(text) => put(&plan, text).await.err(),
        };
        if let Some(why) = why {
            tracing::error!(
                operation = %self.operation.id,
                file = %plan.file.display(),
                why,
                "labels could not be written into the Compose file"
            );
            self.pause(POLL * self.filings).await;
        }
        true
    }

    /// What became of the file, for the audit trail.
    pub(super) async fn end_of_labels(&self) -> Option<String> {
        let plan = self.label_plan()?;
        Some(end(plan, &standing(plan).await))
    }
}

/// The labels that the container is to have.
fn changed(container: &Value, image: &Value, change: &LabelChange) -> Result<Labels, String> {
    let (mut labels, default) = (json::labels(container), json::labels(image));
    for (key, value) in change.wanted() {
        match value {
            Some(value) => {
                labels.insert(key.to_owned(), value.to_owned());
            }
            None if default.contains_key(key) => {
                return Err(format!(
                    "the label {key} is the image's own and cannot be removed, but set to \
                     something else"
                ));
            }
            None => {
                labels.remove(key);
            }
        }
    }
    Ok(labels)
}

/// A file as it is to be.
struct Looked {
    path: PathBuf,
    edited: String,
    before: BTreeMap<String, Option<String>>,
}

fn look_into(project: &Project, change: &LabelChange) -> Result<Looked, String> {
    let (path, text) = find(project, change)?;
    let service = &project.service;
    let refuse = |refusal: &LabelRefusal| refused(&path, refusal);
    let edited = with_labels(&text, service, change).map_err(|error| refuse(&error))?;
    let found = labels_of(&text, service).map_err(|error| refuse(&error))?;
    let found = found.unwrap_or_default();
    let before = change
        .wanted()
        .map(|(key, _)| (key.to_owned(), found.get(key).cloned()))
        .collect();
    Ok(Looked {
        path,
        edited,
        before,
    })
}

/// The file that has the last word about the service's labels, or the first that describes it.
fn find(project: &Project, change: &LabelChange) -> Result<(PathBuf, String), String> {
    let mut described = Vec::new();
    for path in &project.files {
        let text = project.access.read(path)?;
        match labels_of(&text, &project.service) {
            Ok(labels) => described.push((path, text, labels)),
            Err(LabelRefusal::File(Refusal::NoService(_))) => {}
            Err(refusal) => return Err(refused(path, &refusal)),
        }
    }
    let last = described.iter().rposition(|(.., labels)| labels.is_some());
    let chosen = last.unwrap_or_default();
    for (at, (path, _, labels)) in described.iter().enumerate() {
        let has = |key: &&String| {
            labels
                .as_ref()
                .is_some_and(|found| found.contains_key(*key))
        };
        if let Some(key) = change.remove().iter().find(has)
            && at != chosen
        {
            return Err(format!(
                "the label {key} of the service also stands in {}; remove it there",
                path.display()
            ));
        }
    }
    if described.is_empty() {
        let service = &project.service;
        return Err(format!(
            "none of its Compose files has a service `{service}`"
        ));
    }
    let (path, text, _) = described.swap_remove(chosen);
    Ok((path.clone(), text))
}

fn refused(path: &Path, refusal: &LabelRefusal) -> String {
    let file = path.display();
    format!("its Compose file {file} is left alone: {refusal}")
}

async fn standing(plan: &LabelPlan) -> Standing {
    let plan = plan.clone();
    let look = move || match file::read(&plan.file) {
        Err(error) => Standing::Unknown(error.to_string()),
        Ok(text) => match labels_of(&text, &plan.service) {
            Err(refusal) => Standing::Unknown(refused(&plan.file, &refusal)),
            Ok(found) => stands(&plan, text, &found.unwrap_or_default()),
        },
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.unwrap_or_else(|error| Standing::Unknown(error.to_string()))
}

fn stands(plan: &LabelPlan, text: String, found: &Labels) -> Standing {
    let mut owed = false;
    for (key, wanted) in plan.change.wanted() {
        let now = found.get(key);
        if now == wanted.map(escaped).as_ref() {
            continue;
        }
        if plan.before.get(key).is_none_or(|was| was.as_ref() != now) {
            return Standing::Theirs;
        }
        owed = true;
    }
    match owed {
        true => Standing::Owed(text),
        false => Standing::Written,
    }
}

async fn put(plan: &LabelPlan, text: String) -> Result<(), String> {
    let plan = plan.clone();
    let work = move || {
        let new = with_labels(&text, &plan.service, &plan.change)
            .map_err(|refusal| refused(&plan.file, &refusal))?;
        match file::replace(&plan.file, &text, &new, Keep::Backup) {
            Ok(Replaced::Done) => Ok(()),
            Ok(Replaced::Changed) => Err("it is being changed by somebody else".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    };
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(error.to_string()))
}

fn end(plan: &LabelPlan, standing: &Standing) -> String {
    let (file, service) = (plan.file.display(), &plan.service);
    match standing {
        Standing::Written => format!("{file} has the labels of the service {service}"),
        Standing::Theirs => {
            format!("{file} was left alone: somebody else changed labels of {service} there")
        }
        Standing::Owed(_) => format!("{file} could not be written: it has the old labels"),
        Standing::Unknown(why) => format!("{file} could not be written: {why}"),
    }
}
