//! Registries' answers, shared by all workers: a short cache and one flight per question.
//!
//! An answer is stored with the time at which its fetch began, in Redis' own clock, and a reader
//! asks for "begun within the last N microseconds" in the same clock. Both are rounded towards
//! "older", so an answer handed out is provably no staler than asked for, whatever the workers'
//! clocks say.
//!
//! The flight lock is an optimisation: it expires by itself, and losing it costs one request.

use std::{sync::LazyLock, time::Duration};

use redis::{Script, Value};
use uuid::Uuid;

use crate::{Queue, QueueError, budget::limited_key};

/// Digits of the fetch time (microseconds since 1970) in front of a stored answer.
const HEAD: usize = 16;

/// One round trip for all questions to one registry. Returns the time, the registry's pause
/// (-1: none known; 0: lifted, but not proven; otherwise microseconds left), and per question the
/// stored answer, 1 (claimed by this call), 0 (another worker fetches it) or 2 (paused).
static LOOKUP: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local oldest = now - tonumber(ARGV[1])
local pause = -1
local lifts = tonumber(redis.call('HGET', KEYS[1], 'until') or '')
if lifts then pause = math.max(0, lifts - now) end
local out = { string.format('%.0f', now), string.format('%.0f', pause) }
for i = 2, #KEYS, 2 do
  local begun = tonumber(redis.call('GETRANGE', KEYS[i], 0, 15))
  if begun and begun >= oldest and begun <= now then
    out[#out + 1] = redis.call('GET', KEYS[i])
  elseif pause > 0 then
    out[#out + 1] = 2
  elseif redis.call('SET', KEYS[i + 1], ARGV[2], 'NX', 'PX', ARGV[3]) then
    out[#out + 1] = 1
  else
    out[#out + 1] = 0
  end
end
return out",
    )
});

/// Stores answers (never over a younger one) and gives up the flights.
static STORE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        r"
local n = 2
for i = 1, #KEYS, 2 do
  local token, body = ARGV[n], ARGV[n + 1]
  n = n + 2
  if body ~= '' and redis.call('GETRANGE', KEYS[i], 0, 15) <= string.sub(body, 1, 16) then
    redis.call('SET', KEYS[i], body, 'PX', ARGV[1])
  end
  if redis.call('GET', KEYS[i + 1]) == token then redis.call('DEL', KEYS[i + 1]) end
end
return 1",
    )
});

/// The right to fetch one answer for the fleet, until it is stored or expires.
#[derive(Clone, Debug)]
pub struct Claim {
    key: String,
    token: String,
    /// In Redis' clock; not later than the fetch that follows.
    begun: u64,
}

/// What the cache knows about one question.
#[derive(Debug)]
pub enum Known {
    Answer {
        body: Vec<u8>,
        /// At least how old the answer is.
        age: Duration,
    },
    /// Nobody knows: fetch it, then [`Queue::registry_store`].
    Claimed(Claim),
    /// Another worker fetches it: ask again soon.
    InFlight,
    /// Nobody knows, and the registry must not be asked before [`Lookup::pause`] is over.
    Paused,
}

/// The answer of [`Queue::registry_lookup`].
#[derive(Debug)]
pub struct Lookup {
    /// In the order of the keys asked for.
    pub known: Vec<Known>,
    /// `None`: the registry has not limited us lately. Zero: it has, and the next request is a
    /// probe that [`Queue::registry_admit`] has to grant.
    pub pause: Option<Duration>,
}

fn answer_key(key: &str) -> String {
    format!("plimsoll:registry:answer:{key}")
}

fn flight_key(key: &str) -> String {
    format!("plimsoll:registry:flight:{key}")
}

impl Queue {
    /// Looks up `keys` (questions to one `registry`) in one round trip. An answer counts when its
    /// fetch began at most `max_age` ago. What is missing is claimed for `claim_for`.
    pub async fn registry_lookup(
        &self,
        registry: &str,
        keys: &[String],
        max_age: Duration,
        claim_for: Duration,
    ) -> Result<Lookup, QueueError> {
        let token = Uuid::new_v4().simple().to_string();
        let mut call = LOOKUP.prepare_invoke();
        call.key(limited_key(registry));
        for key in keys {
            call.key(answer_key(key)).key(flight_key(key));
        }
        call.arg(u64::try_from(max_age.as_micros()).unwrap_or(u64::MAX / 2))
            .arg(&token)
            .arg(millis(claim_for));
        let mut connection = self.manager();
        let reply: Vec<Value> = call.invoke_async(&mut connection).await?;
        let mut reply = reply.into_iter();
        let now = number(reply.next()).ok_or_else(malformed)?;
        let pause = number(reply.next()).ok_or_else(malformed)?;
        let known: Vec<Known> = reply
            .zip(keys)
            .map(|(value, key)| match value {
                Value::Int(1) => Known::Claimed(Claim {
                    key: key.clone(),
                    token: token.clone(),
                    begun: now.unsigned_abs(),
                }),
                Value::Int(2) => Known::Paused,
                Value::BulkString(mut body) if body.len() >= HEAD => {
                    let begun = std::str::from_utf8(&body[..HEAD])
                        .ok()
                        .and_then(|digits| digits.parse().ok())
                        .unwrap_or(0);
                    body.drain(..HEAD);
                    Known::Answer {
                        body,
                        age: Duration::from_micros(now.unsigned_abs().saturating_sub(begun)),
                    }
                }
                _ => Known::InFlight,
            })
            .collect();
        if known.len() != keys.len() {
            return Err(malformed());
        }
        Ok(Lookup {
            known,
            pause: u64::try_from(pause).ok().map(Duration::from_micros),
        })
    }

    /// Stores answers for `keep` and lets go of their claims; `None` only lets go. One round trip.
    pub async fn registry_store(
        &self,
        answers: &[(Claim, Option<Vec<u8>>)],
        keep: Duration,
    ) -> Result<(), QueueError> {
        let mut call = STORE.prepare_invoke();
        call.arg(millis(keep));
        for (claim, answer) in answers {
            let body = answer.as_ref().map_or_else(Vec::new, |answer| {
                let mut body = format!("{:0HEAD$}", claim.begun).into_bytes();
                body.extend_from_slice(answer);
                body
            });
            call.key(answer_key(&claim.key))
                .key(flight_key(&claim.key))
                .arg(&claim.token)
                .arg(body);
        }
        let mut connection = self.manager();
        let _: i64 = call.invoke_async(&mut connection).await?;
        Ok(())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis())
        .unwrap_or(u64::MAX / 2)
        .max(1)
}

pub(crate) fn malformed() -> QueueError {
    QueueError::Unavailable("an answer of an unexpected shape".to_owned())
}

fn number(value: Option<Value>) -> Option<i64> {
    match value? {
        Value::Int(n) => Some(n),
        Value::BulkString(digits) => std::str::from_utf8(&digits).ok()?.parse().ok(),
        _ => None,
    }
}
