//! Workers that die at each point of the update and the rollback program, as processes that are
//! gone from one instruction to the next, and others that take over (reliability.md 2.2).

use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll_support::image::Image;
use plimsoll_support::oracle::{End, row};
use plimsoll_support::server::Server;
use plimsoll_support::wait;
use reqwest::Method;
use uuid::Uuid;

use crate::fleet::{Case, Fleet, PATIENCE, operation_of};
use crate::replica::answer;

/// They mostly wait for leases to run out.
const AT_A_TIME: usize = 4;
/// From a death to the next worker's work (DESIGN.md 3.4).
const TAKEOVER: Duration = Duration::from_secs(15);
/// What a busy machine adds: processes that start, and polls.
const SLACK: Duration = Duration::from_secs(5);
/// After so many takeovers only the rollback program runs.
const POISON: usize = 5;

/// What the worker is at when it dies.
#[derive(Clone, Copy, Debug)]
enum Program {
    /// To an image that is good.
    Update,
    /// To an image that exits at once, so that the old container comes back.
    AutomaticRollback,
    /// Back to a backup, on request.
    Rollback,
}

impl Program {
    fn points(self) -> &'static [&'static str] {
        match self {
            Self::Update | Self::Rollback => &[
                "prepare",
                "rename-old",
                "renamed",
                "create-new",
                "new-created",
                "neutralise-old",
                "stop-old",
                "old-stopped",
                "start-new",
                "new-started",
                "health-gate",
                "health-gate-passed",
                "remove-old",
                "succeeded",
            ],
            Self::AutomaticRollback => &[
                "rollback-started",
                "remove-new",
                "rename-back",
                "restore-policy",
                "start-old",
                "rolled-back",
            ],
        }
    }

    fn target(self) -> Image {
        match self {
            Self::Update | Self::Rollback => Image::app("1.1.0"),
            Self::AutomaticRollback => Image::exits("1.1.0", 3, "cannot start"),
        }
    }

    /// How it must end, however many workers died.
    fn is_its_end(self, end: End, deaths: usize) -> bool {
        match (self, end) {
            (Self::AutomaticRollback, End::RolledBack) => true,
            (Self::Update | Self::Rollback, End::Succeeded) => true,
            (Self::Update | Self::Rollback, End::RolledBack) => deaths >= POISON,
            _ => false,
        }
    }
}

/// One case: its own watcher, container and workers in a fleet that others use too.
struct Crash<'a> {
    fleet: &'a Fleet,
    program: Program,
    /// `<point>:<before|after>`
    point: String,
    watcher: String,
    /// How many workers die there, one after the other.
    deaths: usize,
}

