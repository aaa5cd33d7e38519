//! The pushed job: something was pushed to a repository, so what runs an image of it is checked.
//!
//! Which containers that are is looked up when the job begins: it may have waited, and for more than
//! one push.

use plimsoll_app::AppError;
use plimsoll_domain::{
    ids::ContainerId,
    job::{JobSpec, WatchCause},
};

use super::{
    JobContext, Outcome,
    watch::{self, Asked, WatchError},
};
use crate::watchers::Watcher;

/// The kind of these jobs, `JobSpec::kind`.
pub const KIND: &str = "pushed";

/// Checks what a cycle would check, of this repository alone, and asks its registry anew.
pub async fn run(watcher: Watcher, context: JobContext) -> Outcome {
    let JobSpec::Pushed { repository } = &context.job.spec else {
        let kind = context.job.spec.kind();
        return Outcome::Failed(format!("a job of kind {kind} tells of no push"));
    };
    let work = async {
        let containers = concerned(&watcher, repository).await?;
        if containers.is_empty() {
            return Ok(());
        }
        watch::handle(&watcher, &containers, Asked::ByRequest, WatchCause::Request).await
    };
    watch::until_shutdown(work, &context).await
}

async fn concerned(watcher: &Watcher, repository: &str) -> Result<Vec<ContainerId>, WatchError> {
    let statuses = watcher.settings().checked_statuses();
    let store = watcher.app().store();
    let mut facts = store
        .container_facts_of_repository(watcher.reference(), repository, statuses)
        .await
        .map_err(AppError::from)?;
    facts.retain(|f| watcher.selects(f) && f.rules.webhook_enabled != Some(false));
    Ok(facts.into_iter().map(|facts| facts.id).collect())
}
