use plimsoll_app::scripts::{AssignedScript, Script, ScriptList};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Tag,
    body::RequiredJson,
    error::{ApiError, Changes, ErrorOf, INVALID_PARAMETERS, Reads, ReadsOne},
    instant::Instant,
    operations::plain_caller,
    page::{Page, PageNumber},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `GET /api/v1/scripts` and `/api/v1/scripts/assignments`; `PUT` and
/// `DELETE /api/v1/containers/{id}/script`.
pub struct Scripts;

/// A program that may check updates.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "Script")]
struct ScriptView {
    /// The last part of its path.
    name: String,
    /// Relative to the directory.
    path: String,
    /// Whether the worker may execute it.
    executable: bool,
    /// Bytes.
    size: u64,
    modified_at: Instant,
}

impl From<&Script> for ScriptView {
    fn from(script: &Script) -> Self {
        let path = script.path.as_str();
        Self {
            name: path.rsplit('/').next().unwrap_or(path).to_owned(),
            path: path.to_owned(),
            executable: script.executable,
            size: script.size,
            modified_at: Instant(script.modified_at),
        }
    }
}

#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "ScriptList")]
struct ScriptListView {
    data: Vec<ScriptView>,
    total: u64,
    limit: u64,
    offset: u64,
    has_more: bool,
    /// On the worker's host; `null` where none is configured, and then no script is run.
    #[oai(nullable)]
    directory: Option<String>,
}

/// The script that checks updates of a container.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct ScriptAssignment {
    container_name: String,
    /// `null` while there is no such container.
    #[oai(nullable)]
    container_id: Option<String>,
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    agent: Option<String>,
    /// Relative to the directory of scripts.
    script: String,
    assigned_by: String,
    assigned_at: Instant,
}

impl From<AssignedScript> for ScriptAssignment {
    fn from(assigned: AssignedScript) -> Self {
        let of = assigned.assignment;
        Self {
            container_name: of.container_name,
            container_id: assigned.container_id,
            watcher: of.watcher.name,
            agent: Some(of.watcher.agent).filter(|agent| !str::is_empty(agent)),
            script: of.script,
            assigned_by: of.actor,
            assigned_at: Instant(of.assigned_at),
        }
    }
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct ScriptAssignmentList {
    data: Vec<ScriptAssignment>,
    total: u64,
    limit: u64,
    offset: u64,
    has_more: bool,
}

#[derive(Object)]
struct AssignScriptRequest {
    /// Inside of the directory of scripts: `check.sh` or `/scripts/check.sh`.
    script: String,
}

#[derive(ApiResponse)]
enum Unassigned {
    /// Nothing is assigned any more
    #[oai(status = 204)]
    Done,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Scripts {
    /// List the scripts that may check updates
    ///
    /// What is in the directory `PLIMSOLL_SCRIPTS_DIR` of the worker's host and ends in `.sh` or can
    /// be executed.
    #[oai(
        path = "/scripts",
        method = "get",
        operation_id = "listScripts",
        tag = "Tag::Containers"
    )]
    async fn list(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        /// Of this agent's host; without it, of this installation's own worker.
        agent: Query<Option<String>>,
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<ScriptListView>, ErrorOf<ReadsOne>> {
        let agent = agent.0.unwrap_or_default();
        let ScriptList { directory, scripts } = state.app.scripts(&agent).await?;
        let page = Page::all(limit.0, offset.0);
        let total = scripts.len() as u64;
        let data: Vec<ScriptView> = page.slice(&scripts).iter().map(ScriptView::from).collect();
        Ok(Json(ScriptListView {
            has_more: page.has_more(data.len() as u64, total),
            data,
            total,
            limit: page.limit,
            offset: page.offset,
            directory,
        }))
    }

    /// List which scripts check updates of which containers
    #[oai(
        path = "/scripts/assignments",
        method = "get",
        operation_id = "listScriptAssignments",
        tag = "Tag::Containers"
    )]
    async fn assignments(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<ScriptAssignmentList>, ErrorOf<Reads>> {
        let all = state.app.assigned_scripts().await?;
        let page = Page::all(limit.0, offset.0);
        let total = all.len() as u64;
        let data: Vec<ScriptAssignment> = page
            .slice(&all)
            .iter()
            .cloned()
            .map(ScriptAssignment::from)
            .collect();
        Ok(Json(ScriptAssignmentList {
            has_more: page.has_more(data.len() as u64, total),
            data,
            total,
            limit: page.limit,
            offset: page.offset,
        }))
    }

    /// Have a script check the updates of a container
    ///
    /// It runs before anything of an update is touched, with the container's id and name as its
    /// arguments, for at most 30 seconds. Where it does not end with 0 the update fails and changes
    /// nothing.
    #[oai(
        path = "/containers/:id/script",
        method = "put",
        operation_id = "assignScript",
        tag = "Tag::Containers"
    )]
    async fn assign(
        &self,
        who: Authorized<perm::PolicyWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        body: RequiredJson<AssignScriptRequest>,
    ) -> Result<Json<ScriptAssignment>, ErrorOf<Changes>> {
        let body = body.0;
        let body = body.ok_or_else(|| ApiError::bad_request(INVALID_PARAMETERS))?;
        let caller = plain_caller(who.principal(), &context);
        let assigned = state.app.assign_script(&id, &body.script, &caller).await?;
        Ok(Json(assigned.into()))
    }

    /// Have no script check the updates of a container
    #[oai(
        path = "/containers/:id/script",
        method = "delete",
        operation_id = "unassignScript",
        tag = "Tag::Containers"
    )]
    async fn unassign(
        &self,
        who: Authorized<perm::PolicyWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Unassigned, ErrorOf<ReadsOne>> {
        let caller = plain_caller(who.principal(), &context);
        state.app.unassign_script(&id, &caller).await?;
        Ok(Unassigned::Done)
    }
}
