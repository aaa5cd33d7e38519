//! Removals: of one object, or of what nobody uses. Decided once from what the engine has, written
//! down, and judged again before each step.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Container, Contents, Image, Keep, LabelFilter, Network, Obstacle, Volume};

/// Digits of an id that people and Docker use for short.
const SHORT: usize = 12;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectKind {
    Container,
    Network,
    Volume,
    Image,
}

impl ObjectKind {
    /// In the order in which they go: what goes first frees what comes later.
    pub const ALL: [ObjectKind; 4] = [
        ObjectKind::Container,
        ObjectKind::Network,
        ObjectKind::Volume,
        ObjectKind::Image,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Network => "network",
            Self::Volume => "volume",
            Self::Image => "image",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// What is to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "what",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase"
)]
pub enum RemovalRequest {
    /// One object, by id, by twelve digits of it or more, or by name.
    One {
        kind: ObjectKind,
        reference: String,
        /// Of a container: also if it runs. Nothing else is ever forced.
        force: bool,
        /// Of a container: its anonymous volumes go too, where nothing else needs them.
        volumes: bool,
    },
    /// What nobody uses: stopped containers; networks, images and volumes without a container.
    Unused {
        kinds: BTreeSet<ObjectKind>,
        /// Also images that have a tag, not only those that lost theirs to others.
        all_images: bool,
        /// Also volumes that somebody gave a name.
        named_volumes: bool,
        /// Only what carries this label.
        label: Option<LabelFilter>,
    },
}

/// One object that is to go, or that stays although somebody might expect it to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    pub kind: ObjectKind,
    /// The engine's id; a volume's name.
    pub id: String,
    /// For people.
    pub name: String,
    /// Only this name of the image goes, and the image with its last one.
    pub tag: Option<String>,
    pub obstacle: Option<Obstacle>,
}

/// Why nothing could be decided.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    #[error("there is no {} {reference} on this engine", kind.as_str())]
    NotFound { kind: ObjectKind, reference: String },
    #[error("{reference} is not one {} but several; give more of its id", kind.as_str())]
    Ambiguous { kind: ObjectKind, reference: String },
}

/// What the request comes to with what the engine has.
///
/// # Errors
/// One object that is not there, or not one.
pub fn plan(
    request: &RemovalRequest,
    contents: &Contents,
    keep: &Keep,
) -> Result<Vec<Planned>, PlanError> {
    match request {
        RemovalRequest::One {
            kind,
            reference,
            force,
            volumes,
        } => {
            let first = one(*kind, reference, *force, contents, keep)?;
            let mut all = vec![first];
            if *volumes && *kind == ObjectKind::Container {
                all.extend(volumes_of(&all[0].id, contents, keep));
            }
            Ok(all)
        }
        RemovalRequest::Unused {
            kinds,
            all_images,
            named_volumes,
            label,
        } => {
            let unused = Unused {
                keep,
                all_images: *all_images,
                named_volumes: *named_volumes,
                label: label.as_ref(),
            };
            Ok(unused.plan(kinds, contents))
        }
    }
}

/// Whether something stands in the way of a planned removal as things are now. `None` for an object
/// that is not there: it is gone.
pub fn judge(
    planned: &Planned,
    request: &RemovalRequest,
    contents: &Contents,
    keep: &Keep,
) -> Option<Result<(), Obstacle>> {
    let (of_one, force) = match request {
        RemovalRequest::One { kind, force, .. } => (Some(*kind), *force),
        RemovalRequest::Unused { .. } => (None, false),
    };
    let obstacle = match planned.kind {
        ObjectKind::Container => {
            let one = contents
                .containers
                .iter()
                .find(|one| one.id == planned.id)?;
            of_container(one, force, keep)
        }
        ObjectKind::Image => {
            let one = contents.images.iter().find(|one| one.id == planned.id)?;
            keep.of_image(one, contents)
        }
        ObjectKind::Network => {
            let one = contents.networks.iter().find(|one| one.id == planned.id)?;
            keep.of_network(one, contents)
        }
        ObjectKind::Volume => {
            let one = contents.volumes.iter().find(|one| one.name == planned.id)?;
            let obstacle = keep.of_volume(one, contents);
            match of_one {
                Some(ObjectKind::Container) => obstacle.filter(is_no_scope),
                _ => obstacle,
            }
        }
    };
    Some(obstacle.map_or(Ok(()), Err))
}

