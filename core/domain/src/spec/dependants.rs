//! Containers that live in a namespace of another one (reliability.md S17). When that one is
//! re-created they must be re-created with its new id: restarted, they would look for the old.

use serde_json::Value;

/// Which namespace is shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SharedNamespace {
    Network,
    Ipc,
    Pid,
}

/// A container that depends on another's namespaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependant {
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    pub shares: Vec<SharedNamespace>,
}

const MODES: [(&str, SharedNamespace); 3] = [
    ("NetworkMode", SharedNamespace::Network),
    ("IpcMode", SharedNamespace::Ipc),
    ("PidMode", SharedNamespace::Pid),
];

/// Those of `all` (inspections, in any state) that share a namespace of `parent`, by id or by
/// name, directly or through another dependant; a dependant comes after the one it depends on.
/// Start them in this order, stop them in the reverse.
pub fn dependants<'a>(parent: &Value, all: impl IntoIterator<Item = &'a Value>) -> Vec<Dependant> {
    let all: Vec<&Value> = all.into_iter().collect();
    let mut found: Vec<Dependant> = Vec::new();
    let mut open = vec![(text(parent, "Id").to_owned(), own_name(parent).to_owned())];
    let root = open[0].0.clone();
    while let Some((id, name)) = open.pop() {
        for candidate in &all {
            let candidate_id = text(candidate, "Id");
            if candidate_id == root || found.iter().any(|known| known.id == candidate_id) {
                continue;
            }
            let shares: Vec<SharedNamespace> = MODES
                .iter()
                .filter(|(key, _)| points_at(text(&candidate["HostConfig"], key), &id, &name))
                .map(|(_, namespace)| *namespace)
                .collect();
            if !shares.is_empty() {
                let dependant = Dependant {
                    id: candidate_id.to_owned(),
                    name: own_name(candidate).to_owned(),
                    shares,
                };
                open.push((dependant.id.clone(), dependant.name.clone()));
                found.push(dependant);
            }
        }
    }
    found
}

fn points_at(mode: &str, id: &str, name: &str) -> bool {
    let Some(target) = mode.strip_prefix("container:") else {
        return false;
    };
    let target = target.trim_start_matches('/');
    target == name || target == id || (target.len() >= 12 && id.starts_with(target))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn own_name(inspect: &Value) -> &str {
    text(inspect, "Name").trim_start_matches('/')
}
