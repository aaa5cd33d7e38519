//! One sample of what a container uses.

use plimsoll_domain::{ids::ContainerId, spec::ApiVersion, stats::RawStats};

use super::containers::{about, named};
use super::engine::{Engine, deadline};
use super::error::EngineError;

/// From this version on the engine gives one sample at once; before, it always takes two, a second
/// apart.
const ONE_SHOT: ApiVersion = ApiVersion::new(1, 41);

impl Engine {
    /// What the container uses now. Of one that does not run, a sample that was never taken
    /// ([`RawStats::taken_at`]).
    pub async fn stats(&self, id: &ContainerId) -> Result<RawStats, EngineError> {
        let subject = named(id);
        let one_shot = self.api_version().await? >= ONE_SHOT;
        let path = match one_shot {
            true => format!("/containers/{id}/stats?stream=0&one-shot=1"),
            false => format!("/containers/{id}/stats?stream=0"),
        };
        let about = about("measure", &subject);
        self.get(&path, about, deadline::INSPECT).await
    }
}
