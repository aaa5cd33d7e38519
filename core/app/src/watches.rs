//! Asking for a watch (contract/drydock-container-api.md, "Watch all Containers", "Watch a
//! Container").

use std::{collections::BTreeMap, time::Duration};

use plimsoll_domain::{
    access::Scope,
    ids::{ContainerId, JobId, WatcherRef},
    job::{JobSpec, WatchCause},
    webhook,
};
use plimsoll_store::{
    begin, commit,
    jobs::{self, NewJob},
};
use serde_json::json;
use tokio::time::Instant;
use tracing::Instrument;

use crate::{App, AppError, requests::Caller};

/// Between two looks at whether a job has ended.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);
/// When to ask again where no worker has begun yet.
const NO_WORKER_PAUSE: Duration = Duration::from_secs(5);
/// How old what a registry said may be in a watch that nobody waits for.
pub const CACHE_TTL: Duration = Duration::from_secs(120);

/// How a watch that was asked for ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchAnswer {
    /// All jobs ended well; `watchers` took part.
    Done { watchers: usize },
    /// Still running when the caller's patience ended. It will run to its end.
    Running { watchers: usize },
    /// At least one watcher failed: the first one's message.
    Failed { message: String },
}

impl App {
    /// Whether a watch of any engine runs, or is about to.
    pub async fn is_watching(&self) -> Result<bool, AppError> {
        Ok(self.store().is_watching().await?)
    }

    /// Watches everything on every watcher, or the given containers, and waits up to `patience`.
    /// The answers are not older than this request.
    ///
    /// # Errors
    /// `NotFound` when one of the containers is not known, `Unavailable` while there is no watcher.
    pub async fn watch(
        &self,
        containers: Option<&[String]>,
        patience: Duration,
        caller: &Caller<'_>,
    ) -> Result<WatchAnswer, AppError> {
        self.watch_because(WatchCause::Request, containers, patience, caller)
            .await
    }

    /// The same, for one of the causes.
    pub(crate) async fn watch_because(
        &self,
        cause: WatchCause,
        containers: Option<&[String]>,
        patience: Duration,
        caller: &Caller<'_>,
    ) -> Result<WatchAnswer, AppError> {
        caller.authorise(Scope::ContainersWatch)?;
        let mut targets: BTreeMap<WatcherRef, Vec<ContainerId>> = BTreeMap::new();
        match containers {
            Some(ids) => {
                for id in ids {
                    let entry = self.get_container(id).await?;
                    let facts = &entry.state.facts;
                    targets
                        .entry(facts.watcher.clone())
                        .or_default()
                        .push(facts.id.clone());
                }
            }
            None => {
                for row in self.store().watchers().await? {
                    targets.insert(row.watcher, Vec::new());
                }
                if targets.is_empty() {
                    return Err(AppError::Unavailable {
                        message: "No worker has registered a watcher yet, so nothing was checked"
                            .to_owned(),
                        retry_after: NO_WORKER_PAUSE,
                    });
                }
            }
        }
        let jobs: Vec<NewJob> = targets
            .into_iter()
            .map(|(watcher, containers)| {
                NewJob::now(
                    watcher,
                    JobSpec::Watch {
                        containers,
                        fresh: true,
                        cause,
                    },
                )
            })
            .collect();
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        for job in &jobs {
            let span = plimsoll_trace::producing(format_args!("accept watch"));
            jobs::insert(&tx, job).instrument(span).await?;
        }
        commit(tx).await?;
        drop(client);
        self.wake(jobs.iter().map(|job| (&job.watcher, job.id)))
            .await;
        let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
        self.wait_for_jobs(&ids, patience).await
    }

    /// Tells those who look on how far a watch is.
    pub async fn tell_watch(&self, watcher: &WatcherRef, stage: &str, total: usize) {
        let payload = json!({
            "watcher": watcher.name,
            "agent": watcher.agent,
            "stage": stage,
            "total": total,
        });
        self.tell_in_passing(webhook::WATCH_PROGRESS, &payload)
            .await;
    }

    pub(crate) async fn wait_for_jobs(
        &self,
        ids: &[JobId],
        patience: Duration,
    ) -> Result<WatchAnswer, AppError> {
        let watchers = ids.len();
        let begun = Instant::now();
        let deadline = begun + patience;
        loop {
            let mut running = false;
            for id in ids {
                // A job that is no longer there ended long ago.
                match self.store().job_state(*id).await? {
                    Some((state, error)) if state == "failed" => {
                        return Ok(WatchAnswer::Failed {
                            message: error.unwrap_or_default(),
                        });
                    }
                    Some((state, _)) if state != "done" => running = true,
                    _ => {}
                }
            }
            if !running {
                return Ok(WatchAnswer::Done { watchers });
            }
            if Instant::now() >= deadline {
                return Ok(WatchAnswer::Running { watchers });
            }
            // A job announces its end with its events, but a watch that changed nothing has none.
            // Looking again after a thirtieth of the time so far makes nobody wait much longer than
            // the watch took.
            let pause = (begun.elapsed() / 30).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
            tokio::time::sleep(pause.min(deadline - Instant::now())).await;
        }
    }
}
