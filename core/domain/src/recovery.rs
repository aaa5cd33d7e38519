//! What comes next in an update, as a function of what is durably known and of what the engine
//! shows (DESIGN.md 3.4, reliability.md R-8, K1-K12).
//!
//! The normal way and the way after a crash are this one function: a worker observes, asks here,
//! writes the intent, has the effect, and observes again. Whoever takes over begins with the same
//! observation.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::operation::Phase;

/// After so many takeovers no forward step is taken any more (reliability.md R-10).
pub const POISON_TAKEOVERS: u32 = 5;
/// After so many, even the rollback program pauses between attempts.
pub const PARK_TAKEOVERS: u32 = 10;
/// How often the old container is stopped before the update gives up on it (reliability.md F-4).
pub const MAX_STOPS: u32 = 2;
/// How often a new container that does not come out as planned is made again.
pub const MAX_CREATIONS: u32 = 3;
/// How often the dependants are brought back before the operation ends without them and says so.
pub const MAX_SETTLINGS: u32 = 3;
/// How often the Compose file is written before the operation ends without it and says so.
pub const MAX_FILINGS: u32 = 3;

/// What the old container was doing when the operation began, and what the surviving one does
/// afterwards (reliability.md F-8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prior {
    Running,
    Paused,
    /// Created, exited or dead.
    Stopped,
}

/// A container's state as the engine tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Run {
    /// Never started, or its start failed.
    Created,
    Running,
    Paused,
    Restarting,
    Exited,
    Dead,
    /// The engine is taking it away.
    Removing,
}

impl Run {
    /// Whether its processes may be alive: then no other writer may start.
    pub const fn is_alive(self) -> bool {
        matches!(self, Run::Running | Run::Paused | Run::Restarting)
    }
}

/// Which name a container bears now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Named {
    Original,
    Temporary,
    Other,
}

/// Whether the restart policy could revive a container behind our back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestartPolicy {
    /// As the user set it.
    Own,
    /// Set to `no` by us, until the operation is over.
    Neutral,
    /// The user's own policy is `no`.
    OwnIsNo,
}

/// The old container, as seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeenOld {
    pub run: Run,
    pub named: Named,
    pub restart: RestartPolicy,
}

/// Whether the new container is what was computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Made {
    /// From this operation's specification, with all its networks.
    Complete,
    /// A worker died between its creation and its last network, or it is a second one.
    Incomplete,
}

/// The new container, found by the label of the operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeenNew {
    pub run: Run,
    pub made: Made,
    /// Whether it was ever started.
    pub started: bool,
}

/// Who bears the original name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameHolder {
    Nobody,
    /// The old or the new container of this operation.
    Ours,
    /// Somebody else's container.
    Foreign,
}

/// The containers that live in the old one's namespaces, taken together (reliability.md S17). All
/// of it is true where there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SeenDependants {
    /// None of those that were there runs, and no daemon can revive one.
    pub quiet: bool,
    /// Each does what it did before, in the namespaces of the old container.
    pub on_old: bool,
    /// Each does what it did before, made again in the namespaces of the new container.
    pub on_new: bool,
}

impl SeenDependants {
    pub const NONE: Self = Self {
        quiet: true,
        on_old: true,
        on_new: true,
    };
}

/// The Compose file that the container came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SeenFile {
    /// It says what it is to say, or what somebody else wants; or there is none.
    Settled,
    /// It still names the old image.
    Owed,
}

/// What the engine shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub old: Option<SeenOld>,
    pub new: Option<SeenNew>,
    pub name: NameHolder,
    pub dependants: SeenDependants,
    pub file: SeenFile,
}

/// Whether this worker has prepared the operation under its present lease. After a takeover
/// preparation is repeated (reliability.md K2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prepared {
    NotYet,
    Yes,
}

/// Whether the old container, once started again, has stayed up for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settled {
    NotYet,
    Yes,
}

/// Whether this attempt at rolling back began under the present lease, or was left behind by a
/// worker that died in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attempt {
    Inherited,
    Begun,
}

/// What is durably known, and what this worker did under its present lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Facts {
    pub phase: Phase,
    pub prior: Prior,
    pub prepared: Prepared,
    pub takeovers: u32,
    /// Stops of the old container under this lease.
    pub stops: u32,
    /// Creations of the new container under this lease.
    pub creations: u32,
    /// Starts of the old container in this attempt at rolling back.
    pub restarts: u32,
    /// How often the dependants were brought back under this lease, in this direction.
    pub settlings: u32,
    /// Writes of the Compose file under this lease.
    pub filings: u32,
    pub settled: Settled,
    pub attempt: Attempt,
}

