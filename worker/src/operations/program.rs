//! The loop: observe, decide, write, act, and observe again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use plimsoll_app::store::{
    journal::{Changes, Completion},
    update_operations::Operation,
};
use plimsoll_domain::{
    gate::{Gate, Verdict, judge},
    ids::ContainerId,
    operation::Phase,
    recovery::{Action, Attempt, Cause, Facts, Prepared, Prior, Settled, Step, next_step},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{
    Inner, TriggerOptions,
    crash_point::Side,
    dependants::DependantEnd,
    error::StepError,
    gate,
    observe::View,
    plan::{Plan, Snapshot},
    spans::PhaseSpan,
};
use crate::{
    compose::ComposeOptions,
    docker::Engine,
    jobs::{JobContext, LeaseGuard, Outcome},
};

/// How often the new container is looked at. An exit is noticed within 2 s (reliability.md H1).
pub(super) const POLL: Duration = Duration::from_millis(200);
/// How long the old container must stay up, after it was started again, to count as running.
const SETTLE: Duration = Duration::from_secs(1);
/// How often in a row an action may succeed without having its effect.
const MAX_REPEATS: u32 = 5;

/// One operation under one lease.
pub(super) struct Program<'a> {
    pub(super) world: &'a Inner,
    pub(super) engine: &'a Engine,
    pub(super) lease: LeaseGuard,
    pub(super) options: TriggerOptions,
    pub(super) shutdown: CancellationToken,
    /// As stored; updated with each write.
    pub(super) operation: Operation,
    pub(super) takeovers: u32,
    /// Under this lease: what others do to its containers is over.
    pub(super) is_reserved: bool,
    pub(super) snapshot: Option<Snapshot>,
    pub(super) plan: Option<Plan>,
    pub(super) gate: Option<Gate>,
    pub(super) prepared: Prepared,
    pub(super) preparations: u32,
    pub(super) stops: u32,
    pub(super) creations: u32,
    pub(super) restarts: u32,
    pub(super) settlings: u32,
    /// Writes of the Compose file under this lease.
    pub(super) filings: u32,
    /// What became of it, once the operation ends.
    pub(super) file_end: Option<String>,
    /// Calls of an action under this lease.
    pub(super) calls: u32,
    /// An action: what it started has had its moment to end at once.
    pub(super) settled: bool,
    /// Why dependants could not be brought back when that was last tried, by name.
    pub(super) unsettled: BTreeMap<String, String>,
    /// What became of the dependants, once the operation ends.
    pub(super) dependants: Vec<DependantEnd>,
    /// The database's time.
    pub(super) old_started: Option<DateTime<Utc>>,
    pub(super) attempt: Attempt,
    pub(super) trouble: Option<(Action, u32)>,
    /// The last action that succeeded, and how often in a row.
    done: Option<(Action, u32)>,
    waiting: Option<Instant>,
    pub(super) away: Option<Away>,
    /// The engine was away since the gate opened: a restart may not be the container's fault.
    pub(super) engine_came_back: bool,
    /// The new container was started before that could be written (reliability.md P2).
    pub(super) started_ahead: bool,
    clock: Clock,
    pub(super) spans: PhaseSpan,
}

/// An engine that does not answer.
#[derive(Clone, Copy)]
pub(super) struct Away {
    pub(super) since: Instant,
    pub(super) pause: Duration,
}

/// The database's time, without asking for it each time.
struct Clock {
    database: DateTime<Utc>,
    here: Instant,
}

/// What a turn of the loop leads to.
pub(super) enum Turn {
    Next,
    End(Outcome),
}

/// What is done and not written yet: it goes together with the next intent.
pub(super) type Pending = Option<(Phase, Changes)>;

