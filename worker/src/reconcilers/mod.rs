//! What sees to it that things stay as they were left: takes no input, runs on a timer, and may run
//! on any number of workers at once.
//!
//! * `aftercare`: operations that ended a moment ago still hold (R-2's post-terminal watch)
//! * `leftovers`: containers of operations that are over (I-11)
//! * `pins`: images that nothing keeps any more
//! * `regressions`: updates whose containers did not stay healthy
//! * `expiry`: rows that are old enough to be forgotten

mod aftercare;
mod expiry;
mod leftovers;
mod pins;
mod regressions;

use std::{collections::HashMap, time::Duration};

use plimsoll_app::{App, AppError, store::StoreError};
use plimsoll_domain::ids::WatcherRef;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use expiry::Retention;

use crate::docker::{Engine, EngineError};

/// Between looks at what ended lately: a query or two, when nothing did.
const AFTERCARE: Duration = Duration::from_secs(5);
/// Between looks for leftover containers.
const LEFTOVERS: Duration = Duration::from_secs(20);
/// Between looks for updates that a policy let through, and for agents that are gone.
const NEWS: Duration = Duration::from_secs(10);
/// Between looks at everything else.
const SWEEP: Duration = Duration::from_secs(10 * 60);

#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Request(AppError),
}

/// What is done for one engine at intervals of its own.
#[derive(Clone, Copy, Debug)]
enum Task {
    Aftercare,
    Regressions,
    Leftovers,
    Pins,
}

impl Task {
    const ALL: [Task; 4] = [
        Task::Aftercare,
        Task::Regressions,
        Task::Leftovers,
        Task::Pins,
    ];

    const fn interval(self) -> Duration {
        match self {
            Task::Aftercare | Task::Regressions => AFTERCARE,
            Task::Leftovers => LEFTOVERS,
            Task::Pins => SWEEP,
        }
    }
}

/// Tends the engines until `shutdown`. An engine that does not answer costs the others nothing.
pub async fn run(
    app: App,
    engines: HashMap<WatcherRef, Engine>,
    retention: Retention,
    shutdown: CancellationToken,
) {
    // Dropping the set ends its tasks.
    let mut tasks = JoinSet::new();
    for (watcher, engine) in engines {
        for task in Task::ALL {
            let place = (app.clone(), watcher.clone(), engine.clone());
            tasks.spawn(keep_tending(task, place));
        }
    }
    tasks.spawn(keep_announcing(app.clone()));
    tasks.spawn(keep_expiring(app, retention));
    shutdown.cancelled().await;
}

async fn keep_tending(task: Task, (app, watcher, engine): (App, WatcherRef, Engine)) {
    let mut tick = interval(task.interval());
    loop {
        tick.tick().await;
        let tended = match task {
            Task::Aftercare => aftercare::tend(&app, &watcher, &engine).await,
            Task::Regressions => regressions::tend(&app, &watcher, &engine).await,
            Task::Leftovers => leftovers::tend(&app, &watcher, &engine).await,
            Task::Pins => pins::tend(&app, &watcher, &engine).await,
        };
        if let Err(error) = tended {
            tracing::debug!(%error, ?task, "could not reconcile");
        }
    }
}

/// What is news by the clock alone: no watch and no operation tells of it.
async fn keep_announcing(app: App) {
    let mut tick = interval(NEWS);
    loop {
        tick.tick().await;
        if let Err(error) = app.announce_ripe_updates().await {
            tracing::debug!(%error, "could not look for updates that became available");
        }
    }
}

async fn keep_expiring(app: App, retention: Retention) {
    let mut tick = interval(SWEEP);
    loop {
        tick.tick().await;
        if let Err(error) = expiry::expire(&app, &retention).await {
            tracing::debug!(%error, "could not forget what is old");
        }
    }
}

fn interval(time: Duration) -> tokio::time::Interval {
    let mut tick = tokio::time::interval(time);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick
}

/// One look at one engine.
///
/// # Errors
/// The engine or the database does not answer: nothing is known, so nothing more was done.
pub async fn tend(app: &App, watcher: &WatcherRef, engine: &Engine) -> Result<(), ReconcileError> {
    aftercare::tend(app, watcher, engine).await?;
    regressions::tend(app, watcher, engine).await?;
    leftovers::tend(app, watcher, engine).await?;
    pins::tend(app, watcher, engine).await
}
