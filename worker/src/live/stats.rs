//! What containers use: sampled once per container however many watch, and only while somebody
//! watches or has asked lately.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use plimsoll_app::{
    queue::rpc::{RemoteError, StreamHost, StreamRequest, StreamSink},
    stats::{AllStats, AllStatsRequest, StatsHistory, StatsRequest},
};
use plimsoll_domain::{
    ids::ContainerId,
    stats::{RawStats, StatsSnapshot},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::engine_failed;
use crate::docker::{Engine, EngineError};

/// How long a processor is looked at for the first percentage.
const FIRST: Duration = Duration::from_secs(1);
/// How long a question waits for a first snapshot. Engine 20.10 answers with the next sample that it
/// takes for itself, one each second, so that the two of a snapshot may need three seconds and more.
const PATIENCE: Duration = Duration::from_secs(5);
/// Samples of one engine at a time.
const AT_A_TIME: usize = 16;
/// How long sampling goes on after the last question, at least.
const RECENT: Duration = Duration::from_secs(60);

/// How often is sampled, and how much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatsSettings {
    pub interval: Duration,
    /// Snapshots of each container.
    pub history: usize,
}

/// One engine's samples. Cheap to clone.
#[derive(Clone)]
pub struct Sampler {
    shared: Arc<Shared>,
}

struct Shared {
    engine: Engine,
    settings: StatsSettings,
    containers: Mutex<HashMap<ContainerId, Arc<Sampled>>>,
    places: Semaphore,
    /// Ends what this worker samples for others; replaced each time.
    term: Mutex<CancellationToken>,
}

/// One container that is sampled.
struct Sampled {
    latest: watch::Sender<Latest>,
    state: Mutex<State>,
}

struct State {
    history: VecDeque<Arc<StatsSnapshot>>,
    wanted_until: Instant,
    watchers: usize,
}

#[derive(Clone, Debug)]
enum Latest {
    /// No sample is complete yet.
    Awaited,
    /// It does not run.
    Idle,
    Snapshot(Arc<StatsSnapshot>),
    /// The engine could not say.
    Failed(EngineError),
    Gone,
}

impl Sampled {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The latest, once there is one, at the latest by `deadline`.
    async fn first(&self, deadline: Instant) -> Latest {
        let mut latest = self.latest.subscribe();
        let waited = latest.wait_for(|latest| !matches!(latest, Latest::Awaited));
        match timeout_at(deadline, waited).await {
            Ok(Ok(latest)) => latest.clone(),
            _ => Latest::Awaited,
        }
    }
}

/// Somebody who watches.
struct Watching(Arc<Sampled>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.state().watchers -= 1;
    }
}

impl Sampler {
    pub fn new(engine: Engine, settings: StatsSettings) -> Self {
        Self {
            shared: Arc::new(Shared {
                engine,
                settings,
                containers: Mutex::default(),
                places: Semaphore::new(AT_A_TIME),
                term: Mutex::default(),
            }),
        }
    }

    /// Containers that are sampled at the moment.
    pub fn len(&self) -> usize {
        self.shared.containers().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Another worker samples from now on: those who watch here are told, so that they ask again.
    pub(crate) fn hand_over(&self) {
        let term = &self.shared.term;
        let mut term = term.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *term).cancel();
    }

    /// `{data, history}` of one container.
    pub(super) async fn one(&self, payload: Value) -> Result<Value, RemoteError> {
        let sampled = self.asked(&container(&payload)?);
        let data = match sampled.first(Instant::now() + PATIENCE).await {
            Latest::Snapshot(snapshot) => Some(StatsSnapshot::clone(&snapshot)),
            Latest::Idle => None,
            Latest::Gone => return Err(gone()),
            Latest::Failed(error) => return Err(engine_failed(error)),
            Latest::Awaited => {
                let message = "The engine has not given a sample in time";
                return Err(RemoteError::new("engine", message));
            }
        };
        let history = sampled
            .state()
            .history
            .iter()
            .map(|s| StatsSnapshot::clone(s))
            .collect();
        json(&StatsHistory { data, history })
    }

    /// Snapshots of many containers: those that can be had in time.
    pub(super) async fn all(&self, payload: Value) -> Result<Value, RemoteError> {
        let AllStatsRequest { container_ids } = parsed(payload)?;
        let ids = container_ids.iter().filter_map(|id| ContainerId::parse(id));
        let asked: Vec<(ContainerId, Arc<Sampled>)> = ids
            .map(|id| {
                let sampled = self.asked(&id);
                (id, sampled)
            })
            .collect();
        let deadline = Instant::now() + PATIENCE;
        let mut stats = AllStats::with_capacity(asked.len());
        for (id, sampled) in asked {
            if let Latest::Snapshot(snapshot) = sampled.first(deadline).await {
                stats.insert(id.as_str().to_owned(), StatsSnapshot::clone(&snapshot));
            }
        }
        json(&stats)
    }

