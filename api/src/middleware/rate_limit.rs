//! Rate limits (reference/drydock.md 1.1), shared by all replicas through Redis.
//!
//! For large limits a replica takes a fiftieth of the bucket at a time and hands it out itself, so
//! a busy client does not cost a round trip per request. While Redis is away each replica counts
//! alone and allows half: fewer requests than promised to one replica, not more in sum to two.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use plimsoll_app::{
    Queue,
    access::Presented,
    queue::limits::{Grant, RateLimit},
};
use plimsoll_domain::access::Principal;
use poem::http::{HeaderMap, HeaderValue, StatusCode};

use super::context::RequestContext;
use crate::{ApiSettings, ApiState, RateLimitKey, drydock::error::ApiError};

pub const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Cells that were taken and not used within this time are given up.
const LEASE: Duration = Duration::from_secs(10);
/// After Redis failed, it is not asked for this long.
const REDIS_PAUSE: Duration = Duration::from_secs(1);
/// Keys that are asked for at the same time.
const TURNS: usize = 64;
/// What clocks and roundings may differ by.
const SLACK: Duration = Duration::from_millis(1);
/// Keys that one replica remembers.
const MAX_KEYS: usize = 10_000;

/// What is limited, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Short and unique: part of the shared key.
    pub name: &'static str,
    /// 0: unlimited.
    pub max: u32,
    pub window: Duration,
}

/// The outcome for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub allowed: bool,
    limit: u32,
    remaining: u32,
    window: Duration,
    reset: Duration,
    wait: Duration,
}

pub struct Limiter {
    queue: Queue,
    api: Scope,
    auth: Scope,
    webhook: Scope,
    /// Deliveries of registries whose credential is wrong.
    pub unproven: Scope,
    token: Scope,
    socket: Scope,
    buckets: Mutex<HashMap<String, Bucket>>,
    redis_paused_until: Mutex<Option<Instant>>,
    /// Who asks Redis, by key.
    turns: [tokio::sync::Mutex<()>; TURNS],
}

/// What this replica holds of one shared bucket.
struct Bucket {
    cells: u32,
    left: u32,
    full_at: Instant,
    lease_ends: Instant,
    refused_until: Option<Instant>,
    /// Full again at this time, counted by this replica alone.
    alone_full_at: Instant,
}

impl Limiter {
    pub fn new(queue: Queue, settings: &ApiSettings) -> Self {
        let scope = |name, max| Scope {
            name,
            max,
            window: WINDOW,
        };
        Self {
            queue,
            api: scope("api", settings.rate_limit_max),
            auth: scope("auth", settings.rate_limit_auth_max),
            webhook: scope("webhook", settings.rate_limit_webhook_max),
            unproven: scope(
                "unproven",
                settings.rate_limit_webhook_max.saturating_mul(2),
            ),
            token: scope("token", settings.rate_limit_token_max),
            socket: scope("socket", settings.rate_limit_socket_max),
            buckets: Mutex::default(),
            redis_paused_until: Mutex::default(),
            turns: std::array::from_fn(|_| tokio::sync::Mutex::default()),
        }
    }

    /// Counts one request of `key`. `None`: the scope is unlimited.
    pub async fn take(&self, scope: Scope, key: &str) -> Option<Verdict> {
        if scope.max == 0 {
            return None;
        }
        let limit = RateLimit {
            max: scope.max,
            window: scope.window,
        };
        let key = format!("{}:{key}", scope.name);
        let now = Instant::now();
        if let Some(verdict) = self.take_held(&key, scope, now) {
            return Some(verdict);
        }
        // One at a time for each key: a burst would otherwise take every cell that there is, many
        // times more than it needs, and be refused for it.
        let _turn = self.turns[shard(&key)].lock().await;
        if let Some(verdict) = self.take_held(&key, scope, now) {
            return Some(verdict);
        }
        if self.redis_is_paused(now) {
            return Some(self.take_alone(&key, scope, limit, now));
        }
        match self
            .queue
            .take_rate(&key, limit, (scope.max / 50).max(1))
            .await
        {
            Ok(grant) => Some(self.hold(key, scope, grant, now)),
            Err(error) => {
                tracing::warn!(%error, "rate limits are counted by this replica alone");
                *lock(&self.redis_paused_until) = Some(now + REDIS_PAUSE);
                Some(self.take_alone(&key, scope, limit, now))
            }
        }
    }

    /// The refusal, if `key` has used up what it may. Counts nothing.
    pub fn refused(&self, scope: Scope, key: &str) -> Option<Verdict> {
        if scope.max == 0 {
            return None;
        }
        let limit = RateLimit {
            max: scope.max,
            window: scope.window,
        };
        let cell = alone_cell(limit);
        let now = Instant::now();
        let buckets = lock(&self.buckets);
        let bucket = buckets.get(&format!("{}:{key}", scope.name))?;
        let held = bucket
            .refused_until
            .and_then(|until| until.checked_duration_since(now));
        let alone =
            || (bucket.alone_full_at.max(now) + cell - now).checked_sub(limit.window + SLACK);
        let wait = held.or_else(alone)?;
        Some(bucket.verdict(scope, now, Some(wait)))
    }

