//! The live inventory: one engine's event stream, followed for ever.
//!
//! The stream only says where to look. It may drop events (reliability.md D13), so every connection
//! begins with a look at everything, and a listing is compared at intervals.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{Stream, StreamExt};
use plimsoll_app::{App, AppError, observations::Changes};
use plimsoll_domain::ids::{ContainerId, WatcherRef};
use rand::Rng;
use serde_json::{Value, json};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval_at, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    Watcher,
    inventory::{Depth, InventoryError},
};
use crate::docker::{EngineError, EngineEvent, EventKind};

/// Events of one moment are looked at together: `docker stop` alone makes three.
const SETTLE: Duration = Duration::from_millis(15);
/// How often a listing is compared although no event called for it.
const RESYNC: Duration = Duration::from_secs(60);
/// After an image was pulled, pushed, tagged or removed.
const IMAGES_SETTLE: Duration = Duration::from_secs(1);
/// Discovered containers are checked after the dust has settled, all in one job.
const DISCOVERY_SETTLE: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_secs(1);
const BACKOFF_LAST: Duration = Duration::from_secs(30);
/// A database comes back for everyone at once, and asking it is cheap.
const STORE_BACKOFF: Duration = Duration::from_secs(2);

/// Follows the engine until `shutdown`. Never fails: an engine or a database that is away is waited
/// for.
pub async fn follow(watcher: Watcher, shutdown: CancellationToken) {
    let mut backoff = BACKOFF_FIRST;
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            () = shutdown.cancelled() => return,
            ended = session(&watcher) => ended,
        };
        // A connection that held for a while was a good one: start over with short waits.
        if began.elapsed() > BACKOFF_LAST {
            backoff = BACKOFF_FIRST;
        }
        let reference = watcher.reference();
        let longest = match ended {
            SessionEnd::Engine(error) => {
                tracing::warn!(watcher = %reference, %error, "the engine is away");
                note_disconnected(watcher.app(), reference, &error).await;
                BACKOFF_LAST
            }
            SessionEnd::Inventory(error) => {
                tracing::warn!(watcher = %reference, %error, "the inventory cannot be kept");
                STORE_BACKOFF
            }
        };
        backoff = backoff.min(longest);
        let jitter = rand::rng().random_range(0.8..1.2);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = sleep(backoff.mul_f64(jitter)) => {}
        }
        backoff = (backoff * 2).min(BACKOFF_LAST);
    }
}

enum SessionEnd {
    Engine(EngineError),
    Inventory(InventoryError),
}

impl From<InventoryError> for SessionEnd {
    fn from(error: InventoryError) -> Self {
        match error {
            InventoryError::Engine(error) => Self::Engine(error),
            other => Self::Inventory(other),
        }
    }
}

/// One connection, from the first look to its end.
async fn session(watcher: &Watcher) -> SessionEnd {
    // Before anything is noted of the watcher; the database may have been away until now.
    let configuration = watcher.settings().shown();
    let registered = watcher
        .app()
        .store()
        .register_watcher(watcher.reference(), &configuration)
        .await;
    if let Err(error) = registered {
        return SessionEnd::Inventory(AppError::from(error).into());
    }
    let connect = async {
        let info = watcher.engine().info().await?;
        // Listening begins before the first look, so that nothing falls between the two.
        let kinds = [EventKind::Container, EventKind::Image];
        let events = watcher.engine().events(None, &kinds).await?;
        Ok::<_, EngineError>((info, events))
    };
    let (info, events) = match connect.await {
        Ok(connected) => connected,
        Err(error) => return SessionEnd::Engine(error),
    };
    let pending = Pending::default();
    let (read, write) = (
        read(&pending, events),
        write(watcher, &pending, engine_shown(&info)),
    );
    tokio::select! {
        error = read => SessionEnd::Engine(error),
        Err(error) = write => error.into(),
    }
}

/// Where to look next. Bounded by the number of containers, not of events.
#[derive(Default)]
struct Pending {
    calls: Mutex<HashMap<ContainerId, Call>>,
    images: Mutex<Option<Instant>>,
    wake: Notify,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Call {
    Look,
    Gone,
}

impl Pending {
    fn note(&self, event: &EngineEvent) {
        if event.kind == "image" {
            let mut due = self.images.lock().unwrap_or_else(PoisonError::into_inner);
            due.get_or_insert(Instant::now() + IMAGES_SETTLE);
        } else {
            let Some(call) = call(&event.action) else {
                return;
            };
            let Some(id) = ContainerId::parse(&event.id) else {
                return;
            };
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            match calls.entry(id) {
                // Ids are never used again.
                Entry::Occupied(known) if *known.get() == Call::Gone => {}
                Entry::Occupied(mut known) => {
                    known.insert(call);
                }
                Entry::Vacant(new) => {
                    new.insert(call);
                }
            }
        }
        self.wake.notify_one();
    }

    fn take(&self) -> (Vec<ContainerId>, Vec<ContainerId>) {
        let calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut look, mut gone) = (Vec::new(), Vec::new());
        for (id, call) in calls {
            match call {
                Call::Look => look.push(id),
                Call::Gone => gone.push(id),
            }
        }
        (look, gone)
    }

