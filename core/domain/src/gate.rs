//! The health gate: whether the new container has proved itself (reliability.md 2.9, I-12).
//!
//! It has when it runs the image that was asked for, has not been restarted, has been up for the
//! stability window, and is healthy if it can be. A verdict is a function of what is seen and of
//! the database's time, so that a worker that takes over judges by the deadlines of the first one
//! (K6).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    labels::UserLabels,
    recovery::{Prior, Run},
};

/// How long a new container must run, without a label that says otherwise.
pub const DEFAULT_STABILITY: Duration = Duration::from_secs(10);
/// What labels may ask for at least.
pub const MIN_STABILITY: Duration = Duration::from_secs(1);
/// How long a healthcheck may take at least, however short its own times are.
pub const DEFAULT_HEALTH_DEADLINE: Duration = Duration::from_secs(120);
/// Added to what the healthcheck's own times add up to.
const SLACK: Duration = Duration::from_secs(15);

/// Docker's defaults where an image's healthcheck leaves a time out.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_RETRIES: u32 = 3;

/// What the container's healthcheck, if it has one, may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthTimes {
    pub start_period: Duration,
    /// Zero means Docker's default, here and below.
    pub interval: Duration,
    pub timeout: Duration,
    pub retries: u32,
}

/// What a container that ended with code 0 means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lifetime {
    /// A service: ending is failing, whatever the code.
    Service,
    /// The user said so by label: ending with 0 is success.
    OneShot,
}

impl Lifetime {
    /// What the container's own labels `plimsoll.update.one-shot` or `dd.update.one-shot` say.
    pub fn chosen(labels: &UserLabels<'_>) -> Self {
        match labels.opts_in("one-shot") {
            true => Lifetime::OneShot,
            false => Lifetime::Service,
        }
    }
}

/// The gate of one operation, fixed when the new container was first seen running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    /// The database's time.
    pub opened_at: DateTime<Utc>,
    /// Seconds.
    pub stability_secs: u64,
    /// When a healthcheck must have said healthy; absent without a healthcheck.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub healthy_by: Option<DateTime<Utc>>,
    /// `State.StartedAt` when first seen: another one means that it was restarted.
    pub started_at: String,
    /// The image that must run, as the engine's id.
    pub image_id: String,
    pub prior: Prior,
    pub lifetime: Lifetime,
}

impl Gate {
    pub fn stability(&self) -> Duration {
        Duration::from_secs(self.stability_secs)
    }
}

/// The deadline for a healthcheck, after the gate opens: the greater of what is configured and what
/// the check's own times allow (H5).
pub fn health_deadline(times: &HealthTimes, configured: Option<Duration>) -> Duration {
    let or = |value: Duration, default: Duration| if value.is_zero() { default } else { value };
    let retries = match times.retries {
        0 => DEFAULT_RETRIES,
        n => n.min(1_000),
    };
    let round = or(times.interval, DEFAULT_INTERVAL) + or(times.timeout, DEFAULT_TIMEOUT);
    let own = times.start_period + round.saturating_mul(retries) + SLACK;
    own.max(configured.unwrap_or(DEFAULT_HEALTH_DEADLINE))
}

/// What the healthcheck says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// There is none.
    None,
    Starting,
    Healthy,
    /// With the output of the last probe, for people.
    Unhealthy(String),
}

/// The new container, as seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    pub run: Run,
    pub image_id: String,
    pub started_at: String,
    pub restart_count: u64,
    pub exit_code: i64,
    pub oom_killed: bool,
    /// The engine's own words, if it has any.
    pub error: String,
    pub health: Health,
}

/// What a success was observed from; stored with the operation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// What proved it, for people: `healthcheck`, `stability`, `completed`, `not started`,
    /// `paused`.
    pub by: String,
    pub image_id: String,
    pub started_at: String,
    pub restart_count: u64,
    /// Seconds it had been watched for.
    pub stable_secs: u64,
    pub observed_at: DateTime<Utc>,
}

/// Why the new container does not pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub reason: String,
    /// If it ended.
    pub exit_code: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Continue,
    Passed(Evidence),
    Failed(Failure),
}

