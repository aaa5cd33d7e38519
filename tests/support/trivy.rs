//! A recorded Trivy: a program with Trivy's command line (`trivy image`, `trivy --version`) that
//! answers with reports in Trivy's JSON. The real one is in none of the registries of packages that
//! tests can reach, and without its database, which is elsewhere, it finds nothing.
//!
//! It refuses what Trivy would not understand, and writes down how it was called.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The program and its records. Removed when dropped.
pub struct Trivy {
    directory: TempDir,
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
        --format|--scanners|--timeout|--image-src|--platform|--server) shift ;;
        --) shift; image=$1 ;;
        *) echo "Error: unknown flag: $1" >&2; exit 1 ;;
    esac
    shift
done
[ -n "$image" ] || { echo "Error: no image" >&2; exit 1; }
[ ! -e hang ] || { echo $$ > hanging; sleep 600; }
if [ -e fail ]; then cat fail >&2; exit 1; fi
cat report.json
"#;

impl Trivy {
    /// One that finds nothing.
    pub fn install() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("trivy");
        let text = PROGRAM.replace("DIR", &directory.path().display().to_string());
        fs::write(&program, text).expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
        let trivy = Self { directory };
        trivy.finds(&[]);
        trivy
    }

    /// For `DD_SECURITY_TRIVY_COMMAND`.
    pub fn command(&self) -> PathBuf {
        self.path("trivy")
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
        // In one step: a scan may be reading.
        fs::write(self.path("report.new"), report.to_string()).expect("a report");
        fs::rename(self.path("report.new"), self.path("report.json")).expect("a report");
    }

    /// It fails with these words from now on.
    pub fn fails(&self, words: &str) {
        fs::write(self.path("fail"), words).expect("a file");
    }

    pub fn works(&self) {
        let _ = fs::remove_file(self.path("fail"));
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

    /// The arguments of every scan.
    pub fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.path("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    /// The environment of every scan.
    pub fn environment(&self) -> String {
        fs::read_to_string(self.path("environment")).unwrap_or_default()
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
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
