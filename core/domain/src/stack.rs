//! Compose stacks as the containers themselves and files in configured directories tell of them:
//! services, what they need of each other and of containers outside, and the order that follows.
//! What has containers is as these say; what has none is as its files say.
//!
//! The nodes of the graph are the services of each stack and the containers outside of any. What
//! somebody needs is written in three ways, the name of a service, the name of a container and its
//! id, and each is resolved to the node: a container may be called otherwise than its service.
//! Nothing reaches from one engine to another; the same project on two hosts is two stacks.

mod described;
mod order;
mod turn;
mod wiring;

use std::collections::{BTreeMap, HashMap, hash_map::Entry};

pub use described::{Described, DescribedService, Neighbour};
pub use order::{Edge, Ordered, ordered};
use serde::{Deserialize, Serialize};
pub use turn::{Predecessor, Turn, turn};
pub use wiring::{Condition, Needs, ServiceDependency, Wiring};

use crate::{container::ContainerFacts, ids::WatcherRef};

/// The shortest beginning of an id that stands for the container, as in Docker's own answers.
const SHORT_ID: usize = 12;

/// All stacks, and the containers that belong to none.
#[derive(Debug, Default)]
pub struct Survey {
    nodes: Vec<Node>,
    /// The place of each node in the order of all.
    places: Vec<usize>,
    /// By position of the container; `None` for what `docker compose run` made.
    node_of: Vec<Option<usize>>,
    stacks: Vec<Stack>,
    standalone: Vec<usize>,
}

/// A service of a stack, or a container outside of any.
#[derive(Debug)]
pub struct Node {
    pub watcher: WatcherRef,
    /// The project, where this is a service.
    pub stack: Option<String>,
    /// Of the service or of the container.
    pub name: String,
    /// Positions among the surveyed containers, by number and name. A service that was never
    /// started, or whose containers were removed, has none.
    pub containers: Vec<usize>,
    /// What the files in a configured directory say of the service.
    pub described: Option<DescribedService>,
    /// In the order of what they are on; each target once.
    pub dependencies: Vec<Dependency>,
}

/// One need of a node, for however many reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependency {
    pub on: Target,
    /// Each once.
    pub reasons: Vec<Reason>,
    /// The strictest that is asked for.
    pub condition: Condition,
    /// `restart: true` in the Compose file.
    pub restart: bool,
}

impl Dependency {
    /// Whether it cannot run without the other one.
    pub fn is_hard(&self) -> bool {
        self.reasons.iter().any(|reason| reason.is_namespace())
    }

    /// Whether a restart of the other one is to be followed by one of this.
    pub fn follows_restarts(&self) -> bool {
        self.restart || self.is_hard() || self.reasons.contains(&Reason::RestartAfter)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// [`Survey::node`].
    Node(usize),
    /// As it is written; nothing there has that name.
    Missing(String),
}

/// Why a node needs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    DependsOn,
    Network,
    Ipc,
    Pid,
    VolumesFrom,
    /// A label that asks for a restart after the other one.
    RestartAfter,
}

impl Reason {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DependsOn => "depends-on",
            Self::Network => "network",
            Self::Ipc => "ipc",
            Self::Pid => "pid",
            Self::VolumesFrom => "volumes-from",
            Self::RestartAfter => "restart-after",
        }
    }

    /// Whether it lives in a namespace of the other one, which ends with it.
    pub const fn is_namespace(self) -> bool {
        matches!(self, Self::Network | Self::Ipc | Self::Pid)
    }
}

/// One Compose project on one engine.
#[derive(Debug)]
pub struct Stack {
    pub name: String,
    pub watcher: WatcherRef,
    /// By name.
    pub services: Vec<usize>,
    /// The same as they start; the other way round as they stop.
    pub order: Vec<usize>,
    /// Nodes that need each other in a circle, some of them in this stack.
    pub cycles: Vec<Vec<usize>>,
    /// Positions of what `docker compose run` made.
    pub one_offs: Vec<usize>,
    pub status: StackStatus,
    /// As its containers say, and where it has none, its directory.
    pub config_files: Vec<String>,
    pub working_directory: Option<String>,
    /// `None` for a project that is in no configured directory.
    pub directory: Option<StackDirectory>,
}

