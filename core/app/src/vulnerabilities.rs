//! What scans have found, of one container and of all (contract/drydock-container-api.md, "Get latest
//! vulnerability scan result", "Get security vulnerability overview").

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use plimsoll_domain::{
    access::Scope,
    assessment::assess,
    container::ContainerState,
    security::{Counts, ScanReport, SecurityView, Vulnerability},
};
use plimsoll_store::StoreError;
use serde_json::json;

use crate::{App, AppError, freshness::Snapshot, inventory::Entry, requests::Caller};

impl App {
    /// The contract's scan object with every vulnerability, as JSON. Without a scan: `not-scanned`.
    pub async fn vulnerabilities(
        &self,
        container: &str,
        caller: &Caller<'_>,
    ) -> Result<Bytes, AppError> {
        caller.authorise(Scope::ContainersRead)?;
        let entry = self.get_container(container).await?;
        let shown = shown(&entry.state);
        // The gate's own scan is the newest one that matters.
        let Some(report) = shown.update_scan.or(shown.scan) else {
            let nothing = json!({
                "scanner": null, "scannedAt": null, "status": "not-scanned",
                "blockSeverities": [], "blockingCount": 0,
                "summary": {"unknown": 0, "low": 0, "medium": 0, "high": 0, "critical": 0},
                "vulnerabilities": [],
            });
            return Ok(nothing.to_string().into());
        };
        let subject = report.subject();
        let identity = entry.state.identity_key.as_str();
        let contents = self
            .store()
            .scan_contents(&[(identity, subject.key())])
            .await?;
        let list = contents.first().map_or("[]", |one| &one.vulnerabilities);
        let json = serde_json::to_vec(report)
            .map_err(|error| AppError::Internal(format!("cannot render a scan: {error}")))?;
        Ok(filled(&json, &[list]))
    }

    /// The containers' JSON with the lists of vulnerabilities in it: one question for all.
    pub async fn with_vulnerabilities(
        &self,
        entries: &[Arc<Entry>],
    ) -> Result<Vec<Bytes>, AppError> {
        let mut wanted: Vec<(&str, &str)> = entries
            .iter()
            .flat_map(|entry| {
                let identity = entry.state.identity_key.as_str();
                entry
                    .scanned
                    .iter()
                    .map(move |subject| (identity, subject.as_str()))
            })
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        let contents = self.store().scan_contents(&wanted).await?;
        let lists: HashMap<(&str, &str), &str> = contents
            .iter()
            .map(|one| ((&*one.identity, &*one.subject), &*one.vulnerabilities))
            .collect();
        let whole = |entry: &Arc<Entry>| {
            let identity = entry.state.identity_key.as_str();
            let of = |subject: &String| lists.get(&(identity, subject.as_str())).copied();
            let lists: Vec<&str> = entry
                .scanned
                .iter()
                .map(|s| of(s).unwrap_or("[]"))
                .collect();
            match lists.is_empty() {
                true => entry.json.clone(),
                false => filled(&entry.json, &lists),
            }
        };
        Ok(entries.iter().map(whole).collect())
    }

