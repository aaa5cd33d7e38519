//! From a registry's answers to a container's watch result. Pure.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use plimsoll_app::observations::{ImageDetails, ImageKey, WatchOutcome};
use plimsoll_domain::{
    candidate::{Decision, RulesError, TagRules, decide, standing_tags},
    container::{ContainerFacts, WatchResult},
    image::{Digest, ImageRef, Tag},
    link,
    tag::labelled_version,
};

use super::standing::{Candidates, Standing, is_asked_for};
use crate::registry::{Dated, RegistryError, Repository, TagList};

/// One container to check.
pub struct Check {
    facts: ContainerFacts,
    lookup: Lookup,
    rules: Result<TagRules, RulesError>,
}

/// Where a container's versions are looked up.
enum Lookup {
    In(ImageRef),
    /// There is nothing newer to be found, for this reason.
    Nowhere(&'static str),
    /// The label that says where cannot be read.
    BadLabel,
}

const LOCAL: &str = "The image was built on this engine, so no registry knows it";
const UNNAMED: &str = "The engine no longer knows which repository the image came from";
const BY_DIGEST: &str = "The container names its image by digest alone, so nothing is newer";
const BAD_LABEL: &str = "The label dd.registry.lookup.image is not an image reference";

impl Check {
    pub fn new(facts: ContainerFacts) -> Self {
        let image = &facts.image;
        let lookup = match (facts.checked_repository(), image.repository()) {
            (Some(found), _) => Lookup::In(found),
            (None, _) if image.is_local_image => Lookup::Nowhere(LOCAL),
            (None, None) => Lookup::Nowhere(UNNAMED),
            (None, Some(_)) if image.tag.value.is_empty() => Lookup::Nowhere(BY_DIGEST),
            (None, Some(_)) => Lookup::BadLabel,
        };
        Self {
            rules: TagRules::compile(&facts.rules),
            lookup,
            facts,
        }
    }

    /// The repository that has to be asked; `None` if the result needs no registry.
    pub fn repository(&self) -> Option<Repository> {
        match (&self.lookup, &self.rules) {
            (Lookup::In(image), Ok(_)) => Some(Repository::from(image)),
            _ => None,
        }
    }

    /// The result of a check that needs no registry.
    pub fn unasked(self, now: DateTime<Utc>) -> WatchOutcome {
        let result = match (self.lookup, self.rules) {
            (Lookup::Nowhere(reason), _) => WatchResult {
                no_update_reason: Some(reason.to_owned()),
                ..WatchResult::default()
            },
            (Lookup::BadLabel, _) => WatchResult::failed(BAD_LABEL),
            (Lookup::In(_), Err(error)) => WatchResult::refused(error.to_string()),
            (Lookup::In(image), Ok(_)) => interrupted(&image),
        };
        WatchOutcome {
            facts: self.facts,
            result,
            observed_at: now,
        }
    }
}

/// What is still to be asked about a decided container.
#[derive(Debug, PartialEq, Eq)]
pub enum Question {
    /// Has the tag moved?
    Digest(ImageRef),
    /// What is the candidate? For a tag that moved, with the digest that it has now.
    Details {
        image: ImageRef,
        digest: Option<String>,
    },
}

/// A container that is decided as far as tags go.
pub struct Open {
    pub question: Question,
    outcome: WatchOutcome,
}

impl Open {
    pub fn facts(&self) -> &ContainerFacts {
        &self.outcome.facts
    }