    /// Snapshots of one container as they are taken.
    pub(super) async fn follow(
        &self,
        streams: &StreamHost,
        request: &StreamRequest,
    ) -> Result<Value, RemoteError> {
        let id = container(&request.request)?;
        // The answer to a container that is not there is an error, and no stream that ends.
        self.shared
            .engine
            .inspect(&id)
            .await
            .map_err(engine_failed)?;
        let watching = self.watched(&id);
        let term = self.shared.term.lock();
        let term = term.unwrap_or_else(PoisonError::into_inner).clone();
        streams.start(request, Value::Null, move |sink| async move {
            tokio::select! {
                () = term.cancelled() => {
                    Err(RemoteError::new("gone", "Another worker samples from now on"))
                }
                ended = send(watching, sink) => ended,
            }
        })
    }

    fn asked(&self, id: &ContainerId) -> Arc<Sampled> {
        let recent = (self.shared.settings.interval * 3).max(RECENT);
        self.sampled(id, |state| state.wanted_until = Instant::now() + recent)
    }

    fn watched(&self, id: &ContainerId) -> Watching {
        Watching(self.sampled(id, |state| state.watchers += 1))
    }

    /// The container's samples, from now on if there are none. `want` keeps them coming.
    fn sampled(&self, id: &ContainerId, want: impl FnOnce(&mut State)) -> Arc<Sampled> {
        let mut containers = self.shared.containers();
        if let Some(sampled) = containers.get(id) {
            want(&mut sampled.state());
            return sampled.clone();
        }
        let mut state = State {
            history: VecDeque::new(),
            wanted_until: Instant::now(),
            watchers: 0,
        };
        want(&mut state);
        let sampled = Arc::new(Sampled {
            latest: watch::Sender::new(Latest::Awaited),
            state: Mutex::new(state),
        });
        containers.insert(id.clone(), sampled.clone());
        let sampling = Sampling {
            shared: self.shared.clone(),
            id: id.clone(),
            sampled: sampled.clone(),
        };
        tokio::spawn(sampling.run());
        sampled
    }
}

impl Shared {
    fn containers(&self) -> MutexGuard<'_, HashMap<ContainerId, Arc<Sampled>>> {
        self.containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one task that samples a container.
struct Sampling {
    shared: Arc<Shared>,
    id: ContainerId,
    sampled: Arc<Sampled>,
}

impl Sampling {
    async fn run(self) {
        let mut earlier: Option<RawStats> = None;
        while !self.is_over() {
            let sample = match self.shared.places.acquire().await {
                Ok(_place) => self.shared.engine.stats(&self.id).await,
                Err(_) => return,
            };
            let mut pause = self.shared.settings.interval;
            let latest = match sample {
                Ok(sample) if sample.taken_at().is_none() => {
                    earlier = None;
                    Some(Latest::Idle)
                }
                Ok(sample) => match earlier.replace(sample.clone()) {
                    Some(before) => sample
                        .since(&before, self.id.as_str())
                        .map(|snapshot| Latest::Snapshot(self.keep(snapshot))),
                    None => {
                        pause = FIRST.min(pause);
                        None
                    }
                },
                Err(error) if error.is_not_found() => {
                    self.sampled.latest.send_replace(Latest::Gone);
                    self.shared.containers().remove(&self.id);
                    return;
                }
                Err(error) => {
                    earlier = None;
                    Some(Latest::Failed(error))
                }
            };
            if let Some(latest) = latest {
                self.sampled.latest.send_replace(latest);
            }
            sleep(pause).await;
        }
    }

    fn keep(&self, snapshot: StatsSnapshot) -> Arc<StatsSnapshot> {
        let snapshot = Arc::new(snapshot);
        let mut state = self.sampled.state();
        state.history.push_back(snapshot.clone());
        while state.history.len() > self.shared.settings.history {
            state.history.pop_front();
        }
        snapshot
    }

    /// Whether nobody wants it any more; it is forgotten then.
    fn is_over(&self) -> bool {
        let mut containers = self.shared.containers();
        let state = self.sampled.state();
        let over = state.watchers == 0 && state.wanted_until <= Instant::now();
        if over {
            containers.remove(&self.id);
        }
        over
    }
}

async fn send(watching: Watching, mut sink: StreamSink) -> Result<(), RemoteError> {
    let mut latest = watching.0.latest.subscribe();
    latest.mark_changed();
    while latest.changed().await.is_ok() {
        let now = latest.borrow_and_update().clone();
        match now {
            Latest::Snapshot(snapshot) => {
                let mut line = serde_json::to_vec(&*snapshot).unwrap_or_default();
                line.push(b'\n');
                sink.send(line.into()).await?;
            }
            Latest::Gone => return Err(gone()),
            // It may run again, and the engine may come back.
            Latest::Awaited | Latest::Idle | Latest::Failed(_) => {}
        }
    }
    Ok(())
}

fn container(payload: &Value) -> Result<ContainerId, RemoteError> {
    let StatsRequest { container_id } = parsed(payload.clone())?;
    ContainerId::parse(&container_id)
        .ok_or_else(|| RemoteError::new("bad-request", "containerId is not a container id"))
}

fn parsed<T: DeserializeOwned>(payload: Value) -> Result<T, RemoteError> {
    serde_json::from_value(payload).map_err(|e| RemoteError::new("bad-request", e.to_string()))
}

fn json(value: &impl serde::Serialize) -> Result<Value, RemoteError> {
    serde_json::to_value(value).map_err(|e| RemoteError::new("internal", e.to_string()))
}

fn gone() -> RemoteError {
    RemoteError::new("not-found", "Container not found")
}
