//! Updating several containers in the order of what they need (`domain::stack`): those of one stack
//! one after another, stacks at the same time.
//!
//! Each stack's updates are a group like an ordered restart (`operation_groups`): ordinary
//! operations that wait for those they come after. What a failed one would have been followed by is
//! left as it is, its Compose file too, because a file is written only once its container has
//! proved itself.

use std::collections::{BTreeMap, HashMap, HashSet};

use plimsoll_domain::{
    access::Scope,
    acting::UpdateTrigger,
    action::ContainerAction,
    compose::FileUse,
    ids::{JobId, OperationGroupId, OperationId, WatcherRef},
    stack::{Condition, Survey, Target},
    target::is_rollback_name,
};
use plimsoll_store::operation_groups::{NewMember, Wait};

use crate::{
    App, AppError,
    actions::action_request,
    containers::NOT_FOUND,
    inventory::Inventory,
    operation_groups::{Group, GroupKind, NewGroupRequest},
    requests::{Caller, accepted_member_event},
    stacks::{self, Engines},
    update_triggers::trigger_of,
    updates::{Admitted, UpdateOrigin, refuse_without_file},
};

/// The most containers of one request.
pub const MAX_MEMBERS: usize = 200;

/// One container of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchMember {
    pub container: String,
    /// The tag to go to; `None` for the candidate that the last watch found.
    pub version: Option<String>,
    /// Beyond what the trigger does.
    pub compose_file: Option<FileUse>,
}

/// What became of a batch.
#[derive(Debug)]
pub struct Batch {
    pub id: OperationGroupId,
    /// One for each stack of which something was accepted, and one for the containers of an engine
    /// that belong to none.
    pub groups: Vec<BatchGroup>,
    pub rejected: Vec<BatchRejected>,
}

#[derive(Debug)]
pub struct BatchGroup {
    pub id: OperationGroupId,
    /// `None` for containers outside of any stack.
    pub stack: Option<String>,
    pub watcher: WatcherRef,
    /// In the order in which they come: also restarts of what follows the updated ones.
    pub members: Vec<BatchOperation>,
}

#[derive(Clone, Debug)]
pub struct BatchOperation {
    pub operation: OperationId,
    pub container: String,
    pub container_name: String,
    pub is_update: bool,
}

#[derive(Debug)]
pub struct BatchRejected {
    pub container: String,
    /// Empty for a container that is not known.
    pub container_name: String,
    pub stack: Option<String>,
    pub error: AppError,
}

/// What is to be updated of one stack.
#[derive(Default)]
struct Chosen {
    /// By position in the inventory.
    updates: BTreeMap<usize, Admitted>,
}