    fn images_due(&self) -> Option<Instant> {
        *self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn images_done(&self) {
        *self.images.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// Which actions change what we know. Health checks run through `exec_*` every few seconds.
fn call(action: &str) -> Option<Call> {
    match action {
        "destroy" => Some(Call::Gone),
        "create" | "start" | "die" | "stop" | "restart" | "pause" | "unpause" | "rename"
        | "update" | "oom" | "kill" => Some(Call::Look),
        health if health.starts_with("health_status") => Some(Call::Look),
        _ => None,
    }
}

/// Drains the stream, however long a look takes: an engine drops the events of slow listeners.
async fn read(
    pending: &Pending,
    events: impl Stream<Item = Result<EngineEvent, EngineError>>,
) -> EngineError {
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => pending.note(&event),
            Err(error) => return error,
        }
    }
    EngineError::Unreachable {
        engine: "of this watcher".to_owned(),
        message: "the event stream ended".to_owned(),
    }
}

async fn write(
    watcher: &Watcher,
    pending: &Pending,
    engine: Value,
) -> Result<std::convert::Infallible, InventoryError> {
    let inventory = watcher.inventory();
    let mut discovery = Discovery::default();
    inventory.resync(Depth::Everything).await?;
    note_connected(watcher.app(), watcher.reference(), &engine).await;
    let mut resync = interval_at(Instant::now() + RESYNC, RESYNC);
    resync.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let images_due = pending.images_due();
        tokio::select! {
            () = pending.wake.notified() => {
                sleep(SETTLE).await;
                let (look, gone) = pending.take();
                for part in parts(&look, &gone) {
                    discovery.note(&inventory.look(part.0, part.1).await?);
                }
            }
            _ = resync.tick() => {
                discovery.note(&inventory.resync(Depth::ListedWithImages).await?);
                note_connected(watcher.app(), watcher.reference(), &engine).await;
            }
            () = at(images_due) => {
                pending.images_done();
                inventory.forget_images();
                discovery.note(&inventory.resync(Depth::ListedWithImages).await?);
            }
            () = at(discovery.due) => {
                discovery.due = None;
                if watcher.settings().watch_events {
                    watcher.check_unchecked().await;
                }
            }
        }
    }
}

/// At most forty looks at a time, so that the first of a thousand new containers does not wait for
/// the last.
fn parts<'a>(
    look: &'a [ContainerId],
    gone: &'a [ContainerId],
) -> Vec<(&'a [ContainerId], &'a [ContainerId])> {
    if look.is_empty() && gone.is_empty() {
        return Vec::new();
    }
    let mut parts: Vec<_> = look.chunks(40).map(|part| (part, &gone[..0])).collect();
    match parts.first_mut() {
        Some(first) => first.1 = gone,
        None => parts.push((look, gone)),
    }
    parts
}

/// When to check what was discovered.
#[derive(Default)]
struct Discovery {
    due: Option<Instant>,
}

impl Discovery {
    fn note(&mut self, changes: &Changes) {
        if !(changes.added.is_empty() && changes.updated.is_empty()) {
            self.due
                .get_or_insert_with(|| Instant::now() + DISCOVERY_SETTLE);
        }
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn note_connected(app: &App, watcher: &WatcherRef, engine: &Value) {
    if let Err(error) = app.store().watcher_connected(watcher, Some(engine)).await {
        tracing::debug!(%watcher, %error, "the watcher's state is written later");
    }
}

async fn note_disconnected(app: &App, watcher: &WatcherRef, error: &EngineError) {
    let noted = app
        .store()
        .watcher_disconnected(watcher, &error.to_string())
        .await;
    if let Err(error) = noted {
        tracing::debug!(%watcher, %error, "the watcher's state is written later");
    }
}

/// What `GET /api/v1/agents` shows of an engine's host.
fn engine_shown(info: &Value) -> Value {
    json!({
        "version": info["ServerVersion"],
        "os": info["OSType"],
        "operatingSystem": info["OperatingSystem"],
        "arch": info["Architecture"],
        "cpus": info["NCPU"],
        "memoryBytes": info["MemTotal"],
        "images": info["Images"],
        "name": info["Name"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(action: &str, id: char) -> EngineEvent {
        EngineEvent {
            kind: "container".to_owned(),
            action: action.to_owned(),
            id: id.to_string().repeat(64),
            attributes: Default::default(),
            time_nano: 0,
        }
    }

    #[test]
    fn a_destroyed_container_is_not_looked_at_again() {
        let pending = Pending::default();
        for action in ["create", "destroy", "die"] {
            pending.note(&event(action, 'a'));
        }
        pending.note(&event("health_status: healthy", 'b'));
        pending.note(&event("exec_start: sh -c true", 'c'));
        let (look, gone) = pending.take();
        assert_eq!(look, [ContainerId::parse(&"b".repeat(64)).unwrap()]);
        assert_eq!(gone, [ContainerId::parse(&"a".repeat(64)).unwrap()]);
        assert!(pending.take().0.is_empty(), "taken once");
    }

    #[test]
    fn every_call_is_in_exactly_one_part() {
        let ids: Vec<ContainerId> = (0..100)
            .map(|n| ContainerId::parse(&format!("{n:064x}")).unwrap())
            .collect();
        let parts = parts(&ids[..95], &ids[95..]);
        assert_eq!(parts.iter().map(|p| p.0.len()).sum::<usize>(), 95);
        assert_eq!(parts.iter().map(|p| p.1.len()).sum::<usize>(), 5);
        assert_eq!(super::parts(&[], &ids[95..]).len(), 1);
        assert!(super::parts(&[], &[]).is_empty());
    }
}
