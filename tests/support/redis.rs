//! A Redis server of its own for one test: it starts in milliseconds.

use std::path::PathBuf;
use std::process::Stdio;

use tempfile::TempDir;

use crate::process::{Process, command};
use crate::services::shared;
use crate::wait;

pub struct Redis {
    // Stopped before its directory is removed: fields are dropped in this order.
    process: Option<Process>,
    directory: TempDir,
}

impl Redis {
    /// A running, empty server without persistence, on a Unix socket.
    pub async fn start() -> Self {
        let mut redis = Self {
            process: None,
            directory: shared().scratch(),
        };
        redis.restart().await;
        redis
    }

    /// Starts it again after [`Redis::stop`]: empty, at the same address.
    pub async fn restart(&mut self) {
        self.stop();
        let mut command = command("redis-server");
        command
            .args(["--port", "0", "--save", "", "--appendonly", "no"])
            .arg("--unixsocket")
            .arg(self.socket())
            .arg("--dir")
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(Process::spawn("redis-server", command));
        let client = self.client();
        wait::until("Redis", wait::SOON, || async {
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            redis::cmd("PING")
                .query_async::<String>(&mut connection)
                .await
                .ok()
        })
        .await;
    }

    /// SIGKILL: what a lost Redis looks like.
    pub fn stop(&mut self) {
        self.process = None;
        let _ = std::fs::remove_file(self.socket());
    }

    /// Forgets everything, as if the memory had been lost while it kept running.
    pub async fn flush_all(&self) {
        let mut connection = self.connection().await;
        redis::cmd("FLUSHALL")
            .query_async::<()>(&mut connection)
            .await
            .expect("Redis can be flushed");
    }

    /// For `REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        self.client()
            .get_multiplexed_async_connection()
            .await
            .expect("the test's Redis answers")
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).expect("the address is well-formed")
    }
}
