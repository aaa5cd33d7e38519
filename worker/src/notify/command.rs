//! A program on the worker's machine. It gets the container in its environment and nothing of the
//! worker's own, which holds secrets. No shell is involved, and what it leaves running ends with it.

use std::{path::Path, time::Duration};

use futures::future::BoxFuture;
use plimsoll_runtime::settings::notifiers::{self as configured, words};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{Failure, Notifier, Outgoing, Sent, flat::flatten, secret};
use crate::command::{self, Call, CallError, Finished};

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
        let words = self.words.iter().map(|word| word.expose_secret());
        let words: Vec<String> = words.map(str::to_owned).collect();
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| Failure::new("no program"))?;
        let variables = environment(message);
        let inherited = INHERITED
            .iter()
            .filter_map(|name| Some((*name, std::env::var(name).ok()?)));
        let variables = variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()));
        let environment: Vec<(&str, String)> = inherited.chain(variables).collect();
        let call = Call {
            program: Path::new(program),
            arguments,
            environment: &environment,
            input: &[],
            timeout: self.timeout,
        };
        // What it says may hold anything, and would end up in our log; its name may be a secret.
        match command::run(call).await {
            Ok(Finished { code: Some(0), .. }) => Ok(None),
            Ok(Finished {
                code: Some(code), ..
            }) => Err(Failure::new(format!("the program ended with code {code}"))),
            Ok(Finished { code: None, .. }) => Err(Failure::new("a signal has ended the program")),
            Err(CallError::NotStarted { error, .. }) => Err(Failure::new(format!(
                "the program cannot be started: {error}"
            ))),
            Err(CallError::TimedOut { after, .. }) => Err(Failure::new(format!(
                "the program did not end within {} ms and was killed",
                after.as_millis()
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
