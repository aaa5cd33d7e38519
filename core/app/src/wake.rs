//! Waking workers.

use std::collections::BTreeMap;

use plimsoll_domain::ids::{JobId, WatcherRef};

use crate::App;

impl App {
    /// Wakes those who can take these jobs, with one message for each engine. The jobs are durable:
    /// this only makes them faster, and where Redis is away the sweep finds them.
    pub(crate) async fn wake<'a>(
        &self,
        jobs: impl Iterator<Item = (&'a WatcherRef, JobId)> + Send,
    ) {
        let mut of_engines: BTreeMap<&WatcherRef, Vec<JobId>> = BTreeMap::new();
        for (watcher, job) in jobs {
            of_engines.entry(watcher).or_default().push(job);
        }
        for (watcher, jobs) in of_engines {
            if let Err(error) = self.queue().wake_workers(watcher, &jobs).await {
                tracing::warn!(%error, %watcher, ?jobs, "could not wake a worker; the sweep will");
            }
        }
    }
}
