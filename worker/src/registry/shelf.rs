//! Answers of this process: a short memory, and one flight per question.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::{Freshness, error::RegistryError};

/// How long an answer is of use to anyone.
pub(super) const KEEP: chrono::Duration = chrono::Duration::minutes(10);
/// What all remembered answers may weigh together.
const MAX_WEIGHT: usize = 32 * 1024 * 1024;

/// An answer, and when its fetch began (not later).
#[derive(Clone, Debug)]
pub struct Dated<A> {
    pub answer: A,
    pub begun: DateTime<Utc>,
}

type Outcome<A> = Result<Dated<A>, RegistryError>;

pub(super) struct Shelf<A> {
    inner: Arc<Mutex<Inner<A>>>,
}

impl<A> Clone for Shelf<A> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

struct Inner<A> {
    answers: HashMap<String, (Dated<A>, usize)>,
    weight: usize,
    flights: HashMap<String, watch::Receiver<Option<Outcome<A>>>>,
}

/// What to do about a question.
pub(super) enum Begin<A> {
    Known(Dated<A>),
    /// This caller finds out.
    Mine(Flight<A>),
    /// Another caller is finding out.
    Joined(watch::Receiver<Option<Outcome<A>>>),
}

/// Held while finding out; whoever waits is told the outcome, or that there is none.
pub(super) struct Flight<A> {
    shelf: Shelf<A>,
    key: String,
    tell: watch::Sender<Option<Outcome<A>>>,
}

impl<A: Clone> Shelf<A> {
    pub(super) fn new() -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                answers: HashMap::new(),
                weight: 0,
                flights: HashMap::new(),
            })),
        }
    }

    pub(super) fn begin(&self, key: &str, freshness: Freshness) -> Begin<A> {
        let mut inner = self.lock();
        if let Some((dated, _)) = inner.answers.get(key)
            && freshness.accepts(dated.begun, Utc::now())
        {
            return Begin::Known(dated.clone());
        }
        if let Some(flight) = inner.flights.get(key) {
            return Begin::Joined(flight.clone());
        }
        let (tell, hear) = watch::channel(None);
        inner.flights.insert(key.to_owned(), hear);
        Begin::Mine(Flight {
            shelf: self.clone(),
            key: key.to_owned(),
            tell,
        })
    }

    fn put(&self, key: &str, dated: Dated<A>, weight: usize) {
        let now = Utc::now();
        let mut guard = self.lock();
        let inner = &mut *guard;
        if let Some((_, old)) = inner.answers.remove(key) {
            inner.weight -= old;
        }
        if inner.weight + weight > MAX_WEIGHT {
            let lost = &mut inner.weight;
            inner.answers.retain(|_, (dated, weight)| {
                let keep = now - dated.begun < KEEP;
                if !keep {
                    *lost -= *weight;
                }
                keep
            });
        }
        if inner.weight + weight <= MAX_WEIGHT {
            inner.weight += weight;
            inner.answers.insert(key.to_owned(), (dated, weight));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<A>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Clone> Flight<A> {
    /// Ends the flight: the answer is remembered, and those who wait hear the outcome.
    pub(super) fn land(self, outcome: Outcome<A>, weight: usize) {
        if let Ok(dated) = &outcome {
            self.shelf.put(&self.key, dated.clone(), weight);
        }
        self.tell.send_replace(Some(outcome));
    }
}

impl<A> Drop for Flight<A> {
    fn drop(&mut self) {
        let mut inner = self
            .shelf
            .inner
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        inner.flights.remove(&self.key);
    }
}
