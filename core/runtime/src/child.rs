//! Child processes that must not outlive this process.
//!
//! Linux delivers the parent-death signal when the parent *thread* ends, not the process
//! (prctl(2), PR_SET_PDEATHSIG). A pool thread may end early, so every bound child is spawned by
//! one thread that lives as long as the process does. The signal is set by `setpriv` (part of
//! Debian's util-linux, which is always installed) rather than by a `pre_exec` closure, because
//! that would be the only unsafe code here.

use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{OnceLock, mpsc};

/// What the kernel sends to a child when this process dies, however it dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeathSignal {
    Kill,
    /// Postgres reads this as a fast, clean stop.
    Interrupt,
}

/// A command for `program` that dies with this process and is in a process group of its own, so
/// that a Ctrl-C in the terminal reaches only us and we decide the order of stopping. Start it
/// with [`spawn`].
pub fn bound(program: impl AsRef<OsStr>, signal: DeathSignal) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg("--pdeathsig")
        .arg(match signal {
            DeathSignal::Kill => "KILL",
            DeathSignal::Interrupt => "INT",
        })
        .arg("--")
        .arg(program)
        .process_group(0);
    command
}

type Request = (Command, mpsc::Sender<io::Result<Child>>);

/// Spawns `command` from the thread that lives as long as the process.
///
/// # Errors
/// What `Command::spawn` reports: most often that the program, or `setpriv`, does not exist.
pub fn spawn(command: Command) -> io::Result<Child> {
    static SPAWNER: OnceLock<mpsc::Sender<Request>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (requests, inbox) = mpsc::channel::<Request>();
        std::thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    // The asker waits below; if it is gone, nobody needs the child.
                    if let Err(mpsc::SendError(Ok(mut orphan))) = answer.send(command.spawn()) {
                        let _ = orphan.kill();
                        let _ = orphan.wait();
                    }
                }
            })
            .expect("the operating system can start a thread");
        requests
    });
    let (answer, result) = mpsc::channel();
    spawner
        .send((command, answer))
        .map_err(|_| io::Error::other("the spawner thread has ended"))?;
    result
        .recv()
        .map_err(|_| io::Error::other("the spawner thread has ended"))?
}
