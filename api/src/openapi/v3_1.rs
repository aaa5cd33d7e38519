//! From what poem-openapi writes to OpenAPI 3.1.0.
//!
//! poem-openapi writes 3.0.0 with 3.0's `nullable` and boolean exclusive bounds, spells media types
//! with their charset, and cannot express what the permission of an operation is. The result of
//! this transformation is what is committed and served.

use serde_json::{Map, Value, json};

use super::readable::{
    describe_success, known_widths, name_headers, name_words, rename_schemas, require_nulls,
};
use crate::drydock::described::NOTHING;

use crate::auth::{BASIC_SCHEME, PERMISSION_MARK, SESSION_SCHEME, TOKEN_SCHEME};

const METHODS: &[&str] = &[
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

/// Turns a 3.0 document of poem-openapi into 3.1.0.
pub fn transform(document: &str) -> Result<Value, serde_json::Error> {
    let mut document: Value = serde_json::from_str(document)?;
    document["openapi"] = json!("3.1.0");
    rewrite(&mut document);
    rename_schemas(&mut document);
    require_nulls(&mut document);
    for operation in operations(&mut document) {
        declare_permission(operation);
    }
    Ok(document)
}

/// Every operation object of a document.
pub fn operations(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    document
        .get_mut("paths")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|paths| paths.values_mut())
        .filter_map(Value::as_object_mut)
        .flat_map(|path| path.iter_mut())
        .filter(|(method, _)| METHODS.contains(&method.as_str()))
        .filter_map(|(_, operation)| operation.as_object_mut())
}

fn rewrite(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(rewrite),
        Value::Object(object) => {
            object.values_mut().for_each(rewrite);
            trim_media_types(object);
            name_headers(object);
            describe_success(object);
            exclusive_bounds(object);
            whole_bounds(object);
            flatten_reference(object);
            name_words(object);
            known_widths(object);
            nullable(object);
            closed(object);
            if is_schema(object)
                && let Some(example) = object.remove("example")
            {
                object.insert("examples".to_owned(), json!([example]));
            }
        }
        _ => {}
    }
}

fn is_schema(object: &Map<String, Value>) -> bool {
    ["type", "$ref", "allOf", "anyOf", "oneOf"]
        .iter()
        .any(|key| object.contains_key(*key))
}

/// `application/json; charset=utf-8` → `application/json`.
fn trim_media_types(object: &mut Map<String, Value>) {
    if let Some(content) = object.get_mut("content").and_then(Value::as_object_mut) {
        let trimmed =
            std::mem::take(content)
                .into_iter()
                .map(|(kind, media)| match kind.split_once(';') {
                    Some((essence, _)) => (essence.trim().to_owned(), media),
                    None => (kind, media),
                });
        *content = trimmed.collect();
    }
}

/// `minimum: 1, exclusiveMinimum: true` → `exclusiveMinimum: 1`.
fn exclusive_bounds(object: &mut Map<String, Value>) {
    for (bound, exclusive) in [
        ("minimum", "exclusiveMinimum"),
        ("maximum", "exclusiveMaximum"),
    ] {
        match object.get(exclusive) {
            Some(Value::Bool(true)) => {
                if let Some(limit) = object.remove(bound) {
                    object.insert(exclusive.to_owned(), limit);
                }
            }
            Some(Value::Bool(false)) => {
                object.remove(exclusive);
            }
            _ => {}
        }
    }
}

/// `minimum: 1.0` → `minimum: 1`.
fn whole_bounds(object: &mut Map<String, Value>) {
    for key in ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"] {
        if let Some(bound) = object.get_mut(key)
            && let Some(number) = bound.as_f64().filter(|n| n.fract() == 0.0)
        {
            *bound = json!(number as i64);
        }
    }
}

/// `allOf: [{$ref}, {description}]` → `{$ref, description}`: 3.1 allows siblings of `$ref`.
fn flatten_reference(object: &mut Map<String, Value>) {
    const SIBLINGS: &[&str] = &["$ref", "description", "title", "deprecated", "nullable"];
    let Some(Value::Array(parts)) = object.get("allOf") else {
        return;
    };
    let references = parts.iter().filter(|p| p.get("$ref").is_some()).count();
    let simple = parts
        .iter()
        .filter_map(Value::as_object)
        .all(|part| part.keys().all(|key| SIBLINGS.contains(&key.as_str())));
    if references != 1 || !simple {
        return;
    }
    if let Some(Value::Array(parts)) = object.remove("allOf") {
        for part in parts {
            if let Value::Object(part) = part {
                object.extend(part);
            }
        }
    }
}

