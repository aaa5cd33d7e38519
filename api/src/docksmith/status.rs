//! What is known of everything, without asking anybody (reference/docksmith-dokploy-dockup.md 1.2).

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use plimsoll_app::{App, AppError, Snapshot, watchers::WatcherView, watches::CACHE_TTL};
use plimsoll_domain::{check_status::CheckStatus, schedule::CronSchedule};
use poem_openapi::Object;
use serde::Serialize;
use serde_json::Value;

use super::items::{Counted, Item, Items};
use crate::drydock::instant::Instant;

/// Everything that is known of the containers.
#[derive(Object, Serialize)]
#[oai(rename = "Status", skip_serializing_if_is_none)]
pub struct StatusData {
    pub total_checked: usize,
    pub updates_found: usize,
    pub up_to_date: usize,
    pub local_images: usize,
    pub failed: usize,
    pub ignored: usize,
    /// When everything was last checked; absent before the first time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_cache_refresh: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_background_run: Option<Instant>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_check: Option<Instant>,
    /// Between the last check and the next, such as `5m0s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check_interval: Option<String>,
    /// Whether containers are being checked now.
    pub checking: bool,
    /// How old a registry's answer may be in a check that nobody asked for, such as `2m0s`.
    pub cache_ttl: String,
    pub containers: Vec<Item>,
    pub stacks: BTreeMap<String, StackView>,
    pub standalone_containers: Vec<Item>,
    /// Names of containers, each after what it needs.
    pub update_order: Vec<String>,
}

#[derive(Object, Serialize)]
#[oai(rename = "Stack")]
pub struct StackView {
    pub name: String,
    pub containers: Vec<Item>,
    pub has_updates: bool,
    /// Whether every update that there is can be asked for.
    pub all_updatable: bool,
    /// `major`, `minor`, `patch` or `none`: the largest step among its updates.
    pub update_priority: String,
}

impl StackView {
    fn empty(name: String) -> Self {
        Self {
            name,
            containers: Vec::new(),
            has_updates: false,
            all_updatable: true,
            update_priority: "none".to_owned(),
        }
    }
}

/// What is known now.
pub async fn status(app: &App, snapshot: &Snapshot) -> Result<StatusData, AppError> {
    let (watchers, checking) = tokio::try_join!(app.watchers(), app.is_watching())?;
    let items = Items::new(app, snapshot).all();
    let count = |wanted: &[CheckStatus]| {
        let items = items.iter();
        items.filter(|one| wanted.contains(&one.status)).count()
    };
    let last = watchers.iter().filter_map(|one| one.last_run_at).max();
    let next = watchers.iter().filter_map(|one| one.next_run_at).min();
    let survey = snapshot.inventory.survey();
    // Also those that nothing runs of.
    let mut stacks: BTreeMap<String, StackView> = BTreeMap::new();
    let described = survey.stacks().iter().filter(|one| one.directory.is_some());
    let names = described.map(|stack| stack.name.clone());
    stacks.extend(names.map(|name| (name.clone(), StackView::empty(name))));
    let mut standalone = Vec::new();
    for Counted { item, .. } in &items {
        if item.stack.is_empty() {
            standalone.push(item.clone());
            continue;
        }
        let stack = stacks
            .entry(item.stack.clone())
            .or_insert_with(|| StackView::empty(item.stack.clone()));
        stack.containers.push(item.clone());
    }
    for stack in stacks.values_mut() {
        let updates = || stack.containers.iter().filter(|item| item.update_available);
        stack.has_updates = updates().next().is_some();
        stack.all_updatable = updates().all(|item| item.status == "UPDATE_AVAILABLE");
        stack.update_priority = match updates().map(|item| item.change_type).max() {
            Some(3..) => "major",
            Some(2) => "minor",
            Some(_) => "patch",
            None => "none",
        }
        .to_owned();
    }
    let nodes = items
        .iter()
        .enumerate()
        .filter_map(|(at, _)| survey.node_of(at));
    let mut nodes: Vec<usize> = nodes.collect();
    nodes.sort_unstable();
    nodes.dedup();
    let order = survey.in_order(nodes).into_iter();
    let update_order = order
        .flat_map(|node| survey.node(node).containers.iter())
        .map(|container| items[*container].item.name.clone())
        .collect();
    Ok(StatusData {
        total_checked: items.len(),
        updates_found: items.iter().filter(|one| one.item.update_available).count(),
        up_to_date: count(&[CheckStatus::UpToDate, CheckStatus::UpToDatePinnable]),
        local_images: count(&[CheckStatus::LocalImage]),
        failed: count(&[CheckStatus::Error]),
        ignored: count(&[CheckStatus::Ignored]),
        last_cache_refresh: last.map(Instant),
        last_background_run: last.map(Instant),
        next_check: next.map(Instant),
        check_interval: interval(&watchers, Utc::now()),
        checking,
        cache_ttl: duration(CACHE_TTL.as_secs()),
        containers: items.into_iter().map(|one| one.item).collect(),
        stacks,
        standalone_containers: standalone,
        update_order,
    })
}

/// The shortest that a watcher waits between two checks, by its schedule.
fn interval(watchers: &[WatcherView], now: DateTime<Utc>) -> Option<String> {
    let shortest = watchers.iter().filter_map(|one| {
        let configuration = &one.component.configuration;
        let text = |key: &str| configuration.get(key).and_then(Value::as_str);
        let schedule = CronSchedule::parse(text("cron")?, text("timezone")?).ok()?;
        let next = schedule.next_after(now)?;
        Some(schedule.next_after(next)? - next)
    });
    Some(duration(shortest.min()?.num_seconds().unsigned_abs()))
}

/// As Go writes durations.
fn duration(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}
