//! What counts as breaking, case by case.

use serde_json::{Map, Value, json};

use super::compare::breaking;

/// A document with one operation, which asks for and answers a `Thing`.
fn document() -> Value {
    let thing = json!({"$ref": "#/components/schemas/Thing"});
    let content = json!({"application/json": {"schema": thing}});
    json!({
        "paths": {"/things/{id}": {"put": {
            "operationId": "putThing",
            "x-permission": "things:write",
            "parameters": [
                {"in": "path", "name": "id", "required": true, "schema": {"type": "string"}},
                {"in": "query", "name": "limit", "required": false,
                 "schema": {"type": "integer", "maximum": 9}},
            ],
            "requestBody": {"required": false, "content": content},
            "responses": {
                "200": {"headers": {"ETag": {}}, "content": content},
                "404": {"content": content},
            },
        }}},
        "components": {"schemas": {"Thing": {
            "type": "object",
            "required": ["name", "state"],
            "properties": {
                "name": {"type": "string"},
                "state": {"type": "string", "enum": ["on", "off"]},
                "size": {"type": ["number", "null"]},
                "parts": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}},
            },
        }}},
    })
}

/// What the change breaks.
fn check(change: impl FnOnce(&mut Value), expected: &[&str]) {
    let mut changed = document();
    change(&mut changed);
    let found: Vec<String> = breaking(&document(), &changed).into_iter().collect();
    assert_eq!(found, expected);
}

fn operation(document: &mut Value) -> &mut Value {
    &mut document["paths"]["/things/{id}"]["put"]
}

fn thing(document: &mut Value) -> &mut Value {
    &mut document["components"]["schemas"]["Thing"]
}

fn remove(value: &mut Value, key: &str) {
    value
        .as_object_mut()
        .and_then(|fields: &mut Map<String, Value>| fields.remove(key));
}

#[test]
fn nothing_breaks_without_a_change_or_by_an_addition() {
    check(|_| {}, &[]);
    check(
        |document| {
            document["paths"]["/more"] = json!({"get": {}});
            let fields = &mut thing(document)["properties"];
            fields["colour"] = json!({"type": "string"});
            fields["name"]["description"] = json!("What it is called");
            let operation = operation(document);
            operation["responses"]["409"] = json!({});
            let parameters = operation["parameters"].as_array_mut().unwrap();
            parameters.push(json!({"in": "query", "name": "new", "schema": {"type": "string"}}));
            parameters[1]["schema"]["maximum"] = json!(10);
        },
        &[],
    );
}

#[test]
fn what_a_path_calls_its_parameter_does_not_matter() {
    check(
        |document| {
            let item = document["paths"]["/things/{id}"].take();
            document["paths"] = json!({"/things/{name}": item});
            let parameter = &mut document["paths"]["/things/{name}"]["put"]["parameters"][0];
            parameter["name"] = json!("name");
        },
        &[],
    );
}

#[test]
fn operations_stay_and_keep_their_names_and_permissions() {
    check(
        |document| document["paths"] = json!({}),
        &["PUT /things/{}: removed"],
    );
    check(
        |document| {
            operation(document)["operationId"] = json!("setThing");
            operation(document)["x-permission"] = json!("owner");
        },
        &[
            "PUT /things/{}: is called \"setThing\", not \"putThing\"",
            "PUT /things/{}: needs the permission \"owner\", not \"things:write\"",
        ],
    );
}

#[test]
fn parameters_are_neither_removed_nor_narrowed_nor_demanded() {
    check(
        |document| operation(document)["parameters"] = json!([]),
        &["PUT /things/{}: query limit: removed"],
    );
    check(
        |document| {
            let limit = &mut operation(document)["parameters"][1];
            limit["required"] = json!(true);
            limit["schema"] = json!({"type": "integer", "maximum": 5, "minimum": 1});
        },
        &[
            "PUT /things/{}: query limit: maximum 5",
            "PUT /things/{}: query limit: minimum 1",
            "PUT /things/{}: query limit: required",
        ],
    );
    check(
        |document| {
            let parameters = operation(document)["parameters"].as_array_mut().unwrap();
            parameters.push(json!({"in": "header", "name": "X", "required": true}));
        },
        &["PUT /things/{}: header X: required"],
    );
}

#[test]
fn bodies_and_answers_stay() {
    check(
        |document| {
            let operation = operation(document);
            operation["requestBody"]["required"] = json!(true);
            let answers = &mut operation["responses"];
            answers["202"] = json!({});
            remove(&mut answers["200"]["headers"], "ETag");
            remove(&mut answers["200"]["content"], "application/json");
            remove(answers, "404");
        },
        &[
            "PUT /things/{}: 200: application/json: removed",
            "PUT /things/{}: 200: header ETag: removed",
            "PUT /things/{}: 202: a new way to succeed",
            "PUT /things/{}: body: required",
        ],
    );
}

#[test]
fn a_field_that_is_removed_is_missed_by_both_sides() {
    check(
        |document| remove(&mut thing(document)["properties"], "size"),
        &[
            "Thing in answers.size: removed",
            "Thing in requests.size: removed",
        ],
    );
}

#[test]
fn required_means_something_else_in_each_direction() {
    check(
        |document| thing(document)["required"] = json!(["name", "state", "size"]),
        &["Thing in requests.size: required"],
    );
    check(
        |document| thing(document)["required"] = json!(["name"]),
        &["Thing in answers.state: may be absent"],
    );
    check(
        |document| {
            thing(document)["properties"]["new"] = json!({"type": "string"});
            thing(document)["required"] = json!(["name", "state", "new"]);
        },
        &["Thing in requests.new: required"],
    );
}

#[test]
fn values_are_not_narrowed_for_requests_nor_widened_for_answers() {
    check(
        |document| thing(document)["properties"]["state"]["enum"] = json!(["on", "idle"]),
        &[
            "Thing in answers.state: may be \"idle\"",
            "Thing in requests.state: no longer \"off\"",
        ],
    );
    check(
        |document| thing(document)["properties"]["name"]["type"] = json!(["string", "null"]),
        &["Thing in answers.name: may be null"],
    );
    check(
        |document| thing(document)["properties"]["size"]["type"] = json!("integer"),
        &["Thing in requests.size: no longer null, number"],
    );
    check(
        |document| thing(document)["properties"]["name"] = json!({}),
        &["Thing in answers.name: may be anything"],
    );
    check(
        |document| thing(document)["properties"]["name"]["format"] = json!("uuid"),
        &["Thing in requests.name: format \"uuid\""],
    );
    check(
        |document| thing(document)["additionalProperties"] = json!(false),
        &["Thing in requests: other fields are refused"],
    );
}

#[test]
fn how_null_is_written_does_not_matter_and_alternatives_do() {
    let alternatives = |kinds: &[&str]| {
        let all: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
        json!({ "anyOf": all })
    };
    check(
        |document| thing(document)["properties"]["size"] = alternatives(&["number", "null"]),
        &[],
    );
    check(
        |document| thing(document)["properties"]["size"] = alternatives(&["number", "string"]),
        &[
            "Thing in answers.size: may be anything",
            "Thing in answers.size: other alternatives",
            "Thing in requests.size: other alternatives",
        ],
    );
}

#[test]
fn a_type_that_is_renamed_is_missed_in_generated_clients() {
    check(
        |document| {
            let text = document
                .to_string()
                .replace("schemas/Thing", "schemas/Part");
            *document = serde_json::from_str(&text).unwrap();
            let thing = thing(document).take();
            document["components"]["schemas"] = json!({"Part": thing});
        },
        &["Thing: the type is gone"],
    );
}
