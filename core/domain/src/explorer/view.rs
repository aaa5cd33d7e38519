//! What is shown of an engine's objects: who uses each, and what would stand in the way of its
//! removal.

use serde::{Deserialize, Serialize};

use super::{Container, Contents, Image, Keep, Labels, Network, Obstacle, Volume};

/// A container that uses something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    pub id: String,
    pub name: String,
    /// Docker's own word.
    pub state: String,
}

impl From<&Container> for User {
    fn from(container: &Container) -> Self {
        Self {
            id: container.id.clone(),
            name: container.name.clone(),
            state: container.state.clone(),
        }
    }
}

/// An object, its users, and why it could not be removed now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen<T> {
    pub object: T,
    /// By name. Those outside of the watcher's scope are counted and not named.
    pub users: Vec<User>,
    pub in_use: bool,
    pub obstacle: Option<Obstacle>,
}

/// What an engine has, as far as the watcher's scope goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explored {
    pub containers: Vec<Seen<Container>>,
    pub images: Vec<Seen<Image>>,
    pub networks: Vec<Seen<Network>>,
    pub volumes: Vec<Seen<Volume>>,
}

impl Explored {
    /// Each list by name.
    pub fn of(contents: &Contents, keep: &Keep) -> Self {
        let shown = |labels: &Labels, in_scope: bool| in_scope || !keep.is_foreign(labels);
        let mut explored = Self::default();
        for one in &contents.containers {
            if !keep.is_foreign(&one.labels) {
                let obstacle = keep.of_container(one);
                let running = one.is_alive().then_some(Obstacle::Running);
                explored.containers.push(Seen {
                    object: one.clone(),
                    users: Vec::new(),
                    in_use: one.is_alive(),
                    obstacle: obstacle.or(running),
                });
            }
        }
        for one in &contents.images {
            let (users, in_use) = users(contents.users_of_image(one), keep);
            if shown(&one.labels, !users.is_empty()) {
                explored.images.push(Seen {
                    obstacle: keep.of_image(one, contents),
                    object: one.clone(),
                    users,
                    in_use,
                });
            }
        }
        for one in &contents.networks {
            let (users, in_use) = users(contents.users_of_network(one), keep);
            if shown(&one.labels, !users.is_empty() || one.is_built_in()) {
                explored.networks.push(Seen {
                    obstacle: keep.of_network(one, contents),
                    object: one.clone(),
                    users,
                    in_use,
                });
            }
        }
        for one in &contents.volumes {
            let (users, in_use) = users(contents.users_of_volume(one), keep);
            if shown(&one.labels, !users.is_empty()) {
                explored.volumes.push(Seen {
                    obstacle: keep.of_volume(one, contents),
                    object: one.clone(),
                    users,
                    in_use,
                });
            }
        }
        explored.sort();
        explored
    }

    fn sort(&mut self) {
        self.containers
            .sort_by(|a, b| a.object.name.cmp(&b.object.name));
        self.images.sort_by(|a, b| {
            let key = |one: &Seen<Image>| (one.object.is_dangling(), one.object.name().to_owned());
            key(a).cmp(&key(b))
        });
        self.networks
            .sort_by(|a, b| a.object.name.cmp(&b.object.name));
        self.volumes
            .sort_by(|a, b| a.object.name.cmp(&b.object.name));
    }
}

/// Those that may be named, and whether there are any.
fn users<'a>(all: impl Iterator<Item = &'a Container>, keep: &Keep) -> (Vec<User>, bool) {
    let all: Vec<&Container> = all.collect();
    let named = all.iter().filter(|one| !keep.is_foreign(&one.labels));
    let mut users: Vec<User> = named.map(|one| User::from(*one)).collect();
    users.sort_by(|a, b| a.name.cmp(&b.name));
    (users, !all.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explorer::LabelFilter;

    #[test]
    fn what_is_outside_of_the_scope_is_neither_shown_nor_named() {
        let container = |name: &str, team: &str| Container {
            id: name.repeat(8),
            name: name.to_owned(),
            image_id: "sha256:shared".to_owned(),
            state: "running".to_owned(),
            labels: [("team".to_owned(), team.to_owned())].into(),
            volumes: [name.to_owned()].into(),
            ..Container::default()
        };
        let volume = |name: &str| Volume {
            name: name.to_owned(),
            ..Volume::default()
        };
        let contents = Contents {
            containers: vec![container("ours", "a"), container("theirs", "b")],
            images: vec![Image {
                id: "sha256:shared".to_owned(),
                ..Image::default()
            }],
            networks: Vec::new(),
            volumes: vec![volume("ours"), volume("theirs"), volume("nobodys")],
        };
        let keep = Keep {
            scope: LabelFilter::parse("team=a"),
            ..Keep::default()
        };
        let explored = Explored::of(&contents, &keep);
        assert_eq!(explored.containers.len(), 1);
        let image = &explored.images[0];
        assert!(image.in_use);
        assert_eq!(image.users[0].name, "ours");
        assert_eq!(image.users.len(), 1);
        let volumes: Vec<_> = explored.volumes.iter().map(|v| &v.object.name).collect();
        assert_eq!(volumes, ["ours"]);
        let everything = Explored::of(&contents, &Keep::default());
        assert_eq!(everything.volumes.len(), 3);
        assert_eq!(everything.containers[0].obstacle, Some(Obstacle::Running));
    }
}
