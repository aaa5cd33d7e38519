//! Takes jobs and runs them.
//!
//! The queue's wake-ups make it fast, a sweep over Postgres makes it right: a wake-up is a reason
//! to look, and nothing more. Each engine has its own places, so that one that hangs costs the
//! others nothing (reliability.md D3).

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use plimsoll_app::{App, store::jobs::LeasedJob, totals::Total};
use plimsoll_domain::ids::WatcherRef;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, field::Empty};
use uuid::Uuid;

use super::{Handlers, JobContext, LeaseGuard, Outcome, lease::Keeper};

/// How often Postgres is asked for jobs that the queue did not tell of.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a running step may take to end when the process is asked to (reliability.md K14).
const GRACE: Duration = Duration::from_secs(20);
/// How long to wait after Redis failed.
const QUEUE_PAUSE: Duration = Duration::from_secs(1);

/// How many jobs of one kind may run at a time against one engine.
#[derive(Clone, Debug)]
pub struct EngineCapacity {
    pub watcher: WatcherRef,
    /// By job kind, e.g. `("operation", 4)`. A kind without a number is not taken.
    pub places: Vec<(&'static str, usize)>,
}

/// Takes and runs the jobs of a set of engines.
pub struct Runner {
    app: App,
    owner: Uuid,
    handlers: Handlers,
    keeper: Keeper,
    free: HashMap<(WatcherRef, &'static str), usize>,
    watchers: Vec<WatcherRef>,
}

pub(super) struct Ended {
    watcher: WatcherRef,
    kind: &'static str,
}

impl Runner {
    /// `owner` identifies this process in leases; a new one for each start.
    pub fn new(app: App, owner: Uuid, engines: Vec<EngineCapacity>, handlers: Handlers) -> Self {
        let keeper = Keeper::new(app.store().clone(), owner);
        let watchers = engines.iter().map(|e| e.watcher.clone()).collect();
        let mut free = HashMap::new();
        for engine in engines {
            for (kind, places) in engine.places {
                if handlers.get(kind).is_some() {
                    free.insert((engine.watcher.clone(), kind), places);
                }
            }
        }
        Self {
            app,
            owner,
            handlers,
            keeper,
            free,
            watchers,
        }
    }

    /// Runs jobs until `shutdown`, then lets running steps end, and gives back what is left.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let stop_keeping = CancellationToken::new();
        // Aborted with this future: a dropped runner is a dead one, and keeps no lease.
        let mut keeping = AbortOnDrop(tokio::spawn({
            let (keeper, stop) = (self.keeper.clone(), stop_keeping.clone());
            async move { keeper.run(stop).await }
        }));
        let (hint, mut hints) = mpsc::channel(64);
        let listening = AbortOnDrop(tokio::spawn(listen(
            self.app.clone(),
            self.watchers.clone(),
            self.owner,
            hint,
        )));
        let mut running: JoinSet<Ended> = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = running.join_next() => {
                    // The wrapper does not panic and is not aborted before the shutdown.
                    if let Ok(ended) = ended {
                        *self.free.entry((ended.watcher.clone(), ended.kind)).or_default() += 1;
                        self.fill(&ended.watcher, &mut running, &shutdown).await;
                    }
                }
                Some(watcher) = hints.recv() => {
                    self.fill(&watcher, &mut running, &shutdown).await;
                }
                _ = sweep.tick() => {
                    for watcher in self.watchers.clone() {
                        if !self.fill(&watcher, &mut running, &shutdown).await {
                            break;
                        }
                    }
                }
            }
        }
        drop(listening);
        let all_ended = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, all_ended).await.is_err() {
            running.shutdown().await;
        }
        for lease in self.keeper.leases() {
            let given = self.app.store().release_job(&lease, Duration::ZERO, None);
            if let Err(error) = given.await {
                tracing::warn!(%error, job = %lease.job, "a job could not be given back; its lease runs out");
            }
        }
        stop_keeping.cancel();
        let _ = (&mut keeping.0).await;
    }

    /// Takes jobs of one engine for its free places. False when the database does not answer.
    async fn fill(
        &mut self,
        watcher: &WatcherRef,
        running: &mut JoinSet<Ended>,
        shutdown: &CancellationToken,
    ) -> bool {
        let mut room = Vec::new();
        for kind in self.handlers.kinds() {
            if let Some(free @ 1..) = self.free.get(&(watcher.clone(), kind)).copied() {
                room.push((kind, i64::try_from(free).unwrap_or(i64::MAX)));
            }
        }
        if room.is_empty() {
            return true;
        }
        let claimed = Instant::now();
        let store = self.app.store();
        let jobs = match store.claim_next_jobs(watcher, &room, self.owner).await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::warn!(%error, %watcher, "jobs could not be taken");
                return false;
            }
        };
        for job in jobs {
            let kind = job.spec.kind();
            if let Some(free) = self.free.get_mut(&(watcher.clone(), kind)) {
                *free = free.saturating_sub(1);
            }
            let lease = self.keeper.keep(job.lease, claimed);
            let work = Work {
                app: self.app.clone(),
                keeper: self.keeper.clone(),
                handlers: self.handlers.clone(),
            };
            running.spawn(work.run(job, kind, lease, shutdown.clone()));
        }
        true
    }
}

