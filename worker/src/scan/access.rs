//! How a tool gets at an image.

use plimsoll_domain::image::ImageRef;
use secrecy::SecretString;

use super::ScanError;
use crate::registry::{Registries, Transport};

/// What a tool needs to fetch an image from its registry by itself.
pub struct Access {
    pub login: Option<(String, SecretString)>,
    pub transport: Transport,
}

impl Access {
    pub async fn to(registries: &Registries, image: &ImageRef) -> Result<Self, ScanError> {
        let auth = registries.pull_auth(image).await;
        let auth = auth.map_err(|error| ScanError::Impossible(error.to_string()))?;
        Ok(Self {
            login: auth.and_then(|auth| auth.username.zip(auth.password)),
            transport: registries.transport(image),
        })
    }
}

/// `repository@digest`
pub fn by_digest(image: &ImageRef) -> String {
    let digest = image.digest().map(|digest| digest.as_str());
    format!("{}@{}", image.familiar_name(), digest.unwrap_or_default())
}

/// The engine as `DOCKER_HOST` names it. `None` for one that tools cannot reach: its certificates
/// are in other places than they look for.
pub fn docker_host(engine: &str) -> Option<String> {
    match engine.split_once("://") {
        Some(("unix", _)) => Some(engine.to_owned()),
        Some(("http", host)) => Some(format!("tcp://{host}")),
        _ => None,
    }
}
