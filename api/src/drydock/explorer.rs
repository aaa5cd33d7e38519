//! Images, networks and volumes of engines, and who uses them.

use chrono::DateTime;
use plimsoll_app::stacks::Engines;
use plimsoll_domain::{
    explorer::{self, Explored, Obstacle, Seen, User, removal::ObjectKind},
    ids::WatcherRef,
};
use poem::http::Uri;
use poem_openapi::{Enum, Object, OpenApi, param::Query, payload::Json};
use serde::Serialize;

use super::{
    Tag,
    error::{ErrorOf, ReadsOne},
    instant::Instant,
    operations::plain_caller,
    page::{List, Page, PageNumber},
    stacks::engines,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
};

/// `GET /api/v1/images`, `/networks`, `/volumes` and `/explorer`.
pub struct Explorer;

/// A container that uses something.
#[derive(Object)]
#[oai(rename = "ObjectUser")]
struct UserView {
    id: String,
    name: String,
    /// As in a container's `status`.
    state: String,
}

impl From<User> for UserView {
    fn from(user: User) -> Self {
        Self {
            id: user.id,
            name: user.name,
            state: user.state,
        }
    }
}

/// Why an object is not removed, whoever asks.
#[derive(Enum, Serialize, Clone, Copy)]
#[oai(rename_all = "kebab-case", rename = "ObjectObstacle")]
pub enum ObstacleView {
    /// Docker's own network
    BuiltIn,
    /// Services of the swarm may use it
    Swarm,
    /// Plimsoll itself runs on it
    Plimsoll,
    /// An operation that is not over needs it
    Operation,
    /// A kept backup needs it
    Backup,
    /// The watcher's settings leave it to somebody else
    OutOfScope,
    /// A container uses it, whether it runs or not
    InUse,
    /// It is a container that runs
    Running,
}

impl From<Obstacle> for ObstacleView {
    fn from(obstacle: Obstacle) -> Self {
        match obstacle {
            Obstacle::BuiltIn => Self::BuiltIn,
            Obstacle::Swarm => Self::Swarm,
            Obstacle::Plimsoll => Self::Plimsoll,
            Obstacle::Operation => Self::Operation,
            Obstacle::Backup => Self::Backup,
            Obstacle::OutOfScope => Self::OutOfScope,
            Obstacle::InUse => Self::InUse,
            Obstacle::Running => Self::Running,
        }
    }
}

/// An image that an engine has.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "EngineImage")]
struct ImageView {
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    agent: Option<String>,
    id: String,
    /// `repository:tag`
    tags: Vec<String>,
    /// `repository@digest`
    digests: Vec<String>,
    /// Bytes, with the layers that it shares with others
    size: u64,
    #[oai(nullable)]
    created: Option<Instant>,
    /// Whether it has no tag
    dangling: bool,
    in_use: bool,
    /// The containers that were made of it, by name
    containers: Vec<UserView>,
    /// What stands in the way of its removal
    #[oai(nullable)]
    obstacle: Option<ObstacleView>,
}

/// A network that an engine has.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "EngineNetwork")]
struct NetworkView {
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    agent: Option<String>,
    id: String,
    name: String,
    driver: String,
    /// `local`, or `swarm` for one that spans hosts
    scope: String,
    internal: bool,
    /// Whether it is Docker's own
    is_default: bool,
    #[oai(nullable)]
    created: Option<Instant>,
    in_use: bool,
    /// The containers that are attached to it, running or not, by name
    containers: Vec<UserView>,
    #[oai(nullable)]
    obstacle: Option<ObstacleView>,
}

/// A volume that an engine has.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "EngineVolume")]
struct VolumeView {
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    agent: Option<String>,
    name: String,
    driver: String,
    scope: String,
    /// On the engine's host
    mount_point: String,
    /// Whether nobody gave it a name
    anonymous: bool,
    #[oai(nullable)]
    created: Option<Instant>,
    in_use: bool,
    /// The containers that mount it, running or not, by name
    containers: Vec<UserView>,
    #[oai(nullable)]
    obstacle: Option<ObstacleView>,
}

