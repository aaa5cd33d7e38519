//! Rights that one process has at a time. A process that dies loses them when they run out, and one
//! that was held up may find that another has them: use them for what does no harm twice.

use std::{sync::LazyLock, time::Duration};

use redis::Script;

use crate::{Queue, QueueError};

/// KEYS: the lease. ARGV: who asks, for how long (ms). Answers 1 to the holder.
static HOLD: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1",
    )
});

static RELEASE: LazyLock<Script> = LazyLock::new(|| {
    Script::new("if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end")
});

fn key(name: &str) -> String {
    format!("plimsoll:lease:{name}")
}

impl Queue {
    /// Takes or keeps the lease of that name for `span`: `false` while another holds it.
    pub async fn hold_lease(
        &self,
        name: &str,
        holder: &str,
        span: Duration,
    ) -> Result<bool, QueueError> {
        let held: u8 = HOLD
            .key(key(name))
            .arg(holder)
            .arg(span.as_millis() as u64)
            .invoke_async(&mut self.manager())
            .await?;
        Ok(held == 1)
    }

    /// Gives the lease back, if it is `holder`'s.
    pub async fn release_lease(&self, name: &str, holder: &str) -> Result<(), QueueError> {
        let released: Result<(), _> = RELEASE
            .key(key(name))
            .arg(holder)
            .invoke_async(&mut self.manager())
            .await;
        Ok(released?)
    }
}
