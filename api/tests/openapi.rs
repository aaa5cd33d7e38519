//! The OpenAPI documents: fresh, complete, consistent.
use std::collections::BTreeSet;

use plimsoll_api::{docksmith, drydock};
use serde_json::Value;

fn document() -> Value {
    serde_json::from_str(&drydock::document()).unwrap()
}

/// Of each dialect, with its file's name.
fn documents() -> [(&'static str, Value); 2] {
    let docksmith = serde_json::from_str(&docksmith::document()).unwrap();
    [("drydock.json", document()), ("docksmith.json", docksmith)]
}

/// (method, path, operation) of everything in the document.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, item)| {
            let item = item.as_object().unwrap();
            item.iter()
                .map(move |(method, operation)| (method.clone(), path.clone(), operation.clone()))
        })
        .collect()
}

#[test]
fn the_committed_documents_are_fresh() {
    let documents = [
        ("drydock.json", drydock::document()),
        ("docksmith.json", docksmith::document()),
    ];
    for (name, fresh) in documents {
        let path = format!("{}/../openapi/{name}", env!("CARGO_MANIFEST_DIR"));
        let committed = std::fs::read_to_string(&path).unwrap();
        if committed != fresh {
            std::fs::write(&path, fresh).unwrap();
            panic!("openapi/{name} was stale and has been written again: commit it");
        }
    }
}

#[test]
fn they_are_openapi_3_1_without_anything_of_3_0() {
    for (name, document) in documents() {
        assert_eq!(document["openapi"], "3.1.0", "{name}");
        let text = document.to_string();
        for old in ["\"nullable\"", "; charset=", "\"exclusiveMinimum\":true"] {
            assert!(!text.contains(old), "{name}: {old}");
        }
    }
}

#[test]
fn every_operation_says_what_it_is_and_who_may_call_it() {
    for (_, document) in documents() {
        check_operations(&document);
    }
}

fn check_operations(document: &Value) {
    let mut ids = BTreeSet::new();
    for (method, path, operation) in operations(document) {
        let name = format!("{method} {path}");
        let id = operation["operationId"].as_str().expect(&name);
        assert!(ids.insert(id.to_owned()), "{name}: {id} is taken");
        assert!(!operation["summary"].as_str().expect(&name).is_empty());
        assert_eq!(
            operation["tags"].as_array().expect(&name).len(),
            1,
            "{name}"
        );
        let responses = operation["responses"].as_object().unwrap();
        assert!(
            responses.keys().any(|s| s.starts_with(['1', '2', '3'])),
            "{name}"
        );
        for status in ["500", "503"] {
            let documented = responses.contains_key(status) || id == "getHealth";
            assert!(documented, "{name} does not document {status}");
        }
        let permission = operation["x-permission"].as_str().expect(&name);
        let protected = permission != "public";
        assert_eq!(
            protected,
            !operation["security"].as_array().expect(&name).is_empty(),
            "{name}"
        );
        if protected {
            for status in ["401", "403"] {
                assert!(responses.contains_key(status), "{name}: {status}");
            }
        }
    }
}

/// Open to anyone.
const PUBLIC: &[&str] = &[
    "beginOidcLogin",
    "finishOidcLogin",
    "getApiAuthStatus",
    "getAuthStatus",
    "getHealth",
    "getOpenApiDocument",
    "listAuthMethods",
    "listAuthStrategies",
    "login",
];

#[test]
fn only_known_operations_are_open() {
    for (name, document) in documents() {
        let open: BTreeSet<String> = operations(&document)
            .into_iter()
            .filter(|(_, _, operation)| operation["x-permission"] == "public")
            .map(|(_, _, operation)| operation["operationId"].as_str().unwrap().to_owned())
            .collect();
        let expected: &[&str] = match name {
            "drydock.json" => PUBLIC,
            _ => &["getHealth", "getOpenApiDocument"],
        };
        let expected: BTreeSet<String> = expected.iter().map(|s| (*s).into()).collect();
        assert_eq!(open, expected, "{name}");
    }
}

#[test]
fn a_position_in_a_path_has_one_name() {
    for (_, document) in documents() {
        let mut shapes = std::collections::BTreeMap::new();
        for path in document["paths"].as_object().unwrap().keys() {
            let shape: Vec<&str> = path
                .split('/')
                .map(|part| if part.starts_with('{') { "{}" } else { part })
                .collect();
            let shape = shape.join("/");
            if let Some(other) = shapes.insert(shape, path) {
                panic!("{other} and {path} are the same path");
            }
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(object) => {
                if let Some(Value::String(reference)) = object.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    assert!(document.pointer(pointer).is_some(), "{reference}");
                }
                object.values().for_each(|value| check(value, document));
            }
            Value::Array(items) => items.iter().for_each(|value| check(value, document)),
            _ => {}
        }
    }
    for (_, document) in documents() {
        check(&document, &document);
    }
}