/// A container that an engine has, watched or not.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "EngineContainer")]
struct ContainerView {
    id: String,
    name: String,
    /// As it was created
    image: String,
    image_id: String,
    /// Docker's own word
    state: String,
    /// For people
    status: String,
    #[oai(nullable)]
    created: Option<Instant>,
    /// The Compose project
    #[oai(nullable)]
    stack: Option<String>,
    #[oai(nullable)]
    obstacle: Option<ObstacleView>,
}

/// Everything that one engine has.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct EngineContents {
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    agent: Option<String>,
    containers: Vec<ContainerView>,
    images: Vec<ImageView>,
    networks: Vec<NetworkView>,
    volumes: Vec<VolumeView>,
}

/// Everything that the engines have.
#[derive(Object)]
struct ExplorerContents {
    engines: Vec<EngineContents>,
}

fn seconds(since_epoch: i64) -> Option<Instant> {
    DateTime::from_timestamp(since_epoch, 0).map(Instant)
}

fn time(text: &str) -> Option<Instant> {
    let time = DateTime::parse_from_rfc3339(text).ok()?;
    Some(Instant(time.to_utc()))
}

fn users(users: Vec<User>) -> Vec<UserView> {
    users.into_iter().map(UserView::from).collect()
}

fn image(watcher: &WatcherRef, seen: Seen<explorer::Image>) -> ImageView {
    let one = seen.object;
    ImageView {
        watcher: watcher.name.clone(),
        agent: watcher.agent_name().map(str::to_owned),
        dangling: one.is_dangling(),
        id: one.id,
        tags: one.tags,
        digests: one.digests,
        size: one.size,
        created: seconds(one.created),
        in_use: seen.in_use,
        containers: users(seen.users),
        obstacle: seen.obstacle.map(ObstacleView::from),
    }
}

fn network(watcher: &WatcherRef, seen: Seen<explorer::Network>) -> NetworkView {
    let one = seen.object;
    NetworkView {
        watcher: watcher.name.clone(),
        agent: watcher.agent_name().map(str::to_owned),
        is_default: one.is_built_in(),
        created: time(&one.created),
        id: one.id,
        name: one.name,
        driver: one.driver,
        scope: one.scope,
        internal: one.internal,
        in_use: seen.in_use,
        containers: users(seen.users),
        obstacle: seen.obstacle.map(ObstacleView::from),
    }
}

fn volume(watcher: &WatcherRef, seen: Seen<explorer::Volume>) -> VolumeView {
    let one = seen.object;
    VolumeView {
        watcher: watcher.name.clone(),
        agent: watcher.agent_name().map(str::to_owned),
        anonymous: one.is_anonymous(),
        created: one.created.as_deref().and_then(time),
        name: one.name,
        driver: one.driver,
        scope: one.scope,
        mount_point: one.mount_point,
        in_use: seen.in_use,
        containers: users(seen.users),
        obstacle: seen.obstacle.map(ObstacleView::from),
    }
}

fn container(seen: Seen<explorer::Container>) -> ContainerView {
    let one = seen.object;
    ContainerView {
        stack: one.project().map(str::to_owned),
        id: one.id,
        name: one.name,
        image: one.image,
        image_id: one.image_id,
        state: one.state,
        status: one.status,
        created: seconds(one.created),
        obstacle: seen.obstacle.map(ObstacleView::from),
    }
}

/// One page of what all engines have of a kind, by engine.
fn listed<T, V>(
    found: Vec<(WatcherRef, Explored)>,
    pick: impl Fn(Explored) -> Vec<Seen<T>>,
    view: impl Fn(&WatcherRef, Seen<T>) -> V,
    (page, path, uri): (Page, &str, &Uri),
) -> List<V>
where
    V: poem_openapi::types::Type + poem_openapi::types::ParseFromJSON + poem_openapi::types::ToJSON,
{
    let mut all = Vec::new();
    for (watcher, explored) in found {
        let seen = pick(explored).into_iter();
        all.extend(seen.map(|one| (watcher.clone(), one)));
    }
    let total = all.len() as u64;
    let shown = page.range(all.len());
    let shown = all.drain(shown);
    let data = shown.map(|(watcher, one)| view(&watcher, one)).collect();
    List::of(page, data, total, path, uri.query().unwrap_or(""))
}

