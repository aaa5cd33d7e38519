//! Trivy's command line (trivy.dev, "trivy image"). Credentials go by its environment: what is in
//! argv, every process of the machine can read.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use plimsoll_domain::{
    image::ImageRef,
    security::{Subject, Vulnerability, read_trivy},
};
use secrecy::ExposeSecret;

use super::{Run, ScanError, ScanPlace};
use crate::registry::Registries;

/// Bytes of a report. A large image with ten thousand findings has about 30 MB.
const MAX_REPORT: u64 = 128 * 1024 * 1024;
/// How much longer the process may take than Trivy gives itself.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct TrivySettings {
    pub command: String,
    /// The address of a Trivy server, which has the database; else Trivy keeps its own.
    pub server: Option<String>,
    pub timeout: Duration,
    /// The directory of Docker's `config.json`, for logins that are no passwords.
    pub docker_config: Option<PathBuf>,
}

/// An image of a registry, by its digest.
pub async fn of_registry(
    settings: &TrivySettings,
    registries: &Registries,
    image: &ImageRef,
    place: &ScanPlace<'_>,
) -> Result<Vec<Vulnerability>, ScanError> {
    let mut environment = Vec::new();
    let auth = registries.pull_auth(image).await;
    if let Some(auth) = auth.map_err(|error| ScanError::Impossible(error.to_string()))?
        && let (Some(user), Some(password)) = (auth.username, auth.password)
    {
        environment.push(("TRIVY_USERNAME", user.into()));
        environment.push(("TRIVY_PASSWORD", password.expose_secret().into()));
    }
    let plain = registries
        .configured(image.registry())
        .is_some_and(|(_, url)| url.starts_with("http://"));
    if plain {
        environment.push(("TRIVY_NON_SSL", "true".into()));
    }
    let digest = image.digest().map(|digest| digest.as_str());
    let name = format!("{}@{}", image.familiar_name(), digest.unwrap_or_default());
    let mut arguments = arguments(settings, "remote");
    arguments.extend(["--platform".into(), place.platform.into()]);
    run(settings, arguments, environment, name).await
}

/// An image that only the engine has, by its id.
pub async fn of_engine(
    settings: &TrivySettings,
    subject: &Subject,
    place: &ScanPlace<'_>,
) -> Result<Vec<Vulnerability>, ScanError> {
    let engine = match place.engine.split_once("://") {
        Some(("unix", _)) => place.engine.to_owned(),
        Some(("http", host)) => format!("tcp://{host}"),
        _ => {
            return Err(ScanError::Impossible(format!(
                "{} is in no registry, and the scanner cannot reach the engine {}",
                subject.image, place.engine
            )));
        }
    };
    let arguments = arguments(settings, "docker");
    let environment = vec![("DOCKER_HOST", engine.into())];
    run(settings, arguments, environment, subject.key().to_owned()).await
}

fn arguments(settings: &TrivySettings, source: &str) -> Vec<OsString> {
    let timeout = format!("{}s", settings.timeout.as_secs().max(1));
    let mut arguments: Vec<OsString> = [
        "image",
        "--quiet",
        "--format",
        "json",
        "--scanners",
        "vuln",
        "--timeout",
        &timeout,
        "--image-src",
        source,
    ]
    .iter()
    .map(Into::into)
    .collect();
    if let Some(server) = &settings.server {
        arguments.extend(["--server".into(), server.into()]);
    }
    arguments
}

async fn run(
    settings: &TrivySettings,
    mut arguments: Vec<OsString>,
    mut environment: Vec<(&'static str, OsString)>,
    image: String,
) -> Result<Vec<Vulnerability>, ScanError> {
    if let Some(directory) = &settings.docker_config {
        environment.push(("DOCKER_CONFIG", directory.into()));
    }
    // An image's name never reads as an option.
    arguments.extend(["--".into(), image.into()]);
    let report = Run {
        command: &settings.command,
        arguments,
        environment,
        prefix: "TRIVY_",
        timeout: settings.timeout + GRACE,
        limit: MAX_REPORT,
    };
    let report = report.output().await?;
    // A large report takes a while.
    tokio::task::spawn_blocking(move || read_trivy(&report))
        .await
        .map_err(|error| ScanError::Impossible(error.to_string()))?
        .map_err(ScanError::Unreadable)
}
