//! Removing images, networks, volumes and containers from engines: one, or what nobody uses.

use std::collections::BTreeSet;

use plimsoll_app::removals::{AMBIGUOUS, ItemState, NO_OBJECT, Removal};
use plimsoll_domain::{
    explorer::{
        LabelFilter,
        removal::{ObjectKind, RemovalRequest},
    },
    ids::RemovalId,
};
use poem::http::StatusCode;
use poem_openapi::{
    ApiResponse, Enum, Object, OpenApi,
    param::{Header, Path, Query},
    payload::Json,
};
use serde_json::json;

use super::{
    Tag,
    confirm::{Confirmation, Confirmed},
    described::{Text, text},
    error::{ApiError, ConfirmedChanges, ErrorOf, ReadsOne},
    instant::Instant,
    operations::plain_caller,
    prefer::Preference,
    stacks::engines,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
    words,
};

/// `DELETE /api/v1/images/{id}`, `/networks/{id}`, `/volumes/{name}`; `POST
/// /api/v1/containers/{id}/remove` and `/api/v1/prune/{what}`; `GET /api/v1/removals/{id}`.
pub struct Removals;

words!(Reference = 1..=512, "^[!-~]+$");
words!(Label = 1..=512, "^[!-<>-~][!-~]*$");

macro_rules! confirmations {
    ($($name:ident = $token:literal),+ $(,)?) => {
        $(
            pub enum $name {}

            impl Confirmation for $name {
                const TOKEN: &'static str = $token;
            }
        )+
    };
}

confirmations!(
    ImageDelete = "image-delete",
    NetworkDelete = "network-delete",
    VolumeDelete = "volume-delete",
    ContainerRemove = "container-remove",
    Prune = "prune",
);

/// What of an engine nobody uses.
#[derive(Enum, Clone, Copy)]
#[oai(rename_all = "lowercase")]
pub enum PruneTarget {
    Containers,
    Images,
    Networks,
    Volumes,
    System,
}

impl PruneTarget {
    /// `all`: also images with a tag, and of [`Self::Volumes`] those with a name. `volumes`: of
    /// [`Self::System`] anonymous ones, too. `label`: `key` or `key=value`, without which nothing
    /// goes.
    ///
    /// # Errors
    /// 400 for a label without a key.
    pub fn request(
        self,
        all: Option<bool>,
        volumes: Option<bool>,
        label: Option<&str>,
    ) -> Result<RemovalRequest, ApiError> {
        let kinds = match self {
            Self::Containers => BTreeSet::from([ObjectKind::Container]),
            Self::Images => BTreeSet::from([ObjectKind::Image]),
            Self::Networks => BTreeSet::from([ObjectKind::Network]),
            Self::Volumes => BTreeSet::from([ObjectKind::Volume]),
            Self::System => ObjectKind::ALL
                .into_iter()
                .filter(|kind| volumes == Some(true) || *kind != ObjectKind::Volume)
                .collect(),
        };
        let parse = |text| {
            LabelFilter::parse(text)
                .ok_or_else(|| ApiError::bad_request("A label is `key` or `key=value`"))
        };
        let all = all == Some(true);
        Ok(RemovalRequest::Unused {
            named_volumes: all && matches!(self, Self::Volumes),
            all_images: all,
            kinds,
            label: label.map(parse).transpose()?,
        })
    }
}

#[derive(Enum)]
#[oai(rename_all = "lowercase")]
enum RemovalStatus {
    Running,
    /// All of it was looked at: each item says what became of it
    Completed,
    /// `error` says why nothing, or nothing more, was done
    Failed,
}

#[derive(Enum)]
#[oai(rename_all = "lowercase", rename = "RemovedObjectKind")]
enum KindView {
    Container,
    Network,
    Volume,
    Image,
}

impl From<ObjectKind> for KindView {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Container => Self::Container,
            ObjectKind::Network => Self::Network,
            ObjectKind::Volume => Self::Volume,
            ObjectKind::Image => Self::Image,
        }
    }
}

