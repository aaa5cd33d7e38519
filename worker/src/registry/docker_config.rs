//! Credentials from Docker's own `config.json`, credential helpers included.

use std::{
    collections::HashMap,
    fs::File,
    io::BufReader,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use docker_credential::{CredentialRetrievalError, DockerCredential};
use tokio::sync::Mutex;

use super::{host, settings::Credentials};

/// A helper that asks a person for something never answers.
const HELPER: Duration = Duration::from_secs(10);
/// `docker login` is noticed after this time at the latest.
const KEEP: Duration = Duration::from_secs(60);

pub(super) struct DockerConfig {
    path: Option<PathBuf>,
    /// The lock is held during a look-up: one helper process at a time.
    known: Mutex<HashMap<String, (Instant, Option<Credentials>)>>,
}

impl DockerConfig {
    /// `None`: no file, no credentials.
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self {
            path,
            known: Mutex::default(),
        }
    }

    /// Where the Docker command line looks: `$DOCKER_CONFIG` or `~/.docker`.
    pub(super) fn default_path() -> Option<PathBuf> {
        let directory = std::env::var_os("DOCKER_CONFIG")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".docker")))?;
        Some(directory.join("config.json"))
    }

    /// What `docker login` left for `registry`. A broken file or helper counts as nothing, with a
    /// warning: public images must not depend on it.
    pub(super) async fn find(&self, registry: &str) -> Option<Credentials> {
        let path = self.path.clone()?;
        let mut known = self.known.lock().await;
        if let Some((at, found)) = known.get(registry)
            && at.elapsed() < KEEP
        {
            return found.clone();
        }
        let name = if registry == host::HUB {
            host::HUB_LOGIN.to_owned()
        } else {
            registry.to_owned()
        };
        let read = tokio::task::spawn_blocking(move || read(&path, &name));
        let found = match tokio::time::timeout(HELPER, read).await {
            Ok(Ok(Ok(found))) => found,
            Ok(Ok(Err(problem))) => {
                tracing::warn!(registry, problem, "Docker's credentials were not read");
                None
            }
            Ok(Err(_)) | Err(_) => {
                tracing::warn!(registry, "Docker's credential helper did not answer");
                None
            }
        };
        known.insert(registry.to_owned(), (Instant::now(), found.clone()));
        found
    }
}

fn read(path: &Path, name: &str) -> Result<Option<Credentials>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    match docker_credential::get_credential_from_reader(BufReader::new(file), name) {
        Ok(DockerCredential::UsernamePassword(login, password)) if !login.is_empty() => {
            Ok(Some(Credentials::password(&login, &password)))
        }
        Ok(DockerCredential::UsernamePassword(..)) => Ok(None),
        Ok(DockerCredential::IdentityToken(token)) => {
            Ok(Some(Credentials::IdentityToken(token.into())))
        }
        Err(CredentialRetrievalError::NoCredentialConfigured) => Ok(None),
        // What a helper prints may hold secrets. Most often it says that it knows nothing.
        Err(CredentialRetrievalError::HelperFailure { stdout, .. })
            if stdout.contains("not found") =>
        {
            Ok(None)
        }
        Err(CredentialRetrievalError::HelperFailure { helper, .. }) => {
            Err(format!("{helper} failed"))
        }
        Err(error) => Err(error.to_string()),
    }
}
