//! A recorded cosign: a program with the command line, the output and the exit codes of cosign 2.4
//! (`cosign verify`, `cosign version`). The real one is in none of the registries of packages that
//! tests can reach.
//!
//! It refuses what cosign would not understand, and writes down how it was called. Which digests are
//! signed, and by which key or identity, is what a test says.

use std::{fs, ops::Deref};

use crate::recorded::Recorded;

/// The program and its records; its path is for `DD_SECURITY_COSIGN_COMMAND`.
pub struct Cosign(Recorded);

impl Deref for Cosign {
    type Target = Recorded;

    fn deref(&self) -> &Recorded {
        &self.0
    }
}

/// Reads options as cosign does. `DIR` stands for its directory, where `signed` has a line for each
/// signature: the digest and who made it.
const PROGRAM: &str = r#"#!/bin/sh
cd DIR || exit 1
die() { code=$1; shift; printf 'Error: %s\nmain.go:69: error during command execution: %s\n' "$*" "$*" >&2; exit "$code"; }
if [ "$1" = version ]; then printf 'cosign: A tool for Container Signing\n\nGitVersion:    v2.4.1\nPlatform:      linux/amd64\n'; exit 0; fi
echo "$*" >> calls
env >> environment
[ "$1" = verify ] || die 1 "unknown command \"$1\" for \"cosign\""
shift
while [ $# -gt 0 ]; do
    case "$1" in
        --allow-http-registry|--allow-insecure-registry) ;;
        --output) shift; [ "$1" = json ] || die 1 "unknown output" ;;
        --timeout|--registry-cacert|--registry-client-cert|--registry-client-key) shift ;;
        --key) shift; signer=$1 ;;
        --certificate-identity|--certificate-identity-regexp) shift; identity=$1 ;;
        --certificate-oidc-issuer) shift; issuer=$1 ;;
        --) shift; image=$1 ;;
        *) die 1 "unknown flag: $1" ;;
    esac
    shift
done
[ -n "$image" ] || die 1 "requires at least 1 arg(s), only received 0"
if [ -z "$signer" ]; then
    [ -n "$identity" ] || die 1 "--certificate-identity or --certificate-identity-regexp is required for verification in keyless mode"
    [ -n "$issuer" ] || die 1 "--certificate-oidc-issuer or --certificate-oidc-issuer-regexp is required for verification in keyless mode"
    signer=$identity
fi
if [ -e fail ]; then die 1 "$(cat fail)"; fi
digest=${image#*@}
grep -q "^$digest " signed || die 10 "no signatures found"
grep -qxF "$digest $signer" signed || die 12 "no matching signatures: invalid signature when validating ASN.1 encoded signature"
printf '\nVerification for %s --\nThe following checks were performed on each of these signatures:\n  - The cosign claims were validated\n' "$image" >&2
printf '\n[{"critical":{"identity":{"docker-reference":"%s"},"image":{"docker-manifest-digest":"%s"},"type":"cosign container image signature"},"optional":null}]\n' "${image%@*}" "$digest"
"#;

impl Cosign {
    /// One that finds no signatures.
    pub fn install() -> Self {
        let cosign = Self(Recorded::install("cosign", PROGRAM));
        cosign.put("signed", "");
        cosign
    }

    /// From now on the image has this signature. `signer`: a key's file or an identity.
    pub fn sign(&self, digest: &str, signer: &str) {
        let mut signed = fs::read_to_string(self.path("signed")).expect("a file");
        signed.push_str(&format!("{digest} {signer}\n"));
        self.put("signed", &signed);
    }
}
