//! What an engine has, and what of it nothing may remove: the same facts for those who look and for
//! what removes.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_app::{App, AppError};
use plimsoll_domain::{
    explorer::{
        Container, Contents, Image, Keep, LabelFilter, Labels, Network, Obstacle, PROJECT, Volume,
        removal::ObjectKind,
    },
    ids::{ContainerId, WatcherRef},
    image::ImageRef,
    spec::OPERATION_LABEL,
};
use serde_json::Value;

use crate::{
    docker::{Engine, EngineError},
    operations::{CrashPoint, Own, PIN_REPOSITORY, Side, is_helper},
    watchers::LabelScope,
};

/// Why it is not known what may be removed: then nothing may.
#[derive(Debug, thiserror::Error)]
pub enum ExploreError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("what is to be kept is not known: {0}")]
    Store(#[from] AppError),
}

/// One engine, and the place of this worker beside it. Cheap to clone.
#[derive(Clone)]
pub struct Explorer {
    pub app: App,
    pub watcher: WatcherRef,
    pub engine: Engine,
    pub scope: Option<LabelScope>,
    pub own: Own,
    /// For tests only.
    pub crash_at: Option<CrashPoint>,
}

impl Explorer {
    pub(crate) fn crash_point(&self, point: &str, side: Side) {
        if let Some(crash) = &self.crash_at {
            crash.pass(point, side);
        }
    }

    /// What the engine has of these kinds, and its containers.
    pub async fn contents(&self, kinds: &BTreeSet<ObjectKind>) -> Result<Contents, EngineError> {
        let wants = |kind| kinds.contains(&kind);
        let engine = &self.engine;
        // Containers come last: what is taken into use meanwhile is seen to be in use.
        let objects = async {
            tokio::try_join!(
                list(wants(ObjectKind::Image), engine.list_images()),
                list(wants(ObjectKind::Network), engine.list_networks()),
                list(wants(ObjectKind::Volume), engine.list_volumes()),
            )
        };
        let (images, networks, volumes) = objects.await?;
        let containers = engine.list_containers().await?;
        Ok(Contents {
            containers: containers.iter().map(container).collect(),
            images: images.iter().map(image).collect(),
            networks: networks.iter().map(network).collect(),
            volumes: volumes.iter().map(volume).collect(),
        })
    }

    /// What of it is to be kept, whoever asks.
    pub async fn keep(&self, contents: &Contents) -> Result<Keep, ExploreError> {
        let needed = self.app.store().needed(&self.watcher);
        let needed = needed.await.map_err(AppError::from)?;
        let mut keep = Keep {
            pins: PIN_REPOSITORY.to_owned(),
            scope: self.scope.as_ref().map(|scope| LabelFilter {
                key: scope.key.clone(),
                value: scope.value.clone(),
            }),
            ..Keep::default()
        };
        for one in needed {
            let why = match one.is_operation {
                true => Obstacle::Operation,
                false => Obstacle::Backup,
            };
            if one.is_operation {
                keep.operations.insert(one.operation);
            }
            let target = one
                .target_image
                .and_then(|name| ImageRef::parse(&name).ok());
            keep.repositories
                .extend(target.map(|target| target.repository_key()));
            mark(&mut keep.containers, one.containers, why);
            mark(&mut keep.images, one.images, why);
            mark(&mut keep.networks, one.networks, why);
            mark(&mut keep.volumes, one.volumes, why);
        }
        for own in self.own_containers(contents) {
            mark(&mut keep.containers, [own.id.clone()], Obstacle::Plimsoll);
            mark(&mut keep.images, [own.image_id.clone()], Obstacle::Plimsoll);
            mark(&mut keep.networks, own.networks.clone(), Obstacle::Plimsoll);
            mark(&mut keep.volumes, own.volumes.clone(), Obstacle::Plimsoll);
            keep.projects.extend(own.labels.get(PROJECT).cloned());
        }
        Ok(keep)
    }

    /// The containers that this process lives in, or whose network it shares, and helpers of
    /// operations.
    fn own_containers<'a>(&'a self, contents: &'a Contents) -> impl Iterator<Item = &'a Container> {
        let ids = self.own.ids();
        contents.containers.iter().filter(move |one| {
            let label = one.labels.get(OPERATION_LABEL).map(String::as_str);
            let shares = one.networks.iter().any(|name| {
                let other = name.strip_prefix("container:");
                other.is_some_and(|other| ids.iter().any(|id| id == other))
            });
            ids.contains(&one.id) || shares || is_helper(&one.name, label)
        })
    }
}

/// The stronger reason stays: the one that is named first.
fn mark(
    kept: &mut BTreeMap<String, Obstacle>,
    all: impl IntoIterator<Item = String>,
    why: Obstacle,
) {
    for one in all {
        let known = kept.entry(one).or_insert(why);
        *known = why.min(*known);
    }
}