/// Something to do on the engine. The intent is written before it, under its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Resolve, pull, verify, snapshot, compute: everything slow, while nothing is touched.
    Prepare,
    RenameOld,
    /// Create the new container and attach all its networks.
    CreateNew,
    RemoveNew,
    /// Those that live in its namespaces, before it is stopped itself.
    StopDependants,
    NeutraliseOld,
    StopOld,
    StartNew,
    /// Bring the dependants back: made again when their namespaces are another container's now,
    /// started again when they are not.
    SettleDependants,
    /// Name the new image in the Compose file.
    WriteFile,
    RemoveOld,
    RenameBack,
    RestorePolicy,
    StartOld,
    /// From the snapshot, because it is gone.
    RecreateOld,
}

impl Action {
    pub const ALL: &'static [Action] = &[
        Action::Prepare,
        Action::RenameOld,
        Action::CreateNew,
        Action::RemoveNew,
        Action::StopDependants,
        Action::NeutraliseOld,
        Action::StopOld,
        Action::StartNew,
        Action::SettleDependants,
        Action::WriteFile,
        Action::RemoveOld,
        Action::RenameBack,
        Action::RestorePolicy,
        Action::StartOld,
        Action::RecreateOld,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Action::Prepare => "prepare",
            Action::RenameOld => "rename-old",
            Action::CreateNew => "create-new",
            Action::RemoveNew => "remove-new",
            Action::StopDependants => "stop-dependants",
            Action::NeutraliseOld => "neutralise-old",
            Action::StopOld => "stop-old",
            Action::StartNew => "start-new",
            Action::SettleDependants => "settle-dependants",
            Action::WriteFile => "write-file",
            Action::RemoveOld => "remove-old",
            Action::RenameBack => "rename-back",
            Action::RestorePolicy => "restore-policy",
            Action::StartOld => "start-old",
            Action::RecreateOld => "recreate-old",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the program turns round, or ends. The texts are for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    OldGone,
    OldRenamed,
    NameTaken,
    NewGone,
    OldWillNotStop,
    OldExitsAgain,
    NewIncomplete,
    TooManyTakeovers,
}

impl Cause {
    pub const fn text(self) -> &'static str {
        match self {
            Cause::OldGone => "the container was removed by someone else",
            Cause::OldRenamed => "the container was renamed by someone else",
            Cause::NameTaken => "superseded: another container has taken the name",
            Cause::NewGone => "the new container was removed by someone else",
            Cause::OldWillNotStop => "the old container keeps running although it was stopped",
            Cause::OldExitsAgain => "the old container exits again after it was started",
            Cause::NewIncomplete => "the new container cannot be attached to all its networks",
            Cause::TooManyTakeovers => "too many workers ended while they worked on it",
        }
    }
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The engine shows that this is done: write it, and ask again.
    Record(Phase),
    /// Write the intent, do it, observe, and ask again.
    Act(Action),
    /// Judge the new container (`gate`), and ask again.
    Judge,
    /// Look again in a moment.
    Wait,
    /// End before anything was touched.
    Fail(Cause),
    /// Turn round.
    Rollback(Cause),
    /// The rollback cannot be finished now: try again later.
    Defer(Cause),
    /// Somebody else's container has replaced ours: end, and leave it alone.
    Superseded,
    /// Nothing is left to do.
    Over,
}

/// The next step. Total: every phase with every observation has an answer, and none of them removes
/// the old container before the point of no return.
pub fn next_step(facts: &Facts, seen: &Seen) -> Step {
    match facts.phase {
        Phase::Prepare => prepare(facts, seen),
        Phase::Renamed => renamed(facts, seen),
        Phase::NewCreated => new_created(facts, seen),
        Phase::OldStopped => old_stopped(facts, seen),
        Phase::NewStarted => new_started(facts, seen),
        Phase::HealthGate => health_gate(facts, seen),
        Phase::HealthGatePassed => passed(facts, seen),
        Phase::RollbackStarted => rollback(facts, seen),
        // A later attempt is the same program again.
        Phase::RollbackFailed => Step::Record(Phase::RollbackStarted),
        Phase::Succeeded | Phase::RolledBack | Phase::Failed => Step::Over,
    }
}

