//! Reading labels. Only those count that the user set on the container: a label that the image
//! brought along is content from outside and enables nothing (DESIGN.md 3.11).

mod docksmith;

use std::collections::BTreeMap;

use super::change::speaks_to_us;
use super::{ContainerRules, HookRules, RollbackRules, TagFamily};
use crate::container::{ComposeFileLabels, ComposeRef, Manager};
use crate::policy::{MaturityMode, UpdatePolicy};

type Labels = BTreeMap<String, String>;

/// A label's value is cut off in messages after this many characters.
const SHOWN: usize = 60;

/// The older labels that Drydock documents (reference/drydock.md 3).
const LEGACY: &[&str] = &[
    "wud.compose.file",
    "wud.display.icon",
    "wud.display.name",
    "wud.display.picture",
    "wud.group",
    "wud.hook.post",
    "wud.hook.pre",
    "wud.hook.pre.abort",
    "wud.hook.timeout",
    "wud.inspect.tag.path",
    "wud.link.template",
    "wud.registry.lookup.image",
    "wud.registry.lookup.url",
    "wud.rollback.auto",
    "wud.rollback.interval",
    "wud.rollback.window",
    "wud.tag.exclude",
    "wud.tag.include",
    "wud.tag.transform",
    "wud.trigger.exclude",
    "wud.trigger.include",
    "wud.watch",
    "wud.watch.digest",
    "wud.webhook.enabled",
];

/// A container's labels without those of its image.
///
/// Docker merges both and does not say which is which; a label counts as the image's when the
/// image has it with the same value. So a user who sets a label to just the image's value is not
/// heard, which is the safe side.
#[derive(Clone, Copy, Debug)]
pub struct UserLabels<'a> {
    container: &'a Labels,
    image: &'a Labels,
}

impl<'a> UserLabels<'a> {
    pub fn new(container: &'a Labels, image: &'a Labels) -> Self {
        Self { container, image }
    }

