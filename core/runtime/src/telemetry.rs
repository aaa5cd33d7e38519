//! Logs to standard error, and traces to an OTLP collector if one is configured.

use std::io::IsTerminal as _;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use plimsoll_app::log::process_log;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, filter::filter_fn, fmt};

use crate::{
    collector::Collector,
    log_format::{JsonFields, JsonLines, TextFields},
    log_ring::RingLayer,
    settings::{LogFormat, Settings},
};

/// Sends what is left when dropped. Keep it until the end of `main`.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logging for the process called `service`. Further calls in one process change nothing.
/// Call it within tokio's multi-threaded runtime, which sends traces while `main` waits for them.
///
/// # Errors
/// When the OTLP endpoint is not an address.
pub fn init(settings: &Settings, service: &'static str) -> anyhow::Result<Telemetry> {
    let level = settings.log.level.as_str();
    // Libraries are only heard from when something is wrong, or when asked for by name.
    let filter = || {
        EnvFilter::try_from_default_env().unwrap_or_else(|_| {
            let libraries = if level == "trace" { "debug" } else { "warn" };
            EnvFilter::new(format!(
                "{libraries},plimsoll={level},plimsoll_api={level},plimsoll_app={level},\
             plimsoll_domain={level},plimsoll_queue={level},plimsoll_runtime={level},\
             plimsoll_store={level},plimsoll_worker={level}"
            ))
        })
    };
    process_log().set_level(level);
    let ring = settings
        .log
        .buffer_enabled
        .then(|| RingLayer::of_process().with_filter(filter()));
    let output = match settings.log.format {
        LogFormat::Json => fmt::layer()
            .with_writer(std::io::stderr)
            .event_format(JsonLines)
            .fmt_fields(JsonFields)
            .boxed(),
        LogFormat::Text => fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            .fmt_fields(TextFields)
            .boxed(),
    };
    let provider = settings
        .telemetry
        .otlp_endpoint
        .as_deref()
        .map(|endpoint| provider(endpoint, service))
        .transpose()?;
    // Spans of our own only, and no lines of the log: those say more than a collector needs to know.
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer(service))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| {
                let ours = [plimsoll_trace::TARGET, plimsoll_trace::LOGGED];
                metadata.is_span() && ours.contains(&metadata.target())
            }))
    });
    // An error means that a subscriber is there already.
    let _ = tracing_subscriber::registry()
        .with(output.with_filter(filter()))
        .with(ring)
        .with(traces)
        .try_init();
    Ok(Telemetry { provider })
}

/// Which traces are kept is said by `OTEL_TRACES_SAMPLER` and `OTEL_TRACES_SAMPLER_ARG`, headers by
/// `OTEL_EXPORTER_OTLP_HEADERS`: the SDK reads these by itself.
fn provider(endpoint: &str, service: &'static str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Collector::new()?)
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()?;
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(Resource::builder().with_service_name(service).build())
        .build())
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(provider) = &self.provider {
            // Nobody is left to tell that the collector does not answer.
            let _ = provider.shutdown();
        }
    }
}
