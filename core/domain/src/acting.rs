//! The triggers that change containers, `docker` and `dockercompose`: which of them updates a
//! container, and whether it does so by itself (reference/drydock.md 4).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::container::ContainerFacts;
use crate::trigger::{Association, Threshold, associate};

/// The types of triggers that act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActingKind {
    /// Replaces the container.
    Docker,
    /// Also writes the new image into the Compose file that the container came from.
    DockerCompose,
}

impl ActingKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::DockerCompose => "dockercompose",
        }
    }

    /// `None` for a type that notifies.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Docker, Self::DockerCompose]
            .into_iter()
            .find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for ActingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a trigger updates containers by itself after a watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Auto {
    /// Every container that it applies to.
    True,
    /// Those whose own label `dd.action.auto`, `dd.action.include` or `dd.trigger.include` names it.
    OnInclude,
    /// None.
    #[default]
    False,
}

impl Auto {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::OnInclude => "oninclude",
            Self::False => "false",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::True, Self::OnInclude, Self::False]
            .into_iter()
            .find(|auto| auto.as_str() == text)
    }
}

/// A trigger that acts, as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateTrigger {
    pub kind: ActingKind,
    pub name: String,
    pub threshold: Threshold,
    pub auto: Auto,
    /// Whether an automatic update to one candidate is asked for once only.
    pub once: bool,
    /// Lower ones come first; 100 is usual.
    pub order: i32,
    /// Refuses everything; a preview shows what it would do.
    pub dryrun: bool,
}

impl UpdateTrigger {
    /// With the defaults of one that nobody configured.
    pub fn new(kind: ActingKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
            threshold: Threshold::ALL,
            auto: Auto::False,
            once: true,
            order: 100,
            dryrun: false,
        }
    }

    /// `docker.local`.
    pub fn id(&self) -> String {
        format!("{}.{}", self.kind, self.name)
    }

    /// Whether it can update this container at all: only what Compose made came from a file.
    pub fn suits(&self, facts: &ContainerFacts) -> bool {
        self.kind == ActingKind::Docker || facts.compose.is_some()
    }

    /// Whether the container's own labels let it.
    pub fn association(&self, facts: &ContainerFacts) -> Association {
        let rules = &facts.rules;
        let lists = rules.actions();
        let association = self.named(lists.include, lists.exclude);
        // What holds back automatic updates is said where they are asked for.
        match (association, self.granted(facts)) {
            (Association::Applies(_), Some(threshold)) => Association::Applies(threshold),
            (association, _) => association,
        }
    }

    /// The threshold with which `dd.action.auto` names it.
    fn granted(&self, facts: &ContainerFacts) -> Option<Threshold> {
        let auto = facts.rules.action_auto.as_deref()?;
        match self.named(Some(auto), None) {
            Association::Applies(threshold) => Some(threshold),
            Association::NotIncluded | Association::Excluded => None,
        }
    }

    fn named(&self, include: Option<&str>, exclude: Option<&str>) -> Association {
        let kind = self.kind.as_str();
        associate(include, exclude, kind, &self.name, self.threshold)
    }

    /// Whether it may update the container without being asked. Labels of the image are no labels
    /// here: `rules` holds only what the user set.
    pub fn acts_alone_on(&self, facts: &ContainerFacts) -> bool {
        match self.auto {
            Auto::True => true,
            // Where `dd.action.auto` speaks, it alone does: what else is included waits for people.
            Auto::OnInclude => match facts.rules.action_auto {
                Some(_) => self.granted(facts).is_some(),
                None => facts.rules.actions().include.is_some(),
            },
            Auto::False => false,
        }
    }
}

/// Which trigger updates a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice<'a> {
    /// This one, for updates up to this threshold.
    Trigger(&'a UpdateTrigger, Threshold),
    /// There is none that could.
    None,
    /// Labels exclude all that could.
    Excluded,
    /// A label includes others only.
    NotIncluded,
}

