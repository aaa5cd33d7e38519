//! The part of `/metrics` that is the same on every replica: read from the database, not counted
//! here. Whoever sums over replicas leaves these out, or takes the largest.

use std::{collections::BTreeMap, fmt::Write};

use plimsoll_app::{
    metrics::{AuditTotal, FleetMetrics},
    totals::Total,
};

/// What calls of webhooks write into the audit trail.
const WEBHOOKS: [&str; 4] = [
    "webhook-watch",
    "webhook-watch-container",
    "webhook-update",
    "webhook-registry",
];
/// What people and programs ask for; the trail has it when it is asked for, and again when it ends.
const ACTIONS: [&str; 5] = [
    "container-start",
    "container-stop",
    "container-restart",
    "container-update",
    "rollback",
];

/// Series of a metric, by the values of their labels.
type Series<'a> = BTreeMap<Vec<&'a str>, f64>;

/// Text in Prometheus' exposition format. `None`: the database does not answer, so that nothing is
/// known but that.
pub(super) fn render(fleet: Option<&FleetMetrics>, text: &mut String) {
    let up = Series::from([(Vec::new(), f64::from(u8::from(fleet.is_some())))]);
    Family::gauge(
        "plimsoll_fleet_metrics_up",
        "Whether the metrics of the whole installation could be read",
        &[],
    )
    .write(&up, text);
    let Some(fleet) = fleet else { return };

    let mut containers = Series::new();
    let mut watched = Series::new();
    for (kind, count) in fleet.containers() {
        let count = *count as f64;
        let update = if kind.update_available {
            "true"
        } else {
            "false"
        };
        let (agent, watcher) = (kind.agent.as_str(), kind.watcher.as_str());
        containers.insert(vec![agent, watcher, &kind.status, update], count);
        *watched.entry(vec!["docker", watcher, agent]).or_default() += count;
    }
    Family::gauge(
        "dd_containers",
        "Containers by watcher, state, and whether an update is available",
        &["agent", "watcher", "status", "update_available"],
    )
    .write(&containers, text);
    Family::gauge(
        "dd_watcher_total",
        "The number of watched containers",
        &["type", "name", "agent"],
    )
    .write(&watched, text);
    from_audit(fleet, text);
    from_totals(fleet, text);
    work(fleet, text);
}

/// What waits, what registries still allow, and how operations went.
fn work(fleet: &FleetMetrics, text: &mut String) {
    let backlog: Vec<_> = fleet.backlog().collect();
    let mut jobs = Series::new();
    let mut oldest = Series::new();
    for kind in &backlog {
        jobs.insert(vec![&kind.kind, "waiting"], kind.waiting as f64);
        jobs.insert(vec![&kind.kind, "running"], kind.running as f64);
        oldest.insert(vec![&kind.kind], kind.oldest);
    }
    Family::gauge(
        "plimsoll_jobs",
        "Jobs that any worker could take, and those that run",
        &["kind", "state"],
    )
    .write(&jobs, text);
    Family::gauge(
        "plimsoll_job_oldest_wait_seconds",
        "How long the job has waited that waits longest",
        &["kind"],
    )
    .write(&oldest, text);
    let (mut left, mut paused) = (Series::new(), Series::new());
    for budget in fleet.budgets() {
        if let Some(requests) = budget.left {
            left.insert(vec![&budget.registry], requests);
        }
        paused.insert(vec![&budget.registry], budget.paused.as_secs_f64());
    }
    Family::gauge(
        "plimsoll_registry_budget_left",
        "Requests that could go to the registry at once",
        &["registry"],
    )
    .write(&left, text);
    Family::gauge(
        "plimsoll_registry_paused_seconds",
        "How much longer the registry asked to be left alone",
        &["registry"],
    )
    .write(&paused, text);
    for (name, help, labels, total) in [
        (
            "plimsoll_lease_takeovers_total",
            "Jobs that were taken from a worker whose lease ran out",
            &["kind"][..],
            Total::Takeovers,
        ),
        (
            "plimsoll_operations_total",
            "Operations that ended, by the phase that they ended in",
            &["kind", "outcome"],
            Total::OperationsEnded,
        ),
    ] {
        Family::counter(name, help, labels).write(&labelled(fleet, total), text);
    }
    let phases = Family::new(
        "plimsoll_operation_phase_seconds",
        "Time that operations which ended were in each phase",
        "summary",
        &["kind", "phase"],
    );
    phases.head(text);
    let seconds = labelled(fleet, Total::OperationPhaseSeconds);
    phases.series("_sum", &seconds, text);
    phases.series("_count", &labelled(fleet, Total::OperationPhases), text);
}

fn from_audit(fleet: &FleetMetrics, text: &mut String) {
    let by_action = |of: fn(&AuditTotal<'_>) -> bool| {
        let mut series = Series::new();
        for entry in fleet.audit().filter(of) {
            *series.entry(vec![entry.action]).or_default() += entry.value;
        }
        series
    };
    Family::counter(
        "dd_audit_entries_total",
        "Total count of audit log entries",
        &["action"],
    )
    .write(&by_action(|_| true), text);
    Family::counter(
        "dd_container_actions_total",
        "Total count of container action operations",
        &["action"],
    )
    .write(&by_action(is_request), text);
    Family::counter(
        "dd_webhook_total",
        "Total count of webhook operations",
        &["action"],
    )
    .write(&by_action(|entry| WEBHOOKS.contains(&entry.action)), text);

    let mut runs = labelled(fleet, Total::TriggerRuns);
    for entry in fleet.audit() {
        let Some((type_, name, status)) = update_run(&entry) else {
            continue;
        };
        *runs.entry(vec![type_, name, status]).or_default() += entry.value;
    }
    Family::counter(
        "dd_trigger_count",
        "Total count of trigger events",
        &["type", "name", "status"],
    )
    .write(&runs, text);
}

