//! The words of a notification: a trigger's templates, filled from what happened.

use serde_json::{Map, Value, json};

use crate::notification::Rule;
use crate::template::Template;

/// Entries of a batch or digest that are spelt out; the rest is counted.
const MAX_ENTRIES: usize = 50;

/// A trigger's templates. They are no secret: its published configuration holds them.
#[derive(Clone, Debug)]
pub struct Templates {
    pub simple_title: Template,
    pub simple_body: Template,
    pub batch_title: Template,
    pub security_title: Template,
    pub security_body: Template,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub title: String,
    pub body: String,
}

impl Text {
    /// Both on one page, the title as `title` writes it.
    pub fn titled(&self, title: impl FnOnce(&str) -> String) -> String {
        match self.title.is_empty() {
            true => self.body.clone(),
            false => format!("{}{}", title(&self.title), self.body),
        }
    }

    /// Both on one page, for services that know no titles.
    pub fn joined(&self) -> String {
        match (self.title.is_empty(), self.body.is_empty()) {
            (true, _) => self.body.clone(),
            (false, true) => self.title.clone(),
            (false, false) => format!("{}\n\n{}", self.title, self.body),
        }
    }
}

/// Titles and texts of what has no template of its own.
const FIXED: &[(Rule, &str, &str)] = &[
    (
        Rule::UpdateApplied,
        "Container ${name} was updated",
        "Container ${name} was updated from ${local} to ${remote}",
    ),
    (
        Rule::UpdateFailed,
        "The update of container ${name} failed",
        "Container ${name} could not be updated from ${local} to ${remote}\
         ${operation.status == 'rolled-back' ? ' and was rolled back' : ''}\
         ${error ? ': ' + error : ''}",
    ),
    (
        Rule::AgentDisconnect,
        "Agent ${agent} is disconnected",
        "Agent ${agent} is disconnected since ${since}${reason ? ': ' + reason : ''}",
    ),
];

/// One message about one thing. `rule` is a rule's id; any other is worded like an available
/// update.
pub fn simple(rule: &str, templates: &Templates, payload: &Value) -> Text {
    let data = data(&[payload]);
    let rule = Rule::parse(rule);
    if let Some((_, title, body)) = FIXED.iter().find(|(fixed, ..)| Some(*fixed) == rule) {
        let fill = |source| {
            Template::parse(source)
                .map(|template| template.render(&data))
                .unwrap_or_default()
        };
        return Text {
            title: fill(title),
            body: fill(body),
        };
    }
    if rule == Some(Rule::SecurityAlert) {
        let name = data["name"].as_str().unwrap_or_default();
        return Text {
            title: format!("Security alert for container {name}"),
            body: templates.security_body.render(&data),
        };
    }
    Text {
        title: templates.simple_title.render(&data),
        body: templates.simple_body.render(&data),
    }
}

/// One message about several things of one kind.
pub fn combined(rule: &str, templates: &Templates, payloads: &[&Value]) -> Text {
    let (title, entry) = match Rule::parse(rule) {
        Some(Rule::SecurityAlert) => (&templates.security_title, &templates.security_body),
        _ => (&templates.batch_title, &templates.simple_body),
    };
    let mut body = String::new();
    for payload in payloads.iter().take(MAX_ENTRIES) {
        body.push_str("- ");
        body.push_str(&entry.render(&data(&[payload])));
        body.push('\n');
    }
    let left = payloads.len().saturating_sub(MAX_ENTRIES);
    if left > 0 {
        body.push_str(&format!("… and {left} more\n"));
    }
    Text {
        title: title.render(&data(payloads)),
        body: body.trim_end().to_owned(),
    }
}

/// What paths in templates begin with. The short names are of the first container.
fn data(payloads: &[&Value]) -> Value {
    let containers: Vec<&Value> = payloads
        .iter()
        .map(|payload| &payload["container"])
        .filter(|container| container.is_object())
        .collect();
    let first = payloads.first().copied().unwrap_or(&Value::Null);
    let container = &first["container"];
    let kind = &container["updateKind"];
    let mut data = Map::new();
    // Whatever else the payload says: `operation`, `error`, `since`, `agent`.
    if let Value::Object(fields) = first {
        data.extend(fields.clone());
    }
    for (name, value) in [
        ("id", &container["id"]),
        ("name", &container["name"]),
        ("watcher", &container["watcher"]),
        ("kind", &kind["kind"]),
        ("semver", &kind["semverDiff"]),
        ("local", &kind["localValue"]),
        ("remote", &kind["remoteValue"]),
        ("link", &container["result"]["link"]),
    ] {
        data.insert(name.to_owned(), value.clone());
    }
    data.entry("agent")
        .or_insert_with(|| container["agent"].clone());
    data.insert("count".to_owned(), containers.len().into());
    data.insert("containers".to_owned(), json!(containers));
    Value::Object(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn templates() -> Templates {
        let parse = |source| Template::parse(source).unwrap();
        Templates {
            simple_title: parse("New ${kind} for ${name}"),
            simple_body: parse("${container.name}: ${local} to ${remote}"),
            batch_title: parse("${containers.length} updates"),
            security_title: parse("${count} alerts"),
            security_body: parse("${name}: ${container.security.scan.summary.critical || 0}"),
        }
    }

    fn payload(name: &str) -> Value {
        json!({"container": {"name": name, "updateKind":
            {"kind": "tag", "localValue": "1", "remoteValue": "2"}}})
    }

    fn text(title: &str, body: &str) -> Text {
        Text {
            title: title.to_owned(),
            body: body.to_owned(),
        }
    }

    #[test]
    fn every_rule_has_its_words() {
        let mut failed = payload("web");
        failed["error"] = "the health check failed".into();
        failed["operation"] = json!({"status": "rolled-back"});
        let gone = json!({"agent": "nas", "since": "2026-05-04T09:30:00Z", "reason": "It is gone"});
        for (rule, payload, expected) in [
            (
                "update-available",
                payload("web"),
                text("New tag for web", "web: 1 to 2"),
            ),
            (
                "run",
                payload("web"),
                text("New tag for web", "web: 1 to 2"),
            ),
            (
                "update-applied",
                payload("web"),
                text(
                    "Container web was updated",
                    "Container web was updated from 1 to 2",
                ),
            ),
            (
                "update-failed",
                failed,
                text(
                    "The update of container web failed",
                    "Container web could not be updated from 1 to 2 and was rolled back: the \
                     health check failed",
                ),
            ),
            (
                "agent-disconnect",
                gone,
                text(
                    "Agent nas is disconnected",
                    "Agent nas is disconnected since 2026-05-04T09:30:00Z: It is gone",
                ),
            ),
            (
                "security-alert",
                payload("web"),
                text("Security alert for container web", "web: 0"),
            ),
        ] {
            assert_eq!(simple(rule, &templates(), &payload), expected, "{rule}");
        }
    }

    #[test]
    fn a_batch_lists_its_containers_and_counts_the_rest() {
        let two = [payload("a"), payload("b")];
        let two: Vec<&Value> = two.iter().collect();
        assert_eq!(
            combined("update-available", &templates(), &two),
            text("2 updates", "- a: 1 to 2\n- b: 1 to 2")
        );
        let one = payload("a");
        let many = vec![&one; MAX_ENTRIES + 3];
        let body = combined("update-available", &templates(), &many).body;
        assert!(body.ends_with("… and 3 more"), "{body}");
    }
}