#[derive(Enum)]
#[oai(rename_all = "lowercase", rename = "RemovedObjectState")]
enum StateView {
    /// It is to go
    Planned,
    /// Observed: it is gone
    Removed,
    /// It stays
    Kept,
}

/// One object of a removal.
#[derive(Object)]
#[oai(skip_serializing_if_is_none)]
struct RemovedObject {
    kind: KindView,
    /// The engine's; a volume's name
    id: String,
    name: String,
    /// Bytes that its removal frees, where the engine says
    size: Option<i64>,
    state: StateView,
    /// Why it stays: an `ObjectObstacle`, or `engine`
    reason: Option<String>,
    message: Option<String>,
}

/// How many objects of each kind are gone.
#[derive(Object, Default)]
struct RemovedCounts {
    containers: u64,
    images: u64,
    networks: u64,
    volumes: u64,
}

/// Objects that were asked to be removed together, and what became of each.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "Removal")]
pub struct RemovalView {
    id: String,
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    agent: Option<String>,
    status: RemovalStatus,
    created_at: Instant,
    #[oai(nullable)]
    completed_at: Option<Instant>,
    #[oai(nullable)]
    error: Option<String>,
    removed: RemovedCounts,
    /// Bytes, of what is gone and whose size the engine says
    space_reclaimed: i64,
    items: Vec<RemovedObject>,
}

impl From<Removal> for RemovalView {
    fn from(removal: Removal) -> Self {
        let mut removed = RemovedCounts::default();
        let mut space_reclaimed = 0;
        let gone = removal.items.iter();
        for item in gone.filter(|item| item.state == ItemState::Removed) {
            *match item.kind {
                ObjectKind::Container => &mut removed.containers,
                ObjectKind::Network => &mut removed.networks,
                ObjectKind::Volume => &mut removed.volumes,
                ObjectKind::Image => &mut removed.images,
            } += 1;
            space_reclaimed += item.size.unwrap_or_default();
        }
        let items = removal.items.into_iter().map(|item| RemovedObject {
            kind: item.kind.into(),
            id: item.id,
            name: item.tag.unwrap_or(item.name),
            size: item.size,
            state: match item.state {
                ItemState::Planned => StateView::Planned,
                ItemState::Removed => StateView::Removed,
                ItemState::Kept => StateView::Kept,
            },
            reason: item.reason,
            message: item.message,
        });
        Self {
            id: removal.id.to_string(),
            agent: removal.watcher.agent_name().map(str::to_owned),
            watcher: removal.watcher.name,
            status: match (removal.completed_at, &removal.error) {
                (None, _) => RemovalStatus::Running,
                (Some(_), None) => RemovalStatus::Completed,
                (Some(_), Some(_)) => RemovalStatus::Failed,
            },
            created_at: Instant(removal.created_at),
            completed_at: removal.completed_at.map(Instant),
            error: removal.error,
            removed,
            space_reclaimed,
            items: items.collect(),
        }
    }
}

/// The answer to a request whose removal is still running.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct RemovalAccepted {
    message: String,
    /// Follow it at `Location`
    removal_id: String,
}

#[derive(ApiResponse)]
pub enum RemovalAnswer {
    /// Over: the items say what is gone
    #[oai(status = 200)]
    Done(
        Json<RemovalView>,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
    /// Durable and running; it goes on whatever happens to this connection
    #[oai(status = 202)]
    Accepted(
        Json<RemovalAccepted>,
        #[oai(header = "Location")] String,
        #[oai(header = "Preference-Applied")] Option<String>,
    ),
}

/// Which engines, and how the answer is wanted.
struct Asked<'a> {
    who: &'a Authorized<perm::ContainersDelete>,
    state: &'a ApiState,
    context: &'a RequestContext,
    watcher: Option<String>,
    agent: Option<String>,
    prefer: Option<String>,
}