fn is_request(entry: &AuditTotal<'_>) -> bool {
    let asked = ACTIONS.contains(&entry.action) && entry.status == "info";
    asked || entry.action == "preview"
}

/// Triggers that act leave their ends in the audit trail.
fn update_run<'a>(entry: &AuditTotal<'a>) -> Option<(&'a str, &'a str, &'static str)> {
    let status = match entry.action {
        "update-applied" => "success",
        "update-failed" => "error",
        _ => return None,
    };
    let (type_, name) = entry.trigger.split_once('.')?;
    Some((type_, name, status))
}

fn from_totals(fleet: &FleetMetrics, text: &mut String) {
    let counters: [(&str, &str, &[&str], Total); 6] = [
        (
            "dd_trigger_rollback_total",
            "Total count of trigger rollback outcomes",
            &["type", "name", "outcome", "reason"],
            Total::TriggerRollbacks,
        ),
        (
            "dd_watcher_maintenance_skip_total",
            "The number of watch cycles skipped due to maintenance window",
            &["type", "name"],
            Total::MaintenanceSkips,
        ),
        (
            "dd_legacy_input_total",
            "Total number of legacy compatibility fallbacks consumed",
            &["source", "key"],
            Total::LegacyInputs,
        ),
        (
            "plimsoll_webhook_deliveries_total",
            "Attempts to tell endpoints of events",
            &["outcome"],
            Total::WebhookDeliveries,
        ),
        (
            "drydock_digest_cache_hits_total",
            "Digests that were known and needed no request to a registry",
            &[],
            Total::DigestCacheHits,
        ),
        (
            "drydock_digest_cache_misses_total",
            "Digests that a registry was asked for",
            &[],
            Total::DigestCacheMisses,
        ),
    ];
    for (name, help, labels, total) in counters {
        let mut series = labelled(fleet, total);
        if labels.is_empty() {
            // There is this one series, whether or not anything was counted yet.
            series.entry(Vec::new()).or_default();
        }
        Family::counter(name, help, labels).write(&series, text);
    }
    let summary = Family::new(
        "dd_registry_response",
        "The registry response time in seconds",
        "summary",
        &["type", "name"],
    );
    summary.head(text);
    summary.series(
        "_sum",
        &labelled(fleet, Total::RegistryResponseSeconds),
        text,
    );
    summary.series("_count", &labelled(fleet, Total::RegistryResponses), text);
}

fn labelled(fleet: &FleetMetrics, total: Total) -> Series<'_> {
    fleet
        .totals(total)
        .map(|(labels, value)| (labels.iter().map(String::as_str).collect(), value))
        .collect()
}

/// One metric.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    labels: Vec<&'static str>,
}

impl Family {
    fn new(
        name: &'static str,
        help: &'static str,
        kind: &'static str,
        labels: &[&'static str],
    ) -> Self {
        Self {
            name,
            help,
            kind,
            labels: labels.to_vec(),
        }
    }

    fn gauge(name: &'static str, help: &'static str, labels: &[&'static str]) -> Self {
        Self::new(name, help, "gauge", labels)
    }

    fn counter(name: &'static str, help: &'static str, labels: &[&'static str]) -> Self {
        Self::new(name, help, "counter", labels)
    }

    fn write(&self, series: &Series<'_>, text: &mut String) {
        self.head(text);
        self.series("", series, text);
    }

    /// Also without any series: whoever looks for the name finds what it means.
    fn head(&self, text: &mut String) {
        let Self {
            name, help, kind, ..
        } = self;
        // A string takes whatever is written into it.
        let _ = write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    fn series(&self, suffix: &str, series: &Series<'_>, text: &mut String) {
        for (values, value) in series {
            text.push_str(self.name);
            text.push_str(suffix);
            for (at, (label, found)) in self.labels.iter().zip(values).enumerate() {
                text.push(if at == 0 { '{' } else { ',' });
                text.push_str(label);
                text.push_str("=\"");
                escape(found, text);
                text.push('"');
            }
            if !self.labels.is_empty() && !values.is_empty() {
                text.push('}');
            }
            let _ = writeln!(text, " {value}");
        }
    }
}

fn escape(value: &str, text: &mut String) {
    for character in value.chars() {
        match character {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_written_in_the_exposition_format() {
        let mut text = String::new();
        let series = Series::from([(vec!["docker", "a\"b\\c\nd"], 2.0)]);
        Family::counter("x_total", "What x is", &["type", "name"]).write(&series, &mut text);
        Family::gauge("y", "What y is", &[]).write(&Series::from([(vec![], 0.5)]), &mut text);
        assert_eq!(
            text,
            "# HELP x_total What x is\n# TYPE x_total counter\n\
             x_total{type=\"docker\",name=\"a\\\"b\\\\c\\nd\"} 2\n\
             # HELP y What y is\n# TYPE y gauge\ny 0.5\n"
        );
    }

    #[test]
    fn only_ends_of_updates_are_runs_of_triggers() {
        let entry = |action, trigger| AuditTotal {
            action,
            status: "info",
            trigger,
            value: 1.0,
        };
        assert_eq!(
            update_run(&entry("update-applied", "docker.local")),
            Some(("docker", "local", "success"))
        );
        assert_eq!(update_run(&entry("update-applied", "")), None);
        assert_eq!(update_run(&entry("container-update", "docker.local")), None);
    }
}
