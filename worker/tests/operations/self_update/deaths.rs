//! Killing the worker and its helper around every phase.

use futures::StreamExt;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use plimsoll_domain::ids::OperationId;
use plimsoll_support::{image::Image, oracle::End, wait};

use super::{Own, SOON, good};

/// They mostly wait for leases to run out.
const AT_A_TIME: usize = 4;

/// Who is killed.
#[derive(Clone, Copy, Debug)]
enum Victim {
    /// Plimsoll in the container that the operation replaces, old or new.
    Worker,
    Helper,
}

/// A moment of the program: just before a phase is written, or just after.
#[derive(Clone, Copy, Debug)]
struct Moment {
    phase: &'static str,
    side: Side,
}

#[derive(Clone, Copy, Debug)]
enum Side {
    Before,
    After,
}

impl Moment {
    /// `make chaos` has both sides of each phase; a run of all tests takes turns.
    fn around(phases: &[&'static str]) -> Vec<Self> {
        let both = std::env::var_os("PLIMSOLL_CHAOS_DEATHS").is_some();
        let sides = |number: usize| match (both, number % 2) {
            (true, _) => &[Side::Before, Side::After][..],
            (false, 0) => &[Side::Before],
            (false, _) => &[Side::After],
        };
        let moments = phases.iter().enumerate().flat_map(|(number, phase)| {
            let at = move |side: &Side| Moment { phase, side: *side };
            sides(number).iter().map(at)
        });
        moments.collect()
    }

    /// The write of the operation's row that it is at.
    fn write(self) -> String {
        match (self.phase, self.side) {
            ("handed-over", _) => "NEW.exclusive AND NOT OLD.exclusive".to_owned(),
            ("prepare", Side::Before) => "NEW.intent = 'prepare'".to_owned(),
            ("prepare", Side::After) => "NEW.intent = 'rename-old'".to_owned(),
            (phase, Side::Before) => format!("NEW.phase = '{phase}' AND OLD.phase <> '{phase}'"),
            (phase, Side::After) => format!("OLD.phase = '{phase}'"),
        }
    }
}

impl Own {
    /// The process of a container, if it runs.
    async fn process(&self, container: &str) -> Option<Pid> {
        let state = self.world.docker.inspect(container).await?.state?;
        let pid = state.pid.filter(|pid| *pid > 0)?;
        i32::try_from(pid).ok().map(Pid::from_raw)
    }

    /// As if the machine's memory had run out: the engine is not told that somebody wanted it.
    async fn kill(&self, victim: Victim, operation: OperationId) {
        let candidates = match victim {
            Victim::Helper => vec![format!("plimsoll-helper-{operation}")],
            Victim::Worker => vec![self.container.id.clone(), self.container.name.clone()],
        };
        for container in candidates {
            let Some(pid) = self.process(&container).await else {
                continue;
            };
            kill(pid, Signal::SIGKILL).expect("it can be killed");
            return wait::until_true("the engine sees the death", SOON, async || {
                self.process(&container).await != Some(pid)
            })
            .await;
        }
        panic!("{victim:?} does not run");
    }
}

async fn dies(victim: Victim, at: Moment, target: Image, expected: End) {
    let own = Own::start().await;
    let is_last = matches!(at.phase, "succeeded" | "rolled-back");
    if let (true, Side::After) = (is_last, at.side) {
        // Nothing is written any more.
        let operation = own.request(target).await;
        own.world.reaches(operation, "phase", at.phase).await;
        if let Victim::Worker = victim {
            own.world.oracle.expect_restarts();
            own.kill(victim, operation).await;
        } else if let Some(pid) = own.process(&format!("plimsoll-helper-{operation}")).await {
            // It may have left by itself.
            let _ = kill(pid, Signal::SIGKILL);
        }
        return own.ends(operation, expected).await;
    }
    own.hold(&own.container, &at.write()).await;
    let operation = own.request(target).await;
    own.is_held().await;
    own.kill(victim, operation).await;
    if let Victim::Worker = victim {
        own.world.oracle.expect_restarts();
    }
    own.let_go().await;
    own.ends(operation, expected).await;
    if let Victim::Helper = victim {
        assert!(own.world.takeovers(operation).await >= 1, "{at:?}");
    }
}

async fn all_die(victim: Victim, moments: Vec<Moment>, target: fn() -> Image, expected: End) {
    futures::stream::iter(moments)
        .for_each_concurrent(AT_A_TIME, |at| async move {
            eprintln!("{victim:?} {at:?}");
            dies(victim, at, target(), expected).await;
            eprintln!("{victim:?} {at:?}: {expected:?}");
        })
        .await;
}

fn bad() -> Image {
    Image::app("1.1.0").entrypoint(["sh", "-c", "exit 3"])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_before_the_new_worker_runs_is_started_again() {
    let phases = ["prepare", "renamed", "new-created", "old-stopped"];
    all_die(
        Victim::Helper,
        Moment::around(&phases),
        good,
        End::Succeeded,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_beside_the_new_worker_is_started_again() {
    let phases = [
        "new-started",
        "health-gate",
        "health-gate-passed",
        "succeeded",
    ];
    all_die(
        Victim::Helper,
        Moment::around(&phases),
        good,
        End::Succeeded,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_dies_on_the_way_back_is_started_again() {
    let phases = ["rollback-started", "rolled-back"];
    all_die(
        Victim::Helper,
        Moment::around(&phases),
        bad,
        End::RolledBack,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_dies_before_it_is_stopped_changes_nothing() {
    let mut moments = Moment::around(&["prepare", "renamed", "new-created"]);
    // There is no helper yet.
    moments.push(Moment {
        phase: "handed-over",
        side: Side::Before,
    });
    all_die(Victim::Worker, moments, good, End::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_worker_that_dies_once_it_is_back_comes_back_again() {
    let moments = Moment::around(&["rolled-back"]);
    all_die(Victim::Worker, moments, bad, End::RolledBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_worker_that_dies_before_it_has_proved_itself_is_not_kept() {
    let mut moments = Moment::around(&["new-started"]);
    moments.push(Moment {
        phase: "health-gate",
        side: Side::Before,
    });
    all_die(Victim::Worker, moments, good, End::RolledBack).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_worker_that_dies_after_it_has_proved_itself_comes_back() {
    let mut moments = Moment::around(&["health-gate-passed", "succeeded"]);
    // The write after the gate is the one that says that it is passed.
    moments.push(Moment {
        phase: "health-gate",
        side: Side::After,
    });
    all_die(Victim::Worker, moments, good, End::Succeeded).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_helper_that_somebody_removes_is_made_again() {
    let own = Own::start().await;
    let at = Moment {
        phase: "renamed",
        side: Side::Before,
    };
    own.hold(&own.container, &at.write()).await;
    let operation = own.request(good()).await;
    own.is_held().await;
    let helper = format!("plimsoll-helper-{operation}");
    own.world.docker.remove(&helper).await;
    own.let_go().await;
    own.ends(operation, End::Succeeded).await;
}
