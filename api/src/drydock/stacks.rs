//! Compose stacks, and the containers outside of any.

use plimsoll_app::{
    inventory::{Entry, Inventory},
    stacks::{self, Engines},
};
use plimsoll_domain::{
    ids::WatcherRef,
    stack::{self, Node, Target},
};
use poem::Request;
use poem_openapi::{
    Enum, Object, OpenApi,
    param::{Header, Path, Query},
};
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::{
    Tag,
    actions::Acting,
    described::{IdempotencyKey, Text, text},
    error::{ApiError, ErrorOf, Reads},
    operation_groups::{StackRestartAnswer, stack_answer},
    operations::caller,
    page::{List, Page, PageNumber},
    prefer::Preference,
    raw::{RawJson, weak_etag},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `GET /api/v1/stacks`, `/api/v1/stacks/{name}` and `/api/v1/containers/standalone`;
/// `POST /api/v1/stacks/{name}/restart`.
pub struct Stacks;

error_set!(pub ReadsStack = 404, 409);

/// One Compose project on one engine: known by its containers, by a configured directory
/// (`stacks.directories`), or by both.
#[derive(Object, Serialize)]
#[oai(rename_all = "camelCase", rename = "Stack")]
#[serde(rename_all = "camelCase")]
pub struct StackView {
    name: String,
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    status: Status,
    /// By name.
    services: Vec<Service>,
    /// The services as they start; they stop the other way round.
    order: Vec<String>,
    /// Services, or containers outside of the stack, that need each other in a circle. Each has
    /// its place in `order` all the same. A service of another stack is `stack/service`.
    cycles: Vec<Vec<String>>,
    /// Containers of `docker compose run`.
    one_offs: Vec<StackContainer>,
    container_count: u64,
    running_count: u64,
    updates_available: u64,
    /// On the host where Compose was run; without containers, those of `directory`.
    config_files: Vec<String>,
    #[oai(nullable)]
    working_directory: Option<String>,
    /// Where it was found, of the configured directories; null for a stack that is in none.
    #[oai(nullable)]
    directory: Option<Directory>,
}

#[derive(Object, Serialize)]
#[oai(rename = "StackDirectory")]
struct Directory {
    /// On the worker's host.
    path: String,
    /// A later one counts before an earlier one.
    files: Vec<String>,
    /// Why not all of it can be told, for people. Of a file that was readable before, the services
    /// are those of then.
    #[oai(nullable)]
    problem: Option<String>,
}

/// `running` when every container does that should: one that others wait for to end may have.
/// `partial` also where a service has no container that `docker compose up` would give one;
/// `inactive` where there is no container at all.
#[derive(Enum, Serialize)]
#[oai(rename_all = "lowercase", rename = "StackStatus")]
#[serde(rename_all = "lowercase")]
enum Status {
    Running,
    Partial,
    Stopped,
    Inactive,
}

#[derive(Object, Serialize)]
#[oai(rename = "StackService")]
struct Service {
    name: String,
    /// None for a service that was never started, or whose containers were removed.
    containers: Vec<StackContainer>,
    /// As its containers say, or without any, its files.
    dependencies: Vec<Dependency>,
    /// What the files in the stack's `directory` say of it; null where they say nothing.
    #[oai(nullable)]
    described: Option<DescribedService>,
}

#[derive(Object, Serialize)]
#[oai(rename_all = "camelCase", rename = "StackServiceDescription")]
#[serde(rename_all = "camelCase")]
struct DescribedService {
    /// With its variables filled in, as far as `.env` sets them.
    #[oai(nullable)]
    image: Option<String>,
    /// Whether its image is built where the file is.
    built: bool,
    profiles: Vec<String>,
    /// `docker compose up` makes no container of it: it is of a profile, or has a scale of 0.
    optional: bool,
}

#[derive(Object, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct StackContainer {
    id: String,
    name: String,
    display_name: String,
    /// As in a container's `status`.
    status: String,
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<String>,
    /// Name and tag.
    image: String,
    update_available: bool,
}

