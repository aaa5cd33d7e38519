//! A recorded Trivy: a program with Trivy's command line (`trivy image`, `trivy --version`) that
//! answers with reports in Trivy's JSON. The real one is in none of the registries of packages that
//! tests can reach, and without its database, which is elsewhere, it finds nothing.
//!
//! It refuses what Trivy would not understand, and writes down how it was called.

use std::{fs, ops::Deref};

use serde_json::{Value, json};

use crate::recorded::Recorded;

/// The program and its records; its path is for `DD_SECURITY_TRIVY_COMMAND`.
pub struct Trivy(Recorded);

impl Deref for Trivy {
    type Target = Recorded;

    fn deref(&self) -> &Recorded {
        &self.0
    }
}

/// Reads options as Trivy does; what it does not know is an error. `DIR` stands for its directory.
const PROGRAM: &str = r#"#!/bin/sh
cd DIR || exit 1
if [ "$1" = --version ]; then echo "Version: 0.58.1"; exit 0; fi
echo "$*" >> calls
env >> environment
[ "$1" = image ] || { echo "Error: unknown command \"$1\" for \"trivy\"" >&2; exit 1; }
shift
while [ $# -gt 0 ]; do
    case "$1" in
        --quiet) ;;
        --format) shift; format=$1 ;;
        --scanners|--timeout|--image-src|--platform|--server) shift ;;
        --) shift; image=$1 ;;
        *) echo "Error: unknown flag: $1" >&2; exit 1 ;;
    esac
    shift
done
[ -n "$image" ] || { echo "Error: no image" >&2; exit 1; }
[ ! -e hang ] || { echo $$ > hanging; sleep 600; }
if [ -e fail ]; then cat fail >&2; exit 1; fi
case "$format" in
    json) cat report.json ;;
    spdx-json) printf '{"SPDXID":"SPDXRef-DOCUMENT","spdxVersion":"SPDX-2.3","name":"%s","creationInfo":{"creators":["Tool: trivy-0.58.1"]},"packages":[]}' "$image" ;;
    cyclonedx) printf '{"bomFormat":"CycloneDX","specVersion":"1.6","metadata":{"component":{"name":"%s"}},"components":[]}' "$image" ;;
    *) echo "Error: invalid argument for --format" >&2; exit 1 ;;
esac
"#;

impl Trivy {
    /// One that finds nothing.
    pub fn install() -> Self {
        let trivy = Self(Recorded::install("trivy", PROGRAM));
        trivy.finds(&[]);
        trivy
    }

    /// What it reports from now on: ids and severities.
    pub fn finds(&self, vulnerabilities: &[(&str, &str)]) {
        let found: Vec<Value> = vulnerabilities.iter().map(vulnerability).collect();
        let report = json!({
            "SchemaVersion": 2,
            "CreatedAt": "2026-11-20T10:00:00.123456789Z",
            "ArtifactName": "app",
            "ArtifactType": "container_image",
            "Metadata": {"OS": {"Family": "debian", "Name": "12.8"}, "ImageConfig": {}},
            "Results": [
                {"Target": "app (debian 12.8)", "Class": "os-pkgs", "Type": "debian",
                 "Vulnerabilities": found},
                {"Target": "usr/bin/app", "Class": "lang-pkgs", "Type": "gobinary"},
            ],
        });
        self.put("report.json", &report.to_string());
    }

    /// It neither fails nor hangs from now on.
    pub fn works(&self) {
        self.0.works();
        let _ = fs::remove_file(self.path("hang"));
    }

    /// It does not end from now on.
    pub fn hangs(&self) {
        fs::write(self.path("hang"), "").expect("a file");
    }

    /// Whether a call hangs now, or has hung.
    pub fn is_hanging(&self) -> bool {
        self.path("hanging").exists()
    }
}

fn vulnerability((id, severity): &(&str, &str)) -> Value {
    json!({
        "VulnerabilityID": id,
        "PkgID": "libssl3@3.0.11-1",
        "PkgName": "libssl3",
        "PkgIdentifier": {"PURL": "pkg:deb/debian/libssl3@3.0.11-1?arch=amd64"},
        "InstalledVersion": "3.0.11-1",
        "FixedVersion": "3.0.15-1",
        "Status": "fixed",
        "SeveritySource": "debian",
        "PrimaryURL": format!("https://avd.aquasec.com/nvd/{}", id.to_lowercase()),
        "Title": "openssl: a flaw",
        "Severity": severity,
        "CVSS": {"nvd": {"V3Score": 9.8}},
        "PublishedDate": "2024-06-27T11:15:24.447Z",
    })
}
