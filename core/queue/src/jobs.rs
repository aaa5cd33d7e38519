//! Job streams: `plimsoll:jobs:<agent>:<watcher>` carries job ids to the workers of one engine.
//!
//! An id is a wake-up and nothing more: the worker that reads it leases the job's row in Postgres,
//! so a duplicate, late, lost or forged message does nothing (reliability.md B4, B7, B8). That is
//! also why messages are acknowledged at once: redelivery is the sweep's task.

use std::{collections::HashMap, time::Duration};

use plimsoll_domain::ids::{JobId, WatcherRef};
use redis::{
    AsyncCommands,
    aio::MultiplexedConnection,
    streams::{StreamReadOptions, StreamReadReply},
};

use crate::{Queue, QueueError};

const GROUP: &str = "workers";
/// Streams are wake-ups, so old entries are of no use to anyone.
const KEEP: usize = 10_000;
/// How long one blocking read lasts.
pub const MAX_BLOCK: Duration = Duration::from_secs(5);

fn stream(watcher: &WatcherRef) -> String {
    format!("plimsoll:jobs:{}:{}", watcher.agent, watcher.name)
}

impl Queue {
    /// Tells the workers of `watcher` about jobs that are already durable. A failure costs latency
    /// only; callers log it and go on.
    pub async fn wake_workers(
        &self,
        watcher: &WatcherRef,
        jobs: &[JobId],
    ) -> Result<(), QueueError> {
        let key = stream(watcher);
        let mut pipe = redis::pipe();
        for job in jobs {
            pipe.cmd("XADD")
                .arg(&key)
                .arg("MAXLEN")
                .arg("~")
                .arg(KEEP)
                .arg("*")
                .arg("id")
                .arg(job.to_string())
                .ignore();
        }
        let mut connection = self.manager();
        Ok(pipe.query_async(&mut connection).await?)
    }

    /// Reads the job streams of `watchers` as `consumer`.
    pub fn job_reader(&self, watchers: &[WatcherRef], consumer: &str) -> JobReader {
        JobReader {
            queue: self.clone(),
            streams: watchers.iter().map(|w| (stream(w), w.clone())).collect(),
            consumer: consumer.to_owned(),
            connection: None,
        }
    }
}

/// One worker's view of its streams, on a connection of its own, because it blocks.
pub struct JobReader {
    queue: Queue,
    streams: HashMap<String, WatcherRef>,
    consumer: String,
    connection: Option<MultiplexedConnection>,
}

impl JobReader {
    /// Waits for wake-ups, at most [`MAX_BLOCK`]. An error means that Redis is away: wait a little
    /// and call again; the sweep over Postgres carries on meanwhile.
    pub async fn next(&mut self) -> Result<Vec<(WatcherRef, JobId)>, QueueError> {
        match self.read().await {
            Ok(jobs) => Ok(jobs),
            // After FLUSHALL the group is gone. What was in the stream is found by the sweep.
            Err(error) if error.code() == Some("NOGROUP") || error.code() == Some("UNBLOCKED") => {
                self.create_groups().await?;
                Ok(Vec::new())
            }
            Err(error) => {
                self.connection = None;
                Err(error.into())
            }
        }
    }

    async fn read(&mut self) -> Result<Vec<(WatcherRef, JobId)>, redis::RedisError> {
        if self.connection.is_none() {
            // The default response timeout would end every blocking read; without any, a
            // connection that died silently would never be noticed.
            let config = redis::AsyncConnectionConfig::new()
                .set_connection_timeout(Some(crate::DEADLINE))
                .set_response_timeout(Some(MAX_BLOCK + Duration::from_secs(5)));
            self.connection = Some(
                self.queue
                    .client()
                    .get_multiplexed_async_connection_with_config(&config)
                    .await?,
            );
            self.create_groups().await?;
        }
        let Some(connection) = self.connection.as_mut() else {
            return Ok(Vec::new());
        };
        let keys: Vec<&str> = self.streams.keys().map(String::as_str).collect();
        let new = vec![">"; keys.len()];
        let options = StreamReadOptions::default()
            .group(GROUP, &self.consumer)
            .count(64)
            .block(MAX_BLOCK.as_millis() as usize)
            .noack();
        let reply: Option<StreamReadReply> =
            connection.xread_options(&keys, &new, &options).await?;
        let mut jobs = Vec::new();
        for stream in reply.map(|r| r.keys).unwrap_or_default() {
            let Some(watcher) = self.streams.get(&stream.key) else {
                continue;
            };
            for entry in stream.ids {
                match entry.get::<String>("id").and_then(|id| id.parse().ok()) {
                    Some(id) => jobs.push((watcher.clone(), id)),
                    None => tracing::warn!(
                        stream = stream.key,
                        entry = entry.id,
                        "ignored a queue message that is not a job id"
                    ),
                }
            }
        }
        Ok(jobs)
    }

    async fn create_groups(&mut self) -> Result<(), redis::RedisError> {
        let Some(connection) = self.connection.as_mut() else {
            return Ok(());
        };
        for key in self.streams.keys() {
            let created: Result<(), _> = connection.xgroup_create_mkstream(key, GROUP, "$").await;
            match created {
                Err(error) if error.code() != Some("BUSYGROUP") => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
