//! Syft's command line (github.com/anchore/syft, "syft scan"). Credentials go by its environment.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use plimsoll_domain::{
    image::ImageRef,
    security::{SbomFormat, Subject},
};
use secrecy::ExposeSecret;

use super::{
    Run, ScanError, ScanPlace,
    access::{Access, by_digest, docker_host},
    pinned,
    sbom::MAX_DOCUMENT,
};
use crate::registry::Registries;

#[derive(Clone, Debug)]
pub struct SyftSettings {
    pub command: String,
    /// For one image and format.
    pub timeout: Duration,
    /// The directory of Docker's `config.json`, for logins that are no passwords.
    pub docker_config: Option<PathBuf>,
}

/// Where Syft finds the image, and how.
struct Source {
    /// `docker` or `registry`
    from: &'static str,
    environment: Vec<(&'static str, OsString)>,
    image: String,
    platform: Option<String>,
}

/// A bill of materials. What a container runs comes from its engine, by the id that the engine has
/// for it, which needs no registry; anything else from its registry, by its digest.
pub async fn sbom(
    settings: &SyftSettings,
    registries: &Registries,
    format: SbomFormat,
    subject: &Subject,
    place: &ScanPlace<'_>,
) -> Result<Vec<u8>, ScanError> {
    let source = match (place.image_id, docker_host(place.engine)) {
        (Some(id), Some(host)) => Source {
            from: "docker",
            environment: vec![("DOCKER_HOST", host.into())],
            image: id.to_owned(),
            platform: None,
        },
        _ => of_registry(registries, subject, place).await?,
    };
    let mut arguments: Vec<OsString> = ["scan", "--from", source.from, "--output", format.as_str()]
        .map(Into::into)
        .into();
    if let Some(platform) = source.platform {
        arguments.extend(["--platform".into(), platform.into()]);
    }
    // What people call it, in place of an id.
    let name = ImageRef::parse(&subject.image).map_or_else(
        |_| subject.image.clone(),
        |reference| reference.familiar_name(),
    );
    arguments.push(format!("--source-name={name}").into());
    arguments.push(format!("--source-version={}", subject.key()).into());
    arguments.extend(["--".into(), source.image.into()]);
    let mut environment = source.environment;
    environment.push(("SYFT_CHECK_FOR_APP_UPDATE", "false".into()));
    if let Some(directory) = &settings.docker_config {
        environment.push(("DOCKER_CONFIG", directory.into()));
    }
    let run = Run {
        command: &settings.command,
        arguments,
        environment,
        prefix: "SYFT_",
        timeout: settings.timeout,
        limit: MAX_DOCUMENT,
    };
    Ok(run.output().await?)
}

async fn of_registry(
    registries: &Registries,
    subject: &Subject,
    place: &ScanPlace<'_>,
) -> Result<Source, ScanError> {
    let image = pinned(subject)?.ok_or_else(|| {
        ScanError::Impossible(format!(
            "{} is in no registry, and Syft cannot reach the engine {}",
            subject.image, place.engine
        ))
    })?;
    let access = Access::to(registries, &image).await?;
    let mut environment: Vec<(&'static str, OsString)> = Vec::new();
    if let Some((user, password)) = access.login {
        environment.push(("SYFT_REGISTRY_AUTH_USERNAME", user.into()));
        environment.push((
            "SYFT_REGISTRY_AUTH_PASSWORD",
            password.expose_secret().into(),
        ));
    }
    let transport = access.transport;
    if transport.plain {
        environment.push(("SYFT_REGISTRY_INSECURE_USE_HTTP", "true".into()));
    }
    if transport.insecure {
        environment.push(("SYFT_REGISTRY_INSECURE_SKIP_TLS_VERIFY", "true".into()));
    }
    if let Some(file) = transport.ca_file {
        environment.push(("SYFT_REGISTRY_CA_CERT", file.into()));
    }
    if let Some((certificate, key)) = transport.client {
        environment.push(("SYFT_REGISTRY_AUTH_TLS_CERT", certificate.into()));
        environment.push(("SYFT_REGISTRY_AUTH_TLS_KEY", key.into()));
    }
    Ok(Source {
        from: "registry",
        environment,
        image: by_digest(&image),
        platform: Some(place.platform.to_owned()),
    })
}
