//! Which trigger is told of what, when, and in which form (contract/drydock-app-api.md,
//! "Notification rules"; reference/drydock.md 4).

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::acting::ActingKind;
use crate::assessment::UpdateKind;
use crate::container::ContainerFacts;
use crate::labels::TriggerLists;
use crate::schedule::CronSchedule;
use crate::trigger::{Association, Threshold, associate};

/// What is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    UpdateAvailable,
    UpdateApplied,
    UpdateFailed,
    SecurityAlert,
    AgentDisconnect,
}

impl Rule {
    pub const ALL: [Self; 5] = [
        Self::UpdateAvailable,
        Self::UpdateApplied,
        Self::UpdateFailed,
        Self::SecurityAlert,
        Self::AgentDisconnect,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpdateAvailable => "update-available",
            Self::UpdateApplied => "update-applied",
            Self::UpdateFailed => "update-failed",
            Self::SecurityAlert => "security-alert",
            Self::AgentDisconnect => "agent-disconnect",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|rule| rule.as_str() == text)
    }
}

/// How messages travel: alone, with those of the same watch, or with those of the same day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    Simple,
    Batch,
    Digest,
}

impl Form {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Batch => "batch",
            Self::Digest => "digest",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Simple, Self::Batch, Self::Digest]
            .into_iter()
            .find(|form| form.as_str() == text)
    }

    /// The forms of a `mode`.
    fn of_mode(mode: Option<&str>) -> &'static [Self] {
        match mode {
            Some("batch") => &[Self::Batch],
            Some("digest") => &[Self::Digest],
            Some("batch+digest") => &[Self::Batch, Self::Digest],
            _ => &[Self::Simple],
        }
    }
}

/// How long a batch waits for what else the same watch finds: results are written in several
/// transactions.
pub const BATCH_WINDOW: Duration = Duration::from_secs(2);

/// Whether a trigger sends messages unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unasked {
    Always,
    OnInclude,
    Never,
}

/// A trigger that notifies, as far as deciding needs it.
#[derive(Clone, Debug)]
pub struct Recipient {
    /// Empty for this installation's own.
    pub agent: String,
    pub type_: String,
    pub name: String,
    /// Lower is told first.
    pub order: i32,
    /// Whether an update is told of once only.
    pub once: bool,
    threshold: Threshold,
    unasked: Unasked,
    forms: &'static [Form],
    security_forms: &'static [Form],
    digest: Option<CronSchedule>,
}

impl Recipient {
    /// The occasion on which it is told of something: `first` for what is new, and `again` each time
    /// if it wants to hear of it more than once. `None`: it has heard of it.
    pub const fn occasion<'a>(
        &self,
        is_new: bool,
        first: &'a str,
        again: &'a str,
    ) -> Option<&'a str> {
        match (self.once, is_new) {
            (true, false) => None,
            (true, true) => Some(first),
            (false, _) => Some(again),
        }
    }

    /// From the component's configuration as the worker published it; what it lacks has its
    /// default. `None` for a trigger that acts.
    pub fn new(agent: String, type_: String, name: String, configuration: &Value) -> Option<Self> {
        if ActingKind::parse(&type_).is_some() {
            return None;
        }
        let text = |key: &str| configuration[key].as_str();
        let threshold = text("threshold").and_then(|text| text.parse().ok());
        let order = configuration["order"].as_i64().unwrap_or(100);
        Some(Self {
            agent,
            type_,
            name,
            order: i32::try_from(order).unwrap_or(i32::MAX),
            once: configuration["once"] != false,
            threshold: threshold.unwrap_or_default(),
            unasked: match &configuration["auto"] {
                Value::Bool(false) => Unasked::Never,
                Value::String(text) if text == "oninclude" => Unasked::OnInclude,
                _ => Unasked::Always,
            },
            forms: Form::of_mode(text("mode")),
            security_forms: Form::of_mode(text("securitymode")),
            digest: CronSchedule::parse(text("digestcron").unwrap_or("0 8 * * *"), "").ok(),
        })
    }

    /// In which forms this recipient hears of `rule`; empty if it does not. `kind` is that of an
    /// available update, which has to reach the threshold. Without a container (an agent that is
    /// gone) only the recipient's own settings count.
    pub fn forms_for(
        &self,
        rule: Rule,
        facts: Option<&ContainerFacts>,
        kind: Option<&UpdateKind<'_>>,
    ) -> &'static [Form] {
        if self.unasked == Unasked::Never {
            return &[];
        }
        if let Some(facts) = facts {
            if !self.may_hear_of(facts) {
                return &[];
            }
            let TriggerLists { include, exclude } = facts.rules.notifications();
            if self.unasked == Unasked::OnInclude && include.is_none() {
                return &[];
            }
            match associate(include, exclude, &self.type_, &self.name, self.threshold) {
                Association::Applies(threshold) => {
                    if kind.is_some_and(|kind| !threshold.is_reached(kind)) {
                        return &[];
                    }
                }
                Association::NotIncluded | Association::Excluded => return &[],
            }
        }
        match rule {
            Rule::UpdateAvailable => self.forms,
            Rule::SecurityAlert => self.security_forms,
            _ => &[Form::Simple],
        }
    }

    /// This installation's own triggers hear of every container, an agent's of its own.
    fn may_hear_of(&self, facts: &ContainerFacts) -> bool {
        self.agent.is_empty() || self.agent == facts.watcher.agent
    }

    /// When a message of this form may leave.
    pub fn due(&self, form: Form, now: DateTime<Utc>) -> DateTime<Utc> {
        match form {
            Form::Simple => now,
            Form::Batch => now + BATCH_WINDOW,
            Form::Digest => self
                .digest
                .as_ref()
                .and_then(|schedule| schedule.next_after(now))
                .unwrap_or(now),
        }
    }
}

