//! Scripts (reference/docksmith-dokploy-dockup.md 1.2, "Scripts").

use plimsoll_app::{
    AppError,
    names::named,
    scripts::{AssignedScript, Script},
};
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};

use super::{
    Tag,
    body::Required,
    envelope::{Envelope, ok},
    error::{Changes, ErrorOf, Reads, ReadsOne},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{instant::Instant, operations::plain_caller},
    middleware::context::RequestContext,
};

/// `GET /api/scripts` and `/assigned`, `POST /api/scripts/assign`,
/// `DELETE /api/scripts/assign/{container}`.
pub struct Scripts;

#[derive(Object)]
struct ScriptList {
    scripts: Vec<ScriptShown>,
    count: u64,
}

#[derive(Object)]
#[oai(rename = "Script")]
struct ScriptShown {
    name: String,
    /// As it is assigned: below `/scripts`, wherever that is on the worker's host.
    path: String,
    relative_path: String,
    executable: bool,
    /// Bytes.
    size: u64,
    modified_time: Instant,
}

impl From<Script> for ScriptShown {
    fn from(script: Script) -> Self {
        let relative = script.path.as_str();
        Self {
            name: relative.rsplit('/').next().unwrap_or(relative).to_owned(),
            path: shown(relative),
            relative_path: relative.to_owned(),
            executable: script.executable,
            size: script.size,
            modified_time: Instant(script.modified_at),
        }
    }
}

#[derive(Object)]
struct AssignmentList {
    assignments: Vec<Assignment>,
    count: u64,
}

#[derive(Object)]
struct Assignment {
    container: String,
    /// The same.
    container_name: String,
    script: String,
    /// The same.
    script_path: String,
    assigned_at: Instant,
    assigned_by: String,
}

impl From<AssignedScript> for Assignment {
    fn from(assigned: AssignedScript) -> Self {
        let of = assigned.assignment;
        let script = shown(&of.script);
        Self {
            container: of.container_name.clone(),
            container_name: of.container_name,
            script: script.clone(),
            script_path: script,
            assigned_at: Instant(of.assigned_at),
            assigned_by: of.actor,
        }
    }
}

/// As Docksmith's users write it.
fn shown(relative: &str) -> String {
    format!("/scripts/{relative}")
}

/// `container` and `script`, or Docksmith's own `container_name` and `script_path`.
#[derive(Object)]
struct AssignScriptRequest {
    container: Option<String>,
    container_name: Option<String>,
    script: Option<String>,
    script_path: Option<String>,
}

#[derive(Object)]
struct Unassigned {
    container: String,
    message: String,
}

#[OpenApi(prefix_path = "/api")]
impl Scripts {
    /// List available scripts
    ///
    /// None where no directory of scripts is configured.
    #[oai(
        path = "/scripts",
        method = "get",
        operation_id = "listScripts",
        tag = "Tag::Scripts"
    )]
    async fn list(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
    ) -> Result<Json<Envelope<ScriptList>>, ErrorOf<ReadsOne>> {
        let found = state.app.scripts("").await?;
        let scripts: Vec<ScriptShown> = found.scripts.into_iter().map(ScriptShown::from).collect();
        Ok(ok(ScriptList {
            count: scripts.len() as u64,
            scripts,
        }))
    }

    /// List script assignments
    #[oai(
        path = "/scripts/assigned",
        method = "get",
        operation_id = "listScriptAssignments",
        tag = "Tag::Scripts"
    )]
    async fn assigned(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
    ) -> Result<Json<Envelope<AssignmentList>>, ErrorOf<Reads>> {
        let found = state.app.assigned_scripts().await?;
        let assignments: Vec<Assignment> = found.into_iter().map(Assignment::from).collect();
        Ok(ok(AssignmentList {
            count: assignments.len() as u64,
            assignments,
        }))
    }

    /// Assign a script to a container
    ///
    /// It is asked before each update of the container, and bars it unless it ends with 0.
    #[oai(
        path = "/scripts/assign",
        method = "post",
        operation_id = "assignScript",
        tag = "Tag::Scripts"
    )]
    async fn assign(
        &self,
        who: Authorized<perm::PolicyWrite>,
        state: ApiState,
        context: RequestContext,
        body: Required<AssignScriptRequest>,
    ) -> Result<Json<Envelope<Assignment>>, ErrorOf<Changes>> {
        let body = body.0;
        let missing = |what: &str| AppError::Invalid(format!("{what} is required"));
        let container = body.container.or(body.container_name);
        let container = container.ok_or_else(|| missing("container"))?;
        let script = body.script.or(body.script_path);
        let script = script.ok_or_else(|| missing("script"))?;
        let entry = named(&who.snapshot().inventory, &container)?;
        let caller = plain_caller(who.principal(), &context);
        let assigned = state.app.assign_script(entry.id(), &script, &caller);
        Ok(ok(assigned.await?.into()))
    }

    /// Remove an assignment
    #[oai(
        path = "/scripts/assign/:container",
        method = "delete",
        operation_id = "unassignScript",
        tag = "Tag::Scripts"
    )]
    async fn unassign(
        &self,
        who: Authorized<perm::PolicyWrite>,
        state: ApiState,
        context: RequestContext,
        container: Path<String>,
    ) -> Result<Json<Envelope<Unassigned>>, ErrorOf<Changes>> {
        let entry = named(&who.snapshot().inventory, &container)?;
        let caller = plain_caller(who.principal(), &context);
        state.app.unassign_script(entry.id(), &caller).await?;
        Ok(ok(Unassigned {
            container: entry.state.facts.name.clone(),
            message: "Script assignment removed".to_owned(),
        }))
    }
}
