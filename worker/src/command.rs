//! Running a program: arguments as they are and no shell, a cleared environment, bounded output,
//! and an end for all of its processes (reliability.md S-29).

use std::{path::Path, process::Stdio, time::Duration};

use nix::{sys::signal::Signal, unistd::Pid};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

/// What is kept of each of the two streams, from its beginning.
const MAX_OUTPUT: usize = 64 << 10;
/// How long what was printed last may take to arrive once the program has ended. Something that it
/// left running may hold its streams open for ever.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What to run.
#[derive(Clone, Debug)]
pub struct Call<'a> {
    /// An absolute path, or a name that is looked for in the `PATH` of `environment`.
    pub program: &'a Path,
    pub arguments: &'a [String],
    /// All of it.
    pub environment: &'a [(&'a str, String)],
    pub input: &'a [u8],
    pub timeout: Duration,
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// `None` when a signal ended it.
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("{program} cannot be started: {error}")]
    NotStarted {
        program: String,
        error: std::io::Error,
    },
    #[error("{program} did not end within {} s and was killed", after.as_secs_f32())]
    TimedOut { program: String, after: Duration },
}

/// Runs it to its end. What it leaves running ends with it: nobody else would ever end that.
/// Dropping the future kills all of it.
///
/// # Errors
/// When it cannot be started, or does not end in time.
pub async fn run(call: Call<'_>) -> Result<Finished, CallError> {
    let program = call.program.display().to_string();
    let not_started = |error| CallError::NotStarted {
        program: program.clone(),
        error,
    };
    let mut command = Command::new(call.program);
    command
        .args(call.arguments)
        .env_clear()
        .envs(call.environment.iter().map(|(key, value)| (key, value)))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(not_started)?;
    let _group = Group::of(&child);
    let (input, output, errors) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feeding = async {
        if let Some(mut stdin) = input {
            // One that does not read is none of our business.
            let _ = stdin.write_all(call.input).await;
        }
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let reading = async {
        tokio::join!(feeding, drain(output, &mut out), drain(errors, &mut err));
    };
    let ending = async {
        let mut reading = std::pin::pin!(reading);
        let status = tokio::select! {
            status = child.wait() => status,
            () = &mut reading => return child.wait().await,
        };
        let _ = timeout(LAST_WORDS, reading).await;
        status
    };
    let status = match timeout(call.timeout, ending).await {
        Ok(status) => status.map_err(not_started)?,
        Err(_) => {
            return Err(CallError::TimedOut {
                program,
                after: call.timeout,
            });
        }
    };
    Ok(Finished {
        code: status.code(),
        output: text(&out),
        errors: text(&err),
    })
}

/// Reads to the end and keeps the beginning.
async fn drain(stream: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut chunk = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut chunk).await {
        let room = MAX_OUTPUT.saturating_sub(kept.len());
        kept.extend_from_slice(&chunk[..read.min(room)]);
    }
}

/// Postgres keeps no NUL in a text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}")
}

/// The processes that a program has started, which end when this does.
pub(crate) struct Group(Option<Pid>);

impl Group {
    /// `child` must have been started as the first of a group of its own.
    pub(crate) fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        Self(id.map(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Gone already is as good.
            let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
        }
    }
}

#[cfg(test)]
mod tests {
    use plimsoll_support::wait;

    use super::*;

    async fn sh(script: &str, timeout: Duration) -> Result<Finished, CallError> {
        run(Call {
            program: Path::new("/bin/sh"),
            arguments: &["-c".to_owned(), script.to_owned()],
            environment: &[("ONLY", "this".to_owned())],
            input: b"fed",
            timeout,
        })
        .await
    }

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_program_gets_its_input_and_its_environment_and_nothing_else() {
        let script = "cat; echo; echo $ONLY $HOME; echo bad >&2; exit 3";
        let done = sh(script, SOON).await.unwrap();
        assert_eq!(done.code, Some(3));
        assert_eq!(done.output, "fed\nthis\n");
        assert_eq!(done.errors, "bad\n");
    }

    #[tokio::test]
    async fn its_output_is_bounded() {
        let done = sh("yes | head -c 1000000", SOON).await.unwrap();
        assert_eq!(done.code, Some(0));
        assert_eq!(done.output.len(), MAX_OUTPUT);
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_its_children() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display();
        let script = format!("sleep 100 & echo $! > {path}; wait");
        let running = sh(&script, Duration::from_millis(500));
        let late = running.await.unwrap_err();
        assert!(late.to_string().contains("did not end within"), "{late}");
        let child = std::fs::read_to_string(file.path()).unwrap();
        let status = format!("/proc/{}/stat", child.trim());
        wait::until_true("the child to end", SOON, async || {
            // One that nobody reaps is dead all the same.
            std::fs::read_to_string(&status).is_ok_and(|stat| stat.contains(" Z "))
                || !Path::new(&status).exists()
        })
        .await;
    }

    #[tokio::test]
    async fn what_it_leaves_running_keeps_nobody_waiting() {
        let begun = std::time::Instant::now();
        let done = sh("sleep 100 & echo done", SOON).await.unwrap();
        assert_eq!(done.output, "done\n");
        assert!(begun.elapsed() < Duration::from_secs(8));
    }

    #[tokio::test]
    async fn what_is_not_there_is_said() {
        let call = Call {
            program: Path::new("/no/such/program"),
            arguments: &[],
            environment: &[],
            input: b"",
            timeout: SOON,
        };
        let error = run(call).await.unwrap_err().to_string();
        assert!(
            error.starts_with("/no/such/program cannot be started"),
            "{error}"
        );
    }
}