    fn redis_is_paused(&self, now: Instant) -> bool {
        lock(&self.redis_paused_until).is_some_and(|until| until > now)
    }

    /// From the cells that this replica has taken already, or its knowledge that there are none.
    fn take_held(&self, key: &str, scope: Scope, now: Instant) -> Option<Verdict> {
        let mut buckets = lock(&self.buckets);
        let bucket = buckets.get_mut(key)?;
        if let Some(until) = bucket.refused_until.filter(|until| *until > now) {
            return Some(bucket.verdict(scope, now, Some(until - now)));
        }
        if bucket.lease_ends <= now || bucket.cells == 0 {
            return None;
        }
        bucket.cells -= 1;
        Some(bucket.verdict(scope, now, None))
    }

    fn hold(&self, key: String, scope: Scope, grant: Grant, now: Instant) -> Verdict {
        let mut buckets = lock(&self.buckets);
        let bucket = entry(&mut buckets, key, now);
        bucket.full_at = now + grant.full_in;
        bucket.left = grant.left;
        if grant.granted == 0 {
            // Long waits are asked again each second: another replica may have been wrong.
            bucket.refused_until = Some(now + grant.wait.min(Duration::from_secs(1)));
            bucket.cells = 0;
            return bucket.verdict(scope, now, Some(grant.wait));
        }
        // Several requests may have fetched at once: what each got adds up.
        bucket.cells = if bucket.lease_ends > now {
            bucket.cells
        } else {
            0
        } + grant.granted
            - 1;
        bucket.lease_ends = now + LEASE;
        bucket.refused_until = None;
        bucket.verdict(scope, now, None)
    }

    fn take_alone(&self, key: &str, scope: Scope, limit: RateLimit, now: Instant) -> Verdict {
        let cell = alone_cell(limit);
        let mut buckets = lock(&self.buckets);
        let bucket = entry(&mut buckets, key.to_owned(), now);
        let full_at = bucket.alone_full_at.max(now) + cell;
        let over = (full_at - now).checked_sub(limit.window + SLACK);
        if over.is_none() {
            bucket.alone_full_at = full_at;
        }
        bucket.full_at = bucket.alone_full_at;
        bucket.cells = 0;
        bucket.left = (limit
            .window
            .saturating_sub(bucket.full_at.saturating_duration_since(now)))
        .as_micros()
        .checked_div(cell.as_micros())
        .unwrap_or(0) as u32;
        bucket.verdict(scope, now, over)
    }
}

impl Bucket {
    fn verdict(&self, scope: Scope, now: Instant, refused: Option<Duration>) -> Verdict {
        Verdict {
            allowed: refused.is_none(),
            limit: scope.max,
            remaining: if refused.is_some() {
                0
            } else {
                self.left.saturating_add(self.cells)
            },
            window: scope.window,
            reset: self.full_at.saturating_duration_since(now),
            wait: refused.unwrap_or_default(),
        }
    }
}

impl Verdict {
    /// `RateLimit-*`, as express-rate-limit writes them.
    pub fn describe(&self, headers: &mut HeaderMap) {
        let window = self.window.as_secs();
        if let Ok(policy) = HeaderValue::from_str(&format!("{};w={window}", self.limit)) {
            headers.insert("ratelimit-policy", policy);
        }
        headers.insert("ratelimit-limit", HeaderValue::from(self.limit));
        headers.insert("ratelimit-remaining", HeaderValue::from(self.remaining));
        headers.insert("ratelimit-reset", HeaderValue::from(seconds(self.reset)));
    }

    pub fn refusal(&self) -> ApiError {
        let mut refusal = ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "Too many requests, please try again later",
        );
        refusal.limit = Some(Box::new(*self));
        refusal.with_retry_after(self.wait)
    }
}

/// A replica that counts alone allows half.
fn alone_cell(limit: RateLimit) -> Duration {
    Duration::from_micros(limit.cell_micros() * 2)
}

fn shard(key: &str) -> usize {
    let mut hasher = std::hash::DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish() as usize % TURNS
}

fn seconds(duration: Duration) -> u64 {
    duration.as_millis().div_ceil(1000) as u64
}

/// The limit that a request falls under, if any, and its verdict.
pub async fn check(path: &str, state: &ApiState, context: &RequestContext) -> Option<Verdict> {
    let limiter = &state.limiter;
    let address = context.client.to_string();
    if path.starts_with("/auth/") || path == "/api/v1/auth/methods" {
        return limiter.take(limiter.auth, &address).await;
    }
    let rest = path.strip_prefix("/api/v1/")?;
    if rest == "webhooks/registry" {
        return limiter.refused(limiter.unproven, &address);
    }
    if rest.starts_with("webhook/") {
        return limiter.take(limiter.webhook, &address).await;
    }
    if rest == "log/stream" || rest.ends_with("/logs/stream") {
        let by_identity = state.settings.rate_limit_key == RateLimitKey::Identity;
        let key = match known(state, context).filter(|_| by_identity) {
            Some(principal) => format!("user:{}", principal.name()),
            None => address,
        };
        return limiter.take(limiter.socket, &key).await;
    }
    by_caller(state, context).await
}

