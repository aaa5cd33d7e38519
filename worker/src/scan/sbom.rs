//! Making bills of materials, by Syft or by the scanner.

use std::{io::Write, sync::Arc};

use flate2::{Compression, write::GzEncoder};
use plimsoll_domain::security::{SbomFormat, Subject};
use tokio::sync::Semaphore;

use super::{
    ScanError, ScanPlace, SyftSettings, TrivySettings, find, pinned, syft,
    trivy::{self, Source},
};
use crate::registry::Registries;

/// Bytes of one document before it is compressed. One of an image with ten thousand packages and
/// their files has about 40 MB; it compresses to a fifteenth.
pub const MAX_DOCUMENT: u64 = 64 * 1024 * 1024;

/// What makes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generator {
    Syft,
    Trivy,
}

impl Generator {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Syft => "syft",
            Self::Trivy => "trivy",
        }
    }
}

/// How bills of materials are made.
#[derive(Clone, Debug)]
pub struct SbomSettings {
    /// `None`: Syft where it is installed, else Trivy if it is the scanner.
    pub generator: Option<Generator>,
    /// Whether Trivy is the scanner.
    pub has_trivy: bool,
    pub syft: SyftSettings,
    pub trivy: TrivySettings,
    /// What each scan makes, too.
    pub with_scans: Vec<SbomFormat>,
}

impl SbomSettings {
    /// What would make one now.
    pub fn generator(&self) -> Generator {
        match self.generator {
            Some(generator) => generator,
            None if self.has_trivy && find(&self.syft.command).is_none() => Generator::Trivy,
            None => Generator::Syft,
        }
    }

    pub fn command(&self) -> &str {
        match self.generator() {
            Generator::Syft => &self.syft.command,
            Generator::Trivy => &self.trivy.command,
        }
    }
}

/// Makes them, one at a time. Cheap to clone.
#[derive(Clone)]
pub struct SbomMaker {
    inner: Arc<Inner>,
}

struct Inner {
    settings: SbomSettings,
    registries: Registries,
    one: Semaphore,
}

impl SbomMaker {
    pub fn new(settings: SbomSettings, registries: Registries) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings,
                registries,
                one: Semaphore::new(1),
            }),
        }
    }

    pub fn settings(&self) -> &SbomSettings {
        &self.inner.settings
    }

    /// A whole document, compressed with gzip. Waits for one that is being made.
    pub async fn make(
        &self,
        generator: Generator,
        format: SbomFormat,
        subject: &Subject,
        place: &ScanPlace<'_>,
    ) -> Result<Vec<u8>, ScanError> {
        // Never closed.
        let _turn = self.inner.one.acquire().await;
        let (settings, registries) = (&self.inner.settings, &self.inner.registries);
        let document = match generator {
            Generator::Syft => {
                syft::sbom(&settings.syft, registries, format, subject, place).await?
            }
            Generator::Trivy => {
                let source = match pinned(subject)? {
                    Some(image) => Source::registry(registries, &image, place).await?,
                    None => Source::engine(subject, place)?,
                };
                trivy::sbom(&settings.trivy, format, source).await?
            }
        };
        // A large one takes a while.
        tokio::task::spawn_blocking(move || compressed(generator, format, &document))
            .await
            .map_err(|error| ScanError::Impossible(error.to_string()))?
    }
}

fn compressed(
    generator: Generator,
    format: SbomFormat,
    document: &[u8],
) -> Result<Vec<u8>, ScanError> {
    if !format.is_of(document) {
        return Err(ScanError::NoDocument(generator.name(), format.as_str()));
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder
        .write_all(document)
        .and_then(|()| encoder.finish())
        .map_err(|error| ScanError::Impossible(error.to_string()))
}
