//! Two documents of the same API.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

const METHODS: &[&str] = &["get", "put", "post", "delete", "options", "head", "patch"];

/// What breaks whoever was made for `old` when it meets `new`: one line each, which names the place
/// and the change, and stays the same for as long as the two documents do.
pub fn breaking(old: &Value, new: &Value) -> BTreeSet<String> {
    let mut comparison = Comparison {
        old,
        new,
        found: BTreeSet::new(),
        seen: BTreeSet::new(),
    };
    comparison.document();
    comparison.found
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    /// What clients send: nothing that was accepted may be refused.
    Asked,
    /// What they get: nothing may come that did not come before.
    Answered,
}

struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    found: BTreeSet<String>,
    /// Pairs of types that were compared, because types may contain themselves.
    seen: BTreeSet<(Direction, String, String)>,
}

/// `$ref` and what it refers to.
fn resolve<'a>(document: &'a Value, value: &'a Value) -> (&'a Value, &'a str) {
    match value["$ref"].as_str() {
        Some(reference) => {
            let target = document.pointer(reference.trim_start_matches('#'));
            (target.unwrap_or(&Value::Null), reference)
        }
        None => (value, ""),
    }
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn names(value: &Value) -> BTreeSet<&str> {
    list(value).filter_map(Value::as_str).collect()
}

/// Operations by method and path; what a path calls its parameters does not matter.
fn operations(document: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    for (path, item) in object(&document["paths"]) {
        let path: Vec<&str> = path
            .split('/')
            .map(|part| if part.starts_with('{') { "{}" } else { part })
            .collect();
        for (method, operation) in object(item).filter(|(m, _)| METHODS.contains(&m.as_str())) {
            let name = format!("{} {}", method.to_uppercase(), path.join("/"));
            found.insert(name, operation);
        }
    }
    found
}

impl<'a> Comparison<'a> {
    fn add(&mut self, place: &str, change: &str) {
        self.found.insert(format!("{place}: {change}"));
    }

    fn document(&mut self) {
        let (old, new) = (self.old, self.new);
        let now = operations(new);
        for (name, before) in operations(old) {
            match now.get(&name) {
                Some(after) => self.operation(&name, before, after),
                None => self.add(&name, "removed"),
            }
        }
        // Clients have types of these names.
        for (name, _) in object(&old["components"]["schemas"]) {
            if new["components"]["schemas"].get(name).is_none() {
                self.add(name, "the type is gone");
            }
        }
    }

    fn operation(&mut self, name: &str, old: &'a Value, new: &'a Value) {
        for (key, what) in [
            ("operationId", "is called"),
            ("x-permission", "needs the permission"),
        ] {
            if old[key] != new[key] {
                self.add(name, &format!("{what} {}, not {}", new[key], old[key]));
            }
        }
        self.parameters(name, &old["parameters"], &new["parameters"]);
        self.body(name, &old["requestBody"], &new["requestBody"]);
        self.responses(name, &old["responses"], &new["responses"]);
    }

