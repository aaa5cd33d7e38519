//! Cosign's command line (github.com/sigstore/cosign, doc/cosign_verify.md), from version 2.4 on.
//! Credentials go by its environment, where every option is a variable, too.

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use chrono::Utc;
use plimsoll_domain::security::{SignatureReport, SignatureStatus, Subject, read_cosign};
use secrecy::ExposeSecret;

use super::{
    Run, RunError, ScanError,
    access::{Access, by_digest},
    pinned,
};
use crate::registry::Registries;

/// Bytes of output that are read.
const MAX_OUTPUT: u64 = 4 * 1024 * 1024;
/// How much longer the process may take than cosign gives itself.
const GRACE: Duration = Duration::from_secs(5);
/// Cosign's exit codes (cmd/cosign/errors/exit_codes.go) that say something about the image: it
/// has no signature, none that matches, none with a certificate.
const NOT_SIGNED: [i32; 3] = [10, 12, 13];

/// Who has to have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// Whoever has the key to this public one: a file, or an address that cosign knows.
    Key(String),
    /// Whom the issuer has confirmed to be this. `*` in `identity` stands for anything without `/`.
    Identity { identity: String, issuer: String },
}

#[derive(Clone, Debug)]
pub struct CosignSettings {
    pub command: String,
    pub signer: Signer,
    pub timeout: Duration,
    /// The directory of Docker's `config.json`, for logins that are no passwords.
    pub docker_config: Option<PathBuf>,
}

/// Verifies signatures. Cheap to clone.
#[derive(Clone)]
pub struct Verifier {
    inner: Arc<(CosignSettings, Registries)>,
}

impl Verifier {
    pub fn new(settings: CosignSettings, registries: Registries) -> Self {
        Self {
            inner: Arc::new((settings, registries)),
        }
    }

    /// Whether the image is signed by whom it has to be. One that is in no registry is not.
    pub async fn verify(&self, subject: &Subject) -> SignatureReport {
        let keyless = matches!(self.inner.0.signer, Signer::Identity { .. });
        let outcome = match self.ask(subject).await {
            Ok(signatures) => Ok(signatures),
            Err(error) => Err((status(&error), error.to_string())),
        };
        SignatureReport::new(subject, keyless, outcome, Utc::now())
    }

    async fn ask(&self, subject: &Subject) -> Result<u32, ScanError> {
        let (settings, registries) = &*self.inner;
        let (Some(image), Some(digest)) = (pinned(subject)?, &subject.digest) else {
            return Err(ScanError::Impossible(format!(
                "{} is in no registry, where its signatures would be",
                subject.image
            )));
        };
        let access = Access::to(registries, &image).await?;
        let mut environment: Vec<(&'static str, OsString)> = Vec::new();
        if let Some((user, password)) = access.login {
            environment.push(("COSIGN_REGISTRY_USERNAME", user.into()));
            environment.push(("COSIGN_REGISTRY_PASSWORD", password.expose_secret().into()));
        }
        if let Some(directory) = &settings.docker_config {
            environment.push(("DOCKER_CONFIG", directory.into()));
        }
        let timeout = format!("{}s", settings.timeout.as_secs().max(1));
        let mut arguments: Vec<OsString> = ["verify", "--output", "json", "--timeout", &timeout]
            .map(Into::into)
            .into();
        arguments.extend(signer(&settings.signer));
        let transport = access.transport;
        if transport.plain {
            arguments.push("--allow-http-registry".into());
        }
        if transport.insecure {
            arguments.push("--allow-insecure-registry".into());
        }
        if let Some(file) = transport.ca_file {
            arguments.extend(["--registry-cacert".into(), file.into()]);
        }
        if let Some((certificate, key)) = transport.client {
            arguments.extend(["--registry-client-cert".into(), certificate.into()]);
            arguments.extend(["--registry-client-key".into(), key.into()]);
        }
        // An image's name never reads as an option.
        arguments.extend(["--".into(), by_digest(&image).into()]);
        let run = Run {
            command: &settings.command,
            arguments,
            environment,
            prefix: "COSIGN_",
            timeout: settings.timeout + GRACE,
            limit: MAX_OUTPUT,
        };
        let output = run.output().await?;
        read_cosign(&output, digest).map_err(ScanError::Impossible)
    }
}

fn signer(signer: &Signer) -> Vec<OsString> {
    match signer {
        Signer::Key(key) => vec!["--key".into(), key.into()],
        Signer::Identity { identity, issuer } => {
            let (option, identity) = match pattern(identity) {
                Some(pattern) => ("--certificate-identity-regexp", pattern),
                None => ("--certificate-identity", identity.clone()),
            };
            let issuer_option = "--certificate-oidc-issuer";
            vec![
                option.into(),
                identity.into(),
                issuer_option.into(),
                issuer.into(),
            ]
        }
    }
}

/// The whole of `identity` as a regular expression, if it has a `*`.
fn pattern(identity: &str) -> Option<String> {
    let parts: Vec<String> = identity.split('*').map(regex::escape).collect();
    (parts.len() > 1).then(|| format!("^{}$", parts.join("[^/]*")))
}

fn status(error: &ScanError) -> SignatureStatus {
    match error {
        ScanError::Run(RunError::Failed { code, why, .. })
            if code.is_some_and(|code| NOT_SIGNED.contains(&code))
                || why.contains("no signatures found")
                || why.contains("no matching signatures") =>
        {
            SignatureStatus::Unverified
        }
        _ => SignatureStatus::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_in_an_identity_stands_for_one_part_of_it() {
        let one = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1.0";
        assert_eq!(pattern(one), None);
        let any = pattern("https://github.com/acme/app/.github/workflows/r.yml@refs/tags/*");
        let any = regex::Regex::new(&any.unwrap()).unwrap();
        assert!(any.is_match("https://github.com/acme/app/.github/workflows/r.yml@refs/tags/v1"));
        for other in [
            "https://github.com/acme/app/.github/workflows/r.yml@refs/tags/a/b",
            "https://githubXcom/acme/app/.github/workflows/r.yml@refs/tags/v1",
            "see https://github.com/acme/app/.github/workflows/r.yml@refs/tags/v1",
        ] {
            assert!(!any.is_match(other), "{other}");
        }
    }
}
