//! `GET /metrics`: rate, errors and duration of this replica's answers by operation, sign-ins, the
//! process, and what is known of the whole installation ([`fleet`]).
//!
//! Labels are operation ids, never paths: a path carries container ids, and each would be a series
//! of its own.

mod fleet;
mod process;

use std::time::Duration;

use plimsoll_app::metrics::FleetMetrics;
use process::ProcessMetrics;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};

/// Passwords are made to be slow to check.
const LOGIN_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0];

/// One replica's counters.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    duration: HistogramVec,
    logins: IntCounterVec,
    login_duration: HistogramVec,
    process: ProcessMetrics,
    pub connections: IntGauge,
}

const BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0,
];

impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let requests = register(
            &registry,
            IntCounterVec::new(
                Opts::new(
                    "plimsoll_http_requests_total",
                    "Requests by operation and status",
                ),
                &["operation", "status"],
            ),
        );
        let duration = register(
            &registry,
            HistogramVec::new(
                HistogramOpts::new(
                    "plimsoll_http_request_duration_seconds",
                    "Time from the request's head to the response's head",
                )
                .buckets(BUCKETS.to_vec()),
                &["operation"],
            ),
        );
        let logins = register(
            &registry,
            IntCounterVec::new(
                Opts::new(
                    "drydock_auth_login_total",
                    "Authentication login attempts by outcome and provider",
                ),
                &["outcome", "provider"],
            ),
        );
        let login_duration = register(
            &registry,
            HistogramVec::new(
                HistogramOpts::new(
                    "drydock_auth_login_duration_seconds",
                    "Authentication login verification duration by outcome and provider",
                )
                .buckets(LOGIN_BUCKETS.to_vec()),
                &["outcome", "provider"],
            ),
        );
        let connections = register(
            &registry,
            IntGauge::new("plimsoll_http_connections", "Open connections"),
        );
        Self {
            process: ProcessMetrics::new(&registry),
            registry,
            requests,
            duration,
            logins,
            login_duration,
            connections,
        }
    }

    /// One answered request. `operation` is its id, or a short name where no operation matched.
    pub fn observe(&self, operation: &str, status: u16, took: Duration) {
        // Three digits always fit; a status line is never anything else.
        let mut digits = [b'0'; 3];
        digits[0] += (status / 100 % 10) as u8;
        digits[1] += (status / 10 % 10) as u8;
        digits[2] += (status % 10) as u8;
        let status = std::str::from_utf8(&digits).unwrap_or("000");
        self.requests.with_label_values(&[operation, status]).inc();
        self.duration
            .with_label_values(&[operation])
            .observe(took.as_secs_f64());
    }

    /// One attempt to sign in, by `basic` or `oidc`.
    pub fn login(&self, outcome: &str, provider: &str, took: Duration) {
        let labels = [outcome, provider];
        self.logins.with_label_values(&labels).inc();
        self.login_duration
            .with_label_values(&labels)
            .observe(took.as_secs_f64());
    }

    /// For counters of other parts of this process.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The text exposition format. Without `fleet`, what this replica counts by itself.
    pub fn render(&self, fleet: Option<&FleetMetrics>) -> String {
        self.process.look();
        let mut own = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut own) {
            tracing::warn!(%error, "metrics could not be rendered");
        }
        let mut text = String::from_utf8(own).unwrap_or_default();
        fleet::render(fleet, &mut text);
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: Result<C, prometheus::Error>,
) -> C {
    let collector = collector.expect("metric names and labels are constants");
    registry
        .register(Box::new(collector.clone()))
        .expect("each metric is registered once");
    collector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_operation_and_status() {
        let metrics = Metrics::new();
        metrics.observe("listContainers", 200, Duration::from_millis(3));
        metrics.observe("listContainers", 503, Duration::from_millis(3));
        let text = metrics.render(None);
        assert!(text.contains(
            r#"plimsoll_http_requests_total{operation="listContainers",status="503"} 1"#
        ));
        assert!(text.contains("plimsoll_http_request_duration_seconds_bucket"));
    }
}