    fn parameters(&mut self, name: &str, old: &'a Value, new: &'a Value) {
        let find = |all: &'a Value, wanted: &Value| {
            list(all).find(|one| one["in"] == wanted["in"] && one["name"] == wanted["name"])
        };
        let place = |one: &Value| {
            let part = |key: &str| one[key].as_str().unwrap_or_default().to_owned();
            format!("{name}: {} {}", part("in"), part("name"))
        };
        // Those of the path are given by their place.
        let by_name = |one: &&Value| one["in"] != "path";
        for before in list(old).filter(by_name) {
            match find(new, before) {
                None => self.add(&place(before), "removed"),
                Some(after) => {
                    let (before_schema, after_schema) = (&before["schema"], &after["schema"]);
                    self.schema(
                        Direction::Asked,
                        &place(before),
                        before_schema,
                        after_schema,
                    );
                }
            }
        }
        for after in list(new).filter(by_name) {
            let before = find(old, after);
            if after["required"] == true && before.is_none_or(|one| one["required"] != true) {
                self.add(&place(after), "required");
            }
        }
    }

    fn body(&mut self, name: &str, old: &'a Value, new: &'a Value) {
        let place = format!("{name}: body");
        if new["required"] == true && old["required"] != true {
            self.add(&place, "required");
        }
        self.content(Direction::Asked, &place, &old["content"], &new["content"]);
    }

    fn responses(&mut self, name: &str, old: &'a Value, new: &'a Value) {
        let is_success = |status: &str| status.starts_with('2');
        for (status, before) in object(old) {
            let place = format!("{name}: {status}");
            let Some(after) = new.get(status) else {
                if is_success(status) {
                    self.add(&place, "removed");
                }
                continue;
            };
            let (before, after) = (resolve(self.old, before).0, resolve(self.new, after).0);
            for (header, _) in object(&before["headers"]) {
                if after["headers"].get(header).is_none() {
                    self.add(&format!("{place}: header {header}"), "removed");
                }
            }
            self.content(
                Direction::Answered,
                &place,
                &before["content"],
                &after["content"],
            );
        }
        for (status, _) in object(new) {
            if is_success(status) && old.get(status).is_none() {
                self.add(&format!("{name}: {status}"), "a new way to succeed");
            }
        }
    }

    fn content(&mut self, direction: Direction, place: &str, old: &'a Value, new: &'a Value) {
        for (kind, before) in object(old) {
            match new.get(kind) {
                None => self.add(&format!("{place}: {kind}"), "removed"),
                Some(after) => self.schema(direction, place, &before["schema"], &after["schema"]),
            }
        }
    }

    fn schema(&mut self, direction: Direction, place: &str, old: &'a Value, new: &'a Value) {
        let old = Shape::of(self.old, old);
        let new = Shape::of(self.new, new);
        if !old.name.is_empty() || !new.name.is_empty() {
            let pair = (direction, old.name.to_owned(), new.name.to_owned());
            if !self.seen.insert(pair) {
                return;
            }
        }
        // A type is one thing wherever it is used: its changes are told once.
        let place = match old.name.rsplit_once('/') {
            Some((_, name)) => match direction {
                Direction::Asked => format!("{name} in requests"),
                Direction::Answered => format!("{name} in answers"),
            },
            None => place.to_owned(),
        };
        let place = place.as_str();
        let (old_schema, new_schema) = (old.schema, new.schema);
        let (narrow, wide) = match direction {
            Direction::Asked => (&old, &new),
            Direction::Answered => (&new, &old),
        };
        if let Some(change) = outside(&narrow.kinds, &wide.kinds) {
            self.add(place, &change.told(direction));
        }
        if let Some(change) = outside(&words(narrow.schema), &words(wide.schema)) {
            self.add(place, &change.told(direction));
        }
        if old.union != new.union {
            self.add(place, "other alternatives");
        }
        for key in ["format", "pattern"] {
            // What answers did not promise before, they may promise now. A width that no generator
            // knows promised nothing.
            let is_nothing =
                |word: &Value| word.as_str().is_none_or(|word| word.starts_with("uint"));
            let is_new = is_nothing(&old_schema[key]) && direction == Direction::Answered;
            let is_gone = new_schema[key].is_null() && direction == Direction::Asked;
            if old_schema[key] != new_schema[key] && !is_new && !is_gone {
                self.add(place, &format!("{key} {}", new_schema[key]));
            }
        }
        if direction == Direction::Asked {
            self.bounds(place, old_schema, new_schema);
        }
        self.fields(direction, place, old_schema, new_schema);
        if old_schema["items"].is_object() && new_schema["items"].is_object() {
            let place = format!("{place}[]");
            self.schema(
                direction,
                &place,
                &old_schema["items"],
                &new_schema["items"],
            );
        }
        let rest = "additionalProperties";
        if old_schema[rest].is_object() && new_schema[rest].is_object() {
            let place = format!("{place}.*");
            self.schema(direction, &place, &old_schema[rest], &new_schema[rest]);
        }
    }

    fn bounds(&mut self, place: &str, old: &Value, new: &Value) {
        for (keys, is_tighter) in [
            (
                [
                    "minimum",
                    "exclusiveMinimum",
                    "minLength",
                    "minItems",
                    "minProperties",
                ],
                (|old, new| new > old) as fn(f64, f64) -> bool,
            ),
            (
                [
                    "maximum",
                    "exclusiveMaximum",
                    "maxLength",
                    "maxItems",
                    "maxProperties",
                ],
                |old, new| new < old,
            ),
        ] {
            for key in keys {
                let Some(after) = new[key].as_f64() else {
                    continue;
                };
                if old[key]
                    .as_f64()
                    .is_none_or(|before| is_tighter(before, after))
                {
                    self.add(place, &format!("{key} {after}"));
                }
            }
        }
    }

    fn fields(&mut self, direction: Direction, place: &str, old: &'a Value, new: &'a Value) {
        let (needed_before, needed_now) = (names(&old["required"]), names(&new["required"]));
        let after = &new["properties"];
        for (name, before) in object(&old["properties"]) {
            let place = format!("{place}.{name}");
            let Some(after) = after.get(name) else {
                self.add(&place, "removed");
                continue;
            };
            let (was, is) = (
                needed_before.contains(name.as_str()),
                needed_now.contains(name.as_str()),
            );
            match direction {
                Direction::Asked if is && !was => self.add(&place, "required"),
                Direction::Answered if was && !is => self.add(&place, "may be absent"),
                _ => {}
            }
            self.schema(direction, &place, before, after);
        }
        if direction == Direction::Answered {
            return;
        }
        let known = |name: &str| old["properties"].get(name).is_some();
        for name in needed_now.iter().filter(|name| !known(name)) {
            self.add(&format!("{place}.{name}"), "required");
        }
        if new["additionalProperties"] == false && old["additionalProperties"] != false {
            self.add(place, "other fields are refused");
        }
    }
}

