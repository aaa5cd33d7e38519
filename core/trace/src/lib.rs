//! One trace from a client's request to the last call that was made because of it.
//!
//! Spans are those of `tracing`; a collector sees them where one is configured (`core/runtime`
//! exports). The context of W3C (<https://www.w3.org/TR/trace-context/>) travels in headers of
//! requests, in the rows of jobs, because Redis carries ids only and may be wiped, and in the
//! messages of live reads.
//!
//! There are two kinds of spans. Those of requests and jobs also give lines of the log their ids
//! ([`LOGGED`]). All others are for collectors only ([`TARGET`]): without one they do not exist, and
//! neither do their attributes. In both, a field with a dot in its name is an attribute of the
//! semantic conventions and is not logged.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState},
};
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The target of spans that only collectors see. Not one of ours, so that levels of the log do not
/// speak of it.
pub const TARGET: &str = "trace";
/// The target of spans whose fields are in each line of the log that is written within.
pub const LOGGED: &str = "plimsoll::context";

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Longer ones are dropped; the specification asks for so many bytes.
const LONGEST_STATE: usize = 512;

/// A trace's context as it travels. Whoever it comes from may have written anything:
/// [`follow`] ignores what is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceContext {
    pub traceparent: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracestate: Option<String>,
}

impl TraceContext {
    /// What a request came with, valid or not. Several `traceparent` are none.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let traceparent = parents.next()?.to_str().ok()?.to_owned();
        if parents.next().is_some() {
            return None;
        }
        let states = headers.get_all(TRACESTATE).iter();
        let states: Vec<&str> = states.filter_map(|state| state.to_str().ok()).collect();
        Some(Self {
            traceparent,
            tracestate: (!states.is_empty()).then(|| states.join(",")),
        })
    }

    /// Puts the context into a request to somebody who may know it.
    pub fn insert_into(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::from_str(&self.traceparent) {
            headers.insert(TRACEPARENT, value);
        }
        if let Some(Ok(value)) = self.tracestate.as_deref().map(HeaderValue::from_str) {
            headers.insert(TRACESTATE, value);
        }
    }

    fn of(span: &SpanContext) -> Option<Self> {
        if !span.is_valid() {
            return None;
        }
        let flags = span.trace_flags() & TraceFlags::SAMPLED;
        let state = span.trace_state().header();
        Some(Self {
            traceparent: format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()),
            tracestate: (!state.is_empty()).then_some(state),
        })
    }

    /// `None` unless it is what the specification says.
    fn parse(&self) -> Option<SpanContext> {
        let mut parts = self.traceparent.split('-');
        let version = hex(parts.next()?, 2)?;
        let trace = hex(parts.next()?, 32)?;
        let parent = hex(parts.next()?, 16)?;
        let flags = u8::from_str_radix(hex(parts.next()?, 2)?, 16).ok()?;
        // Later versions may have more.
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let state = self.tracestate.as_deref().unwrap_or_default();
        let state = match state.len() <= LONGEST_STATE {
            true => state.parse().unwrap_or_default(),
            false => TraceState::default(),
        };
        let context = SpanContext::new(
            TraceId::from_hex(trace).ok()?,
            SpanId::from_hex(parent).ok()?,
            TraceFlags::new(flags) & TraceFlags::SAMPLED,
            true,
            state,
        );
        context.is_valid().then_some(context)
    }
}

/// So many lower-case digits.
fn hex(text: &str, digits: usize) -> Option<&str> {
    let is_digit = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(is_digit)).then_some(text)
}

/// The context of the span that we are in. `None` where nothing is traced.
pub fn current() -> Option<TraceContext> {
    let context = Span::current().context();
    TraceContext::of(context.span().span_context())
}

