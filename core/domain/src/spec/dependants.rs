//! Containers that live in a namespace of another one (reliability.md S17) or have its volumes by its
//! id (S18). When that one is re-created they must be re-created with its new id: restarted, the
//! former would look for the old one, and the latter could not be made again any more.

use serde_json::Value;

/// What one container has of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Shared {
    Network,
    Ipc,
    Pid,
    /// Found when the container was created, so it runs on without the other one.
    Volumes,
}

/// A container that depends on another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependant {
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// Each once, of the parent or of its other dependants.
    pub shares: Vec<Shared>,
}

impl Dependant {
    /// Whether it can run where it is while those that it depends on are made again.
    pub fn runs_without(&self) -> bool {
        self.shares == [Shared::Volumes]
    }
}

const MODES: [(&str, Shared); 3] = [
    ("NetworkMode", Shared::Network),
    ("IpcMode", Shared::Ipc),
    ("PidMode", Shared::Pid),
];

/// Those of `all` (inspections, in any state) that share a namespace of `parent`, by id or by
/// name, or its volumes, directly or through another dependant; a dependant comes after those it
/// depends on. Start them in this order, stop them in the reverse.
pub fn dependants<'a>(
    parent: &'a Value,
    all: impl IntoIterator<Item = &'a Value>,
) -> Vec<Dependant> {
    let root = text(parent, "Id");
    let mut others: Vec<&Value> = all
        .into_iter()
        .filter(|one| text(one, "Id") != root)
        .collect();
    let mut family = vec![parent];
    let mut looked_at = 0;
    while let Some(owner) = family.get(looked_at).copied() {
        looked_at += 1;
        let (found, rest) = others
            .into_iter()
            .partition(|one| !shared(one, owner).is_empty());
        family.extend::<Vec<&Value>>(found);
        others = rest;
    }
    let mut open = family.split_off(1);
    let mut ordered = family;
    let mut dependants = Vec::new();
    while !open.is_empty() {
        let is_free = |one: &&Value| open.iter().all(|other| shared(one, other).is_empty());
        let next = open.remove(open.iter().position(is_free).unwrap_or_default());
        let mut shares: Vec<Shared> = ordered
            .iter()
            .flat_map(|owner| shared(next, owner))
            .collect();
        shares.sort_unstable();
        shares.dedup();
        dependants.push(Dependant {
            id: text(next, "Id").to_owned(),
            name: own_name(next).to_owned(),
            shares,
        });
        ordered.push(next);
    }
    dependants
}

/// What `one` has of `owner`.
fn shared(one: &Value, owner: &Value) -> Vec<Shared> {
    let (id, name) = (text(owner, "Id"), own_name(owner));
    let host = &one["HostConfig"];
    let namespaces = MODES
        .iter()
        .filter(|(key, _)| points_at(text(host, key), id, name))
        .map(|(_, namespace)| *namespace);
    let volumes = host["VolumesFrom"].as_array().into_iter().flatten();
    let has_volumes = volumes
        .filter_map(Value::as_str)
        .any(|entry| is_id(entry.split(':').next().unwrap_or(entry), id));
    // A name is as good as before, and what has ended can be started as it is: made again, it
    // would lose its logs. Compose makes its own again by the id.
    let is_owed = has_volumes && (!has_ended(one) || is_of_service(one));
    namespaces
        .chain(is_owed.then_some(Shared::Volumes))
        .collect()
}

fn has_ended(one: &Value) -> bool {
    matches!(
        one["State"]["Status"].as_str(),
        Some("created" | "exited" | "dead")
    )
}

/// Whether `docker compose up` looks after it.
fn is_of_service(one: &Value) -> bool {
    let labels = &one["Config"]["Labels"];
    let one_off = labels["com.docker.compose.oneoff"]
        .as_str()
        .unwrap_or_default();
    labels["com.docker.compose.service"].is_string() && !one_off.eq_ignore_ascii_case("true")
}

fn points_at(mode: &str, id: &str, name: &str) -> bool {
    let Some(target) = mode.strip_prefix("container:") else {
        return false;
    };
    let target = target.trim_start_matches('/');
    target == name || is_id(target, id)
}

fn is_id(text: &str, id: &str) -> bool {
    text == id || (text.len() >= 12 && id.starts_with(text))
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn own_name(inspect: &Value) -> &str {
    text(inspect, "Name").trim_start_matches('/')
}
