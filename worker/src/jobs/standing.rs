//! Which tag of one version has the image that a mutable tag stands for
//! (`WatchResult::recommended_tag`).
//!
//! Registries do not say which tags a digest has, so likely tags are asked for theirs: a few per
//! check, and each at most once a day for the whole fleet (`tag_digests`). That comes after the
//! results are written, and nothing fails by it.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use plimsoll_app::{
    AppError, Store,
    observations::{Amended, WatchOutcome},
    store::tag_digests::{TagDigest, TagKey},
};
use plimsoll_domain::{
    check_status::is_mutable,
    container::{ContainerFacts, WatchResult},
    ids::ContainerId,
    image::{Digest, ImageRef, Tag},
};

use crate::registry::{Freshness, Registries, RegistryError};

/// Tags that are asked for their digests in one check: first those that it is most often, then
/// others.
const WAVES: [usize; 2] = [2, 4];
/// Mutable tags that one cycle finds out about; the next one goes on.
const MAX_OPEN: usize = 50;
/// How long an answer counts.
const KEEP: TimeDelta = TimeDelta::days(1);
/// What another worker asked a moment ago is good enough.
const RECENT: std::time::Duration = std::time::Duration::from_secs(120);

/// The tags that may have the image of one container's mutable tag, the likeliest first.
#[derive(Clone, Debug)]
pub struct Standing {
    pub image: ImageRef,
    pub tags: Vec<Tag>,
}

impl Standing {
    fn key(&self, tag: &Tag) -> TagKey {
        TagKey {
            repository: self.image.repository_key(),
            tag: tag.as_str().to_owned(),
        }
    }
}

/// By container.
pub type Candidates = HashMap<ContainerId, Standing>;

/// What is known of tags' digests.
#[derive(Default)]
pub struct Known(HashMap<TagKey, TagDigest>);

impl Known {
    /// One round trip for all of them, and none for none.
    pub async fn read(store: &Store, candidates: &Candidates) -> Result<Self, AppError> {
        let keys: BTreeSet<TagKey> = candidates
            .values()
            .flat_map(|standing| standing.tags.iter().map(|tag| standing.key(tag)))
            .collect();
        let keys: Vec<TagKey> = keys.into_iter().collect();
        let found = store.tag_digests(&keys).await.map_err(AppError::from)?;
        Ok(Self(found.into_iter().collect()))
    }

    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// The best of the tags that had this digest, whenever that was seen.
    fn tag_of<'s>(&self, digest: &str, standing: &'s Standing) -> Option<&'s str> {
        let has = |tag: &&Tag| {
            let known = self.0.get(&standing.key(tag));
            known.is_some_and(|known| known.digest.as_deref() == Some(digest))
        };
        // They are in the order of likelihood; what is known is no guess any more, and the tag
        // that says most is the longest one of the same version, which comes first there too.
        standing.tags.iter().find(has).map(Tag::as_str)
    }

    /// Whether anything remains to be asked, and what first: where the tag was, then the likely
    /// ones that nobody has looked at since.
    fn questions(&self, digest: &str, standing: &Standing, now: DateTime<Utc>) -> Vec<Tag> {
        let fresh = |known: &TagDigest| now - known.looked_at < KEEP;
        let known = |tag: &Tag| self.0.get(&standing.key(tag));
        let here =
            |tag: &Tag| known(tag).is_some_and(|known| known.digest.as_deref() == Some(digest));
        let settled = standing
            .tags
            .iter()
            .any(|tag| here(tag) && known(tag).is_some_and(fresh));
        if settled {
            return Vec::new();
        }
        let open = |tag: &&Tag| !known(tag).is_some_and(fresh);
        let (again, new): (Vec<&Tag>, Vec<&Tag>) =
            standing.tags.iter().filter(open).partition(|tag| here(tag));
        again.into_iter().chain(new).cloned().collect()
    }
}

