//! The schedule of one watcher. Any number of workers keep it; each slot becomes one job, because
//! its name is unique in the database (reliability.md F-15).
//!
//! Time is the database's: a worker whose clock is wrong is late or early by nothing.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_app::{
    AppError,
    store::jobs::{self, Inserted, NewJob},
    totals::Total,
};
use plimsoll_domain::ids::ContainerId;
use plimsoll_domain::job::{JobSpec, WatchCause};
use plimsoll_domain::schedule::{jitter, slot_key};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Watcher;

/// After start, so that the first look at the engine is done when the first cycle begins.
const FIRST: Duration = Duration::from_secs(1);
/// A cycle that ended this recently counts as the one at start: a restart is no reason to ask
/// registries again.
const RECENT: TimeDelta = TimeDelta::minutes(5);
/// A wait is never longer: clocks are set, and machines sleep.
const LONGEST: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(2);

/// Enqueues the watcher's cycles until `shutdown`. Never fails: a database that is away is waited
/// for, and what was missed meanwhile is made up for by one cycle.
pub async fn keep_schedule(watcher: Watcher, shutdown: CancellationToken) {
    let work = async {
        sleep(FIRST).await;
        let mut started = false;
        loop {
            match step(&watcher, &mut started).await {
                Ok(wait) => sleep(wait).await,
                Err(error) => {
                    tracing::debug!(watcher = %watcher.reference(), %error, "the schedule waits");
                    sleep(RETRY).await;
                }
            }
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = work => {}
    }
}

/// Fires what is due and answers how long to wait for the next look.
async fn step(watcher: &Watcher, started: &mut bool) -> Result<Duration, AppError> {
    let store = watcher.app().store();
    let settings = watcher.settings();
    let now = store.now().await?;
    let row = store.watcher(watcher.reference()).await?;
    let last = row.as_ref().and_then(|row| row.last_run_at);
    if !*started {
        if settings.watch_at_start
            && let Some(slot) = at_start(last, now)
            && may_run(watcher, &start_key(watcher, slot), now).await?
        {
            watcher
                .enqueue_watch(
                    Vec::new(),
                    Some(start_key(watcher, slot)),
                    WatchCause::Other,
                )
                .await?;
        }
        *started = true;
    }
    let name = format!("watch:{}", watcher.reference());
    // Slots since the last run, or since a moment ago where nothing ever ran: however many were
    // missed, the newest one stands for all of them.
    let plan = plan(
        |after| settings.schedule.next_after(after),
        last,
        now,
        |slot| {
            let jitter = jitter(&slot_key(&name, slot), settings.jitter);
            TimeDelta::from_std(jitter).unwrap_or_default()
        },
    );
    let mut next = plan.next;
    if let Some(slot) = plan.due {
        let key = slot_key(&name, slot);
        if may_run(watcher, &key, now).await? {
            watcher
                .enqueue_watch(Vec::new(), Some(key), WatchCause::Schedule)
                .await?;
        } else {
            // It stays due until the window opens.
            let opens = settings.window.as_ref().and_then(|w| w.next_after(now));
            next = opens.or(next);
        }
    }
    store.watcher_runs_next(watcher.reference(), next).await?;
    let scans = scan(watcher, now).await?;
    let wait = [next, scans]
        .into_iter()
        .flatten()
        .min()
        .and_then(|next| (next - now).to_std().ok())
        .unwrap_or(LONGEST);
    Ok(wait.clamp(Duration::from_millis(200), LONGEST))
}

/// Asks for the scan of all that is watched where one is due, and answers when the next one is.
/// What was missed is left out, and so is what comes while the engine has one under way.
async fn scan(watcher: &Watcher, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>, AppError> {
    let Some(scans) = &watcher.settings().scans else {
        return Ok(None);
    };
    let name = format!("scan:{}", watcher.reference());
    let delta = |delay| TimeDelta::from_std(delay).unwrap_or_default();
    let plan = plan(
        |after| scans.schedule.next_after(after),
        Some(now - delta(scans.jitter) - delta(LONGEST)),
        now,
        |slot| delta(jitter(&slot_key(&name, slot), scans.jitter)),
    );
    if let Some(slot) = plan.due {
        let known = watcher.inventory().checked().await?;
        let watched = known.values().filter(|(_, facts)| watcher.selects(facts));
        let containers: Vec<ContainerId> = watched.map(|(_, facts)| facts.id.clone()).collect();
        if !containers.is_empty() {
            let slot = slot_key(&name, slot);
            let app = watcher.app();
            app.scan_due(watcher.reference(), containers, slot).await?;
        }
    }
    Ok(plan.next)
}

/// Whether the maintenance window is open, if there is one. What is let pass is counted once,
/// however many workers keep the schedule.
async fn may_run(watcher: &Watcher, key: &str, now: DateTime<Utc>) -> Result<bool, AppError> {
    let window = watcher.settings().window.as_ref();
    if window.is_none_or(|window| window.covers(now)) {
        return Ok(true);
    }
    let app = watcher.app();
    let skipped = NewJob {
        slot: Some(format!("skip:{key}")),
        ..NewJob::now(
            watcher.reference().clone(),
            JobSpec::Watch {
                containers: Vec::new(),
                fresh: false,
                cause: WatchCause::Schedule,
            },
        )
    };
    let client = app.store().client().await?;
    if jobs::skip(&client, &skipped).await? == Inserted::Written {
        tracing::info!(watcher = %watcher.reference(), "a watch waits for the maintenance window");
        let labels = ["docker", watcher.reference().name.as_str()];
        app.tally().add(Total::MaintenanceSkips, &labels, 1.0);
    }
    Ok(false)
}

/// The start slot, unless a cycle ended recently. Workers that start within the same minute share
/// one.
fn at_start(last: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<i64> {
    let recent = last.is_some_and(|last| now - last < RECENT);
    (!recent).then(|| now.timestamp() / 60)
}

fn start_key(watcher: &Watcher, slot: i64) -> String {
    format!("start:{}:{slot}", watcher.reference())
}

#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The slot to run now.
    due: Option<DateTime<Utc>>,
    /// When the next one will run, its jitter included.
    next: Option<DateTime<Utc>>,
}

/// How far back missed slots are looked for.
const LOOK_BACK: TimeDelta = TimeDelta::hours(24);

fn plan(
    next_after: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>>,
    last: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
    jitter: impl Fn(DateTime<Utc>) -> TimeDelta,
) -> Plan {
    // Nothing ran yet: the start cycle is there for what came before.
    let since = last
        .unwrap_or(now - TimeDelta::minutes(2))
        .max(now - LOOK_BACK);
    let mut due = None;
    let mut slot = next_after(since);
    while let Some(at) = slot {
        if at + jitter(at) > now {
            return Plan {
                due,
                next: Some(at + jitter(at)),
            };
        }
        due = Some(at);
        slot = next_after(at);
    }
    Plan { due, next: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    /// Every hour, on the hour.
    fn hourly(after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp((after.timestamp() / 3600 + 1) * 3600, 0)
    }

    #[test]
    fn a_slot_is_due_when_its_jitter_has_passed() {
        let last = Some(at("2026-01-01T10:00:30Z"));
        let jitter = |_| TimeDelta::seconds(40);
        let before = plan(hourly, last, at("2026-01-01T11:00:39Z"), jitter);
        assert_eq!(before.due, None);
        assert_eq!(before.next, Some(at("2026-01-01T11:00:40Z")));
        let after = plan(hourly, last, at("2026-01-01T11:00:40Z"), jitter);
        assert_eq!(after.due, Some(at("2026-01-01T11:00:00Z")));
        assert_eq!(after.next, Some(at("2026-01-01T12:00:40Z")));
    }

    #[test]
    fn missed_slots_are_made_up_for_by_one() {
        let plan = plan(
            hourly,
            Some(at("2026-01-01T03:10:00Z")),
            at("2026-01-01T09:30:00Z"),
            |_| TimeDelta::zero(),
        );
        assert_eq!(plan.due, Some(at("2026-01-01T09:00:00Z")));
        assert_eq!(plan.next, Some(at("2026-01-01T10:00:00Z")));
    }

    #[test]
    fn a_first_start_makes_up_for_nothing() {
        let plan = plan(hourly, None, at("2026-01-01T09:30:00Z"), |_| {
            TimeDelta::zero()
        });
        assert_eq!(plan.due, None);
    }

    #[test]
    fn a_restart_soon_after_a_cycle_is_no_reason_for_another() {
        let now = at("2026-01-01T10:00:30Z");
        assert_eq!(at_start(Some(now - TimeDelta::minutes(1)), now), None);
        assert!(at_start(Some(now - TimeDelta::minutes(6)), now).is_some());
        assert!(at_start(None, now).is_some());
    }
}