/// Makes `span`, which nobody has entered yet, go on with the trace that `parent` is of, and gives
/// lines of the log that trace's id. What is not valid begins a new trace.
pub fn follow(span: &Span, parent: Option<&TraceContext>) {
    if let Some(parent) = parent.and_then(TraceContext::parse) {
        // Without a collector there is nobody to tell.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    let context = span.context();
    let own = context.span().span_context().clone();
    if own.is_valid() {
        span.record("trace_id", own.trace_id().to_string());
    }
}

/// The span of a call to another program over HTTP, by the semantic conventions for clients. None
/// outside of a trace: what is done all the time is not worth one of its own. `path` has no ids,
/// no query and no secrets; where it would have, leave it out.
pub fn http_client(
    method: &http::Method,
    path: impl FnOnce() -> Option<String>,
    server: &str,
) -> Span {
    if Span::current().is_none() {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: TARGET,
        "http",
        otel.name = tracing::field::Empty,
        otel.kind = "client",
        otel.status_code = tracing::field::Empty,
        http.request.method = %method,
        http.response.status_code = tracing::field::Empty,
        url.template = tracing::field::Empty,
        server.address = server,
        error.type = tracing::field::Empty,
    );
    if span.is_disabled() {
        return span;
    }
    match path() {
        Some(path) => {
            span.record("otel.name", format!("{method} {path}"));
            span.record("url.template", path);
        }
        None => {
            span.record("otel.name", method.as_str());
        }
    }
    span
}

/// What became of an [`http_client`] call.
pub fn answered(span: &Span, status: http::StatusCode) {
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_client_error() || status.is_server_error() {
        failed(span, status.as_str());
    }
}

/// `kind` is one of few words.
pub fn failed(span: &Span, kind: &str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}

/// The span of making work durable for somebody else to do. What is written within carries it.
pub fn producing(name: fmt::Arguments<'_>) -> Span {
    tracing::info_span!(
        target: TARGET,
        "produce",
        otel.name = %name,
        otel.kind = "producer",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(traceparent: &str) -> TraceContext {
        TraceContext {
            traceparent: traceparent.to_owned(),
            tracestate: None,
        }
    }

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn only_what_the_specification_allows_is_followed() {
        let parsed = context(GOOD).parse().unwrap();
        assert!(parsed.is_sampled() && parsed.is_remote());
        assert_eq!(TraceContext::of(&parsed), Some(context(GOOD)));
        for later in [
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff",
        ] {
            assert_eq!(
                TraceContext::of(&context(later).parse().unwrap()),
                Some(context(GOOD))
            );
        }
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é1",
        ] {
            assert!(context(bad).parse().is_none(), "{bad}");
        }
    }

    #[test]
    fn a_state_that_is_wrong_or_long_is_dropped_and_the_trace_goes_on() {
        let state = |state: &str| {
            let context = TraceContext {
                tracestate: Some(state.to_owned()),
                ..context(GOOD)
            };
            context.parse().unwrap().trace_state().header()
        };
        assert_eq!(state("a=1,b=2"), "a=1,b=2");
        assert_eq!(state("no list"), "");
        assert_eq!(state(&format!("a={}", "x".repeat(600))), "");
    }

    #[test]
    fn headers_that_contradict_each_other_are_none() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceContext::of_headers(&headers), None);
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        headers.append(TRACESTATE, HeaderValue::from_static("a=1"));
        headers.append(TRACESTATE, HeaderValue::from_static("b=2"));
        let found = TraceContext::of_headers(&headers).unwrap();
        assert_eq!(found.tracestate.as_deref(), Some("a=1,b=2"));
        let mut sent = HeaderMap::new();
        found.insert_into(&mut sent);
        assert_eq!(TraceContext::of_headers(&sent), Some(found));
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(TraceContext::of_headers(&headers), None);
    }

    #[test]
    fn without_a_collector_there_is_no_trace() {
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            let span = tracing::error_span!("request", trace_id = tracing::field::Empty);
            follow(&span, Some(&context(GOOD)));
            let _entered = span.enter();
            assert_eq!(current(), None);
        });
    }

    #[test]
    fn a_span_goes_on_with_the_trace_that_it_follows() {
        use opentelemetry::trace::TracerProvider;
        use tracing_subscriber::layer::SubscriberExt;
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::error_span!("job", trace_id = tracing::field::Empty);
            follow(&span, Some(&context(GOOD)));
            let _entered = span.enter();
            let own = current().unwrap();
            assert_eq!(own.traceparent[..35], GOOD[..35]);
            assert_ne!(own.traceparent, GOOD);
            let call = http_client(&http::Method::GET, || Some("/info".to_owned()), "here");
            let _called = call.enter();
            assert_eq!(current().unwrap().traceparent[..35], GOOD[..35]);
        });
    }
}
