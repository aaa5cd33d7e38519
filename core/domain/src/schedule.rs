//! Cron schedules in a time zone. Which instants they name, not when anything runs.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use croner::Cron;

/// Drydock's default: every six hours.
pub const DEFAULT_CRON: &str = "0 */6 * * *";

/// A cron expression of five fields (or six, with seconds first), and the zone its hours are of.
#[derive(Clone, Debug)]
pub struct CronSchedule {
    cron: Cron,
    expression: String,
    zone: Tz,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{expression:?} is not a cron expression: {why}")]
pub struct CronError {
    pub expression: String,
    pub why: String,
}

impl CronSchedule {
    pub fn parse(expression: &str, zone: Tz) -> Result<Self, CronError> {
        let cron = Cron::from_str(expression).map_err(|error| CronError {
            expression: expression.to_owned(),
            why: error.to_string(),
        })?;
        Ok(Self {
            cron,
            expression: expression.to_owned(),
            zone,
        })
    }

    /// The first instant after `after`; `None` if there is none in the years to come.
    ///
    /// Where summer time skips an hour, what falls into it runs when it ends; where it repeats
    /// one, what names that hour runs once.
    pub fn next_after(&self, after: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let local = after.with_timezone(&self.zone);
        let next = self.cron.find_next_occurrence(&local, false).ok()?;
        Some(next.with_timezone(&Utc))
    }

    pub fn expression(&self) -> &str {
        &self.expression
    }

    pub const fn time_zone(&self) -> Tz {
        self.zone
    }
}

impl fmt::Display for CronSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.expression, self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn slots(expression: &str, zone: Tz, from: &str, count: usize) -> Vec<String> {
        let schedule = CronSchedule::parse(expression, zone).unwrap();
        let first = schedule.next_after(at(from));
        std::iter::successors(first, |slot| schedule.next_after(*slot))
            .take(count)
            .map(crate::iso::to_string)
            .collect()
    }

    #[test]
    fn the_default_runs_every_six_hours() {
        assert_eq!(
            slots(DEFAULT_CRON, Tz::UTC, "2026-01-01T00:00:00Z", 2),
            ["2026-01-01T06:00:00.000Z", "2026-01-01T12:00:00.000Z"]
        );
    }

    #[test]
    fn hours_are_those_of_the_time_zone() {
        assert_eq!(
            slots("0 3 * * *", Tz::Europe__Oslo, "2026-01-10T00:00:00Z", 1),
            ["2026-01-10T02:00:00.000Z"]
        );
        assert_eq!(
            slots("0 3 * * *", Tz::Europe__Oslo, "2026-07-10T00:00:00Z", 1),
            ["2026-07-10T01:00:00.000Z"]
        );
    }

    #[test]
    fn summer_time_neither_loses_nor_doubles_a_daily_slot() {
        // 2026-03-29: 02:00 becomes 03:00. 2026-10-25: 03:00 becomes 02:00.
        for from in ["2026-03-27T12:00:00Z", "2026-10-23T12:00:00Z"] {
            let slots = slots("30 2 * * *", Tz::Europe__Oslo, from, 4);
            let days: Vec<&str> = slots.iter().map(|slot| &slot[..10]).collect();
            let mut distinct = days.clone();
            distinct.dedup();
            assert_eq!(days, distinct, "{slots:?}");
        }
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        let error = CronSchedule::parse("every day", Tz::UTC).unwrap_err();
        assert!(error.to_string().contains("every day"), "{error}");
    }
}
