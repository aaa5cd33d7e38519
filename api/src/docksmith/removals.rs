//! Removing images, networks and volumes, and what nobody uses
//! (reference/docksmith-dokploy-dockup.md 1.2, "Registry/explorer", "Containers").
//!
//! Docksmith forces removals and prunes what it likes; here nothing is forced that is in use, and
//! what updates and kept ways back need stays: the answer says what went.

use std::time::Duration;

use plimsoll_app::{
    AppError,
    removals::{Item, ItemState, Removal},
    requests::Caller,
};
use plimsoll_domain::{
    explorer::removal::{ObjectKind, RemovalRequest},
    ids::OperationGroupId,
};
use poem::http::StatusCode;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use tokio::time::Instant;

use super::{
    Tag, envelope,
    envelope::Envelope,
    error::{Changes, ErrorOf},
    explorer::local,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    drydock::{
        error::ApiError,
        operations::plain_caller,
        removals::{PruneTarget, refused},
    },
    middleware::context::RequestContext,
};

/// `DELETE /api/images/{id}`, `/api/networks/{id}`, `/api/volumes/{name}`; `POST /api/prune/…`.
pub struct Removals;

/// Docksmith's server gives up after 120 s, and so do its clients.
pub(super) const PATIENCE: Duration = Duration::from_secs(100);

/// What was removed.
#[derive(Object)]
struct RemovedData {
    message: String,
    /// Names
    deleted: Vec<String>,
}

/// What of a kind nobody used and is gone.
#[derive(Object)]
struct PrunedData {
    message: String,
    items_deleted: Vec<String>,
    /// Bytes, of what is gone and whose size the engine says
    space_reclaimed: i64,
}

/// How much of everything nobody used and is gone.
#[derive(Object)]
struct SystemPrunedData {
    message: String,
    containers_deleted: u64,
    images_deleted: u64,
    networks_deleted: u64,
    volumes_deleted: u64,
    /// Names
    items_deleted: Vec<String>,
    /// Bytes, of what is gone and whose size the engine says
    space_reclaimed: i64,
}

/// Removes one object from the one local engine that has it.
///
/// # Errors
/// 404; 409 with the reason where it stays; 503 when it is not over in time, which does not end it.
pub(super) async fn remove_one(
    state: &ApiState,
    caller: &Caller<'_>,
    request: &RemovalRequest,
    watcher: Option<String>,
    batch: Option<OperationGroupId>,
) -> Result<Removal, ApiError> {
    let engines = local(watcher);
    let accepted = state.app.request_removal(request, &engines, batch, caller);
    let accepted = accepted.await?;
    match state.removal_outcome(accepted, PATIENCE).await? {
        Some(removal) => {
            refused(&removal)?;
            Ok(removal)
        }
        None => Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The removal is still running; look again later",
        )
        .with_retry_after(Duration::from_secs(5))),
    }
}

fn gone(removal: &Removal) -> impl Iterator<Item = &Item> {
    let all = removal.items.iter();
    all.filter(|item| item.state == ItemState::Removed)
}

fn shown(item: &Item) -> String {
    item.tag.as_ref().unwrap_or(&item.name).clone()
}

async fn remove(
    who: &Authorized<perm::ContainersDelete>,
    state: &ApiState,
    context: &RequestContext,
    watcher: Option<String>,
    kind: ObjectKind,
    reference: String,
) -> Result<Json<Envelope<RemovedData>>, ErrorOf<Changes>> {
    let caller = plain_caller(who.principal(), context);
    let request = RemovalRequest::One {
        kind,
        reference,
        force: false,
        volumes: false,
    };
    let removal = remove_one(state, &caller, &request, watcher, None).await?;
    let mut what = kind.as_str().to_owned();
    what[..1].make_ascii_uppercase();
    Ok(envelope::ok(RemovedData {
        message: format!("{what} removed successfully"),
        deleted: gone(&removal).map(shown).collect(),
    }))
}

/// What the prunes of all engines came to.
#[derive(Default)]
struct Pruned {
    items: Vec<(ObjectKind, String)>,
    space: i64,
    /// Engines on which it goes on.
    running: usize,
}

