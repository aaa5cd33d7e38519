//! Whether an answer has the fields that the document and the contract's examples name.

use serde_json::Value;

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
        (Value::String(text), Value::String(example)) if is_instant(example) => {
            assert!(
                is_instant(text) && text.len() == example.len(),
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

fn is_instant(text: &str) -> bool {
    chrono::DateTime::parse_from_rfc3339(text).is_ok()
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
