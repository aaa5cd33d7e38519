use std::{
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};

use plimsoll_app::{
    App, AppError,
    operation_groups::GroupOutcome,
    outcomes::Outcome,
    removals::{AcceptedRemoval, Removal},
};
use plimsoll_domain::ids::{OperationGroupId, OperationId};
use tokio_util::sync::CancellationToken;

use crate::{ApiSettings, health::HealthProbe, metrics::Metrics, middleware::rate_limit::Limiter};

/// What handlers, extractors and middlewares share. Cheap to clone. Nothing in it would be missed
/// on another replica.
#[derive(Clone)]
pub struct ApiState(Arc<Shared>);

pub struct Shared {
    pub app: App,
    pub settings: ApiSettings,
    pub metrics: Metrics,
    pub limiter: Limiter,
    pub health: HealthProbe,
    /// Cancelled when the process should end: streams stop on it, or they would hold up the drain.
    pub shutdown: CancellationToken,
    pub started: Instant,
}

impl Deref for ApiState {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl ApiState {
    pub fn new(app: App, settings: ApiSettings, shutdown: CancellationToken) -> Self {
        Self(Arc::new(Shared {
            limiter: Limiter::new(app.queue().clone(), &settings),
            health: HealthProbe::new(app.clone()),
            app,
            settings,
            metrics: Metrics::new(),
            shutdown,
            started: Instant::now(),
        }))
    }
}

impl ApiState {
    /// Waits for the end of an operation, not longer than this process runs: whoever waits hears
    /// that the operation goes on, and where to ask again.
    pub async fn outcome(
        &self,
        operation: OperationId,
        patience: Duration,
    ) -> Result<Outcome, AppError> {
        tokio::select! {
            outcome = self.app.outcome(operation, patience) => outcome,
            () = self.shutdown.cancelled() => Ok(Outcome::Running),
        }
    }

    /// The same for all of a group.
    pub async fn group_outcome(
        &self,
        group: OperationGroupId,
        patience: Duration,
    ) -> Result<GroupOutcome, AppError> {
        tokio::select! {
            outcome = self.app.group_outcome(group, patience) => outcome,
            () = self.shutdown.cancelled() => Ok(GroupOutcome::Running),
        }
    }

    /// The same for a removal; `None` while it runs.
    pub async fn removal_outcome(
        &self,
        removal: AcceptedRemoval,
        patience: Duration,
    ) -> Result<Option<Removal>, AppError> {
        tokio::select! {
            outcome = self.app.removal_outcome(removal, patience) => outcome,
            () = self.shutdown.cancelled() => Ok(None),
        }
    }
}

impl<'a> poem::FromRequest<'a> for ApiState {
    async fn from_request(
        request: &'a poem::Request,
        _body: &mut poem::RequestBody,
    ) -> poem::Result<Self> {
        let (state, _) = crate::auth::parts(request)?;
        Ok(state.clone())
    }
}
