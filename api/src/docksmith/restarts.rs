//! Restarting containers with what depends on them, and stacks in order
//! (reference/docksmith-dokploy-dockup.md 1.2, "Restart").

use plimsoll_app::{
    AppError,
    names::named,
    operation_groups::{Group, GroupOutcome, status},
};
use plimsoll_domain::{ids::OperationGroupId, operation::Status};
use poem::http::StatusCode;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use serde_json::json;

use super::{
    Tag, body, envelope,
    envelope::Envelope,
    error::{Changes, ErrorOf},
    explorer::local,
    removals::PATIENCE,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{error::ApiError, operations::plain_caller},
    middleware::context::RequestContext,
};

/// `POST /api/restart` and what is below it.
pub struct Restarts;

/// The container to restart, under either name.
#[derive(Object)]
struct RestartRequest {
    container_name: Option<String>,
    container: Option<String>,
}

/// What was restarted.
#[derive(Object)]
struct RestartData {
    success: bool,
    message: String,
    /// In the order in which they were restarted
    container_names: Vec<String>,
    /// Those of them that depend on what was asked for
    dependents_restarted: Vec<String>,
    /// Those that were left as they are, because what they need failed
    dependents_blocked: Vec<String>,
    errors: Vec<String>,
    /// Of the group: what takes longer is found under it
    operation_id: String,
}

/// A restart that has begun.
#[derive(Object)]
struct RestartStarted {
    /// Of the container's own restart
    operation_id: String,
    container_name: String,
    /// `started`
    status: String,
    /// Of the restart and those of what depends on the container
    batch_group_id: String,
}

async fn begin(
    who: &Authorized<perm::ContainersActions>,
    state: &ApiState,
    context: &RequestContext,
    name: &str,
) -> Result<(String, OperationGroupId), AppError> {
    let entry = named(&who.snapshot().inventory, name)?;
    let caller = plain_caller(who.principal(), context);
    let group = state
        .app
        .request_restart_with_dependents(entry.id(), &caller)
        .await?;
    Ok((entry.state.facts.name.clone(), group))
}

async fn restart_one(
    who: &Authorized<perm::ContainersActions>,
    state: &ApiState,
    context: &RequestContext,
    name: &str,
) -> Result<Json<Envelope<RestartData>>, ErrorOf<Changes>> {
    let (name, group) = begin(who, state, context, name).await?;
    let what = format!("Container {name}");
    answer(state, &what, &|member| member == name, group).await
}

/// The answer once all of it is over, or after Docksmith's own patience.
async fn answer(
    state: &ApiState,
    what: &str,
    is_asked_for: &(dyn Fn(&str) -> bool + Sync),
    id: OperationGroupId,
) -> Result<Json<Envelope<RestartData>>, ErrorOf<Changes>> {
    let (group, over) = match state.group_outcome(id, PATIENCE).await? {
        GroupOutcome::Ended(group) => (*group, true),
        GroupOutcome::Running => (state.app.operation_group(id).await?, false),
    };
    let data = restarted(what, is_asked_for, &group);
    if over && status(&group) != Status::Succeeded {
        let details = json!({
            "container_names": data.container_names,
            "dependents_restarted": data.dependents_restarted,
            "dependents_blocked": data.dependents_blocked,
            "errors": data.errors,
            "operation_id": data.operation_id,
        });
        let error = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, data.message);
        return Err(error.with_details(details).into());
    }
    Ok(envelope::ok(data))
}

fn restarted(what: &str, is_asked_for: &dyn Fn(&str) -> bool, group: &Group) -> RestartData {
    let members = || group.members.iter();
    let of = |wanted: Status| {
        members()
            .filter(move |member| member.phase.status() == wanted)
            .map(|member| member.container_name.clone())
    };
    let dependents = |names: Vec<String>| -> Vec<String> {
        let names = names.into_iter();
        names.filter(|name| !is_asked_for(name)).collect()
    };
    let status = status(group);
    let message = match status {
        Status::Succeeded => format!("{what} restarted successfully"),
        Status::InProgress => format!("The restart of {what} is still running"),
        _ => format!("failed to restart {what}"),
    };
    RestartData {
        success: status != Status::Failed,
        message,
        dependents_restarted: dependents(of(Status::Succeeded).collect()),
        dependents_blocked: dependents(of(Status::Failed).collect()),
        container_names: of(Status::Succeeded).collect(),
        errors: members()
            .filter_map(|member| {
                let why = member.last_error.as_ref()?;
                Some(format!("{}: {why}", member.container_name))
            })
            .collect(),
        operation_id: group.id.to_string(),
    }
}

