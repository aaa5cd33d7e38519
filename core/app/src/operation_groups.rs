//! Restarting several containers one after another, in the order of what they need
//! (`domain::stack`).
//!
//! A group is nothing but its members: ordinary restarts, written together, each of which waits for
//! those that it comes after. So they share lock, lease, journal and recovery with every other
//! operation, and nobody has to stay alive who coordinates them.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use plimsoll_domain::{
    access::Scope,
    acting::UpdateTrigger,
    action::ContainerAction,
    ids::{JobId, OperationGroupId, OperationId, WatcherRef},
    operation::Status,
    stack::Target,
    target::is_rollback_name,
};
use plimsoll_store::{
    operation_groups::{NewGroup, NewMember, Wait},
    requests::KEY_TAKEN,
    reservations::REMOVED,
    update_operations,
};
use serde_json::json;
use tokio::time::Instant;
use tracing::Instrument;

pub use plimsoll_store::operation_groups::{Group, GroupKind};

use crate::{
    App, AppError,
    actions::action_request,
    containers,
    inventory::Inventory,
    requests::{Caller, IdempotencyKey, accepted_member_event, removal_conflict},
    stacks::{self, Engines},
    update_triggers::trigger_of,
};

pub const NOT_FOUND: &str = "Operation group not found";

/// What is to be restarted.
struct Restart<'a> {
    kind: GroupKind,
    name: &'a str,
    watcher: &'a WatcherRef,
    /// What follows these is restarted too, where it runs.
    nodes: &'a [usize],
    /// Of `nodes` only the container at this position.
    only: Option<usize>,
}

/// A group whose members are known.
pub(crate) struct NewGroupRequest<'a> {
    pub id: OperationGroupId,
    pub batch: Option<OperationGroupId>,
    pub kind: GroupKind,
    pub watcher: &'a WatcherRef,
    pub name: &'a str,
    pub members: &'a [NewMember],
    pub audit_details: &'a str,
    /// Whether the caller's idempotency key is used up by it.
    pub keeps_key: bool,
}

/// What the wait for a group came to.
#[derive(Debug)]
pub enum GroupOutcome {
    /// Some of it runs on; ask again later.
    Running,
    /// All of it is over: [`status`] says how.
    Ended(Box<Group>),
}

/// How a group stands: it succeeded when all of its members did.
pub fn status(group: &Group) -> Status {
    let mut all = group.members.iter().map(|member| member.phase.status());
    if all.clone().any(|status| status == Status::InProgress) {
        return Status::InProgress;
    }
    match all.all(|status| status == Status::Succeeded) {
        true => Status::Succeeded,
        false => Status::Failed,
    }
}

impl App {
    /// Accepts a restart of every container of the stack, in the order in which its services need
    /// each other, and then of what runs elsewhere and follows them.
    ///
    /// # Errors
    /// In this order: `Forbidden` when actions are off, `NotFound` stack or `Conflict` naming the
    /// engines that have one of that name, `Conflict` for one without containers, `NotFound`
    /// trigger; then `Conflict` naming an operation that is active for one of the containers.
    /// Nothing is restarted then.
    pub async fn request_stack_restart(
        &self,
        name: &str,
        engines: &Engines,
        caller: &Caller<'_>,
    ) -> Result<OperationGroupId, AppError> {
        if let Some(group) = self.may_restart(caller).await? {
            return Ok(group);
        }
        let snapshot = self.snapshot().await?;
        let stack = stacks::find(&snapshot.inventory, name, engines)?;
        let restart = Restart {
            kind: GroupKind::RestartStack,
            name,
            watcher: &stack.watcher,
            nodes: &stack.services,
            only: None,
        };
        self.accept_restart(&snapshot.inventory, &restart, caller)
            .await
    }

