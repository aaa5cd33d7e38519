//! Work that is done once for all who ask for the same at the same time: for each of them it begins
//! after they asked.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// Keys that are remembered while nobody asks for them.
const IDLE: usize = 1024;

/// One turn at a time for each key. Somebody who is gone in the middle of theirs leaves the work to
/// the next.
#[derive(Debug)]
pub struct Turns<K, V> {
    slots: Mutex<HashMap<K, Arc<Slot<V>>>>,
}

#[derive(Debug)]
struct Slot<V> {
    /// Turns that have begun.
    begun: AtomicU64,
    /// The number of the last one that ended, and what came of it.
    ended: tokio::sync::Mutex<Option<(u64, V)>>,
}

impl<K, V> Default for Turns<K, V> {
    fn default() -> Self {
        Self {
            slots: Mutex::default(),
        }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Turns<K, V> {
    /// What `work` came to, done by this call or by another that began after this one was made.
    pub async fn take(&self, key: &K, work: impl Future<Output = V>) -> V {
        let slot = self.slot(key);
        let asked = slot.begun.load(Ordering::SeqCst);
        let mut ended = slot.ended.lock().await;
        if let Some((turn, value)) = &*ended
            && *turn > asked
        {
            return value.clone();
        }
        let turn = slot.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let value = work.await;
        *ended = Some((turn, value.clone()));
        value
    }

    fn slot(&self, key: &K) -> Arc<Slot<V>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= IDLE && !slots.contains_key(key) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        let slot = slots.entry(key.clone()).or_insert_with(|| {
            Arc::new(Slot {
                begun: AtomicU64::new(0),
                ended: tokio::sync::Mutex::new(None),
            })
        });
        slot.clone()
    }
}

#[cfg(test)]
mod tests {
    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Lets `asked` requests come while the first one works.
    async fn storm(asked: usize) -> (u64, Vec<u64>) {
        let (turns, works, gate) = (Turns::default(), AtomicU64::new(0), Semaphore::new(0));
        let ask = || {
            turns.take(&"key", async {
                let number = works.fetch_add(1, Ordering::SeqCst) + 1;
                let _ = gate.acquire().await;
                number
            })
        };
        let open = async {
            tokio::task::yield_now().await;
            gate.add_permits(asked);
            0
        };
        let all = (0..asked).map(|_| ask());
        let (values, _) = tokio::join!(join_all(all), open);
        (works.load(Ordering::SeqCst), values)
    }

    #[tokio::test]
    async fn those_who_come_during_a_turn_share_the_next_one() {
        let (works, values) = storm(1000).await;
        assert_eq!(works, 2, "one for the first, one for all others");
        assert_eq!(values[0], 1);
        assert!(values[1..].iter().all(|value| *value == 2));
    }

    #[tokio::test]
    async fn who_comes_later_has_a_turn_of_their_own() {
        let turns = Turns::default();
        for number in 0..3 {
            assert_eq!(turns.take(&(), async { number }).await, number);
        }
    }

    #[tokio::test]
    async fn who_leaves_in_the_middle_keeps_nobody_waiting() {
        let turns: Turns<(), u8> = Turns::default();
        let left = turns.take(&(), std::future::pending());
        assert!(futures::FutureExt::now_or_never(left).is_none());
        assert_eq!(turns.take(&(), async { 7 }).await, 7);
    }
}