/// What a service or container needs.
#[derive(Object, Serialize)]
#[oai(rename_all = "camelCase", rename = "StackDependency")]
#[serde(rename_all = "camelCase")]
struct Dependency {
    /// Of the service or container, or what is written where nothing there has that name.
    name: String,
    kind: DependencyKind,
    /// The stack of the service.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    stack: Option<String>,
    reasons: Vec<Reason>,
    condition: Condition,
    /// Whether a restart of the other one is followed by one of this.
    restart: bool,
}

#[derive(Enum, Serialize)]
#[oai(rename_all = "lowercase", rename = "StackDependencyKind")]
#[serde(rename_all = "lowercase")]
enum DependencyKind {
    Service,
    /// Outside of any stack.
    Container,
    Missing,
}

#[derive(Enum, Serialize)]
#[oai(rename_all = "kebab-case", rename = "StackDependencyReason")]
#[serde(rename_all = "kebab-case")]
enum Reason {
    DependsOn,
    Network,
    Ipc,
    Pid,
    VolumesFrom,
    RestartAfter,
}

impl From<stack::Reason> for Reason {
    fn from(reason: stack::Reason) -> Self {
        match reason {
            stack::Reason::DependsOn => Self::DependsOn,
            stack::Reason::Network => Self::Network,
            stack::Reason::Ipc => Self::Ipc,
            stack::Reason::Pid => Self::Pid,
            stack::Reason::VolumesFrom => Self::VolumesFrom,
            stack::Reason::RestartAfter => Self::RestartAfter,
        }
    }
}

#[derive(Enum, Serialize)]
#[oai(rename = "StackDependencyCondition")]
enum Condition {
    #[oai(rename = "service_started")]
    #[serde(rename = "service_started")]
    Started,
    #[oai(rename = "service_healthy")]
    #[serde(rename = "service_healthy")]
    Healthy,
    #[oai(rename = "service_completed_successfully")]
    #[serde(rename = "service_completed_successfully")]
    CompletedSuccessfully,
}

impl From<stack::Condition> for Condition {
    fn from(condition: stack::Condition) -> Self {
        match condition {
            stack::Condition::Started => Self::Started,
            stack::Condition::Healthy => Self::Healthy,
            stack::Condition::CompletedSuccessfully => Self::CompletedSuccessfully,
        }
    }
}

