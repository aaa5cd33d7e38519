//! What scanners say about images, and what follows from it (reference/drydock.md 1.7, `security`).
//! A report carries what it was made of: it is shown for that image and for no other.

mod sbom;
mod signature;
mod trivy;

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::container::{ContainerFacts, WatchResult};
use crate::update_check::CheckReport;
use crate::{image::ImageRef, iso};
pub use sbom::{SbomFormat, SbomReport, SbomStatus};
pub use signature::{SignatureReport, SignatureStatus, read_cosign};
pub use trivy::{MOST_VULNERABILITIES, read_trivy};

/// How bad a vulnerability is. Ordered: the worst is the greatest.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Severity {
    #[default]
    Unknown,
    Low,
    Medium,
    High,
    Critical,
}

impl Severity {
    pub const ALL: [Self; 5] = [
        Self::Unknown,
        Self::Low,
        Self::Medium,
        Self::High,
        Self::Critical,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Low => "LOW",
            Self::Medium => "MEDIUM",
            Self::High => "HIGH",
            Self::Critical => "CRITICAL",
        }
    }

    /// Of a scanner's output: a word that is not known is `Unknown`.
    pub fn of(text: &str) -> Self {
        text.parse().unwrap_or_default()
    }
}

impl FromStr for Severity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let known = Self::ALL.into_iter();
        known
            .into_iter()
            .find(|severity| severity.as_str().eq_ignore_ascii_case(text.trim()))
            .ok_or(())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a scan ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScanStatus {
    Passed,
    /// It found vulnerabilities of a severity that blocks updates.
    Blocked,
    /// It came to no result.
    Error,
}

impl ScanStatus {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Blocked => "blocked",
            Self::Error => "error",
        }
    }
}

/// Vulnerabilities by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    pub unknown: u32,
    pub low: u32,
    pub medium: u32,
    pub high: u32,
    pub critical: u32,
}

impl Counts {
    pub fn of(found: &[Vulnerability]) -> Self {
        let mut counts = Self::default();
        for one in found {
            *match one.severity {
                Severity::Unknown => &mut counts.unknown,
                Severity::Low => &mut counts.low,
                Severity::Medium => &mut counts.medium,
                Severity::High => &mut counts.high,
                Severity::Critical => &mut counts.critical,
            } += 1;
        }
        counts
    }

    pub const fn total(self) -> u32 {
        self.unknown + self.low + self.medium + self.high + self.critical
    }

    /// What the summary counts and the audit trail alerts of.
    pub const fn serious(self) -> u32 {
        self.high + self.critical
    }
}

/// One vulnerability in one package. All of it is text of a scanner's database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Vulnerability {
    pub id: String,
    /// The file or layer it was found in.
    pub target: String,
    pub package_name: String,
    pub installed_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixed_version: Option<String>,
    pub severity: Severity,
    pub title: String,
    pub primary_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub published_date: Option<String>,
}

/// The contract's `security.scan`, without the list of vulnerabilities, which is kept apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScanReport {
    pub scanner: String,
    /// As people call it.
    pub image: String,
    /// What was scanned: a manifest digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    /// What was scanned, for an image that only the engine knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_id: Option<String>,
    #[serde(with = "iso")]
    pub scanned_at: DateTime<Utc>,
    pub status: ScanStatus,
    /// What blocked when the scan was made.
    pub block_severities: Vec<Severity>,
    pub blocking_count: u32,
    pub summary: Counts,
    /// Empty here; `GET …/vulnerabilities` has them.
    #[serde(default)]
    pub vulnerabilities: [Vulnerability; 0],
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl ScanReport {
    /// The verdict on what was found.
    pub fn judged(
        subject: &Subject,
        scanner: &str,
        found: &[Vulnerability],
        block: &[Severity],
        now: DateTime<Utc>,
    ) -> Self {
        let blocking = found.iter().filter(|one| block.contains(&one.severity));
        let blocking_count = u32::try_from(blocking.count()).unwrap_or(u32::MAX);
        Self {
            scanner: scanner.to_owned(),
            image: subject.image.clone(),
            image_digest: subject.digest.clone(),
            image_id: subject.image_id.clone(),
            scanned_at: now,
            status: match blocking_count {
                0 => ScanStatus::Passed,
                _ => ScanStatus::Blocked,
            },
            block_severities: block.to_vec(),
            blocking_count,
            summary: Counts::of(found),
            vulnerabilities: [],
            error: None,
        }
    }

    /// A scan that came to no result.
    pub fn failed(
        subject: &Subject,
        scanner: &str,
        block: &[Severity],
        error: &str,
        now: DateTime<Utc>,
    ) -> Self {
        Self {
            status: ScanStatus::Error,
            error: Some(error.to_owned()),
            ..Self::judged(subject, scanner, &[], block, now)
        }
    }
}

