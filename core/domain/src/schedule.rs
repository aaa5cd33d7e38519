//! When a watcher runs: cron in a time zone, with a jitter that every worker computes alike.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;
use sha2::{Digest, Sha256};
use thiserror::Error;

/// Characters.
const MAX_EXPRESSION: usize = 256;

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    #[error("`{expression}` is no cron expression: {problem}")]
    Expression { expression: String, problem: String },
    #[error("the cron expression is longer than {MAX_EXPRESSION} characters")]
    TooLong,
    #[error("`{0}` never comes true")]
    Never(String),
    #[error("`{0}` is no time zone; expected a name like Europe/Berlin")]
    TimeZone(String),
}

/// A cron expression (five fields, or six with seconds first) in a time zone.
///
/// Where clocks change: a time of day that a spring night skips is run at the first instant after
/// the gap, and one that an autumn night has twice is run once.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    expression: String,
    zone: Tz,
    cron: Cron,
}

impl CronSchedule {
    /// `zone` is an IANA name; empty is UTC.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, ScheduleError> {
        let expression = expression.trim();
        if expression.len() > MAX_EXPRESSION {
            return Err(ScheduleError::TooLong);
        }
        let zone = match zone.trim() {
            "" => Tz::UTC,
            name => name
                .parse()
                .map_err(|_| ScheduleError::TimeZone(name.chars().take(60).collect()))?,
        };
        let cron = Cron::from_str(expression).map_err(|error| ScheduleError::Expression {
            expression: expression.to_owned(),
            problem: error.to_string(),
        })?;
        let schedule = Self {
            expression: expression.to_owned(),
            zone,
            cron,
        };
        // Found out now rather than by a watcher that silently never runs: 30 February.
        let probe = DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default();
        if schedule.next_after(probe).is_none() {
            return Err(ScheduleError::Never(schedule.expression));
        }
        Ok(schedule)
    }

    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub fn zone(&self) -> Tz {
        self.zone
    }

    /// The first slot after `now`. `None` when there is none within the years that cron can name.
    pub fn next_after(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron
            .find_next_occurrence(&now.with_timezone(&self.zone), false)
            .ok()
            .map(|slot| slot.to_utc())
            // A clock change must never make a slot that is not in the future.
            .filter(|slot| *slot > now)
    }

    /// Whether it names the present minute: for times during which something may happen.
    pub fn covers(&self, now: DateTime<Utc>) -> bool {
        let into_minute = now.timestamp().rem_euclid(60);
        let minute = DateTime::from_timestamp(now.timestamp() - into_minute, 0);
        let last = self.last_at(now);
        last.zip(minute)
            .is_some_and(|(last, minute)| last >= minute)
    }

    /// The last slot at or before `now`: the one a worker that was away has to catch up on.
    pub fn last_at(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.cron
            .find_previous_occurrence(&now.with_timezone(&self.zone), true)
            .ok()
            .map(|slot| slot.to_utc())
            .filter(|slot| *slot <= now)
    }
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.expression, self.zone)
    }
}

/// The name of one run of one schedule, the same on every worker: whoever inserts it first runs
/// it. `what` names the schedule (`watch:<agent>:<watcher>`).
pub fn slot_key(what: &str, slot: DateTime<Utc>) -> String {
    format!("{what}@{}", slot.format("%Y-%m-%dT%H:%M:%SZ"))
}

