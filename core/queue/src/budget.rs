//! One budget per registry for the whole fleet: a rate where the registry has one, and the pauses
//! that a registry asks for (`429`, `Retry-After`, `RateLimit-*`).
//!
//! After a pause one worker probes; the others wait for its result. So a registry that goes on
//! refusing gets one request per window, however many workers there are (reliability.md G1).
//! All times are Redis' own.

use std::{sync::LazyLock, time::Duration};

use redis::Script;

use crate::{Queue, QueueError, registry_cache::malformed};

/// A sustained rate with a burst (generic cell rate algorithm).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    pub burst: u32,
}

/// May a request go out?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Yes, after this wait, which is reserved for it.
    Go(Duration),
    /// Yes, after this wait; and it is the one request that shows whether a pause is really over.
    /// Its result must be reported with `registry_limited` or `registry_lifted`.
    Probe(Duration),
    /// Not yet: ask again after this time.
    AskAgain(Duration),
    /// No: the registry asked for a pause that lasts this much longer.
    Paused(Duration),
}

/// Nobody waits longer than this for a reserved slot; they ask again instead, so that a crashed
/// worker's reservations do not add up.
const MAX_RESERVED: Duration = Duration::from_secs(10);
/// How long a probe may take before another one is allowed.
const PROBE: Duration = Duration::from_secs(15);
/// How often the others look whether the probe has come back.
const PROBE_POLL: Duration = Duration::from_millis(50);
/// The first pause of a registry that says "too many requests" without saying for how long; it
/// doubles while that goes on.
pub const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// The longest pause that we choose ourselves.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

static ADMIT: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local go = 0
local lifts = tonumber(redis.call('HGET', KEYS[1], 'until') or '')
if lifts then
  if now < lifts then return { 3, math.ceil(lifts - now) } end
  if now < tonumber(redis.call('HGET', KEYS[1], 'probe') or '0') then return { 2, tonumber(ARGV[5]) } end
  redis.call('HSET', KEYS[1], 'probe', string.format('%.0f', now + ARGV[4]))
  go = 1
end
local interval = tonumber(ARGV[1])
if interval <= 0 then return { go, 0 } end
local tat = math.max(now, tonumber(redis.call('GET', KEYS[2]) or '0'))
local wait = tat - interval * (ARGV[2] - 1) - now
if wait > tonumber(ARGV[3]) then return { 2, tonumber(ARGV[3]) } end
redis.call('SET', KEYS[2], string.format('%.0f', tat + interval), 'PX', math.ceil((tat + interval - now) / 1000) + 1)
return { go, math.max(0, math.ceil(wait)) }",
    )
});

/// A strike counts once per pause: ten requests that were under way when it began are one strike.
static LIMITED: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local lifts = tonumber(redis.call('HGET', KEYS[1], 'until') or '0')
local wait = tonumber(ARGV[1])
if now >= lifts then
  local strikes = redis.call('HINCRBY', KEYS[1], 'strikes', 1)
  if wait < 0 then wait = math.min(ARGV[2] * 2 ^ math.min(strikes - 1, 20), tonumber(ARGV[3])) end
end
lifts = math.max(lifts, now + wait)
redis.call('HSET', KEYS[1], 'until', string.format('%.0f', lifts), 'probe', '0')
redis.call('PEXPIRE', KEYS[1], math.ceil((lifts - now + tonumber(ARGV[3])) / 1000))
return math.ceil(lifts - now)",
    )
});

pub(crate) fn limited_key(registry: &str) -> String {
    format!("plimsoll:registry:limited:{registry}")
}

fn rate_key(registry: &str) -> String {
    format!("plimsoll:registry:rate:{registry}")
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX / 2)
}

impl Queue {
    /// Asks the fleet's budget for one request to `registry`. `rate` is `None` for registries
    /// without a limit known beforehand.
    pub async fn registry_admit(
        &self,
        registry: &str,
        rate: Option<Rate>,
    ) -> Result<Admission, QueueError> {
        let (interval, burst) = match rate {
            Some(rate) => (1_000_000.0 / rate.per_second.max(0.001), rate.burst.max(1)),
            None => (0.0, 1),
        };
        let mut connection = self.manager();
        let (verdict, wait): (i64, i64) = ADMIT
            .key(limited_key(registry))
            .key(rate_key(registry))
            .arg(interval.round() as u64)
            .arg(burst)
            .arg(micros(MAX_RESERVED))
            .arg(micros(PROBE))
            .arg(micros(PROBE_POLL))
            .invoke_async(&mut connection)
            .await?;
        let wait = Duration::from_micros(u64::try_from(wait).unwrap_or(0));
        match verdict {
            0 => Ok(Admission::Go(wait)),
            1 => Ok(Admission::Probe(wait)),
            2 => Ok(Admission::AskAgain(wait)),
            3 => Ok(Admission::Paused(wait)),
            _ => Err(malformed()),
        }
    }

    /// `registry` refused, or said that nothing is left. `pause` is what it asked for; without it,
    /// one minute, doubling while the refusals go on. Returns how long the pause lasts from now.
    pub async fn registry_limited(
        &self,
        registry: &str,
        pause: Option<Duration>,
    ) -> Result<Duration, QueueError> {
        let mut connection = self.manager();
        let left: i64 = LIMITED
            .key(limited_key(registry))
            .arg(pause.map_or(-1, |p| i64::try_from(micros(p)).unwrap_or(i64::MAX / 2)))
            .arg(micros(FIRST_PAUSE))
            .arg(micros(LONGEST_PAUSE))
            .invoke_async(&mut connection)
            .await?;
        Ok(Duration::from_micros(u64::try_from(left).unwrap_or(0)))
    }

    /// The probe was answered: the pause is over for everyone.
    pub async fn registry_lifted(&self, registry: &str) -> Result<(), QueueError> {
        let mut connection = self.manager();
        redis::cmd("DEL")
            .arg(limited_key(registry))
            .query_async(&mut connection)
            .await
            .map_err(QueueError::from)
    }
}