    /// The label's value, if the user set it and it is not blank.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        let value = self.even_blank(key)?;
        (!value.is_empty()).then_some(value)
    }

    /// The label's value, if the user set it, where an empty one says something too.
    pub fn even_blank(&self, key: &str) -> Option<&'a str> {
        let value = self.container.get(key)?;
        let from_image = self.image.get(key) == Some(value);
        (!from_image).then_some(value.trim())
    }

    /// Whether the user set `plimsoll.update.<what>` or `dd.update.<what>` to `true`.
    pub fn opts_in(&self, what: &str) -> bool {
        ["plimsoll", "dd"]
            .iter()
            .find_map(|prefix| self.get(&format!("{prefix}.update.{what}")))
            .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    /// What Compose files write of labels that speak to Plimsoll, beside what the container has.
    /// One that the image brought along counts as written nowhere.
    pub fn beside(&self, files: &Labels) -> ComposeFileLabels {
        let written: Labels = files
            .iter()
            .filter(|(key, _)| speaks_to_us(key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let has = |(key, value): (&String, &String)| self.container.get(key) == Some(value);
        let own = |key: &&String| speaks_to_us(key) && self.get(key).is_some();
        let in_sync = written.iter().all(has)
            && (self.container.keys().filter(own)).all(|key| written.contains_key(key));
        ComposeFileLabels { written, in_sync }
    }

    /// The Compose service the container belongs to. One-off containers (`docker compose run`)
    /// belong to none: they would share the service's identity, and with it policy and history.
    pub fn compose(&self) -> Option<ComposeRef> {
        let project = self.get("com.docker.compose.project")?;
        let service = self.get("com.docker.compose.service")?;
        let one_off = self
            .get("com.docker.compose.oneoff")
            .is_some_and(|v| v.eq_ignore_ascii_case("true"));
        (!one_off).then(|| ComposeRef {
            project: project.to_owned(),
            service: service.to_owned(),
        })
    }

    /// Another controller that owns the container. Only by labels of its own making: an image
    /// cannot keep itself from being updated.
    pub fn manager(&self) -> Option<Manager> {
        const MARKS: [(&str, Manager); 4] = [
            ("com.docker.swarm.service.id", Manager::Swarm),
            ("io.kubernetes.pod.uid", Manager::Kubernetes),
            ("io.kubernetes.pod.name", Manager::Kubernetes),
            ("com.hashicorp.nomad.alloc_id", Manager::Nomad),
        ];
        MARKS
            .iter()
            .find(|(key, _)| self.get(key).is_some())
            .map(|(_, manager)| *manager)
    }

    /// The labels under older names that speak for this container: those that no newer one
    /// overrides.
    pub fn legacy(&self) -> Vec<&'static str> {
        let used = |old: &&&str| {
            let name = old.strip_prefix("wud").unwrap_or_default();
            self.get(old).is_some() && self.get(&format!("dd{name}")).is_none()
        };
        LEGACY.iter().filter(used).copied().collect()
    }

    /// Everything that the labels ask for.
    pub fn rules(&self) -> ContainerRules {
        let mut problems = Vec::new();
        let mut reader = Reader {
            labels: *self,
            problems: &mut problems,
        };
        let mut rules = reader.rules();
        rules.problems = problems;
        rules
    }
}

/// Where the source of an image is kept, by its own word: OCI's `source`, else `url`. Only web
/// addresses: they end up as links in browsers.
pub fn source_repo(labels: &BTreeMap<String, String>) -> Option<&str> {
    [
        "org.opencontainers.image.source",
        "org.opencontainers.image.url",
    ]
    .iter()
    .filter_map(|key| labels.get(*key))
    .map(|url| url.trim())
    .find(|url| url.starts_with("https://") || url.starts_with("http://"))
}

struct Reader<'a, 'p> {
    labels: UserLabels<'a>,
    problems: &'p mut Vec<String>,
}

impl Reader<'_, '_> {
    fn rules(&mut self) -> ContainerRules {
        let mut unreadable = Vec::new();
        // Docksmith's labels are read where ours are silent.
        let watch = match self.find("watch") {
            Some(_) => self.flag("watch"),
            None => self.ignored(&mut unreadable),
        };
        let auto_rollback = match self.find("rollback.auto") {
            Some(_) => self.flag("rollback.auto"),
            None => self.auto_rollback(),
        };
        ContainerRules {
            watch,
            versions: self.versions(unreadable),
            steps: self.steps(),
            include_tags: self.text("tag.include"),
            exclude_tags: self.text("tag.exclude"),
            transform_tags: self.text("tag.transform"),
            tag_family: self.choice(
                "tag.family",
                &[("strict", TagFamily::Strict), ("loose", TagFamily::Loose)],
            ),
            watch_digest: self.flag("watch.digest"),
            lookup_image: self
                .text("registry.lookup.image")
                .or_else(|| self.text("registry.lookup.url")),
            inspect_tag_path: self.text("inspect.tag.path"),
            display_name: self.text("display.name"),
            display_icon: self.text("display.icon"),
            display_picture: self.text("display.picture"),
            link_template: self.text("link.template"),
            // Also of one that is in the project without being a service of it.
            group: self.text("group").or_else(|| {
                let project = self.labels.get("com.docker.compose.project");
                project.map(str::to_owned)
            }),
            trigger_include: self.text("trigger.include"),
            trigger_exclude: self.text("trigger.exclude"),
            action_include: self.text("action.include"),
            action_exclude: self.text("action.exclude"),
            action_auto: self.text("action.auto"),
            notification_include: self.text("notification.include"),
            notification_exclude: self.text("notification.exclude"),
            webhook_enabled: self.flag("webhook.enabled"),
            rollback: RollbackRules {
                auto: auto_rollback,
                window_ms: self.number("rollback.window", "milliseconds", 1..=86_400_000),
                interval_ms: self.number("rollback.interval", "milliseconds", 1..=86_400_000),
                gate: self.choice("update.rollback-gate", &[("on", true), ("off", false)]),
            },
            security_gate: self.choice("security.gate", &[("on", true), ("off", false)]),
            hooks: HookRules {
                pre: self.text("hook.pre"),
                post: self.text("hook.post"),
                pre_abort: self.flag("hook.pre.abort"),
                timeout_ms: self.number("hook.timeout", "milliseconds", 1..=86_400_000),
            },
            stability_secs: self.stability(),
            policy: self.policy(),
            infrastructure: self
                .choice(
                    "update.mode",
                    &[("infrastructure", true), ("standard", false)],
                )
                .unwrap_or(false),
            compose_file: self.text("compose.file"),
            source_repo: self.text("source.repo"),
            problems: Vec::new(),
        }
    }

    /// `dd.<name>`, else the older `wud.<name>`, with the key it was found under. Drydock knows
    /// `wud.` for the older labels only; there is no other meaning that the rest could have.
    fn find(&self, name: &str) -> Option<(String, &str)> {
        ["dd", "wud"].iter().find_map(|namespace| {
            let key = format!("{namespace}.{name}");
            let value = self.labels.get(&key)?;
            Some((key, value))
        })
    }

    fn text(&self, name: &str) -> Option<String> {
        self.find(name).map(|(_, value)| value.to_owned())
    }

    fn choice<T: Copy>(&mut self, name: &str, values: &[(&str, T)]) -> Option<T> {
        let (key, text) = self.find(name)?;
        let found = values.iter().find(|(v, _)| v.eq_ignore_ascii_case(text));
        if found.is_none() {
            let known: Vec<_> = values.iter().map(|(v, _)| *v).collect();
            let problem = format!("{key}: `{}` is none of {}", cut(text), known.join(", "));
            self.problems.push(problem);
        }
        found.map(|(_, value)| *value)
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        self.choice(name, &[("true", true), ("false", false)])
    }

    fn number(
        &mut self,
        name: &str,
        unit: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let (key, text) = self.find(name)?;
        let number = text.parse().ok().filter(|n| range.contains(n));
        if number.is_none() {
            let problem = format!(
                "{key}: `{}` is not a number of {unit} from {} to {}",
                cut(text),
                range.start(),
                range.end()
            );
            self.problems.push(problem);
        }
        number
    }

    /// Ours, so also in our own name, which wins.
    fn stability(&mut self) -> Option<u32> {
        const KEY: &str = "plimsoll.update.stability";
        match self.labels.get(KEY) {
            None => self.number("update.stability", "seconds", 1..=86_400),
            Some(text) => {
                let seconds = text.parse().ok().filter(|n| (1..=86_400).contains(n));
                if seconds.is_none() {
                    self.problems.push(format!(
                        "{KEY}: `{}` is not a number of seconds from 1 to 86400",
                        cut(text)
                    ));
                }
                seconds
            }
        }
    }

    fn policy(&mut self) -> Option<UpdatePolicy> {
        let list = |text: Option<String>| -> Vec<String> {
            text.unwrap_or_default()
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()
        };
        let policy = UpdatePolicy {
            skip_tags: list(self.text("updatePolicy.skipTags")),
            skip_digests: list(self.text("updatePolicy.skipDigests")),
            snooze_until: None,
            maturity_mode: self.choice(
                "updatePolicy.maturityMode",
                &[("all", MaturityMode::All), ("mature", MaturityMode::Mature)],
            ),
            maturity_min_age_days: self
                .number("updatePolicy.maturityMinAgeDays", "days", 1..=365)
                .and_then(|days| u16::try_from(days).ok()),
        };
        (!policy.is_empty()).then_some(policy)
    }
}

fn cut(text: &str) -> &str {
    text.char_indices()
        .nth(SHOWN)
        .map_or(text, |(end, _)| &text[..end])
}

#[cfg(test)]
mod tests;
