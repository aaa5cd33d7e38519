//! Rendered manifests, and ways through them.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;

/// A query of an alert or a dashboard.
#[derive(Deserialize)]
pub struct Query {
    pub title: String,
    pub metrics: Vec<String>,
}

/// What one file of values renders.
pub struct Rendering {
    pub text: String,
    pub documents: Vec<Value>,
    pub queries: Vec<Query>,
}

/// A Pod as something makes it.
pub struct Pod<'a> {
    /// Such as `Deployment/fleet-plimsoll-api`.
    pub owner: String,
    pub component: &'a str,
    pub labels: &'a Value,
    pub spec: &'a Value,
    /// Made before anything else of the release is there.
    pub hook: bool,
}

impl Rendering {
    pub fn new(text: String, documents: Vec<Value>, queries: Vec<Query>) -> Self {
        Self {
            text,
            documents,
            queries,
        }
    }

    pub fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        let documents = self.documents.iter();
        documents.filter(move |document| document["kind"] == kind)
    }

    pub fn pods(&self) -> impl Iterator<Item = Pod<'_>> {
        let makers = ["Deployment", "DaemonSet", "Job"];
        let documents = self.documents.iter();
        let made = documents.filter(move |d| makers.iter().any(|kind| d["kind"] == *kind));
        made.map(|document| {
            let template = &document["spec"]["template"];
            Pod {
                owner: title(document),
                component: label(&template["metadata"]["labels"], "component"),
                labels: &template["metadata"]["labels"],
                spec: &template["spec"],
                hook: is_hook(document),
            }
        })
    }

    /// Two objects of one kind and name would be one, or none.
    pub fn names_are_unique(&self) {
        let titles: BTreeSet<String> = self.documents.iter().map(title).collect();
        assert_eq!(titles.len(), self.documents.len(), "{titles:#?}");
        for document in &self.documents {
            let name = document["metadata"]["name"].as_str().unwrap();
            assert!(name.len() <= 63, "{name}");
            assert_eq!(document["metadata"]["namespace"], super::NAMESPACE);
        }
    }
}

impl<'a> Pod<'a> {
    pub fn containers(&self) -> Vec<&'a Value> {
        let lists = ["initContainers", "containers"];
        lists
            .iter()
            .flat_map(|list| items(&self.spec[*list]))
            .collect()
    }
}

/// The elements of a list that may be absent.
pub fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// The members of an object that may be absent.
pub fn members(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let members = object.as_object().into_iter().flatten();
    members.map(|(name, value)| (name.as_str(), value))
}

pub fn title(document: &Value) -> String {
    let kind = document["kind"].as_str().unwrap();
    let name = document["metadata"]["name"].as_str().unwrap();
    format!("{kind}/{name}")
}

pub fn is_hook(document: &Value) -> bool {
    document["metadata"]["annotations"]["helm.sh/hook"].is_string()
}

/// `app.kubernetes.io/<name>`.
pub fn label<'a>(labels: &'a Value, name: &str) -> &'a str {
    let label = &labels[format!("app.kubernetes.io/{name}")];
    label
        .as_str()
        .unwrap_or_else(|| panic!("{name}: {labels:#}"))
}

/// Whether the labels that a selector names are there. It must name some.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    assert!(members(selector).count() > 0, "it selects everything");
    members(selector).all(|(name, value)| labels[name] == *value)
}