impl<'a> Program<'a> {
    /// # Errors
    /// A stored snapshot or plan that this version cannot read; for people.
    pub(super) fn new(
        world: &'a Inner,
        engine: &'a Engine,
        context: &JobContext,
        operation: Operation,
        now: DateTime<Utc>,
    ) -> Result<Self, String> {
        let trigger = operation.trigger_name.as_deref();
        let options = trigger.and_then(|id| world.settings.triggers.get(id));
        let mut options = options.cloned().unwrap_or_default();
        if operation.compose_file.is_some() && options.compose.is_none() {
            let access = world.settings.compose.clone();
            options.compose = Some(ComposeOptions::asked_for(access));
        }
        Ok(Self {
            world,
            engine,
            lease: context.lease.clone(),
            options,
            shutdown: context.shutdown.clone(),
            takeovers: context.job.takeovers,
            is_reserved: false,
            snapshot: stored(operation.snapshot.as_ref())?,
            plan: stored(operation.new_spec.as_ref())?,
            gate: stored(operation.gate.as_ref())?,
            spans: PhaseSpan::begin(operation.phase),
            operation,
            prepared: Prepared::NotYet,
            preparations: 0,
            stops: 0,
            creations: 0,
            restarts: 0,
            settlings: 0,
            filings: 0,
            file_end: None,
            calls: 0,
            settled: false,
            unsettled: BTreeMap::new(),
            dependants: Vec::new(),
            old_started: None,
            attempt: Attempt::Inherited,
            trouble: None,
            done: None,
            waiting: None,
            away: None,
            engine_came_back: false,
            started_ahead: false,
            clock: Clock {
                database: now,
                here: Instant::now(),
            },
        })
    }

    pub(super) async fn run(mut self) -> Outcome {
        loop {
            if self.shutdown.is_cancelled() {
                return Outcome::HandedOver;
            }
            if !self.lease.is_held() {
                return Outcome::LeaseLost;
            }
            let span = self.spans.current();
            let turn = match self.operation.kind.action() {
                Some(action) => self.act_once(action).instrument(span).await,
                None => self.turn().instrument(span).await,
            };
            match turn {
                Ok(Turn::Next) => {}
                Ok(Turn::End(outcome)) => return outcome,
                Err(StepError::LeaseLost) => return Outcome::LeaseLost,
                Err(error) => {
                    tracing::error!(%error, operation = %self.operation.id, "an operation is interrupted");
                    return Outcome::Later {
                        after: Duration::from_secs(5),
                        why: error.to_string(),
                    };
                }
            }
        }
    }

    async fn turn(&mut self) -> Result<Turn, StepError> {
        let view = match self.observe().await {
            Ok(view) => view,
            Err(error) => return self.engine_is_away(&error).await,
        };
        if self.away.take().is_some() {
            self.engine_came_back = true;
        }
        let mut pending: Pending = None;
        loop {
            let phase = pending
                .as_ref()
                .map_or(self.operation.phase, |(phase, _)| *phase);
            match next_step(&self.facts(phase, view.at), &view.seen) {
                Step::Record(phase) => {
                    self.flush(pending.take()).await?;
                    if phase == Phase::Succeeded {
                        self.run_post_hook().await?;
                        Box::pin(self.after_update()).await?;
                        self.file_end = self.end_of_file().await;
                    }
                    match self.reached(phase, &view) {
                        Ok(changes) => pending = Some((phase, changes)),
                        Err(why) => return self.turn_round(&why, None, &view).await,
                    }
                    if phase.is_terminal() {
                        self.flush(pending.take()).await?;
                        if phase == Phase::Succeeded && self.options.prune {
                            self.prune().await;
                        }
                        return Ok(Turn::End(Outcome::Done));
                    }
                }
                Step::Act(action) => return self.act(action, pending, &view).await,
                Step::Judge => {
                    self.flush(pending.take()).await?;
                    match self.judge(&view).await? {
                        Ok(changes) => pending = Some((Phase::HealthGatePassed, changes)),
                        Err(turn) => return Ok(turn),
                    }
                }
                Step::Wait => {
                    self.flush(pending.take()).await?;
                    let since = *self.waiting.get_or_insert_with(Instant::now);
                    if since.elapsed() >= self.options.auto_remove_timeout {
                        self.waiting = None;
                        let why = "the engine does not finish removing a container";
                        return self.cannot(why, &view).await;
                    }
                    self.pause(POLL).await;
                    return Ok(Turn::Next);
                }
                Step::Fail(cause) => return Box::pin(self.fail_if_it_is_ours(cause)).await,
                Step::Rollback(cause) => {
                    self.flush(pending.take()).await?;
                    return self.turn_round(cause.text(), None, &view).await;
                }
                Step::Defer(cause) => {
                    self.flush(pending.take()).await?;
                    return self.defer(cause.text()).await;
                }
                Step::Superseded => {
                    self.flush(pending.take()).await?;
                    return self.give_way(Cause::NameTaken.text()).await;
                }
                Step::Over => return Ok(Turn::End(Outcome::Done)),
            }
        }
    }

