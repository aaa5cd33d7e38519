//! A container as a check shows it (reference/docksmith-dokploy-dockup.md 1.2, "Checking").

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_app::{App, Snapshot, inventory::Entry};
use plimsoll_domain::{
    change::Change,
    check_status::{CheckStatus, ComposeImage, check, is_mutable},
    stack::Target,
    tag::ParsedTag,
    update_check::{CheckVerdict, last_check},
    view::ViewContext,
};
use poem_openapi::Object;
use serde::Serialize;

/// One container's check: the document's names, and the product's other ones.
#[derive(Clone, Object, Serialize)]
#[oai(rename = "Container", skip_serializing_if_is_none)]
pub struct Item {
    pub name: String,
    pub container_name: String,
    pub id: String,
    /// Empty outside of any.
    pub stack: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Which host, where there are several.
    pub watcher: String,
    pub image: String,
    pub current_tag: String,
    pub current_version: String,
    /// What the tag says beside its version, such as `alpine`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_suffix: Option<String>,
    /// Empty where nothing newer is known.
    pub latest_version: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_resolved_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latest_digest: Option<String>,
    /// 0 none or a rebuild, 1 patch, 2 minor, 3 major, 4 downgrade, 5 unknown.
    pub change_type: u8,
    /// `UP_TO_DATE`, `UP_TO_DATE_PINNABLE`, `UPDATE_AVAILABLE`, `UPDATE_AVAILABLE_BLOCKED`,
    /// `COMPOSE_MISMATCH`, `LOCAL_IMAGE`, `IGNORED` or `ERROR`.
    pub status: String,
    pub update_available: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    pub is_local: bool,
    /// A tag that stands still and has the image that the mutable one stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recommended_tag: Option<String>,
    pub using_latest_tag: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_update_check: Option<String>,
    /// Whether it let the update pass when it was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_update_check_pass: Option<bool>,
    /// Why it did not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_update_check_fail: Option<String>,
    /// `healthy`, `unhealthy`, `starting`, or `none` without a healthcheck.
    pub health_status: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compose_image: Option<String>,
    /// Whether a file of variables (`.env`) sets the tag; absent where no Compose file is read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_controlled: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_var_name: Option<String>,
    /// Why an update that there is would be refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Names of what it needs.
    pub dependencies: Vec<String>,
    pub labels: BTreeMap<String, String>,
    /// The labels `docksmith.`, `dd.` and `plimsoll.` that its Compose files write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compose_labels: Option<BTreeMap<String, String>>,
    /// Whether the container has others of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels_out_of_sync: Option<bool>,
}

/// What one answer's items are made with.
pub struct Items<'a> {
    snapshot: &'a Snapshot,
    context: ViewContext,
    now: DateTime<Utc>,
}

/// An item, and how it counts.
pub struct Counted {
    pub item: Item,
    pub status: CheckStatus,
}

impl<'a> Items<'a> {
    pub fn new(app: &App, snapshot: &'a Snapshot) -> Self {
        Self {
            snapshot,
            context: app.settings().view_context(),
            now: Utc::now(),
        }
    }

    /// Of every container, by name.
    pub fn all(&self) -> Vec<Counted> {
        let entries = self.snapshot.inventory.entries().iter();
        entries.map(|entry| self.one(entry)).collect()
    }