    /// Accepts a restart of the container, and then of what runs and follows it: what lives in its
    /// namespaces, or asks to be restarted after it.
    ///
    /// # Errors
    /// As [`App::request_action`]; `Conflict` also for an operation that is active for one of those
    /// that follow.
    pub async fn request_restart_with_dependents(
        &self,
        container: &str,
        caller: &Caller<'_>,
    ) -> Result<OperationGroupId, AppError> {
        if let Some(group) = self.may_restart(caller).await? {
            return Ok(group);
        }
        let snapshot = self.snapshot().await?;
        let inventory = &snapshot.inventory;
        let position = inventory
            .position(container)
            .ok_or_else(|| AppError::NotFound(containers::NOT_FOUND.to_owned()))?;
        let facts = &inventory.entries()[position].state.facts;
        if is_rollback_name(&facts.name) {
            return Err(AppError::conflict(
                "Cannot restart temporary rollback container renamed with -old-{timestamp}",
            ));
        }
        let Some(node) = inventory.survey().node_of(position) else {
            return Err(AppError::conflict(
                "A container of `docker compose run` has no dependents; restart it alone",
            ));
        };
        let restart = Restart {
            kind: GroupKind::RestartContainer,
            name: &facts.name,
            watcher: &facts.watcher,
            nodes: &[node],
            only: Some(position),
        };
        self.accept_restart(inventory, &restart, caller).await
    }

    /// The group that an earlier request with the same key made, if there was one.
    async fn may_restart(&self, caller: &Caller<'_>) -> Result<Option<OperationGroupId>, AppError> {
        caller.authorise(Scope::ContainersActions)?;
        if !self.settings().container_actions.is_enabled() {
            return Err(AppError::Forbidden(
                "Container actions are disabled".to_owned(),
            ));
        }
        let replayed = self.replayed(caller).await?;
        Ok(replayed.map(|known| OperationGroupId::from_uuid(known.as_uuid())))
    }

    async fn accept_restart(
        &self,
        inventory: &Inventory,
        restart: &Restart<'_>,
        caller: &Caller<'_>,
    ) -> Result<OperationGroupId, AppError> {
        let triggers = self.update_triggers(&restart.watcher.agent).await?;
        let id = OperationGroupId::generate();
        let members = members(inventory, restart, id, &triggers, caller)?;
        if members.is_empty() {
            return Err(AppError::conflict("There is no container to restart"));
        }
        let request = NewGroupRequest {
            id,
            batch: None,
            kind: restart.kind,
            watcher: restart.watcher,
            name: restart.name,
            members: &members,
            audit_details: &match restart.only {
                None => format!("with the stack {}", restart.name),
                Some(_) => format!("with {} and what follows it", restart.name),
            },
            keeps_key: true,
        };
        self.accept_members(&request, caller).await
    }

    /// Makes a group durable, then wakes workers. Answers its id, or that of the group or batch
    /// that the same key made before.
    ///
    /// # Errors
    /// `Conflict` naming an operation that is active for one of the containers; nothing is accepted
    /// then.
    pub(crate) async fn accept_members(
        &self,
        request: &NewGroupRequest<'_>,
        caller: &Caller<'_>,
    ) -> Result<OperationGroupId, AppError> {
        let members = request.members;
        let key = caller.idempotency.as_ref().filter(|_| request.keeps_key);
        let group = NewGroup {
            id: request.id,
            batch: request.batch,
            kind: request.kind,
            watcher: request.watcher,
            name: request.name,
            members,
            actor: caller.actor(),
            request_id: caller.request_id,
            audit_details: request.audit_details,
            idempotency: key.map(IdempotencyKey::parts),
        };
        let span = plimsoll_trace::producing(format_args!("accept {}", request.kind.as_str()));
        match self.store().accept_group(&group).instrument(span).await {
            Ok(()) => {}
            Err(error) if error.is_constraint(KEY_TAKEN) => {
                let known = self.replayed(caller).await?.ok_or(AppError::Retry)?;
                return Ok(OperationGroupId::from_uuid(known.as_uuid()));
            }
            Err(error) if error.is_constraint(update_operations::ACTIVE) => {
                // The same key may have made the operations that are in the way.
                if let Some(known) = self.replayed(caller).await? {
                    return Ok(OperationGroupId::from_uuid(known.as_uuid()));
                }
                let names: Vec<&str> = members
                    .iter()
                    .map(|member| member.operation.container_name.as_str())
                    .collect();
                let active = self.store().active_among(request.watcher, &names).await?;
                return Err(AppError::Conflict {
                    message: "Container update already in progress".to_owned(),
                    details: active.map(|(operation, name)| {
                        json!({ "operationId": operation.to_string(), "containerName": name })
                    }),
                });
            }
            Err(error) if error.is_constraint(REMOVED) => {
                let members = members.iter().map(|member| &member.operation);
                let (ids, names): (Vec<&str>, Vec<&str>) = members
                    .map(|one| (one.container.as_str(), one.container_name.as_str()))
                    .unzip();
                let removal = self
                    .store()
                    .removal_at_work(request.watcher, &ids, &names)
                    .await?;
                return Err(removal_conflict(removal));
            }
            Err(error) => return Err(error.into()),
        }
        // Durable from here on: what follows only makes it faster.
        let jobs = members.iter().map(|member| (request.watcher, member.job));
        self.wake(jobs).await;
        self.announce().await;
        Ok(group.id)
    }