#[OpenApi(prefix_path = "/api")]
impl Restarts {
    /// Restart a container, named in the body
    ///
    /// And after it what depends on it. Waits for the end of it, up to 100 seconds.
    #[oai(
        path = "/restart",
        method = "post",
        operation_id = "restart",
        tag = "Tag::Restart"
    )]
    async fn restart(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        request: body::Required<RestartRequest>,
    ) -> Result<Json<Envelope<RestartData>>, ErrorOf<Changes>> {
        let RestartRequest {
            container_name,
            container,
        } = request.0;
        let name = container_name.or(container);
        let name = name.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| ApiError::bad_request("container_name is required"))?;
        restart_one(&who, &state, &context, &name).await
    }

    /// Restart a container
    ///
    /// And after it what depends on it. Waits for the end of it, up to 100 seconds.
    #[oai(
        path = "/restart/container/:name",
        method = "post",
        operation_id = "restartContainer",
        tag = "Tag::Restart"
    )]
    async fn container(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        /// Read and not heeded: no program stands in the way of a restart.
        #[allow(unused_variables)]
        force: Query<Option<String>>,
    ) -> Result<Json<Envelope<RestartData>>, ErrorOf<Changes>> {
        restart_one(&who, &state, &context, &name).await
    }

    /// Restart a stack
    ///
    /// Its containers in the order in which they need each other, and what follows them. Waits for
    /// the end of it, up to 100 seconds.
    #[oai(
        path = "/restart/stack/:name",
        method = "post",
        operation_id = "restartStack",
        tag = "Tag::Restart"
    )]
    async fn stack(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        /// The host, where several have a stack of that name.
        watcher: Query<Option<String>>,
        /// Read and not heeded: no program stands in the way of a restart.
        #[allow(unused_variables)]
        force: Query<Option<String>>,
    ) -> Result<Json<Envelope<RestartData>>, ErrorOf<Changes>> {
        let caller = plain_caller(who.principal(), &context);
        let engines = local(watcher.0);
        let group = state.app.request_stack_restart(&name.0, &engines, &caller);
        let group = group.await?;
        let inventory = &who.snapshot().inventory;
        let stack = plimsoll_app::stacks::find(inventory, &name.0, &engines)?;
        let nodes = stack
            .services
            .iter()
            .map(|node| inventory.survey().node(*node));
        let own: Vec<&str> = nodes
            .flat_map(|node| plimsoll_app::stacks::entries(inventory, &node.containers))
            .map(|entry| entry.state.facts.name.as_str())
            .collect();
        let what = match plimsoll_app::stacks::absent(inventory, stack).join(", ") {
            absent if absent.is_empty() => format!("Stack {}", name.0),
            absent => format!("Stack {} (without containers: {absent})", name.0),
        };
        answer(&state, &what, &|member| own.contains(&member), group).await
    }

    /// Begin to restart a container
    ///
    /// And after it what depends on it. Does not wait: its progress is told by events.
    #[oai(
        path = "/restart/start/:name",
        method = "post",
        operation_id = "beginRestart",
        tag = "Tag::Restart"
    )]
    async fn begin(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        /// Read and not heeded: no program stands in the way of a restart.
        #[allow(unused_variables)]
        force: Query<Option<String>>,
    ) -> Result<Json<Envelope<RestartStarted>>, ErrorOf<Changes>> {
        let (container_name, group) = begin(&who, &state, &context, &name).await?;
        let members = state.app.operation_group(group).await?.members;
        let own = members
            .iter()
            .find(|one| one.container_name == container_name);
        Ok(envelope::ok(RestartStarted {
            operation_id: own.map_or_else(|| group.to_string(), |own| own.id.to_string()),
            container_name,
            status: "started".to_owned(),
            batch_group_id: group.to_string(),
        }))
    }
}
