//! The HTTP surface as the contract documents describe it, on real processes: shapes, statuses,
//! texts, and the order of checks (contract/drydock-*.md; reference/drydock.md 1.1-1.9).

mod curl;
mod drydock;
mod http;
mod lines;
mod refusals;
mod shape;
mod webhooks;

use reqwest::Method;
use serde_json::Value;

use crate::replica::{Answer, answer};
use crate::world::World;

/// Method, path, body (`null`: none), and the expected status and `error`.
type Case<'a> = (&'a str, &'a str, Value, u16, &'a str);

async fn ask(world: &World, method: &str, path: &str, body: &Value) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let request = world.authorised(method, path);
    answer(match body {
        Value::Null => request,
        body => request.json(body),
    })
    .await
}

/// Every case that is answered otherwise, so that one run shows them all.
async fn check(world: &World, cases: &[Case<'_>]) {
    let mut wrong = Vec::new();
    for (method, path, body, status, text) in cases {
        let got = ask(world, method, path, body).await;
        if (got.status, got.json()["error"].as_str()) != (*status, Some(text)) {
            wrong.push(format!(
                "{method} {path} {body}: {} {}",
                got.status, got.text
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn document() -> Value {
    serde_json::from_str(plimsoll_api::drydock::spec::COMMITTED).unwrap()
}

/// Method (upper case), path and description of every operation.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((method.to_uppercase(), path.clone(), operation.clone()));
        }
    }
    all
}