/// A delay in `0..=max`, spread evenly over seeds and the same for the same seed, so that fleets
/// do not ask a registry all in one second and workers still agree. Seed it with the slot's key.
pub fn jitter(seed: &str, max: Duration) -> Duration {
    let hash = Sha256::digest(seed.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX - 1);
    Duration::from_millis(u64::from_be_bytes(first) % (max + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn slots(expression: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = CronSchedule::parse(expression, zone).unwrap();
        let mut at = utc(from);
        (0..count)
            .map(|_| {
                at = schedule.next_after(at).unwrap();
                at.format("%m-%dT%H:%M").to_string()
            })
            .collect()
    }

    #[test]
    fn slots_follow_the_expression_in_its_zone() {
        assert_eq!(
            slots("0 */6 * * *", "", "2026-11-21T05:59:59Z", 3),
            ["11-21T06:00", "11-21T12:00", "11-21T18:00"]
        );
        assert_eq!(
            slots("30 3 * * *", "Europe/Berlin", "2026-11-21T00:00:00Z", 2),
            ["11-21T02:30", "11-22T02:30"]
        );
        assert_eq!(
            slots("15 30 3 * * *", "", "2026-11-21T03:30:14Z", 1),
            ["11-21T03:30"]
        );
    }

    #[test]
    fn a_skipped_time_of_day_runs_after_the_gap_and_only_then() {
        // Berlin, 2026-03-29: 02:00 becomes 03:00 at 01:00 UTC.
        assert_eq!(
            slots("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 2),
            ["03-29T01:00", "03-30T00:30"]
        );
    }

    #[test]
    fn a_repeated_time_of_day_runs_once() {
        // Berlin, 2026-10-25: 03:00 becomes 02:00 at 01:00 UTC.
        assert_eq!(
            slots("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 2),
            ["10-25T00:30", "10-26T01:30"]
        );
    }

    #[test]
    fn slots_always_move_forward() {
        // A clock that goes back by half an hour moves the twenty-minute marks once.
        let limit = chrono::Duration::minutes(40);
        for zone in ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"] {
            let schedule = CronSchedule::parse("*/20 * * * *", zone).unwrap();
            for (from, to) in [("03-05", "04-10"), ("10-01", "11-05")] {
                let mut at = utc(&format!("2026-{from}T00:00:00Z"));
                while at < utc(&format!("2026-{to}T00:00:00Z")) {
                    let next = schedule.next_after(at).unwrap();
                    assert!(next > at && next - at <= limit, "{zone} {at}");
                    at = next;
                }
            }
        }
    }

    #[test]
    fn the_last_slot_includes_the_present_instant() {
        let schedule = CronSchedule::parse("0 * * * *", "").unwrap();
        let last = |text| schedule.last_at(utc(text)).unwrap();
        assert_eq!(last("2026-11-21T05:00:00Z"), utc("2026-11-21T05:00:00Z"));
        assert_eq!(last("2026-11-21T05:59:59Z"), utc("2026-11-21T05:00:00Z"));
    }

    #[test]
    fn a_window_is_open_in_the_minutes_that_it_names() {
        let nights = CronSchedule::parse("* 2-3 * * *", "Europe/Berlin").unwrap();
        let covers = |text| nights.covers(utc(text));
        assert!(covers("2026-11-21T01:00:00Z"));
        assert!(covers("2026-11-21T02:59:59Z"));
        assert!(!covers("2026-11-21T03:00:00Z"));
        assert!(!covers("2026-11-21T00:59:59Z"));
        let minute = CronSchedule::parse("0 2 * * *", "").unwrap();
        assert!(minute.covers(utc("2026-11-21T02:00:59Z")));
        assert!(!minute.covers(utc("2026-11-21T02:01:00Z")));
    }

    #[test]
    fn bad_schedules_are_refused_with_the_reason() {
        let error = |expression: &str, zone: &str| {
            CronSchedule::parse(expression, zone)
                .unwrap_err()
                .to_string()
        };
        assert!(error("", "").contains("is no cron expression"));
        assert!(error("0 25 * * *", "").contains("0 25 * * *"));
        assert!(error("every day", "").contains("is no cron expression"));
        assert!(error("0 0 30 2 *", "").contains("never"));
        assert!(error("0 0 * * *", "Mars/Base").contains("Mars/Base"));
        assert!(error(&"* ".repeat(200), "").contains("longer"));
    }

    #[test]
    fn jitter_is_spread_repeatable_and_bounded() {
        let max = Duration::from_secs(60);
        let delays: Vec<_> = (0..1000).map(|n| jitter(&format!("w{n}"), max)).collect();
        assert!(delays.iter().all(|delay| *delay <= max));
        let late = delays.iter().filter(|d| **d > max / 2).count();
        assert!((350..650).contains(&late), "{late}");
        assert_eq!(jitter("w7", max), delays[7]);
        assert_eq!(jitter("w7", Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn slot_keys_name_schedule_and_instant() {
        assert_eq!(
            slot_key("watch::local", utc("2026-11-21T06:00:00Z")),
            "watch::local@2026-11-21T06:00:00Z"
        );
    }
}