/// An image as it is examined.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// `repository:tag` as people call it.
    pub image: String,
    pub digest: Option<String>,
    /// Where there is no digest: the engine's id.
    pub image_id: Option<String>,
}

impl Subject {
    /// Names the content: the digest, else the engine's id.
    pub fn key(&self) -> &str {
        let key = self.digest.as_deref().or(self.image_id.as_deref());
        key.unwrap_or(&self.image)
    }

    /// All that name the content, where it may be what the container of `facts` runs: that has the
    /// engine's id before anybody knows its digest.
    pub fn names<'a>(&'a self, facts: &'a ContainerFacts) -> Vec<&'a str> {
        let mut names = vec![self.key()];
        if self.digest.is_some() && *self == Self::running(facts) {
            names.push(&facts.image.id);
        }
        names
    }

    /// An image of a registry.
    pub fn of(image: &ImageRef, digest: Option<String>) -> Self {
        Self {
            image: image.familiar_tagged(),
            digest,
            image_id: None,
        }
    }

    /// What the container runs.
    pub fn running(facts: &ContainerFacts) -> Self {
        let image = &facts.image;
        let digest = image
            .digest
            .repo
            .as_deref()
            .or(image.digest.value.as_deref());
        let digest = digest.filter(|_| !image.is_local_image).map(str::to_owned);
        let name = image
            .repository()
            .map(|repository| repository.familiar_name());
        Self {
            image: format!(
                "{}:{}",
                name.as_deref().unwrap_or(&image.name),
                image.tag.value
            ),
            image_id: digest.is_none().then(|| image.id.clone()),
            digest,
        }
    }
}

/// One report, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "report", rename_all = "lowercase")]
pub enum Report {
    Scan(ScanReport),
    Signature(SignatureReport),
    Sbom(SbomReport),
    Check(CheckReport),
}

impl Report {
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Scan(_) => "scan",
            Self::Signature(_) => "signature",
            Self::Sbom(_) => "sbom",
            Self::Check(_) => "check",
        }
    }
}

/// What is known about the images of one container, of whichever it was made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Reports {
    pub scans: Vec<ScanReport>,
    pub signatures: Vec<SignatureReport>,
    pub sboms: Vec<SbomReport>,
    pub checks: Vec<CheckReport>,
}

impl FromIterator<Report> for Reports {
    fn from_iter<I: IntoIterator<Item = Report>>(reports: I) -> Self {
        let mut all = Self::default();
        for report in reports {
            match report {
                Report::Scan(scan) => all.scans.push(scan),
                Report::Signature(signature) => all.signatures.push(signature),
                Report::Sbom(sbom) => all.sboms.push(sbom),
                Report::Check(check) => all.checks.push(check),
            }
        }
        all
    }
}

/// A report that names what it was made of.
trait MadeOf {
    fn digest(&self) -> Option<&str>;
    fn image_id(&self) -> Option<&str>;
}

macro_rules! made_of {
    ($($report:ty),+) => { $(
        impl MadeOf for $report {
            fn digest(&self) -> Option<&str> {
                self.image_digest.as_deref()
            }

            fn image_id(&self) -> Option<&str> {
                self.image_id.as_deref()
            }
        }

        impl $report {
            /// What it was made of.
            pub fn subject(&self) -> Subject {
                Subject {
                    image: self.image.clone(),
                    digest: self.image_digest.clone(),
                    image_id: self.image_id.clone(),
                }
            }
        }
    )+ };
}
made_of!(ScanReport, SignatureReport, SbomReport);

/// The reports that speak of the image that runs, and of the one that an update goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityView<'a> {
    /// The scan of the image that runs. Where only the candidate was scanned: that one, under its
    /// own name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scan: Option<&'a ScanReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<&'a SignatureReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sbom: Option<&'a SbomReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_scan: Option<&'a ScanReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_signature: Option<&'a SignatureReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_sbom: Option<&'a SbomReport>,
}

impl<'a> SecurityView<'a> {
    /// `candidate`: the watch result, where it proposes something else than what runs.
    pub fn of(
        reports: &'a Reports,
        facts: &ContainerFacts,
        candidate: Option<&WatchResult>,
    ) -> Self {
        let digest = candidate.and_then(|result| result.digest.as_deref());
        let update_scan = of_update(&reports.scans, digest);
        Self {
            scan: of_running(&reports.scans, facts).or(update_scan),
            signature: of_running(&reports.signatures, facts),
            sbom: of_running(&reports.sboms, facts),
            update_scan,
            update_signature: of_update(&reports.signatures, digest),
            update_sbom: of_update(&reports.sboms, digest),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether anything critical or high is known.
    pub fn has_issues(&self) -> bool {
        self.scan.is_some_and(|scan| scan.summary.serious() > 0)
    }
}

fn of_update<'a, R: MadeOf>(reports: &'a [R], digest: Option<&str>) -> Option<&'a R> {
    let digest = digest?;
    reports
        .iter()
        .find(|report| report.digest() == Some(digest))
}

