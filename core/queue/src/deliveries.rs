//! What webhooks have delivered lately, so that a delivery that comes again, at any replica, is
//! known. Bounded: of more than [`KEPT`] the oldest are forgotten. Forgetting costs work twice.

use std::{sync::LazyLock, time::Duration};

use redis::Script;

use crate::{Queue, QueueError};

const KEY: &str = "plimsoll:deliveries";
/// How long a delivery is remembered (reliability.md W1).
const SPAN: Duration = Duration::from_secs(24 * 60 * 60);
/// About ten megabytes.
const KEPT: u32 = 100_000;

/// KEYS: the set. ARGV: seconds that are kept, then marks. Answers 1 if one of them is known.
static KNOWN: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local oldest = redis.call('TIME')[1] - ARGV[1]
for i = 2, #ARGV do
  local at = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if at and tonumber(at) >= oldest then return 1 end
end
return 0",
    )
});

/// KEYS: the set. ARGV: seconds that are kept, how many, then marks.
static REMEMBER: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local now = redis.call('TIME')[1]
for i = 3, #ARGV do redis.call('ZADD', KEYS[1], now, ARGV[i]) end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1])
redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -1 - ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[1])",
    )
});

impl Queue {
    /// Whether a delivery with one of these marks was dealt with. `false` for none.
    pub async fn knows_delivery(&self, marks: &[String]) -> Result<bool, QueueError> {
        if marks.is_empty() {
            return Ok(false);
        }
        let known: u8 = KNOWN
            .key(KEY)
            .arg(SPAN.as_secs())
            .arg(marks)
            .invoke_async(&mut self.manager())
            .await?;
        Ok(known == 1)
    }

    /// To be called once the delivery has been dealt with: one that failed may come again.
    pub async fn remember_delivery(&self, marks: &[String]) -> Result<(), QueueError> {
        if marks.is_empty() {
            return Ok(());
        }
        let remembered: Result<(), _> = REMEMBER
            .key(KEY)
            .arg(SPAN.as_secs())
            .arg(KEPT)
            .arg(marks)
            .invoke_async(&mut self.manager())
            .await;
        Ok(remembered?)
    }
}
