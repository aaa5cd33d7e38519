//! Our own binaries as child processes: started with settings from the environment, killed hard.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::ports::free_port;
use crate::process::{Process, command};
use crate::services::shared;
use crate::wait;

/// One of `plimsoll`, `plimsoll-api`, `plimsoll-worker`, with what it is started with.
pub struct Server {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<String, String>,
    // Stopped before its directory is removed: fields are dropped in this order.
    process: Option<Process>,
    directory: TempDir,
    port: u16,
}

impl Server {
    /// Prepares, does not start. The child sees nothing of the test's environment but `PATH`, and
    /// `PLIMSOLL_DATA_DIR` is a directory of its own.
    pub fn new(program: &str, arguments: &[&str]) -> Self {
        let directory = shared().scratch();
        let port = free_port();
        let mut server = Self {
            program: binary(program),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: BTreeMap::new(),
            process: None,
            directory,
            port,
        };
        let data = server.directory.path().join("data");
        server = server
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .env("RUST_BACKTRACE", "1")
            .env("PLIMSOLL_DATA_DIR", data.display());
        if let Ok(host) = std::env::var("DOCKER_HOST") {
            server = server.env("DOCKER_HOST", host);
        }
        server
    }

    /// `plimsoll-api serve` on a free port.
    pub fn api(database_url: &str, redis_url: &str) -> Self {
        let server = Self::new("plimsoll-api", &["serve"]);
        let listen = format!("127.0.0.1:{}", server.port);
        server
            .env("DATABASE_URL", database_url)
            .env("REDIS_URL", redis_url)
            .env("PLIMSOLL_LISTEN", listen)
    }

    /// `plimsoll-worker run`.
    pub fn worker(database_url: &str, redis_url: &str) -> Self {
        Self::new("plimsoll-worker", &["run"])
            .env("DATABASE_URL", database_url)
            .env("REDIS_URL", redis_url)
    }

    /// `plimsoll` with everything on a free port.
    pub fn all_in_one() -> Self {
        let server = Self::new("plimsoll", &[]);
        let listen = format!("127.0.0.1:{}", server.port);
        server.env("PLIMSOLL_LISTEN", listen)
    }

    pub fn env(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.insert(name.into(), value.to_string());
        self
    }

    /// Starts it, without waiting for anything.
    pub fn spawn(mut self) -> Self {
        self.start();
        self
    }

    /// Starts it and waits until `GET /health` answers 200, at most `limit`.
    pub async fn ready(mut self) -> Self {
        self.start();
        self.wait_healthy(Duration::from_secs(30)).await;
        self
    }

    /// Starts it again, with the same settings, after [`Server::kill`].
    pub fn start(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .expect("the server's log can be opened");
        let mut command = command(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log);
        self.process = Some(Process::spawn(self.program.display().to_string(), command));
    }

    pub async fn wait_healthy(&mut self, limit: Duration) {
        crate::init();
        let client = reqwest::Client::new();
        let url = self.url("/health");
        let deadline = std::time::Instant::now() + limit;
        loop {
            let answer = client
                .get(&url)
                .timeout(Duration::from_secs(2))
                .send()
                .await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return;
            }
            let log = self.log();
            let process = self.process.as_mut().expect("the server has been started");
            process.assert_running(&log);
            assert!(
                std::time::Instant::now() < deadline,
                "{url} was not ready within {limit:?}:\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Waits until the log contains `text`.
    pub async fn wait_for_log(&self, text: &str, limit: Duration) {
        wait::until_true(text, limit, || async { self.log().contains(text) }).await;
    }

    /// SIGKILL, as a crash would be.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and waits until it has ended by itself.
    pub async fn terminate(&mut self, limit: Duration) -> std::process::ExitStatus {
        let process = self.process.as_mut().expect("the server has been started");
        process.signal(Signal::SIGTERM);
        let deadline = std::time::Instant::now() + limit;
        loop {
            if let Some(status) = process.exited() {
                self.process = None;
                return status;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "it did not end within {limit:?} of SIGTERM"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The exit status if it has ended by itself.
    pub fn exited(&mut self) -> Option<std::process::ExitStatus> {
        self.process.as_mut().and_then(Process::exited)
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("the server runs").pid()
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Such as `http://127.0.0.1:PORT/health` for `/health`.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Everything it has printed, over all its starts.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(self.log_path()).unwrap_or_default()).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log of {}:\n{}", self.program.display(), self.log());
        }
    }
}

/// The path of one of our binaries, beside the running test.
///
/// # Panics
/// When it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let path = profile().join(name);
    assert!(
        path.exists(),
        "{} is not built; run `cargo build --workspace --bins` first",
        path.display()
    );
    path
}

/// What `make services` installs for tests alone is in `tools` there.
pub fn target() -> PathBuf {
    profile().join("..")
}

/// `target/<profile>`
fn profile() -> PathBuf {
    // target/<profile>/deps/<test>: one directory up.
    let test = std::env::current_exe().expect("a process knows its own path");
    test.ancestors()
        .skip(1)
        .find(|path| path.file_name().is_some_and(|name| name != "deps"))
        .unwrap_or(Path::new("."))
        .to_owned()
}