/// A container that belongs to no stack.
#[derive(Object, Serialize)]
#[oai(rename_all = "camelCase")]
#[serde(rename_all = "camelCase")]
struct StandaloneContainer {
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[oai(flatten)]
    #[serde(flatten)]
    container: StackContainer,
    dependencies: Vec<Dependency>,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Stacks {
    /// List stacks
    ///
    /// The Compose projects of all engines and those of configured directories, started or not, by
    /// name and then by watcher. The same project on two engines is two stacks.
    #[oai(
        path = "/stacks",
        method = "get",
        operation_id = "listStacks",
        tag = "Tag::Stacks"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn list(
        &self,
        who: Authorized<perm::ContainersRead>,
        request: &Request,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
        #[oai(name = "If-None-Match")] if_none_match: Header<Option<String>>,
    ) -> Result<RawJson<List<StackView>>, ErrorOf<Reads>> {
        let inventory = &who.snapshot().inventory;
        let found = stacks::list(inventory, &engines(watcher.0, agent.0));
        let page = Page::all(limit.0, offset.0);
        let shown = page.slice(&found).iter();
        let shown = shown.map(|stack| StackView::of(inventory, stack)).collect();
        let query = request.uri().query().unwrap_or("");
        let list = List::of(page, shown, found.len() as u64, "/api/v1/stacks", query);
        Ok(rendered(&list, if_none_match.0.as_deref())?)
    }

    /// Get a stack
    ///
    /// Where several engines have one of that name, 409 names them.
    #[oai(
        path = "/stacks/:name",
        method = "get",
        operation_id = "getStack",
        tag = "Tag::Stacks"
    )]
    async fn get(
        &self,
        who: Authorized<perm::ContainersRead>,
        name: Path<String>,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        #[oai(name = "If-None-Match")] if_none_match: Header<Option<String>>,
    ) -> Result<RawJson<StackView>, ErrorOf<ReadsStack>> {
        let inventory = &who.snapshot().inventory;
        let stack = stacks::find(inventory, &name.0, &engines(watcher.0, agent.0))?;
        let view = StackView::of(inventory, stack);
        Ok(rendered(&view, if_none_match.0.as_deref())?)
    }

    /// Restart a stack
    ///
    /// Every container of it, in the order in which its services need each other, and then what
    /// runs elsewhere and follows them. Each waits for what it comes after as its `depends_on`
    /// says, at most 120 seconds; where that failed, it is left as it is. Services without
    /// containers are left out, and the message names them. Refused while an operation works on one
    /// of the containers, and where there is none.
    #[oai(
        path = "/stacks/:name/restart",
        method = "post",
        operation_id = "restartStack",
        tag = "Tag::Stacks"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn restart(
        &self,
        who: Authorized<perm::ContainersActions>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
        /// Repeating a request with the same key names the same operations
        #[oai(name = "Idempotency-Key")]
        key: Header<Option<Text<IdempotencyKey>>>,
    ) -> Result<StackRestartAnswer, ErrorOf<Acting>> {
        let preference = Preference::parse(prefer.0.as_deref());
        let engines = engines(watcher.0, agent.0);
        let target = format!("POST /stacks/{}/restart {engines:?}", name.0);
        let caller = caller(who.principal(), &context, text(&key.0), &target, "")?;
        let restart = state.app.request_stack_restart(&name.0, &engines, &caller);
        let group = restart.await?;
        let inventory = &who.snapshot().inventory;
        let absent = stacks::absent_of(inventory, &name.0, &engines);
        Ok(stack_answer(&state, group, &preference, &absent).await?)
    }

    /// List containers outside of any stack
    ///
    /// By name, with what they need of others.
    #[oai(
        path = "/containers/standalone",
        method = "get",
        operation_id = "listStandaloneContainers",
        tag = "Tag::Stacks"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn standalone(
        &self,
        who: Authorized<perm::ContainersRead>,
        request: &Request,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
        #[oai(name = "If-None-Match")] if_none_match: Header<Option<String>>,
    ) -> Result<RawJson<List<StandaloneContainer>>, ErrorOf<Reads>> {
        let inventory = &who.snapshot().inventory;
        let found = stacks::standalone(inventory, &engines(watcher.0, agent.0));
        let page = Page::all(limit.0, offset.0);
        let shown = page.slice(&found).iter();
        let shown = shown.flat_map(|node| StandaloneContainer::of(inventory, node));
        let query = request.uri().query().unwrap_or("");
        let path = "/api/v1/containers/standalone";
        let list = List::of(page, shown.collect(), found.len() as u64, path, query);
        Ok(rendered(&list, if_none_match.0.as_deref())?)
    }
}

pub(super) fn engines(watcher: Option<String>, agent: Option<String>) -> Engines {
    Engines { watcher, agent }
}

/// Written as bytes at once: a list may hold a thousand containers.
fn rendered<T: Serialize>(value: &T, if_none_match: Option<&str>) -> Result<RawJson<T>, ApiError> {
    let body = serde_json::to_vec(value).map_err(|e| ApiError::internal(e.to_string()))?;
    let mut hash = [0; 16];
    hash.copy_from_slice(&Sha256::digest(&body)[..16]);
    let etag = weak_etag(&hash);
    Ok(RawJson::conditional(&etag, if_none_match, || body.into()))
}