/// A container's anonymous volumes carry no labels, and are its own all the same.
fn is_no_scope(obstacle: &Obstacle) -> bool {
    *obstacle != Obstacle::OutOfScope
}

fn of_container(container: &Container, force: bool, keep: &Keep) -> Option<Obstacle> {
    let running = (!force && container.is_alive()).then_some(Obstacle::Running);
    keep.of_container(container).or(running)
}

fn one(
    kind: ObjectKind,
    reference: &str,
    force: bool,
    contents: &Contents,
    keep: &Keep,
) -> Result<Planned, PlanError> {
    let reference = reference.trim_start_matches('/');
    let missing = || PlanError::NotFound {
        kind,
        reference: reference.to_owned(),
    };
    let several = || PlanError::Ambiguous {
        kind,
        reference: reference.to_owned(),
    };
    match kind {
        ObjectKind::Container => {
            let all = &contents.containers;
            let one = find(all, reference, |c| &c.id, |c| c.name == reference);
            let one = one.map_err(|()| several())?.ok_or_else(missing)?;
            // What another installation has is not shown either.
            if keep.is_foreign(&one.labels) {
                return Err(missing());
            }
            Ok(container(one, of_container(one, force, keep)))
        }
        ObjectKind::Image => {
            let named = |i: &Image| i.tags.iter().chain(&i.digests).any(|n| n == reference);
            let one = find(&contents.images, reference, |i| &i.id, named);
            let one = one.map_err(|()| several())?.ok_or_else(missing)?;
            let tag = named(one).then(|| reference.to_owned());
            Ok(Planned {
                tag,
                ..image(one, keep.of_image(one, contents))
            })
        }
        ObjectKind::Network => {
            let all = &contents.networks;
            let one = find(all, reference, |n| &n.id, |n| n.name == reference);
            let one = one.map_err(|()| several())?.ok_or_else(missing)?;
            Ok(network(one, keep.of_network(one, contents)))
        }
        ObjectKind::Volume => {
            let one = contents.volumes.iter().find(|v| v.name == reference);
            let one = one.ok_or_else(missing)?;
            Ok(volume(one, keep.of_volume(one, contents)))
        }
    }
}

/// The one with this id, else with this name, else with an id that begins like this.
fn find<'a, T>(
    all: &'a [T],
    reference: &str,
    id: impl Fn(&T) -> &str,
    named: impl Fn(&T) -> bool,
) -> Result<Option<&'a T>, ()> {
    let plain = |one: &T| id(one).trim_start_matches("sha256:").to_owned();
    let wanted = reference.trim_start_matches("sha256:");
    let single = |found: Vec<&'a T>| match found[..] {
        [] => Ok(None),
        [one] => Ok(Some(one)),
        _ => Err(()),
    };
    if let Some(one) = all.iter().find(|one| plain(one) == wanted) {
        return Ok(Some(one));
    }
    let by_name = single(all.iter().filter(|one| named(one)).collect())?;
    if by_name.is_some() {
        return Ok(by_name);
    }
    let is_short = wanted.len() >= SHORT && wanted.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_short {
        return Ok(None);
    }
    single(
        all.iter()
            .filter(|one| plain(one).starts_with(wanted))
            .collect(),
    )
}

/// The anonymous volumes that the container alone uses.
fn volumes_of(id: &str, contents: &Contents, keep: &Keep) -> Vec<Planned> {
    let used = contents.containers.iter().find(|one| one.id == id);
    let used = used.map(|one| &one.volumes);
    let rest = contents.without(&BTreeSet::from([id.to_owned()]));
    let volumes = contents.volumes.iter().filter(|volume| {
        volume.is_anonymous() && used.is_some_and(|used| used.contains(&volume.name))
    });
    volumes
        .map(|one| volume(one, keep.of_volume(one, &rest).filter(is_no_scope)))
        .collect()
}

/// How what nobody uses is chosen.
struct Unused<'a> {
    keep: &'a Keep,
    all_images: bool,
    named_volumes: bool,
    label: Option<&'a LabelFilter>,
}