impl Asked<'_> {
    async fn one(
        self,
        kind: ObjectKind,
        reference: String,
        force: bool,
        volumes: bool,
    ) -> Result<RemovalAnswer, ErrorOf<ConfirmedChanges>> {
        let request = RemovalRequest::One {
            kind,
            reference,
            force,
            volumes,
        };
        self.answer(request).await
    }

    async fn answer(
        self,
        request: RemovalRequest,
    ) -> Result<RemovalAnswer, ErrorOf<ConfirmedChanges>> {
        let Self { state, .. } = self;
        let preference = Preference::parse(self.prefer.as_deref());
        let engines = engines(self.watcher, self.agent);
        let caller = plain_caller(self.who.principal(), self.context);
        let accepted = state.app.request_removal(&request, &engines, None, &caller);
        let accepted = accepted.await?;
        let outcome = state.removal_outcome(accepted, preference.patience).await?;
        Ok(match outcome {
            Some(removal) => {
                refused(&removal)?;
                RemovalAnswer::Done(Json(removal.into()), preference.applied())
            }
            None => RemovalAnswer::Accepted(
                Json(RemovalAccepted {
                    message: "Removal accepted".to_owned(),
                    removal_id: accepted.id.to_string(),
                }),
                format!("/api/v1/removals/{}", accepted.id),
                preference.applied(),
            ),
        })
    }
}