    pub fn one(&self, entry: &Entry) -> Counted {
        let state = &entry.state;
        let facts = &state.facts;
        let result = state.current_result();
        let compose_image = ComposeImage::of(facts);
        let found = check(state, compose_image, &self.context, self.now);
        let text = |text: Option<&str>| text.map(str::to_owned);
        let tag = facts.image.tag.value.as_str();
        let repository = facts.image.repository();
        let name = repository.map_or_else(
            || facts.image.name.clone(),
            |repository| repository.familiar_name(),
        );
        let available = matches!(
            found.status,
            CheckStatus::UpdateAvailable | CheckStatus::UpdateAvailableBlocked
        );
        let blocked = found.status == CheckStatus::UpdateAvailableBlocked;
        let note = found.blockers.first().filter(|_| blocked);
        let compose = facts.compose.as_ref();
        let suffix = ParsedTag::parse(tag).and_then(|parsed| parsed.flavour());
        let checked = last_check(state);
        let named = facts.compose_image.as_ref();
        let written = facts.compose_labels.as_ref();
        let item = Item {
            name: facts.name.clone(),
            container_name: facts.name.clone(),
            id: facts.id.as_str().to_owned(),
            stack: compose.map(|c| c.project.clone()).unwrap_or_default(),
            service: compose.map(|c| c.service.clone()),
            watcher: facts.watcher.to_string(),
            image: match tag {
                "" => name,
                tag => format!("{name}:{tag}"),
            },
            current_tag: tag.to_owned(),
            current_version: match &found.current_version {
                Some(version) => version.to_string(),
                None => tag.to_owned(),
            },
            current_suffix: text(suffix).filter(|suffix| !suffix.is_empty()),
            latest_version: match (available, found.latest_tag) {
                (true, Some(latest)) => latest.to_owned(),
                (false, _) if found.error.is_none() => tag.to_owned(),
                _ => String::new(),
            },
            latest_resolved_version: text(found.recommended_tag).filter(|_| is_mutable(facts)),
            current_digest: facts.image.digest.value.clone(),
            latest_digest: result.and_then(|result| result.digest.clone()),
            change_type: match found.change {
                Change::None | Change::Rebuild => 0,
                Change::Patch => 1,
                Change::Minor => 2,
                Change::Major => 3,
                Change::Downgrade => 4,
                Change::Unknown => 5,
            },
            status: word(found.status).to_owned(),
            update_available: available,
            error: match (&found.error, compose_image) {
                (Some(error), _) => Some(error.message().to_owned()),
                (None, Some(image)) if found.compose_image.is_some() => Some(image.message()),
                _ => None,
            },
            is_local: facts.image.is_local_image,
            recommended_tag: text(found.recommended_tag),
            using_latest_tag: tag == "latest",
            pre_update_check: text(label(&facts.labels, "docksmith.pre-update-check")),
            pre_update_check_pass: checked.map(|check| check.status == CheckVerdict::Passed),
            pre_update_check_fail: checked.and_then(|check| check.reason.clone()),
            health_status: facts
                .health
                .map_or("none", |health| health.as_str())
                .to_owned(),
            compose_image: text(found.compose_image),
            env_controlled: named.map(|image| image.variable.is_some()),
            env_var_name: named.and_then(|image| image.variable.clone()),
            note: note.map(|blocker| blocker.message.to_string()),
            dependencies: self.dependencies(entry),
            labels: facts.labels.clone(),
            compose_labels: written.map(|labels| labels.written.clone()),
            labels_out_of_sync: written.map(|labels| !labels.in_sync),
        };
        Counted {
            status: found.status,
            item,
        }
    }

    fn dependencies(&self, entry: &Entry) -> Vec<String> {
        let inventory = &self.snapshot.inventory;
        let survey = inventory.survey();
        let node = inventory
            .position(entry.id())
            .and_then(|position| survey.node_of(position));
        let Some(node) = node else {
            return Vec::new();
        };
        let needed = survey.node(node).dependencies.iter();
        needed
            .map(|dependency| match &dependency.on {
                Target::Node(other) => survey.node(*other).name.clone(),
                Target::Missing(name) => name.clone(),
            })
            .collect()
    }
}

fn label<'a>(labels: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    labels.get(name).map(String::as_str)
}

/// The contract's word.
pub const fn word(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::UpToDate => "UP_TO_DATE",
        CheckStatus::UpToDatePinnable => "UP_TO_DATE_PINNABLE",
        CheckStatus::UpdateAvailable => "UPDATE_AVAILABLE",
        CheckStatus::UpdateAvailableBlocked => "UPDATE_AVAILABLE_BLOCKED",
        CheckStatus::ComposeMismatch => "COMPOSE_MISMATCH",
        CheckStatus::LocalImage => "LOCAL_IMAGE",
        CheckStatus::Ignored => "IGNORED",
        CheckStatus::Error => "ERROR",
    }
}