    /// Ends an operation whose container is not there as it was when it was asked for. Another one
    /// may have put it aside to make it again (reliability.md S17): that one is waited for, and
    /// then the container is looked at once more.
    async fn fail_if_it_is_ours(&mut self, cause: Cause) -> Result<Turn, StepError> {
        if self.is_reserved {
            return self.fail(cause.text()).await;
        }
        Ok(self.claim().await?.unwrap_or(Turn::Next))
    }

    /// With a look at `seen_at`.
    fn facts(&self, phase: Phase, seen_at: DateTime<Utc>) -> Facts {
        let settled = match self.old_started {
            Some(at) if seen_at < at + SETTLE => Settled::NotYet,
            _ => Settled::Yes,
        };
        Facts {
            phase,
            prior: self.prior(),
            prepared: self.prepared,
            takeovers: self.takeovers,
            stops: self.stops,
            creations: self.creations,
            restarts: self.restarts,
            settlings: self.settlings,
            filings: self.filings,
            settled,
            attempt: self.attempt,
        }
    }

    /// What a phase that the engine shows brings into the row, or why the program turns round.
    fn reached(&mut self, phase: Phase, view: &View) -> Result<Changes, String> {
        let mut changes = Changes::default();
        match phase {
            Phase::NewCreated => {
                let new = view.new.as_ref();
                changes.new_container = new.and_then(id_of);
                let target = self.plan.as_ref().map(|plan| plan.image_id.as_str());
                // The tag may have moved between the pull and the creation (S-49).
                if new.and_then(|new| new["Image"].as_str()) != target {
                    return Err("the new container was made from another image".to_owned());
                }
                self.report_differences(new);
            }
            Phase::HealthGate => {
                let (Some(new), Some(plan)) = (&view.new, &self.plan) else {
                    return Err(Cause::NewGone.text().to_owned());
                };
                let gate = gate::open(new, plan, self.prior(), self.now());
                changes.gate = json(&gate);
                self.gate = Some(gate);
                self.engine_came_back = false;
            }
            // A container that did not run: the new one is there, from the right image, and is
            // left as the old one was (F-8).
            Phase::HealthGatePassed => {
                changes.evidence = Some(serde_json::json!({
                    "by": "not started",
                    "imageId": self.plan.as_ref().map(|plan| plan.image_id.as_str()),
                    "observedAt": view.at,
                }));
            }
            Phase::RollbackStarted => self.attempt = Attempt::Begun,
            Phase::Succeeded | Phase::RolledBack => {
                self.dependants = self.ends_of(view, phase);
            }
            _ => {}
        }
        Ok(changes)
    }

    /// I-7: what differs from the plan is worth knowing, and no reason to stop.
    fn report_differences(&self, new: Option<&Value>) {
        let (Some(new), Some(plan)) = (new, &self.plan) else {
            return;
        };
        for difference in plimsoll_domain::spec::fidelity(&plan.spec.expected, new) {
            tracing::warn!(
                operation = %self.operation.id,
                container = self.operation.container_name,
                path = difference.path,
                "the new container differs from its plan"
            );
        }
    }

    /// `Ok` with the evidence when the gate is passed; `Err` with the turn that ends otherwise.
    async fn judge(&mut self, view: &View) -> Result<Result<Changes, Turn>, StepError> {
        let Some(new) = &view.new else {
            return Ok(Err(Turn::Next));
        };
        let Some(mut gate) = self.gate.clone() else {
            return Ok(Err(self
                .turn_round("the health gate is not known", None, view)
                .await?));
        };
        let seen = gate::observation(new);
        if self.engine_came_back && seen.started_at != gate.started_at && seen.restart_count == 0 {
            // The engine restarted it, not its own failing: the gate begins anew, once (D1, D2).
            if let Some(plan) = &self.plan {
                gate = gate::open(new, plan, self.prior(), self.now());
                let changes = Changes {
                    gate: json(&gate),
                    ..Changes::default()
                };
                self.gate = Some(gate.clone());
                self.engine_came_back = false;
                self.write(None, Some("judge"), changes, Completion::Open)
                    .await?;
            }
        }
        // By the time of the look, not by now: a write in between may have taken longer than the
        // whole stability window.
        match judge(&seen, &gate, view.at) {
            Verdict::Continue => {
                // Not later than the window's end.
                let left = gate.opened_at + gate.stability() - self.now();
                let left = left.to_std().ok().filter(|left| !left.is_zero());
                self.pause(left.map_or(POLL, |left| left.min(POLL))).await;
                Ok(Err(Turn::Next))
            }
            Verdict::Passed(evidence) => Ok(Ok(Changes {
                evidence: json(&evidence),
                ..Changes::default()
            })),
            Verdict::Failed(failure) => {
                let exit_code = failure.exit_code.and_then(|code| code.try_into().ok());
                let reason = format!("Health check failed: {}", failure.reason);
                Ok(Err(self.turn_round(&reason, exit_code, view).await?))
            }
        }
    }