/// The digest whose tag is looked for: what the mutable tag stands for now, or, where nobody looks
/// at that, what runs.
fn wanted(outcome: &WatchOutcome) -> Option<&str> {
    if outcome.result.error.is_some() {
        return None;
    }
    let running = &outcome.facts.image.digest;
    outcome.result.digest.as_deref().or(running.repo.as_deref())
}

/// Whether a container has a tag for which a standing one is worth knowing.
pub fn is_asked_for(facts: &ContainerFacts) -> bool {
    is_mutable(facts) && !facts.image.tag.value.is_empty()
}

/// Writes into the results what is known already.
pub fn fill(outcomes: &mut [WatchOutcome], candidates: &Candidates, known: &Known) {
    for outcome in outcomes {
        let Some(standing) = candidates.get(&outcome.facts.id) else {
            continue;
        };
        let found = wanted(outcome).and_then(|digest| known.tag_of(digest, standing));
        outcome.result.recommended_tag = found.map(str::to_owned);
    }
}

/// Results whose tag is still to be looked for, and those whose answer is a day old.
pub fn open(
    outcomes: &[WatchOutcome],
    candidates: &Candidates,
    known: &Known,
    now: DateTime<Utc>,
) -> Vec<WatchOutcome> {
    let is_open = |outcome: &&WatchOutcome| {
        let standing = candidates.get(&outcome.facts.id);
        let pair = wanted(outcome).zip(standing);
        pair.is_some_and(|(digest, standing)| !known.questions(digest, standing, now).is_empty())
    };
    outcomes.iter().filter(is_open).cloned().collect()
}

/// Asks the registries for what is not in `known`, and answers with what it found beside the
/// results.
pub async fn look(
    store: &Store,
    registries: &Registries,
    mut outcomes: Vec<WatchOutcome>,
    candidates: &Candidates,
    mut known: Known,
) -> Result<Vec<Amended>, AppError> {
    let before: Vec<WatchResult> = outcomes.iter().map(|one| one.result.clone()).collect();
    for wave in WAVES {
        let now = Utc::now();
        let mut questions: BTreeSet<ImageRef> = BTreeSet::new();
        let mut sets: BTreeSet<(String, &str)> = BTreeSet::new();
        for outcome in &outcomes {
            let standing = candidates.get(&outcome.facts.id);
            let Some((digest, standing)) = wanted(outcome).zip(standing) else {
                continue;
            };
            let open = known.questions(digest, standing, now);
            let set = (standing.image.to_string(), digest);
            if open.is_empty() || (sets.len() >= MAX_OPEN && !sets.contains(&set)) {
                continue;
            }
            sets.insert(set);
            let open = open.into_iter().take(wave);
            questions.extend(open.map(|tag| standing.image.with_tag(tag)));
        }
        if questions.is_empty() {
            break;
        }
        let freshness = Freshness::Cached { max_age: RECENT };
        let answers = registries.digests_many(questions, freshness).await;
        let answered = digests(answers);
        store
            .save_tag_digests(&answered)
            .await
            .map_err(AppError::from)?;
        let looked_at = Utc::now();
        known.0.extend(answered.into_iter().map(|(key, digest)| {
            let found = TagDigest { digest, looked_at };
            (key, found)
        }));
    }
    fill(&mut outcomes, candidates, &known);
    let pairs = before.into_iter().zip(outcomes);
    Ok(pairs
        .filter(|(before, outcome)| *before != outcome.result)
        .map(|(before, outcome)| Amended { before, outcome })
        .collect())
}

/// What is an answer: a digest, or that there is none. Whatever else went wrong is asked again.
fn digests(
    answers: HashMap<ImageRef, Result<Digest, RegistryError>>,
) -> Vec<(TagKey, Option<String>)> {
    answers
        .into_iter()
        .filter_map(|(image, answer)| {
            let digest = match answer {
                Ok(digest) => Some(digest.as_str().to_owned()),
                Err(RegistryError::NotFound { .. }) => None,
                Err(_) => return None,
            };
            let key = TagKey {
                repository: image.repository_key(),
                tag: image.tag_name().to_owned(),
            };
            Some((key, digest))
        })
        .collect()
}
