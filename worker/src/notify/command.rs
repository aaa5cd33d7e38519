//! A program on the worker's machine. It gets the container in its environment and nothing of the
//! worker's own, which holds secrets. No shell is involved.

use std::{process::Stdio, time::Duration};

use futures::future::BoxFuture;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use plimsoll_runtime::settings::notifiers::{self as configured, words};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{Failure, Notifier, Outgoing, Sent, flat::flatten, secret};

/// What a program needs to find its way; everything else of our environment stays ours.
const INHERITED: &[&str] = &["PATH", "HOME", "LANG", "TZ"];
/// Bytes of one variable; the kernel refuses more than 128 kiB.
const MAX_VALUE: usize = 96 * 1024;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Command {
    words: Vec<SecretString>,
    timeout: Duration,
}

impl Command {
    pub fn new(own: &configured::Command) -> Result<Self, String> {
        let command = secret(&own.cmd, "cmd")?;
        Ok(Self {
            words: words(command.expose_secret())?
                .into_iter()
                .map(SecretString::from)
                .collect(),
            timeout: match own.timeout.0 {
                Duration::ZERO => DEFAULT_TIMEOUT,
                timeout => timeout,
            },
        })
    }

    async fn run(&self, message: &Outgoing) -> Sent {
        let mut words = self.words.iter().map(|word| word.expose_secret());
        let program = words.next().ok_or_else(|| Failure::new("no program"))?;
        let mut command = tokio::process::Command::new(program);
        command
            .args(words)
            .env_clear()
            .envs(
                INHERITED
                    .iter()
                    .filter_map(|name| Some((name, std::env::var_os(name)?))),
            )
            .envs(environment(message))
            .stdin(Stdio::null())
            // What it says may hold anything, and would end up in our log.
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| Failure::new(format!("the program cannot be started: {error}")))?;
        let group = Group(child.id());
        match tokio::time::timeout(self.timeout, child.wait()).await {
            Ok(Ok(status)) if status.success() => {
                group.leave();
                Ok(None)
            }
            Ok(Ok(status)) => {
                group.leave();
                Err(Failure::new(format!("the program ended with {status}")))
            }
            Ok(Err(error)) => Err(Failure::new(format!("the program was lost: {error}"))),
            Err(_) => Err(Failure::new(format!(
                "the program did not end within {} ms and was killed",
                self.timeout.as_millis()
            ))),
        }
    }
}

impl Notifier for Command {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(self.run(message))
    }

    fn patience(&self) -> Duration {
        self.timeout + Duration::from_secs(5)
    }
}

/// The program and all that it started, killed unless it has ended by itself.
struct Group(Option<u32>);

impl Group {
    fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let id = self.0.and_then(|id| i32::try_from(id).ok());
        if let Some(id) = id {
            // Its leader has not been waited for, so the number is still its own.
            let _ = killpg(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// One container as flat variables and whole in `container_json`; several in `containers_json`.
fn environment(message: &Outgoing) -> Vec<(String, String)> {
    let data = message.data();
    let whole = match message.many {
        true => "containers_json",
        false => "container_json",
    };
    let mut variables = vec![
        (whole.to_owned(), data.to_string()),
        ("event".to_owned(), message.event.clone()),
        ("message_title".to_owned(), message.text.title.clone()),
        ("message_body".to_owned(), message.text.body.clone()),
    ];
    if !message.many {
        let flat = flatten(&data).into_iter().map(|(name, value)| match value {
            Value::String(text) => (name, text),
            other => (name, other.to_string()),
        });
        variables.extend(flat);
    }
    variables.retain(|(_, value)| value.len() <= MAX_VALUE && !value.contains('\0'));
    variables
}
