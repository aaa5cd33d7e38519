//! The health gate's inputs: what to ask of the new container, and what it shows.

use std::time::Duration;

use chrono::{DateTime, Utc};
use plimsoll_domain::gate::{Gate, Health, HealthTimes, Observation, health_deadline};
use serde_json::Value;

use super::{
    observe::run_of,
    plan::{GateRules, Plan},
};
use plimsoll_domain::recovery::Prior;

/// The longest output of a probe that is kept.
const PROBE_OUTPUT: usize = 500;

/// Opens the gate for a container that was just started.
pub(super) fn open(new: &Value, plan: &Plan, prior: Prior, now: DateTime<Utc>) -> Gate {
    let GateRules {
        stability_secs,
        health_deadline_secs,
        lifetime,
    } = plan.gate;
    let healthy_by = health_times(new).map(|times| {
        let configured = health_deadline_secs.map(Duration::from_secs);
        now + health_deadline(&times, configured)
    });
    Gate {
        opened_at: now,
        stability_secs,
        healthy_by,
        started_at: started_at(new),
        image_id: plan.image_id.clone(),
        prior,
        lifetime,
    }
}

/// What the new container shows.
pub(super) fn observation(new: &Value) -> Observation {
    let state = &new["State"];
    Observation {
        run: run_of(new),
        image_id: new["Image"].as_str().unwrap_or_default().to_owned(),
        started_at: started_at(new),
        restart_count: new["RestartCount"].as_u64().unwrap_or_default(),
        exit_code: state["ExitCode"].as_i64().unwrap_or_default(),
        oom_killed: state["OOMKilled"].as_bool().unwrap_or_default(),
        error: state["Error"].as_str().unwrap_or_default().to_owned(),
        health: health(new),
    }
}

pub(super) fn started_at(new: &Value) -> String {
    let at = new["State"]["StartedAt"].as_str();
    at.unwrap_or_default().to_owned()
}

fn health(new: &Value) -> Health {
    let health = &new["State"]["Health"];
    match health["Status"].as_str() {
        Some("healthy") => Health::Healthy,
        Some("unhealthy") => {
            let log = health["Log"].as_array();
            let last = log.and_then(|log| log.last());
            let output = last.and_then(|probe| probe["Output"].as_str());
            Health::Unhealthy(
                output
                    .unwrap_or_default()
                    .trim()
                    .chars()
                    .take(PROBE_OUTPUT)
                    .collect(),
            )
        }
        Some("starting") => Health::Starting,
        // No state yet, although there is a check: the engine has not begun.
        _ if health_times(new).is_some() => Health::Starting,
        _ => Health::None,
    }
}

/// What the last probe said, where the engine calls the container unhealthy.
pub(crate) fn unhealthy(container: &Value) -> Option<String> {
    match health(container) {
        Health::Unhealthy(output) => Some(output),
        _ => None,
    }
}

/// The healthcheck's times, if there is a healthcheck.
fn health_times(new: &Value) -> Option<HealthTimes> {
    let check = &new["Config"]["Healthcheck"];
    let test = check["Test"].as_array()?;
    if test.is_empty() || test[0] == "NONE" {
        return None;
    }
    let nanoseconds = |key: &str| Duration::from_nanos(check[key].as_u64().unwrap_or_default());
    Some(HealthTimes {
        start_period: nanoseconds("StartPeriod"),
        interval: nanoseconds("Interval"),
        timeout: nanoseconds("Timeout"),
        retries: check["Retries"]
            .as_u64()
            .and_then(|n| n.try_into().ok())
            .unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_disabled_healthcheck_is_none() {
        let new = json!({"Config": {"Healthcheck": {"Test": ["NONE"]}}, "State": {}});
        assert_eq!(health(&new), Health::None);
    }

    #[test]
    fn the_last_probes_output_tells_why() {
        let new = json!({
            "Config": {"Healthcheck": {"Test": ["CMD", "x"]}},
            "State": {"Health": {"Status": "unhealthy", "Log": [
                {"Output": "first"}, {"Output": " no route\n"}
            ]}},
        });
        assert_eq!(health(&new), Health::Unhealthy("no route".to_owned()));
    }
}
