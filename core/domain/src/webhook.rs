//! Outgoing webhooks: what may be heard of, and when a delivery is tried again (Standard Webhooks,
//! "Operational considerations").

use std::time::Duration;

/// Every event that clients of the stream get, under the name that they get it by.
pub const EVENTS: [&str; 9] = [
    "dd:container-added",
    "dd:container-updated",
    "dd:container-removed",
    "dd:update-operation-changed",
    "dd:scan-started",
    "dd:scan-completed",
    "dd:agent-connected",
    "dd:agent-disconnected",
    "dd:self-update",
];

/// How far something is: of use to somebody who looks on, and told to no endpoint.
pub const PASSING: [&str; 2] = [OPERATION_PROGRESS, WATCH_PROGRESS];
/// How far an operation's pull is.
pub const OPERATION_PROGRESS: &str = "dd:update-operation-progress";
/// How far a watch is.
pub const WATCH_PROGRESS: &str = "dd:watch-progress";

/// Stands for every event there is and will be, but for those that only pass.
pub const EVERYTHING: &str = "*";
/// Somebody tries the endpoint.
pub const TEST: &str = "dd:webhook-test";
/// Events were forgotten before the endpoint could be told: the stream's word for it.
pub const GAP: &str = "dd:resync-required";

/// Between the attempts of one delivery: so long after the first has failed, and so on. The first is
/// made at once, so there are ten, within about three days.
const WAITS: [Duration; 9] = {
    const MINUTE: u64 = 60;
    const HOUR: u64 = 60 * MINUTE;
    [
        Duration::from_secs(5),
        Duration::from_secs(5 * MINUTE),
        Duration::from_secs(30 * MINUTE),
        Duration::from_secs(2 * HOUR),
        Duration::from_secs(5 * HOUR),
        Duration::from_secs(10 * HOUR),
        Duration::from_secs(14 * HOUR),
        Duration::from_secs(20 * HOUR),
        Duration::from_secs(24 * HOUR),
    ]
};

/// How long an endpoint may fail every attempt before it is switched off.
pub const PATIENCE: Duration = Duration::from_secs(5 * 24 * 60 * 60);

/// How long to wait after so many attempts failed; `None`: that was the last. A tenth more or less,
/// as `chance` (0 to 1) says, so that what failed together is not tried again together; at least
/// what the receiver `asked` for.
pub fn next_attempt(attempts: u32, chance: f64, asked: Option<Duration>) -> Option<Duration> {
    let place = usize::try_from(attempts.saturating_sub(1)).ok()?;
    let wait = WAITS
        .get(place)?
        .mul_f64(0.9 + 0.2 * chance.clamp(0.0, 1.0));
    Some(asked.map_or(wait, |asked| asked.max(wait)))
}

/// What is wrong with a list of events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventsError {
    #[error("events must name at least one event, or be [\"*\"] for all")]
    Empty,
    #[error("there is no event {0:?}; there are {known}, and * for all", known = EVENTS.join(", "))]
    Unknown(String),
}

/// Each name once; `*` alone where it is among them.
pub fn events(names: &[String]) -> Result<Vec<String>, EventsError> {
    let mut events: Vec<String> = Vec::new();
    for name in names {
        if name != EVERYTHING && !EVENTS.contains(&name.as_str()) {
            return Err(EventsError::Unknown(name.chars().take(40).collect()));
        }
        if !events.contains(name) {
            events.push(name.clone());
        }
    }
    if events.iter().any(|name| name == EVERYTHING) {
        return Ok(vec![EVERYTHING.to_owned()]);
    }
    match events.is_empty() {
        true => Err(EventsError::Empty),
        false => Ok(events),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_attempts_are_made_within_about_three_days() {
        let waits: Vec<u64> = (1..)
            .map_while(|attempts| next_attempt(attempts, 0.5, None))
            .map(|wait| wait.as_secs())
            .collect();
        let hours = |hours: u64| hours * 60 * 60;
        let expected = [5, 300, 1800, hours(2), hours(5), hours(10), hours(14)];
        assert_eq!(waits[..7], expected);
        assert_eq!(waits[7..], [hours(20), hours(24)]);
        assert_eq!(next_attempt(u32::MAX, 0.5, None), None);
    }

    #[test]
    fn waits_differ_and_a_receiver_may_ask_for_longer_ones() {
        let seconds = |chance, asked: Option<u64>| {
            let wait = next_attempt(2, chance, asked.map(Duration::from_secs));
            wait.unwrap().as_secs()
        };
        assert_eq!((seconds(0.0, None), seconds(1.0, None)), (270, 330));
        assert_eq!((seconds(0.5, Some(900)), seconds(0.5, Some(1))), (900, 300));
    }

    #[test]
    fn events_are_those_that_there_are() {
        let named = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            events(&names)
        };
        let twice = ["dd:scan-started", "dd:scan-started"];
        assert_eq!(named(&twice).unwrap(), ["dd:scan-started"]);
        assert_eq!(named(&["dd:scan-started", "*"]).unwrap(), ["*"]);
        assert_eq!(named(&[]), Err(EventsError::Empty));
        let unknown = named(&["dd:nothing"]).unwrap_err();
        assert!(unknown.to_string().contains("dd:container-added"));
    }
}
