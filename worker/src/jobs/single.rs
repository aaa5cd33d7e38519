//! Running the job of one operation and nothing else, for a helper.

use std::time::{Duration, Instant};

use plimsoll_app::App;
use plimsoll_domain::ids::OperationId;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Handlers,
    lease::Keeper,
    operation::KIND,
    runner::{AbortOnDrop, Work},
};

/// How often the job is asked for while it is not free.
const POLL: Duration = Duration::from_millis(200);

/// Whether the operation is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Yes,
    /// The process was asked to end first.
    No,
}

/// Runs the job of `operation` whenever it is free, until the operation is over, whoever ended it.
/// A database that is away is waited for.
pub async fn run_single(
    app: App,
    owner: Uuid,
    operation: OperationId,
    handlers: Handlers,
    shutdown: CancellationToken,
) -> Ended {
    let keeper = Keeper::new(app.store().clone(), owner);
    let stop_keeping = CancellationToken::new();
    let _keeping = AbortOnDrop(tokio::spawn({
        let (keeper, stop) = (keeper.clone(), stop_keeping.clone());
        async move { keeper.run(stop).await }
    }));
    while !shutdown.is_cancelled() {
        match app.store().operation(operation).await {
            Ok(Some(row)) if row.completed_at.is_none() => {}
            Ok(_) => return Ended::Yes,
            Err(error) => {
                tracing::warn!(%error, "the operation cannot be read for now");
                pause(&shutdown).await;
                continue;
            }
        }
        let claimed = Instant::now();
        match app.store().claim_operation_job(operation, owner).await {
            Ok(Some(job)) => {
                let guard = keeper.keep(job.lease, claimed);
                let work = Work {
                    app: app.clone(),
                    keeper: keeper.clone(),
                    handlers: handlers.clone(),
                };
                work.run(job, KIND, guard, shutdown.clone()).await;
            }
            Ok(None) => pause(&shutdown).await,
            Err(error) => {
                tracing::warn!(%error, "the operation's job cannot be taken for now");
                pause(&shutdown).await;
            }
        }
    }
    Ended::No
}

async fn pause(shutdown: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep(POLL) => {}
        () = shutdown.cancelled() => {}
    }
}
