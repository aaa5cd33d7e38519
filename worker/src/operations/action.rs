//! Starting, stopping and restarting a container: the same lease, lock and journal as an update,
//! so that neither runs while the other does, and one step (`domain::action`).

use std::time::Duration;

use plimsoll_app::store::journal::{Changes, Completion};
use plimsoll_domain::{
    action::{Call, ContainerAction, Next, Sight, next},
    ids::ContainerId,
    operation::Phase,
    spec::stop_grace,
};
use serde_json::{Value, json};

use super::{
    crash_point::Side,
    error::StepError,
    observe::run_of,
    program::{Program, Turn},
};
use crate::{docker::EngineError, jobs::Outcome};

/// How often a call may fail, or succeed without having its effect.
const MAX_CALLS: u32 = 3;
/// How long one that was started must go on running.
const SETTLES: Duration = Duration::from_secs(1);

impl Program<'_> {
    /// One turn: look, and do what is to be done next.
    pub(super) async fn act_once(&mut self, action: ContainerAction) -> Result<Turn, StepError> {
        let Some(id) = self.old_id() else {
            return self.fail("it has no container id").await;
        };
        // Another operation may have stopped it, or put it aside to make it again, as one that
        // lives in its container's namespaces. What has begun is brought to its end.
        let first = self.before().is_none();
        if first
            && !self.is_reserved
            && let Some(turn) = Box::pin(self.claim()).await?
        {
            return Ok(turn);
        }
        let container = match self.inspect(&id).await {
            Ok(Some(container)) => container,
            Ok(None) => return self.fail("the container does not exist any more").await,
            Err(error) => return self.action_waits(&error).await,
        };
        self.away = None;
        let (before, now) = (self.before(), sight(&container));
        match next(action, before.as_ref(), &now) {
            // One that ends at once is seen running for a moment.
            Next::Done if !first && action != ContainerAction::Stop && !self.settled => {
                tokio::time::sleep(SETTLES).await;
                self.settled = true;
                Ok(Turn::Next)
            }
            Next::Done => self.action_done(&id, &now).await,
            Next::Failed(why) => self.action_failed(&id, &why).await,
            Next::Call(call) => {
                if first {
                    match self.may_act(action, &container).await {
                        Ok(()) => {}
                        Err(StepError::Refused(why)) => return self.fail(&why).await,
                        Err(error) => return Err(error),
                    }
                }
                self.call(action, call, &id, container, now).await
            }
        }
    }

    /// What was seen before the first call, by whichever worker made it.
    fn before(&self) -> Option<Sight> {
        let evidence = self.operation.evidence.as_ref()?;
        serde_json::from_value(evidence["before"].clone()).ok()
    }

    /// Refuses what only a worker can see.
    async fn may_act(&self, action: ContainerAction, container: &Value) -> Result<(), StepError> {
        self.refuse_barred_actor().await?;
        if action != ContainerAction::Start {
            self.refuse_own_container(container)?;
        }
        Ok(())
    }

    async fn call(
        &mut self,
        action: ContainerAction,
        call: Call,
        id: &ContainerId,
        mut container: Value,
        now: Sight,
    ) -> Result<Turn, StepError> {
        if self.calls >= MAX_CALLS {
            let why = format!(
                "the engine says that it did {}, and shows that it did not",
                name(call)
            );
            return self.action_failed(id, &why).await;
        }
        self.calls += 1;
        let before = self.before().unwrap_or(now);
        let changes = Changes {
            evidence: Some(json!({ "before": before })),
            ..Changes::default()
        };
        self.write(None, Some(name(call)), changes, Completion::Open)
            .await?;
        // Instead of the grace that it was made with.
        let store = self.world.app.store();
        let asked = match call {
            Call::Stop | Call::Restart => store.stop_grace(self.operation.id).await?,
            Call::Start | Call::Unpause => None,
        };
        if let Some(grace) = asked {
            container["Config"]["StopTimeout"] = grace.seconds().into();
        }
        if !self.lease.is_held() {
            return Err(StepError::LeaseLost);
        }
        self.crash_point(action.as_str(), Side::Before);
        let called = match call {
            Call::Start => self.engine.start(id).await,
            Call::Unpause => self.engine.unpause(id).await,
            Call::Restart => self.engine.restart(id, stop_grace(&container)).await,
            Call::Stop => match self.stop(id, &container).await {
                Ok(()) => Ok(()),
                Err(StepError::Engine(error)) => Err(error),
                Err(other) => return Err(other),
            },
        };
        self.crash_point(action.as_str(), Side::After);
        match called {
            Ok(()) => Ok(Turn::Next),
            Err(error) if error.is_engine_away() => self.action_waits(&error).await,
            // It gives the same answer again, except where it stumbled itself.
            Err(error) if call == Call::Stop && error.is_retriable() => Ok(Turn::Next),
            Err(error) => self.action_failed(id, &error.to_string()).await,
        }
    }

    /// An engine that is away is waited for: for a while before anything was done, and then for as
    /// long as it takes.
    async fn action_waits(&mut self, error: &EngineError) -> Result<Turn, StepError> {
        if self.before().is_none() {
            return self.engine_is_away(error).await;
        }
        tracing::warn!(%error, operation = %self.operation.id, "waiting for the engine");
        Ok(Turn::End(Outcome::Later {
            after: std::time::Duration::from_secs(2),
            why: error.to_string(),
        }))
    }

    async fn action_done(&mut self, id: &ContainerId, now: &Sight) -> Result<Turn, StepError> {
        self.show(id).await;
        let changes = Changes {
            evidence: Some(json!({ "by": "observed", "seen": now, "observedAt": self.now() })),
            ..Changes::default()
        };
        self.write(Some(Phase::Succeeded), None, changes, Completion::Completed)
            .await?;
        Ok(Turn::End(Outcome::Done))
    }

    async fn action_failed(&mut self, id: &ContainerId, why: &str) -> Result<Turn, StepError> {
        self.show(id).await;
        self.fail(why).await
    }

    /// Who waits for the end is answered with the container as it is now. Events would bring it
    /// too, only later.
    async fn show(&self, id: &ContainerId) {
        let Some(watcher) = self.world.watchers.get(&self.operation.watcher) else {
            return;
        };
        if let Err(error) = watcher.inventory().refresh(std::slice::from_ref(id)).await {
            tracing::debug!(%error, "the inventory is brought up to date by events");
        }
    }
}

const fn name(call: Call) -> &'static str {
    match call {
        Call::Start => "start",
        Call::Unpause => "unpause",
        Call::Stop => "stop",
        Call::Restart => "restart",
    }
}

fn sight(container: &Value) -> Sight {
    let state = &container["State"];
    Sight {
        run: run_of(container),
        started_at: state["StartedAt"].as_str().unwrap_or_default().to_owned(),
        exit_code: state["ExitCode"].as_i64().unwrap_or_default(),
    }
}
