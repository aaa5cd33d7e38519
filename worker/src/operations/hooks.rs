//! Commands before and after an update, where its owner has switched them on and listed what they
//! may run. They run on the worker's host.
//!
//! A hook is run again if the worker dies in it, once: its beginning is in the journal before it
//! starts, and its end afterwards. A second death is a failure, and never passed over in silence.

use std::{collections::BTreeMap, path::Path, sync::Arc};

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
use crate::command::{Call, run};

/// What of a hook's last words goes into errors and the audit trail.
const LAST_WORDS: usize = 300;

/// One of the two.
#[derive(Clone, Copy)]
struct Hook {
    /// As the journal names it.
    begun: &'static str,
    ended: &'static str,
    what: &'static str,
    success: &'static str,
    failed: &'static str,
}

const PRE: Hook = Hook {
    begun: "hook-pre",
    ended: "hook-pre-ended",
    what: "pre",
    success: "hook-pre-success",
    failed: "hook-pre-failed",
};
const POST: Hook = Hook {
    begun: "hook-post",
    ended: "hook-post-ended",
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
        if store.count_intents(self.operation.id, PRE.begun).await? == 0 {
            let configured: Vec<&str> = [&rules.pre, &rules.post]
                .into_iter()
                .flatten()
                .map(String::as_str)
                .collect();
            let details = configured.join("; ");
            self.audit_hook("hook-configured", AuditStatus::Info, &details)
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
        let store = self.world.app.store();
        let id = self.operation.id;
        if store.count_intents(id, hook.ended).await? > 0 {
            return Ok(Ok(()));
        }
        let result = match store.count_intents(id, hook.begun).await? {
            0 | 1 => {
                self.write(None, Some(hook.begun), Changes::default(), Completion::Open)
                    .await?;
                self.crash_point(hook.begun, Side::Before);
                let result = self.call_hook(label, rules, allowed).await;
                self.crash_point(hook.begun, Side::After);
                result
            }
            _ => Err("the worker ended twice while it ran".to_owned()),
        };
        let (action, status, details) = match &result {
            Ok(()) => (hook.success, AuditStatus::Success, label.to_owned()),
            Err(why) => (hook.failed, AuditStatus::Error, format!("{label}: {why}")),
        };
        if let Err(why) = &result {
            tracing::warn!(operation = %id, hook = hook.what, why, "a hook failed");
        }
        self.audit_hook(action, status, &details).await?;
        // A pre hook that ends the update is at its end with it.
        if result.is_ok() || hook.begun == POST.begun || !hooks::aborts(rules) {
            self.write(None, Some(hook.ended), Changes::default(), Completion::Open)
                .await?;
        }
        Ok(result)
    }

    async fn call_hook(
        &self,
        label: &str,
        rules: &HookRules,
        allowed: &AllowedCommands,
    ) -> Result<(), String> {
        let command = allowed.command(label).map_err(|error| error.to_string())?;
        let operation = &self.operation;
        let target = ImageRef::parse(&operation.target_image).ok();
        let name = target
            .as_ref()
            .map(ImageRef::familiar_name)
            .unwrap_or_default();
        let tag = target.as_ref().and_then(ImageRef::tag);
        let environment = hooks::environment(&HookFacts {
            container_name: &operation.container_name,
            container_id: operation
                .old_container_id
                .as_deref()
                .unwrap_or(&operation.container_id),
            image_name: &name,
            image_tag: tag.map_or("latest", |tag| tag.as_str()),
            from: operation.from_version.as_deref().unwrap_or_default(),
            to: operation.to_version.as_deref().unwrap_or_default(),
        });
        let finished = run(Call {
            program: Path::new(&command.program),
            arguments: &command.arguments,
            environment: &environment,
            input: b"",
            timeout: hooks::timeout(rules),
        })
        .await
        .map_err(|error| error.to_string())?;
        let end = match finished.code {
            Some(0) => return Ok(()),
            Some(code) => format!("it ended with code {code}"),
            None => "a signal ended it".to_owned(),
        };
        let said = finished.errors.trim_end();
        let said = if said.is_empty() {
            finished.output.trim_end()
        } else {
            said
        };
        let last: String = said
            .lines()
            .last()
            .unwrap_or_default()
            .chars()
            .take(LAST_WORDS)
            .collect();
        Err(match last.is_empty() {
            true => end,
            false => format!("{end}: {last}"),
        })
    }

    async fn audit_hook(
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
    let labels = |inspect: &Value| -> BTreeMap<String, String> {
        serde_json::from_value(inspect["Config"]["Labels"].clone()).unwrap_or_default()
    };
    UserLabels::new(&labels(container), &labels(image))
        .rules()
        .hooks
}