impl Crash<'_> {
    /// A worker that dies at the point.
    fn doomed(&self) -> Server {
        let worker = self.fleet.worker(&self.watcher);
        worker.env("PLIMSOLL_TEST_CRASH_AT", &self.point).spawn()
    }

    fn what(&self, it: &str) -> String {
        format!("{it} ({:?}, {})", self.program, self.point)
    }

    async fn dies(&self, worker: &mut Server, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = worker.exited() {
                assert!(!status.success(), "{}", worker.log());
                return true;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        false
    }

    /// Deploys the container and begins the operation, with a worker that dies in it.
    async fn begin(&self) -> (Uuid, Server) {
        let fleet = self.fleet;
        let case = Case {
            watcher: &self.watcher,
            repository: &self.watcher,
            ..Case::app()
        };
        let name = fleet.deploy(&self.watcher, case).await;
        fleet
            .publish(&self.watcher, "1.1.0", self.program.target())
            .await;
        if let Program::Rollback = self.program {
            let first = fleet.worker(&self.watcher).spawn();
            let id = fleet.watched(&name).await;
            let updated = answer(fleet.update(0, &id)).await;
            assert_eq!(updated.status, 200, "{}", updated.text);
            drop(first);
        }
        let doomed = self.doomed();
        let operation = match self.program {
            Program::Rollback => {
                let container = fleet.listed(&name).await;
                let id = container["id"].as_str().unwrap();
                let request = fleet.rollback(0, id).header("prefer", "respond-async");
                let accepted = answer(request).await;
                assert_eq!(accepted.status, 202, "{}", accepted.text);
                operation_of(&accepted)
            }
            _ => {
                let id = fleet.watched(&name).await;
                fleet.begin_update(0, &id).await
            }
        };
        (operation, doomed)
    }

    async fn takeovers(&self, operation: Uuid) -> i64 {
        let query = "SELECT takeovers::int8 FROM jobs WHERE operation_id = $1";
        self.fleet.count(query, operation).await
    }

    /// Waits until a worker has taken the operation up again, or it has ended.
    async fn is_taken_over(&self, operation: Uuid, death: usize) {
        let died = Instant::now();
        let what = self.what("the takeover");
        wait::until_true(&what, PATIENCE, async || {
            let row = row(&self.fleet.rows, operation).await;
            let ended = !row["completed_at"].is_null();
            ended || self.takeovers(operation).await >= i64::try_from(death).unwrap()
        })
        .await;
        let took = died.elapsed();
        assert!(took < TAKEOVER + SLACK, "{what} took {took:?}");
    }

    async fn run(self) {
        let (operation, mut worker) = self.begin().await;
        assert!(
            self.dies(&mut worker, PATIENCE).await,
            "{}: {}",
            self.what("nobody died"),
            worker.log()
        );
        let mut deaths = 1;
        while deaths < self.deaths {
            let mut next = self.doomed();
            self.is_taken_over(operation, deaths).await;
            // The point may lie behind it: then the next one just carries on.
            if !self.dies(&mut next, Duration::from_secs(5)).await {
                worker = next;
                break;
            }
            deaths += 1;
        }
        let saviour = match worker.exited() {
            Some(_) => self.fleet.worker(&self.watcher).spawn(),
            None => worker,
        };
        self.is_taken_over(operation, deaths).await;
        let (end, row) = self.fleet.judged(operation).await;
        let what = self.what("the end");
        assert!(self.program.is_its_end(end, deaths), "{what}: {row:#}");
        if end == End::RolledBack && deaths == 1 {
            let log = row["last_log"].as_str().unwrap_or_default();
            assert!(log.contains("cannot start"), "{what}: {row:#}");
        }
        // The same through the API, to whoever waits for it.
        let path = format!("/update-operations/{operation}");
        let shown = answer(self.fleet.request(0, Method::GET, &path)).await;
        assert_eq!(shown.json()["phase"], row["phase"], "{what}");
        drop(saviour);
    }
}

/// How many workers die at each point, one after the other: one, or as `make chaos` says.
fn deaths() -> usize {
    let asked = std::env::var("PLIMSOLL_CHAOS_DEATHS").ok();
    asked.map_or(1, |number| number.parse().expect("a number of deaths"))
}

/// On which sides of a point: in `make chaos` on both, and else in turns.
fn sides(number: usize) -> &'static [&'static str] {
    match (std::env::var_os("PLIMSOLL_CHAOS_DEATHS"), number % 2) {
        (Some(_), _) => &["before", "after"],
        (None, 0) => &["before"],
        (None, _) => &["after"],
    }
}

/// A death at each of the points.
async fn all_survive(program: Program, points: &[&str]) {
    let fleet = Fleet::start(1).await;
    let fleet = &fleet;
    let cases = points.iter().enumerate().flat_map(|(number, point)| {
        sides(number).iter().map(move |side| Crash {
            fleet,
            program,
            point: format!("{point}:{side}"),
            watcher: format!("{}{side}", point.replace('-', "")),
            deaths: deaths(),
        })
    });
    let cases: Vec<Crash<'_>> = cases.collect();
    futures::stream::iter(cases)
        .for_each_concurrent(AT_A_TIME, Crash::run)
        .await;
}