/// Where a stack was found, of the configured directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackDirectory {
    pub path: String,
    /// A later one counts before an earlier one.
    pub files: Vec<String>,
    /// For people.
    pub problem: Option<String>,
}

/// How much of a stack runs. A service that others wait for to end does not count once it has, and
/// one that is described and has no container counts unless it is optional.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StackStatus {
    Running,
    Partial,
    Stopped,
    /// There is no container.
    Inactive,
}

impl StackStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Partial => "partial",
            Self::Stopped => "stopped",
            Self::Inactive => "inactive",
        }
    }
}

impl Survey {
    /// Sorts the containers into stacks, beside what is described on their engines: of two
    /// descriptions of one project's service the first counts. Positions everywhere are those in
    /// `containers`.
    pub fn of(containers: &[&ContainerFacts], described: &[(WatcherRef, Described)]) -> Self {
        let (mut nodes, node_of) = nodes(containers, described);
        let found: Vec<Vec<Dependency>> = {
            let names = Names::of(containers, &nodes, &node_of);
            let needs = |node| dependencies(containers, &nodes, node, &names);
            (0..nodes.len()).map(needs).collect()
        };
        for (node, dependencies) in nodes.iter_mut().zip(found) {
            node.dependencies = dependencies;
        }
        let edges: Vec<Vec<Edge>> = nodes.iter().map(edges).collect();
        let Ordered { order, cycles } = ordered(&edges);
        let mut places = vec![0; nodes.len()];
        for (place, node) in order.iter().enumerate() {
            places[*node] = place;
        }
        let standalone = (0..nodes.len()).filter(|n| nodes[*n].stack.is_none());
        Self {
            standalone: standalone.collect(),
            stacks: stacks(containers, described, &nodes, &places, &cycles),
            node_of,
            places,
            nodes,
        }
    }

    /// By name, then by watcher.
    pub fn stacks(&self) -> &[Stack] {
        &self.stacks
    }

    /// Containers that belong to no stack, by name.
    pub fn standalone(&self) -> &[usize] {
        &self.standalone
    }

    pub fn node(&self, node: usize) -> &Node {
        &self.nodes[node]
    }

    /// The node of the container at that position.
    pub fn node_of(&self, container: usize) -> Option<usize> {
        self.node_of.get(container).copied().flatten()
    }

    /// `nodes` as they start.
    pub fn in_order(&self, mut nodes: Vec<usize>) -> Vec<usize> {
        nodes.sort_by_key(|node| self.places[*node]);
        nodes.dedup();
        nodes
    }

    /// The nodes and all that are to be restarted after them, as they start.
    pub fn with_followers(&self, nodes: &[usize]) -> Vec<usize> {
        let mut followers: Vec<Vec<usize>> = vec![Vec::new(); self.nodes.len()];
        for (node, one) in self.nodes.iter().enumerate() {
            for dependency in one.dependencies.iter().filter(|d| d.follows_restarts()) {
                if let Target::Node(on) = dependency.on {
                    followers[on].push(node);
                }
            }
        }
        let mut seen = vec![false; self.nodes.len()];
        let (mut open, mut found) = (nodes.to_vec(), Vec::new());
        while let Some(node) = open.pop() {
            if !std::mem::replace(&mut seen[node], true) {
                found.push(node);
                open.extend(&followers[node]);
            }
        }
        self.in_order(found)
    }

    /// What `node` needs of `among` and comes before it: the needs within a cycle that go against
    /// the order are left out.
    pub fn needs<'a>(
        &'a self,
        node: usize,
        among: &'a [usize],
    ) -> impl Iterator<Item = &'a Dependency> {
        let comes_before = move |dependency: &&Dependency| match dependency.on {
            Target::Node(on) => among.contains(&on) && self.places[on] < self.places[node],
            Target::Missing(_) => false,
        };
        self.nodes[node].dependencies.iter().filter(comes_before)
    }
}

