//! What the hosts have (reference/docksmith-dokploy-dockup.md 1.2, "Registry/explorer"): all of this
//! installation's own engines together, as Docksmith knows one.

use std::collections::BTreeMap;

use plimsoll_app::{
    AppError,
    stacks::{self, Engines},
};
use plimsoll_domain::{
    explorer::{self, Explored, Seen, User, removal::ObjectKind},
    ids::WatcherRef,
};
use poem_openapi::{Object, OpenApi, param::Query};
use serde::Serialize;

use super::{
    Tag, envelope,
    envelope::Envelope,
    error::{ErrorOf, ReadsOne},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{explorer::views, operations::plain_caller, raw::RawPayload},
    middleware::context::RequestContext,
};

/// `GET /api/explorer`, `/api/images`, `/api/networks` and `/api/volumes`.
pub struct Explorer;

#[derive(Object, Serialize, Clone)]
struct ExplorerContainer {
    id: String,
    name: String,
    /// As it was created
    image: String,
    /// Docker's own word
    state: String,
    /// For people
    status: String,
    /// The Compose project; empty outside of any
    stack: String,
    /// Seconds since the Unix epoch
    created: i64,
    watcher: String,
}

#[derive(Object, Serialize)]
struct ExplorerImage {
    id: String,
    tags: Vec<String>,
    /// Bytes
    size: u64,
    /// Seconds since the Unix epoch
    created: i64,
    in_use: bool,
    /// Whether it has no tag
    dangling: bool,
    /// Names of those that were made of it
    containers: Vec<String>,
    /// Why it is not removed, whoever asks; empty where nothing stands in the way
    protected_by: String,
    watcher: String,
}

#[derive(Object, Serialize)]
struct ExplorerNetwork {
    id: String,
    name: String,
    driver: String,
    scope: String,
    /// Names of those that are attached to it, running or not
    containers: Vec<String>,
    /// Whether it is Docker's own
    is_default: bool,
    /// RFC 3339
    created: String,
    protected_by: String,
    watcher: String,
}

#[derive(Object, Serialize)]
struct ExplorerVolume {
    name: String,
    driver: String,
    mount_point: String,
    /// Names of those that mount it, running or not
    containers: Vec<String>,
    /// Bytes; -1: not known
    size: i64,
    /// RFC 3339
    created: String,
    protected_by: String,
    watcher: String,
}

#[derive(Object, Serialize, Default)]
struct ExplorerData {
    containers: Vec<ExplorerContainer>,
    container_stacks: BTreeMap<String, Vec<ExplorerContainer>>,
    standalone_containers: Vec<ExplorerContainer>,
    images: Vec<ExplorerImage>,
    networks: Vec<ExplorerNetwork>,
    volumes: Vec<ExplorerVolume>,
}

#[derive(Object, Serialize)]
struct ImagesData {
    images: Vec<ExplorerImage>,
    count: u64,
}

#[derive(Object, Serialize)]
struct NetworksData {
    networks: Vec<ExplorerNetwork>,
    count: u64,
}

#[derive(Object, Serialize)]
struct VolumesData {
    volumes: Vec<ExplorerVolume>,
    count: u64,
}

/// This installation's own engines, or the one of that name.
pub(super) fn local(watcher: Option<String>) -> Engines {
    Engines {
        watcher,
        agent: Some(String::new()),
    }
}

fn names(users: Vec<User>) -> Vec<String> {
    users.into_iter().map(|user| user.name).collect()
}

fn why<T>(seen: &Seen<T>) -> String {
    let obstacle = seen.obstacle.map(explorer::Obstacle::as_str);
    obstacle.unwrap_or_default().to_owned()
}

fn container(watcher: &WatcherRef, seen: Seen<explorer::Container>) -> ExplorerContainer {
    let one = seen.object;
    ExplorerContainer {
        stack: one.project().unwrap_or_default().to_owned(),
        id: one.id,
        name: one.name,
        image: one.image,
        state: one.state,
        status: one.status,
        created: one.created,
        watcher: watcher.to_string(),
    }
}

fn image(watcher: &WatcherRef, seen: Seen<explorer::Image>) -> ExplorerImage {
    ExplorerImage {
        protected_by: why(&seen),
        dangling: seen.object.is_dangling(),
        id: seen.object.id,
        tags: seen.object.tags,
        size: seen.object.size,
        created: seen.object.created,
        in_use: seen.in_use,
        containers: names(seen.users),
        watcher: watcher.to_string(),
    }
}

fn network(watcher: &WatcherRef, seen: Seen<explorer::Network>) -> ExplorerNetwork {
    ExplorerNetwork {
        protected_by: why(&seen),
        is_default: seen.object.is_built_in(),
        id: seen.object.id,
        name: seen.object.name,
        driver: seen.object.driver,
        scope: seen.object.scope,
        created: seen.object.created,
        containers: names(seen.users),
        watcher: watcher.to_string(),
    }
}

