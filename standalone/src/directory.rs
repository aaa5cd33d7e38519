//! The data directory, and how child processes reach into it.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::unistd::{Gid, Uid, User, geteuid};

/// A data directory that this process owns until it ends.
pub struct DataDir {
    path: PathBuf,
    account: Option<Account>,
    /// Locked as long as it is open; the kernel lets go even after SIGKILL.
    _lock: File,
}

/// Whom the children run as when we are root, which Postgres refuses to be.
#[derive(Clone, Copy, Debug)]
pub struct Account {
    pub uid: Uid,
    pub gid: Gid,
}

impl DataDir {
    /// Makes the directory if need be and takes it for this process.
    ///
    /// # Errors
    /// When it cannot be made, or another process has it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data directory {shown}"))?;
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot open the data directory {shown}"))?;
        let lock = lock(&path)?;
        let account = geteuid().is_root().then(unprivileged).transpose()?;
        Ok(Self {
            path,
            account,
            _lock: lock,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn account(&self) -> Option<Account> {
        self.account
    }

    /// A directory below for one child, which may write there.
    ///
    /// # Errors
    /// When it cannot be made or handed over.
    pub fn subdirectory(&self, name: &str) -> anyhow::Result<Directory> {
        let path = self.path.join(name);
        let make = || -> io::Result<Directory> {
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                _ => {}
            }
            if let Some(account) = self.account
                && fs::metadata(&path)?.uid() != account.uid.as_raw()
            {
                chown(
                    &path,
                    Some(account.uid.as_raw()),
                    Some(account.gid.as_raw()),
                )?;
            }
            Directory::open(path.clone())
        };
        make().with_context(|| format!("cannot prepare {}", path.display()))
    }

    /// A log file below for a child's output; what is larger than 10 MiB makes room first.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn log(&self, name: &str) -> anyhow::Result<File> {
        const LARGEST: u64 = 10 * 1024 * 1024;
        let path = self.log_path(name);
        if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LARGEST) {
            let _ = fs::rename(&path, path.with_extension("log.1"));
        }
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }

    pub fn log_path(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.log"))
    }
}

fn lock(directory: &Path) -> anyhow::Result<File> {
    let path = directory.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    // Only us: the file says nothing, but there is no reason to let others lock it.
    file.set_permissions(Permissions::from_mode(0o600))?;
    if file.try_lock().is_err() {
        let mut holder = String::new();
        // Without the number the message is still right.
        let _ = file.read_to_string(&mut holder);
        bail!(
            "another plimsoll (process {}) already runs on the data directory {}; stop it first, \
             or give this one a directory of its own with --data-dir",
            holder.trim(),
            directory.display()
        );
    }
    file.set_len(0)?;
    file.rewind()?;
    write!(file, "{}", std::process::id())?;
    Ok(file)
}

fn unprivileged() -> anyhow::Result<Account> {
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Account {
                uid: user.uid,
                gid: user.gid,
            });
        }
    }
    bail!(
        "Postgres does not run as root, and this system has neither a user `postgres` nor \
         `nobody`; run plimsoll as another user"
    )
}

/// An open directory that children get by its descriptor. They reach it as `/proc/self/fd/N`:
/// also where a parent directory is closed to them, as `/root` is to Postgres, and however long
/// its path is, though a socket's path may have 107 bytes only.
pub struct Directory {
    path: PathBuf,
    handle: File,
}

impl Directory {
    fn open(path: PathBuf) -> io::Result<Self> {
        Ok(Self {
            handle: File::open(&path)?,
            path,
        })
    }

    /// Its real name, for people and for files that only we touch.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A short name that works in this process alone.
    pub fn short_path(&self) -> PathBuf {
        descriptor_path(self.handle.as_raw_fd())
    }

    /// A descriptor that a child started while it exists inherits, and the child's name for it.
    ///
    /// # Errors
    /// When the process has too many open files.
    pub fn inheritable(&self) -> io::Result<(OwnedFd, PathBuf)> {
        // Unlike those of std, this copy has no close-on-exec flag.
        let copy = nix::unistd::dup(self.handle.as_fd())?;
        let path = descriptor_path(copy.as_raw_fd());
        Ok((copy, path))
    }

    /// Whether it is the directory that a process works in.
    pub fn is_home_of(&self, pid: i32) -> bool {
        let (Ok(home), Ok(here)) = (
            fs::metadata(format!("/proc/{pid}/cwd")),
            self.handle.metadata(),
        ) else {
            return false;
        };
        (home.dev(), home.ino()) == (here.dev(), here.ino())
    }
}

fn descriptor_path(descriptor: i32) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{descriptor}"))
}