impl StackView {
    fn of(inventory: &Inventory, stack: &stack::Stack) -> Self {
        let survey = inventory.survey();
        let name = |node: &usize| stacks::node_name(survey.node(*node), Some(&stack.name));
        let services: Vec<Service> = stack
            .services
            .iter()
            .map(|node| Service::of(inventory, survey.node(*node)))
            .collect();
        let containers = || services.iter().flat_map(|service| &service.containers);
        let running = containers().filter(|one| one.status == "running");
        let updates = containers().filter(|one| one.update_available);
        Self {
            container_count: containers().count() as u64,
            running_count: running.count() as u64,
            updates_available: updates.count() as u64,
            name: stack.name.clone(),
            watcher: stack.watcher.name.clone(),
            agent: agent(&stack.watcher),
            status: match stack.status {
                stack::StackStatus::Running => Status::Running,
                stack::StackStatus::Partial => Status::Partial,
                stack::StackStatus::Stopped => Status::Stopped,
                stack::StackStatus::Inactive => Status::Inactive,
            },
            order: stack.order.iter().map(name).collect(),
            cycles: stack
                .cycles
                .iter()
                .map(|cycle| cycle.iter().map(name).collect())
                .collect(),
            one_offs: containers_of(inventory, &stack.one_offs),
            config_files: stack.config_files.clone(),
            working_directory: stack.working_directory.clone(),
            directory: stack.directory.as_ref().map(|directory| Directory {
                path: directory.path.clone(),
                files: directory.files.clone(),
                problem: directory.problem.clone(),
            }),
            services,
        }
    }
}

impl Service {
    fn of(inventory: &Inventory, node: &Node) -> Self {
        Self {
            name: node.name.clone(),
            containers: containers_of(inventory, &node.containers),
            dependencies: dependencies_of(inventory, node),
            described: node.described.as_ref().map(|service| DescribedService {
                image: service.image.clone(),
                built: service.is_built,
                profiles: service.profiles.clone(),
                optional: service.is_optional,
            }),
        }
    }
}

impl StandaloneContainer {
    fn of(inventory: &Inventory, node: &Node) -> Option<Self> {
        let container = stacks::entries(inventory, &node.containers).next()?;
        Some(Self {
            watcher: node.watcher.name.clone(),
            agent: agent(&node.watcher),
            container: StackContainer::of(container),
            dependencies: dependencies_of(inventory, node),
        })
    }
}

impl StackContainer {
    fn of(entry: &Entry) -> Self {
        let facts = &entry.state.facts;
        Self {
            id: entry.id().to_owned(),
            name: facts.name.clone(),
            display_name: facts.display_name().to_owned(),
            status: facts.status.clone(),
            health: facts.health.map(|health| health.as_str().to_owned()),
            image: match facts.image.tag.value.as_str() {
                "" => facts.image.name.clone(),
                tag => format!("{}:{tag}", facts.image.name),
            },
            update_available: entry.update_available,
        }
    }
}

impl Dependency {
    fn of(inventory: &Inventory, dependency: &stack::Dependency) -> Self {
        let (name, kind, stack) = match &dependency.on {
            Target::Missing(name) => (name.clone(), DependencyKind::Missing, None),
            Target::Node(node) => {
                let node = inventory.survey().node(*node);
                let kind = match node.stack {
                    Some(_) => DependencyKind::Service,
                    None => DependencyKind::Container,
                };
                (node.name.clone(), kind, node.stack.clone())
            }
        };
        Self {
            name,
            kind,
            stack,
            reasons: dependency.reasons.iter().map(|r| (*r).into()).collect(),
            condition: dependency.condition.into(),
            restart: dependency.follows_restarts(),
        }
    }
}

fn containers_of(inventory: &Inventory, positions: &[usize]) -> Vec<StackContainer> {
    stacks::entries(inventory, positions)
        .map(|entry| StackContainer::of(entry))
        .collect()
}

fn dependencies_of(inventory: &Inventory, node: &Node) -> Vec<Dependency> {
    let all = node.dependencies.iter();
    all.map(|one| Dependency::of(inventory, one)).collect()
}

fn agent(watcher: &WatcherRef) -> Option<String> {
    watcher.agent_name().map(str::to_owned)
}
