//! What is done around an update beside hooks: the container's check before anything is touched,
//! and the step that follows a good update (`docksmith.*` labels, assignments, requests).
//!
//! Both are journalled as hooks are: a worker that dies in one makes it run once more, and after a
//! second death it counts as failed. A check is never passed over.

use plimsoll_app::{
    AppError,
    store::{
        audit::AuditStatus,
        journal::{Changes, Completion},
    },
};
use plimsoll_domain::{
    ids::ContainerId,
    labels::{PostUpdate, ScriptPath, StepRules, UserLabels},
    operation::OperationKind,
    update_check::{CheckReport, CheckVerdict},
};
use serde_json::Value;

use super::{
    crash_point::Side,
    error::StepError,
    hooks::{Beginning, DIED, Journalled},
    program::Program,
};
use crate::json;

/// As the journal names them.
const CHECK: Journalled = Journalled {
    begun: "update-check",
    ended: "update-check-ended",
};
const AFTER: Journalled = Journalled {
    begun: "post-update",
    ended: "post-update-ended",
};
const NO_DIRECTORY: &str = "no directory of scripts is configured on the worker's host \
                            (PLIMSOLL_SCRIPTS_DIR)";

impl Program<'_> {
    /// Asks the container's check, once its target is known and before anything is fetched.
    ///
    /// # Errors
    /// `Refused` where it says no, or cannot be asked.
    pub(super) async fn update_check(
        &mut self,
        container: &Value,
        image: &Value,
    ) -> Result<(), StepError> {
        if self.operation.kind != OperationKind::Update {
            return Ok(());
        }
        let Some(script) = self.checked_by(container, image).await? else {
            return Ok(());
        };
        let result = match self.begin_once_more(CHECK).await? {
            Beginning::Ended => return Ok(()),
            Beginning::Now => {
                let result = self.run_script(&script).await;
                self.crash_point(CHECK.begun, Side::After);
                result
            }
            Beginning::Died => Err(DIED.to_owned()),
        };
        self.keep_check(&script, result.as_ref().err()).await?;
        match result {
            Ok(()) => {
                self.audit_step("update-check-passed", AuditStatus::Success, script.as_str())
                    .await?;
                self.write(
                    None,
                    Some(CHECK.ended),
                    Changes::default(),
                    Completion::Open,
                )
                .await
            }
            Err(why) => {
                let details = format!("{}: {why}", script.as_str());
                self.audit_step("update-check-failed", AuditStatus::Error, &details)
                    .await?;
                Err(StepError::Refused(format!(
                    "its check {} bars the update: {why}",
                    script.as_str()
                )))
            }
        }
    }

    /// The one that the request names, else the one that is assigned, else the one of the labels
    /// that the user set.
    async fn checked_by(
        &self,
        container: &Value,
        image: &Value,
    ) -> Result<Option<ScriptPath>, StepError> {
        let operation = &self.operation;
        let store = self.world.app.store();
        let named = store
            .named_scripts(operation.id, &operation.identity)
            .await?;
        let is_on = self.world.settings.scripts.is_some();
        if let Some(named) = named.requested.or(named.assigned) {
            if !is_on {
                return Err(StepError::Refused(format!(
                    "its check {named} cannot be asked: {NO_DIRECTORY}"
                )));
            }
            return ScriptPath::parse(&named).map(Some).ok_or_else(|| {
                StepError::Refused(format!("{named} is no script inside of the directory"))
            });
        }
        if !is_on {
            return Ok(None);
        }
        let rules = step_rules(container, image);
        if rules.check.is_none() && rules.unreadable.is_empty() {
            return Ok(None);
        }
        if image.is_null() {
            return Err(StepError::Refused(
                "the image that it runs is gone, so nobody can tell whether its check is its own"
                    .to_owned(),
            ));
        }
        match rules.unreadable.as_slice() {
            [] => Ok(rules.check),
            unreadable => Err(StepError::Refused(unreadable.join("; "))),
        }
    }

    /// So that the update is shown as barred, or no longer so.
    async fn keep_check(&self, script: &ScriptPath, why: Option<&String>) -> Result<(), StepError> {
        let app = &self.world.app;
        let refused = |error: AppError| StepError::Refused(error.to_string());
        let Some(id) = ContainerId::parse(&self.operation.container_id) else {
            return Ok(());
        };
        let Some(state) = app.state_of(&id).await.map_err(refused)? else {
            return Ok(());
        };
        let report = CheckReport {
            image: self.operation.target_image.clone(),
            image_digest: self.operation.target_digest.clone().unwrap_or_default(),
            script: script.as_str().to_owned(),
            status: match why {
                None => CheckVerdict::Passed,
                Some(_) => CheckVerdict::Failed,
            },
            reason: why.cloned(),
            checked_at: self.now(),
        };
        app.record_check(&state, &report).await.map_err(refused)
    }

    /// Docksmith's arguments: the container's id and its name.
    async fn run_script(&self, script: &ScriptPath) -> Result<(), String> {
        let Some(scripts) = self.world.settings.scripts.clone() else {
            return Err(NO_DIRECTORY.to_owned());
        };
        let operation = &self.operation;
        let id = operation.new_container_id.as_ref();
        let arguments = [
            id.unwrap_or(&operation.container_id).clone(),
            operation.container_name.clone(),
        ];
        let mut environment = self.told().to_vec();
        environment.push(("CONTAINER_NAME", operation.container_name.clone()));
        scripts.run(script, &arguments, &environment).await
    }

    /// Does what follows a good update, when nothing else is left to be done. Its failure changes
    /// nothing.
    pub(super) async fn after_update(&mut self) -> Result<(), StepError> {
        if self.operation.kind != OperationKind::Update {
            return Ok(());
        }
        let Some(snapshot) = self.snapshot.clone().filter(|one| !one.image.is_null()) else {
            return Ok(());
        };
        let Some(step) = step_rules(&snapshot.container, &snapshot.image).after else {
            return Ok(());
        };
        if matches!(step, PostUpdate::Script(_)) && self.world.settings.scripts.is_none() {
            return Ok(());
        }
        let result = match self.begin_once_more(AFTER).await? {
            Beginning::Ended => return Ok(()),
            Beginning::Now => {
                let result = self
                    .do_after(&step, &snapshot.container, &snapshot.image)
                    .await;
                self.crash_point(AFTER.begun, Side::After);
                result
            }
            Beginning::Died => Err(DIED.to_owned()),
        };
        let what = described(&step);
        match result {
            Ok(()) => {
                self.audit_step("post-update", AuditStatus::Success, &what)
                    .await?;
            }
            Err(why) => {
                tracing::warn!(operation = %self.operation.id, step = what, why, "what follows the update failed");
                self.audit_step("post-update", AuditStatus::Error, &format!("{what}: {why}"))
                    .await?;
            }
        }
        self.write(
            None,
            Some(AFTER.ended),
            Changes::default(),
            Completion::Open,
        )
        .await
    }

    async fn do_after(
        &self,
        step: &PostUpdate,
        container: &Value,
        image: &Value,
    ) -> Result<(), String> {
        if let PostUpdate::Script(script) = step {
            return self.run_script(script).await;
        }
        let (own, default) = (json::labels(container), json::labels(image));
        let compose = UserLabels::new(&own, &default).compose();
        let app = &self.world.app;
        let asked = app.restart_after_update(&self.operation, compose.as_ref(), step);
        match asked.await.map_err(|error| error.to_string())?.as_slice() {
            [] => Ok(()),
            problems => Err(problems.join("; ")),
        }
    }
}

fn described(step: &PostUpdate) -> String {
    match step {
        PostUpdate::Restart(names) => format!("restart:{}", names.join(",")),
        PostUpdate::RestartServices(names) => format!("compose-restart:{}", names.join(",")),
        PostUpdate::Script(script) => format!("script:{}", script.as_str()),
    }
}

/// Of the labels that the user set.
fn step_rules(container: &Value, image: &Value) -> StepRules {
    let (own, default) = (json::labels(container), json::labels(image));
    UserLabels::new(&own, &default).rules().steps
}
