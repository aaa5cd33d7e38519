//! Which triggers act on a container (contract/drydock-container-api.md, "Get all triggers
//! associated to the container").

use plimsoll_domain::{acting::ActingKind, container::ContainerFacts};

use crate::{App, AppError, components::Component};

impl App {
    /// The triggers of the container's agent that its labels let through, by type, then name.
    pub async fn triggers_of(&self, container: &str) -> Result<Vec<Component>, AppError> {
        let entry = self.get_container(container).await?;
        let mut triggers = self.triggers().await?;
        triggers.retain(|trigger| acts_on(trigger, &entry.state.facts));
        Ok(triggers)
    }
}

/// A trigger acts on containers of its own agent, and this installation's own notifiers tell of
/// those of agents too; if it is included, where the container includes any, and not excluded.
fn acts_on(trigger: &Component, facts: &ContainerFacts) -> bool {
    let listed = |list: Option<&str>| list.map(|list| names(list, trigger));
    let notifies = ActingKind::parse(&trigger.type_).is_none();
    let lists = match notifies {
        true => facts.rules.notifications(),
        false => facts.rules.actions(),
    };
    let is_near = trigger.agent.as_deref() == facts.watcher.agent_name()
        || (notifies && trigger.agent.is_none());
    is_near && listed(lists.include).unwrap_or(true) && !listed(lists.exclude).unwrap_or(false)
}

/// Whether a label's list (`docker.local:minor, ntfy`) names the trigger, by id or by name. The
/// part after the colon is a threshold and says when, not which.
fn names(list: &str, trigger: &Component) -> bool {
    let id = format!("{}.{}", trigger.type_, trigger.name);
    list.split(',')
        .map(|item| item.split(':').next().unwrap_or(item).trim())
        .filter(|item| !item.is_empty())
        .any(|item| item.eq_ignore_ascii_case(&id) || item.eq_ignore_ascii_case(&trigger.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_names_triggers_by_id_or_name() {
        let trigger = Component::new(
            String::new(),
            "docker".to_owned(),
            "local".to_owned(),
            serde_json::Value::Null,
        );
        for list in ["docker.local", "ntfy.x, Docker.Local:minor", "local:all"] {
            assert!(names(list, &trigger), "{list}");
        }
        for list in ["", "docker", "docker.locals", "ntfy.local"] {
            assert!(!names(list, &trigger), "{list}");
        }
    }
}