/// What was asked of one object and was not done, and what failed as a whole.
pub fn refused(removal: &Removal) -> Result<(), ApiError> {
    let details = |reason: &str| json!({ "removalId": removal.id.to_string(), "reason": reason });
    if let Some(message) = &removal.error {
        let code = removal.error_code.as_deref().unwrap_or_default();
        let status = match code {
            NO_OBJECT => StatusCode::NOT_FOUND,
            AMBIGUOUS => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let error = ApiError::new(status, message.clone());
        return Err(error.with_details(details(code)));
    }
    let RemovalRequest::One { .. } = removal.request else {
        return Ok(());
    };
    match removal.items.first() {
        Some(item) if item.state == ItemState::Kept => {
            let message = item.message.clone().unwrap_or_default();
            let reason = item.reason.as_deref().unwrap_or_default();
            let error = ApiError::new(StatusCode::CONFLICT, message);
            Err(error.with_details(details(reason)))
        }
        _ => Ok(()),
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl Removals {
    /// Remove an image
    ///
    /// By its id, by twelve digits of it or more, or by one of its names, of which the image goes
    /// with the last. 409 for an image that a container was made of, that an operation or a kept
    /// backup needs, or that Plimsoll runs on.
    #[oai(
        path = "/images/:id",
        method = "delete",
        operation_id = "deleteImage",
        tag = "Tag::Engines"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn image(
        &self,
        who: Authorized<perm::ContainersDelete>,
        #[oai(name = "X-DD-Confirm-Action")] _confirmed: Confirmed<ImageDelete>,
        state: ApiState,
        context: RequestContext,
        id: Path<Text<Reference>>,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
    ) -> Result<RemovalAnswer, ErrorOf<ConfirmedChanges>> {
        let asked = Asked {
            who: &who,
            state: &state,
            context: &context,
            watcher: watcher.0,
            agent: agent.0,
            prefer: prefer.0,
        };
        asked.one(ObjectKind::Image, id.0.0, false, false).await
    }

    /// Remove a network
    ///
    /// By its id or name. 409 for one that a container is attached to, running or not, that is
    /// Docker's own, or that an operation or a kept backup needs.
    #[oai(
        path = "/networks/:id",
        method = "delete",
        operation_id = "deleteNetwork",
        tag = "Tag::Engines"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn network(
        &self,
        who: Authorized<perm::ContainersDelete>,
        #[oai(name = "X-DD-Confirm-Action")] _confirmed: Confirmed<NetworkDelete>,
        state: ApiState,
        context: RequestContext,
        id: Path<Text<Reference>>,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
    ) -> Result<RemovalAnswer, ErrorOf<ConfirmedChanges>> {
        let asked = Asked {
            who: &who,
            state: &state,
            context: &context,
            watcher: watcher.0,
            agent: agent.0,
            prefer: prefer.0,
        };
        asked.one(ObjectKind::Network, id.0.0, false, false).await
    }

    /// Remove a volume
    ///
    /// With what is in it. 409 for one that a container mounts, running or not, or that an
    /// operation or a kept backup needs.
    #[oai(
        path = "/volumes/:name",
        method = "delete",
        operation_id = "deleteVolume",
        tag = "Tag::Engines"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn volume(
        &self,
        who: Authorized<perm::ContainersDelete>,
        #[oai(name = "X-DD-Confirm-Action")] _confirmed: Confirmed<VolumeDelete>,
        state: ApiState,
        context: RequestContext,
        name: Path<Text<Reference>>,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
    ) -> Result<RemovalAnswer, ErrorOf<ConfirmedChanges>> {
        let asked = Asked {
            who: &who,
            state: &state,
            context: &context,
            watcher: watcher.0,
            agent: agent.0,
            prefer: prefer.0,
        };
        asked.one(ObjectKind::Volume, name.0.0, false, false).await
    }

    /// Remove a container from its engine
    ///
    /// By its id or name; watched or not. One that runs only with `force`: it is stopped first. 409
    /// while an operation works on it, and for Plimsoll's own. To forget a container and leave it on
    /// its engine, see `DELETE /api/v1/containers/{id}`.
    #[oai(
        path = "/containers/:id/remove",
        method = "post",
        operation_id = "removeContainer",
        tag = "Tag::Engines"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn container(
        &self,
        who: Authorized<perm::ContainersDelete>,
        #[oai(name = "X-DD-Confirm-Action")] _confirmed: Confirmed<ContainerRemove>,
        state: ApiState,
        context: RequestContext,
        id: Path<Text<Reference>>,
        /// Also if it runs.
        force: Query<Option<bool>>,
        /// Its anonymous volumes go too, where nothing else needs them.
        volumes: Query<Option<bool>>,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
    ) -> Result<RemovalAnswer, ErrorOf<ConfirmedChanges>> {
        let asked = Asked {
            who: &who,
            state: &state,
            context: &context,
            watcher: watcher.0,
            agent: agent.0,
            prefer: prefer.0,
        };
        let (force, volumes) = (force.0 == Some(true), volumes.0 == Some(true));
        asked
            .one(ObjectKind::Container, id.0.0, force, volumes)
            .await
    }

    /// Remove what nobody uses
    ///
    /// On one engine: stopped containers; networks, images and volumes without a container in any
    /// state. Of images only those without a tag, of volumes only anonymous ones, unless `all`.
    /// `system`: containers, networks and images, and with `volumes` anonymous volumes. What
    /// operations and kept backups need, and what Plimsoll runs on, stays, and the answer says so.
    #[oai(
        path = "/prune/:what",
        method = "post",
        operation_id = "prune",
        tag = "Tag::Engines"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn prune(
        &self,
        who: Authorized<perm::ContainersDelete>,
        #[oai(name = "X-DD-Confirm-Action")] _confirmed: Confirmed<Prune>,
        state: ApiState,
        context: RequestContext,
        what: Path<PruneTarget>,
        /// Also images with a tag; of `volumes`, also those with a name.
        all: Query<Option<bool>>,
        /// Of `system`: anonymous volumes, too.
        volumes: Query<Option<bool>>,
        /// Only what carries this label, `key` or `key=value`.
        label: Query<Option<Text<Label>>>,
        watcher: Query<Option<String>>,
        /// Empty for this installation's own.
        agent: Query<Option<String>>,
        /// `wait=N` (seconds) or `respond-async`
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
    ) -> Result<RemovalAnswer, ErrorOf<ConfirmedChanges>> {
        let request = what.0.request(all.0, volumes.0, text(&label.0))?;
        let asked = Asked {
            who: &who,
            state: &state,
            context: &context,
            watcher: watcher.0,
            agent: agent.0,
            prefer: prefer.0,
        };
        asked.answer(request).await
    }

    /// Get a removal
    #[oai(
        path = "/removals/:id",
        method = "get",
        operation_id = "getRemoval",
        tag = "Tag::Engines"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Json<RemovalView>, ErrorOf<ReadsOne>> {
        let missing = || ApiError::not_found(plimsoll_app::removals::NOT_FOUND);
        let id: RemovalId = id.0.parse().map_err(|_| missing())?;
        Ok(Json(state.app.removal(id).await?.into()))
    }
}
