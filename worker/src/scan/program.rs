//! Runs a tool: argv without a shell, an environment of its own, bounded output, and an end. What
//! it has started ends with it.

use std::{
    ffi::OsString,
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use plimsoll_runtime::child::{DeathSignal, bound};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::Command,
    time::timeout,
};

use crate::command::Group;

/// Bytes of what a tool says about its failure that are read.
const MAX_COMPLAINT: u64 = 64 * 1024;
/// Characters of it that are shown.
const SHOWN: usize = 400;
/// What tools need of our own environment: where programs, caches and authorities are, and the way
/// out. Nothing of Plimsoll's settings.
const INHERITED: [&str; 17] = [
    "HOME",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "LANG",
    "LC_ALL",
    "NO_PROXY",
    "PATH",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "TMPDIR",
    "TZ",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];

/// One run of a tool.
pub struct Run<'a> {
    /// A path, or a name that is looked for in `PATH`.
    pub command: &'a str,
    pub arguments: Vec<OsString>,
    /// Besides what is inherited. Credentials go here, never into the arguments.
    pub environment: Vec<(&'static str, OsString)>,
    /// Variables of our own environment with this prefix are the tool's own settings.
    pub prefix: &'static str,
    pub timeout: Duration,
    /// Bytes of output that are read; more is an error.
    pub limit: u64,
}

/// Why a tool gave no answer, for people.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0} is not installed where the worker runs")]
    Missing(String),
    #[error("{0} cannot be started: {1}")]
    Start(String, io::Error),
    #[error("{command} did not end within {} s", .after.as_secs())]
    Slow { command: String, after: Duration },
    #[error("{command} wrote more than {limit} bytes")]
    TooLong { command: String, limit: u64 },
    #[error("{command} failed: {why}")]
    Failed {
        command: String,
        /// With which it ended; `None` for a signal.
        code: Option<i32>,
        why: String,
    },
}

/// Where `command` is, if it can be run.
pub fn find(command: &str) -> Option<PathBuf> {
    let runs = |path: &Path| {
        path.metadata()
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if command.contains('/') {
        return Some(PathBuf::from(command)).filter(|path| runs(path));
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|directory| directory.join(command))
        .find(|path| runs(path))
}

impl Run<'_> {
    /// What it wrote to its standard output. Dropping the future ends the tool.
    pub async fn output(self) -> Result<Vec<u8>, RunError> {
        let name = self.command.to_owned();
        let program = find(&name).ok_or_else(|| RunError::Missing(name.clone()))?;
        let mut command = bound(&program, DeathSignal::Kill);
        let own = |key: &str| !self.prefix.is_empty() && key.starts_with(self.prefix);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(std::env::vars_os().filter(|(key, _)| {
                let key = key.to_str().unwrap_or_default();
                INHERITED.contains(&key) || own(key)
            }))
            .envs(self.environment)
            // Tools read configuration from where they are started: nowhere that others can write.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = Command::from(command)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| RunError::Start(name.clone(), error))?;
        // Also when this future is dropped, and for whatever the tool has left behind.
        let _group = Group::of(&child);
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let work = async {
            let (output, complaint, status) = tokio::join!(
                read(out, self.limit + 1),
                read(err, MAX_COMPLAINT),
                child.wait()
            );
            (output, complaint, status)
        };
        let Ok((output, complaint, status)) = timeout(self.timeout, work).await else {
            return Err(RunError::Slow {
                command: name,
                after: self.timeout,
            });
        };
        if output.len() as u64 > self.limit {
            return Err(RunError::TooLong {
                command: name,
                limit: self.limit,
            });
        }
        match status {
            Ok(status) if status.success() => Ok(output),
            Ok(status) => Err(RunError::Failed {
                command: name,
                code: status.code(),
                why: match last_words(&complaint) {
                    words if words.is_empty() => status.to_string(),
                    words => words,
                },
            }),
            Err(error) => Err(RunError::Start(name, error)),
        }
    }
}

/// The first `limit` bytes. Closing the pipe then ends a tool that would write for ever.
async fn read(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        let _ = pipe.take(limit).read_to_end(&mut bytes).await;
    }
    bytes
}

/// The end of what a tool said, on one line.
fn last_words(complaint: &[u8]) -> String {
    let text = String::from_utf8_lossy(complaint);
    let mut words: Vec<&str> = text.split_whitespace().collect();
    let mut length = 0;
    let from = words
        .iter()
        .rposition(|word| {
            length += word.chars().count() + 1;
            length > SHOWN
        })
        .map_or(0, |last| last + 1);
    let shown = words.split_off(from).join(" ");
    shown
        .chars()
        .filter(|c| !c.is_control())
        .take(SHOWN)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Run<'static> {
        Run {
            command: "sh",
            arguments: vec!["-c".into(), script.into()],
            environment: vec![("GIVEN", "yes".into())],
            prefix: "",
            timeout: Duration::from_secs(5),
            limit: 1000,
        }
    }

    #[tokio::test]
    async fn a_tool_sees_what_it_is_given_and_nothing_of_ours() {
        let output = sh("echo \"$GIVEN ${CARGO_PKG_NAME:-none}\"").output().await;
        assert_eq!(output.unwrap(), b"yes none\n");
    }

    #[tokio::test]
    async fn a_tool_that_does_not_end_is_ended_with_its_children() {
        let scratch = tempfile::tempdir().unwrap();
        let mark = scratch.path().join("child");
        let script = format!("sleep 600 & echo $! > {}; wait", mark.display());
        let run = Run {
            timeout: Duration::from_secs(1),
            ..sh(&script)
        };
        let slow = run.output().await;
        assert!(matches!(slow, Err(RunError::Slow { .. })), "{slow:?}");
        let child: i32 = std::fs::read_to_string(&mark)
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        let gone = || {
            // A zombie that nobody has waited for yet has ended, too.
            std::fs::read_to_string(format!("/proc/{child}/stat"))
                .map_or(true, |stat| stat.contains(") Z"))
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        while !gone() {
            assert!(std::time::Instant::now() < deadline, "the child still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn failures_say_what_the_tool_said() {
        let failed = sh("echo FATAL no such image >&2; exit 3").output().await;
        assert_eq!(
            failed.unwrap_err().to_string(),
            "sh failed: FATAL no such image"
        );
        let long = sh("while :; do echo xxxxxxxxxxxxxxxx; done").output().await;
        assert!(matches!(long, Err(RunError::TooLong { .. })), "{long:?}");
        let missing = Run {
            command: "no-such-tool",
            ..sh("")
        };
        assert_eq!(
            missing.output().await.unwrap_err().to_string(),
            "no-such-tool is not installed where the worker runs"
        );
    }
}