/// A schema without what only tells how it is written: references, and `null` as an alternative.
struct Shape<'a> {
    schema: &'a Value,
    /// The reference, or nothing.
    name: &'a str,
    /// `None`: anything.
    kinds: Option<BTreeSet<String>>,
    /// What it is one of, other than `null`, where there are several.
    union: Vec<&'a Value>,
}

impl<'a> Shape<'a> {
    fn of(document: &'a Value, schema: &'a Value) -> Self {
        let (mut schema, mut name) = resolve(document, schema);
        let mut null = false;
        let mut union: Vec<&Value> = ["anyOf", "oneOf"]
            .iter()
            .flat_map(|key| list(&schema[*key]))
            .collect();
        if !union.is_empty() {
            let all = union.len();
            union.retain(|one| one["type"] != "null");
            null = union.len() < all;
        }
        if let [one] = union[..] {
            (schema, name) = resolve(document, one);
            union.clear();
        }
        let mut kinds: Option<BTreeSet<String>> = match &schema["type"] {
            Value::String(kind) => Some([kind.clone()].into()),
            Value::Array(_) => Some(names(&schema["type"]).into_iter().map(Into::into).collect()),
            _ => None,
        };
        if let Some(kinds) = kinds.as_mut() {
            kinds.extend(null.then(|| "null".to_owned()));
            // Each whole number is a number.
            if kinds.contains("number") {
                kinds.insert("integer".to_owned());
            }
        }
        Self {
            schema,
            name,
            kinds,
            union,
        }
    }
}

/// The words of an `enum`.
fn words(schema: &Value) -> Option<BTreeSet<String>> {
    let words = schema["enum"].as_array()?;
    Some(words.iter().map(Value::to_string).collect())
}

/// What is in the one set and not in the other; `None` is the set of everything.
fn outside(narrow: &Option<BTreeSet<String>>, wide: &Option<BTreeSet<String>>) -> Option<Outside> {
    match (narrow, wide) {
        (_, None) => None,
        (None, Some(_)) => Some(Outside::Anything),
        (Some(narrow), Some(wide)) => {
            let more: Vec<&str> = narrow.difference(wide).map(String::as_str).collect();
            (!more.is_empty()).then(|| Outside::These(more.join(", ")))
        }
    }
}

enum Outside {
    Anything,
    These(String),
}

impl Outside {
    fn told(&self, direction: Direction) -> String {
        match (self, direction) {
            (Self::Anything, Direction::Asked) => "no longer anything".to_owned(),
            (Self::Anything, Direction::Answered) => "may be anything".to_owned(),
            (Self::These(these), Direction::Asked) => format!("no longer {these}"),
            (Self::These(these), Direction::Answered) => format!("may be {these}"),
        }
    }
}