/// Judges the new container at the database's time `now`.
pub fn judge(seen: &Observation, gate: &Gate, now: DateTime<Utc>) -> Verdict {
    let watched = (now - gate.opened_at).to_std().unwrap_or_default();
    let fail =
        |reason: String, exit_code: Option<i64>| Verdict::Failed(Failure { reason, exit_code });
    let pass = |by: &str| {
        Verdict::Passed(Evidence {
            by: by.to_owned(),
            image_id: seen.image_id.clone(),
            started_at: seen.started_at.clone(),
            restart_count: seen.restart_count,
            stable_secs: watched.as_secs(),
            observed_at: now,
        })
    };
    if seen.image_id != gate.image_id {
        return fail(
            format!(
                "it runs the image {} instead of {}",
                seen.image_id, gate.image_id
            ),
            None,
        );
    }
    if gate.lifetime == Lifetime::OneShot && seen.run == Run::Exited && seen.exit_code == 0 {
        return pass("completed");
    }
    match seen.run {
        Run::Created => return fail(not_started(seen), code(seen)),
        Run::Exited | Run::Dead | Run::Removing => return fail(ended(seen), Some(seen.exit_code)),
        Run::Restarting => return fail(crash_loop(seen), Some(seen.exit_code)),
        Run::Paused if gate.prior == Prior::Paused => return pass("paused"),
        Run::Paused | Run::Running => {}
    }
    if seen.restart_count > 0 || seen.started_at != gate.started_at {
        return fail(crash_loop(seen), code(seen));
    }
    let stable = watched >= gate.stability() && seen.run == Run::Running;
    match &seen.health {
        Health::None if stable => pass("stability"),
        Health::Healthy if stable => pass("healthcheck"),
        Health::None if watched > gate.stability() + DEFAULT_HEALTH_DEADLINE => fail(
            "it is paused, so that nothing can be said about it".to_owned(),
            None,
        ),
        Health::None => Verdict::Continue,
        Health::Unhealthy(output) if output.is_empty() => {
            fail("its healthcheck says unhealthy".to_owned(), None)
        }
        Health::Unhealthy(output) => {
            fail(format!("its healthcheck says unhealthy: {output}"), None)
        }
        Health::Starting | Health::Healthy => match gate.healthy_by {
            Some(deadline) if now >= deadline => fail(
                format!(
                    "its healthcheck has not said healthy within {} s",
                    (deadline - gate.opened_at).num_seconds()
                ),
                None,
            ),
            _ => Verdict::Continue,
        },
    }
}

fn code(seen: &Observation) -> Option<i64> {
    (seen.exit_code != 0).then_some(seen.exit_code)
}

fn not_started(seen: &Observation) -> String {
    match seen.error.as_str() {
        "" => "it was not started".to_owned(),
        error => format!("it could not be started: {error}"),
    }
}

fn ended(seen: &Observation) -> String {
    let mut text = format!("it exited with code {}", seen.exit_code);
    if seen.oom_killed {
        text.push_str(", killed for lack of memory");
    }
    if !seen.error.is_empty() {
        text.push_str(": ");
        text.push_str(&seen.error);
    }
    text
}

