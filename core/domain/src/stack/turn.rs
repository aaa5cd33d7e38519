//! Whose turn it is when containers are restarted one after another.

use std::time::Duration;

use crate::{container::Health, operation::Status};

use super::Condition;

/// How long a dependent waits for another container to become healthy or to end, after its restart.
/// It goes on then: left as it was, it might be without its network.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What is seen of the container that another one comes after, once it was restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    pub runs: bool,
    pub health: Option<Health>,
    pub exit_code: i64,
    /// Since its restart was over.
    pub since: Duration,
}

/// What a container does that comes after another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    Now,
    Later,
    /// What it needs is not there.
    Never,
}

/// `status` is that of the other one's restart; `seen` is `None` where the other one is not there.
pub fn turn(condition: Condition, status: Status, seen: Option<Predecessor>) -> Turn {
    match status {
        Status::InProgress => return Turn::Later,
        Status::Succeeded => {}
        Status::Failed | Status::RolledBack => return Turn::Never,
    }
    let Some(seen) = seen else { return Turn::Now };
    let is_so = match condition {
        Condition::Started => true,
        // Without a healthcheck there is nothing to wait for.
        Condition::Healthy => matches!(seen.health, None | Some(Health::Healthy)),
        Condition::CompletedSuccessfully if !seen.runs && seen.exit_code != 0 => {
            return Turn::Never;
        }
        Condition::CompletedSuccessfully => !seen.runs,
    };
    match is_so || seen.since >= PATIENCE {
        true => Turn::Now,
        false => Turn::Later,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(runs: bool, health: Option<Health>, exit_code: i64, since: u64) -> Predecessor {
        Predecessor {
            runs,
            health,
            exit_code,
            since: Duration::from_secs(since),
        }
    }

    #[test]
    fn a_dependent_waits_for_what_its_condition_says() {
        use Condition::{CompletedSuccessfully as Completed, Healthy, Started};
        use Status::{Failed, InProgress, Succeeded};
        let up = |health| Some(seen(true, health, 0, 1));
        let (healthy, starting) = (Some(Health::Healthy), Some(Health::Starting));
        for (condition, status, seen, expected) in [
            (Started, InProgress, up(None), Turn::Later),
            (Started, Failed, up(None), Turn::Never),
            (Started, Succeeded, up(starting), Turn::Now),
            (Started, Succeeded, None, Turn::Now),
            (Healthy, Succeeded, up(starting), Turn::Later),
            (Healthy, Succeeded, up(Some(Health::Unhealthy)), Turn::Later),
            (Healthy, Succeeded, up(healthy), Turn::Now),
            (Healthy, Succeeded, up(None), Turn::Now),
            (
                Healthy,
                Succeeded,
                Some(seen(true, starting, 0, 120)),
                Turn::Now,
            ),
            (Healthy, Failed, up(healthy), Turn::Never),
            (Completed, Succeeded, up(None), Turn::Later),
            (
                Completed,
                Succeeded,
                Some(seen(false, None, 0, 1)),
                Turn::Now,
            ),
            (
                Completed,
                Succeeded,
                Some(seen(false, None, 3, 1)),
                Turn::Never,
            ),
            (
                Completed,
                Succeeded,
                Some(seen(true, None, 0, 120)),
                Turn::Now,
            ),
        ] {
            assert_eq!(
                turn(condition, status, seen),
                expected,
                "{condition:?} {status:?} {seen:?}"
            );
        }
    }
}