/// The limit that every request falls under that none is set for, shared by all dialects.
pub async fn by_caller(state: &ApiState, context: &RequestContext) -> Option<Verdict> {
    let limiter = &state.limiter;
    match (&context.presented, known(state, context)) {
        (Presented::Token(digest), Some(_)) => limiter.take(limiter.token, &digest.short()).await,
        (_, Some(principal)) => {
            limiter
                .take(limiter.api, &format!("user:{}", principal.name()))
                .await
        }
        (_, None) => limiter.take(limiter.api, &context.client.to_string()).await,
    }
}

/// A credential that is known to be good chooses its own bucket. One that is not known yet is
/// counted by address, so that guessing is limited.
fn known(state: &ApiState, context: &RequestContext) -> Option<Arc<Principal>> {
    match (&context.presented, state.settings.rate_limit_key) {
        (Presented::Token(_), _) | (_, RateLimitKey::Identity) => {
            state.app.recently_seen(&context.presented)
        }
        _ => None,
    }
}

fn entry(buckets: &mut HashMap<String, Bucket>, key: String, now: Instant) -> &mut Bucket {
    if buckets.len() >= MAX_KEYS && !buckets.contains_key(&key) {
        buckets.retain(|_, bucket| bucket.lease_ends > now || bucket.alone_full_at > now);
        if buckets.len() >= MAX_KEYS {
            // Forgetting loses cells, which only makes a limit stricter while Redis counts.
            buckets.clear();
        }
    }
    buckets.entry(key).or_insert(Bucket {
        cells: 0,
        left: 0,
        full_at: now,
        lease_ends: now,
        refused_until: None,
        alone_full_at: now,
    })
}

/// A panic elsewhere does not make a limit unusable.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;

    use super::*;

    const SCOPE: Scope = Scope {
        name: "test",
        max: 100,
        window: Duration::from_secs(900),
    };

    fn without_redis() -> Limiter {
        let url = SecretString::from("redis://127.0.0.1:1".to_owned());
        Limiter::new(Queue::new(&url).unwrap(), &ApiSettings::default())
    }

    #[tokio::test]
    async fn without_redis_a_replica_allows_half_and_then_refuses() {
        let limiter = without_redis();
        let mut allowed = 0;
        let mut last = None;
        for _ in 0..100 {
            let verdict = limiter.take(SCOPE, "1.2.3.4").await.unwrap();
            allowed += u32::from(verdict.allowed);
            last = Some(verdict);
        }
        assert!((49..=51).contains(&allowed), "{allowed}");
        let refusal = last.unwrap().refusal();
        assert_eq!(refusal.status, 429);
        assert!(refusal.retry_after.unwrap() > Duration::ZERO);
    }

    #[tokio::test]
    async fn one_clients_requests_do_not_count_for_another() {
        let limiter = without_redis();
        for _ in 0..60 {
            limiter.take(SCOPE, "1.1.1.1").await;
        }
        assert!(!limiter.take(SCOPE, "1.1.1.1").await.unwrap().allowed);
        assert!(limiter.take(SCOPE, "2.2.2.2").await.unwrap().allowed);
    }

    #[tokio::test]
    async fn what_is_used_up_is_known_without_being_counted() {
        let limiter = without_redis();
        assert_eq!(limiter.refused(SCOPE, "x"), None);
        while limiter.take(SCOPE, "x").await.unwrap().allowed {
            assert_eq!(limiter.refused(SCOPE, "y"), None);
        }
        assert!(!limiter.refused(SCOPE, "x").unwrap().allowed);
    }

    #[tokio::test]
    async fn a_limit_of_zero_limits_nothing() {
        let unlimited = Scope { max: 0, ..SCOPE };
        assert_eq!(without_redis().take(unlimited, "x").await, None);
    }

    #[test]
    fn cells_taken_at_once_are_handed_out_and_then_fetched_again() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _guard = runtime.enter();
        let limiter = without_redis();
        let now = Instant::now();
        let grant = Grant {
            granted: 3,
            left: 7,
            full_in: Duration::from_secs(9),
            wait: Duration::ZERO,
        };
        assert_eq!(limiter.hold("k".into(), SCOPE, grant, now).remaining, 9);
        assert_eq!(limiter.take_held("k", SCOPE, now).unwrap().remaining, 8);
        assert_eq!(limiter.take_held("k", SCOPE, now).unwrap().remaining, 7);
        assert_eq!(limiter.take_held("k", SCOPE, now), None);
        limiter.hold("k".into(), SCOPE, grant, now);
        assert_eq!(limiter.take_held("k", SCOPE, now + LEASE), None);
    }
}
