//! Trivy's report.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Severity, Vulnerability};

/// Trivy's JSON (`--format json`, schema version 2), as far as it is read.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Trivy {
    #[serde(default)]
    results: Option<Vec<TrivyResult>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyResult {
    #[serde(default)]
    target: String,
    #[serde(default)]
    vulnerabilities: Option<Vec<TrivyVulnerability>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TrivyVulnerability {
    #[serde(rename = "VulnerabilityID")]
    id: String,
    #[serde(default)]
    pkg_name: String,
    #[serde(default)]
    installed_version: String,
    #[serde(default)]
    fixed_version: String,
    #[serde(default)]
    severity: String,
    #[serde(default)]
    title: String,
    #[serde(default, rename = "PrimaryURL")]
    primary_url: String,
    #[serde(default)]
    published_date: Option<String>,
}

/// Characters of one text of a finding.
const LONGEST_TEXT: usize = 500;
/// More findings of one image are not kept; what was found still counts.
pub const MOST_VULNERABILITIES: usize = 20_000;

/// Reads Trivy's report: the worst first, then by id and package. The same finding twice in one
/// target counts once.
///
/// # Errors
/// A report that is no such JSON.
pub fn read_trivy(report: &[u8]) -> serde_json::Result<Vec<Vulnerability>> {
    let report: Trivy = serde_json::from_slice(report)?;
    let mut found = BTreeMap::new();
    for result in report.results.unwrap_or_default() {
        for one in result.vulnerabilities.unwrap_or_default() {
            let vulnerability = Vulnerability {
                id: cut(one.id),
                target: cut(result.target.clone()),
                package_name: cut(one.pkg_name),
                installed_version: cut(one.installed_version),
                fixed_version: Some(cut(one.fixed_version)).filter(|text| !text.is_empty()),
                severity: Severity::of(&one.severity),
                title: cut(one.title),
                primary_url: web_only(cut(one.primary_url)),
                published_date: one.published_date.map(cut),
            };
            let key = (
                std::cmp::Reverse(vulnerability.severity),
                vulnerability.id.clone(),
                vulnerability.package_name.clone(),
                vulnerability.installed_version.clone(),
                vulnerability.target.clone(),
            );
            found.insert(key, vulnerability);
        }
    }
    Ok(found.into_values().collect())
}

fn cut(mut text: String) -> String {
    text.retain(|c| c != '\0');
    if let Some((end, _)) = text.char_indices().nth(LONGEST_TEXT) {
        text.truncate(end);
    }
    text
}

/// It becomes a link in browsers.
fn web_only(url: String) -> String {
    match url.starts_with("https://") || url.starts_with("http://") {
        true => url,
        false => String::new(),
    }
}