pub(super) struct Work {
    pub(super) app: App,
    pub(super) keeper: Keeper,
    pub(super) handlers: Handlers,
}

impl Work {
    pub(super) async fn run(
        self,
        job: LeasedJob,
        kind: &'static str,
        guard: LeaseGuard,
        shutdown: CancellationToken,
    ) -> Ended {
        let span = span(&job, kind);
        self.work(job, kind, guard, shutdown).instrument(span).await
    }

    async fn work(
        self,
        job: LeasedJob,
        kind: &'static str,
        guard: LeaseGuard,
        shutdown: CancellationToken,
    ) -> Ended {
        let lease = job.lease;
        let watcher = job.watcher.clone();
        if job.takeovers > 0 {
            tracing::info!(job = %lease.job, takeovers = job.takeovers, "took a job over");
        }
        if job.taken_over {
            self.app.tally().add(Total::Takeovers, &[kind], 1.0);
        }
        let Some(handler) = self.handlers.get(kind) else {
            return Ended { watcher, kind };
        };
        let work = handler(JobContext {
            job,
            lease: guard.clone(),
            shutdown,
        });
        // A task of its own isolates a panic.
        let mut task = AbortOnDrop(tokio::spawn(work.in_current_span()));
        let outcome = tokio::select! {
            outcome = &mut task.0 => outcome,
            () = guard.lost().cancelled() => Ok(Outcome::LeaseLost),
        };
        if !matches!(outcome, Ok(Outcome::Done)) {
            let status = match outcome {
                Ok(Outcome::Failed(_)) | Err(_) => "ERROR",
                _ => "UNSET",
            };
            tracing::Span::current().record("otel.status_code", status);
        }
        let store = self.app.store();
        let written = match outcome {
            Ok(Outcome::Done) => store.finish_job(&lease, Ok(())).await,
            Ok(Outcome::Failed(why)) => store.finish_job(&lease, Err(&why)).await,
            Ok(Outcome::Later { after, why }) => store.release_job(&lease, after, Some(&why)).await,
            Ok(Outcome::HandedOver) => store.release_job(&lease, Duration::ZERO, None).await,
            Ok(Outcome::LeaseLost) => {
                tracing::warn!(job = %lease.job, "the lease was lost; the job was dropped");
                Ok(())
            }
            Err(error) => {
                // As if the process had died: the lease runs out, and the takeover is counted.
                tracing::error!(%error, job = %lease.job, kind, "a job panicked");
                Ok(())
            }
        };
        if let Err(error) = written {
            tracing::warn!(%error, job = %lease.job, "the end of a job could not be written; its lease runs out");
        }
        self.keeper.forget(&lease);
        Ended { watcher, kind }
    }
}

/// Goes on with the trace in which the job was asked for, also when another worker had it before.
fn span(job: &LeasedJob, kind: &'static str) -> Span {
    let span = tracing::error_span!(
        target: plimsoll_trace::LOGGED,
        "job",
        otel.name = %format_args!("job {kind}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        job = %job.lease.job,
        kind,
        watcher = %job.watcher,
        operation = Empty,
        container = Empty,
        request_id = Empty,
        trace_id = Empty,
        plimsoll.takeovers = job.takeovers,
        plimsoll.epoch = job.lease.epoch,
    );
    if let Some(operation) = job.operation {
        span.record("operation", operation.to_string());
    }
    plimsoll_trace::follow(&span, job.trace.as_ref());
    span
}

pub(super) struct AbortOnDrop<T>(pub(super) tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Turns the queue's wake-ups into hints. Redis may be away; the sweep carries on.
async fn listen(app: App, watchers: Vec<WatcherRef>, owner: Uuid, hint: mpsc::Sender<WatcherRef>) {
    let mut reader = app.queue().job_reader(&watchers, &owner.to_string());
    loop {
        match reader.next().await {
            Ok(wakeups) => {
                let mut told: Vec<WatcherRef> = wakeups.into_iter().map(|(w, _)| w).collect();
                told.dedup();
                for watcher in told {
                    if hint.send(watcher).await.is_err() {
                        return;
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the queue does not answer; the sweep finds jobs meanwhile");
                tokio::time::sleep(QUEUE_PAUSE).await;
            }
        }
    }
}
