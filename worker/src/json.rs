//! JSON that comes from outside.

use std::collections::BTreeMap;

use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

/// Reads JSON of an engine or a registry. NUL, which a label can hold and Postgres cannot store,
/// becomes the replacement character: one odd image must not keep its whole engine from being
/// written.
///
/// # Errors
/// What is no JSON, or not of the type.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> serde_json::Result<T> {
    const NUL: &[u8] = b"\\u0000";
    if !bytes.windows(NUL.len()).any(|window| window == NUL) {
        return serde_json::from_slice(bytes);
    }
    let value: Value = serde_json::from_slice(bytes)?;
    serde_json::from_value(without_nul(value)).map_err(serde_json::Error::custom)
}

/// The labels of an inspected container or image.
pub(crate) fn labels(inspect: &Value) -> BTreeMap<String, String> {
    serde_json::from_value(inspect["Config"]["Labels"].clone()).unwrap_or_default()
}

/// Only as deep as the parser lets it be.
fn without_nul(value: Value) -> Value {
    let clean = |text: String| match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}"),
        false => text,
    };
    match value {
        Value::String(text) => Value::String(clean(text)),
        Value::Array(items) => items.into_iter().map(without_nul).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (clean(name), without_nul(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nul_is_replaced_wherever_it_is() {
        let text = json!({"a\0": ["\0", {"b": "c\0d"}, 1, null]}).to_string();
        let read: Value = read(text.as_bytes()).unwrap();
        let expected = json!({"a\u{fffd}": ["\u{fffd}", {"b": "c\u{fffd}d"}, 1, null]});
        assert_eq!(read, expected);
    }
}
