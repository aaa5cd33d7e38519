//! Going through an outline: aliases and merge keys are followed, at a bounded cost.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
};

use super::{
    Refusal,
    outline::{Map, Node, Outline},
};

/// A file made of aliases to aliases costs no more than this.
const MAX_STEPS: usize = 50_000;
pub(super) const MAX_DEPTH: usize = 16;
/// So many keys of a mapping are looked through in one step: aliases may lead to a large one often.
const KEYS: usize = 32;

pub(super) struct Reader<'a> {
    anchors: HashMap<usize, &'a Node>,
    steps: Cell<usize>,
}

impl<'a> Reader<'a> {
    pub fn new(outline: &'a Outline) -> Self {
        Self {
            anchors: outline.anchored(),
            steps: Cell::new(0),
        }
    }

    /// The value of the key in the mapping, or else in what is merged into it: the first that has
    /// it counts.
    pub fn value(
        &self,
        map: &'a Map,
        key: &str,
        depth: usize,
    ) -> Result<Option<&'a Node>, Refusal> {
        self.step(depth)?;
        self.spend(map.entries.len() / KEYS)?;
        if let Some(own) = map.get(key)? {
            return Ok(Some(own));
        }
        for source in self.merged(map)? {
            if let Some(found) = self.value(source, key, depth - 1)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Every key of the mapping and of what is merged into it, each once, the one that counts.
    pub fn entries(&self, map: &'a Map, depth: usize) -> Result<Vec<(&'a str, &'a Node)>, Refusal> {
        self.step(depth)?;
        self.spend(map.entries.len())?;
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for (key, node) in map.entries.iter().filter(|(key, _)| key != "<<") {
            if !seen.insert(key.as_str()) {
                return Err(Refusal::Duplicate(key.clone()));
            }
            found.push((key.as_str(), node));
        }
        for source in self.merged(map)? {
            let more = self.entries(source, depth - 1)?;
            found.extend(more.into_iter().filter(|(key, _)| seen.insert(key)));
        }
        Ok(found)
    }

    /// The entries of a sequence; none of anything else.
    pub fn items(&self, node: &'a Node) -> Result<&'a [Node], Refusal> {
        let Node::Sequence(sequence) = self.follow(node)?.0 else {
            return Ok(&[]);
        };
        self.spend(sequence.items.len())?;
        Ok(&sequence.items)
    }

    /// The mappings that are merged into this one.
    fn merged(&self, map: &'a Map) -> Result<Vec<&'a Map>, Refusal> {
        let Some(merged) = map.get("<<")? else {
            return Ok(Vec::new());
        };
        let sources = match self.follow(merged)?.0 {
            Node::Sequence(sequence) => {
                self.spend(sequence.items.len())?;
                sequence.items.iter().collect()
            }
            other => vec![other],
        };
        let mut maps = Vec::new();
        for source in sources {
            if let Node::Map(source) = self.follow(source)?.0 {
                maps.push(source);
            }
        }
        Ok(maps)
    }

    /// What a node stands for, and whether it is an alias.
    pub fn follow(&self, node: &'a Node) -> Result<(&'a Node, bool), Refusal> {
        let mut node = node;
        let mut by_alias = false;
        while let Node::Alias(alias) = node {
            self.step(1)?;
            by_alias = true;
            node = self.anchors.get(&alias.anchor).copied().ok_or_else(|| {
                Refusal::Malformed("an alias stands for nothing that was named".to_owned())
            })?;
        }
        Ok((node, by_alias))
    }

    pub fn step(&self, depth: usize) -> Result<(), Refusal> {
        self.spend(1)?;
        match depth {
            0 => Err(too_deep()),
            _ => Ok(()),
        }
    }

    fn spend(&self, steps: usize) -> Result<(), Refusal> {
        self.steps.set(self.steps.get().saturating_add(steps));
        match self.steps.get() > MAX_STEPS {
            true => Err(too_deep()),
            false => Ok(()),
        }
    }
}

fn too_deep() -> Refusal {
    Refusal::Malformed("its aliases, merges and `extends` are nested too deeply".to_owned())
}