fn volume(watcher: &WatcherRef, seen: Seen<explorer::Volume>) -> ExplorerVolume {
    ExplorerVolume {
        protected_by: why(&seen),
        name: seen.object.name,
        driver: seen.object.driver,
        mount_point: seen.object.mount_point,
        created: seen.object.created.unwrap_or_default(),
        containers: names(seen.users),
        size: -1,
        watcher: watcher.to_string(),
    }
}

fn all<T, V>(
    found: Vec<(WatcherRef, Explored)>,
    pick: impl Fn(Explored) -> Vec<Seen<T>>,
    view: impl Fn(&WatcherRef, Seen<T>) -> V,
) -> Vec<V> {
    let mut shown = Vec::new();
    for (watcher, explored) in found {
        shown.extend(views(&watcher, pick(explored), &view));
    }
    shown
}

async fn explored(
    state: &ApiState,
    who: &Authorized<perm::ContainersRead>,
    context: &RequestContext,
    watcher: Option<String>,
    kinds: &[ObjectKind],
) -> Result<Vec<(WatcherRef, Explored)>, AppError> {
    let caller = plain_caller(who.principal(), context);
    state.app.explore(&local(watcher), kinds, &caller).await
}

#[OpenApi(prefix_path = "/api")]
impl Explorer {
    /// Get everything that the hosts have
    #[oai(
        path = "/explorer",
        method = "get",
        operation_id = "getExplorer",
        tag = "Tag::Explorer"
    )]
    async fn everything(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        /// Only this host's.
        watcher: Query<Option<String>>,
    ) -> Result<RawPayload<Envelope<ExplorerData>>, ErrorOf<ReadsOne>> {
        let engines = local(watcher.0.clone());
        let found = explored(&state, &who, &context, watcher.0, &ObjectKind::ALL).await?;
        let mut data = ExplorerData::default();
        // Also those that nothing runs of.
        let known = stacks::list(&who.snapshot().inventory, &engines).into_iter();
        for stack in known.filter(|stack| stack.directory.is_some()) {
            data.container_stacks.insert(stack.name.clone(), Vec::new());
        }
        for (watcher, explored) in found {
            let seen = explored.containers.into_iter();
            for one in seen.map(|one| container(&watcher, one)) {
                match one.stack.is_empty() {
                    true => data.standalone_containers.push(one.clone()),
                    false => {
                        let stack = data.container_stacks.entry(one.stack.clone());
                        stack.or_default().push(one.clone());
                    }
                }
                data.containers.push(one);
            }
            data.images.extend(views(&watcher, explored.images, image));
            data.networks
                .extend(views(&watcher, explored.networks, network));
            data.volumes
                .extend(views(&watcher, explored.volumes, volume));
        }
        Ok(envelope::raw(&data))
    }

    /// List all images
    #[oai(
        path = "/images",
        method = "get",
        operation_id = "listImages",
        tag = "Tag::Explorer"
    )]
    async fn images(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        /// Only this host's.
        watcher: Query<Option<String>>,
    ) -> Result<RawPayload<Envelope<ImagesData>>, ErrorOf<ReadsOne>> {
        let found = explored(&state, &who, &context, watcher.0, &[ObjectKind::Image]).await?;
        let images = all(found, |one| one.images, image);
        let count = images.len() as u64;
        Ok(envelope::raw(&ImagesData { images, count }))
    }

    /// List all networks
    #[oai(
        path = "/networks",
        method = "get",
        operation_id = "listNetworks",
        tag = "Tag::Explorer"
    )]
    async fn networks(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        /// Only this host's.
        watcher: Query<Option<String>>,
    ) -> Result<RawPayload<Envelope<NetworksData>>, ErrorOf<ReadsOne>> {
        let found = explored(&state, &who, &context, watcher.0, &[ObjectKind::Network]).await?;
        let networks = all(found, |one| one.networks, network);
        let count = networks.len() as u64;
        Ok(envelope::raw(&NetworksData { networks, count }))
    }

    /// List all volumes
    #[oai(
        path = "/volumes",
        method = "get",
        operation_id = "listVolumes",
        tag = "Tag::Explorer"
    )]
    async fn volumes(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        /// Only this host's.
        watcher: Query<Option<String>>,
    ) -> Result<RawPayload<Envelope<VolumesData>>, ErrorOf<ReadsOne>> {
        let found = explored(&state, &who, &context, watcher.0, &[ObjectKind::Volume]).await?;
        let volumes = all(found, |one| one.volumes, volume);
        let count = volumes.len() as u64;
        Ok(envelope::raw(&VolumesData { volumes, count }))
    }
}
