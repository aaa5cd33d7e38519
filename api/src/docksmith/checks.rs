//! Looking for updates (reference/docksmith-dokploy-dockup.md 1.2, "Checking").

use std::time::Duration;

use plimsoll_app::{App, AppError, names::named, watches::WatchAnswer};
use poem::http::StatusCode;
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use serde::Serialize;

use super::{
    Tag,
    envelope::{Envelope, ok, raw},
    error::{Changes, ErrorOf},
    items::{Item, Items},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{error::ApiError, operations::plain_caller, raw::RawPayload},
    middleware::context::RequestContext,
};

/// `GET /api/check`, `POST /api/trigger-check` and `GET /api/container/{name}/recheck`.
pub struct Checks;

/// How long a check may take before the client is told to ask again. Docksmith's own server gives up
/// after 120 s.
const PATIENCE: Duration = Duration::from_secs(110);

#[derive(Object, Serialize)]
pub struct CheckData {
    containers: Vec<Item>,
    total: usize,
    updates_available: usize,
}

#[derive(Object)]
pub struct Message {
    message: String,
}

#[OpenApi(prefix_path = "/api")]
impl Checks {
    /// Check all containers
    ///
    /// Asks the engines and the registries anew, past every cache, and answers with what they say.
    /// 503 where that takes longer than 110 seconds: the check goes on, and `GET /api/status` shows
    /// what it has found so far.
    #[oai(
        path = "/check",
        method = "get",
        operation_id = "checkContainers",
        tag = "Tag::Checking"
    )]
    async fn check(
        &self,
        who: Authorized<perm::ContainersWatch>,
        state: ApiState,
        context: RequestContext,
    ) -> Result<RawPayload<Envelope<CheckData>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        finished(state.app.watch(None, PATIENCE, &caller).await?)?;
        let snapshot = state.app.snapshot().await?;
        let containers: Vec<Item> = Items::new(&state.app, &snapshot)
            .all()
            .into_iter()
            .map(|one| one.item)
            .collect();
        Ok(raw(&CheckData {
            total: containers.len(),
            updates_available: containers.iter().filter(|one| one.update_available).count(),
            containers,
        }))
    }

    /// Begin a check of all containers
    ///
    /// Its progress is told on `/api/events`.
    #[oai(
        path = "/trigger-check",
        method = "post",
        operation_id = "triggerCheck",
        tag = "Tag::Checking"
    )]
    async fn trigger(
        &self,
        who: Authorized<perm::ContainersWatch>,
        state: ApiState,
        context: RequestContext,
    ) -> Result<Json<Envelope<Message>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        state.app.watch(None, Duration::ZERO, &caller).await?;
        Ok(ok(Message {
            message: "Background check triggered".to_owned(),
        }))
    }

    /// Check a container
    #[oai(
        path = "/container/:name/recheck",
        method = "get",
        operation_id = "recheckContainer",
        tag = "Tag::Checking"
    )]
    async fn recheck(
        &self,
        who: Authorized<perm::ContainersWatch>,
        state: ApiState,
        context: RequestContext,
        /// Its name, `name@watcher`, or its id
        name: Path<String>,
    ) -> Result<RawPayload<Envelope<Item>>, ErrorOf<Changes>> {
        let id = named(&who.snapshot().inventory, &name)?.id().to_owned();
        let caller = plain_caller(who.principal(), &context);
        let ids = [id];
        finished(state.app.watch(Some(&ids), PATIENCE, &caller).await?)?;
        Ok(raw(&one(&state.app, &ids[0]).await?))
    }
}

async fn one(app: &App, id: &str) -> Result<Item, AppError> {
    let snapshot = app.snapshot().await?;
    // Gone from the engine meanwhile: the watch has noticed.
    let entry = named(&snapshot.inventory, id)?;
    Ok(Items::new(app, &snapshot).one(entry).item)
}

/// What was found before is not what was asked for.
fn finished(answer: WatchAnswer) -> Result<(), ApiError> {
    match answer {
        WatchAnswer::Done { .. } => Ok(()),
        WatchAnswer::Running { .. } => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The check goes on; GET /api/status shows what it finds",
        )
        .with_retry_after(Duration::from_secs(10))),
        WatchAnswer::Failed { message } => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("The check failed: {message}"),
        )),
    }
}