#[tokio::test]
async fn an_update_survives_the_death_of_its_worker_before_the_old_container_stops() {
    all_survive(Program::Update, &Program::Update.points()[..7]).await;
}

#[tokio::test]
async fn an_update_survives_the_death_of_its_worker_after_the_old_container_stopped() {
    all_survive(Program::Update, &Program::Update.points()[7..]).await;
}

#[tokio::test]
async fn an_automatic_rollback_survives_the_death_of_its_worker() {
    let program = Program::AutomaticRollback;
    all_survive(program, program.points()).await;
}

/// It is the program of the update with another target: unless `make chaos` asks for more, only
/// the points at which that makes a difference.
#[tokio::test]
async fn a_rollback_on_request_survives_the_death_of_its_worker() {
    let program = Program::Rollback;
    if deaths() > 1 {
        return all_survive(program, program.points()).await;
    }
    let points = ["prepare", "new-created", "old-stopped", "remove-old"];
    all_survive(program, &points).await;
}

/// Those of an update before it is proved, in their order.
const PHASES: [&str; 6] = [
    "prepare",
    "renamed",
    "new-created",
    "old-stopped",
    "new-started",
    "health-gate",
];

/// Freezes a worker as soon as it has reached the phase, lets another one take over and end the
/// operation, and then thaws it: it must notice, and do no harm (reliability.md F-2).
async fn thaws_too_late(fleet: &Fleet, phase: &str, target: Image, expected: End) {
    let watcher = format!("zombie{}", phase.replace('-', ""));
    let case = Case {
        watcher: &watcher,
        repository: &watcher,
        // It takes a signal for a while to be stopped: most calls can be caught under way.
        image: Image::app("1.0.0").shell("trap 'sleep 2; exit 0' TERM; while :; do sleep 1; done"),
        stability: 2,
        ..Case::app()
    };
    let name = fleet.deploy(&watcher, case).await;
    fleet.publish(&watcher, "1.1.0", target).await;
    let zombie = fleet.worker(&watcher).spawn();
    let id = fleet.watched(&name).await;
    let operation = fleet.begin_update(0, &id).await;
    // A short phase may be over before it is seen; the next ones will do.
    let place = |phase: &str| PHASES.iter().position(|one| *one == phase);
    wait::glimpse(phase, PATIENCE, async || {
        let now = row(&fleet.rows, operation).await;
        place(now["phase"].as_str().unwrap()).is_none_or(|now| Some(now) >= place(phase))
    })
    .await;
    let signal = |signal| {
        let pid = i32::try_from(zombie.pid()).expect("a process id");
        kill(Pid::from_raw(pid), signal).expect("it can be signalled");
    };
    signal(Signal::SIGSTOP);
    let _saviour = fleet.worker(&watcher).spawn();
    let (end, ended) = fleet.judged(operation).await;
    assert_eq!(end, expected, "{phase}: {ended:#}");
    signal(Signal::SIGCONT);
    // It writes nothing any more, and what it may still do to the engine is undone.
    wait::until_true("it to lose its lease", PATIENCE, async || {
        zombie.log().contains("lease")
    })
    .await;
    assert_eq!(fleet.settled(operation).await, expected, "{phase}");
    assert_eq!(row(&fleet.rows, operation).await, ended, "{phase}");
}

#[tokio::test]
async fn a_worker_that_was_frozen_and_thaws_too_late_does_no_harm() {
    let fleet = Fleet::start(1).await;
    let good = || Image::app("1.1.0");
    let bad = || Image::exits("1.1.0", 3, "cannot start");
    let cases = [
        ("renamed", good(), End::Succeeded),
        ("new-created", bad(), End::RolledBack),
        ("old-stopped", good(), End::Succeeded),
        ("health-gate", good(), End::Succeeded),
    ];
    join_all(cases.map(|(phase, target, end)| thaws_too_late(&fleet, phase, target, end))).await;
}
