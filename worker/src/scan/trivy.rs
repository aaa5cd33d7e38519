//! Trivy's command line (trivy.dev, "trivy image"). Credentials go by its environment: what is in
//! argv, every process of the machine can read.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use plimsoll_domain::{
    image::ImageRef,
    security::{SbomFormat, Subject, Vulnerability, read_trivy},
};
use secrecy::ExposeSecret;

use super::{
    Run, ScanError, ScanPlace,
    access::{Access, by_digest, docker_host},
    sbom::MAX_DOCUMENT,
};
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

/// Where Trivy finds an image, and how.
pub struct Source {
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    image: String,
}

impl Source {
    /// An image of a registry, by its digest.
    pub async fn registry(
        registries: &Registries,
        image: &ImageRef,
        place: &ScanPlace<'_>,
    ) -> Result<Self, ScanError> {
        let access = Access::to(registries, image).await?;
        let mut environment = Vec::new();
        if let Some((user, password)) = access.login {
            environment.push(("TRIVY_USERNAME", user.into()));
            environment.push(("TRIVY_PASSWORD", password.expose_secret().into()));
        }
        if access.transport.plain {
            environment.push(("TRIVY_NON_SSL", "true".into()));
        }
        if access.transport.insecure {
            environment.push(("TRIVY_INSECURE", "true".into()));
        }
        // Besides the authorities of the directories of certificates.
        if let Some(file) = access.transport.ca_file {
            environment.push(("SSL_CERT_FILE", file.into()));
        }
        Ok(Self {
            arguments: ["--image-src", "remote", "--platform", place.platform]
                .map(Into::into)
                .into(),
            environment,
            image: by_digest(image),
        })
    }

    /// An image that only the engine has, by its id.
    pub fn engine(subject: &Subject, place: &ScanPlace<'_>) -> Result<Self, ScanError> {
        let host = docker_host(place.engine).ok_or_else(|| {
            ScanError::Impossible(format!(
                "{} is in no registry, and the scanner cannot reach the engine {}",
                subject.image, place.engine
            ))
        })?;
        Ok(Self {
            arguments: ["--image-src", "docker"].map(Into::into).into(),
            environment: vec![("DOCKER_HOST", host.into())],
            image: subject.key().to_owned(),
        })
    }
}

/// What is known to be wrong with the image, the worst first.
pub async fn scan(
    settings: &TrivySettings,
    source: Source,
) -> Result<Vec<Vulnerability>, ScanError> {
    let report = run(
        settings,
        &["json", "--scanners", "vuln"],
        source,
        MAX_REPORT,
    )
    .await?;
    // A large report takes a while.
    tokio::task::spawn_blocking(move || read_trivy(&report))
        .await
        .map_err(|error| ScanError::Impossible(error.to_string()))?
        .map_err(ScanError::Unreadable)
}

/// A bill of materials.
pub async fn sbom(
    settings: &TrivySettings,
    format: SbomFormat,
    source: Source,
) -> Result<Vec<u8>, ScanError> {
    let format = match format {
        SbomFormat::SpdxJson => "spdx-json",
        SbomFormat::CyclonedxJson => "cyclonedx",
    };
    run(settings, &[format], source, MAX_DOCUMENT).await
}

/// `format`: its name, and what else it needs.
async fn run(
    settings: &TrivySettings,
    format: &[&str],
    source: Source,
    limit: u64,
) -> Result<Vec<u8>, ScanError> {
    let timeout = format!("{}s", settings.timeout.as_secs().max(1));
    let mut arguments: Vec<OsString> = ["image", "--quiet", "--format"].map(Into::into).into();
    arguments.extend(format.iter().map(Into::into));
    arguments.extend(["--timeout".into(), timeout.into()]);
    if let Some(server) = &settings.server {
        arguments.extend(["--server".into(), server.into()]);
    }
    arguments.extend(source.arguments);
    // An image's name never reads as an option.
    arguments.extend(["--".into(), source.image.into()]);
    let mut environment = source.environment;
    if let Some(directory) = &settings.docker_config {
        environment.push(("DOCKER_CONFIG", directory.into()));
    }
    let run = Run {
        command: &settings.command,
        arguments,
        environment,
        prefix: "TRIVY_",
        timeout: settings.timeout + GRACE,
        limit,
    };
    Ok(run.output().await?)
}