    async fn act(
        &mut self,
        action: Action,
        pending: Pending,
        view: &View,
    ) -> Result<Turn, StepError> {
        if action == Action::RenameOld && self.has_drifted(view) {
            self.flush(pending).await?;
            self.prepared = Prepared::NotYet;
            return Ok(Turn::Next);
        }
        let (phase, changes) = match pending {
            Some((phase, changes)) => (Some(phase), changes),
            None => (None, Changes::default()),
        };
        self.write(phase, Some(action.as_str()), changes, Completion::Open)
            .await?;
        if !self.lease.is_held() {
            return Err(StepError::LeaseLost);
        }
        self.crash_point(action.as_str(), Side::Before);
        // What was pending is written: the effect belongs to the phase that it brought.
        let span = self.spans.current();
        let result = Box::pin(self.effect(action, view)).instrument(span).await;
        self.crash_point(action.as_str(), Side::After);
        match result {
            Ok(Turn::Next) => {
                self.trouble = None;
                self.waiting = None;
                let repeats = match self.done {
                    Some((same, count)) if same == action => count + 1,
                    _ => 1,
                };
                self.done = Some((action, repeats));
                if repeats < MAX_REPEATS {
                    return Ok(Turn::Next);
                }
                self.done = None;
                let why =
                    format!("the engine says that it did {action}, and shows that it did not");
                self.cannot(&why, view).await
            }
            Ok(end) => Ok(end),
            Err(StepError::Engine(error)) if error.is_engine_away() => {
                self.engine_is_away(&error).await
            }
            Err(StepError::Engine(error)) => self.troubled(action, &error, view).await,
            Err(StepError::Refused(why)) => self.cannot(&why, view).await,
            Err(error) => Err(error),
        }
    }

    /// Whether the configuration of the old container, or of one that lives in its namespaces, is
    /// no longer what was prepared for (F-7).
    fn has_drifted(&self, view: &View) -> bool {
        let (Some(snapshot), Some(old)) = (&self.snapshot, &view.old) else {
            return false;
        };
        let mut kin = snapshot.dependants.iter().zip(&view.dependants);
        !snapshot.is_still_true_of(old) || kin.any(|(was, kin)| kin.has_drifted(was))
    }

    pub(super) fn crash_point(&self, point: &str, side: Side) {
        if let Some(crash) = &self.world.settings.crash_at {
            crash.pass(point, side);
        }
    }

    /// The database's time.
    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.database + self.clock.here.elapsed()
    }

    /// Waits, unless there is a reason to look at once.
    pub(super) async fn pause(&self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            () = self.shutdown.cancelled() => {}
        }
    }

    /// Whether the new container is to be started at all.
    pub(super) fn is_to_run(&self) -> bool {
        self.prior() != Prior::Stopped
    }
}

pub(super) fn id_of(inspect: &Value) -> Option<ContainerId> {
    inspect["Id"].as_str().and_then(ContainerId::parse)
}

/// Our own types always serialise.
pub(super) fn json<T: serde::Serialize>(value: &T) -> Option<Value> {
    serde_json::to_value(value).ok()
}

fn stored<T: DeserializeOwned>(value: Option<&Value>) -> Result<Option<T>, String> {
    value
        .map(|value| serde_json::from_value(value.clone()))
        .transpose()
        .map_err(|e| format!("the stored state of the operation cannot be read: {e}"))
}