impl Unused<'_> {
    fn plan(&self, kinds: &BTreeSet<ObjectKind>, contents: &Contents) -> Vec<Planned> {
        let mut planned = Vec::new();
        if kinds.contains(&ObjectKind::Container) {
            let stopped = contents.containers.iter().filter(|one| !one.is_alive());
            let stopped = stopped.filter(|one| self.labelled(&one.labels));
            planned.extend(stopped.map(|one| container(one, self.keep.of_container(one))));
        }
        let going = planned.iter().filter(|one| one.obstacle.is_none());
        let rest = contents.without(&going.map(|one| one.id.clone()).collect());
        if kinds.contains(&ObjectKind::Network) {
            let all = rest
                .networks
                .iter()
                .filter(|one| self.labelled(&one.labels));
            planned.extend(all.map(|one| network(one, self.keep.of_network(one, &rest))));
        }
        if kinds.contains(&ObjectKind::Volume) {
            let all = rest.volumes.iter().filter(|one| self.labelled(&one.labels));
            let all = all.filter(|one| self.named_volumes || one.is_anonymous());
            planned.extend(all.map(|one| volume(one, self.keep.of_volume(one, &rest))));
        }
        if kinds.contains(&ObjectKind::Image) {
            let all = rest.images.iter().filter(|one| self.labelled(&one.labels));
            let all = all.filter(|one| self.all_images || one.is_dangling());
            planned.extend(all.map(|one| image(one, self.keep.of_image(one, &rest))));
        }
        planned.retain(|one| one.obstacle.is_none_or(Obstacle::is_ours));
        planned
    }

    fn labelled(&self, labels: &super::Labels) -> bool {
        self.label.is_none_or(|label| label.holds(labels))
    }
}

fn container(one: &Container, obstacle: Option<Obstacle>) -> Planned {
    planned(ObjectKind::Container, &one.id, &one.name, obstacle)
}

fn image(one: &Image, obstacle: Option<Obstacle>) -> Planned {
    planned(ObjectKind::Image, &one.id, one.name(), obstacle)
}

fn network(one: &Network, obstacle: Option<Obstacle>) -> Planned {
    planned(ObjectKind::Network, &one.id, &one.name, obstacle)
}

fn volume(one: &Volume, obstacle: Option<Obstacle>) -> Planned {
    planned(ObjectKind::Volume, &one.name, &one.name, obstacle)
}