/// One engine after the other; one that fails ends it, and what is gone by then is in the trail.
async fn prune(
    who: &Authorized<perm::ContainersDelete>,
    state: &ApiState,
    context: &RequestContext,
    watcher: Option<String>,
    request: RemovalRequest,
) -> Result<Pruned, ApiError> {
    let caller = plain_caller(who.principal(), context);
    let engines = local(watcher);
    let watchers = state.app.watchers().await?.into_iter();
    let names: Vec<String> = watchers
        .map(|watcher| watcher.component)
        .filter(|one| one.agent.as_ref().is_none_or(|agent| str::is_empty(agent)))
        .map(|one| one.name)
        .filter(|name| engines.watcher.as_ref().is_none_or(|wanted| wanted == name))
        .collect();
    if names.is_empty() {
        return Err(AppError::NotFound("Watcher not found".to_owned()).into());
    }
    let deadline = Instant::now() + PATIENCE;
    let mut pruned = Pruned::default();
    for name in names {
        let engine = local(Some(name));
        let accepted = state.app.request_removal(&request, &engine, None, &caller);
        let accepted = accepted.await?;
        let left = deadline.saturating_duration_since(Instant::now());
        let Some(removal) = state.removal_outcome(accepted, left).await? else {
            pruned.running += 1;
            continue;
        };
        refused(&removal)?;
        for item in gone(&removal) {
            pruned.items.push((item.kind, shown(item)));
            pruned.space += item.size.unwrap_or_default();
        }
    }
    Ok(pruned)
}

impl Pruned {
    fn count(&self, kind: ObjectKind) -> u64 {
        self.items.iter().filter(|(one, _)| *one == kind).count() as u64
    }

    fn message(&self, done: String) -> String {
        match self.running {
            0 => done,
            _ => format!("{done}; it is still running, look again later"),
        }
    }

    fn of(self, what: &str) -> PrunedData {
        let done = format!("Pruned {} {what}", self.items.len());
        PrunedData {
            message: self.message(done),
            space_reclaimed: self.space,
            items_deleted: self.items.into_iter().map(|(_, name)| name).collect(),
        }
    }
}

