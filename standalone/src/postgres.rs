//! Postgres as a supervised child: durable, small, and reachable by nobody but us.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use plimsoll_runtime::child::{self, DeathSignal};
use secrecy::SecretString;

use crate::directory::{Account, DataDir, Directory};
use crate::supervisor::{Plan, Supervised, end_leftover};

/// A running server. Dropping it stops the server.
pub struct Postgres {
    _supervised: Supervised,
    url: SecretString,
}

/// Settings that differ from Postgres's own. Durability stays as Postgres has it.
const SETTINGS: &[&str] = &[
    "shared_buffers=64MB",
    "max_connections=100",
    // No replicas and no parallel plans: fewer processes, a faster start.
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_parallel_workers_per_gather=0",
    "max_logical_replication_workers=0",
    "max_wal_size=256MB",
    "min_wal_size=32MB",
    "jit=off",
    "log_checkpoints=off",
    "timezone=UTC",
    "log_timezone=UTC",
];

impl Postgres {
    /// Starts the server on its directory below `data`; the first time, makes it. Returns before
    /// the server answers.
    ///
    /// # Errors
    /// When Postgres is not installed, in another version than the data need, or cannot be run.
    pub fn start(data: &DataDir) -> anyhow::Result<Self> {
        let binaries = binaries(&data.path().join("postgres"))?;
        if !data.path().join("postgres").exists() {
            initialise(data, &binaries)?;
        }
        let directory = data.subdirectory("postgres")?;
        let name = "Postgres";
        if let Some(pid) = recorded_pid(&directory) {
            end_leftover(name, pid, Signal::SIGINT, |pid| directory.is_home_of(pid))?;
        }
        let url = format!(
            "postgresql:///postgres?user=plimsoll&host={}",
            directory.short_path().display()
        );
        let (account, log) = (data.account(), data.log("postgres")?);
        let supervised = Supervised::start(Plan {
            name,
            stop: Signal::SIGINT,
            force: Signal::SIGQUIT,
            start: Box::new(move || run(&directory, &binaries, account, &log)),
        })
        .with_context(|| {
            format!(
                "cannot run Postgres; see {}",
                data.log_path("postgres").display()
            )
        })?;
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

fn run(
    directory: &Directory,
    binaries: &Path,
    account: Option<Account>,
    log: &fs::File,
) -> io::Result<Child> {
    let (_inherited, home) = directory.inheritable()?;
    let mut command = child::bound(binaries.join("postgres"), DeathSignal::Interrupt);
    command
        .arg("-D")
        .arg(&home)
        .args(["-h", "", "-k"])
        .arg(&home);
    for setting in SETTINGS {
        command.args(["-c", setting]);
    }
    prepare(&mut command, account, log)?;
    child::spawn(command)
}

/// Makes the database in a directory beside, so that an interrupted first start leaves nothing
/// that looks finished.
fn initialise(data: &DataDir, binaries: &Path) -> anyhow::Result<()> {
    tracing::info!(
        "first start: making the database in {}",
        data.path().display()
    );
    let unfinished = data.path().join("postgres.new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished)
            .with_context(|| format!("cannot remove {}", unfinished.display()))?;
    }
    let directory = data.subdirectory("postgres.new")?;
    let (_inherited, home) = directory.inheritable()?;
    let mut command = child::bound(binaries.join("initdb"), DeathSignal::Kill);
    command
        .args(["-U", "plimsoll", "-A", "trust", "-E", "UTF8"])
        .args(["--locale=C.UTF-8", "-D"])
        .arg(&home);
    prepare(&mut command, data.account(), &data.log("postgres")?)?;
    let status = child::spawn(command)
        .and_then(|mut child| child.wait())
        .context("cannot run initdb")?;
    if !status.success() {
        bail!(
            "initdb failed ({status}); its output is in {}",
            data.log_path("postgres").display()
        );
    }
    fs::rename(&unfinished, data.path().join("postgres")).context("cannot finish the database")
}

fn prepare(command: &mut Command, account: Option<Account>, log: &fs::File) -> io::Result<()> {
    if let Some(account) = account {
        command.uid(account.uid.as_raw()).gid(account.gid.as_raw());
    }
    command
        .current_dir("/")
        .env_remove("PGDATA")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log.try_clone()?);
    Ok(())
}

/// The process that a server on this directory has, or had, written down.
fn recorded_pid(directory: &Directory) -> Option<i32> {
    let file = fs::read_to_string(directory.path().join("postmaster.pid")).ok()?;
    file.lines()
        .next()?
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 1)
}

/// Where the server's programs are: those that made the data, else the newest.
fn binaries(directory: &Path) -> anyhow::Result<PathBuf> {
    // Debian keeps every version apart and out of PATH.
    let mut installed: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            let programs = entry.path().join("bin");
            programs
                .join("postgres")
                .exists()
                .then_some((version, programs))
        })
        .collect();
    installed.sort();
    if let Ok(made_by) = fs::read_to_string(directory.join("PG_VERSION")) {
        let made_by = made_by.trim();
        return match installed
            .into_iter()
            .find(|(v, _)| v.to_string() == made_by)
        {
            Some((_, programs)) => Ok(programs),
            None => on_path("postgres").with_context(|| {
                format!(
                    "{} was made by PostgreSQL {made_by}, which is not installed; install \
                     postgresql-{made_by}",
                    directory.display()
                )
            }),
        };
    }
    match installed.pop() {
        Some((_, programs)) => Ok(programs),
        None => on_path("postgres").context(
            "PostgreSQL is not installed; install it (Debian: apt-get install postgresql), or set \
             DATABASE_URL to a server that runs elsewhere",
        ),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .find(|directory| directory.join(program).is_file())
}
