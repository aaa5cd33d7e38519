//! The update program: its phases, which may follow which, and what each means for the operation's
//! status (contract/drydock-container-api.md, "Get update/rollback history"; DESIGN.md 4).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::action::ContainerAction;

/// What an operation is for. Updates and rollbacks run the same phases with the same guarantees;
/// the others touch one container and make no new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperationKind {
    /// To a newer image.
    Update,
    /// Back to a kept backup, asked for through the API.
    Rollback,
    /// The same image with other labels.
    LabelChange,
    Start,
    Stop,
    Restart,
}

/// The last step of the program that is known to be done. Persisted after its Docker call; the
/// intent of the next step is persisted before it (`Intent`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    Prepare,
    Renamed,
    NewCreated,
    OldStopped,
    NewStarted,
    HealthGate,
    /// The point of no return: only cleanup follows (DESIGN.md 3.1).
    HealthGatePassed,
    Succeeded,
    RollbackStarted,
    RolledBack,
    RollbackFailed,
    /// Ended before anything was touched.
    Failed,
}

/// The contract's four statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    InProgress,
    Succeeded,
    RolledBack,
    Failed,
}

macro_rules! text {
    ($type:ident { $($variant:ident => $text:literal),+ $(,)? }) => {
        impl $type {
            pub const ALL: &'static [$type] = &[$($type::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $($type::$variant => $text),+ }
            }

            /// The inverse of `as_str`; `None` for a text no version of Plimsoll wrote.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some($type::$variant),)+ _ => None }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

text!(OperationKind {
    Update => "update",
    Rollback => "rollback",
    LabelChange => "label-change",
    Start => "start",
    Stop => "stop",
    Restart => "restart",
});

impl OperationKind {
    /// What is done to the container where no new one is made.
    pub const fn action(self) -> Option<ContainerAction> {
        match self {
            Self::Update | Self::Rollback | Self::LabelChange => None,
            Self::Start => Some(ContainerAction::Start),
            Self::Stop => Some(ContainerAction::Stop),
            Self::Restart => Some(ContainerAction::Restart),
        }
    }
}

impl From<ContainerAction> for OperationKind {
    fn from(action: ContainerAction) -> Self {
        match action {
            ContainerAction::Start => Self::Start,
            ContainerAction::Stop => Self::Stop,
            ContainerAction::Restart => Self::Restart,
        }
    }
}

text!(Phase {
    Prepare => "prepare",
    Renamed => "renamed",
    NewCreated => "new-created",
    OldStopped => "old-stopped",
    NewStarted => "new-started",
    HealthGate => "health-gate",
    HealthGatePassed => "health-gate-passed",
    Succeeded => "succeeded",
    RollbackStarted => "rollback-started",
    RolledBack => "rolled-back",
    RollbackFailed => "rollback-failed",
    Failed => "failed",
});

text!(Status {
    InProgress => "in-progress",
    Succeeded => "succeeded",
    RolledBack => "rolled-back",
    Failed => "failed",
});

impl Phase {
    /// Why an operation that got this far and no further was turned round, in the few words that
    /// metrics count by.
    pub const fn turned_because(self) -> &'static str {
        match self {
            Self::Prepare | Self::Renamed => "create_new_failed",
            Self::NewCreated => "stop_old_failed",
            Self::OldStopped => "start_new_failed",
            Self::NewStarted | Self::HealthGate => "health_gate_failed",
            _ => "other",
        }
    }

    /// The status that a phase means. `RollbackFailed` is `failed` to the client, but stays owned
    /// by the janitor until an operator acknowledges it (reliability.md K12).
    pub const fn status(self) -> Status {
        match self {
            Phase::Prepare
            | Phase::Renamed
            | Phase::NewCreated
            | Phase::OldStopped
            | Phase::NewStarted
            | Phase::HealthGate
            | Phase::HealthGatePassed
            | Phase::RollbackStarted => Status::InProgress,
            Phase::Succeeded => Status::Succeeded,
            Phase::RolledBack => Status::RolledBack,
            Phase::RollbackFailed | Phase::Failed => Status::Failed,
        }
    }

    /// Terminal phases never change again. `RollbackFailed` is not one: it may still become
    /// `RolledBack` when the fault that blocked the rollback goes away.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Phase::Succeeded | Phase::RolledBack | Phase::Failed)
    }

    /// Whether `next` may follow directly (invariant I-6). Repeating a phase after a takeover is
    /// not a transition and needs no entry here.
    pub const fn may_become(self, next: Phase) -> bool {
        use Phase::*;
        match self {
            Prepare => matches!(next, Renamed | Failed | RollbackStarted | Succeeded),
            // A container that was not running is re-created and left stopped: nothing to stop.
            Renamed => matches!(next, NewCreated | RollbackStarted),
            NewCreated => matches!(next, OldStopped | RollbackStarted),
            OldStopped => matches!(next, NewStarted | HealthGatePassed | RollbackStarted),
            NewStarted => matches!(next, HealthGate | RollbackStarted),
            HealthGate => matches!(next, HealthGatePassed | RollbackStarted),
            HealthGatePassed => matches!(next, Succeeded),
            RollbackStarted => matches!(next, RolledBack | RollbackFailed),
            RollbackFailed => matches!(next, RollbackStarted | RolledBack),
            Succeeded | RolledBack | Failed => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_reads_back_as_it_was_written() {
        for phase in Phase::ALL {
            assert_eq!(Phase::parse(phase.as_str()), Some(*phase));
        }
    }

    #[test]
    fn nothing_follows_a_terminal_phase() {
        for from in Phase::ALL.iter().filter(|p| p.is_terminal()) {
            for to in Phase::ALL {
                assert!(!from.may_become(*to), "{from} -> {to}");
            }
        }
    }

    #[test]
    fn past_the_health_gate_only_success_follows() {
        for to in Phase::ALL {
            assert_eq!(
                Phase::HealthGatePassed.may_become(*to),
                *to == Phase::Succeeded
            );
        }
    }
}
