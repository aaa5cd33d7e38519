//! What makes the document read well, above all in clients that are generated from it: names of
//! types, of words and of headers, and fields that have two states and not three.

use serde_json::{Map, Value, json};

use super::v3_1::operations;

/// `PREFERENCE-APPLIED` → `Preference-Applied`.
pub fn name_headers(object: &mut Map<String, Value>) {
    let Some(Value::Object(headers)) = object.get_mut("headers") else {
        return;
    };
    let named = std::mem::take(headers).into_iter().map(|(name, header)| {
        let shouted = !name.contains(|c: char| c.is_ascii_lowercase());
        let word = |word: &str| match word.split_at_checked(1) {
            Some((first, rest)) if shouted => first.to_owned() + &rest.to_ascii_lowercase(),
            _ => word.to_owned(),
        };
        let words: Vec<String> = name.split('-').map(word).collect();
        (words.join("-"), header)
    });
    *headers = named.collect();
}

/// An answer needs a description, and poem-openapi leaves that of plain JSON empty.
pub fn describe_success(object: &mut Map<String, Value>) {
    if let Some(Value::Object(responses)) = object.get_mut("responses") {
        for response in responses.values_mut() {
            if response["description"] == "" {
                response["description"] = json!("Success");
            }
        }
    }
}

/// Where a word of an enum is no name, as `-age` and `containers:read` are none, generators find
/// the names in `x-enum-varnames`: `AgeDescending`, `ContainersRead`.
pub fn name_words(object: &mut Map<String, Value>) {
    let Some(Value::Array(words)) = object.get("enum") else {
        return;
    };
    let Some(words) = words.iter().map(Value::as_str).collect::<Option<Vec<_>>>() else {
        return;
    };
    let is_name = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic())
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    };
    if words.iter().all(is_name) {
        return;
    }
    let name = |word: &&str| {
        let parts = word.split(|c: char| !c.is_ascii_alphanumeric());
        let capital = |part: &str| match part.split_at_checked(1) {
            Some((first, rest)) => first.to_ascii_uppercase() + rest,
            None => String::new(),
        };
        match *word {
            "" => "Any".to_owned(),
            "*" => "All".to_owned(),
            word => {
                let order = if word.starts_with('-') {
                    "Descending"
                } else {
                    ""
                };
                parts.map(capital).collect::<String>() + order
            }
        }
    };
    let names: Vec<String> = words.iter().map(name).collect();
    object.insert("x-enum-varnames".to_owned(), json!(names));
}

/// Generators know two widths of whole numbers, and read any other as the smaller one: a container's
/// memory does not fit into that. `uint64` → `int64` that is not below 0.
pub fn known_widths(object: &mut Map<String, Value>) {
    let known = match object.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16") => "int32",
        Some("uint32" | "uint64") => "int64",
        _ => return,
    };
    object.insert("format".to_owned(), json!(known));
    object.entry("minimum").or_insert_with(|| json!(0));
}

/// Component names may contain letters, digits, `.`, `-` and `_` only, and generators make types of
/// them: `List<Entry>` → `EntryList`.
pub fn rename_schemas(document: &mut Value) {
    if let Some(schemas) = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
    {
        *schemas = std::mem::take(schemas)
            .into_iter()
            .map(|(name, mut schema)| {
                let name = clean(&name);
                if schema.get("title").is_some() {
                    schema["title"] = json!(name);
                }
                (name, schema)
            })
            .collect();
    }
    rename_references(document);
}

/// A field that an answer shows as `null` is always there: it is required, so that clients do not
/// offer a third state. What requests are made of is left alone.
pub fn require_nulls(document: &mut Value) {
    let mut asked = Vec::new();
    for operation in operations(document) {
        if let Some(body) = operation.get("requestBody") {
            collect_references(body, &mut asked);
        }
    }
    let Some(schemas) = document
        .pointer_mut("/components/schemas")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    let mut next = 0;
    while let Some(name) = asked.get(next).cloned() {
        if let Some(schema) = schemas.get(&name) {
            collect_references(schema, &mut asked);
        }
        next += 1;
    }
    for (name, schema) in schemas.iter_mut() {
        let Some(Value::Object(properties)) = schema.get("properties") else {
            continue;
        };
        let is_null = |kind: &Value| kind == "null" || kind["type"] == "null";
        let nulls: Vec<Value> = properties
            .iter()
            .filter(|(_, field)| {
                ["type", "anyOf"].iter().any(|key| {
                    let kinds = field[key].as_array();
                    kinds.is_some_and(|kinds| kinds.iter().any(is_null))
                })
            })
            .map(|(name, _)| json!(name))
            .collect();
        if nulls.is_empty() || asked.contains(name) {
            continue;
        }
        match schema.get_mut("required") {
            Some(Value::Array(required)) => required.extend(nulls),
            _ => schema["required"] = Value::Array(nulls),
        }
    }
}

