//! When something does not work: wait for the engine, try again, turn round, fail, or come back
//! later.

use std::time::{Duration, Instant};

use plimsoll_app::store::journal::{Changes, Completion};
use plimsoll_domain::{
    operation::Phase,
    recovery::{Action, Attempt, PARK_TAKEOVERS},
};
use serde_json::Value;

use super::{
    error::StepError,
    observe::{View, run_of},
    program::{Away, Program, Turn, id_of},
};
use crate::{docker::EngineError, jobs::Outcome};

/// How long an engine that was not touched yet is waited for.
const PREPARE_PATIENCE: Duration = Duration::from_secs(60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Between attempts at a rollback (reliability.md K12).
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(5 * 60);
/// What is kept of the new container's output (reliability.md H1).
const LOG_LINES: u32 = 200;
const LOG_BYTES: usize = 64 << 10;

impl Program<'_> {
    /// The engine does not answer. Before anything was touched the operation may fail; afterwards
    /// it waits, however long it takes (reliability.md D1).
    pub(super) async fn engine_is_away(&mut self, error: &EngineError) -> Result<Turn, StepError> {
        let away = self.away.get_or_insert(Away {
            since: Instant::now(),
            pause: FIRST_PAUSE,
        });
        let pause = away.pause;
        away.pause = (pause * 2).min(LONGEST_PAUSE);
        let since = away.since;
        tracing::warn!(%error, operation = %self.operation.id, "waiting for the engine");
        if self.operation.phase == Phase::Prepare
            && self.operation.temp_name.is_none()
            && since.elapsed() >= PREPARE_PATIENCE
        {
            return self.fail(&error.to_string()).await;
        }
        self.pause(pause).await;
        Ok(Turn::Next)
    }

    /// An action failed while the engine is there. It is looked at, and tried again where that can
    /// help (reliability.md D5).
    pub(super) async fn troubled(
        &mut self,
        action: Action,
        error: &EngineError,
        view: &View,
    ) -> Result<Turn, StepError> {
        let count = match self.trouble {
            Some((same, count)) if same == action => count + 1,
            _ => 1,
        };
        self.trouble = Some((action, count));
        let limit = match action {
            // The service is down meanwhile, and the engine gives the same answer again.
            Action::StartNew => 1,
            _ if error.is_retriable() => 3,
            // Somebody may have changed the state that the call was for: look once more.
            _ if error.is_conflict() || error.is_not_found() => 2,
            _ => 1,
        };
        if count < limit {
            self.pause(FIRST_PAUSE * count).await;
            return Ok(Turn::Next);
        }
        self.trouble = None;
        self.cannot(&error.to_string(), view).await
    }

    /// The way forward is closed.
    pub(super) async fn cannot(&mut self, why: &str, view: &View) -> Result<Turn, StepError> {
        match self.operation.phase {
            Phase::Prepare => self.fail(why).await,
            Phase::Renamed
            | Phase::NewCreated
            | Phase::OldStopped
            | Phase::NewStarted
            | Phase::HealthGate => self.turn_round(why, None, view).await,
            // Only cleaning up is left, and it is no reason to go back.
            Phase::HealthGatePassed => Ok(Turn::End(Outcome::Later {
                after: FIRST_RETRY,
                why: why.to_owned(),
            })),
            Phase::RollbackStarted | Phase::RollbackFailed => self.defer(why).await,
            Phase::Succeeded | Phase::RolledBack | Phase::Failed => Ok(Turn::End(Outcome::Done)),
        }
    }

    /// Ends an operation that has touched nothing.
    pub(super) async fn fail(&mut self, why: &str) -> Result<Turn, StepError> {
        let changes = Changes {
            last_error: Some(clean(why)),
            ..Changes::default()
        };
        self.write(Some(Phase::Failed), None, changes, Completion::Completed)
            .await?;
        Ok(Turn::End(Outcome::Done))
    }

    /// Begins the rollback program. What the new container said is kept before it is removed.
    pub(super) async fn turn_round(
        &mut self,
        why: &str,
        exit_code: Option<i32>,
        view: &View,
    ) -> Result<Turn, StepError> {
        let (log, code) = match &view.new {
            Some(new) => (
                self.last_words(new).await,
                exit_code.or_else(|| exit_of(new)),
            ),
            None => (None, exit_code),
        };
        let changes = Changes {
            rollback_reason: Some(clean(why)),
            exit_code: code,
            last_log: log,
            ..Changes::default()
        };
        self.write(
            Some(Phase::RollbackStarted),
            None,
            changes,
            Completion::Open,
        )
        .await?;
        self.attempt = Attempt::Begun;
        self.restarts = 0;
        self.settlings = 0;
        self.old_started = None;
        Ok(Turn::Next)
    }

    async fn last_words(&self, new: &Value) -> Option<String> {
        let id = id_of(new)?;
        match self.engine.logs_tail(&id, LOG_LINES, LOG_BYTES).await {
            Ok(log) => Some(clean(&log)),
            Err(error) => Some(format!("(the output could not be read: {error})")),
        }
    }

    /// The rollback does not get on now. It stays owned and is tried again.
    pub(super) async fn defer(&mut self, why: &str) -> Result<Turn, StepError> {
        tracing::error!(
            operation = %self.operation.id,
            container = self.operation.container_name,
            why,
            "the rollback could not be finished and will be tried again"
        );
        let changes = Changes {
            last_error: Some(clean(why)),
            ..Changes::default()
        };
        self.write(Some(Phase::RollbackFailed), None, changes, Completion::Open)
            .await?;
        let attempts = self
            .world
            .app
            .store()
            .count_phase(self.operation.id, Phase::RollbackFailed)
            .await?;
        let after = match self.takeovers >= PARK_TAKEOVERS {
            true => LONGEST_RETRY,
            false => backoff(attempts),
        };
        Ok(Turn::End(Outcome::Later {
            after,
            why: why.to_owned(),
        }))
    }

    /// Somebody else's container has taken the place of ours (reliability.md F-5).
    pub(super) async fn give_way(&mut self, why: &str) -> Result<Turn, StepError> {
        let changes = Changes {
            last_error: Some(why.to_owned()),
            ..Changes::default()
        };
        self.write(
            Some(Phase::RollbackFailed),
            None,
            changes,
            Completion::Completed,
        )
        .await?;
        Ok(Turn::End(Outcome::Done))
    }
}

fn backoff(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.clamp(1, 10) - 1).unwrap_or_default();
    (FIRST_RETRY * 2_u32.pow(doublings)).min(LONGEST_RETRY)
}

/// The exit code of a container that ended.
fn exit_of(new: &Value) -> Option<i32> {
    if run_of(new).is_alive() {
        return None;
    }
    let code = new["State"]["ExitCode"].as_i64()?;
    (code != 0)
        .then_some(code)
        .and_then(|code| code.try_into().ok())
}

/// Postgres keeps no NUL in a text.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rollbacks_are_tried_again_after_5_seconds_and_at_least_every_5_minutes() {
        assert_eq!(backoff(1), Duration::from_secs(5));
        assert_eq!(backoff(2), Duration::from_secs(10));
        assert_eq!(backoff(100), Duration::from_secs(300));
    }
}
