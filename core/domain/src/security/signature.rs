//! Signatures of images.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Subject;
use crate::iso;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureStatus {
    Verified,
    /// There is no signature, or none by whom it has to be.
    Unverified,
    /// Nobody knows: the verifier came to no result.
    Error,
}

/// The contract's `security.signature`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureReport {
    pub verifier: String,
    /// As people call it.
    pub image: String,
    /// What was verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// For an image that only the engine knows, which nobody can have signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(with = "iso")]
    pub verified_at: DateTime<Utc>,
    pub status: SignatureStatus,
    /// By a certificate's identity, not by a key.
    pub keyless: bool,
    /// Signatures that were accepted.
    pub signatures: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl SignatureReport {
    /// `outcome`: how many signatures were accepted, or why none was.
    pub fn new(
        subject: &Subject,
        keyless: bool,
        outcome: Result<u32, (SignatureStatus, String)>,
        now: DateTime<Utc>,
    ) -> Self {
        let (status, signatures, error) = match outcome {
            Ok(signatures) => (SignatureStatus::Verified, signatures, None),
            Err((status, why)) => (status, 0, Some(why)),
        };
        Self {
            verifier: "cosign".to_owned(),
            image: subject.image.clone(),
            image_digest: subject.digest.clone(),
            image_id: subject.image_id.clone(),
            verified_at: now,
            status,
            keyless,
            signatures,
            error,
        }
    }
}

/// One signature in cosign's output: what was signed, in the form "simple signing". Signatures that
/// came in a Sigstore bundle have empty fields there.
#[derive(Deserialize)]
struct Signed {
    #[serde(default)]
    critical: Critical,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Critical {
    image: SignedImage,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct SignedImage {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}

/// The number of signatures that `cosign verify --output json` accepted for the image `digest`.
///
/// # Errors
/// Text for people: output that is not cosign's, that names no signature, or one of another image.
pub fn read_cosign(output: &[u8], digest: &str) -> Result<u32, String> {
    let signed: Vec<Signed> = serde_json::from_slice(output)
        .map_err(|error| format!("cosign's output cannot be read: {error}"))?;
    let mut named = signed.iter().map(|one| &*one.critical.image.digest);
    if let Some(other) = named.find(|named| !named.is_empty() && *named != digest) {
        return Err(format!("cosign speaks of another image, {other}"));
    }
    match u32::try_from(signed.len()) {
        Ok(0) | Err(_) => Err("cosign names no signature".to_owned()),
        Ok(number) => Ok(number),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_signatures_of_that_image_count() {
        let signed = |digest: &str| {
            json!({"critical": {
                "identity": {"docker-reference": "ghcr.io/acme/app"},
                "image": {"docker-manifest-digest": digest},
                "type": "cosign container image signature"}, "optional": {"Subject": "a@b.c"}})
        };
        let read = |list: serde_json::Value| read_cosign(list.to_string().as_bytes(), "sha256:a");
        assert_eq!(read(json!([signed("sha256:a"), signed("sha256:a")])), Ok(2));
        assert!(read(json!([signed("sha256:a"), signed("sha256:b")])).is_err());
        assert!(read(json!([])).is_err());
        assert_eq!(
            read(json!([{"critical": {"image": {}}, "optional": {}}])),
            Ok(1)
        );
        assert!(read_cosign(b"Verification for app -- ok", "sha256:a").is_err());
    }
}
