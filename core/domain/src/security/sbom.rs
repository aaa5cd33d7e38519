//! Software bills of materials.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::iso;

/// The forms in which they are given out.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum SbomFormat {
    #[default]
    SpdxJson,
    CyclonedxJson,
}

impl SbomFormat {
    pub const ALL: [Self; 2] = [Self::SpdxJson, Self::CyclonedxJson];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SpdxJson => "spdx-json",
            Self::CyclonedxJson => "cyclonedx-json",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.as_str() == text)
    }

    /// Whether `document` is one whole JSON document of this format.
    pub fn is_of(self, document: &[u8]) -> bool {
        // Everything else is read over, and must be JSON.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Mark {
            spdx_version: Option<String>,
            bom_format: Option<String>,
        }
        let Ok(mark) = serde_json::from_slice::<Mark>(document) else {
            return false;
        };
        match self {
            Self::SpdxJson => mark.spdx_version.is_some_and(|v| v.starts_with("SPDX-")),
            Self::CyclonedxJson => mark.bom_format.as_deref() == Some("CycloneDX"),
        }
    }
}

/// What became of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SbomStatus {
    Generated,
    Error,
}

/// The contract's `security.sbom`, without the documents, which are kept apart: `GET …/sbom` has
/// them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SbomReport {
    pub generator: String,
    /// As people call it.
    pub image: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// For an image that only the engine knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(with = "iso")]
    pub generated_at: DateTime<Utc>,
    pub status: SbomStatus,
    /// The formats in which it is there.
    pub formats: Vec<SbomFormat>,
    /// Empty here.
    #[serde(default)]
    pub documents: Nothing,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `{}`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

impl SbomReport {
    pub fn generated(
        subject: &Subject,
        generator: &str,
        formats: &[SbomFormat],
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            generator: generator.to_owned(),
            image: subject.image.clone(),
            image_digest: subject.digest.clone(),
            image_id: subject.image_id.clone(),
            generated_at: now,
            status: SbomStatus::Generated,
            formats: formats.to_vec(),
            documents: Nothing {},
            error: None,
        }
    }

    /// None could be made.
    pub fn failed(subject: &Subject, generator: &str, error: &str, now: DateTime<Utc>) -> Self {
        Self {
            status: SbomStatus::Error,
            error: Some(error.to_owned()),
            ..Self::generated(subject, generator, &[], now)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_whole_and_of_its_format() {
        let spdx = br#"{"spdxVersion":"SPDX-2.3","packages":[{"name":"a"}]}"#;
        let cyclonedx = br#"{"bomFormat":"CycloneDX","specVersion":"1.6"}"#;
        assert!(SbomFormat::SpdxJson.is_of(spdx));
        assert!(SbomFormat::CyclonedxJson.is_of(cyclonedx));
        assert!(!SbomFormat::SpdxJson.is_of(cyclonedx));
        assert!(!SbomFormat::SpdxJson.is_of(&spdx[..spdx.len() - 1]));
        assert!(!SbomFormat::CyclonedxJson.is_of(b"[]"));
    }
}