/// `additionalProperties: {type: nothing}` → `additionalProperties: false`.
fn closed(object: &mut Map<String, Value>) {
    if let Some(rest) = object.get_mut("additionalProperties")
        && rest["type"] == NOTHING
    {
        *rest = Value::Bool(false);
    }
}

/// `nullable: true` → a type that includes null.
fn nullable(object: &mut Map<String, Value>) {
    if object.remove("nullable") != Some(Value::Bool(true)) {
        return;
    }
    if let Some(Value::Array(values)) = object.get_mut("enum")
        && !values.contains(&Value::Null)
    {
        values.push(Value::Null);
    }
    if let Some(kind) = object.remove("type") {
        object.insert("type".to_owned(), json!([kind, "null"]));
    } else if let Some(reference) = object.remove("$ref") {
        object.insert(
            "anyOf".to_owned(),
            json!([{ "$ref": reference }, { "type": "null" }]),
        );
    }
}

/// The mark that `Authorized` leaves becomes `security`, with the permission as the role that
/// OpenAPI 3.1 allows there, and `x-permission`. That is also there for operations of other kinds:
/// `signed-in`, the name of a credential of their own such as `webhook`, or `public`.
fn declare_permission(operation: &mut Map<String, Value>) {
    let mark = operation
        .get("security")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object)
        .flat_map(|requirement| requirement.keys())
        .find_map(|name| name.strip_prefix(PERMISSION_MARK))
        .map(str::to_owned);
    let Some(permission) = mark else {
        // A credential of its own kind, or none at all.
        let own = operation
            .get("security")
            .and_then(|security| security.get(0)?.as_object()?.keys().next().cloned());
        if own.is_none() {
            operation.insert("security".to_owned(), json!([]));
        }
        let name = own.unwrap_or_else(|| "public".to_owned());
        operation.insert("x-permission".to_owned(), json!(name));
        return;
    };
    let (scopes, name) = match permission.as_str() {
        "" => (Vec::new(), "signed-in"),
        permission => (vec![permission], permission),
    };
    operation.insert(
        "security".to_owned(),
        json!([
            { SESSION_SCHEME: scopes },
            { BASIC_SCHEME: scopes },
            { TOKEN_SCHEME: scopes },
        ]),
    );
    operation.insert("x-permission".to_owned(), json!(name));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(schema: Value) -> Value {
        let document = json!({"openapi": "3.0.0", "components": {"schemas": {"T": schema}}});
        let document = transform(&document.to_string()).unwrap();
        document["components"]["schemas"]["T"].clone()
    }

    #[test]
    fn nullable_becomes_a_type() {
        assert_eq!(
            after(json!({"type": "string", "nullable": true})),
            json!({"type": ["string", "null"]})
        );
        assert_eq!(
            after(json!({"$ref": "#/components/schemas/A", "nullable": true})),
            json!({"anyOf": [{"$ref": "#/components/schemas/A"}, {"type": "null"}]})
        );
        assert_eq!(
            after(json!({"type": "string", "enum": ["a"], "nullable": true})),
            json!({"type": ["string", "null"], "enum": ["a", null]})
        );
    }

    #[test]
    fn exclusive_bounds_become_numbers() {
        assert_eq!(
            after(json!({"type": "integer", "maximum": 3.0, "exclusiveMaximum": true})),
            json!({"type": "integer", "exclusiveMaximum": 3})
        );
    }

    #[test]
    fn a_described_reference_is_one_object() {
        assert_eq!(
            after(json!({"allOf": [{"$ref": "#/components/schemas/A"}, {"description": "d"}]})),
            json!({"$ref": "#/components/schemas/A", "description": "d"})
        );
    }

    #[test]
    fn a_permission_names_every_credential() {
        let document = json!({"paths": {"/a": {
            "get": {"security": [{"permission audit:read": []}]},
            "post": {},
            "put": {"security": [{"webhook": []}]},
        }}});
        let document = transform(&document.to_string()).unwrap();
        let get = &document["paths"]["/a"]["get"];
        assert_eq!(get["x-permission"], "audit:read");
        assert_eq!(get["security"][2], json!({"token": ["audit:read"]}));
        let post = &document["paths"]["/a"]["post"];
        assert_eq!(post["security"], json!([]));
        assert_eq!(post["x-permission"], "public");
        let put = &document["paths"]["/a"]["put"];
        assert_eq!(put["security"], json!([{"webhook": []}]));
        assert_eq!(put["x-permission"], "webhook");
    }
}