#[OpenApi(prefix_path = "/api/v1")]
impl Explorer {
    /// List images
    ///
    /// Of all engines, or of those that are meant. 503 when one of them does not answer.
    #[oai(
        path = "/images",
        method = "get",
        operation_id = "listImages",
        tag = "Tag::Engines"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn images(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        uri: &Uri,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<List<ImageView>>, ErrorOf<ReadsOne>> {
        let asked = Asked(&state, engines(watcher.0, agent.0));
        let found = asked.kind(ObjectKind::Image, &who, &context).await?;
        let page = (Page::all(limit.0, offset.0), "/api/v1/images", uri);
        Ok(Json(listed(found, |one| one.images, image, page)))
    }

    /// List networks
    ///
    /// Of all engines, or of those that are meant. 503 when one of them does not answer.
    #[oai(
        path = "/networks",
        method = "get",
        operation_id = "listNetworks",
        tag = "Tag::Engines"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn networks(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        uri: &Uri,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<List<NetworkView>>, ErrorOf<ReadsOne>> {
        let asked = Asked(&state, engines(watcher.0, agent.0));
        let found = asked.kind(ObjectKind::Network, &who, &context).await?;
        let page = (Page::all(limit.0, offset.0), "/api/v1/networks", uri);
        Ok(Json(listed(found, |one| one.networks, network, page)))
    }

    /// List volumes
    ///
    /// Of all engines, or of those that are meant. 503 when one of them does not answer.
    #[oai(
        path = "/volumes",
        method = "get",
        operation_id = "listVolumes",
        tag = "Tag::Engines"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn volumes(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        uri: &Uri,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<List<VolumeView>>, ErrorOf<ReadsOne>> {
        let asked = Asked(&state, engines(watcher.0, agent.0));
        let found = asked.kind(ObjectKind::Volume, &who, &context).await?;
        let page = (Page::all(limit.0, offset.0), "/api/v1/volumes", uri);
        Ok(Json(listed(found, |one| one.volumes, volume, page)))
    }

    /// Get everything that the engines have
    ///
    /// Containers, images, networks and volumes, as they are at the moment.
    #[oai(
        path = "/explorer",
        method = "get",
        operation_id = "getExplorer",
        tag = "Tag::Engines"
    )]
    async fn everything(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
    ) -> Result<Json<ExplorerContents>, ErrorOf<ReadsOne>> {
        let caller = plain_caller(who.principal(), &context);
        let engines = engines(watcher.0, agent.0);
        let found = state.app.explore(&engines, &ObjectKind::ALL, &caller);
        let found = found.await?.into_iter();
        let engines = found.map(|(watcher, all)| EngineContents {
            containers: all.containers.into_iter().map(container).collect(),
            images: views(&watcher, all.images, image),
            networks: views(&watcher, all.networks, network),
            volumes: views(&watcher, all.volumes, volume),
            agent: watcher.agent_name().map(str::to_owned),
            watcher: watcher.name,
        });
        Ok(Json(ExplorerContents {
            engines: engines.collect(),
        }))
    }
}

/// What the dialect shows of what one engine has.
pub fn views<T, V>(
    watcher: &WatcherRef,
    seen: Vec<Seen<T>>,
    view: impl Fn(&WatcherRef, Seen<T>) -> V,
) -> Vec<V> {
    seen.into_iter().map(|one| view(watcher, one)).collect()
}

struct Asked<'a>(&'a ApiState, Engines);

impl Asked<'_> {
    async fn kind(
        &self,
        kind: ObjectKind,
        who: &Authorized<perm::ContainersRead>,
        context: &RequestContext,
    ) -> Result<Vec<(WatcherRef, Explored)>, plimsoll_app::AppError> {
        let caller = plain_caller(who.principal(), context);
        self.0.app.explore(&self.1, &[kind], &caller).await
    }
}
