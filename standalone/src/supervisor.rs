//! Keeps one child process running until it is told to stop.

use std::io;
use std::process::Child;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A child that ran this long has proved that it can: its next crash is repaired at once.
const PROVED: Duration = Duration::from_secs(60);

/// How to start a child, and how to stop it.
pub struct Plan {
    /// For logs.
    pub name: &'static str,
    pub start: Box<dyn FnMut() -> io::Result<Child> + Send>,
    /// Asks it to end in order.
    pub stop: Signal,
    /// Ends it when it has not followed `stop` in time.
    pub force: Signal,
}

/// A supervised child. Dropping it stops the child and waits until it has ended.
pub struct Supervised {
    shared: Arc<Shared>,
    stop: Signal,
    force: Signal,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Set only while the process has not been reaped, so that a signal never hits a stranger.
    pid: Option<Pid>,
    stopping: bool,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Supervised {
    /// Starts the child now and again whenever it ends, after a pause that doubles from 50 ms to
    /// 10 s.
    ///
    /// # Errors
    /// When the first start fails: then its program cannot be run at all.
    pub fn start(mut plan: Plan) -> io::Result<Self> {
        let child = (plan.start)()?;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                pid: Some(pid_of(&child)),
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let (stop, force) = (plan.stop, plan.force);
        let thread = std::thread::Builder::new()
            .name(format!("{} keeper", plan.name))
            .spawn({
                let shared = Arc::clone(&shared);
                move || keep(plan, child, &shared)
            })?;
        Ok(Self {
            shared,
            stop,
            force,
            thread: Some(thread),
        })
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.shared.state().pid {
            // It can only fail if the process has ended, which is what we want.
            let _ = kill(pid, signal);
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.shared.state().stopping = true;
        self.shared.changed.notify_all();
        self.signal(self.stop);
        let state = self.shared.state();
        let (state, timeout) = self
            .shared
            .changed
            .wait_timeout_while(state, Duration::from_secs(15), |state| !state.ended)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if timeout.timed_out() {
            self.signal(self.force);
        }
        if let Some(thread) = self.thread.take() {
            // A keeper that panicked has no child left to wait for.
            let _ = thread.join();
        }
    }
}

fn keep(mut plan: Plan, mut child: Child, shared: &Shared) {
    let mut pause = FIRST_PAUSE;
    loop {
        let started = Instant::now();
        let status = wait(&mut child, shared);
        if shared.state().stopping {
            break;
        }
        if started.elapsed() >= PROVED {
            pause = FIRST_PAUSE;
        }
        match status {
            Ok(status) => tracing::error!("{} ended ({status}); starting it again", plan.name),
            Err(error) => tracing::error!("{} was lost: {error}; starting it again", plan.name),
        }
        child = loop {
            if rest(shared, pause) {
                shared.state().ended = true;
                shared.changed.notify_all();
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
            match (plan.start)() {
                Ok(child) => break child,
                Err(error) => tracing::error!("{} cannot be started: {error}", plan.name),
            }
        };
        let mut state = shared.state();
        state.pid = Some(pid_of(&child));
        let (stopping, pid) = (state.stopping, state.pid);
        drop(state);
        if let (true, Some(pid)) = (stopping, pid) {
            // The request to stop came between the pause and the start.
            let _ = kill(pid, plan.stop);
        }
    }
    shared.state().ended = true;
    shared.changed.notify_all();
}

/// Waits for the end without reaping, so that the number stays ours until nobody can use it.
fn wait(child: &mut Child, shared: &Shared) -> io::Result<std::process::ExitStatus> {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
    while let Err(nix::errno::Errno::EINTR) = waitid(Id::Pid(pid_of(child)), flags) {}
    shared.state().pid = None;
    child.wait()
}

/// Waits for `pause` or the request to stop; says whether the latter came.
fn rest(shared: &Shared, pause: Duration) -> bool {
    let state = shared.state();
    let (state, _) = shared
        .changed
        .wait_timeout_while(state, pause, |state| !state.stopping)
        .unwrap_or_else(PoisonError::into_inner);
    state.stopping
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// Ends a process that a killed predecessor may have left, if `is_ours` recognises it, and waits
/// until it has gone.
///
/// # Errors
/// When it resists for ten seconds.
pub fn end_leftover(
    name: &str,
    pid: i32,
    stop: Signal,
    is_ours: impl Fn(i32) -> bool,
) -> anyhow::Result<()> {
    let begin = Instant::now();
    let mut asked = false;
    while is_ours(pid) {
        let force = begin.elapsed() > Duration::from_secs(5);
        if !asked || force {
            tracing::warn!("ending {name} (process {pid}), left by a run that was killed");
            let _ = kill(
                Pid::from_raw(pid),
                if force { Signal::SIGQUIT } else { stop },
            );
            asked = true;
        }
        anyhow::ensure!(
            begin.elapsed() < Duration::from_secs(10),
            "{name} (process {pid}) was left by a run that was killed and does not end; end it \
             with: kill -9 {pid}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
