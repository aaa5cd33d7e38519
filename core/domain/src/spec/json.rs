//! Small readings of JSON objects whose absent, null and empty members mean the same.

use serde_json::{Map, Value};

pub(super) type Object = Map<String, Value>;

pub(super) fn object<'a>(value: &'a Value, key: &str) -> Option<&'a Object> {
    value.get(key)?.as_object()
}

pub(super) fn nested<'a>(object: &'a Object, key: &str) -> Option<&'a Object> {
    object.get(key)?.as_object()
}

/// A member of an object, `Null` where it is absent.
pub(super) fn member<'a>(object: &'a Object, key: &str) -> &'a Value {
    object.get(key).unwrap_or(&Value::Null)
}

pub(super) fn text<'a>(object: &'a Object, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The strings of a list; none where it is absent.
pub(super) fn strings<'a>(object: &'a Object, key: &str) -> Vec<&'a str> {
    match object.get(key).and_then(Value::as_array) {
        Some(list) => list.iter().filter_map(Value::as_str).collect(),
        None => Vec::new(),
    }
}

/// The members of a nested object; none where it is absent.
pub(super) fn members<'a>(object: &'a Object, key: &str) -> Vec<(&'a String, &'a Value)> {
    match object.get(key).and_then(Value::as_object) {
        Some(nested) => nested.iter().collect(),
        None => Vec::new(),
    }
}

/// Whether Docker treats the value as not set.
pub(super) fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(set) => !set,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

/// Removes unset members at every depth of objects, and inside lists of objects. Lists keep their
/// elements.
pub(super) fn pruned(value: &Value) -> Value {
    match value {
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(key, value)| (key.clone(), pruned(value)))
                .filter(|(_, value)| !is_unset(value))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.iter().map(pruned).collect()),
        other => other.clone(),
    }
}

pub(super) fn texts<'a>(list: impl IntoIterator<Item = &'a str>) -> Value {
    list.into_iter().map(Value::from).collect()
}
