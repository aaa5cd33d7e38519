//! Whether a request to a registry may go out: the fleet's budget in Redis, and the same rules in
//! this process for the time that Redis is away.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use plimsoll_app::queue::{
    Queue,
    budget::{Admission, FIRST_PAUSE, LONGEST_PAUSE, Rate, rate_of},
};

/// Longest wait for a turn: a fleet that asks for more than its budget allows gets
/// [`super::RegistryError::RateLimited`] instead of a queue without end.
const PATIENCE: Duration = Duration::from_secs(600);
/// After a failed call, how long Redis is not asked.
const REDIS_REST: Duration = Duration::from_secs(1);

/// Redis, with a memory of its absence: a request does not wait for it again and again.
pub(super) struct Shared {
    queue: Option<Queue>,
    started: Instant,
    /// Milliseconds since `started` until which Redis is not asked.
    rests_until: AtomicI64,
}

impl Shared {
    pub(super) fn new(queue: Option<Queue>) -> Self {
        Self {
            queue,
            started: Instant::now(),
            rests_until: AtomicI64::new(0),
        }
    }

    fn elapsed(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    /// Runs one command within the deadline; `None` when Redis is absent or away.
    pub(super) async fn ask<T, F>(&self, call: impl FnOnce(Queue) -> F) -> Option<T>
    where
        F: Future<Output = Result<T, plimsoll_app::queue::QueueError>>,
    {
        let queue = self.queue.as_ref()?;
        if self.elapsed() < self.rests_until.load(Ordering::Relaxed) {
            return None;
        }
        let answer = tokio::time::timeout(plimsoll_app::queue::DEADLINE, call(queue.clone())).await;
        let failure = match answer {
            Ok(Ok(value)) => return Some(value),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        let rest = i64::try_from(REDIS_REST.as_millis()).unwrap_or(1000);
        self.rests_until
            .store(self.elapsed() + rest, Ordering::Relaxed);
        tracing::debug!(%failure, "registry checks go on without Redis");
        None
    }
}

/// One registry's budget as this process sees it.
pub(super) struct Budget {
    registry: String,
    rate: Option<Rate>,
    /// The registry has limited us and nobody has shown yet that it is over: every request asks.
    limited: AtomicBool,
    local: Mutex<Local>,
}

#[derive(Default)]
struct Local {
    paused_until: Option<Instant>,
    probe_until: Option<Instant>,
    strikes: u32,
    /// GCRA's theoretical arrival time.
    next: Option<Instant>,
}

/// The right to send one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permit {
    Ordinary,
    /// Its result ends the pause or prolongs it: [`Budget::lifted`] or [`Budget::limited`].
    Probe,
}

impl Budget {
    pub(super) fn new(registry: &str) -> Self {
        Self {
            registry: registry.to_owned(),
            rate: rate_of(registry),
            limited: AtomicBool::new(false),
            local: Mutex::default(),
        }
    }

    /// How many questions are looked up and claimed at once: as many as can be asked soon.
    pub(super) fn batch(&self) -> usize {
        self.rate.map_or(500, |rate| rate.burst as usize)
    }

    /// The fleet knows of a pause, or of one that has just ended.
    pub(super) fn heard_of_pause(&self, left: Duration) {
        self.limited.store(true, Ordering::Relaxed);
        self.local().pause_for(left);
    }

    /// Waits for a turn. `Err`: the registry wants to be left alone until then.
    pub(super) async fn admit(&self, shared: &Shared) -> Result<Permit, DateTime<Utc>> {
        let patience = Instant::now() + PATIENCE;
        loop {
            let (permit, wait) = match self.ask(shared).await {
                Admission::Go(wait) => (Some(Permit::Ordinary), wait),
                Admission::Probe(wait) => (Some(Permit::Probe), wait),
                Admission::AskAgain(wait) => (None, wait),
                Admission::Paused(left) => return Err(from_now(left)),
            };
            if Instant::now() + wait > patience {
                return Err(from_now(wait));
            }
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            match permit {
                // The pause may have begun while this one waited for its turn.
                Some(Permit::Ordinary) if !wait.is_zero() => {
                    let left = self.local().paused_for(Instant::now());
                    return match left {
                        Some(left) => Err(from_now(left)),
                        None => Ok(Permit::Ordinary),
                    };
                }
                Some(permit) => return Ok(permit),
                None => {}
            }
        }
    }

    async fn ask(&self, shared: &Shared) -> Admission {
        if let Some(left) = self.local().paused_for(Instant::now()) {
            return Admission::Paused(left);
        }
        let limited = self.limited.load(Ordering::Relaxed);
        if self.rate.is_none() && !limited {
            return Admission::Go(Duration::ZERO);
        }
        let answer = shared
            .ask(|queue| async move { queue.registry_admit(&self.registry, self.rate).await })
            .await;
        match answer {
            Some(Admission::Go(wait)) => {
                // No record of a pause: someone's probe went well, or the record was flushed after
                // its time.
                self.limited.store(false, Ordering::Relaxed);
                self.local().lifted();
                Admission::Go(wait)
            }
            Some(Admission::Paused(left)) => {
                self.heard_of_pause(left);
                Admission::Paused(left)
            }
            Some(other) => other,
            None => self.local().admit(self.rate, Instant::now()),
        }
    }

