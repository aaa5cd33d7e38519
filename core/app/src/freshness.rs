//! A copy of the inventory that is never older than the request it answers.
//!
//! Requests share round trips: one that arrives while a round trip is under way waits for the next,
//! because only a read that starts after the request arrived has seen everything the client may
//! know of. A thousand requests at once cost two reads.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, SubsecRound, Utc};
use plimsoll_domain::view::ViewContext;
use plimsoll_store::{
    Client, Store, StoreError,
    inventory::{self, InventoryDelta, Mark, REMOVED_ROWS_KEPT, StoredContainer},
    stack_directories::{self, DescribedStacks},
};
use tokio::sync::oneshot;

use crate::{
    AppError,
    inventory::{Entry, Inventory},
};

/// A request hears `Unavailable` when Postgres has not answered by then (reliability.md P1).
const DEADLINE: Duration = Duration::from_millis(900);

/// What one read of the database showed.
#[derive(Debug)]
pub struct Snapshot {
    /// Moves with every change to users, sessions and tokens: what was derived from them under the
    /// same number still holds.
    pub access_version: i64,
    pub inventory: Arc<Inventory>,
    /// The database's clock at the read, in whole seconds.
    pub at: DateTime<Utc>,
}

/// Gives out snapshots. Cheap to clone.
#[derive(Clone)]
pub struct Freshness {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    context: ViewContext,
    state: Mutex<State>,
}

struct State {
    waiting: Vec<oneshot::Sender<Outcome>>,
    /// Absent while a task reads with it.
    reader: Option<Reader>,
}

type Outcome = Result<Arc<Snapshot>, Failure>;

/// One failure is told to many.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    Unavailable(String),
    Internal(String),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(why) => Self::Unavailable(why),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<Failure> for AppError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Unavailable(why) => StoreError::Unavailable(why).into(),
            Failure::Internal(why) => AppError::Internal(why),
        }
    }
}

impl Freshness {
    pub fn new(store: Store, context: ViewContext) -> Self {
        Self {
            shared: Arc::new(Shared {
                store,
                context,
                state: Mutex::new(State {
                    waiting: Vec::new(),
                    reader: Some(Reader::default()),
                }),
            }),
        }
    }

