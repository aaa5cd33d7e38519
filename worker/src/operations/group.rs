//! Coming after others: an operation of a group does nothing before those that it comes after are
//! where it needs them (`domain::stack::turn`). It asks whenever its job is taken, so it does not
//! matter who ran the others, or how often a worker died.

use std::time::Duration;

use plimsoll_domain::{
    container::Health,
    ids::ContainerId,
    stack::{Predecessor, turn},
};
use serde_json::Value;

use super::{
    error::StepError,
    observe::run_of,
    program::{Program, Turn},
};
use crate::jobs::Outcome;

/// The end of one that it waits for is told to it; this is for those who missed that, and for a
/// container that becomes healthy or ends, which nobody tells.
const PAUSE: Duration = Duration::from_secs(1);

impl Program<'_> {
    /// How the turn ends where it must wait; `Refused` where what it needs is not there.
    pub(super) async fn take_turn(&self) -> Result<Option<Turn>, StepError> {
        if self.operation.group.is_none() {
            return Ok(None);
        }
        let store = self.world.app.store();
        for waited in store.waited_for(self.operation.id).await? {
            let seen = match ContainerId::parse(&waited.container_id) {
                Some(id) => self.inspect(&id).await?,
                None => None,
            };
            let seen = seen.map(|container| predecessor(&container, waited.since));
            match turn(waited.condition, waited.phase.status(), seen) {
                plimsoll_domain::stack::Turn::Now => {}
                plimsoll_domain::stack::Turn::Later => {
                    return Ok(Some(Turn::End(Outcome::Later {
                        after: PAUSE,
                        why: format!("it comes after {}", waited.container_name),
                    })));
                }
                plimsoll_domain::stack::Turn::Never => {
                    return Err(StepError::Refused(format!(
                        "left as it is, because it comes after {}, which is not as it must be",
                        waited.container_name
                    )));
                }
            }
        }
        Ok(None)
    }
}

fn predecessor(container: &Value, since: f64) -> Predecessor {
    let state = &container["State"];
    Predecessor {
        runs: run_of(container).is_alive(),
        health: state["Health"]["Status"].as_str().and_then(Health::parse),
        exit_code: state["ExitCode"].as_i64().unwrap_or_default(),
        since: Duration::try_from_secs_f64(since).unwrap_or_default(),
    }
}
