//! Rate limits that all replicas share.
//!
//! The generic cell rate algorithm, in Redis' own clock: one number per key, the time at which the
//! bucket would be full again. A caller may take several cells at once and hand them out itself, so
//! that a busy client does not cost a round trip per request; cells that were taken and not used
//! are lost, so the limit is never exceeded.

use std::{sync::LazyLock, time::Duration};

use redis::Script;

use crate::{Queue, QueueError};

/// KEYS: the bucket. ARGV: microseconds per cell, microseconds per window, cells wanted.
/// Returns cells granted, cells left, milliseconds until full, milliseconds until one is free.
static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local cell, window, want = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full = tonumber(redis.call('GET', KEYS[1]) or '') or now
if full < now then full = now end
local free = math.floor((window - (full - now)) / cell)
local granted = math.max(0, math.min(free, want))
local wait = 0
if granted > 0 then
  full = full + granted * cell
  redis.call('SET', KEYS[1], string.format('%.0f', full), 'PX', math.ceil((full - now) / 1000) + 1)
else
  wait = math.ceil((cell - (window - (full - now))) / 1000)
end
return { granted, math.max(0, free - granted), math.ceil((full - now) / 1000), wait }",
    )
});

/// So many requests per so much time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// At least 1.
    pub max: u32,
    pub window: Duration,
}

impl RateLimit {
    /// Time that one request takes from the bucket, in microseconds. At least 1, so limits above
    /// a million per second are not kept exactly.
    pub fn cell_micros(&self) -> u64 {
        let window = self.window.as_micros() as u64;
        (window / u64::from(self.max.max(1))).max(1)
    }
}

/// The answer of the shared bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// How many of the wanted cells; 0: refused.
    pub granted: u32,
    /// How many more the bucket holds.
    pub left: u32,
    /// Until it is full again.
    pub full_in: Duration,
    /// Until one is free, when none was granted.
    pub wait: Duration,
}

impl Queue {
    /// Takes up to `want` requests from the bucket of `key`. An error means that Redis is away: the
    /// caller counts by itself then.
    pub async fn take_rate(
        &self,
        key: &str,
        limit: RateLimit,
        want: u32,
    ) -> Result<Grant, QueueError> {
        let mut connection = self.manager();
        let (granted, left, full_ms, wait_ms): (u32, u32, u64, u64) = TAKE
            .key(format!("plimsoll:limit:{key}"))
            .arg(limit.cell_micros())
            .arg(limit.window.as_micros() as u64)
            .arg(want)
            .invoke_async(&mut connection)
            .await?;
        Ok(Grant {
            granted,
            left,
            full_in: Duration::from_millis(full_ms),
            wait: Duration::from_millis(wait_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_its_share_of_the_window() {
        let limit = |max, secs| RateLimit {
            max,
            window: Duration::from_secs(secs),
        };
        assert_eq!(limit(1000, 900).cell_micros(), 900_000);
        assert_eq!(limit(u32::MAX, 1).cell_micros(), 1);
        assert_eq!(limit(0, 1).cell_micros(), 1_000_000);
    }
}
