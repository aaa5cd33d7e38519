//! Commands before and after an update, where its owner has switched them on and listed what they
//! may run. They run on the worker's host.
//!
//! A hook is run again if the worker dies in it, once: its beginning is in the journal before it
//! starts, and its end afterwards. A second death is a failure, and never passed over in silence.

use std::{path::Path, sync::Arc};

use plimsoll_app::store::{
    audit::{self, AuditStatus, NewAudit},
    journal::{Changes, Completion},
};
use plimsoll_domain::{
    hooks::{self, AllowedCommands, HookFacts},
    image::ImageRef,
    labels::{HookRules, UserLabels},
    operation::OperationKind,
};
use serde_json::Value;

use super::{crash_point::Side, error::StepError, program::Program};
use crate::{
    command::{Call, run},
    json,
    scripts::ended_well,
};

/// What is run by the journal, because it cannot be seen whether it was done.
#[derive(Clone, Copy)]
pub(super) struct Journalled {
    /// As the journal names its beginning and its end.
    pub(super) begun: &'static str,
    pub(super) ended: &'static str,
}

/// Whether it is to be run.
pub(super) enum Beginning {
    /// It has run to its end.
    Ended,
    /// It is written down that it runs.
    Now,
    /// Its workers ended in it, twice.
    Died,
}

pub(super) const DIED: &str = "the worker ended twice while it ran";

/// One of the two.
#[derive(Clone, Copy)]
struct Hook {
    journalled: Journalled,
    what: &'static str,
    success: &'static str,
    failed: &'static str,
}

const PRE: Hook = Hook {
    journalled: Journalled {
        begun: "hook-pre",
        ended: "hook-pre-ended",
    },
    what: "pre",
    success: "hook-pre-success",
    failed: "hook-pre-failed",
};
const POST: Hook = Hook {
    journalled: Journalled {
        begun: "hook-post",
        ended: "hook-post-ended",
    },
    what: "post",
    success: "hook-post-success",
    failed: "hook-post-failed",
};