/// How long to wait after the `attempts`-th failed attempt: 30 s, doubled each time up to 5
/// minutes, each between four and six fifths of that. `chance` is from 0 to 1.
pub fn backoff(attempts: u32, chance: f64) -> Duration {
    let doubled = 30 * (1 << attempts.saturating_sub(1).min(8));
    Duration::from_secs(doubled.min(300)).mul_f64(0.8 + 0.4 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::assessment::UpdateKindName;
    use crate::container::SemverDiff;
    use crate::testing::container;

    fn recipient(agent: &str, configuration: Value) -> Recipient {
        let text = str::to_owned;
        Recipient::new(text(agent), text("ntfy"), text("one"), &configuration).unwrap()
    }

    fn tag(semver_diff: SemverDiff) -> UpdateKind<'static> {
        UpdateKind {
            kind: UpdateKindName::Tag,
            local_value: None,
            remote_value: None,
            semver_diff,
        }
    }

    #[test]
    fn labels_thresholds_and_settings_choose_who_hears() {
        let all = json!({});
        let minor = json!({"threshold": "minor"});
        for (configuration, include, exclude, diff, hears) in [
            (&all, None, None, SemverDiff::Major, true),
            (&minor, None, None, SemverDiff::Major, false),
            (&minor, None, None, SemverDiff::Minor, true),
            (&minor, Some("ntfy.one:all"), None, SemverDiff::Major, true),
            (&all, Some("slack.x"), None, SemverDiff::Major, false),
            (&all, None, Some("ntfy.one"), SemverDiff::Major, false),
            (
                &json!({"auto": false}),
                None,
                None,
                SemverDiff::Major,
                false,
            ),
            (
                &json!({"auto": "oninclude"}),
                None,
                None,
                SemverDiff::Major,
                false,
            ),
            (
                &json!({"auto": "oninclude"}),
                Some("one"),
                None,
                SemverDiff::Major,
                true,
            ),
        ] {
            let mut facts = ContainerFacts::clone(&container("web", "1.0.0").facts);
            facts.rules.trigger_include = include.map(str::to_owned);
            facts.rules.trigger_exclude = exclude.map(str::to_owned);
            let recipient = recipient("", configuration.clone());
            let forms = recipient.forms_for(Rule::UpdateAvailable, Some(&facts), Some(&tag(diff)));
            assert_eq!(
                !forms.is_empty(),
                hears,
                "{configuration} {include:?} {exclude:?}"
            );
        }
    }

    #[test]
    fn an_agents_trigger_hears_of_its_own_containers_only() {
        let mut facts = ContainerFacts::clone(&container("web", "1.0.0").facts);
        let hears = |agent: &str, facts: &ContainerFacts| {
            let forms =
                recipient(agent, json!({})).forms_for(Rule::UpdateApplied, Some(facts), None);
            !forms.is_empty()
        };
        assert!(hears("", &facts) && !hears("nas", &facts));
        facts.watcher.agent = "nas".to_owned();
        assert!(hears("", &facts) && hears("nas", &facts) && !hears("other", &facts));
    }

    #[test]
    fn modes_hold_for_available_updates_and_security_alerts() {
        let both = recipient(
            "",
            json!({"mode": "batch+digest", "securitymode": "digest"}),
        );
        let forms = |rule| both.forms_for(rule, None, None);
        assert_eq!(forms(Rule::UpdateAvailable), [Form::Batch, Form::Digest]);
        assert_eq!(forms(Rule::SecurityAlert), [Form::Digest]);
        assert_eq!(forms(Rule::UpdateFailed), [Form::Simple]);
    }

    #[test]
    fn digests_wait_for_their_time() {
        let now = DateTime::parse_from_rfc3339("2026-05-04T09:30:00Z")
            .unwrap()
            .to_utc();
        let recipient = recipient("", json!({"digestcron": "0 8 * * *"}));
        let due = recipient.due(Form::Digest, now);
        assert_eq!(due.to_rfc3339(), "2026-05-05T08:00:00+00:00");
        assert_eq!(recipient.due(Form::Simple, now), now);
    }

    #[test]
    fn the_wait_grows_to_five_minutes() {
        let middle: Vec<u64> = (1..=6).map(|n| backoff(n, 0.5).as_secs()).collect();
        assert_eq!(middle, [30, 60, 120, 240, 300, 300]);
        assert_eq!(backoff(1, 0.0).as_secs(), 24);
        assert_eq!(backoff(40, 1.0).as_secs(), 360);
    }
}