/// The nodes, numbered by name, and which of them each container belongs to.
fn nodes(
    containers: &[&ContainerFacts],
    described: &[(WatcherRef, Described)],
) -> (Vec<Node>, Vec<Option<usize>>) {
    // The id tells apart what an engine shows under one name while it is being replaced.
    type Key<'a> = (&'a str, &'a WatcherRef, Option<&'a str>, &'a str);
    let mut members: BTreeMap<Key<'_>, Vec<usize>> = BTreeMap::new();
    let mut services: HashMap<Key<'_>, &DescribedService> = HashMap::new();
    for (watcher, stack) in described {
        for service in &stack.services {
            let key = (&*service.name, watcher, Some(&*stack.name), "");
            members.entry(key).or_default();
            services.entry(key).or_insert(service);
        }
    }
    for (position, facts) in containers.iter().enumerate() {
        let key = match (&facts.compose, &facts.wiring.one_off) {
            (Some(of), _) => (&*of.service, &facts.watcher, Some(&*of.project), ""),
            (None, Some(_)) => continue,
            (None, None) => (&*facts.name, &facts.watcher, None, facts.id.as_str()),
        };
        members.entry(key).or_default().push(position);
    }
    let mut node_of = vec![None; containers.len()];
    let nodes = members
        .into_iter()
        .enumerate()
        .map(|(number, (key, mut of))| {
            let (name, watcher, stack, _) = key;
            of.sort_by_key(|position| {
                let facts = containers[*position];
                (facts.wiring.number, &facts.name, &facts.id)
            });
            for position in &of {
                node_of[*position] = Some(number);
            }
            Node {
                watcher: watcher.clone(),
                stack: stack.map(str::to_owned),
                name: name.to_owned(),
                containers: of,
                described: services.get(&key).map(|service| (*service).clone()),
                dependencies: Vec::new(),
            }
        });
    let nodes = nodes.collect();
    (nodes, node_of)
}

/// Which node is meant by a name.
struct Names<'a> {
    services: HashMap<(&'a WatcherRef, &'a str, &'a str), usize>,
    containers: HashMap<(&'a WatcherRef, &'a str), usize>,
    ids: BTreeMap<(&'a WatcherRef, &'a str), usize>,
}