impl App {
    /// Accepts an update of each container for which [`App::request_update`] would, in the order in
    /// which their stacks' services need each other, and then a restart of what runs and follows
    /// them. Where an operation is active for one container, its whole stack is rejected; what is
    /// refused otherwise keeps none of the others from it.
    ///
    /// A repeated idempotency key gets the groups that it made, and makes no others.
    ///
    /// # Errors
    /// `Forbidden` when actions are off, `Invalid` for no members or too many, `Unprocessable` for
    /// a key of another request. What is wrong with one container is in the answer.
    pub async fn request_batch_update(
        &self,
        members: &[BatchMember],
        caller: &Caller<'_>,
    ) -> Result<Batch, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
        self.container_actions_allowed()?;
        if members.is_empty() || members.len() > MAX_MEMBERS {
            return Err(AppError::Invalid(format!(
                "A batch has 1 to {MAX_MEMBERS} containers"
            )));
        }
        if let Some(known) = self.replayed(caller).await? {
            let batch = OperationGroupId::from_uuid(known.as_uuid());
            return self.replay_batch(batch, members).await;
        }
        let snapshot = self.snapshot().await?;
        let inventory = &snapshot.inventory;
        let mut batch = Batch {
            id: OperationGroupId::generate(),
            groups: Vec::new(),
            rejected: Vec::new(),
        };
        let mut triggers: BTreeMap<String, Vec<UpdateTrigger>> = BTreeMap::new();
        let mut stacks: BTreeMap<(WatcherRef, Option<String>), Chosen> = BTreeMap::new();
        let mut asked = HashSet::new();
        for member in members {
            if !asked.insert(member.container.as_str()) {
                continue;
            }
            let Some(position) = inventory.position(&member.container) else {
                batch.rejected.push(BatchRejected {
                    container: member.container.clone(),
                    container_name: String::new(),
                    stack: None,
                    error: AppError::NotFound(NOT_FOUND.to_owned()),
                });
                continue;
            };
            let state = &inventory.entries()[position].state;
            let facts = &state.facts;
            let agent = &facts.watcher.agent;
            if !triggers.contains_key(agent) {
                triggers.insert(agent.clone(), self.update_triggers(agent).await?);
            }
            let admitted = match &member.version {
                Some(version) => self.admit_update_to(state, &triggers[agent], version),
                None => self.admit_update(state, &triggers[agent]),
            };
            let admitted = admitted.and_then(|admitted| match member.compose_file {
                Some(FileUse::Edit) => refuse_without_file(state).map(|()| admitted),
                _ => Ok(admitted),
            });
            let stack = facts.compose.as_ref().map(|of| of.project.clone());
            match admitted {
                Ok(mut admitted) => {
                    admitted.compose_file = member.compose_file;
                    let of = stacks.entry((facts.watcher.clone(), stack)).or_default();
                    of.updates.insert(position, admitted);
                }
                Err(error) => batch.rejected.push(BatchRejected {
                    container: member.container.clone(),
                    container_name: facts.name.clone(),
                    stack,
                    error,
                }),
            }
        }
        for (number, ((watcher, stack), chosen)) in stacks.into_iter().enumerate() {
            let id = OperationGroupId::generate();
            let triggers = &triggers[&watcher.agent];
            let ordered = ordered(inventory, &chosen, id, triggers, caller)?;
            let request = NewGroupRequest {
                id,
                batch: Some(batch.id),
                kind: GroupKind::UpdateStack,
                name: stack.as_deref().unwrap_or_default(),
                watcher: &watcher,
                members: &ordered,
                audit_details: &match &stack {
                    Some(stack) => format!("with others of the stack {stack}"),
                    None => "with others".to_owned(),
                },
                // The others are found by the batch.
                keeps_key: number == 0,
            };
            match self.accept_members(&request, caller).await {
                Ok(known) if known == id || known == batch.id => batch.groups.push(BatchGroup {
                    id,
                    stack,
                    watcher,
                    members: ordered.iter().map(BatchOperation::of).collect(),
                }),
                // The same request came through another replica at the same time.
                Ok(known) => return self.replay_batch(known, members).await,
                Err(AppError::Conflict { message, details }) => {
                    batch.rejected.extend(chosen.updates.keys().map(|position| {
                        let facts = &inventory.entries()[*position].state.facts;
                        BatchRejected {
                            container: facts.id.to_string(),
                            container_name: facts.name.clone(),
                            stack: stack.clone(),
                            error: AppError::Conflict {
                                message: message.clone(),
                                details: details.clone(),
                            },
                        }
                    }));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(batch)
    }

    /// Accepts an update of every container of the stack that has one, as
    /// [`App::request_batch_update`] would.
    ///
    /// # Errors
    /// `Forbidden` when actions are off, `NotFound` stack or `Conflict` naming the engines that have
    /// one of that name, `Invalid` where no container of it has an update; where none is accepted,
    /// what the update of one is refused with: `Conflict` while an operation works on one of them.
    pub async fn request_stack_update(
        &self,
        name: &str,
        engines: &Engines,
        compose_file: Option<FileUse>,
        caller: &Caller<'_>,
    ) -> Result<Batch, AppError> {
        caller.authorise(Scope::ContainersUpdate)?;
        self.container_actions_allowed()?;
        if let Some(known) = self.replayed(caller).await? {
            let batch = OperationGroupId::from_uuid(known.as_uuid());
            return self.replay_batch(batch, &[]).await;
        }
        let snapshot = self.snapshot().await?;
        let inventory = &snapshot.inventory;
        let stack = stacks::find(inventory, name, engines)?;
        let survey = inventory.survey();
        let services = stack.services.iter().map(|node| survey.node(*node));
        let members: Vec<BatchMember> = services
            .flat_map(|node| stacks::entries(inventory, &node.containers))
            .filter(|entry| entry.update_available)
            .map(|entry| BatchMember {
                container: entry.id().to_owned(),
                version: None,
                compose_file,
            })
            .collect();
        if members.is_empty() {
            return Err(AppError::Invalid(
                "No update available for this stack".to_owned(),
            ));
        }
        let mut batch = self.request_batch_update(&members, caller).await?;
        if batch.groups.is_empty() && !batch.rejected.is_empty() {
            let is_busy = |one: &BatchRejected| matches!(one.error, AppError::Conflict { .. });
            let told = batch.rejected.iter().position(is_busy).unwrap_or_default();
            return Err(batch.rejected.swap_remove(told).error);
        }
        Ok(batch)
    }

    /// What an earlier request with the same key made.
    async fn replay_batch(
        &self,
        id: OperationGroupId,
        members: &[BatchMember],
    ) -> Result<Batch, AppError> {
        let groups = self.store().groups_of_batch(id).await?;
        let groups: Vec<BatchGroup> = groups.into_iter().map(BatchGroup::of).collect();
        let accepted: HashSet<&str> = groups
            .iter()
            .flat_map(|group| &group.members)
            .map(|member| member.container.as_str())
            .collect();
        let others = members.iter().map(|member| member.container.as_str());
        let others: HashSet<&str> = others.filter(|id| !accepted.contains(id)).collect();
        let rejected = others.into_iter().map(|container| BatchRejected {
            container: container.to_owned(),
            container_name: String::new(),
            stack: None,
            error: AppError::conflict(
                "This was rejected when the Idempotency-Key was used first; use another key to \
                 ask again",
            ),
        });
        Ok(Batch {
            id,
            rejected: rejected.collect(),
            groups,
        })
    }
}

impl BatchGroup {
    fn of(group: Group) -> Self {
        let members = group.members.iter().map(|member| BatchOperation {
            operation: member.id,
            container: member.container_id.clone(),
            container_name: member.container_name.clone(),
            is_update: member.kind.action().is_none(),
        });
        Self {
            members: members.collect(),
            id: group.id,
            stack: Some(group.name).filter(|name| !name.is_empty()),
            watcher: group.watcher,
        }
    }
}

impl BatchOperation {
    fn of(member: &NewMember) -> Self {
        let operation = &member.operation;
        Self {
            operation: operation.id,
            container: operation.container.to_string(),
            container_name: operation.container_name.clone(),
            is_update: operation.kind.action().is_none(),
        }
    }
}

/// The updates as they come, then what follows them, and what each comes after.
fn ordered(
    inventory: &Inventory,
    chosen: &Chosen,
    group: OperationGroupId,
    triggers: &[UpdateTrigger],
    caller: &Caller<'_>,
) -> Result<Vec<NewMember>, AppError> {
    let survey = inventory.survey();
    let node_of = |position: &usize| survey.node_of(*position);
    let nodes: Vec<usize> = chosen.updates.keys().filter_map(node_of).collect();
    let updated: HashSet<usize> = nodes.iter().copied().collect();
    let order = order(survey, &nodes, &updated);
    let mut members = Vec::new();
    let mut names = HashSet::new();
    // What stands for each node: its own operations, or what it would have come after.
    let mut after: HashMap<usize, Vec<OperationId>> = HashMap::new();
    let mut remade: HashSet<usize> = HashSet::new();
    for node in &order {
        let mut waits_for: Vec<Wait> = Vec::new();
        for (on, condition) in predecessors(survey, *node, &after, &updated) {
            for operation in after.get(&on).into_iter().flatten() {
                if !waits_for.iter().any(|wait| wait.operation == *operation) {
                    waits_for.push(Wait {
                        operation: *operation,
                        condition,
                    });
                }
            }
        }
        // The update of what it lives in makes it again.
        let is_remade = !updated.contains(node)
            && survey.node(*node).dependencies.iter().any(|one| {
                let on = match one.on {
                    Target::Node(on) => on,
                    Target::Missing(_) => return false,
                };
                one.is_hard() && (updated.contains(&on) || remade.contains(&on))
            });
        if is_remade {
            remade.insert(*node);
        }
        let mut own: Vec<OperationId> = Vec::new();
        for position in &survey.node(*node).containers {
            let state = &inventory.entries()[*position].state;
            let facts = &state.facts;
            let operation = match chosen.updates.get(position) {
                Some(admitted) => admitted
                    .request(state, UpdateOrigin::Container)
                    .operation(caller),
                // What was stopped on purpose does not start because something else did.
                None if updated.contains(node) || is_remade || !facts.is_running() => continue,
                None if is_rollback_name(&facts.name) => continue,
                None => {
                    let trigger = trigger_of(state, triggers)?;
                    action_request(state, ContainerAction::Restart, &trigger, caller)
                }
            };
            if !names.insert(facts.name.as_str()) {
                continue;
            }
            let mut waits_for = waits_for.clone();
            // Containers of one service share its line in the file: one after another.
            waits_for.extend(
                own.last()
                    .filter(|_| updated.contains(node))
                    .map(|last| Wait {
                        operation: *last,
                        condition: Condition::Started,
                    }),
            );
            own.push(operation.id);
            members.push(NewMember {
                event: accepted_member_event(&operation, group),
                audit_action: match operation.kind.action() {
                    Some(action) => action.audit_action(),
                    None => UpdateOrigin::Container.audit_action(),
                },
                job: JobId::generate(),
                waits_for,
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

/// The nodes and what follows them, as they come. An update makes again what lives in its
/// container's namespaces, and takes that from the container as it is: so what is updated itself
/// and lives there comes first.
fn order(survey: &Survey, nodes: &[usize], updated: &HashSet<usize>) -> Vec<usize> {
    let mut order = survey.with_followers(nodes);
    let owners: Vec<usize> = order.iter().rev().copied().collect();
    for owner in owners.into_iter().filter(|owner| updated.contains(owner)) {
        let lives_there = |node: &usize| {
            updated.contains(node)
                && survey
                    .node(*node)
                    .dependencies
                    .iter()
                    .any(|one| one.is_hard() && one.on == Target::Node(owner))
        };
        let last = order.iter().rposition(lives_there);
        let own = order.iter().position(|node| *node == owner);
        if let (Some(last), Some(own)) = (last, own)
            && last > own
        {
            order.remove(own);
            order.insert(last, owner);
        }
    }
    order
}

/// What `node` comes after, of what has its place already: also through what is no part of it.
fn predecessors(
    survey: &Survey,
    node: usize,
    placed: &HashMap<usize, Vec<OperationId>>,
    updated: &HashSet<usize>,
) -> Vec<(usize, Condition)> {
    let mut found = Vec::new();
    // Those that live in its namespaces and were updated before it.
    for (other, _) in placed.iter().filter(|(other, _)| updated.contains(*other)) {
        let needs = &survey.node(*other).dependencies;
        if needs
            .iter()
            .any(|one| one.is_hard() && one.on == Target::Node(node))
        {
            found.push((*other, Condition::Started));
        }
    }
    found.sort_unstable_by_key(|(other, _)| *other);
    let mut seen = HashSet::from([node]);
    let mut open = vec![(node, None)];
    while let Some((at, through)) = open.pop() {
        for one in &survey.node(at).dependencies {
            let Target::Node(on) = one.on else { continue };
            if !seen.insert(on) {
                continue;
            }
            let condition = through.unwrap_or(one.condition);
            match placed.contains_key(&on) {
                true => found.push((on, condition)),
                false => open.push((on, Some(Condition::Started))),
            }
        }
    }
    found
}
