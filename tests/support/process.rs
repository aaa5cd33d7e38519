//! A child process that ends with its guard, or with the test process, whichever comes first.

use std::ffi::OsStr;
use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll_runtime::child::{self, DeathSignal};

/// A command that dies with this test process. Give it to [`Process::spawn`].
pub fn command(program: impl AsRef<OsStr>) -> Command {
    child::bound(program, DeathSignal::Kill)
}

pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// # Panics
    /// When the program cannot be started, saying which.
    pub fn spawn(name: impl Into<String>, command: Command) -> Self {
        let name = name.into();
        let child = child::spawn(command)
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}; run `make services`"));
        Self { name, child }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal; a process that has ended already is no error.
    pub fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The exit status, if it has ended.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Panics with the process's name if it has ended.
    pub fn assert_running(&mut self, log: &str) {
        if let Some(status) = self.exited() {
            panic!("{} ended early ({status}):\n{log}", self.name);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