async fn list(
    wanted: bool,
    listed: impl Future<Output = Result<Vec<Value>, EngineError>>,
) -> Result<Vec<Value>, EngineError> {
    match wanted {
        true => listed.await,
        false => Ok(Vec::new()),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn labels(value: &Value) -> Labels {
    let all = value.as_object().into_iter().flatten();
    all.map(|(key, value)| (key.clone(), text(value))).collect()
}

fn texts(value: &Value) -> Vec<String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(Value::as_str).map(str::to_owned).collect()
}

fn container(listed: &Value) -> Container {
    let mut names = texts(&listed["Names"]);
    // `/parent/alias` is a link's name for it, not its own.
    names.sort_by_key(|name| name.matches('/').count());
    let name = names
        .first()
        .map_or("", |name| name.trim_start_matches('/'));
    let mut networks: BTreeSet<String> = BTreeSet::new();
    let attached = listed["NetworkSettings"]["Networks"].as_object();
    for (name, endpoint) in attached.into_iter().flatten() {
        networks.insert(name.clone());
        let id = text(&endpoint["NetworkID"]);
        if !id.is_empty() {
            networks.insert(id);
        }
    }
    // One that never ran may name its network here alone.
    let mode = text(&listed["HostConfig"]["NetworkMode"]);
    if !mode.is_empty() {
        networks.insert(mode);
    }
    let mounts = listed["Mounts"].as_array().into_iter().flatten();
    let volumes = mounts
        .filter(|mount| mount["Type"] == "volume")
        .map(|mount| text(&mount["Name"]))
        .filter(|name| !name.is_empty());
    Container {
        id: text(&listed["Id"]),
        name: name.to_owned(),
        image: text(&listed["Image"]),
        image_id: text(&listed["ImageID"]),
        state: text(&listed["State"]),
        status: text(&listed["Status"]),
        created: listed["Created"].as_i64().unwrap_or_default(),
        labels: labels(&listed["Labels"]),
        networks,
        volumes: volumes.collect(),
    }
}

fn image(listed: &Value) -> Image {
    let named = |key: &str| -> Vec<String> {
        let names = texts(&listed[key]).into_iter();
        names.filter(|name| !name.starts_with("<none>")).collect()
    };
    Image {
        id: text(&listed["Id"]),
        tags: named("RepoTags"),
        digests: named("RepoDigests"),
        size: listed["Size"].as_u64().unwrap_or_default(),
        created: listed["Created"].as_i64().unwrap_or_default(),
        labels: labels(&listed["Labels"]),
    }
}

fn network(listed: &Value) -> Network {
    Network {
        id: text(&listed["Id"]),
        name: text(&listed["Name"]),
        driver: text(&listed["Driver"]),
        scope: text(&listed["Scope"]),
        internal: listed["Internal"] == true,
        ingress: listed["Ingress"] == true,
        created: text(&listed["Created"]),
        labels: labels(&listed["Labels"]),
    }
}

fn volume(listed: &Value) -> Volume {
    Volume {
        name: text(&listed["Name"]),
        driver: text(&listed["Driver"]),
        scope: text(&listed["Scope"]),
        mount_point: text(&listed["Mountpoint"]),
        created: listed["CreatedAt"].as_str().map(str::to_owned),
        labels: labels(&listed["Labels"]),
    }
}

/// Of a listed container's id.
pub(crate) fn container_id(id: &str) -> Option<ContainerId> {
    ContainerId::parse(id)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_are_read_as_engines_write_them() {
        let listed = json!({
            "Id": "a", "Names": ["/other/alias", "/web"], "Image": "app:1", "ImageID": "sha256:i",
            "State": "created", "Status": "Created", "Created": 5, "Labels": {"a": "b"},
            "HostConfig": {"NetworkMode": "front"},
            "NetworkSettings": {"Networks": {"back": {"NetworkID": ""}, "side": {"NetworkID": "n"}}},
            "Mounts": [{"Type": "volume", "Name": "data"}, {"Type": "bind", "Source": "/srv"}],
        });
        let read = container(&listed);
        assert_eq!(read.name, "web");
        let networks: Vec<_> = read.networks.iter().map(String::as_str).collect();
        assert_eq!(networks, ["back", "front", "n", "side"]);
        assert!(read.volumes.contains("data") && read.volumes.len() == 1);
        let nameless = image(&json!({"Id": "sha256:i", "RepoTags": ["<none>:<none>"],
            "RepoDigests": null, "Labels": null}));
        assert!(nameless.is_dangling() && nameless.digests.is_empty());
    }
}
