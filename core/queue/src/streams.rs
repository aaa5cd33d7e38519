//! How many event streams each client holds, counted over all replicas. Every holder is an entry
//! that expires unless it is renewed, so a replica that dies gives its slots back.

use std::time::Duration;

use redis::Script;

use crate::{Queue, QueueError};

/// KEYS: the counters; ARGV: the holder, how long it holds (ms), the limit. Answers 1 if there was
/// room under every counter.
const TAKE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, key in ipairs(KEYS) do
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('ZCARD', key) >= tonumber(ARGV[3]) then return 0 end
end
for _, key in ipairs(KEYS) do
  redis.call('ZADD', key, now + ARGV[2], ARGV[1])
  redis.call('PEXPIRE', key, ARGV[2])
end
return 1";

/// KEYS: the counter; ARGV: how many at most. Answers the holders, the latest first.
const HOLDERS: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
return redis.call('ZREVRANGEBYSCORE', KEYS[1], '+inf', '(' .. now, 'LIMIT', 0, ARGV[1])";

fn keys(counters: &[String]) -> impl Iterator<Item = String> {
    counters.iter().map(|c| format!("plimsoll:streams:{c}"))
}

impl Queue {
    /// Takes a slot under each counter, or none: `false` when one of them is at `limit`.
    pub async fn take_stream_slot(
        &self,
        counters: &[String],
        holder: &str,
        limit: u32,
        held: Duration,
    ) -> Result<bool, QueueError> {
        let script = Script::new(TAKE);
        let mut call = script.prepare_invoke();
        for key in keys(counters) {
            call.key(key);
        }
        call.arg(holder).arg(held.as_millis() as u64).arg(limit);
        let taken: u8 = call.invoke_async(&mut self.manager()).await?;
        Ok(taken == 1)
    }

    /// Keeps a slot, also when Redis forgot it meanwhile.
    pub async fn renew_stream_slot(
        &self,
        counters: &[String],
        holder: &str,
        held: Duration,
    ) -> Result<(), QueueError> {
        self.take_stream_slot(counters, holder, u32::MAX, held)
            .await
            .map(drop)
    }

    pub async fn release_stream_slot(
        &self,
        counters: &[String],
        holder: &str,
    ) -> Result<(), QueueError> {
        let mut pipe = redis::pipe();
        for key in keys(counters) {
            pipe.zrem(key, holder).ignore();
        }
        Ok(pipe.query_async(&mut self.manager()).await?)
    }

    /// Who holds a slot under the counter now, at most `limit`.
    pub async fn stream_holders(
        &self,
        counter: &str,
        limit: u32,
    ) -> Result<Vec<String>, QueueError> {
        let script = Script::new(HOLDERS);
        let mut call = script.prepare_invoke();
        for key in keys(&[counter.to_owned()]) {
            call.key(key);
        }
        Ok(call.arg(limit).invoke_async(&mut self.manager()).await?)
    }
}