    /// Where details of `image` for this container's platform are kept.
    pub fn key(&self, image: &ImageRef) -> ImageKey {
        ImageKey {
            repository: image.repository_key(),
            reference: image.tag_name().to_owned(),
            platform: self.facts().image.platform(),
        }
    }
}

#[derive(Default)]
pub struct Decided {
    pub outcomes: Vec<WatchOutcome>,
    pub open: Vec<Open>,
    /// For those that stay on a mutable tag.
    pub standing: Candidates,
}

/// The containers of one repository, and what its registry answered.
pub type Answered = (Vec<Check>, Result<Dated<Arc<TagList>>, RegistryError>);

/// Decides about every container whose repository was asked for.
pub fn decide_all(answered: Vec<Answered>, now: DateTime<Utc>) -> Decided {
    let mut decided = Decided::default();
    for (checks, answer) in answered {
        match answer {
            Err(error) => {
                let message = error.to_string();
                let failures = checks.into_iter().map(|check| WatchOutcome {
                    facts: check.facts,
                    result: WatchResult::failed(message.as_str()),
                    observed_at: now,
                });
                decided.outcomes.extend(failures);
            }
            Ok(list) => {
                let tags: Vec<&str> = list.answer.iter().collect();
                for check in checks {
                    decide_one(check, &tags, list.begun, &mut decided);
                }
            }
        }
    }
    decided
}

fn decide_one(check: Check, tags: &[&str], asked_at: DateTime<Utc>, decided: &mut Decided) {
    let (Lookup::In(image), Ok(rules)) = (&check.lookup, &check.rules) else {
        decided.outcomes.push(check.unasked(asked_at));
        return;
    };
    let facts = &check.facts;
    let current = facts.image.tag.value.as_str();
    let decision = decide(current, tags, rules);
    if decision.tag().is_none()
        && let Some(standing) = standing(facts, image, tags, rules)
    {
        decided.standing.insert(facts.id.clone(), standing);
    }
    let (mut result, question) = match decision {
        Decision::Climb { tag, diff } => (
            WatchResult {
                tag: Some(tag.to_owned()),
                semver_diff: Some(diff),
                ..WatchResult::default()
            },
            Tag::parse(tag).map(|tag| Question::Details {
                image: image.with_tag(tag),
                digest: None,
            }),
        ),
        Decision::Stay { reason, suggested } => (
            WatchResult {
                tag: Some(current.to_owned()),
                suggested_tag: suggested.map(str::to_owned),
                no_update_reason: Some(reason.to_string()),
                ..WatchResult::default()
            },
            Tag::parse(current)
                .filter(|_| facts.image.digest.watch)
                .map(|tag| Question::Digest(image.with_tag(tag))),
        ),
    };
    if let (Some(template), Some(tag)) = (&facts.rules.link_template, &result.tag) {
        result.link = link::render(template, tag, &rules.transform(tag));
    }
    let outcome = WatchOutcome {
        facts: check.facts,
        result,
        observed_at: asked_at,
    };
    match question {
        Some(question) => decided.open.push(Open { question, outcome }),
        None => decided.outcomes.push(outcome),
    }
}

/// The tags that may stand for what the container's mutable tag stands for.
fn standing(
    facts: &ContainerFacts,
    image: &ImageRef,
    tags: &[&str],
    rules: &TagRules,
) -> Option<Standing> {
    if !is_asked_for(facts) {
        return None;
    }
    let hint = labelled_version(&facts.labels);
    let found = standing_tags(&facts.image.tag.value, hint.as_deref(), tags, rules);
    let tags: Vec<Tag> = found.into_iter().filter_map(Tag::parse).collect();
    (!tags.is_empty()).then(|| Standing {
        image: image.clone(),
        tags,
    })
}

/// Settles what depends on a digest, and answers with what needs details.
pub fn with_digests(
    open: Vec<Open>,
    digests: &HashMap<ImageRef, Result<Dated<Digest>, RegistryError>>,
    outcomes: &mut Vec<WatchOutcome>,
    now: DateTime<Utc>,
) -> Vec<Open> {
    let mut left = Vec::new();
    for mut one in open {
        let Question::Digest(image) = &one.question else {
            left.push(one);
            continue;
        };
        match digests.get(image) {
            Some(Ok(dated)) => {
                one.outcome.observed_at = one.outcome.observed_at.min(dated.begun);
                let digest = dated.answer.as_str().to_owned();
                one.outcome.result.digest = Some(digest.clone());
                if one.facts().image.digest.is_current(&digest) {
                    outcomes.push(one.outcome);
                } else {
                    one.outcome.result.no_update_reason = None;
                    one.question = Question::Details {
                        image: image.clone(),
                        digest: Some(digest),
                    };
                    left.push(one);
                }
            }
            Some(Err(error)) => {
                let error = WatchResult::failed(error.to_string());
                outcomes.push(failed(one.outcome, error, now));
            }
            None => outcomes.push(failed(one.outcome, interrupted(image), now)),
        }
    }
    left
}

/// Completes candidates with their details. One without an image for this platform is none: what
/// the registry says stands as the error (reliability.md G8).
pub fn with_details(
    open: Vec<Open>,
    details: &HashMap<ImageKey, Result<ImageDetails, String>>,
    outcomes: &mut Vec<WatchOutcome>,
    now: DateTime<Utc>,
) {
    for mut one in open {
        let Question::Details { image, digest } = &one.question else {
            outcomes.push(one.outcome);
            continue;
        };
        match details.get(&one.key(image)) {
            Some(Ok(found)) => {
                // Of a moved tag, the digest that was just looked up.
                let digest = digest.as_ref().unwrap_or(&found.digest).clone();
                one.outcome.result.digest = Some(digest);
                one.outcome.result.created = found.created;
                outcomes.push(one.outcome);
            }
            Some(Err(message)) => {
                let error = WatchResult::failed(message.as_str());
                outcomes.push(failed(one.outcome, error, now));
            }
            None => outcomes.push(failed(one.outcome, interrupted(image), now)),
        }
    }
}

/// What was to be found out and failed now.
fn failed(outcome: WatchOutcome, error: WatchResult, now: DateTime<Utc>) -> WatchOutcome {
    WatchOutcome {
        facts: outcome.facts,
        result: error,
        observed_at: now,
    }
}

fn interrupted(image: &ImageRef) -> WatchResult {
    WatchResult::failed(format!("The check of {image} was interrupted"))
}
