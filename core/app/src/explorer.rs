//! What is on engines besides what is watched: images, networks, volumes, containers, and who uses
//! them. Only the worker beside an engine knows, so this asks it.

use std::{collections::BTreeSet, time::Duration};

use futures::future::try_join_all;
use plimsoll_domain::{
    access::Scope,
    explorer::{Explored, removal::ObjectKind},
    ids::WatcherRef,
};
use plimsoll_queue::rpc::RpcError;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::{App, AppError, live, requests::Caller, stacks::Engines};

/// The kind of live read.
pub const EXPLORE: &str = "explore";
/// An engine takes its time over lists of everything.
const PATIENCE: Duration = Duration::from_secs(40);
pub const NO_WATCHER: &str = "Watcher not found";

/// What is asked of a worker. Containers are always looked at: they are who uses the rest.
#[derive(Debug, Serialize, Deserialize)]
pub struct ExploreRequest {
    pub kinds: BTreeSet<ObjectKind>,
}

impl App {
    /// What these engines have, by engine.
    ///
    /// # Errors
    /// `NotFound` where there is no such engine. `Unavailable` or `Failed` as soon as one of them
    /// does not answer: a list without it would look like one in which it has nothing.
    pub async fn explore(
        &self,
        engines: &Engines,
        kinds: &[ObjectKind],
        caller: &Caller<'_>,
    ) -> Result<Vec<(WatcherRef, Explored)>, AppError> {
        caller.authorise(Scope::ContainersRead)?;
        let watchers = self.watchers_of(engines).await?;
        let kinds: BTreeSet<ObjectKind> = kinds.iter().copied().collect();
        let asked = watchers
            .into_iter()
            .map(|watcher| self.explore_one(watcher, &kinds));
        try_join_all(asked).await
    }

    async fn explore_one(
        &self,
        watcher: WatcherRef,
        kinds: &BTreeSet<ObjectKind>,
    ) -> Result<(WatcherRef, Explored), AppError> {
        let ask = async {
            let request = live::payload(&ExploreRequest {
                kinds: kinds.clone(),
            })?;
            let answer = self
                .ask_worker(&watcher, EXPLORE, &request, PATIENCE)
                .await?;
            serde_json::from_value(answer)
                .map_err(|error| RpcError::Unavailable(format!("unreadable answer: {error}")))
        };
        match ask.await {
            Ok(explored) => Ok((watcher, explored)),
            Err(error) => {
                let what = format!("What the engine {watcher} has is");
                Err(live::refusal(&what, error))
            }
        }
    }

    /// The watchers that are meant, by name.
    pub(crate) async fn watchers_of(&self, engines: &Engines) -> Result<Vec<WatcherRef>, AppError> {
        let all = self.store().watchers().await?.into_iter();
        let mut found: Vec<WatcherRef> = all.map(|row| row.watcher).collect();
        found.retain(|watcher| engines.hold(watcher));
        match found.is_empty() {
            true => Err(AppError::NotFound(NO_WATCHER.to_owned())),
            false => Ok(found),
        }
    }
}

/// For a request that must mean one engine and does not say which.
pub(crate) fn which_engine(what: &str, candidates: &[WatcherRef]) -> AppError {
    let shown: Vec<_> = candidates
        .iter()
        .map(|one| json!({ "watcher": one.name, "agent": one.agent }))
        .collect();
    AppError::Conflict {
        message: format!("{what}; say which one with `watcher` and `agent`"),
        details: Some(json!({ "candidates": shown })),
    }
}
