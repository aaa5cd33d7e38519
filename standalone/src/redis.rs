//! Redis as a supervised child. It keeps nothing on disk: it may be wiped at any moment.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};

use anyhow::Context;
use nix::sys::signal::Signal;
use plimsoll_runtime::child::{self, DeathSignal};
use secrecy::SecretString;

use crate::directory::{Account, DataDir, Directory};
use crate::supervisor::{Plan, Supervised, end_leftover};

/// A running server. Dropping it stops the server.
pub struct Redis {
    _supervised: Supervised,
    url: SecretString,
}

impl Redis {
    /// Starts the server on a socket below `data`. Returns before it answers.
    ///
    /// # Errors
    /// When Redis is not installed or cannot be run.
    pub fn start(data: &DataDir) -> anyhow::Result<Self> {
        let directory = data.subdirectory("redis")?;
        let name = "Redis";
        if let Some(pid) = recorded_pid(&directory) {
            end_leftover(name, pid, Signal::SIGTERM, |pid| directory.is_home_of(pid))?;
        }
        let url = format!(
            "redis+unix://{}",
            directory.short_path().join("redis.sock").display()
        );
        let (account, log) = (data.account(), data.log("redis")?);
        let supervised = Supervised::start(Plan {
            name,
            stop: Signal::SIGTERM,
            force: Signal::SIGKILL,
            start: Box::new(move || run(&directory, account, &log)),
        })
        .context(
            "cannot run redis-server; install it (Debian: apt-get install redis-server), or set \
             REDIS_URL to a server that runs elsewhere",
        )?;
        Ok(Self {
            _supervised: supervised,
            url: url.into(),
        })
    }

    /// For this process only: the path is one of its own descriptors.
    pub fn url(&self) -> &SecretString {
        &self.url
    }
}

fn run(directory: &Directory, account: Option<Account>, log: &fs::File) -> io::Result<Child> {
    let (_inherited, home) = directory.inheritable()?;
    let mut command = child::bound("redis-server", DeathSignal::Kill);
    command
        .args(["--port", "0", "--unixsocket"])
        .arg(home.join("redis.sock"))
        .args([
            "--unixsocketperm",
            "700",
            "--save",
            "",
            "--appendonly",
            "no",
        ])
        .args(["--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru"])
        .arg("--pidfile")
        .arg(home.join("redis.pid"))
        .arg("--dir")
        .arg(&home)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    if let Some(account) = account {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    child::spawn(command)
}

fn recorded_pid(directory: &Directory) -> Option<i32> {
    let file = fs::read_to_string(directory.path().join("redis.pid")).ok()?;
    file.trim().parse().ok().filter(|pid| *pid > 1)
}