impl<'a> Names<'a> {
    fn of(containers: &[&'a ContainerFacts], nodes: &'a [Node], node_of: &[Option<usize>]) -> Self {
        let services = nodes.iter().enumerate().filter_map(|(number, node)| {
            let stack = node.stack.as_deref()?;
            Some(((&node.watcher, stack, node.name.as_str()), number))
        });
        let known = || {
            let both = containers.iter().zip(node_of);
            both.filter_map(|(facts, node)| Some((*facts, (*node)?)))
        };
        Self {
            services: services.collect(),
            containers: known()
                .map(|(facts, node)| ((&facts.watcher, facts.name.as_str()), node))
                .collect(),
            ids: known()
                .map(|(facts, node)| ((&facts.watcher, facts.id.as_str()), node))
                .collect(),
        }
    }

    fn service(&self, node: &Node, name: &str) -> Option<usize> {
        let stack = node.stack.as_deref()?;
        self.services.get(&(&node.watcher, stack, name)).copied()
    }

    /// Labels list containers; in a Compose file people write the service as well.
    fn container_or_service(&self, node: &Node, name: &str) -> Option<usize> {
        self.container(&node.watcher, name)
            .or_else(|| self.service(node, name))
    }

    /// By name, by id, or by a beginning of the id that means one container only.
    fn container(&self, watcher: &WatcherRef, text: &str) -> Option<usize> {
        if let Some(node) = self.containers.get(&(watcher, text)) {
            return Some(*node);
        }
        if text.len() < SHORT_ID {
            return None;
        }
        let mut beginning = self
            .ids
            .range((watcher, text)..)
            .take_while(|((of, id), _)| *of == watcher && id.starts_with(text));
        match (beginning.next(), beginning.next()) {
            (Some((_, node)), None) => Some(*node),
            _ => None,
        }
    }
}

fn dependencies(
    containers: &[&ContainerFacts],
    nodes: &[Node],
    number: usize,
    names: &Names<'_>,
) -> Vec<Dependency> {
    let node = &nodes[number];
    let mut found: BTreeMap<Target, Dependency> = BTreeMap::new();
    let mut add = |text: &str, on: Option<usize>, reason, condition, restart| {
        let on = on.map_or_else(|| Target::Missing(text.to_owned()), Target::Node);
        if on == Target::Node(number) {
            return;
        }
        let known = found.entry(on.clone()).or_insert_with(|| Dependency {
            on,
            reasons: Vec::new(),
            condition: Condition::Started,
            restart: false,
        });
        known.condition = known.condition.max(condition);
        known.restart |= restart;
        if !known.reasons.contains(&reason) {
            known.reasons.push(reason);
            known.reasons.sort_unstable();
        }
    };
    for position in &node.containers {
        let wiring = &containers[*position].wiring;
        for one in &wiring.depends_on {
            let on = names.service(node, &one.service);
            add(
                &one.service,
                on,
                Reason::DependsOn,
                one.condition,
                one.restart,
            );
        }
        let shared = [
            (Reason::Network, &wiring.network),
            (Reason::Ipc, &wiring.ipc),
            (Reason::Pid, &wiring.pid),
        ];
        let shared = shared
            .into_iter()
            .filter_map(|(reason, name)| Some((reason, name.as_ref()?)));
        let volumes = wiring.volumes_from.iter();
        for (reason, name) in shared.chain(volumes.map(|name| (Reason::VolumesFrom, name))) {
            let on = names.container(&node.watcher, name);
            add(name, on, reason, Condition::Started, false);
        }
        for (reason, list) in [
            (Reason::DependsOn, &wiring.comes_after),
            (Reason::RestartAfter, &wiring.restart_after),
        ] {
            for name in list {
                let on = names.container_or_service(node, name);
                add(name, on, reason, Condition::Started, false);
            }
        }
    }
    if let (true, Some(described)) = (node.containers.is_empty(), &node.described) {
        for one in &described.depends_on {
            let (on, condition) = (names.service(node, &one.service), one.condition);
            add(&one.service, on, Reason::DependsOn, condition, one.restart);
        }
        for (reason, with) in &described.shares {
            let (name, on) = match with {
                Neighbour::Service(name) => (name, names.service(node, name)),
                Neighbour::Container(name) => (name, names.container(&node.watcher, name)),
            };
            add(name, on, *reason, Condition::Started, false);
        }
        for (reason, list) in [
            (Reason::DependsOn, &described.comes_after),
            (Reason::RestartAfter, &described.restart_after),
        ] {
            for name in list {
                let on = names.container_or_service(node, name);
                add(name, on, reason, Condition::Started, false);
            }
        }
    }
    found.into_values().collect()
}

fn edges(node: &Node) -> Vec<Edge> {
    let edge = |dependency: &Dependency| match dependency.on {
        Target::Node(on) => Some(Edge {
            on,
            is_hard: dependency.is_hard(),
        }),
        Target::Missing(_) => None,
    };
    node.dependencies.iter().filter_map(edge).collect()
}

/// By its name and its engine.
type Project<'a> = (&'a str, &'a WatcherRef);

#[derive(Default)]
struct Members {
    services: Vec<usize>,
    one_offs: Vec<usize>,
}

fn stacks(
    containers: &[&ContainerFacts],
    described: &[(WatcherRef, Described)],
    nodes: &[Node],
    places: &[usize],
    cycles: &[Vec<usize>],
) -> Vec<Stack> {
    let mut members: BTreeMap<Project<'_>, Members> = BTreeMap::new();
    for (number, node) in nodes.iter().enumerate() {
        if let Some(stack) = &node.stack {
            let stack = members.entry((stack, &node.watcher)).or_default();
            stack.services.push(number);
        }
    }
    for (position, facts) in containers.iter().enumerate() {
        if let (None, Some(of)) = (&facts.compose, &facts.wiring.one_off) {
            let stack = members.entry((&of.project, &facts.watcher)).or_default();
            stack.one_offs.push(position);
        }
    }
    let mut found_in: HashMap<Project<'_>, StackDirectory> = HashMap::new();
    for (watcher, stack) in described {
        let key = (&*stack.name, watcher);
        members.entry(key).or_default();
        match found_in.entry(key) {
            Entry::Vacant(new) => {
                new.insert(StackDirectory {
                    path: stack.directory.clone(),
                    files: stack.files.clone(),
                    problem: stack.problem.clone(),
                });
            }
            Entry::Occupied(mut known) => {
                let also = format!("{} describes a project of that name too", stack.directory);
                let problem = &mut known.get_mut().problem;
                *problem = Some(match problem.take() {
                    Some(problem) => format!("{problem}; {also}"),
                    None => also,
                });
            }
        }
    }
    let awaited = awaited(nodes);
    let mut cycles_of: HashMap<Project<'_>, Vec<Vec<usize>>> = HashMap::new();
    for cycle in cycles {
        let mut of: Vec<_> = cycle
            .iter()
            .filter_map(|node| Some((nodes[*node].stack.as_deref()?, &nodes[*node].watcher)))
            .collect();
        of.sort_unstable();
        of.dedup();
        for stack in of {
            cycles_of.entry(stack).or_default().push(cycle.clone());
        }
    }
    let mut stacks = Vec::with_capacity(members.len());
    for (key, Members { services, one_offs }) in members {
        let all = || services.iter().flat_map(|node| &nodes[*node].containers);
        // The one that was made last knows best.
        let newest = all()
            .chain(&one_offs)
            .map(|position| containers[*position])
            .max_by_key(|facts| (facts.created, &facts.id));
        let wiring = newest.map(|facts| &facts.wiring);
        let directory = found_in.remove(&key);
        let config_files = wiring.map_or_else(Vec::new, |w| w.config_files.clone());
        let is_absent = |node: &&usize| {
            let of = &nodes[**node];
            let is_expected = of.described.as_ref().is_some_and(|one| !one.is_optional);
            of.containers.is_empty() && is_expected && !awaited[**node]
        };
        let mut order = services.clone();
        order.sort_by_key(|node| places[*node]);
        stacks.push(Stack {
            name: key.0.to_owned(),
            watcher: key.1.clone(),
            status: match newest {
                None => StackStatus::Inactive,
                Some(_) => status(
                    services.iter().flat_map(|node| {
                        let of = nodes[*node].containers.iter();
                        of.map(|position| (containers[*position], awaited[*node]))
                    }),
                    services.iter().filter(is_absent).count(),
                ),
            },
            order,
            services,
            cycles: cycles_of.remove(&key).unwrap_or_default(),
            one_offs,
            config_files: match &directory {
                Some(directory) if config_files.is_empty() => directory.files.clone(),
                _ => config_files,
            },
            working_directory: wiring
                .and_then(|w| w.working_directory.clone())
                .or_else(|| Some(directory.as_ref()?.path.clone())),
            directory,
        });
    }
    stacks
}

/// Whether somebody waits for the node to end.
fn awaited(nodes: &[Node]) -> Vec<bool> {
    let mut awaited = vec![false; nodes.len()];
    for dependency in nodes.iter().flat_map(|node| &node.dependencies) {
        if let (Target::Node(on), Condition::CompletedSuccessfully) =
            (&dependency.on, dependency.condition)
        {
            awaited[*on] = true;
        }
    }
    awaited
}

fn status<'a>(
    containers: impl Iterator<Item = (&'a ContainerFacts, bool)>,
    absent: usize,
) -> StackStatus {
    let (mut running, mut others) = (0, absent);
    for (facts, is_awaited) in containers {
        match facts.is_running() {
            true => running += 1,
            false if is_awaited && facts.status == "exited" => {}
            false => others += 1,
        }
    }
    match (running, others) {
        (0, _) => StackStatus::Stopped,
        (_, 0) => StackStatus::Running,
        _ => StackStatus::Partial,
    }
}

#[cfg(test)]
mod tests;