fn of_running<'a, R: MadeOf>(reports: &'a [R], facts: &ContainerFacts) -> Option<&'a R> {
    reports
        .iter()
        .find(|report| match (report.digest(), report.image_id()) {
            (Some(digest), _) => facts.image.digest.is_current(digest),
            (None, Some(id)) => facts.image.id == id,
            (None, None) => false,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::container::DigestFacts;
    use crate::testing::container;

    #[test]
    fn what_runs_is_the_same_before_and_after_its_digest_is_known() {
        let mut facts = container("app", "1.0.0").facts;
        let known = Subject::running(&facts);
        assert_eq!(known.names(&facts), ["sha256:old", "sha256:image"]);
        let candidate = Subject {
            digest: Some("sha256:new".to_owned()),
            ..known
        };
        assert_eq!(candidate.names(&facts), ["sha256:new"]);
        std::sync::Arc::make_mut(&mut facts).image.digest = DigestFacts::default();
        assert_eq!(Subject::running(&facts).names(&facts), ["sha256:image"]);
    }

    fn report() -> Vec<u8> {
        json!({
            "SchemaVersion": 2, "ArtifactName": "app@sha256:1",
            "Results": [
                {"Target": "app (debian 12)", "Class": "os-pkgs", "Type": "debian",
                 "Vulnerabilities": [
                    {"VulnerabilityID": "CVE-2", "PkgName": "zlib", "InstalledVersion": "1",
                     "Severity": "LOW", "PrimaryURL": "javascript:alert(1)"},
                    {"VulnerabilityID": "CVE-1", "PkgName": "openssl", "InstalledVersion": "3.0",
                     "FixedVersion": "3.1", "Severity": "CRITICAL", "Title": "bad",
                     "PrimaryURL": "https://avd.example/CVE-1"},
                    {"VulnerabilityID": "CVE-1", "PkgName": "openssl", "InstalledVersion": "3.0",
                     "Severity": "CRITICAL"}]},
                {"Target": "Cargo.lock", "Class": "lang-pkgs"},
                {"Target": "x", "Vulnerabilities": null},
            ],
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn trivys_report_is_read_the_worst_first() {
        let found = read_trivy(&report()).unwrap();
        let ids: Vec<_> = found.iter().map(|one| (&*one.id, one.severity)).collect();
        assert_eq!(
            ids,
            [("CVE-1", Severity::Critical), ("CVE-2", Severity::Low)]
        );
        assert_eq!(found[1].primary_url, "");
        assert!(read_trivy(b"{\"Results\": null}").unwrap().is_empty());
        assert!(read_trivy(b"FATAL").is_err());
    }

    #[test]
    fn only_the_configured_severities_block() {
        let found = read_trivy(&report()).unwrap();
        let subject = Subject {
            image: "app:1".into(),
            digest: Some("sha256:1".into()),
            image_id: None,
        };
        let judged = |block: &[Severity]| {
            let report = ScanReport::judged(&subject, "trivy", &found, block, Utc::now());
            (report.status, report.blocking_count)
        };
        assert_eq!(judged(&[Severity::Critical]), (ScanStatus::Blocked, 1));
        assert_eq!(judged(&[Severity::High]), (ScanStatus::Passed, 0));
        assert_eq!(judged(&[]), (ScanStatus::Passed, 0));
    }

    #[test]
    fn a_report_is_shown_for_the_image_it_was_made_of_and_no_other() {
        let mut state = container("app", "1.0.0");
        let facts = std::sync::Arc::make_mut(&mut state.facts);
        facts.image.digest.repo = Some("sha256:old".into());
        let scan = |digest: &str| {
            let subject = Subject {
                image: "app".into(),
                digest: Some(digest.into()),
                image_id: None,
            };
            ScanReport::judged(&subject, "trivy", &[], &[], Utc::now())
        };
        let reports = Reports {
            scans: vec![scan("sha256:older"), scan("sha256:new")],
            ..Reports::default()
        };
        let candidate = WatchResult {
            digest: Some("sha256:new".into()),
            ..WatchResult::default()
        };
        let shown = SecurityView::of(&reports, &state.facts, Some(&candidate));
        assert_eq!(shown.update_scan, Some(&reports.scans[1]));
        assert_eq!(shown.scan, shown.update_scan, "nothing of what runs");
        assert!(SecurityView::of(&reports, &state.facts, None).is_empty());

        // After the update the candidate is what runs.
        std::sync::Arc::make_mut(&mut state.facts).image.digest.repo = Some("sha256:new".into());
        let shown = SecurityView::of(&reports, &state.facts, None);
        assert_eq!(shown.scan, Some(&reports.scans[1]));
    }
}
