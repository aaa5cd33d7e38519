//! Reading a Compose file, and replacing it as a whole: whoever reads it sees the old text or the
//! new one, and what somebody else wrote meanwhile is never lost.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::AsFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use nix::fcntl::{Flock, FlockArg, OFlag, RenameFlags, renameat2};
use plimsoll_domain::compose::MAX_BYTES;

/// How long another update of the same directory is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// What became of a replacement.
#[derive(Debug)]
pub enum Replaced {
    Done,
    /// The file was changed by somebody else since it was read; it is as they left it.
    Changed,
}

/// Whether the old text is kept beside the file, as `<file>.back`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    Nothing,
    Backup,
}

/// The text of a file of at most [`MAX_BYTES`].
pub fn read(path: &Path) -> io::Result<String> {
    // Opening a pipe waits for somebody to write into it.
    let flags = OFlag::O_NONBLOCK.bits();
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut text = String::new();
    let most = MAX_BYTES as u64 + 1;
    Read::by_ref(&mut file)
        .take(most)
        .read_to_string(&mut text)?;
    match text.len() > MAX_BYTES {
        true => Err(io::Error::other(format!(
            "it is larger than {MAX_BYTES} bytes"
        ))),
        false => Ok(text),
    }
}

/// Replaces `old`, which is what was read, by `new`. A symbolic link stays, and what it leads to is
/// replaced; mode and owner stay.
///
/// # Errors
/// The file is as it was then.
pub fn replace(path: &Path, old: &str, new: &str, keep: Keep) -> io::Result<Replaced> {
    let path = fs::canonicalize(path)?;
    let directory = path
        .parent()
        .ok_or_else(|| io::Error::other("it has no directory"))?;
    let opened = File::open(directory)?;
    // Several services of one file may be updated at once. The directory, because the file itself
    // is another one after each replacement.
    let _lock = lock(opened.try_clone()?)?;
    if read(&path)? != old {
        return Ok(Replaced::Changed);
    }
    let like = fs::metadata(&path)?;
    if keep == Keep::Backup {
        let temporary = Temporary::write(&path, old, &like)?;
        let mut backup = path.clone().into_os_string();
        backup.push(".back");
        temporary.put(Path::new(&backup))?;
    }
    let temporary = Temporary::write(&path, new, &like)?;
    let replaced = temporary.exchange(&path, old)?;
    opened.sync_all()?;
    Ok(replaced)
}

fn lock(directory: File) -> io::Result<Flock<File>> {
    let deadline = Instant::now() + LOCK_PATIENCE;
    let mut directory = directory;
    loop {
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                directory = back;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err((_, error)) => return Err(error.into()),
        }
    }
}

/// A new file beside the old one, which goes again unless it takes its place.
struct Temporary {
    path: PathBuf,
    placed: bool,
}

impl Temporary {
    fn write(path: &Path, text: &str, like: &fs::Metadata) -> io::Result<Self> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unique = uuid::Uuid::new_v4().simple();
        let temporary = Self {
            path: path.with_file_name(format!(".{name}.plimsoll-{unique}")),
            placed: false,
        };
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary.path)?;
        file.write_all(text.as_bytes())?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != (like.uid(), like.gid()) {
            fchown(file.as_fd(), Some(like.uid()), Some(like.gid()))
                .map_err(|error| explain(&error, "its owner cannot be kept"))?;
        }
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
        file.sync_all()?;
        Ok(temporary)
    }

    fn put(mut self, place: &Path) -> io::Result<()> {
        fs::rename(&self.path, place)?;
        self.placed = true;
        Ok(())
    }

    /// Takes the place of the file. What was there is looked at once more when it is out of
    /// everybody's way: if it is not `old` any longer, it gets its place back.
    fn exchange(self, place: &Path, old: &str) -> io::Result<Replaced> {
        let swap = |from: &Path, to: &Path| {
            let cwd = nix::fcntl::AT_FDCWD;
            renameat2(cwd, from, cwd, to, RenameFlags::RENAME_EXCHANGE)
        };
        match swap(&self.path, place) {
            Ok(()) => {}
            // A file system that cannot: what is left is a moment between two system calls.
            Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => {
                if read(place)? != old {
                    return Ok(Replaced::Changed);
                }
                return self.put(place).map(|()| Replaced::Done);
            }
            Err(nix::errno::Errno::EBUSY) => {
                let error = io::Error::from(nix::errno::Errno::EBUSY);
                let why = "it is mounted on its own; mount its directory instead";
                return Err(explain(&error, why));
            }
            Err(error) => return Err(error.into()),
        }
        match read(&self.path) {
            Ok(was) if was == old => Ok(Replaced::Done),
            _ => {
                swap(&self.path, place)?;
                Ok(Replaced::Changed)
            }
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.placed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn explain(error: &io::Error, why: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{why} ({error})"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn entries(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_keeps_its_mode_its_link_and_a_backup() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("real.yaml");
        let link = directory.path().join("compose.yaml");
        fs::write(&file, "old\r\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        symlink("real.yaml", &link).unwrap();
        let done = replace(&link, "old\r\n", "new\r\n", Keep::Backup).unwrap();
        assert!(matches!(done, Replaced::Done));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&file).unwrap(), "new\r\n");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        let backup = directory.path().join("real.yaml.back");
        assert_eq!(fs::read_to_string(&backup).unwrap(), "old\r\n");
        assert_eq!(fs::metadata(&backup).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(
            entries(directory.path()),
            ["compose.yaml", "real.yaml", "real.yaml.back"]
        );
    }

    #[test]
    fn what_somebody_else_wrote_stays() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("compose.yaml");
        fs::write(&file, "theirs").unwrap();
        let left = replace(&file, "old", "new", Keep::Backup).unwrap();
        assert!(matches!(left, Replaced::Changed));
        // And when they write between our last look and the exchange.
        let like = fs::metadata(&file).unwrap();
        let temporary = Temporary::write(&file, "new", &like).unwrap();
        let left = temporary.exchange(&file, "old").unwrap();
        assert!(matches!(left, Replaced::Changed));
        assert_eq!(fs::read_to_string(&file).unwrap(), "theirs");
        assert_eq!(entries(directory.path()), ["compose.yaml"], "no litter");
    }

    #[test]
    fn replacements_of_one_file_wait_for_each_other() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("compose.yaml");
        fs::write(&file, "0").unwrap();
        let counting = |_| {
            let file = file.clone();
            std::thread::spawn(move || {
                for _ in 0..20 {
                    loop {
                        let old = read(&file).unwrap();
                        let next = old.parse::<u32>().unwrap() + 1;
                        let done = replace(&file, &old, &next.to_string(), Keep::Nothing);
                        if matches!(done.unwrap(), Replaced::Done) {
                            break;
                        }
                    }
                }
            })
        };
        let threads: Vec<_> = (0..4).map(counting).collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(read(&file).unwrap(), "80");
    }
}
