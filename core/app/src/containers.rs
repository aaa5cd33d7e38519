//! Containers as clients ask for them: filters, order, pages
//! (contract/drydock-container-api.md, "Get all containers").

use std::{borrow::Cow, cmp::Ordering, str::FromStr, sync::Arc};

use plimsoll_domain::{
    assessment::{MaturityLevel, UpdateKindName},
    container::SemverDiff,
};

use crate::{App, AppError, freshness::Snapshot, inventory::Entry};

pub const NOT_FOUND: &str = "Container not found";

/// `sort` without its sign.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortKey {
    #[default]
    Name,
    /// Containers with an update first.
    Status,
    /// The longest known update first.
    Age,
    /// The oldest image first; images without a date last.
    Created,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Direction {
    #[default]
    Ascending,
    Descending,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    pub key: SortKey,
    pub direction: Direction,
}

impl FromStr for Sort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (direction, key) = match text.strip_prefix('-') {
            Some(key) => (Direction::Descending, key),
            None => (Direction::Ascending, text),
        };
        let key = match key {
            "name" => SortKey::Name,
            "status" => SortKey::Status,
            "age" => SortKey::Age,
            "created" => SortKey::Created,
            _ => return Err(()),
        };
        Ok(Self { key, direction })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StatusFilter {
    UpdateAvailable,
    UpToDate,
    /// Everything that does not run. (Drydock compares with the word, which Docker never says.)
    Stopped,
    /// Docker's own state.
    Runtime(&'static str),
}

impl FromStr for StatusFilter {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        const RUNTIME: [&str; 6] = [
            "running",
            "exited",
            "paused",
            "restarting",
            "dead",
            "created",
        ];
        match text {
            "update-available" => Ok(Self::UpdateAvailable),
            "up-to-date" => Ok(Self::UpToDate),
            "stopped" => Ok(Self::Stopped),
            _ => RUNTIME
                .into_iter()
                .find(|known| *known == text)
                .map(Self::Runtime)
                .ok_or(()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KindFilter {
    Semver(SemverDiff),
    Digest,
    /// With the label that asks for watching.
    Watched,
    Unwatched,
    All,
}

impl FromStr for KindFilter {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(match text {
            "major" => Self::Semver(SemverDiff::Major),
            "minor" => Self::Semver(SemverDiff::Minor),
            "patch" => Self::Semver(SemverDiff::Patch),
            "digest" => Self::Digest,
            "watched" => Self::Watched,
            "unwatched" => Self::Unwatched,
            "all" => Self::All,
            _ => return Err(()),
        })
    }
}

/// What a list is asked for.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    pub sort: Sort,
    pub status: Option<StatusFilter>,
    pub kind: Option<KindFilter>,
    pub watcher: Option<String>,
    pub maturity: Option<MaturityLevel>,
    /// Dotted fields of the container that must have these values, e.g. `image.name`. A field
    /// that does not exist matches nothing.
    pub fields: Vec<(String, String)>,
    pub offset: usize,
    /// 0: without bound.
    pub limit: usize,
}

impl ListQuery {
    /// Whether this is the whole inventory in its own order.
    pub fn is_everything(&self) -> bool {
        self.offset == 0 && self.limit == 0 && self.is_plain()
    }

    fn is_plain(&self) -> bool {
        self.sort == Sort::default() && !self.filters()
    }

    fn filters(&self) -> bool {
        self.status.is_some()
            || self.kind.is_some()
            || self.watcher.is_some()
            || self.maturity.is_some()
            || !self.fields.is_empty()
    }

    fn matches(&self, entry: &Entry) -> bool {
        let facts = &entry.state.facts;
        let status = match &self.status {
            None => true,
            Some(StatusFilter::UpdateAvailable) => entry.update_available,
            Some(StatusFilter::UpToDate) => !entry.update_available,
            Some(StatusFilter::Stopped) => !facts.is_running(),
            Some(StatusFilter::Runtime(state)) => facts.status == *state,
        };
        let watched = || facts.rules.watch == Some(true);
        let kind = match self.kind {
            None | Some(KindFilter::All) => true,
            Some(KindFilter::Semver(diff)) => entry.semver_diff == diff,
            Some(KindFilter::Digest) => entry.kind == UpdateKindName::Digest,
            Some(KindFilter::Watched) => watched(),
            Some(KindFilter::Unwatched) => !watched(),
        };
        status
            && kind
            && self
                .watcher
                .as_ref()
                .is_none_or(|name| facts.watcher.name == *name)
            && self.maturity.is_none_or(|m| entry.maturity == Some(m))
            && self
                .fields
                .iter()
                .all(|(name, value)| field(entry, name).is_some_and(|found| found == *value))
    }
}

/// The fields that a list can be filtered by. None of them can hold a secret.
fn field<'a>(entry: &'a Entry, name: &str) -> Option<Cow<'a, str>> {
    let facts = &entry.state.facts;
    let (image, result) = (&facts.image, entry.state.current_result());
    let truth = |yes: bool| Some(if yes { "true" } else { "false" });
    let text: Option<&str> = match name {
        "id" => Some(facts.id.as_str()),
        "name" => Some(&facts.name),
        "displayName" => Some(facts.display_name()),
        "agent" => facts.watcher.agent_name(),
        "identityKey" => Some(entry.state.identity_key.as_str()),
        "image.id" => Some(&image.id),
        "image.name" => Some(&image.name),
        "image.registry.name" => Some(&image.registry.name),
        "image.registry.url" => Some(&image.registry.url),
        "image.tag.value" => Some(&image.tag.value),
        "image.tag.semver" => truth(image.tag.semver),
        "image.digest.watch" => truth(image.digest.watch),
        "image.digest.value" => image.digest.value.as_deref(),
        "image.digest.repo" => image.digest.repo.as_deref(),
        "image.architecture" => Some(&image.architecture),
        "image.os" => Some(&image.os),
        "image.variant" => image.variant.as_deref(),
        "result.tag" => result.and_then(|r| r.tag.as_deref()),
        "result.digest" => result.and_then(|r| r.digest.as_deref()),
        "updateAvailable" => truth(entry.update_available),
        "updateKind.kind" => return serde_name(&entry.kind).map(Cow::Owned),
        "updateKind.semverDiff" => return serde_name(&entry.semver_diff).map(Cow::Owned),
        "updateMaturityLevel" => return serde_name(&entry.maturity?).map(Cow::Owned),
        "health" => return serde_name(&facts.health?).map(Cow::Owned),
        _ => name
            .strip_prefix("labels.")
            .and_then(|label| facts.labels.get(label))
            .map(String::as_str),
    };
    text.map(Cow::Borrowed)
}

