//! A container as names and values: `updateKind.localValue` becomes `update_kind_local_value`, as
//! Drydock's command and mqtt triggers have them.

use serde_json::{Map, Value};

/// Values; what is beyond them is left out.
const MAX_VALUES: usize = 400;
const MAX_DEPTH: usize = 6;

/// Only texts, numbers and booleans have a place.
pub fn flatten(value: &Value) -> Map<String, Value> {
    let mut flat = Map::new();
    add(&mut flat, "", value, MAX_DEPTH);
    flat
}

fn add(flat: &mut Map<String, Value>, name: &str, value: &Value, depth: usize) {
    if flat.len() >= MAX_VALUES || depth == 0 {
        return;
    }
    let below = |part: &str| match name.is_empty() {
        true => snake(part),
        false => format!("{name}_{}", snake(part)),
    };
    match value {
        Value::Null => {}
        Value::Object(fields) => {
            for (part, value) in fields {
                add(flat, &below(part), value, depth - 1);
            }
        }
        Value::Array(items) => {
            for (place, value) in items.iter().enumerate() {
                add(flat, &below(&place.to_string()), value, depth - 1);
            }
        }
        scalar => {
            flat.entry(name).or_insert_with(|| scalar.clone());
        }
    }
}

/// Lower case with `_` before what was upper case and for what is neither letter nor digit.
fn snake(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            if !snake.is_empty() && !snake.ends_with('_') {
                snake.push('_');
            }
            snake.push(c.to_ascii_lowercase());
        } else if c.is_ascii_alphanumeric() {
            snake.push(c);
        } else {
            snake.push('_');
        }
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_joined_and_values_kept() {
        let container = json!({
            "name": "web", "updateAvailable": true, "agent": null,
            "updateKind": {"localValue": "1"}, "labels": {"a.B=c": "d"},
            "details": {"ports": ["80/tcp"]},
        });
        assert_eq!(
            Value::Object(flatten(&container)),
            json!({
                "name": "web", "update_available": true, "update_kind_local_value": "1",
                "labels_a_b_c": "d", "details_ports_0": "80/tcp",
            })
        );
    }
}
