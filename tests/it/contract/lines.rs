//! Every `curl` line of both contract documents, run as it stands: `lines/*.json` are the data, in
//! the order of the documents as far as one call needs another.
//!
//! A case is `curl` (with `{name}` for what an earlier answer, or the test, knows), the `status`,
//! `headers` (the beginning of each), an `example` whose fields and types must be there, `equals`
//! (by JSON pointer), what to `save`, and `errors`: lines that are refused, with the contract's
//! words. `as` is `token` (the owner's, the default), `session` or `nobody`. Answers must also fit
//! the OpenAPI document, field by field.

use std::collections::BTreeMap;

use reqwest::RequestBuilder;
use serde::Deserialize;
use serde_json::Value;

use super::{
    curl::Curl,
    document, operations,
    shape::{alike, conforms},
};
use crate::replica::{Answer, answer};
use crate::world::{SOON, World};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    /// The heading that the line stands under.
    #[allow(dead_code)]
    about: String,
    curl: String,
    #[serde(default, rename = "as")]
    caller: Caller,
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    example: Value,
    #[serde(default)]
    equals: BTreeMap<String, Value>,
    /// Of an event stream: names that come, in this order, before it is left.
    #[serde(default)]
    events: Vec<String>,
    #[serde(default)]
    save: BTreeMap<String, String>,
    #[serde(default)]
    errors: Vec<Refusal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refusal {
    curl: String,
    #[serde(default, rename = "as")]
    caller: Caller,
    status: u16,
    error: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Caller {
    #[default]
    Token,
    Session,
    Nobody,
}

/// What `{name}` stands for.
pub(super) type Known = BTreeMap<String, String>;

fn filled(text: &str, known: &Known) -> String {
    known.iter().fold(text.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{name}}}"), value)
    })
}

fn filled_value(value: &Value, known: &Known) -> Value {
    serde_json::from_str(&filled(&value.to_string(), known)).expect("names stand for plain text")
}

fn request(world: &World, curl: &Curl, caller: Caller, known: &Known) -> RequestBuilder {
    let request = match caller {
        Caller::Token => world.authorised(curl.method.clone(), &curl.path),
        Caller::Nobody => world.request(curl.method.clone(), &curl.path),
        Caller::Session => world
            .request(curl.method.clone(), &curl.path)
            .header("cookie", &known["session"])
            .header("origin", world.api.url("")),
    };
    let request = curl.headers.iter().fold(request, |request, (name, value)| {
        request.header(name, value)
    });
    match &curl.body {
        Some(body) => request.body(body.clone()),
        None => request,
    }
}

/// Runs `lines` in their order. The first that is answered otherwise ends the test.
pub(super) async fn run(world: &World, lines: &str, known: &mut Known) {
    let document = document();
    let lines: Vec<Line> = serde_json::from_str(lines).expect("the data can be read");
    for line in &lines {
        let text = filled(&line.curl, known);
        let curl = Curl::parse(&text);
        let asked = request(world, &curl, line.caller, known);
        if !line.events.is_empty() {
            follow(asked, line, &text).await;
            continue;
        }
        let got = answer(asked).await;
        assert_eq!(got.status, line.status, "{text}: {}", got.text);
        for (name, begins) in &line.headers {
            let value = got.header(name);
            assert!(value.starts_with(begins), "{text}: {name}: {value}");
        }
        if got.header("content-type").starts_with("application/json") {
            let value = got.json();
            documented(&document, &curl, &got, &value);
            if !line.example.is_null() {
                alike(&text, &value, &line.example);
            }
            for (pointer, expected) in &line.equals {
                let pointer = filled(pointer, known);
                let found = value.pointer(&pointer).unwrap_or(&Value::Null);
                assert_eq!(*found, filled_value(expected, known), "{text}: {pointer}");
            }
            for (name, pointer) in &line.save {
                let found = value.pointer(pointer).and_then(Value::as_str);
                let found = found.unwrap_or_else(|| panic!("{text}: {pointer} in {value}"));
                known.insert(name.clone(), found.to_owned());
            }
        }
        for refusal in &line.errors {
            let text = filled(&refusal.curl, known);
            let curl = Curl::parse(&text);
            let got = answer(request(world, &curl, refusal.caller, known)).await;
            let said = got.json()["error"].as_str().unwrap_or_default().to_owned();
            assert_eq!(
                (got.status, said),
                (refusal.status, filled(&refusal.error, known)),
                "{text}"
            );
            documented(&document, &curl, &got, &got.json());
        }
    }
}

/// Reads an event stream until it has brought what the line names.
async fn follow(asked: RequestBuilder, line: &Line, text: &str) {
    let mut stream = asked.send().await.expect("the replica answers");
    assert_eq!(stream.status(), line.status, "{text}");
    for (name, begins) in &line.headers {
        let value = stream.headers().get(name).expect(name).to_str().unwrap();
        assert!(value.starts_with(begins), "{text}: {name}: {value}");
    }
    let mut seen = String::new();
    let found = |seen: &str| {
        let mut rest = seen;
        line.events.iter().all(|event| {
            let found = rest.split_once(&format!("event: {event}\n"));
            rest = found.map_or("", |(_, rest)| rest);
            found.is_some()
        })
    };
    let read = async {
        while !found(&seen) {
            let piece = stream.chunk().await.expect("the stream goes on");
            seen.push_str(&String::from_utf8_lossy(
                &piece.expect("the stream goes on"),
            ));
        }
    };
    let in_time = tokio::time::timeout(SOON, read).await;
    assert!(in_time.is_ok(), "{text}: {seen}");
}

/// Whether the OpenAPI document says this of that operation.
fn documented(document: &Value, curl: &Curl, got: &Answer, value: &Value) {
    let path = curl.path.split('?').next().unwrap_or_default();
    let path = match path.strip_prefix("/api/") {
        Some(rest) if !rest.starts_with("v1/") => format!("/api/v1/{rest}"),
        _ => path.to_owned(),
    };
    let fits = |pattern: &str| {
        let (pattern, path) = (pattern.split('/'), path.split('/'));
        pattern.clone().count() == path.clone().count()
            && pattern.zip(path).all(|(p, w)| p == w || p.starts_with('{'))
    };
    let mut found: Vec<_> = operations(document)
        .into_iter()
        .filter(|(method, pattern, _)| *method == curl.method.as_str() && fits(pattern))
        .collect();
    // A word wins over a parameter.
    found.sort_by_key(|(_, pattern, _)| pattern.matches('{').count());
    let Some((_, pattern, operation)) = found.first() else {
        assert_eq!(got.status, 404, "{} {path} is not documented", curl.method);
        return;
    };
    let answer = &operation["responses"][got.status.to_string()];
    assert!(
        !answer.is_null(),
        "{} {pattern}: {} is not documented",
        curl.method,
        got.status
    );
    let media = answer["content"].as_object();
    if let Some(media) = media.and_then(|media| media.values().next()) {
        conforms(document, &media["schema"], value, path.as_str());
    }
}
