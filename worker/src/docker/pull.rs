//! Pulling an image. The engine answers 200 at once and reports errors inside the stream; a
//! stalled registry shows as a stream that says nothing new (reliability.md D10).

use std::collections::HashMap;
use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use http::{Method, Request};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::containers::about;
use super::engine::{About, Engine, deadline, escape};
use super::error::EngineError;
use super::events::JsonLines;

/// What to pull.
#[derive(Clone, Debug)]
pub struct PullRequest {
    /// `repo@sha256:…` (any tag before the digest is ignored), or `repo:tag`. Without either, the
    /// tag `latest`: the engine would otherwise pull every tag of the repository.
    pub reference: String,
    pub auth: Option<RegistryAuth>,
    /// `linux/arm64`; absent for the engine's own.
    pub platform: Option<String>,
}

/// Credentials that the engine passes on to the registry. It does not keep them.
#[derive(Clone, Debug)]
pub enum RegistryAuth {
    Password {
        username: String,
        password: SecretString,
        /// The registry's host, as in Docker's own configuration file.
        server: String,
    },
    /// An OAuth refresh token, Docker's "identity token".
    IdentityToken { token: SecretString, server: String },
}

/// How far a pull is. Totals grow while layers are discovered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    pub bytes_done: u64,
    pub bytes_total: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    status: String,
    #[serde(default)]
    error: Option<String>,
    #[serde(default)]
    progress_detail: Option<Detail>,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    current: u64,
    #[serde(default)]
    total: u64,
}

impl Engine {
    /// Pulls, and returns when the image is here. Ends with `Timeout` after a minute without
    /// progress or after half an hour, with `Cancelled` as soon as `cancel` is: both make the
    /// engine stop. Layers that are here stay for the next attempt. A missing image is `NotFound`
    /// or `Server`, as the engine chooses.
    pub async fn pull(
        &self,
        request: &PullRequest,
        cancel: &CancellationToken,
        mut progress: impl FnMut(PullProgress),
    ) -> Result<(), EngineError> {
        let subject = format!("the image {}", request.reference);
        let about = about("pull", &subject);
        let started = Instant::now();
        let body = self
            .or_cancelled(cancel, about, self.open_pull(request, about))
            .await?;
        let mut lines = JsonLines::<Message>::new(body);
        let mut watch = Watchdog::default();
        let mut moved = Instant::now();
        loop {
            let total = started + deadline::PULL_TOTAL;
            let (until, limit) = if moved + deadline::PULL_IDLE < total {
                (moved + deadline::PULL_IDLE, deadline::PULL_IDLE)
            } else {
                (total, deadline::PULL_TOTAL)
            };
            let next = async {
                match timeout_at(until, lines.next()).await {
                    Ok(Ok(line)) => Ok(line),
                    Ok(Err(message)) => Err(self.interrupted(about, &message)),
                    Err(_) => Err(self.timed_out(about, limit)),
                }
            };
            let Some(message) = self.or_cancelled(cancel, about, next).await? else {
                return Ok(());
            };
            if let Some(error) = message.error {
                return Err(self.pull_failed(&subject, error));
            }
            if watch.has_moved(&message) {
                moved = Instant::now();
                progress(watch.progress());
            }
        }
    }

    async fn open_pull(
        &self,
        request: &PullRequest,
        about: About<'_>,
    ) -> Result<hyper::body::Incoming, EngineError> {
        let (repository, tag) = split_reference(&request.reference);
        let mut path = format!(
            "/images/create?fromImage={}&tag={}",
            escape(repository),
            escape(tag)
        );
        if let Some(platform) = &request.platform {
            path.push_str(&format!("&platform={}", escape(platform)));
        }
        let mut builder = Request::builder().method(Method::POST);
        if let Some(auth) = &request.auth {
            builder = builder.header("X-Registry-Auth", auth.header());
        }
        self.open(builder, &path, about, deadline::PULL_IDLE).await
    }

