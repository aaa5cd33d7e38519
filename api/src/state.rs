use std::{ops::Deref, sync::Arc, time::Instant};

use plimsoll_app::App;
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

impl<'a> poem::FromRequest<'a> for ApiState {
    async fn from_request(
        request: &'a poem::Request,
        _body: &mut poem::RequestBody,
    ) -> poem::Result<Self> {
        let (state, _) = crate::auth::parts(request)?;
        Ok(state.clone())
    }
}
