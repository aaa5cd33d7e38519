//! No change of the API breaks those who use it, unless somebody said why it has to.
//!
//! `openapi/drydock.json` is compared with `openapi/released/drydock.json`, the document of the last
//! release. What breaks clients, those generated from the document included, fails the test until it
//! is named in `openapi/breaking.toml`. With a release, the document is copied over the released one
//! and that file is emptied.

mod compare;
mod rules;

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

use compare::breaking;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledged {
    #[serde(default)]
    change: Vec<Acknowledgement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    /// A line that this test printed.
    what: String,
    why: String,
}

#[test]
fn what_breaks_clients_is_acknowledged() {
    let read = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let released = read(include_str!("../../openapi/released/drydock.json"));
    let document = read(include_str!("../../openapi/drydock.json"));
    let acknowledged: Acknowledged =
        toml::from_str(include_str!("../../openapi/breaking.toml")).unwrap();
    let found = breaking(&released, &document);
    let known: BTreeSet<String> = acknowledged
        .change
        .iter()
        .map(|change| {
            assert!(!change.why.trim().is_empty(), "say why: {}", change.what);
            change.what.clone()
        })
        .collect();
    let new: Vec<&String> = found.difference(&known).collect();
    assert!(
        new.is_empty(),
        "these changes of openapi/drydock.json break clients of the released one. If it has to be, \
         name each in openapi/breaking.toml, with the reason:\n{new:#?}"
    );
    let gone: Vec<&String> = known.difference(&found).collect();
    assert!(
        gone.is_empty(),
        "openapi/breaking.toml names what did not happen:\n{gone:#?}"
    );
}