    async fn or_cancelled<T>(
        &self,
        cancel: &CancellationToken,
        about: About<'_>,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        tokio::select! {
            result = work => result,
            () = cancel.cancelled() => Err(EngineError::Cancelled {
                engine: self.shown(),
                action: about.action,
                subject: about.subject.to_owned(),
            }),
        }
    }

    fn pull_failed(&self, subject: &str, message: String) -> EngineError {
        let engine = self.shown();
        let subject = subject.to_owned();
        // The stream has no status. These are the registry's own words for "no such image".
        let absent = ["manifest unknown", "not found: manifest", "does not exist"];
        if absent.iter().any(|words| message.contains(words)) {
            return EngineError::NotFound {
                engine,
                subject,
                message,
            };
        }
        EngineError::Server {
            engine,
            action: "pull",
            subject,
            message,
        }
    }
}

impl RegistryAuth {
    fn header(&self) -> String {
        let value = match self {
            RegistryAuth::Password {
                username,
                password,
                server,
            } => json!({
                "username": username,
                "password": password.expose_secret(),
                "serveraddress": server,
            }),
            RegistryAuth::IdentityToken { token, server } => json!({
                "identitytoken": token.expose_secret(),
                "serveraddress": server,
            }),
        };
        URL_SAFE.encode(value.to_string())
    }
}

/// The repository, and the digest or tag to ask for.
fn split_reference(reference: &str) -> (&str, &str) {
    let (name, digest) = match reference.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let (repository, tag) = match name.rsplit_once(':') {
        // A colon before the last slash belongs to the registry's port.
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (name, "latest"),
    };
    (repository, digest.unwrap_or(tag))
}

/// Tells news from noise: the engine repeats "Waiting" and counts down "Retrying in" without
/// moving a byte.
#[derive(Default)]
struct Watchdog {
    layers: HashMap<String, (String, u64, u64)>,
}

impl Watchdog {
    fn has_moved(&mut self, message: &Message) -> bool {
        if message.status.starts_with("Retrying in") {
            return false;
        }
        let id = message.id.clone().unwrap_or_default();
        let (current, total) = message
            .progress_detail
            .as_ref()
            .map_or((0, 0), |detail| (detail.current, detail.total));
        let layer = self.layers.entry(id).or_default();
        let moved = layer.0 != message.status || layer.1 != current;
        if moved {
            layer.0.clone_from(&message.status);
            layer.1 = current;
            layer.2 = layer.2.max(total);
        }
        moved
    }

    fn progress(&self) -> PullProgress {
        let mut sum = PullProgress::default();
        for (status, current, total) in self.layers.values() {
            // Only "Downloading" counts bytes of the network; a later status means all of them.
            sum.bytes_total += total;
            sum.bytes_done += if status == "Downloading" {
                *current
            } else {
                *total
            };
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_never_every_tag_of_a_repository() {
        for (reference, repository, tag) in [
            ("nginx", "nginx", "latest"),
            ("nginx:1.27", "nginx", "1.27"),
            ("host:5000/a/b", "host:5000/a/b", "latest"),
            ("host:5000/a/b:2", "host:5000/a/b", "2"),
            ("host:5000/a:2@sha256:ab", "host:5000/a", "sha256:ab"),
            ("a@sha256:ab", "a", "sha256:ab"),
        ] {
            assert_eq!(split_reference(reference), (repository, tag), "{reference}");
        }
    }

    #[test]
    fn a_countdown_is_not_progress() {
        let mut watch = Watchdog::default();
        let message = |status: &str, current| Message {
            id: Some("layer".to_owned()),
            status: status.to_owned(),
            error: None,
            progress_detail: Some(Detail {
                current,
                total: 100,
            }),
        };
        assert!(watch.has_moved(&message("Downloading", 10)));
        assert!(!watch.has_moved(&message("Downloading", 10)));
        assert!(!watch.has_moved(&message("Retrying in 4 seconds", 0)));
        assert!(!watch.has_moved(&message("Retrying in 3 seconds", 0)));
        assert!(watch.has_moved(&message("Downloading", 11)));
        assert_eq!(
            watch.progress(),
            PullProgress {
                bytes_done: 11,
                bytes_total: 100
            }
        );
    }
}