fn crash_loop(seen: &Observation) -> String {
    match seen.restart_count {
        0 => "it was restarted while it was watched".to_owned(),
        n => format!(
            "it keeps exiting (code {}) and was restarted {n} times",
            seen.exit_code
        ),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_700_000_000 + secs, 0).unwrap()
    }

    fn gate() -> Gate {
        Gate {
            opened_at: at(0),
            stability_secs: 10,
            healthy_by: None,
            started_at: "s".to_owned(),
            image_id: "sha256:new".to_owned(),
            prior: Prior::Running,
            lifetime: Lifetime::Service,
        }
    }

    fn running() -> Observation {
        Observation {
            run: Run::Running,
            image_id: "sha256:new".to_owned(),
            started_at: "s".to_owned(),
            restart_count: 0,
            exit_code: 0,
            oom_killed: false,
            error: String::new(),
            health: Health::None,
        }
    }

    fn failure(seen: &Observation, gate: &Gate, secs: i64) -> Failure {
        match judge(seen, gate, at(secs)) {
            Verdict::Failed(failure) => failure,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn without_a_healthcheck_it_must_run_for_the_window() {
        assert_eq!(judge(&running(), &gate(), at(9)), Verdict::Continue);
        let Verdict::Passed(evidence) = judge(&running(), &gate(), at(10)) else {
            panic!()
        };
        assert_eq!(evidence.by, "stability");
        assert_eq!(evidence.stable_secs, 10);
    }

    #[test]
    fn an_exit_fails_at_once_whatever_its_code() {
        for exit_code in [0, 1, 137] {
            let seen = Observation {
                run: Run::Exited,
                exit_code,
                ..running()
            };
            assert_eq!(failure(&seen, &gate(), 0).exit_code, Some(exit_code));
        }
    }

    #[test]
    fn a_one_shot_may_end_with_code_0_only() {
        let gate = Gate {
            lifetime: Lifetime::OneShot,
            ..gate()
        };
        let mut seen = Observation {
            run: Run::Exited,
            ..running()
        };
        assert!(matches!(judge(&seen, &gate, at(0)), Verdict::Passed(_)));
        seen.exit_code = 2;
        assert!(matches!(judge(&seen, &gate, at(0)), Verdict::Failed(_)));
    }

    #[test]
    fn a_crash_loop_is_seen_by_its_restarts_although_it_runs() {
        let restarted = Observation {
            restart_count: 1,
            ..running()
        };
        assert!(failure(&restarted, &gate(), 1).reason.contains("restarted"));
        let other_start = Observation {
            started_at: "later".to_owned(),
            ..running()
        };
        assert!(
            failure(&other_start, &gate(), 1)
                .reason
                .contains("restarted")
        );
    }

    #[test]
    fn with_a_healthcheck_it_must_be_healthy_in_time() {
        let gate = Gate {
            healthy_by: Some(at(60)),
            ..gate()
        };
        let with = |health| Observation {
            health,
            ..running()
        };
        assert_eq!(
            judge(&with(Health::Starting), &gate, at(59)),
            Verdict::Continue
        );
        assert!(
            failure(&with(Health::Starting), &gate, 60)
                .reason
                .contains("60 s")
        );
        assert!(
            failure(&with(Health::Unhealthy("no route".to_owned())), &gate, 1)
                .reason
                .contains("no route")
        );
        assert_eq!(
            judge(&with(Health::Healthy), &gate, at(5)),
            Verdict::Continue
        );
        assert!(matches!(
            judge(&with(Health::Healthy), &gate, at(10)),
            Verdict::Passed(_)
        ));
    }

    #[test]
    fn another_image_never_passes() {
        let seen = Observation {
            image_id: "sha256:other".to_owned(),
            ..running()
        };
        assert!(failure(&seen, &gate(), 100).reason.contains("sha256:other"));
    }

    #[test]
    fn the_deadline_leaves_the_healthcheck_its_own_time() {
        let times = HealthTimes {
            start_period: Duration::from_secs(600),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            retries: 4,
        };
        assert_eq!(health_deadline(&times, None), Duration::from_secs(675));
        assert_eq!(
            health_deadline(&times, Some(Duration::from_secs(900))),
            Duration::from_secs(900)
        );
    }

    fn run() -> impl Strategy<Value = Run> {
        prop_oneof![
            Just(Run::Created),
            Just(Run::Running),
            Just(Run::Paused),
            Just(Run::Restarting),
            Just(Run::Exited),
            Just(Run::Dead),
            Just(Run::Removing),
        ]
    }

    fn health() -> impl Strategy<Value = Health> {
        prop_oneof![
            Just(Health::None),
            Just(Health::Starting),
            Just(Health::Healthy),
            Just(Health::Unhealthy(String::new())),
        ]
    }

    proptest! {
        #[test]
        fn a_service_passes_only_running_unrestarted_stable_and_not_unhealthy(
            run in run(), health in health(), restarts in 0u64..2, exit in -1i64..2, secs in 0i64..300,
            healthy_by in proptest::option::of(0i64..200),
        ) {
            let gate = Gate { healthy_by: healthy_by.map(at), ..gate() };
            let seen = Observation { run, health: health.clone(), restart_count: restarts, exit_code: exit, ..running() };
            if let Verdict::Passed(evidence) = judge(&seen, &gate, at(secs)) {
                prop_assert_eq!(run, Run::Running);
                prop_assert_eq!(restarts, 0);
                prop_assert!(evidence.stable_secs >= 10);
                prop_assert!(matches!(health, Health::None | Health::Healthy));
            }
        }

        #[test]
        fn a_verdict_comes_by_the_last_deadline(run in run(), health in health()) {
            let gate = Gate { healthy_by: Some(at(60)), ..gate() };
            let seen = Observation { run, health, ..running() };
            prop_assert_ne!(judge(&seen, &gate, at(1_000)), Verdict::Continue);
        }
    }
}