    /// The registry refused. Returns when it may be asked again.
    pub(super) async fn limited(&self, shared: &Shared, pause: Option<Duration>) -> DateTime<Utc> {
        self.limited.store(true, Ordering::Relaxed);
        let mut left = self.local().limited(pause, Instant::now());
        let fleet = shared
            .ask(|queue| async move { queue.registry_limited(&self.registry, pause).await })
            .await;
        if let Some(fleet) = fleet {
            left = left.max(fleet);
            self.local().pause_for(fleet);
        }
        from_now(left)
    }

    /// A probe came back without a refusal.
    pub(super) async fn lifted(&self, shared: &Shared) {
        self.local().lifted();
        let told = shared
            .ask(|queue| async move { queue.registry_lifted(&self.registry).await })
            .await;
        if told.is_some() {
            self.limited.store(false, Ordering::Relaxed);
        }
    }

    fn local(&self) -> std::sync::MutexGuard<'_, Local> {
        self.local.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Local {
    fn paused_for(&self, now: Instant) -> Option<Duration> {
        let left = self.paused_until?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    fn pause_for(&mut self, left: Duration) {
        let until = Instant::now() + left;
        self.paused_until = Some(self.paused_until.map_or(until, |known| known.max(until)));
    }

    fn limited(&mut self, pause: Option<Duration>, now: Instant) -> Duration {
        if self.paused_for(now).is_none() {
            self.strikes += 1;
        }
        let doubled = FIRST_PAUSE * 2u32.pow(self.strikes.saturating_sub(1).min(6));
        let wait = match (pause, self.paused_for(now)) {
            (Some(pause), _) => pause,
            (None, Some(left)) => left,
            (None, None) => doubled.min(LONGEST_PAUSE),
        };
        self.probe_until = None;
        self.pause_for(wait);
        self.paused_for(now).unwrap_or_default()
    }

    fn lifted(&mut self) {
        self.paused_until = None;
        self.probe_until = None;
        self.strikes = 0;
    }

    fn admit(&mut self, rate: Option<Rate>, now: Instant) -> Admission {
        let mut probe = false;
        if self.paused_until.is_some() {
            if let Some(left) = self.paused_for(now) {
                return Admission::Paused(left);
            }
            if self.probe_until.is_some_and(|until| now < until) {
                return Admission::AskAgain(Duration::from_millis(50));
            }
            self.probe_until = Some(now + Duration::from_secs(15));
            probe = true;
        }
        let mut wait = Duration::ZERO;
        if let Some(rate) = rate {
            let interval = Duration::from_secs_f64(1.0 / rate.per_second.max(0.001));
            let next = self.next.map_or(now, |next| next.max(now));
            wait = (next - now).saturating_sub(interval * rate.burst.saturating_sub(1));
            self.next = Some(next + interval);
        }
        if probe {
            Admission::Probe(wait)
        } else {
            Admission::Go(wait)
        }
    }
}

fn from_now(left: Duration) -> DateTime<Utc> {
    Utc::now() + chrono::Duration::from_std(left).unwrap_or(chrono::Duration::days(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_redis_a_burst_passes_and_the_rest_is_spread() {
        let mut local = Local::default();
        let now = Instant::now();
        let rate = Rate {
            per_second: 2.0,
            burst: 3,
        };
        let waits: Vec<_> = (0..5).map(|_| local.admit(Some(rate), now)).collect();
        let go = |ms| Admission::Go(Duration::from_millis(ms));
        assert_eq!(waits, [go(0), go(0), go(0), go(500), go(1000)]);
    }

    #[test]
    fn without_redis_one_probe_follows_a_pause() {
        let mut local = Local::default();
        let now = Instant::now();
        local.limited(Some(Duration::from_secs(5)), now);
        assert!(matches!(local.admit(None, now), Admission::Paused(_)));
        let later = now + Duration::from_secs(6);
        assert_eq!(local.admit(None, later), Admission::Probe(Duration::ZERO));
        assert!(matches!(local.admit(None, later), Admission::AskAgain(_)));
        local.lifted();
        assert_eq!(local.admit(None, later), Admission::Go(Duration::ZERO));
    }

    #[test]
    fn refusals_without_a_time_pause_longer_each_time() {
        let mut local = Local::default();
        let now = Instant::now();
        let first = local.limited(None, now);
        assert!(
            first > Duration::from_secs(58) && first <= Duration::from_secs(61),
            "{first:?}"
        );
        // Under way when the pause began: not a second strike.
        assert!(local.limited(None, now) <= Duration::from_secs(61));
        local.paused_until = Some(now);
        let second = local.limited(None, now);
        assert!(second > Duration::from_secs(110), "{second:?}");
    }
}