    /// A group with its members, in their order.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn operation_group(&self, id: OperationGroupId) -> Result<Group, AppError> {
        let group = self.store().operation_group(id).await?;
        group.ok_or_else(|| AppError::NotFound(NOT_FOUND.to_owned()))
    }

    /// Waits up to `patience` for the end of all members.
    pub async fn group_outcome(
        &self,
        id: OperationGroupId,
        patience: Duration,
    ) -> Result<GroupOutcome, AppError> {
        if patience.is_zero() {
            return Ok(GroupOutcome::Running);
        }
        let deadline = Instant::now() + patience;
        for member in self.operation_group(id).await?.members {
            let ended = self.events().wait_for_operation(member.id, deadline);
            if ended.await?.is_none() {
                return Ok(GroupOutcome::Running);
            }
        }
        Ok(GroupOutcome::Ended(Box::new(
            self.operation_group(id).await?,
        )))
    }
}

/// The restarts, as they come, and what each comes after.
fn members(
    inventory: &Inventory,
    restart: &Restart<'_>,
    group: OperationGroupId,
    triggers: &[UpdateTrigger],
    caller: &Caller<'_>,
) -> Result<Vec<NewMember>, AppError> {
    let survey = inventory.survey();
    let all = survey.with_followers(restart.nodes);
    let mut members = Vec::new();
    let mut names = HashSet::new();
    // What stands for each node: its own restarts, or what it would have come after.
    let mut after: HashMap<usize, Vec<OperationId>> = HashMap::new();
    for node in &all {
        let is_asked_for = restart.nodes.contains(node);
        let mut waits_for: Vec<Wait> = Vec::new();
        for need in survey.needs(*node, &all) {
            let Target::Node(on) = need.on else { continue };
            waits_for.extend(after.get(&on).into_iter().flatten().map(|operation| Wait {
                operation: *operation,
                condition: need.condition,
            }));
        }
        let mut own = Vec::new();
        for position in &survey.node(*node).containers {
            let state = &inventory.entries()[*position].state;
            let facts = &state.facts;
            let is_meant = match (is_asked_for, restart.only) {
                (true, Some(only)) => *position == only,
                (true, None) => true,
                // What was stopped on purpose does not start because something else did.
                (false, _) => facts.is_running(),
            };
            if !is_meant || is_rollback_name(&facts.name) || !names.insert(facts.name.as_str()) {
                continue;
            }
            let trigger = trigger_of(state, triggers)?;
            let operation = action_request(state, ContainerAction::Restart, &trigger, caller);
            own.push(operation.id);
            members.push(NewMember {
                event: accepted_member_event(&operation, group),
                audit_action: ContainerAction::Restart.audit_action(),
                job: JobId::generate(),
                waits_for: waits_for.clone(),
                operation,
            });
        }
        if own.is_empty() {
            own = waits_for.iter().map(|wait| wait.operation).collect();
        }
        after.insert(*node, own);
    }
    Ok(members)
}
