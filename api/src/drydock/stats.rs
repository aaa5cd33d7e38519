//! What containers use (contract/drydock-container-api.md, "Get container stats", "Get single
//! container stats", "Stream container stats").

use bytes::Bytes;
use futures::Stream;
use plimsoll_app::{queue::rpc::RemoteStream, stats::ContainerStats};
use plimsoll_domain::{access::Scope, stats::StatsSnapshot};
use poem::Body;
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use tokio::time::{MissedTickBehavior, interval};

use super::{
    Tag,
    error::{ErrorOf, Reads, ReadsOne},
    events::{EventStream, HEARTBEAT, farewell, frame},
    lines::whole_lines,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::context::RequestContext,
    sockets::still_allowed,
};

/// `GET /api/v1/containers/stats`, `/containers/{id}/stats` and `/containers/{id}/stats/stream`.
pub struct Stats;

/// What a container uses.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "ContainerStatsSnapshot")]
struct SnapshotView {
    container_id: String,
    /// Of one processor: two that are busy are 200.
    cpu_percent: f64,
    memory_usage_bytes: u64,
    memory_limit_bytes: u64,
    memory_percent: f64,
    network_rx_bytes: u64,
    network_tx_bytes: u64,
    block_read_bytes: u64,
    block_write_bytes: u64,
    /// ISO 8601.
    timestamp: String,
}

impl From<StatsSnapshot> for SnapshotView {
    fn from(snapshot: StatsSnapshot) -> Self {
        let StatsSnapshot {
            container_id,
            cpu_percent,
            memory_usage_bytes,
            memory_limit_bytes,
            memory_percent,
            network_rx_bytes,
            network_tx_bytes,
            block_read_bytes,
            block_write_bytes,
            timestamp,
        } = snapshot;
        Self {
            container_id,
            cpu_percent,
            memory_usage_bytes,
            memory_limit_bytes,
            memory_percent,
            network_rx_bytes,
            network_tx_bytes,
            block_read_bytes,
            block_write_bytes,
            timestamp,
        }
    }
}

#[derive(Object)]
#[oai(rename = "ContainerStats")]
struct StatsView {
    id: String,
    name: String,
    status: String,
    watcher: String,
    #[oai(skip_serializing_if_is_none)]
    agent: Option<String>,
    /// `null` for a container that does not run or could not be measured.
    #[oai(nullable)]
    stats: Option<SnapshotView>,
}

impl From<ContainerStats> for StatsView {
    fn from(container: ContainerStats) -> Self {
        let facts = &container.entry.state.facts;
        Self {
            id: facts.id.as_str().to_owned(),
            name: facts.name.clone(),
            status: facts.status.clone(),
            watcher: facts.watcher.name.clone(),
            agent: facts.watcher.agent_name().map(str::to_owned),
            stats: container.stats.map(SnapshotView::from),
        }
    }
}

#[derive(Object)]
#[oai(rename = "ContainerStatsList")]
struct StatsList {
    data: Vec<StatsView>,
}

#[derive(Object)]
#[oai(rename = "ContainerStatsHistory")]
struct HistoryView {
    /// `null` for a container that does not run.
    #[oai(nullable)]
    data: Option<SnapshotView>,
    /// Oldest first; the last is `data`.
    history: Vec<SnapshotView>,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Stats {
    /// Show what all containers use
    #[oai(
        path = "/containers/stats",
        method = "get",
        operation_id = "listContainerStats",
        tag = "Tag::Containers"
    )]
    async fn list(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
    ) -> Result<Json<StatsList>, ErrorOf<Reads>> {
        let stats = state.app.all_container_stats().await?;
        let data = stats.into_iter().map(StatsView::from).collect();
        Ok(Json(StatsList { data }))
    }

    /// Show what one container uses, and used lately
    #[oai(
        path = "/containers/:id/stats",
        method = "get",
        operation_id = "getContainerStats",
        tag = "Tag::Containers"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Json<HistoryView>, ErrorOf<ReadsOne>> {
        let stats = state.app.container_stats(&id).await?;
        Ok(Json(HistoryView {
            data: stats.data.map(SnapshotView::from),
            history: stats.history.into_iter().map(SnapshotView::from).collect(),
        }))
    }

    /// Follow what one container uses
    ///
    /// `dd:container-stats` with each snapshot as it is taken, and `dd:heartbeat` every 15 seconds.
    /// Ends with the container, and when the worker that samples is gone.
    #[oai(
        path = "/containers/:id/stats/stream",
        method = "get",
        operation_id = "streamContainerStats",
        tag = "Tag::Containers"
    )]
    async fn follow(
        &self,
        _who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<EventStream, ErrorOf<ReadsOne>> {
        let snapshots = state.app.follow_container_stats(&id).await?;
        let frames = frames(state, context, snapshots);
        Ok(EventStream::new(Body::from_bytes_stream(frames)))
    }
}

fn frames(
    state: ApiState,
    context: RequestContext,
    mut snapshots: RemoteStream,
) -> impl Stream<Item = Result<Bytes, std::io::Error>> + Send + 'static {
    async_stream::stream! {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.tick().await;
        let mut open = Vec::new();
        loop {
            let part = tokio::select! {
                () = state.shutdown.cancelled() => {
                    yield Ok(farewell());
                    break;
                }
                _ = heartbeat.tick() => {
                    if !still_allowed(&state, &context, Scope::ContainersRead).await {
                        break;
                    }
                    yield Ok(frame("dd:heartbeat", "{}", None));
                    continue;
                }
                part = snapshots.next() => part,
            };
            match part {
                Some(Ok(part)) => {
                    for snapshot in whole_lines(&mut open, &part) {
                        yield Ok(frame("dd:container-stats", &snapshot, None));
                    }
                }
                Some(Err(error)) => {
                    // Cut off: a client connects again, as it does after any break.
                    yield Err(std::io::Error::other(error));
                    break;
                }
                None => break,
            }
        }
    }
}