/// An enum's name as the view writes it.
fn serde_name(value: &impl serde::Serialize) -> Option<String> {
    let json = serde_json::to_string(value).ok()?;
    Some(json.trim_matches('"').to_owned())
}

/// Some of the inventory, in the order that was asked for.
pub struct Page {
    pub snapshot: Arc<Snapshot>,
    pub entries: Vec<Arc<Entry>>,
    /// Of all pages.
    pub total: usize,
}

/// Answers a list from a snapshot that is fresh for this request. A pure function of its arguments.
pub fn page(snapshot: Arc<Snapshot>, query: &ListQuery) -> Page {
    let all = snapshot.inventory.entries();
    let cut = |total: usize| {
        let start = query.offset.min(total);
        let end = match query.limit {
            0 => total,
            limit => start.saturating_add(limit).min(total),
        };
        start..end
    };
    if query.is_plain() {
        return Page {
            entries: all[cut(all.len())].to_vec(),
            total: all.len(),
            snapshot,
        };
    }
    let mut found: Vec<&Arc<Entry>> = all.iter().filter(|e| query.matches(e)).collect();
    // The inventory is ordered by name, and the sort is stable: ties stay in that order.
    found.sort_by(|a, b| compare(query.sort.key, a, b));
    if query.sort.direction == Direction::Descending {
        found.reverse();
    }
    let total = found.len();
    let entries = found[cut(total)].iter().map(|e| (*e).clone()).collect();
    Page {
        snapshot,
        entries,
        total,
    }
}

fn compare(key: SortKey, a: &Entry, b: &Entry) -> Ordering {
    match key {
        SortKey::Name => Ordering::Equal,
        SortKey::Status => b.update_available.cmp(&a.update_available),
        SortKey::Age => a.since.cmp(&b.since),
        SortKey::Created => {
            let created = |e: &Entry| e.state.facts.image.created;
            match (created(a), created(b)) {
                (Some(a), Some(b)) => a.cmp(&b),
                (a, b) => b.is_some().cmp(&a.is_some()),
            }
        }
    }
}

impl App {
    /// A page of containers, no staler than this call.
    pub async fn list_containers(&self, query: &ListQuery) -> Result<Page, AppError> {
        Ok(page(self.snapshot().await?, query))
    }

    /// One container, no staler than this call.
    pub async fn get_container(&self, id: &str) -> Result<Arc<Entry>, AppError> {
        let snapshot = self.snapshot().await?;
        let entry = snapshot.inventory.get(id);
        entry
            .cloned()
            .ok_or_else(|| AppError::NotFound(NOT_FOUND.to_owned()))
    }
}