/// Of the triggers that apply: the one for Compose files where Compose made the container, then by
/// `order`, then by name.
pub fn choose<'a>(facts: &ContainerFacts, triggers: &'a [UpdateTrigger]) -> Choice<'a> {
    let mut suitable: Vec<&UpdateTrigger> =
        triggers.iter().filter(|one| one.suits(facts)).collect();
    suitable.sort_by_key(|one| {
        let in_file = one.kind == ActingKind::DockerCompose;
        (!in_file, one.order, one.name.as_str())
    });
    let mut refusal = Choice::None;
    for trigger in suitable {
        match trigger.association(facts) {
            Association::Applies(threshold) => return Choice::Trigger(trigger, threshold),
            Association::NotIncluded => refusal = Choice::NotIncluded,
            Association::Excluded if refusal == Choice::None => refusal = Choice::Excluded,
            Association::Excluded => {}
        }
    }
    refusal
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::ComposeRef;
    use crate::testing::container;

    fn facts() -> ContainerFacts {
        (*container("app", "1.0.0").facts).clone()
    }

    fn docker(name: &str) -> UpdateTrigger {
        UpdateTrigger::new(ActingKind::Docker, name)
    }

    fn chosen(facts: &ContainerFacts, triggers: &[UpdateTrigger]) -> String {
        match choose(facts, triggers) {
            Choice::Trigger(trigger, threshold) => format!("{}:{threshold}", trigger.id()),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn labels_order_and_name_choose_among_several_triggers() {
        let mut first = docker("b");
        first.order = 1;
        let all = [docker("c"), first, docker("a")];
        let mut facts = facts();
        assert_eq!(chosen(&facts, &all), "docker.b:all");
        assert_eq!(chosen(&facts, &[docker("c"), docker("a")]), "docker.a:all");
        facts.rules.trigger_include = Some("docker.c:minor".to_owned());
        assert_eq!(chosen(&facts, &all), "docker.c:minor");
        facts.rules.trigger_include = Some("docker.d".to_owned());
        assert_eq!(chosen(&facts, &all), "NotIncluded");
        facts.rules.trigger_include = None;
        facts.rules.trigger_exclude = Some("a, docker.b".to_owned());
        assert_eq!(chosen(&facts, &all), "docker.c:all");
        facts.rules.trigger_exclude = Some("a, b, c".to_owned());
        assert_eq!(chosen(&facts, &all), "Excluded");
        assert_eq!(chosen(&facts, &[]), "None");
    }

    #[test]
    fn what_compose_made_goes_through_its_file_and_nothing_else_does() {
        let compose = UpdateTrigger::new(ActingKind::DockerCompose, "stacks");
        let both = [docker("a"), compose.clone()];
        let mut facts = facts();
        assert_eq!(chosen(&facts, &both), "docker.a:all");
        assert_eq!(chosen(&facts, std::slice::from_ref(&compose)), "None");
        facts.compose = Some(ComposeRef {
            project: "web".to_owned(),
            service: "app".to_owned(),
        });
        assert_eq!(chosen(&facts, &both), "dockercompose.stacks:all");
    }

    #[test]
    fn only_what_is_asked_for_happens_by_itself() {
        let mut trigger = docker("a");
        let mut facts = facts();
        assert!(!trigger.acts_alone_on(&facts));
        trigger.auto = Auto::OnInclude;
        assert!(!trigger.acts_alone_on(&facts));
        facts.rules.trigger_include = Some("docker.a".to_owned());
        assert!(trigger.acts_alone_on(&facts));
        facts.rules.action_auto = Some("docker.b".to_owned());
        assert!(!trigger.acts_alone_on(&facts), "included, for people");
        facts.rules.action_auto = Some("docker.a:patch".to_owned());
        assert!(trigger.acts_alone_on(&facts));
        assert_eq!(chosen(&facts, &[trigger.clone()]), "docker.a:patch");
        facts.rules.action_auto = None;
        facts.rules.action_include = Some("docker.b".to_owned());
        assert_eq!(chosen(&facts, &[trigger.clone()]), "NotIncluded");
        facts.rules.action_include = None;
        facts.rules.trigger_include = None;
        trigger.auto = Auto::True;
        assert!(trigger.acts_alone_on(&facts));
    }
}
