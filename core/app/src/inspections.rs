//! A container as its engine describes it.

use std::time::Duration;

use plimsoll_domain::access::Scope;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{App, AppError, live, requests::Caller};

/// The kind of live read.
pub const INSPECT: &str = "inspect";
const PATIENCE: Duration = Duration::from_secs(15);

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InspectRequest {
    pub container_id: String,
}

impl App {
    /// The engine's own words, without the values of variables that look secret: the worker hides
    /// them before they leave its host.
    ///
    /// # Errors
    /// `NotFound`, `Unavailable` when no worker answers, `Failed` when the engine does not.
    pub async fn inspect_container(
        &self,
        container: &str,
        caller: &Caller<'_>,
    ) -> Result<Value, AppError> {
        caller.authorise(Scope::ContainersRead)?;
        let entry = self.get_container(container).await?;
        let facts = &entry.state.facts;
        let ask = async {
            let request = live::payload(&InspectRequest {
                container_id: facts.id.as_str().to_owned(),
            })?;
            self.ask_worker(&facts.watcher, INSPECT, &request, PATIENCE)
                .await
        };
        let answer = ask.await;
        answer.map_err(|error| live::refusal("The container's inspection is", error))
    }
}