    /// One page of all that is known to be wrong with what runs, grouped by image. `limit` 0: all.
    pub async fn vulnerability_overview(
        &self,
        snapshot: &Snapshot,
        offset: usize,
        limit: usize,
    ) -> Result<Overview, AppError> {
        let entries = snapshot.inventory.entries();
        let mut overview = Overview {
            total_containers: entries.len(),
            ..Overview::default()
        };
        let mut groups: BTreeMap<(&str, String), Group<'_>> = BTreeMap::new();
        for entry in entries {
            let shown = shown(&entry.state);
            let Some(scan) = shown.scan else { continue };
            overview.scanned_containers += 1;
            overview.latest_scanned_at = overview.latest_scanned_at.max(Some(scan.scanned_at));
            let key = (&*scan.image, scan.subject().key().to_owned());
            let group = groups.entry(key).or_insert_with(|| Group {
                identity: entry.state.identity_key.as_str(),
                scan,
                update: None,
                containers: Vec::new(),
            });
            group.containers.push(entry.id().to_owned());
            if scan.scanned_at > group.scan.scanned_at {
                (group.scan, group.identity) = (scan, entry.state.identity_key.as_str());
            }
            if let Some(update) = shown.update_scan.filter(|update| *update != scan) {
                group.update = Some(update);
            }
        }
        let end = match limit {
            0 => usize::MAX,
            limit => offset.saturating_add(limit),
        };
        // Which part of the flattened list falls into which group, before any list is read.
        let mut at = 0;
        let mut parts = Vec::new();
        for ((_, subject), group) in &groups {
            let number = group.scan.summary.total() as usize;
            let (from, to) = (at.max(offset), (at + number).min(end));
            if from < to {
                parts.push((group, subject.as_str(), from - at..to - at));
            }
            at += number;
        }
        overview.total = at;
        let wanted: Vec<(&str, &str)> = parts.iter().map(|(g, s, _)| (g.identity, *s)).collect();
        let contents = self.store().scan_contents(&wanted).await?;
        for (group, subject, range) in parts {
            let list = contents
                .iter()
                .find(|one| one.identity == group.identity && one.subject == subject)
                .map_or("[]", |one| &one.vulnerabilities);
            let mut found: Vec<Vulnerability> = serde_json::from_str(list)
                .map_err(|error| StoreError::corrupt("vulnerabilities", error))?;
            found.truncate(range.end);
            overview.shown += range.len();
            overview.images.push(ImageOverview {
                image: group.scan.image.clone(),
                container_ids: group.containers.clone(),
                update_summary: group.update.map(|update| update.summary),
                vulnerabilities: found.into_iter().skip(range.start).collect(),
            });
        }
        Ok(overview)
    }
}

struct Group<'a> {
    identity: &'a str,
    scan: &'a ScanReport,
    update: Option<&'a ScanReport>,
    containers: Vec<String>,
}

/// What is known to be wrong with the fleet.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    pub total_containers: usize,
    pub scanned_containers: usize,
    pub latest_scanned_at: Option<DateTime<Utc>>,
    /// Vulnerabilities of all pages.
    pub total: usize,
    /// Vulnerabilities of this page.
    pub shown: usize,
    pub images: Vec<ImageOverview>,
}

#[derive(Clone, Debug)]
pub struct ImageOverview {
    pub image: String,
    pub container_ids: Vec<String>,
    pub update_summary: Option<Counts>,
    pub vulnerabilities: Vec<Vulnerability>,
}

fn shown(state: &ContainerState) -> SecurityView<'_> {
    let raw = assess(state, &Default::default(), Utc::now()).raw;
    let candidate = state.current_result().filter(|_| raw);
    SecurityView::of(&state.reports, &state.facts, candidate)
}

/// Where a rendered scan leaves its list out. In JSON this sequence is never part of a text: its
/// quotes would be escaped.
const HOLE: &[u8] = b"\"vulnerabilities\":[]";

/// `json` with `lists`, which are JSON arrays, in the places of its empty lists.
fn filled(json: &[u8], lists: &[&str]) -> Bytes {
    let room: usize = lists.iter().map(|list| list.len()).sum();
    let mut out = Vec::with_capacity(json.len() + room);
    let mut rest = json;
    for list in lists {
        let Some(at) = rest.windows(HOLE.len()).position(|part| part == HOLE) else {
            break;
        };
        out.extend_from_slice(&rest[..at + HOLE.len() - 2]);
        out.extend_from_slice(list.as_bytes());
        rest = &rest[at + HOLE.len()..];
    }
    out.extend_from_slice(rest);
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_put_where_they_were_left_out_and_nowhere_else() {
        let label = json!({"a": "\"vulnerabilities\":[]"}).to_string();
        let json = format!(
            "{{\"l\":{label},\"s\":{{\"vulnerabilities\":[]}},\"u\":{{\"vulnerabilities\":[]}}}}"
        );
        let whole = filled(json.as_bytes(), &["[1]", "[2]"]);
        let whole: serde_json::Value = serde_json::from_slice(&whole).unwrap();
        assert_eq!(whole["s"]["vulnerabilities"], json!([1]));
        assert_eq!(whole["u"]["vulnerabilities"], json!([2]));
        assert_eq!(whole["l"]["a"], "\"vulnerabilities\":[]");
    }
}
