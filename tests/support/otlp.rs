//! A collector of traces: what is sent to it by OTLP over HTTP, as tests want to look at it.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value},
};
use prost::Message;

use crate::hostile::{Answer, Hostile};

pub struct Collector(Hostile);

/// One span as it was exported. Ids in hex.
#[derive(Clone, Debug)]
pub struct Span {
    /// `service.name` of the process.
    pub service: String,
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty at the root.
    pub parent: String,
    pub state: String,
    /// As the protocol numbers them: 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub kind: i32,
    /// Nanoseconds since the Unix epoch.
    pub start: u64,
    pub attributes: BTreeMap<String, String>,
    /// 2: it failed.
    pub status: i32,
}

impl Collector {
    pub async fn start() -> Self {
        let ok = |_: &_| Answer::new(200, "").with("content-type", "application/x-protobuf");
        Self(Hostile::start(ok).await)
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.0.port())
    }

    /// Everything so far, in the order of their beginnings.
    pub fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for request in self.0.received() {
            assert_eq!(request.path, "/v1/traces");
            let export = ExportTraceServiceRequest::decode(&request.bytes[..]);
            for resource in export.expect("OTLP").resource_spans {
                let about = resource.resource.unwrap_or_default();
                let service = attributes(&about.attributes).remove("service.name");
                let service = service.expect("a service has a name");
                let found = resource.scope_spans.into_iter().flat_map(|s| s.spans);
                spans.extend(found.map(|span| Span {
                    service: service.clone(),
                    attributes: attributes(&span.attributes),
                    name: span.name,
                    trace: hex::encode(span.trace_id),
                    id: hex::encode(span.span_id),
                    parent: hex::encode(span.parent_span_id),
                    state: span.trace_state,
                    kind: span.kind,
                    start: span.start_time_unix_nano,
                    status: span.status.map_or(0, |status| status.code),
                }));
            }
        }
        spans.sort_by_key(|span| span.start);
        spans
    }
}

fn attributes(pairs: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &Option<AnyValue>| match value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    };
    let pairs = pairs.iter();
    pairs.map(|kv| (kv.key.clone(), text(&kv.value))).collect()
}
