//! Containers by stack (contract/drydock-app-api.md, "Container groups").

use std::{collections::BTreeMap, sync::Arc};

use crate::inventory::{Entry, Inventory};

/// The containers of one group; `None` is for those without any.
#[derive(Debug)]
pub struct Group {
    pub name: Option<String>,
    /// In the order of their names.
    pub containers: Vec<Arc<Entry>>,
}

impl Group {
    pub fn updates_available(&self) -> usize {
        let available = |entry: &&Arc<Entry>| entry.update_available;
        self.containers.iter().filter(available).count()
    }
}

/// Groups by name; the containers without a group come last.
pub fn groups(inventory: &Inventory) -> Vec<Group> {
    let mut named: BTreeMap<&str, Vec<Arc<Entry>>> = BTreeMap::new();
    let mut loose = Vec::new();
    for entry in inventory.entries() {
        match entry.state.facts.group() {
            Some(name) => named.entry(name).or_default().push(entry.clone()),
            None => loose.push(entry.clone()),
        }
    }
    let mut groups: Vec<Group> = named
        .into_iter()
        .map(|(name, containers)| Group {
            name: Some(name.to_owned()),
            containers,
        })
        .collect();
    if !loose.is_empty() {
        groups.push(Group {
            name: None,
            containers: loose,
        });
    }
    groups
}