fn prepare(facts: &Facts, seen: &Seen) -> Step {
    let Some(old) = seen.old.filter(|old| old.run != Run::Removing) else {
        return Step::Fail(Cause::OldGone);
    };
    match old.named {
        // Renamed by a worker that died before it could say so.
        Named::Temporary => Step::Record(Phase::Renamed),
        Named::Other => Step::Fail(Cause::OldRenamed),
        Named::Original if poisoned(facts) => Step::Fail(Cause::TooManyTakeovers),
        Named::Original => match facts.prepared {
            Prepared::NotYet => Step::Act(Action::Prepare),
            Prepared::Yes => Step::Act(Action::RenameOld),
        },
    }
}

fn renamed(facts: &Facts, seen: &Seen) -> Step {
    if poisoned(facts) {
        return Step::Rollback(Cause::TooManyTakeovers);
    }
    match (seen.new, seen.old) {
        (Some(new), _) if new.made == Made::Complete => Step::Record(Phase::NewCreated),
        (Some(_), _) if facts.creations >= MAX_CREATIONS => Step::Rollback(Cause::NewIncomplete),
        (Some(_), _) => Step::Act(Action::RemoveNew),
        (None, None) => Step::Rollback(Cause::OldGone),
        (None, Some(_)) if seen.name == NameHolder::Foreign => Step::Rollback(Cause::NameTaken),
        (None, Some(old)) => match old.named {
            _ if old.run == Run::Removing => Step::Wait,
            Named::Temporary => Step::Act(Action::CreateNew),
            Named::Original => Step::Act(Action::RenameOld),
            Named::Other => Step::Rollback(Cause::OldRenamed),
        },
    }
}

fn new_created(facts: &Facts, seen: &Seen) -> Step {
    if poisoned(facts) {
        return Step::Rollback(Cause::TooManyTakeovers);
    }
    if new_of(seen).is_none() {
        return Step::Rollback(Cause::NewGone);
    }
    match still_alive(facts, seen) {
        Some(step) => step,
        None => Step::Record(Phase::OldStopped),
    }
}

fn old_stopped(facts: &Facts, seen: &Seen) -> Step {
    if poisoned(facts) {
        return Step::Rollback(Cause::TooManyTakeovers);
    }
    let Some(new) = new_of(seen) else {
        return Step::Rollback(Cause::NewGone);
    };
    if let Some(step) = still_alive(facts, seen) {
        return step;
    }
    match facts.prior {
        Prior::Stopped => Step::Record(Phase::HealthGatePassed),
        Prior::Running | Prior::Paused if new.started => Step::Record(Phase::NewStarted),
        Prior::Running | Prior::Paused => Step::Act(Action::StartNew),
    }
}

fn new_started(facts: &Facts, seen: &Seen) -> Step {
    if poisoned(facts) {
        return Step::Rollback(Cause::TooManyTakeovers);
    }
    if new_of(seen).is_none() {
        return Step::Rollback(Cause::NewGone);
    }
    match still_alive(facts, seen) {
        Some(step) => step,
        None => Step::Record(Phase::HealthGate),
    }
}

fn health_gate(facts: &Facts, seen: &Seen) -> Step {
    if poisoned(facts) {
        return Step::Rollback(Cause::TooManyTakeovers);
    }
    if new_of(seen).is_none() {
        return Step::Rollback(Cause::NewGone);
    }
    match still_alive(facts, seen) {
        Some(step) => step,
        None => Step::Judge,
    }
}

/// While the old container may run, the new one must not: neutralise, stop, and look again.
fn still_alive(facts: &Facts, seen: &Seen) -> Option<Step> {
    let old = seen.old.filter(|old| old.run != Run::Removing)?;
    if old.run.is_alive() && facts.stops >= MAX_STOPS {
        return Some(Step::Rollback(Cause::OldWillNotStop));
    }
    // While their namespaces are still there, so that they end in order.
    if !seen.dependants.quiet {
        return Some(Step::Act(Action::StopDependants));
    }
    // Also one that does not run: a daemon that restarts would revive it.
    if old.restart == RestartPolicy::Own {
        return Some(Step::Act(Action::NeutraliseOld));
    }
    old.run.is_alive().then_some(Step::Act(Action::StopOld))
}

