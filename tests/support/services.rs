//! The directory and the reaper that all test processes of one checkout share.
//!
//! Every test process holds a shared lock on `users` until it ends; the kernel releases it even
//! after SIGKILL. The reaper is a small shell script outside of every test's process group: when
//! nobody has held the lock for three seconds, it stops Postgres, removes labelled Docker objects
//! and the directory, and ends.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

const REAPER: &str = include_str!("reaper.sh");

/// The services of this checkout. Kept until the process ends.
pub struct Services {
    directory: PathBuf,
    _user: File,
}

/// Identifies this checkout in directory names and Docker labels, so that two checkouts on one
/// machine do not clean up after each other.
pub fn checkout_id() -> &'static str {
    static ID: OnceLock<String> = OnceLock::new();
    ID.get_or_init(|| {
        let mut hasher = DefaultHasher::new();
        env!("CARGO_MANIFEST_DIR").hash(&mut hasher);
        format!("{:08x}", hasher.finish() as u32)
    })
}

/// The root of the source tree.
pub fn workspace_root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Joins the running services, or prepares the directory for them and starts the reaper.
pub fn shared() -> &'static Services {
    static SERVICES: OnceLock<Services> = OnceLock::new();
    SERVICES.get_or_init(|| Services::join().expect("the test services directory can be set up"))
}

impl Services {
    fn join() -> io::Result<Self> {
        // Not below target/: sockets are limited to 107 bytes, and the user that Postgres runs as
        // may not be able to enter the checkout.
        let directory = PathBuf::from(format!("/tmp/plimsoll-tests-{}", checkout_id()));
        let user = loop {
            fs::create_dir_all(directory.join("run"))?;
            for path in [&directory, &directory.join("run")] {
                fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
            }
            let path = directory.join("users");
            let file = open(&path)?;
            file.lock_shared()?;
            // The reaper may have removed the directory while this process waited for the lock.
            if fs::metadata(&path).is_ok_and(|now| {
                file.metadata()
                    .is_ok_and(|held| held.ino() == now.ino() && held.dev() == now.dev())
            }) {
                break file;
            }
        };
        let services = Self {
            directory,
            _user: user,
        };
        services.ensure_reaper()?;
        Ok(services)
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A directory for one test's sockets and files, removed with the guard.
    pub fn scratch(&self) -> tempfile::TempDir {
        tempfile::Builder::new()
            .prefix("t")
            .rand_bytes(8)
            .tempdir_in(self.directory.join("run"))
            .expect("a scratch directory can be made")
    }

    /// Runs `setup` while no other test process does.
    pub fn exclusively<T>(&self, setup: impl FnOnce() -> T) -> T {
        let lock = open(&self.directory.join("setup")).expect("the set-up lock can be opened");
        lock.lock().expect("the set-up lock can be taken");
        setup()
    }

    fn ensure_reaper(&self) -> io::Result<()> {
        let path = self.directory.join("reaper");
        if open(&path)?.try_lock().is_err() {
            return Ok(());
        }
        detached("sh", &self.directory.join("reaper.log"))
            .args(["-c", REAPER, "plimsoll-test-reaper"])
            .arg(&self.directory)
            .arg(checkout_id())
            .current_dir(workspace_root())
            .status()?;
        Ok(())
    }
}

/// A command whose process outlives this one: `setsid` starts it in a session of its own and
/// returns at once, so that Ctrl-C does not reach it and nobody has to wait for it.
pub(crate) fn detached(program: impl AsRef<OsStr>, log: &Path) -> Command {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log)
        .expect("a log can be opened");
    let mut command = Command::new("setsid");
    command
        .arg("--fork")
        .arg(program)
        .current_dir("/")
        .stdin(Stdio::null())
        .stderr(log.try_clone().expect("a file handle can be copied"))
        .stdout(log);
    command
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(path)
}
