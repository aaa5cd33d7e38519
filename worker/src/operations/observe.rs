//! What the engine shows of an operation's containers. Reads only.

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    ids::ContainerId,
    recovery::{Made, NameHolder, Named, Prior, RestartPolicy, Run, Seen, SeenNew, SeenOld},
    spec::{OPERATION_LABEL, ROLE_LABEL},
};
use serde_json::Value;

use super::{dependants::Kin, plan::Plan, program::Program};
use crate::docker::{EngineError, ListFilter};

/// The role of a new container in its operation.
pub(super) const ROLE_NEW: &str = "new";
/// The role of an old container that was made again from its snapshot.
pub(super) const ROLE_RESTORED: &str = "restored";
/// The role of one that lives in their namespaces and was made again.
pub(crate) const ROLE_DEPENDANT: &str = "dependant";

/// The containers as inspected, and what they mean for the next step.
pub(super) struct View {
    /// The database's time before the first look: all of it was so then or later.
    pub(super) at: DateTime<Utc>,
    pub(super) seen: Seen,
    pub(super) old: Option<Value>,
    pub(super) new: Option<Value>,
    /// As recorded in the snapshot, in its order.
    pub(super) dependants: Vec<Kin>,
}

impl Program<'_> {
    pub(super) async fn observe(&self) -> Result<View, EngineError> {
        let at = self.now();
        let old_id = self.old_id();
        let new_id = self.operation.new_container_id.as_deref();
        let (old, new) = tokio::join!(
            async {
                match &old_id {
                    Some(id) => self.inspect(id).await,
                    None => Ok(None),
                }
            },
            async {
                match new_id.and_then(ContainerId::parse) {
                    Some(id) => self.inspect(&id).await,
                    None => Ok(None),
                }
            }
        );
        let (mut old, mut new) = (old?, new?);
        // Not recorded is not absent: a worker may have died between creating and writing.
        let may_have_made_one = self.operation.phase != plimsoll_domain::operation::Phase::Prepare;
        if (new.is_none() || old.is_none()) && may_have_made_one {
            for (id, role) in self.labelled().await? {
                match role.as_str() {
                    ROLE_NEW if new.is_none() => new = self.inspect(&id).await?,
                    ROLE_RESTORED if old.is_none() => old = self.inspect(&id).await?,
                    _ => {}
                }
            }
        }
        let name = self.name_holder(old.as_ref(), new.as_ref()).await?;
        let dependants = self.observe_dependants().await?;
        let seen = Seen {
            old: old.as_ref().map(|old| self.seen_old(old)),
            new: new.as_ref().map(|new| seen_new(new, self.plan.as_ref())),
            name,
            dependants: self.seen_dependants(&dependants, old.as_ref(), new.as_ref()),
            file: self.seen_file().await,
        };
        Ok(View {
            at,
            seen,
            old,
            new,
            dependants,
        })
    }

    pub(super) fn old_id(&self) -> Option<ContainerId> {
        let operation = &self.operation;
        let id = operation.old_container_id.as_deref();
        ContainerId::parse(id.unwrap_or(&operation.container_id))
    }

    pub(super) async fn inspect(&self, id: &ContainerId) -> Result<Option<Value>, EngineError> {
        match self.engine.inspect(id).await {
            Ok(inspect) => Ok(Some(inspect)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Containers of this operation by their labels, and their roles.
    pub(super) async fn labelled(&self) -> Result<Vec<(ContainerId, String)>, EngineError> {
        let id = self.operation.id.to_string();
        let listed = self
            .engine
            .list(ListFilter::label(OPERATION_LABEL, Some(&id)))
            .await?;
        Ok(listed
            .into_iter()
            .map(|summary| {
                let role = summary.labels.get(ROLE_LABEL).cloned().unwrap_or_default();
                (summary.id, role)
            })
            .collect())
    }

    async fn name_holder(
        &self,
        old: Option<&Value>,
        new: Option<&Value>,
    ) -> Result<NameHolder, EngineError> {
        let name = self.operation.container_name.as_str();
        let is_named = |inspect: Option<&Value>| inspect.is_some_and(|i| own_name(i) == name);
        if is_named(old) || is_named(new) {
            return Ok(NameHolder::Ours);
        }
        Ok(match self.engine.find_by_name(name).await? {
            None => NameHolder::Nobody,
            Some(holder) => {
                let id = &holder["Id"];
                let ours = [old, new].into_iter().flatten().any(|one| one["Id"] == *id);
                // Renamed between the two looks.
                if ours {
                    NameHolder::Ours
                } else {
                    NameHolder::Foreign
                }
            }
        })
    }

    fn seen_old(&self, old: &Value) -> SeenOld {
        let operation = &self.operation;
        let name = own_name(old);
        let named = if name == operation.container_name {
            Named::Original
        } else if operation.temp_name.as_deref() == Some(name) {
            Named::Temporary
        } else {
            Named::Other
        };
        let restart = match &self.snapshot {
            // A container that was made again has its policy from the snapshot.
            Some(snapshot) if is_no(snapshot.restart_policy()) => RestartPolicy::OwnIsNo,
            _ if is_no(&old["HostConfig"]["RestartPolicy"]) => RestartPolicy::Neutral,
            _ => RestartPolicy::Own,
        };
        SeenOld {
            run: run_of(old),
            named,
            restart,
        }
    }

    pub(super) fn prior(&self) -> Prior {
        self.snapshot.as_ref().map_or(Prior::Running, |s| s.prior)
    }
}

fn seen_new(new: &Value, plan: Option<&Plan>) -> SeenNew {
    let is_complete = plan.is_some_and(|plan| {
        let networks = &new["NetworkSettings"]["Networks"];
        plan.spec
            .extra_networks
            .iter()
            .all(|network| networks.get(&network.name).is_some())
    });
    SeenNew {
        run: run_of(new),
        made: if is_complete {
            Made::Complete
        } else {
            Made::Incomplete
        },
        started: was_started(new),
    }
}

/// Whether a restart policy restarts nothing.
pub(super) fn is_no(policy: &Value) -> bool {
    matches!(policy["Name"].as_str(), None | Some("" | "no"))
}

/// Whether it was ever started: Docker's zero time says no.
fn was_started(inspect: &Value) -> bool {
    let started = inspect["State"]["StartedAt"].as_str().unwrap_or_default();
    !started.is_empty() && !started.starts_with("0001-")
}

/// A container's own name, without the slash.
pub(crate) fn own_name(inspect: &Value) -> &str {
    let name = inspect["Name"].as_str().unwrap_or_default();
    name.trim_start_matches('/')
}

/// `State` as one value. A state of another engine that is not known counts as alive, which is the
/// safe side.
pub(crate) fn run_of(inspect: &Value) -> Run {
    let state = &inspect["State"];
    match state["Status"].as_str().unwrap_or_default() {
        "created" | "configured" | "initialized" => Run::Created,
        "paused" => Run::Paused,
        "restarting" => Run::Restarting,
        "exited" | "stopped" => Run::Exited,
        "dead" => Run::Dead,
        "removing" => Run::Removing,
        _ => Run::Running,
    }
}
