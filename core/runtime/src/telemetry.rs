//! Logs to standard error, and traces to an OTLP collector if one is configured.

use std::io::IsTerminal as _;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::WithExportConfig as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use plimsoll_app::log::process_log;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use crate::{
    log_ring::RingLayer,
    settings::{LogFormat, Settings},
};

/// Sends what is left when dropped. Keep it until the end of `main`.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Starts logging for the process called `service`. Further calls in one process change nothing.
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
    let output = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let output = match settings.log.format {
        LogFormat::Json => output.json().flatten_event(true).boxed(),
        LogFormat::Text => output.boxed(),
    };
    let provider = settings
        .telemetry
        .otlp_endpoint
        .as_deref()
        .map(|endpoint| provider(endpoint, service))
        .transpose()?;
    let traces = provider
        .as_ref()
        .map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer(service)));
    // An error means that a subscriber is there already.
    let _ = tracing_subscriber::registry()
        .with(output.with_filter(filter()))
        .with(ring)
        .with(traces.with_filter(tracing_subscriber::filter::LevelFilter::INFO))
        .try_init();
    Ok(Telemetry { provider })
}

fn provider(endpoint: &str, service: &'static str) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
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
