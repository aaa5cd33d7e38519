//! Skip, snooze and maturity (contract/drydock-container-api.md, "Update container update policy").

use std::sync::Arc;

use chrono::Utc;
use plimsoll_domain::{
    access::Scope,
    assessment::update_kind,
    policy::{self, PolicyAction, UpdatePolicy},
};
use plimsoll_store::{StoreError, begin, commit, events, policies};

use crate::{App, AppError, inventory::Entry, observations::rendered, requests::Caller};

impl App {
    /// Applies one action to the container's policy and returns the container as it is then. The
    /// policy belongs to the identity: a re-created container keeps it.
    ///
    /// # Errors
    /// `NotFound` before `Invalid`; the texts are Drydock's (reference/drydock.md 1.9).
    pub async fn change_update_policy(
        &self,
        container: &str,
        body: &serde_json::Value,
        caller: &Caller<'_>,
    ) -> Result<Arc<Entry>, AppError> {
        caller.authorise(Scope::PolicyWrite)?;
        let entry = self.get_container(container).await?;
        let state = &entry.state;
        let action =
            PolicyAction::parse(body).map_err(|error| AppError::Invalid(error.to_string()))?;
        let kind = state
            .current_result()
            .and_then(|result| update_kind(&state.facts, result));
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let current = read(policies::lock(&tx, &state.identity_key).await?)?;
        let next = policy::apply(current, &action, kind.as_ref(), Utc::now())
            .map_err(|error| AppError::Invalid(error.to_string()))?;
        let json = next.as_ref().map(write).transpose()?;
        policies::put(&tx, &state.identity_key, json.as_deref()).await?;
        let mut after = state.clone();
        after.policy = next;
        let shown = rendered(&after, &self.settings().view_context())?;
        events::append(&tx, "dd:container-updated", &shown).await?;
        commit(tx).await?;
        self.announce().await;
        self.get_container(container).await
    }
}

fn read(stored: Option<String>) -> Result<Option<UpdatePolicy>, AppError> {
    let parse = |json: String| {
        serde_json::from_str(&json).map_err(|e| StoreError::corrupt("update policy", e).into())
    };
    stored.map(parse).transpose()
}

fn write(policy: &UpdatePolicy) -> Result<String, AppError> {
    serde_json::to_string(policy).map_err(|e| AppError::Internal(e.to_string()))
}