fn planned(kind: ObjectKind, id: &str, name: &str, obstacle: Option<Obstacle>) -> Planned {
    Planned {
        kind,
        id: id.to_owned(),
        name: name.to_owned(),
        tag: None,
        obstacle,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explorer::Labels;

    fn texts<C: FromIterator<String>>(all: &[&str]) -> C {
        all.iter().map(|text| text.to_string()).collect()
    }

    fn labelled() -> Labels {
        [("mine".to_owned(), "1".to_owned())].into()
    }

    /// A stopped and a running container, each with an image, a network and volumes; and the same
    /// without a container.
    fn contents() -> Contents {
        let container = |name: &str, state: &str| Container {
            id: name.repeat(16),
            name: name.to_owned(),
            image_id: format!("sha256:{name}"),
            state: state.to_owned(),
            labels: labelled(),
            networks: texts(&[name]),
            volumes: texts(&[name, &name.repeat(16)]),
            ..Container::default()
        };
        let mut contents = Contents {
            containers: vec![container("aaaa", "exited"), container("bbbb", "running")],
            ..Contents::default()
        };
        for name in ["aaaa", "bbbb", "cccc"] {
            contents.images.push(Image {
                id: format!("sha256:{name}"),
                tags: texts(&[&format!("{name}:1")]),
                labels: labelled(),
                ..Image::default()
            });
            contents.networks.push(Network {
                id: name.repeat(16),
                name: name.to_owned(),
                scope: "local".to_owned(),
                labels: labelled(),
                ..Network::default()
            });
            for volume in [name.to_owned(), name.repeat(16)] {
                contents.volumes.push(Volume {
                    name: volume,
                    labels: labelled(),
                    ..Volume::default()
                });
            }
        }
        contents
    }

    fn unused(kinds: &[ObjectKind], all: bool, label: Option<&str>) -> RemovalRequest {
        RemovalRequest::Unused {
            kinds: kinds.iter().copied().collect(),
            all_images: all,
            named_volumes: all,
            label: label.and_then(LabelFilter::parse),
        }
    }

    fn going(request: &RemovalRequest, keep: &Keep) -> Vec<String> {
        let planned = plan(request, &contents(), keep).unwrap();
        planned
            .iter()
            .filter(|one| one.obstacle.is_none())
            .map(|one| format!("{} {}", one.kind.as_str(), one.name))
            .collect()
    }

    #[test]
    fn what_nobody_uses_goes_and_nothing_else() {
        let keep = Keep::default();
        let anonymous = format!("volume {}", "cccc".repeat(16));
        let volumes = unused(&[ObjectKind::Volume], false, None);
        assert_eq!(going(&volumes, &keep), [anonymous.as_str()]);
        let volumes = unused(&[ObjectKind::Volume], true, None);
        assert_eq!(going(&volumes, &keep), ["volume cccc", anonymous.as_str()]);
        let images = unused(&[ObjectKind::Image], false, None);
        assert!(going(&images, &keep).is_empty(), "a tag is a use");
        let images = unused(&[ObjectKind::Image], true, None);
        assert_eq!(going(&images, &keep), ["image cccc:1"]);
        let networks = unused(&[ObjectKind::Network], false, None);
        assert_eq!(going(&networks, &keep), ["network cccc"]);
        let other = unused(&ObjectKind::ALL, true, Some("mine=2"));
        assert!(going(&other, &keep).is_empty());
    }

    #[test]
    fn what_goes_frees_what_comes_later() {
        let keep = Keep::default();
        let all = unused(&ObjectKind::ALL, true, Some("mine=1"));
        let going = going(&all, &keep);
        assert_eq!(going[0], "container aaaa");
        for one in [
            "network aaaa",
            "volume aaaa",
            "image aaaa:1",
            "image cccc:1",
        ] {
            assert!(going.iter().any(|found| found == one), "{one}: {going:?}");
        }
        assert!(
            !going.iter().any(|found| found.contains("bbbb")),
            "{going:?}"
        );
    }

    #[test]
    fn what_a_kept_container_needs_stays_and_is_told_of() {
        let keep = Keep {
            containers: [("aaaa".repeat(16), Obstacle::Operation)].into(),
            volumes: [("cccc".to_owned(), Obstacle::Backup)].into(),
            ..Keep::default()
        };
        let all = unused(&ObjectKind::ALL, true, None);
        let going = going(&all, &keep);
        assert!(!going.iter().any(|one| one.contains("aaaa")), "{going:?}");
        let planned = plan(&all, &contents(), &keep).unwrap();
        let kept: Vec<_> = planned.iter().filter_map(|one| one.obstacle).collect();
        assert_eq!(kept, [Obstacle::Operation, Obstacle::Backup]);
    }

    #[test]
    fn one_object_is_found_by_id_by_name_and_by_the_beginning_of_its_id() {
        let keep = Keep::default();
        let one = |kind, reference: &str, force, volumes| {
            let request = RemovalRequest::One {
                kind,
                reference: reference.to_owned(),
                force,
                volumes,
            };
            plan(&request, &contents(), &keep)
        };
        let running = one(ObjectKind::Container, "bbbb", false, false).unwrap();
        assert_eq!(running[0].obstacle, Some(Obstacle::Running));
        let forced = one(ObjectKind::Container, "bbbb", true, true).unwrap();
        let names: Vec<_> = forced.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["bbbb", &"bbbb".repeat(16)], "named volumes stay");
        assert!(forced.iter().all(|one| one.obstacle.is_none()));
        let short = one(ObjectKind::Network, &"cccc".repeat(3), false, false).unwrap();
        assert_eq!(short[0].name, "cccc");
        let tag = one(ObjectKind::Image, "cccc:1", false, false).unwrap();
        assert_eq!(tag[0].tag.as_deref(), Some("cccc:1"));
        let used = one(ObjectKind::Volume, "aaaa", false, false).unwrap();
        assert_eq!(used[0].obstacle, Some(Obstacle::InUse));
        for reference in ["ccc", "../cccc", "", "sha256:", "cccc*"] {
            for kind in ObjectKind::ALL {
                let found = one(kind, reference, true, true);
                assert!(
                    matches!(found, Err(PlanError::NotFound { .. })),
                    "{kind:?} {reference:?}: {found:?}"
                );
            }
        }
    }

    #[test]
    fn a_plan_is_judged_again_by_what_is_there_then() {
        let keep = Keep::default();
        let images = unused(&[ObjectKind::Image], true, None);
        let planned = plan(&images, &contents(), &keep).unwrap();
        let now = |contents: &Contents| judge(&planned[0], &images, contents, &keep);
        assert_eq!(now(&contents()), Some(Ok(())));
        let mut later = contents();
        later.containers[0].image_id = "sha256:cccc".to_owned();
        assert_eq!(now(&later), Some(Err(Obstacle::InUse)));
        assert_eq!(now(&Contents::default()), None);
    }
}
