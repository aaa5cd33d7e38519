//! How lines of the log look. Each bears the fields of the request or job that it was written in.
//! Fields with a dot in their name are attributes for collectors of traces, and left out.

use std::fmt::{self, Debug};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span::Record,
};
use tracing_subscriber::{
    field::{RecordFields, VisitOutput},
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{DefaultVisitor, Writer},
        time::{FormatTime, SystemTime},
    },
    registry::LookupSpan,
};

fn is_logged(field: &Field) -> bool {
    !field.name().contains('.')
}

/// Fields for people.
pub(crate) struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Logged(DefaultVisitor::new(writer, true));
        fields.record(&mut visitor);
        visitor.0.finish()
    }

    fn add_fields(&self, known: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut added = String::new();
        self.format_fields(Writer::new(&mut added), fields)?;
        if !added.is_empty() && !known.fields.is_empty() {
            known.fields.push(' ');
        }
        known.fields.push_str(&added);
        Ok(())
    }
}

/// Passes on what is logged.
struct Logged<V>(V);

impl<V: Visit> Visit for Logged<V> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if is_logged(field) {
            self.0.record_str(field, value);
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        if is_logged(field) {
            self.0.record_error(field, value);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if is_logged(field) {
            self.0.record_debug(field, value);
        }
    }
}

/// One JSON object a line. What the event says comes before what the spans around it say, and an
/// inner span before an outer one.
pub(crate) struct JsonLines;

/// Fields as an object.
pub(crate) struct JsonFields;

impl<'w> FormatFields<'w> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut object = Object::default();
        fields.record(&mut object);
        object.write(&mut writer)
    }

    fn add_fields(&self, known: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let mut object = Object(serde_json::from_str(&known.fields).unwrap_or_default());
        fields.record(&mut object);
        known.fields.clear();
        object.write(&mut known.as_writer())
    }
}

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Object::default();
        let spans = context.event_scope().into_iter();
        for span in spans.flat_map(|scope| scope.from_root()) {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<N>>();
            let fields = fields.and_then(|fields| serde_json::from_str::<Map<_, _>>(fields).ok());
            line.0.extend(fields.unwrap_or_default());
        }
        event.record(&mut line);
        let metadata = event.metadata();
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        for (name, value) in [
            ("timestamp", time.as_str()),
            ("level", metadata.level().as_str()),
            ("target", metadata.target()),
        ] {
            line.0.insert(name.to_owned(), value.into());
        }
        line.write(&mut writer)?;
        writeln!(writer)
    }
}

#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        if is_logged(field) {
            let name = field.name().strip_prefix("r#").unwrap_or(field.name());
            self.0.insert(name.to_owned(), value.into());
        }
    }

    fn write(&self, writer: &mut Writer<'_>) -> fmt::Result {
        let text = serde_json::to_string(&self.0).map_err(|_| fmt::Error)?;
        writer.write_str(&text)
    }
}

impl Visit for Object {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::Empty;
    use tracing_subscriber::{fmt::MakeWriter, layer::SubscriberExt};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Buffer {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    impl Buffer {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn say() {
        let span = tracing::error_span!(
            "job",
            otel.name = "job x",
            job = 7,
            container = Empty,
            url.path = Empty
        );
        span.record("container", "web");
        span.record("url.path", "/secret");
        span.in_scope(|| tracing::info!(job = 8, ready = true, "said \"so\""));
    }

    #[test]
    fn a_line_for_machines_has_the_fields_of_its_job_at_the_top() {
        let buffer = Buffer::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(buffer.clone())
            .event_format(JsonLines)
            .fmt_fields(JsonFields);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let mut line: Map<String, Value> = serde_json::from_str(&buffer.text()).unwrap();
        assert!(line.remove("timestamp").is_some());
        let expected = serde_json::json!({
            "level": "INFO", "target": module_path!(), "message": "said \"so\"",
            "job": 8, "container": "web", "ready": true,
        });
        assert_eq!(Value::Object(line), expected);
    }

    #[test]
    fn a_line_for_people_has_them_before_the_message() {
        let buffer = Buffer::default();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(buffer.clone())
            .with_ansi(false)
            .fmt_fields(TextFields);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), say);
        let text = buffer.text();
        assert!(text.contains("job{job=7 container=\"web\"}: "), "{text}");
        assert!(text.ends_with("said \"so\" job=8 ready=true\n"), "{text}");
    }
}
