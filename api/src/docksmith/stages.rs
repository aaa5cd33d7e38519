//! Docksmith's words for what an operation is, how far it is and how it ended
//! (reference/docksmith-dokploy-dockup.md 1.3).

use plimsoll_domain::operation::{OperationKind, Phase, Status};

/// How far an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    pub name: &'static str,
    pub percent: u8,
    pub message: &'static str,
}

/// Where a pull begins and ends on the scale.
const PULL: (u128, u128) = (30, 60);

/// What a phase is to a client. The message gets the container's name in front.
pub const fn stage(phase: Phase) -> Stage {
    let (name, percent, message) = match phase {
        Phase::Prepare => ("validating", 10, "is being prepared"),
        Phase::Renamed | Phase::NewCreated => ("recreating", 65, "is being made anew"),
        Phase::OldStopped => ("recreating", 70, "is being replaced"),
        Phase::NewStarted => ("health_check", 80, "was started"),
        Phase::HealthGate => ("health_check", 85, "is being watched"),
        Phase::HealthGatePassed => ("health_check", 95, "is healthy"),
        Phase::Succeeded => ("complete", 100, "is done"),
        Phase::RollbackStarted => ("rolling_back", 90, "is going back to what it was"),
        Phase::RolledBack => ("failed", 100, "failed and runs what it ran before"),
        Phase::RollbackFailed => ("failed", 100, "failed and could not go back"),
        Phase::Failed => ("failed", 100, "failed; nothing was touched"),
    };
    Stage {
        name,
        percent,
        message,
    }
}

/// A pull's place on the scale, by the bytes of all layers.
pub fn pull_percent(done: u64, total: u64) -> u8 {
    let (from, to) = PULL;
    let part = match total {
        0 => 0,
        total => u128::from(done.min(total)) * (to - from) / u128::from(total),
    };
    u8::try_from(from + part).unwrap_or(100)
}

/// Docksmith's name of a kind.
pub const fn operation_type(kind: OperationKind) -> &'static str {
    kind.as_str()
}

/// `status` of an operation.
pub const fn status(phase: Phase) -> &'static str {
    stage(phase).name
}

/// Docksmith's name of a removal.
pub const REMOVE: &str = "remove";

/// `status` of a removal.
pub const fn removal_status(status: Status) -> &'static str {
    match status {
        Status::InProgress => "stopping",
        Status::Succeeded => "complete",
        Status::RolledBack | Status::Failed => "failed",
    }
}

/// What a `type` asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct Types {
    pub kinds: Vec<OperationKind>,
    pub removals: bool,
}

/// `None`: it asks for nothing that there is.
pub fn types(word: &str) -> Option<Types> {
    let kind = match word {
        REMOVE => None,
        // Docksmith has three for what is one here.
        "update" | "updates" | "single" | "batch" | "stack" => Some(OperationKind::Update),
        word => Some(OperationKind::parse(word)?),
    };
    Some(Types {
        removals: kind.is_none(),
        kinds: Vec::from_iter(kind),
    })
}

/// What a `status` asks for: of operations and of removals.
#[derive(Debug, PartialEq, Eq)]
pub struct Statuses {
    pub phases: Vec<Phase>,
    pub removals: Vec<Status>,
}

/// `None`: it asks for nothing that there is.
pub fn statuses(word: &str) -> Option<Statuses> {
    let of_removals = |one: &Status| match word {
        _ if is_any_in_progress(word) => *one == Status::InProgress,
        "completed" | "success" => *one == Status::Succeeded,
        word => removal_status(*one) == word || one.as_str() == word,
    };
    let removals = [Status::InProgress, Status::Succeeded, Status::Failed];
    let asked = Statuses {
        phases: phases(word),
        removals: removals.into_iter().filter(of_removals).collect(),
    };
    let is_empty = asked.phases.is_empty() && asked.removals.is_empty();
    (!is_empty).then_some(asked)
}

fn is_any_in_progress(word: &str) -> bool {
    ["in_progress", "in-progress", "running", "started"].contains(&word)
}

/// The phases that a `status` asks for: a stage's name, or one of ours.
fn phases(word: &str) -> Vec<Phase> {
    let all = || Phase::ALL.iter().copied();
    match word {
        _ if is_any_in_progress(word) => all()
            .filter(|phase| phase.status() == Status::InProgress)
            .collect(),
        "pulling_image" | "queued" => vec![Phase::Prepare],
        "completed" | "success" => vec![Phase::Succeeded],
        word => all()
            .filter(|phase| status(*phase) == word || phase.as_str() == word)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_found_by_its_own_status() {
        for phase in Phase::ALL {
            let asked = statuses(status(*phase)).unwrap();
            assert!(asked.phases.contains(phase), "{phase}");
        }
        assert_eq!(phases("complete"), [Phase::Succeeded]);
        assert_eq!(phases("failed").len(), 3);
        assert_eq!(statuses("nonsense"), None);
    }

    #[test]
    fn removals_are_found_by_their_type_and_their_status() {
        for (word, removals) in [
            ("stopping", vec![Status::InProgress]),
            ("running", vec![Status::InProgress]),
            ("complete", vec![Status::Succeeded]),
            ("success", vec![Status::Succeeded]),
            ("failed", vec![Status::Failed]),
            ("rolling_back", vec![]),
        ] {
            assert_eq!(statuses(word).unwrap().removals, removals, "{word}");
        }
        let remove = types("remove").unwrap();
        assert_eq!((remove.kinds, remove.removals), (vec![], true));
        let update = types("single").unwrap();
        let kinds = vec![OperationKind::Update];
        assert_eq!((update.kinds, update.removals), (kinds, false));
        assert_eq!(types("nonsense"), None);
    }

    #[test]
    fn a_pull_moves_by_the_bytes_of_its_layers() {
        assert_eq!(pull_percent(0, 0), 30);
        assert_eq!(pull_percent(50, 100), 45);
        assert_eq!(pull_percent(u64::MAX, u64::MAX), 60);
        assert_eq!(pull_percent(300, 100), 60);
    }

    #[test]
    fn what_is_over_is_at_the_end() {
        for phase in Phase::ALL {
            let over = phase.status() != Status::InProgress;
            assert_eq!(stage(*phase).percent == 100, over, "{phase}");
        }
    }
}
