//! What the container did before the update, to be restored after it (reliability.md F-8, H13).

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::action::StopGrace;

/// The state that the new container is brought into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PriorState {
    /// Running or restarting.
    Running,
    /// Started, then paused.
    Paused,
    /// Created, exited or dead: the new one is created and not started.
    Stopped,
}

/// Reads `State` of an inspection.
pub fn prior_state(inspect: &Value) -> PriorState {
    let is = |key: &str| inspect["State"][key] == true;
    if is("Paused") {
        PriorState::Paused
    } else if is("Running") || is("Restarting") {
        PriorState::Running
    } else {
        PriorState::Stopped
    }
}

/// Docker's default.
const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// A negative setting means "wait for ever"; nothing here waits longer than this.
const LONGEST_GRACE: Duration = Duration::from_secs(StopGrace::LONGEST as u64);

/// How long the container may take to stop: `Config.StopTimeout`, in seconds.
pub fn stop_grace(inspect: &Value) -> Duration {
    match inspect["Config"]["StopTimeout"].as_i64() {
        None => DEFAULT_GRACE,
        Some(seconds) => u64::try_from(seconds)
            .map_or(LONGEST_GRACE, Duration::from_secs)
            .min(LONGEST_GRACE),
    }
}