#[OpenApi(prefix_path = "/api")]
impl Removals {
    /// Remove an image
    ///
    /// One that a container was made of stays, whatever `force` says: 409.
    #[oai(
        path = "/images/:id",
        method = "delete",
        operation_id = "deleteImage",
        tag = "Tag::Explorer"
    )]
    async fn image(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// Read and not heeded.
        #[allow(unused_variables)]
        force: Query<Option<String>>,
        watcher: Query<Option<String>>,
    ) -> Result<Json<Envelope<RemovedData>>, ErrorOf<Changes>> {
        remove(&who, &state, &context, watcher.0, ObjectKind::Image, id.0).await
    }

    /// Remove a network
    #[oai(
        path = "/networks/:id",
        method = "delete",
        operation_id = "deleteNetwork",
        tag = "Tag::Explorer"
    )]
    async fn network(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        watcher: Query<Option<String>>,
    ) -> Result<Json<Envelope<RemovedData>>, ErrorOf<Changes>> {
        remove(&who, &state, &context, watcher.0, ObjectKind::Network, id.0).await
    }

    /// Remove a volume
    ///
    /// With what is in it. One that a container mounts stays, whatever `force` says: 409.
    #[oai(
        path = "/volumes/:name",
        method = "delete",
        operation_id = "deleteVolume",
        tag = "Tag::Explorer"
    )]
    async fn volume(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        name: Path<String>,
        /// Read and not heeded.
        #[allow(unused_variables)]
        force: Query<Option<String>>,
        watcher: Query<Option<String>>,
    ) -> Result<Json<Envelope<RemovedData>>, ErrorOf<Changes>> {
        remove(
            &who,
            &state,
            &context,
            watcher.0,
            ObjectKind::Volume,
            name.0,
        )
        .await
    }

    /// Remove stopped containers
    #[oai(
        path = "/prune/containers",
        method = "post",
        operation_id = "pruneContainers",
        tag = "Tag::Prune"
    )]
    async fn containers(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        /// Only what carries this label, `key` or `key=value`.
        label: Query<Option<String>>,
        watcher: Query<Option<String>>,
    ) -> Result<Json<Envelope<PrunedData>>, ErrorOf<Changes>> {
        let request = PruneTarget::Containers.request(None, None, label.0.as_deref())?;
        let pruned = prune(&who, &state, &context, watcher.0, request).await?;
        Ok(envelope::ok(pruned.of("containers")))
    }

    /// Remove unused images
    ///
    /// Those without a tag; with `all=true` also those that have one.
    #[oai(
        path = "/prune/images",
        method = "post",
        operation_id = "pruneImages",
        tag = "Tag::Prune"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn images(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        all: Query<Option<bool>>,
        /// Only what carries this label, `key` or `key=value`.
        label: Query<Option<String>>,
        watcher: Query<Option<String>>,
    ) -> Result<Json<Envelope<PrunedData>>, ErrorOf<Changes>> {
        let request = PruneTarget::Images.request(all.0, None, label.0.as_deref())?;
        let pruned = prune(&who, &state, &context, watcher.0, request).await?;
        Ok(envelope::ok(pruned.of("images")))
    }

    /// Remove unused networks
    #[oai(
        path = "/prune/networks",
        method = "post",
        operation_id = "pruneNetworks",
        tag = "Tag::Prune"
    )]
    async fn networks(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        /// Only what carries this label, `key` or `key=value`.
        label: Query<Option<String>>,
        watcher: Query<Option<String>>,
    ) -> Result<Json<Envelope<PrunedData>>, ErrorOf<Changes>> {
        let request = PruneTarget::Networks.request(None, None, label.0.as_deref())?;
        let pruned = prune(&who, &state, &context, watcher.0, request).await?;
        Ok(envelope::ok(pruned.of("networks")))
    }

    /// Remove unused volumes
    ///
    /// Anonymous ones; with `all=true` also those that have a name.
    #[oai(
        path = "/prune/volumes",
        method = "post",
        operation_id = "pruneVolumes",
        tag = "Tag::Prune"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn volumes(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        all: Query<Option<bool>>,
        /// Only what carries this label, `key` or `key=value`.
        label: Query<Option<String>>,
        watcher: Query<Option<String>>,
    ) -> Result<Json<Envelope<PrunedData>>, ErrorOf<Changes>> {
        let request = PruneTarget::Volumes.request(all.0, None, label.0.as_deref())?;
        let pruned = prune(&who, &state, &context, watcher.0, request).await?;
        Ok(envelope::ok(pruned.of("volumes")))
    }

    /// Remove all unused resources
    ///
    /// Stopped containers, unused networks, images without a tag; with `volumes=true` anonymous
    /// volumes, too, and with `all=true` images that have a tag.
    #[oai(
        path = "/prune/system",
        method = "post",
        operation_id = "pruneSystem",
        tag = "Tag::Prune"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn system(
        &self,
        who: Authorized<perm::ContainersDelete>,
        state: ApiState,
        context: RequestContext,
        volumes: Query<Option<bool>>,
        all: Query<Option<bool>>,
        /// Only what carries this label, `key` or `key=value`.
        label: Query<Option<String>>,
        watcher: Query<Option<String>>,
    ) -> Result<Json<Envelope<SystemPrunedData>>, ErrorOf<Changes>> {
        let request = PruneTarget::System.request(all.0, volumes.0, label.0.as_deref())?;
        let pruned = prune(&who, &state, &context, watcher.0, request).await?;
        let total = pruned.items.len();
        Ok(envelope::ok(SystemPrunedData {
            message: pruned.message(format!("System prune completed: {total} items removed")),
            containers_deleted: pruned.count(ObjectKind::Container),
            images_deleted: pruned.count(ObjectKind::Image),
            networks_deleted: pruned.count(ObjectKind::Network),
            volumes_deleted: pruned.count(ObjectKind::Volume),
            space_reclaimed: pruned.space,
            items_deleted: pruned.items.into_iter().map(|(_, name)| name).collect(),
        }))
    }
}
