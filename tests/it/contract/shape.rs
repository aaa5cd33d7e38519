//! Whether an answer has the fields that the document and the contract's examples name.

use serde_json::Value;

use super::{ask, document, operations};
use crate::world::World;

/// Every field of `example` is in `actual`, with the same type of value. A list's first item is the
/// example of each; an empty list stands for any.
pub(super) fn alike(at: &str, actual: &Value, example: &Value) {
    match (actual, example) {
        (Value::Object(actual), Value::Object(example)) => {
            for (key, example) in example {
                let found = actual
                    .get(key)
                    .unwrap_or_else(|| panic!("{at} lacks {key}"));
                alike(&format!("{at}.{key}"), found, example);
            }
        }
        (Value::Array(items), Value::Array(example)) => {
            assert!(!items.is_empty() || example.is_empty(), "{at} is empty");
            for (item, example) in items.iter().flat_map(|i| example.first().map(|e| (i, e))) {
                alike(&format!("{at}[]"), item, example);
            }
        }
        (Value::String(text), Value::String(example)) if example.ends_with('Z') => {
            let instant = chrono::DateTime::parse_from_rfc3339(text);
            assert!(
                instant.is_ok() && text.len() == example.len(),
                "{at}: {text}"
            );
        }
        _ => assert_eq!(
            std::mem::discriminant(actual),
            std::mem::discriminant(example),
            "{at}: {actual}"
        ),
    }
}

/// Checks `value` against a schema of the document: what is not documented is wrong, too.
pub(super) fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let found = document.pointer(reference.trim_start_matches('#'));
        return conforms(document, found.expect(reference), value, at);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        conforms(document, part, value, at);
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    let is = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = types.contains(&is) || (is == "integer" && types.contains(&"number"));
    assert!(fits, "{at} is {is}, not {types:?}: {value}");
    if let Some(values) = schema["enum"].as_array() {
        assert!(
            values.contains(value),
            "{at}: {value} is none of {values:?}"
        );
    }
    for item in value.as_array().into_iter().flatten() {
        conforms(document, &schema["items"], item, &format!("{at}[]"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(name.as_str().unwrap()).is_some(),
            "{at} lacks {name}"
        );
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        match (
            schema["properties"].get(name),
            schema.get("additionalProperties"),
        ) {
            (Some(schema), _) | (None, Some(schema @ Value::Object(_))) => {
                conforms(document, schema, field, &at);
            }
            (None, _) => assert!(schema.get("properties").is_none(), "{at} is not documented"),
        }
    }
}

/// Asks, and checks the answer against the document and the contract's example.
pub(super) async fn shown(
    world: &World,
    operation: &str,
    path: &str,
    body: &Value,
    example: Value,
) -> Value {
    let document = document();
    let (method, operation) = operations(&document)
        .into_iter()
        .find(|(_, _, found)| found["operationId"] == operation)
        .map(|(method, _, found)| (method, found))
        .unwrap();
    let got = ask(world, &method, path, body).await;
    assert!(
        (200..300).contains(&got.status),
        "{path}: {} {}",
        got.status,
        got.text
    );
    let value = got.json();
    let media = &operation["responses"][got.status.to_string()]["content"];
    let media = media.as_object().and_then(|media| media.values().next());
    let schema =
        &media.unwrap_or_else(|| panic!("{path}: {} is not documented", got.status))["schema"];
    conforms(&document, schema, &value, path);
    alike(path, &value, &example);
    value
}
