//! Docksmith's labels (reference/docksmith-dokploy-dockup.md 1.4, 1.5). Where a `dd.*` label (or
//! its older `wud.*` name) answers the same question, it wins and Docksmith's is not read:
//! docs/labels.md has the pairs.

use super::{Reader, cut};
use crate::labels::steps::{PostUpdate, ScriptPath, StepRules, names};
use crate::labels::versions::{Pin, VersionRules};

/// What Docksmith takes for yes where a label allows something.
const YES: &[&str] = &["true", "1", "yes"];
const NO: &[&str] = &["false", "0", "no"];
/// A pin knows one word only.
const PINNED: &[&str] = &["true"];
const LOOSE: &[&str] = &["false"];

impl<'a> Reader<'a, '_> {
    /// `docksmith.ignore`, as `rules.watch`. Only "ignored" is an answer; the contrary leaves the
    /// question to the watcher's default.
    pub(super) fn ignored(&mut self, unreadable: &mut Vec<String>) -> Option<bool> {
        match self.word("ignore", YES, NO) {
            Ok(ignored) => ignored.filter(|yes| *yes).map(|_| false),
            Err(problem) => {
                unreadable.push(problem);
                None
            }
        }
    }

    pub(super) fn versions(&mut self, mut unreadable: Vec<String>) -> VersionRules {
        let mut pin = None;
        for (name, level) in [
            ("version-pin-major", Pin::Major),
            ("version-pin-minor", Pin::Minor),
            ("version-pin-patch", Pin::Patch),
        ] {
            match self.word(name, PINNED, LOOSE) {
                Ok(Some(true)) => pin = Some(level),
                Ok(_) => {}
                Err(problem) => unreadable.push(problem),
            }
        }
        self.problems.extend(unreadable.iter().cloned());
        VersionRules {
            allow_latest: self.allowed("allow-latest"),
            allow_prerelease: self.allowed("allow-prerelease"),
            pin,
            tag_regex: self
                .docksmith("tag-regex")
                .filter(|_| self.find("tag.include").is_none())
                .map(str::to_owned),
            min: self.docksmith("version-min").map(str::to_owned),
            max: self.docksmith("version-max").map(str::to_owned),
            unreadable,
        }
    }

    pub(super) fn steps(&mut self) -> StepRules {
        let mut steps = StepRules::default();
        let check = ["pre-update-check", "script"]
            .into_iter()
            .find_map(|name| Some((name, self.docksmith(name)?)))
            .filter(|_| self.find("hook.pre").is_none());
        if let Some((name, text)) = check {
            steps.check = ScriptPath::parse(text);
            if steps.check.is_none() {
                steps.unreadable.push(format!(
                    "docksmith.{name}: `{}` is no script inside of the directory of scripts",
                    cut(text)
                ));
            }
        }
        let after = self
            .docksmith("post-update")
            .filter(|_| self.find("hook.post").is_none());
        if let Some(text) = after {
            match PostUpdate::parse(text) {
                Ok(after) => steps.after = Some(after),
                Err(why) => steps
                    .unreadable
                    .push(format!("docksmith.post-update: `{}` {why}", cut(text))),
            }
        }
        if let Some(text) = self.docksmith("restart-after") {
            match names(text) {
                Some(names) => steps.restart_after = names,
                None => steps.unreadable.push(format!(
                    "docksmith.restart-after: `{}` is no list of containers",
                    cut(text)
                )),
            }
        }
        self.problems.extend(steps.unreadable.iter().cloned());
        steps
    }

    /// `docksmith.auto_rollback`.
    pub(super) fn auto_rollback(&mut self) -> Option<bool> {
        let found = self.word("auto_rollback", YES, NO);
        found.unwrap_or_else(|problem| {
            self.problems.push(problem);
            None
        })
    }

    /// What is not allowed in words that can be read is not allowed.
    fn allowed(&mut self, name: &str) -> bool {
        match self.word(name, YES, NO) {
            Ok(found) => found == Some(true),
            Err(problem) => {
                self.problems.push(problem);
                false
            }
        }
    }

    fn docksmith(&self, name: &str) -> Option<&'a str> {
        self.labels.get(&format!("docksmith.{name}"))
    }

    fn word(&self, name: &str, yes: &[&str], no: &[&str]) -> Result<Option<bool>, String> {
        let Some(text) = self.docksmith(name) else {
            return Ok(None);
        };
        let is = |list: &[&str]| list.iter().any(|word| word.eq_ignore_ascii_case(text));
        if is(yes) {
            Ok(Some(true))
        } else if is(no) {
            Ok(Some(false))
        } else {
            let known = [yes, no].concat().join(", ");
            Err(format!(
                "docksmith.{name}: `{}` is none of {known}",
                cut(text)
            ))
        }
    }
}
