//! Which of many comes after which, whatever the dependencies are.

use std::{cmp::Reverse, collections::BinaryHeap};

/// That one needs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// What is needed.
    pub on: usize,
    /// It cannot even run without the other one, as with a namespace that it takes from there.
    pub is_hard: bool,
}

/// Every node once, and what could not be ordered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ordered {
    /// What is needed comes before what needs it, except within a cycle; of two that may come next,
    /// the one with the lower number does.
    pub order: Vec<usize>,
    /// The members of each cycle, lowest number first. They stand together in `order`.
    pub cycles: Vec<Vec<usize>>,
}

/// Orders the nodes `0..edges.len()`; `edges[n]` is what `n` needs. A node that needs itself needs
/// nothing.
pub fn ordered(edges: &[Vec<Edge>]) -> Ordered {
    let groups = strongly_connected(edges);
    let mut group_of = vec![0; edges.len()];
    for (number, members) in groups.iter().enumerate() {
        for member in members {
            group_of[*member] = number;
        }
    }
    let mut missing = vec![0usize; groups.len()];
    let mut needed_by: Vec<Vec<usize>> = vec![Vec::new(); groups.len()];
    for (node, needs) in edges.iter().enumerate() {
        for edge in needs {
            let (own, other) = (group_of[node], group_of[edge.on]);
            if own != other {
                missing[own] += 1;
                needed_by[other].push(own);
            }
        }
    }
    // A group goes by its lowest number.
    let mut ready: BinaryHeap<Reverse<(usize, usize)>> = groups
        .iter()
        .enumerate()
        .filter(|(group, _)| missing[*group] == 0)
        .map(|(group, members)| Reverse((members[0], group)))
        .collect();
    let mut found = Ordered::default();
    while let Some(Reverse((_, group))) = ready.pop() {
        let members = &groups[group];
        found.order.extend(within(members, edges));
        if members.len() > 1 {
            found.cycles.push(members.clone());
        }
        for dependent in &needed_by[group] {
            missing[*dependent] -= 1;
            if missing[*dependent] == 0 {
                ready.push(Reverse((groups[*dependent][0], *dependent)));
            }
        }
    }
    found.cycles.sort();
    found
}

/// The members of a cycle: as far as what is hard allows, and then by number.
fn within(members: &[usize], edges: &[Vec<Edge>]) -> Vec<usize> {
    if members.len() == 1 {
        return members.to_vec();
    }
    let hard: Vec<Vec<Edge>> = members
        .iter()
        .map(|member| {
            let hard = edges[*member].iter().filter(|edge| edge.is_hard);
            hard.filter_map(|edge| {
                let on = members.binary_search(&edge.on).ok()?;
                Some(Edge { on, is_hard: false })
            })
            .collect()
        })
        .collect();
    let order = ordered(&hard).order.into_iter();
    order.map(|position| members[position]).collect()
}

/// The groups of nodes that reach each other, each in rising order (Kosaraju). Without recursion:
/// labels may make a chain of any length.
fn strongly_connected(edges: &[Vec<Edge>]) -> Vec<Vec<usize>> {
    let forward: Vec<Vec<usize>> = edges
        .iter()
        .map(|needs| needs.iter().map(|edge| edge.on).collect())
        .collect();
    let mut backward = vec![Vec::new(); edges.len()];
    for (node, needs) in forward.iter().enumerate() {
        for on in needs {
            backward[*on].push(node);
        }
    }
    let mut finished = Vec::with_capacity(edges.len());
    let mut seen = vec![false; edges.len()];
    for start in 0..edges.len() {
        walk(start, &forward, &mut seen, &mut finished);
    }
    let mut seen = vec![false; edges.len()];
    let mut groups = Vec::new();
    for start in finished.into_iter().rev() {
        let mut group = Vec::new();
        walk(start, &backward, &mut seen, &mut group);
        if !group.is_empty() {
            group.sort_unstable();
            groups.push(group);
        }
    }
    groups
}

/// Visits what is not `seen` yet, depth first, and adds each node once all that it leads to is in.
fn walk(start: usize, edges: &[Vec<usize>], seen: &mut [bool], finished: &mut Vec<usize>) {
    if std::mem::replace(&mut seen[start], true) {
        return;
    }
    let mut path = vec![(start, 0)];
    while let Some((node, next)) = path.last_mut() {
        match edges[*node].get(*next) {
            Some(on) => {
                *next += 1;
                if !std::mem::replace(&mut seen[*on], true) {
                    path.push((*on, 0));
                }
            }
            None => {
                finished.push(*node);
                path.pop();
            }
        }
    }
}
