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

/// Docker Hub and GHCR throttle by address; the others are only kept to ten connections.
pub const RATED: [(&str, Rate); 2] = [("docker.io", RATE), ("ghcr.io", RATE)];
const RATE: Rate = Rate {
    per_second: 2.0,
    burst: 10,
};

/// The rate of a registry that has one.
pub fn rate_of(registry: &str) -> Option<Rate> {
    let found = RATED.iter().find(|(rated, _)| *rated == registry);
    found.map(|(_, rate)| *rate)
}

/// What the fleet may still ask of a registry.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    pub registry: String,
    /// Requests that could go out at once; `None` where there is no rate.
    pub left: Option<f64>,
    /// How much longer it wants to be left alone.
    pub paused: Duration,
}

/// Pauses that are shown; more registries than these are never paused at once by accident.
const MOST_PAUSES: usize = 50;

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
redis.call('ZADD', KEYS[2], lifts, ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
return math.ceil(lifts - now)",
    )
});

pub(crate) fn limited_key(registry: &str) -> String {
    format!("plimsoll:registry:limited:{registry}")
}

/// Registries by the end of their pauses, for those who want to see all of them.
const PAUSES: &str = "plimsoll:registry:pauses";

fn rate_key(registry: &str) -> String {
    format!("plimsoll:registry:rate:{registry}")
}

/// `ahead`: how many seconds after now the next request would be due at the sustained rate.
fn left(rate: Rate, ahead: f64) -> f64 {
    let burst = f64::from(rate.burst);
    (burst - (ahead.max(0.0) * rate.per_second))
        .floor()
        .clamp(0.0, burst)
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
            .key(PAUSES)
            .arg(pause.map_or(-1, |p| i64::try_from(micros(p)).unwrap_or(i64::MAX / 2)))
            .arg(micros(FIRST_PAUSE))
            .arg(micros(LONGEST_PAUSE))
            .arg(registry)
            .invoke_async(&mut connection)
            .await?;
        Ok(Duration::from_micros(u64::try_from(left).unwrap_or(0)))
    }

    /// The probe was answered: the pause is over for everyone.
    pub async fn registry_lifted(&self, registry: &str) -> Result<(), QueueError> {
        let mut connection = self.manager();
        redis::pipe()
            .del(limited_key(registry))
            .ignore()
            .zrem(PAUSES, registry)
            .ignore()
            .query_async(&mut connection)
            .await
            .map_err(QueueError::from)
    }

    /// What is left of every budget that there is, and every pause, in one round trip.
    pub async fn registry_budgets(&self) -> Result<Vec<Budget>, QueueError> {
        let mut connection = self.manager();
        let mut pipe = redis::pipe();
        pipe.cmd("TIME");
        for (registry, _) in RATED {
            pipe.get(rate_key(registry));
        }
        pipe.cmd("ZREVRANGE")
            .arg(PAUSES)
            .arg(0)
            .arg(MOST_PAUSES - 1)
            .arg("WITHSCORES");
        type Answer = ((f64, f64), Option<f64>, Option<f64>, Vec<(String, f64)>);
        let ((seconds, micros), hub, ghcr, pauses): Answer =
            pipe.query_async(&mut connection).await?;
        let now = seconds * 1e6 + micros;
        let mut budgets: Vec<Budget> = RATED
            .iter()
            .zip([hub, ghcr])
            .map(|((registry, rate), arrival)| Budget {
                registry: (*registry).to_owned(),
                left: Some(left(*rate, arrival.map_or(0.0, |at| (at - now) / 1e6))),
                paused: Duration::ZERO,
            })
            .collect();
        for (registry, until) in pauses.into_iter().filter(|(_, until)| *until > now) {
            let paused = Duration::from_secs_f64((until - now) / 1e6);
            match budgets.iter_mut().find(|known| known.registry == registry) {
                Some(known) => known.paused = paused,
                None => budgets.push(Budget {
                    registry,
                    left: None,
                    paused,
                }),
            }
        }
        Ok(budgets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_what_could_go_out_at_once() {
        let rate = rate_of("docker.io").unwrap();
        assert_eq!(left(rate, -3.0), 10.0);
        assert_eq!(left(rate, 0.4), 9.0);
        assert_eq!(left(rate, 5.0), 0.0);
        assert_eq!(left(rate, 50.0), 0.0);
        assert_eq!(rate_of("quay.io"), None);
    }
}