/// The names of the schemas that `value` refers to, each once.
fn collect_references(value: &Value, names: &mut Vec<String>) {
    match value {
        Value::Array(items) => items
            .iter()
            .for_each(|item| collect_references(item, names)),
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref")
                && let Some(name) = reference.strip_prefix("#/components/schemas/")
                && !names.iter().any(|known| known == name)
            {
                names.push(name.to_owned());
            }
            for field in object.values() {
                collect_references(field, names);
            }
        }
        _ => {}
    }
}

fn rename_references(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(rename_references),
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get_mut("$ref")
                && let Some(name) = reference.strip_prefix("#/components/schemas/")
            {
                *reference = format!("#/components/schemas/{}", clean(name));
            }
            object.values_mut().for_each(rename_references);
        }
        _ => {}
    }
}

fn clean(name: &str) -> String {
    let inner = name
        .strip_prefix("List<")
        .or_else(|| name.strip_prefix("List_"));
    let name = match inner {
        Some(inner) => format!("{}List", inner.trim_end_matches(['>', '_'])),
        None => name.to_owned(),
    };
    let name: String = name
        .chars()
        .map(|c| match c {
            c if c.is_ascii_alphanumeric() || ".-_".contains(c) => c,
            _ => '_',
        })
        .collect();
    name.trim_end_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openapi::v3_1::transform;

    fn named(mut schema: Value) -> Value {
        name_words(schema.as_object_mut().unwrap());
        schema
    }

    #[test]
    fn words_that_are_no_names_get_some() {
        assert_eq!(
            named(json!({"type": "string", "enum": ["age", "-age", "", "*", "tokens:write"]})),
            json!({
                "type": "string",
                "enum": ["age", "-age", "", "*", "tokens:write"],
                "x-enum-varnames": ["Age", "AgeDescending", "Any", "All", "TokensWrite"],
            })
        );
        let plain = json!({"type": "string", "enum": ["in-progress"]});
        assert_eq!(named(plain.clone()), plain);
    }

    #[test]
    fn numbers_have_widths_that_generators_know() {
        let document = json!({"components": {"schemas": {"Usage": {"properties": {
            "memory": {"type": "integer", "format": "uint64", "nullable": true},
            "port": {"type": "integer", "format": "uint16", "minimum": 1.0},
            "since": {"type": "integer", "format": "int64"},
        }}}}});
        let document = transform(&document.to_string()).unwrap();
        assert_eq!(
            document["components"]["schemas"]["Usage"]["properties"],
            json!({
                "memory": {"type": ["integer", "null"], "format": "int64", "minimum": 0},
                "port": {"type": "integer", "format": "int32", "minimum": 1},
                "since": {"type": "integer", "format": "int64"},
            })
        );
    }

    #[test]
    fn generic_names_become_valid_ones() {
        let document = json!({
            "components": {"schemas": {"List<Entry>": {"type": "object"}}},
            "paths": {"/a": {"get": {"schema": {"$ref": "#/components/schemas/List<Entry>"}}}},
        });
        let document = transform(&document.to_string()).unwrap();
        assert!(document["components"]["schemas"]["EntryList"].is_object());
        assert_eq!(
            document["paths"]["/a"]["get"]["schema"]["$ref"],
            "#/components/schemas/EntryList"
        );
    }

    #[test]
    fn what_is_shown_as_null_is_there_and_what_is_asked_may_be_absent() {
        let nullable = json!({"type": "object", "properties": {
            "a": {"type": "string", "nullable": true}, "b": {"type": "string"},
        }});
        let body = json!({"content": {"application/json": {"schema": {
            "$ref": "#/components/schemas/Asked",
        }}}});
        let document = json!({
            "components": {"schemas": {"Shown": nullable, "Asked": nullable}},
            "paths": {"/a": {"post": {"requestBody": body}}},
        });
        let document = transform(&document.to_string()).unwrap();
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Shown"]["required"], json!(["a"]));
        assert_eq!(schemas["Asked"].get("required"), None);
    }

    #[test]
    fn headers_and_answers_are_written_for_people() {
        let response =
            json!({"description": "", "headers": {"PREFERENCE-APPLIED": {}, "ETag": {}}});
        let document = json!({"paths": {"/a": {"get": {"responses": {"200": response}}}}});
        let document = transform(&document.to_string()).unwrap();
        assert_eq!(
            document["paths"]["/a"]["get"]["responses"]["200"],
            json!({"description": "Success", "headers": {"Preference-Applied": {}, "ETag": {}}})
        );
    }
}
