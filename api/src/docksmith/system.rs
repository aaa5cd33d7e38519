//! This installation (reference/docksmith-dokploy-dockup.md 1.2, "System").

use std::{path::Path, time::Duration};

use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    envelope::{Envelope, now, ok, raw},
    error::{ErrorOf, Public, Reads},
    status::{StatusData, status},
};
use crate::{
    ApiState, Health, VERSION,
    auth::{Authorized, perm},
    drydock::{error::ApiError, instant::Instant, raw::RawPayload},
};

/// `GET /api/health`, `GET /api/status`, `GET /api/docker-config`.
pub struct System;

/// The one answer whose fields are at the top, and in an envelope as well.
#[derive(Object)]
pub struct HealthAnswer {
    success: bool,
    /// `ok`
    status: String,
    data: HealthData,
    timestamp: Instant,
    version: String,
}

#[derive(Object)]
pub struct HealthData {
    /// `healthy`, or `degraded` while Redis is away: everything works, some of it slower.
    status: String,
    services: Services,
}

#[derive(Object)]
pub struct Services {
    /// Whether at least one Docker engine answers its worker.
    docker: bool,
    /// Whether the database answers.
    storage: bool,
}

#[derive(Object)]
pub struct DockerConfig {
    /// `type.name` of each that a worker has loaded.
    registries: Vec<String>,
    /// Of the process that answers.
    running_in_docker: bool,
}

#[OpenApi(prefix_path = "/api")]
impl System {
    /// Tell whether this replica serves
    ///
    /// Needs no credential. 503 while the database does not answer.
    #[oai(
        path = "/health",
        method = "get",
        operation_id = "getHealth",
        tag = "Tag::System"
    )]
    async fn health(&self, state: ApiState) -> Result<Json<HealthAnswer>, ErrorOf<Public>> {
        let observed = state.health.observe().await;
        if matches!(observed, Health::Unavailable | Health::Starting) {
            let message = "The database is not available, or not ready yet";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
                .with_retry_after(Duration::from_secs(1))
                .into());
        }
        let engines = state.app.watchers().await?;
        let word = match observed {
            Health::Degraded => "degraded",
            _ => "healthy",
        };
        Ok(Json(HealthAnswer {
            success: true,
            status: "ok".to_owned(),
            data: HealthData {
                status: word.to_owned(),
                services: Services {
                    docker: engines.iter().any(|engine| engine.connected),
                    storage: true,
                },
            },
            timestamp: now(),
            version: VERSION.to_owned(),
        }))
    }

    /// Tell what is known of all containers
    ///
    /// Asks nobody: `GET /api/check` does.
    #[oai(
        path = "/status",
        method = "get",
        operation_id = "getStatus",
        tag = "Tag::System"
    )]
    async fn status(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
    ) -> Result<RawPayload<Envelope<StatusData>>, ErrorOf<Reads>> {
        Ok(raw(&status(&state.app, who.snapshot()).await?))
    }

    /// Tell which registries are configured
    ///
    /// Where their logins are kept is the workers' matter and not told.
    #[oai(
        path = "/docker-config",
        method = "get",
        operation_id = "getDockerConfig",
        tag = "Tag::System"
    )]
    async fn docker_config(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
    ) -> Result<Json<Envelope<DockerConfig>>, ErrorOf<Reads>> {
        let mut registries: Vec<String> = state
            .app
            .registries()
            .await?
            .into_iter()
            .map(|registry| format!("{}.{}", registry.type_, registry.name))
            .collect();
        registries.sort_unstable();
        registries.dedup();
        Ok(ok(DockerConfig {
            registries,
            running_in_docker: Path::new("/.dockerenv").exists(),
        }))
    }
}