impl Program<'_> {
    /// Runs the hook before the update, once everything else is ready and nothing is touched.
    ///
    /// # Errors
    /// `Refused` where it fails and its failure ends the update.
    pub(super) async fn run_pre_hook(
        &mut self,
        container: &Value,
        image: &Value,
    ) -> Result<(), StepError> {
        let Some(allowed) = self.hooks_are_on() else {
            return Ok(());
        };
        let rules = hook_rules(container, image);
        if rules.pre.is_none() && rules.post.is_none() {
            return Ok(());
        }
        if image.is_null() {
            return Err(StepError::Refused(
                "the image that it runs is gone, so nobody can tell whether its hooks are its own"
                    .to_owned(),
            ));
        }
        let store = self.world.app.store();
        if store
            .count_intents(self.operation.id, PRE.journalled.begun)
            .await?
            == 0
        {
            let configured: Vec<&str> = [&rules.pre, &rules.post]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            let details = configured.join("; ");
            self.audit_step("hook-configured", AuditStatus::Info, &details)
                .await?;
        }
        let Some(label) = &rules.pre else {
            return Ok(());
        };
        match self.run_hook(PRE, label, &rules, &allowed).await? {
            Err(why) if hooks::aborts(&rules) => {
                Err(StepError::Refused(format!("its pre hook failed: {why}")))
            }
            _ => Ok(()),
        }
    }

    /// Runs the hook after the update, when nothing is left to be done. Its failure changes
    /// nothing.
    pub(super) async fn run_post_hook(&mut self) -> Result<(), StepError> {
        let (Some(allowed), Some(snapshot)) = (self.hooks_are_on(), self.snapshot.clone()) else {
            return Ok(());
        };
        let rules = hook_rules(&snapshot.container, &snapshot.image);
        let Some(label) = rules.post.clone().filter(|_| !snapshot.image.is_null()) else {
            return Ok(());
        };
        self.run_hook(POST, &label, &rules, &allowed)
            .await
            .map(drop)
    }

    fn hooks_are_on(&self) -> Option<Arc<AllowedCommands>> {
        let is_update = self.operation.kind == OperationKind::Update;
        self.world.settings.hooks.clone().filter(|_| is_update)
    }

    /// Runs one, unless that was done; answers why it failed.
    async fn run_hook(
        &mut self,
        hook: Hook,
        label: &str,
        rules: &HookRules,
        allowed: &AllowedCommands,
    ) -> Result<Result<(), String>, StepError> {
        let journalled = hook.journalled;
        let result = match self.begin_once_more(journalled).await? {
            Beginning::Ended => return Ok(Ok(())),
            Beginning::Now => {
                let result = self.call_hook(label, rules, allowed).await;
                self.crash_point(journalled.begun, Side::After);
                result
            }
            Beginning::Died => Err(DIED.to_owned()),
        };
        let (action, status, details) = match &result {
            Ok(()) => (hook.success, AuditStatus::Success, label.to_owned()),
            Err(why) => (hook.failed, AuditStatus::Error, format!("{label}: {why}")),
        };
        if let Err(why) = &result {
            tracing::warn!(operation = %self.operation.id, hook = hook.what, why, "a hook failed");
        }
        self.audit_step(action, status, &details).await?;
        // A pre hook that ends the update is at its end with it.
        if result.is_ok() || journalled.begun == POST.journalled.begun || !hooks::aborts(rules) {
            self.write(
                None,
                Some(journalled.ended),
                Changes::default(),
                Completion::Open,
            )
            .await?;
        }
        Ok(result)
    }

    /// Writes down that it runs, unless it has run, or ended its workers twice.
    pub(super) async fn begin_once_more(
        &mut self,
        step: Journalled,
    ) -> Result<Beginning, StepError> {
        let store = self.world.app.store();
        let id = self.operation.id;
        if store.count_intents(id, step.ended).await? > 0 {
            return Ok(Beginning::Ended);
        }
        if store.count_intents(id, step.begun).await? > 1 {
            return Ok(Beginning::Died);
        }
        self.write(None, Some(step.begun), Changes::default(), Completion::Open)
            .await?;
        self.crash_point(step.begun, Side::Before);
        Ok(Beginning::Now)
    }

    async fn call_hook(
        &self,
        label: &str,
        rules: &HookRules,
        allowed: &AllowedCommands,
    ) -> Result<(), String> {
        let command = allowed.command(label).map_err(|error| error.to_string())?;
        let finished = run(Call {
            program: Path::new(&command.program),
            arguments: &command.arguments,
            environment: &self.told(),
            input: b"",
            timeout: hooks::timeout(rules),
        })
        .await
        .map_err(|error| error.to_string())?;
        ended_well(&finished)
    }

    /// What programs around an update are told of it.
    pub(super) fn told(&self) -> [(&'static str, String); 7] {
        let operation = &self.operation;
        let target = ImageRef::parse(&operation.target_image).ok();
        let name = target
            .as_ref()
            .map(ImageRef::familiar_name)
            .unwrap_or_default();
        let tag = target.as_ref().and_then(ImageRef::tag);
        hooks::environment(&HookFacts {
            container_name: &operation.container_name,
            container_id: operation
                .old_container_id
                .as_deref()
                .unwrap_or(&operation.container_id),
            image_name: &name,
            image_tag: tag.map_or("latest", |tag| tag.as_str()),
            from: operation.from_version.as_deref().unwrap_or_default(),
            to: operation.to_version.as_deref().unwrap_or_default(),
        })
    }

    /// Of something around the update.
    pub(super) async fn audit_step(
        &self,
        action: &str,
        status: AuditStatus,
        details: &str,
    ) -> Result<(), StepError> {
        let entry = NewAudit {
            details: Some(details),
            ..NewAudit::about(&self.operation, action, status)
        };
        let client = self.world.app.store().client().await?;
        Ok(audit::append(&client, &entry).await?)
    }
}

/// Of the labels that the user set.
fn hook_rules(container: &Value, image: &Value) -> HookRules {
    UserLabels::new(&json::labels(container), &json::labels(image))
        .rules()
        .hooks
}