    /// The state of the database at some moment after this call.
    ///
    /// # Errors
    /// `Unavailable` when Postgres has not answered within 900 ms.
    pub async fn snapshot(&self) -> Result<Arc<Snapshot>, AppError> {
        let (sender, receiver) = oneshot::channel();
        let idle = {
            let mut state = self.shared.lock();
            state.waiting.push(sender);
            state.reader.take()
        };
        if let Some(reader) = idle {
            // A task of its own: a client that goes away must not take the others' answer along.
            tokio::spawn(Turn::new(self.shared.clone(), reader).run());
        }
        match tokio::time::timeout(DEADLINE, receiver).await {
            Ok(Ok(outcome)) => Ok(outcome?),
            Ok(Err(_)) => Err(AppError::Internal("the inventory reader ended".to_owned())),
            Err(_) => Err(Failure::Unavailable("no answer in time".to_owned()).into()),
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One run of round trips, as long as somebody waits.
struct Turn {
    shared: Arc<Shared>,
    reader: Option<Reader>,
}

impl Turn {
    fn new(shared: Arc<Shared>, reader: Reader) -> Self {
        Self {
            shared,
            reader: Some(reader),
        }
    }

    async fn run(mut self) {
        while let Some(waiting) = self.next_batch() {
            let Some(reader) = self.reader.as_mut() else {
                return;
            };
            let outcome = reader.read(&self.shared).await;
            for sender in waiting {
                // Whoever left does not miss it.
                let _ = sender.send(outcome.clone());
            }
        }
    }

    /// Everybody who arrived before this moment; hands the reader back when that is nobody.
    fn next_batch(&mut self) -> Option<Vec<oneshot::Sender<Outcome>>> {
        let mut state = self.shared.lock();
        if state.waiting.is_empty() {
            state.reader = self.reader.take();
            return None;
        }
        Some(std::mem::take(&mut state.waiting))
    }
}

impl Drop for Turn {
    /// A panic must not leave everybody waiting for a reader that is gone.
    fn drop(&mut self) {
        if self.reader.take().is_some() {
            let mut state = self.shared.lock();
            state.waiting.clear();
            state.reader = Some(Reader::default());
        }
    }
}

/// The connection, and the copy as of the last read.
#[derive(Default)]
struct Reader {
    client: Option<Client>,
    last: Option<Last>,
}

struct Last {
    mark: Mark,
    /// Of what directories describe.
    stacks_version: i64,
    when: Instant,
    snapshot: Arc<Snapshot>,
}

impl Reader {
    async fn read(&mut self, shared: &Shared) -> Outcome {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let held = self.client.is_some();
            let read = tokio::time::timeout_at(deadline, self.read_once(shared)).await;
            if !matches!(read, Ok(Ok(_)))
                && let Some(suspect) = self.client.take()
            {
                Store::discard(suspect);
            }
            match read {
                Ok(Ok(snapshot)) => return Ok(snapshot),
                // A connection that was kept may have died since; a new one settles it.
                Ok(Err(StoreError::Unavailable(_))) if held => {}
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => return Err(Failure::Unavailable("no answer in time".to_owned())),
            }
        }
    }

    async fn read_once(&mut self, shared: &Shared) -> Result<Arc<Snapshot>, StoreError> {
        let client = match &mut self.client {
            Some(client) => client,
            none => none.insert(inventory::connect(&shared.store).await?),
        };
        let now = Instant::now();
        let last = self
            .last
            .as_ref()
            .filter(|last| now - last.when < REMOVED_ROWS_KEPT / 2);
        let nothing = Inventory::default();
        let held = last.map_or(&nothing, |last| &last.snapshot.inventory);
        let rendered = |container: StoredContainer, mark: &Mark| {
            held.render(container, &shared.context, time_of(mark))
        };
        let delta = match last {
            Some(last) => {
                let known = |id: &str, xid| last.snapshot.inventory.has(id, xid);
                inventory::read_changed(client, last.mark, known, rendered).await?
            }
            None => inventory::read_all(client, rendered).await?,
        };
        // Transaction numbers only ever rise: where they do not, this is another database than
        // before, restored from a backup.
        let (delta, last) = match last {
            Some(last) if delta.mark.xmin < last.mark.xmin => {
                (inventory::read_all(client, rendered).await?, None)
            }
            last => (delta, last),
        };
        let known = last.map_or(0, |last| last.stacks_version);
        let stacks = match delta.mark.stacks_version == known {
            true => None,
            false => Some(stack_directories::read(client).await?),
        };
        let before = last.map(|last| (last.stacks_version, last.snapshot.clone()));
        Ok(self.keep(shared, delta, stacks, before, now))
    }

    fn keep(
        &mut self,
        shared: &Shared,
        delta: InventoryDelta<Arc<Entry>>,
        stacks: Option<DescribedStacks>,
        before: Option<(i64, Arc<Snapshot>)>,
        when: Instant,
    ) -> Arc<Snapshot> {
        let (mut stacks_version, before) = before.unzip();
        let mark = delta.mark;
        let at = time_of(&mark);
        let inventory = match &before {
            Some(before) => before
                .inventory
                .updated(delta, &shared.context, before.at, at),
            None => Some(Inventory::new(delta.changed)),
        };
        let inventory = match stacks {
            Some(stacks) => {
                stacks_version = Some(stacks.version);
                let held = before.as_ref().map(|before| &*before.inventory);
                let inventory = inventory.as_ref().or(held);
                inventory.map(|inventory| inventory.beside(stacks.stacks.into()))
            }
            None => inventory,
        };
        let snapshot = match (inventory, before) {
            (None, Some(before))
                if before.at == at && before.access_version == mark.access_version =>
            {
                before
            }
            (inventory, before) => Arc::new(Snapshot {
                access_version: mark.access_version,
                inventory: match (inventory, before) {
                    (None, Some(before)) => before.inventory.clone(),
                    (inventory, _) => Arc::new(inventory.unwrap_or_default()),
                },
                at,
            }),
        };
        self.last = Some(Last {
            mark,
            stacks_version: stacks_version.unwrap_or_default(),
            when,
            snapshot: snapshot.clone(),
        });
        snapshot
    }
}

/// What a snapshot says about time is as of this.
fn time_of(mark: &Mark) -> DateTime<Utc> {
    mark.read_at.trunc_subsecs(0)
}
