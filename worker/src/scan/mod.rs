//! Programs that look into images (reference/drydock.md 5, "Security"): a scanner, what makes bills of
//! materials, and what verifies signatures. They fetch an image from its registry themselves, by the
//! digest that is asked about.

mod access;
mod cosign;
mod program;
mod sbom;
mod syft;
mod trivy;

use std::{sync::Arc, time::Duration};

pub use cosign::{CosignSettings, Signer, Verifier};
use plimsoll_domain::{
    image::{Digest, ImageRef},
    security::{Severity, Subject, Vulnerability},
};
pub use program::{Run, RunError, find};
pub use sbom::{Generator, SbomMaker, SbomSettings};
pub use syft::SyftSettings;
use tokio::sync::Semaphore;
pub use trivy::TrivySettings;

use crate::{registry::Registries, settings::WorkerSettings};

/// What there is to look into images with. Cheap to clone; one per process.
#[derive(Clone, Default)]
pub struct Tools {
    pub scanner: Option<Scanner>,
    pub verifier: Option<Verifier>,
    pub sbom: Option<SbomMaker>,
}

impl Tools {
    pub fn new(settings: &WorkerSettings, registries: &Registries) -> Self {
        let (scan, cosign, sbom) = (
            settings.scan.clone(),
            settings.cosign.clone(),
            settings.sbom.clone(),
        );
        Self {
            scanner: scan.map(|settings| Scanner::new(settings, registries.clone())),
            verifier: cosign.map(|settings| Verifier::new(settings, registries.clone())),
            sbom: sbom.map(|settings| SbomMaker::new(settings, registries.clone())),
        }
    }
}

/// What is done about an update whose image could not be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// It fails, and nothing is touched.
    Block,
    Allow,
}

/// How images are scanned.
#[derive(Clone, Debug)]
pub struct ScanSettings {
    pub trivy: TrivySettings,
    /// Findings of these severities block an update.
    pub block: Vec<Severity>,
    pub on_failure: OnFailure,
}

/// Why there is no result, for people.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the scanner's report cannot be read: {0}")]
    Unreadable(serde_json::Error),
    #[error("{0} did not write a document of the format {1}")]
    NoDocument(&'static str, &'static str),
    #[error("{0}")]
    Impossible(String),
}

/// Where the image of a scan is.
#[derive(Clone, Debug)]
pub struct ScanPlace<'a> {
    /// `os/arch[/variant]`
    pub platform: &'a str,
    /// The engine that has the image: `unix://…`, `http://…` or `https://…`.
    pub engine: &'a str,
    /// What it calls the image there, if a container runs it.
    pub image_id: Option<&'a str>,
}

/// Runs the scanner, one image at a time. Cheap to clone.
#[derive(Clone)]
pub struct Scanner {
    inner: Arc<Inner>,
}

struct Inner {
    settings: ScanSettings,
    registries: Registries,
    one: Semaphore,
}

impl Scanner {
    pub fn new(settings: ScanSettings, registries: Registries) -> Self {
        Self {
            inner: Arc::new(Inner {
                settings,
                registries,
                one: Semaphore::new(1),
            }),
        }
    }

    pub fn settings(&self) -> &ScanSettings {
        &self.inner.settings
    }

    /// The scanner's name.
    pub const fn name(&self) -> &'static str {
        "trivy"
    }

    /// What is known to be wrong with the image, the worst first. Waits for a scan that runs.
    pub async fn scan(
        &self,
        subject: &Subject,
        place: &ScanPlace<'_>,
    ) -> Result<Vec<Vulnerability>, ScanError> {
        // Never closed.
        let _turn = self.inner.one.acquire().await;
        let source = match pinned(subject)? {
            Some(image) => trivy::Source::registry(&self.inner.registries, &image, place).await?,
            None => trivy::Source::engine(subject, place)?,
        };
        trivy::scan(&self.inner.settings.trivy, source).await
    }
}

/// `repository@digest`; `None` for an image that only the engine has.
fn pinned(subject: &Subject) -> Result<Option<ImageRef>, ScanError> {
    let Some(digest) = &subject.digest else {
        return Ok(None);
    };
    let no = |why: String| ScanError::Impossible(format!("{}: {why}", subject.image));
    let digest = Digest::parse(digest).ok_or_else(|| no(format!("{digest} is not a digest")))?;
    let image = ImageRef::parse(&subject.image).map_err(|error| no(error.to_string()))?;
    Ok(Some(image.with_digest(digest)))
}

/// A tool as `GET /server/security/runtime` shows it: observed, never assumed.
#[derive(Clone, Debug)]
pub struct ToolState {
    pub command: String,
    pub available: bool,
    pub version: Option<String>,
}

/// Looks whether `command` is there, and asks it for its version.
pub async fn look(command: &str, version: &[&str]) -> ToolState {
    let found = find(command).is_some();
    let mut said = None;
    if found {
        let run = Run {
            command,
            arguments: version.iter().map(Into::into).collect(),
            environment: Vec::new(),
            prefix: "",
            timeout: Duration::from_secs(5),
            limit: 16 * 1024,
        };
        said = run.output().await.ok();
    }
    ToolState {
        command: command.to_owned(),
        available: found,
        version: said.and_then(|said| version_in(&String::from_utf8_lossy(&said))),
    }
}

/// The first word that reads as a version.
fn version_in(said: &str) -> Option<String> {
    said.split(|c: char| c.is_whitespace() || "\",".contains(c))
        .map(|word| word.trim_start_matches('v'))
        .find(|word| {
            let numbers = word.split('.').take(2);
            word.contains('.')
                && numbers.clone().count() == 2
                && word.len() <= 40
                && numbers.into_iter().all(|n| {
                    n.bytes().any(|b| b.is_ascii_digit())
                        && n.starts_with(|c: char| c.is_ascii_digit())
                })
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_tools_say() {
        let trivy = "Version: 0.58.1\nVulnerability DB:\n  Version: 2";
        assert_eq!(version_in(trivy).as_deref(), Some("0.58.1"));
        let syft = "Application: syft\nVersion:    1.18.1\nBuildDate:  2024-12-13T20:40:38Z";
        assert_eq!(version_in(syft).as_deref(), Some("1.18.1"));
        assert_eq!(
            version_in("GitVersion:    v2.4.1").as_deref(),
            Some("2.4.1")
        );
        assert_eq!(version_in("usage: x. y"), None);
    }
}
