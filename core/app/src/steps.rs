//! What follows a good update.

use plimsoll_domain::{
    access::Principal,
    action::ContainerAction,
    container::{ComposeRef, ContainerFacts},
    labels::PostUpdate,
};
use plimsoll_store::update_operations::Operation;

use crate::{
    App, AppError, actions,
    requests::{Caller, IdempotencyKey},
};

impl App {
    /// Asks for the restarts that the label of an updated container names, each once however often
    /// this is called. `compose`: the service that it is of. What does not run stays as it is.
    /// Answers what cannot be restarted, for people.
    ///
    /// # Errors
    /// When that could not be found out; then it may be called again.
    pub async fn restart_after_update(
        &self,
        update: &Operation,
        compose: Option<&ComposeRef>,
        step: &PostUpdate,
    ) -> Result<Vec<String>, AppError> {
        let snapshot = self.snapshot().await?;
        let principal = Principal::plimsoll();
        let mut problems = Vec::new();
        let (names, of_project) = match step {
            PostUpdate::Restart(names) => (names, false),
            PostUpdate::RestartServices(names) => (names, true),
            PostUpdate::Script(_) => return Ok(problems),
        };
        for name in names {
            let is_meant = |facts: &ContainerFacts| match (of_project, &facts.compose, compose) {
                (false, ..) => facts.name == *name,
                (true, Some(theirs), Some(own)) => {
                    theirs.project == own.project && theirs.service == *name
                }
                (true, ..) => false,
            };
            let found: Vec<_> = snapshot
                .inventory
                .entries()
                .iter()
                .map(|entry| &entry.state)
                .filter(|state| {
                    let facts = &state.facts;
                    facts.watcher == update.watcher
                        && facts.name != update.container_name
                        && is_meant(facts)
                })
                .collect();
            if found.is_empty() {
                problems.push(format!("{name} is not there"));
            }
            for state in found.into_iter().filter(|state| state.facts.is_running()) {
                let key = format!("post-update {} {}", update.id, state.facts.id.short());
                let caller = Caller {
                    principal: &principal,
                    request_id: update.request_id.as_deref(),
                    idempotency: Some(IdempotencyKey::new(&key, "post-update", b"")?),
                };
                let image = actions::shown_image(state);
                let asked = async {
                    let trigger = self.trigger_name(state).await?;
                    let request =
                        actions::request(state, ContainerAction::Restart, &trigger, &image);
                    self.accept(request, &caller).await
                };
                match asked.await {
                    Ok(_) => {}
                    Err(error @ (AppError::Unavailable { .. } | AppError::Retry)) => {
                        return Err(error);
                    }
                    Err(error) => problems.push(format!("{}: {error}", state.facts.name)),
                }
            }
        }
        Ok(problems)
    }
}
