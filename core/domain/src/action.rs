//! Starting, stopping and restarting a container (contract/drydock-container-api.md, "Start a
//! container" and the two after it): what is to be done, from what the engine shows.

use serde::{Deserialize, Serialize};

use crate::recovery::Run;

/// What somebody wants of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ContainerAction {
    Start,
    Stop,
    Restart,
}

impl ContainerAction {
    pub const ALL: &'static [Self] = &[Self::Start, Self::Stop, Self::Restart];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }

    /// `Container started successfully`
    pub const fn participle(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Stop => "stopped",
            Self::Restart => "restarted",
        }
    }

    /// As the audit trail names it.
    pub const fn audit_action(self) -> &'static str {
        match self {
            Self::Start => "container-start",
            Self::Stop => "container-stop",
            Self::Restart => "container-restart",
        }
    }
}

/// How long a container may take to stop, in whole seconds, where whoever asks says so; otherwise
/// what it was made with holds ([`stop_grace`](crate::spec::stop_grace)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StopGrace(u16);

impl StopGrace {
    /// Nothing here waits longer for a container that was made with more, either.
    pub const LONGEST: u16 = 60 * 60;

    /// `None` for less than nothing and for more than [`Self::LONGEST`]. With 0 it is killed at once.
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        let seconds = u16::try_from(seconds).ok()?;
        (seconds <= Self::LONGEST).then_some(Self(seconds))
    }

    pub const fn seconds(self) -> u16 {
        self.0
    }
}

/// One look at the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Sight {
    pub run: Run,
    /// When it was last started, in the engine's words: only compared with itself.
    pub started_at: String,
    pub exit_code: i64,
}

/// A call to the engine. Each can be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    Start,
    Unpause,
    Stop,
    Restart,
}

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Call(Call),
    /// The engine shows what was wanted.
    Done,
    /// For people.
    Failed(String),
}

/// The next step, given what was seen `before` the first call (`None` if there was none yet) and
/// what is seen now. The same after a takeover: whether a start has happened is told by the time
/// of the start and not by who remembers it.
pub fn next(action: ContainerAction, before: Option<&Sight>, now: &Sight) -> Next {
    if matches!(now.run, Run::Removing | Run::Dead) {
        return Next::Failed("the engine is removing it".to_owned());
    }
    let was_started = before.is_some_and(|before| before.started_at != now.started_at);
    match action {
        ContainerAction::Stop => match now.run.is_alive() {
            true => Next::Call(Call::Stop),
            false => Next::Done,
        },
        ContainerAction::Start => match now.run {
            Run::Paused => Next::Call(Call::Unpause),
            run if run.is_alive() => Next::Done,
            _ if was_started => ended(now),
            _ => Next::Call(Call::Start),
        },
        ContainerAction::Restart => match was_started {
            false => Next::Call(Call::Restart),
            true if now.run.is_alive() => Next::Done,
            true => ended(now),
        },
    }
}

/// A container that has done its work is no failure; one that could not begin is.
fn ended(now: &Sight) -> Next {
    match now.exit_code {
        0 => Next::Done,
        code => Next::Failed(format!("it was started and ended at once with code {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(run: Run, started_at: &str, exit_code: i64) -> Sight {
        Sight {
            run,
            started_at: started_at.to_owned(),
            exit_code,
        }
    }

    #[test]
    fn a_grace_is_at_most_an_hour() {
        let seconds = |given| StopGrace::from_seconds(given).map(StopGrace::seconds);
        assert_eq!(seconds(0), Some(0));
        assert_eq!(seconds(3600), Some(3600));
        for bad in [-1, 3601, 70_000, i64::MIN, i64::MAX] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_already_so_is_success() {
        let running = sight(Run::Running, "1", 0);
        let exited = sight(Run::Exited, "1", 3);
        assert_eq!(next(ContainerAction::Start, None, &running), Next::Done);
        assert_eq!(next(ContainerAction::Stop, None, &exited), Next::Done);
        let created = sight(Run::Created, "", 0);
        assert_eq!(next(ContainerAction::Stop, None, &created), Next::Done);
    }

    #[test]
    fn a_restart_is_over_when_the_engine_shows_a_new_start_whoever_made_it() {
        use ContainerAction::Restart;
        let before = sight(Run::Running, "1", 0);
        for (now, expected) in [
            (before.clone(), Next::Call(Call::Restart)),
            // A worker died between the stop and the start.
            (sight(Run::Exited, "1", 143), Next::Call(Call::Restart)),
            (sight(Run::Running, "2", 0), Next::Done),
            (sight(Run::Restarting, "2", 1), Next::Done),
            (sight(Run::Exited, "2", 0), Next::Done),
        ] {
            assert_eq!(next(Restart, Some(&before), &now), expected, "{now:?}");
        }
        let lost = next(Restart, Some(&before), &sight(Run::Exited, "2", 7));
        assert!(matches!(lost, Next::Failed(why) if why.contains('7')));
        let first = next(Restart, None, &before);
        assert_eq!(first, Next::Call(Call::Restart));
    }

    #[test]
    fn a_start_is_asked_for_once_and_judged_by_what_follows() {
        use ContainerAction::Start;
        let before = sight(Run::Exited, "1", 0);
        assert_eq!(next(Start, None, &before), Next::Call(Call::Start));
        assert_eq!(next(Start, Some(&before), &before), Next::Call(Call::Start));
        let up = sight(Run::Running, "2", 0);
        assert_eq!(next(Start, Some(&before), &up), Next::Done);
        let done = sight(Run::Exited, "2", 0);
        assert_eq!(next(Start, Some(&before), &done), Next::Done);
        let broken = sight(Run::Exited, "2", 1);
        assert!(matches!(
            next(Start, Some(&before), &broken),
            Next::Failed(_)
        ));
        let paused = sight(Run::Paused, "1", 0);
        assert_eq!(next(Start, None, &paused), Next::Call(Call::Unpause));
    }

    #[test]
    fn a_stop_goes_on_until_it_does_not_run() {
        use ContainerAction::Stop;
        for run in [Run::Running, Run::Paused, Run::Restarting] {
            let now = sight(run, "1", 0);
            assert_eq!(next(Stop, None, &now), Next::Call(Call::Stop));
            assert_eq!(next(Stop, Some(&now), &now), Next::Call(Call::Stop));
        }
        let gone = sight(Run::Removing, "1", 0);
        assert!(matches!(next(Stop, None, &gone), Next::Failed(_)));
    }
}