/// Forward only. The old container goes when the new one is there to take its place, and the
/// dependants are back.
fn passed(facts: &Facts, seen: &Seen) -> Step {
    match (seen.old, seen.new) {
        (None, Some(_)) if owed(facts, seen.dependants.on_new) => {
            Step::Act(Action::SettleDependants)
        }
        (None, Some(_)) if unwritten(facts, seen) => Step::Act(Action::WriteFile),
        // Someone took both away: the gate's observation stands.
        (None, _) => Step::Record(Phase::Succeeded),
        // A clean-up that kills its workers is left to the janitor.
        (Some(_), _) if facts.takeovers >= PARK_TAKEOVERS => Step::Record(Phase::Succeeded),
        // Somebody else's container has the name, so nothing of ours is missing.
        (Some(_), None) if seen.name == NameHolder::Foreign => Step::Record(Phase::Succeeded),
        (Some(_), None) => Step::Act(Action::CreateNew),
        (Some(old), Some(new)) => {
            if !new.started && facts.prior != Prior::Stopped {
                return match old.run.is_alive() {
                    true => Step::Act(Action::StopOld),
                    false => Step::Act(Action::StartNew),
                };
            }
            match old.run {
                Run::Removing => Step::Wait,
                // Somebody started it, or its daemon did.
                run if run.is_alive() => Step::Act(Action::StopOld),
                _ if owed(facts, seen.dependants.on_new) => Step::Act(Action::SettleDependants),
                _ if unwritten(facts, seen) => Step::Act(Action::WriteFile),
                _ => Step::Act(Action::RemoveOld),
            }
        }
    }
}

fn rollback(facts: &Facts, seen: &Seen) -> Step {
    if facts.takeovers >= PARK_TAKEOVERS && facts.attempt == Attempt::Inherited {
        return Step::Defer(Cause::TooManyTakeovers);
    }
    if let Some(new) = seen.new {
        return match new.run {
            Run::Removing => Step::Wait,
            _ => Step::Act(Action::RemoveNew),
        };
    }
    let Some(old) = seen.old else {
        return match seen.name {
            // F-5: whoever removed ours made theirs.
            NameHolder::Foreign => Step::Superseded,
            NameHolder::Nobody | NameHolder::Ours => Step::Act(Action::RecreateOld),
        };
    };
    if old.run == Run::Removing {
        return Step::Wait;
    }
    if old.named != Named::Original && seen.name != NameHolder::Foreign {
        return Step::Act(Action::RenameBack);
    }
    if old.restart == RestartPolicy::Neutral {
        return Step::Act(Action::RestorePolicy);
    }
    let up = match facts.prior {
        Prior::Stopped => true,
        Prior::Paused => old.run == Run::Paused,
        Prior::Running => matches!(old.run, Run::Running | Run::Restarting | Run::Paused),
    };
    if !up {
        return match facts.restarts {
            0 => Step::Act(Action::StartOld),
            _ => Step::Defer(Cause::OldExitsAgain),
        };
    }
    if facts.settled == Settled::NotYet {
        return Step::Wait;
    }
    if owed(facts, seen.dependants.on_old) {
        return Step::Act(Action::SettleDependants);
    }
    match old.named {
        Named::Original => Step::Record(Phase::RolledBack),
        // F-6: it runs, under its temporary name, until the name is free.
        Named::Temporary | Named::Other => Step::Defer(Cause::NameTaken),
    }
}

/// Whether the dependants are still to be brought back. One that cannot be must not keep the
/// operation open for ever.
fn owed(facts: &Facts, are_back: bool) -> bool {
    !are_back && facts.settlings < MAX_SETTLINGS && facts.takeovers < PARK_TAKEOVERS
}

/// Whether the Compose file is still to be written. One that cannot be must not keep the operation
/// open for ever, and is no reason to go back from what has proved itself.
fn unwritten(facts: &Facts, seen: &Seen) -> bool {
    seen.file == SeenFile::Owed && facts.filings < MAX_FILINGS && facts.takeovers < PARK_TAKEOVERS
}

/// The new container, unless somebody is taking it away.
fn new_of(seen: &Seen) -> Option<SeenNew> {
    seen.new.filter(|new| new.run != Run::Removing)
}

const fn poisoned(facts: &Facts) -> bool {
    facts.takeovers >= POISON_TAKEOVERS
}

#[cfg(test)]
#[path = "recovery_tests.rs"]
mod tests;
