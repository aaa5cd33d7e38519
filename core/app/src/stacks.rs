//! Compose stacks on all engines, as the inventory and configured directories show them
//! (`domain::stack`).

use std::sync::Arc;

use plimsoll_domain::{
    ids::WatcherRef,
    stack::{Node, Stack},
};
use serde_json::json;

use crate::{
    AppError,
    inventory::{Entry, Inventory},
};

pub const NOT_FOUND: &str = "Stack not found";

/// Which engines are asked about; `None` for any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Engines {
    pub watcher: Option<String>,
    /// Empty for this installation's own.
    pub agent: Option<String>,
}

impl Engines {
    pub fn hold(&self, watcher: &WatcherRef) -> bool {
        let is = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        is(&self.watcher, &watcher.name) && is(&self.agent, &watcher.agent)
    }
}

/// The stacks on these engines, by name and then by watcher.
pub fn list<'a>(inventory: &'a Inventory, engines: &Engines) -> Vec<&'a Stack> {
    let stacks = inventory.survey().stacks().iter();
    stacks.filter(|one| engines.hold(&one.watcher)).collect()
}

/// The one stack of that name on these engines.
///
/// # Errors
/// `NotFound`; `Conflict` naming the candidates where there are several.
pub fn find<'a>(
    inventory: &'a Inventory,
    name: &str,
    engines: &Engines,
) -> Result<&'a Stack, AppError> {
    let mut found = list(inventory, engines);
    found.retain(|stack| stack.name == name);
    match found[..] {
        [] => Err(AppError::NotFound(NOT_FOUND.to_owned())),
        [stack] => Ok(stack),
        _ => {
            let candidates: Vec<_> = found
                .iter()
                .map(|stack| json!({ "watcher": stack.watcher.name, "agent": stack.watcher.agent }))
                .collect();
            Err(AppError::Conflict {
                message: format!(
                    "There are {} stacks of that name; say which one with `watcher` and `agent`",
                    candidates.len()
                ),
                details: Some(json!({ "candidates": candidates })),
            })
        }
    }
}

/// The services of the stack that have no container, by name: whatever is done to the stack leaves
/// them out.
pub fn absent<'a>(inventory: &'a Inventory, stack: &Stack) -> Vec<&'a str> {
    let services = stack.services.iter();
    let services = services.map(|node| inventory.survey().node(*node));
    services
        .filter(|node| node.containers.is_empty())
        .map(|node| node.name.as_str())
        .collect()
}

/// The same of the one stack of that name; none where it is gone by now.
pub fn absent_of<'a>(inventory: &'a Inventory, name: &str, engines: &Engines) -> Vec<&'a str> {
    let stack = find(inventory, name, engines);
    stack.map_or_else(|_| Vec::new(), |stack| absent(inventory, stack))
}

/// The containers on these engines that belong to no stack, by name.
pub fn standalone<'a>(inventory: &'a Inventory, engines: &Engines) -> Vec<&'a Node> {
    let survey = inventory.survey();
    let nodes = survey.standalone().iter().map(|node| survey.node(*node));
    nodes.filter(|node| engines.hold(&node.watcher)).collect()
}

/// The containers of a node, or of a stack's one-off runs.
pub fn entries<'a>(
    inventory: &'a Inventory,
    positions: &'a [usize],
) -> impl Iterator<Item = &'a Arc<Entry>> {
    positions
        .iter()
        .map(|position| &inventory.entries()[*position])
}

/// What a node is called beside the nodes of `stack`.
pub fn node_name(node: &Node, stack: Option<&str>) -> String {
    match &node.stack {
        Some(other) if Some(other.as_str()) != stack => format!("{other}/{}", node.name),
        _ => node.name.clone(),
    }
}
