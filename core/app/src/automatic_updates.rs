//! Updates that nobody asks for: after a watch, where a trigger acts by itself
//! (reference/drydock.md 4, `auto`).

use std::collections::HashMap;

use plimsoll_domain::{access::Principal, acting::UpdateTrigger, assessment::candidate_key};
use plimsoll_store::{
    automatic_updates::{self, Attempt},
    begin, commit, containers,
};

use crate::{
    App, AppError, bulk_updates::Candidate, observations::WatchOutcome, requests::Caller,
    update_triggers::chosen, updates::UpdateOrigin,
};

impl App {
    /// Asks for the updates that the triggers of this process make by themselves, through the same
    /// admission as any other and only where nothing at all stands in the way. Answers with their
    /// number.
    ///
    /// # Errors
    /// Only of the database. The next watch makes up for them.
    pub async fn update_automatically(&self, outcomes: &[WatchOutcome]) -> Result<usize, AppError> {
        let triggers = &self.settings().update_triggers;
        let found: HashMap<&str, String> = outcomes
            .iter()
            .filter(|outcome| {
                let acts = |one: &UpdateTrigger| !one.dryrun && one.acts_alone_on(&outcome.facts);
                chosen(&outcome.facts, triggers).is_some_and(acts)
            })
            .filter_map(|outcome| {
                let candidate = candidate_key(&outcome.facts, &outcome.result)?;
                Some((outcome.facts.id.as_str(), candidate))
            })
            .collect();
        if found.is_empty() {
            return Ok(0);
        }
        let ids: Vec<&str> = found.keys().copied().collect();
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let states = containers::states(&tx, &ids).await?;
        let mut candidates: Vec<Candidate<'_>> = states
            .iter()
            .filter_map(|state| {
                let admitted = self.admit_automatic_update(state, triggers)?;
                Some(Candidate { state, admitted })
            })
            .collect();
        let attempt = |candidate: &Candidate<'_>| {
            let id = candidate.state.facts.id.as_str();
            (candidate.state.identity_key.clone(), found[id].clone())
        };
        let tried = {
            let keys: Vec<_> = candidates.iter().map(attempt).collect();
            let attempts: Vec<Attempt<'_>> = attempts(&candidates, &keys);
            automatic_updates::tried(&tx, &attempts).await?
        };
        candidates.retain(|candidate| {
            let once = chosen(&candidate.state.facts, triggers).is_some_and(|one| one.once);
            !once || !tried.contains(&attempt(candidate))
        });
        if candidates.is_empty() {
            return Ok(0);
        }
        let principal = Principal::plimsoll();
        let caller = Caller {
            principal: &principal,
            request_id: None,
            idempotency: None,
        };
        let origin = UpdateOrigin::Watch;
        let written = self.write_many(&tx, &candidates, origin, &caller).await?;
        let mut operations = Vec::new();
        let mut accepted = Vec::new();
        for (candidate, written) in candidates.into_iter().zip(&written) {
            if let Some((operation, _, _)) = written {
                operations.push(*operation);
                accepted.push(candidate);
            }
        }
        let keys: Vec<_> = accepted.iter().map(attempt).collect();
        automatic_updates::remember(&tx, &attempts(&accepted, &keys), &operations).await?;
        commit(tx).await?;
        drop(client);
        self.wake_for(&written).await;
        for candidate in &accepted {
            tracing::info!(
                container = candidate.state.facts.name,
                trigger = candidate.admitted.trigger_name,
                "updating by itself"
            );
        }
        Ok(accepted.len())
    }
}

fn attempts<'a>(
    candidates: &'a [Candidate<'_>],
    keys: &'a [(plimsoll_domain::ids::IdentityKey, String)],
) -> Vec<Attempt<'a>> {
    candidates
        .iter()
        .zip(keys)
        .map(|(candidate, (identity, key))| Attempt {
            identity,
            trigger_name: &candidate.admitted.trigger_name,
            candidate: key,
        })
        .collect()
}
