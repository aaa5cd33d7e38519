//! The watch job: look at the engine, ask the registries, decide, write.
//!
//! One question per distinct repository, one per distinct image whose digest is watched, and the
//! details of a candidate only when it is first seen; at the end, a few for mutable tags
//! (`standing`). Registries are asked about what is known while the engine is still being looked
//! at. What answers is written; a registry that hangs holds up the containers of its own images and
//! no others.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::Utc;
use futures::{FutureExt, Stream, StreamExt, future::BoxFuture, stream};
use plimsoll_app::{
    AppError,
    observations::{ImageDetails, ImageKey, KnownContainer, WatchOutcome},
    watches::CACHE_TTL,
};
use plimsoll_domain::{
    container::ContainerFacts,
    ids::ContainerId,
    image::{Digest, ImageRef},
    job::{JobSpec, WatchCause},
};
use tokio::{task::spawn_blocking, time::timeout};

use super::{
    JobContext, Outcome,
    standing::{self, Candidates, Known},
    watch_result::{self, Answered, Check, Open, Question},
};
use crate::{
    registry::{Dated, Freshness, Platform, Registries, RegistryError, Repository, TagList},
    watchers::{InventoryError, Watcher},
};

/// Answers that come this close after each other are written together.
const TOGETHER: Duration = Duration::from_millis(250);
/// Details of new candidates that are fetched at once.
const PARALLEL: usize = 10;
/// The longest that a cycle looks for the versions of mutable tags, and where someone waits.
const LOOK: Duration = Duration::from_secs(60);
const LOOK_SOON: Duration = Duration::from_secs(10);
/// When a watch is taken up again that the database was away for.
const RETRY: Duration = Duration::from_secs(2);

/// Why a cycle came to nothing. What fails for one registry or container is no error of the cycle:
/// it stands in that container's result.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error(transparent)]
    Store(#[from] AppError),
}

/// Who wants to know, and so how old the registries' answers may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// What another worker learnt a moment ago will do.
    BySchedule,
    /// Someone waits: everything is asked now.
    ByRequest,
}

/// The kind of these jobs, `JobSpec::kind`.
pub const KIND: &str = "watch";

/// Runs the watch that the job asks for.
pub async fn run(watcher: Watcher, context: JobContext) -> Outcome {
    let JobSpec::Watch {
        containers,
        fresh,
        cause,
    } = &context.job.spec
    else {
        let kind = context.job.spec.kind();
        return Outcome::Failed(format!("a job of kind {kind} is no watch"));
    };
    let asked = match fresh {
        true => Asked::ByRequest,
        false => Asked::BySchedule,
    };
    until_shutdown(handle(&watcher, containers, asked, *cause), &context).await
}

/// A watch to its end, or until the process ends.
pub(super) async fn until_shutdown(
    work: impl Future<Output = Result<(), WatchError>>,
    context: &JobContext,
) -> Outcome {
    tokio::select! {
        watched = work => match watched {
            Ok(()) => Outcome::Done,
            Err(WatchError::Store(AppError::Unavailable { message, .. })) => Outcome::Later {
                after: RETRY,
                why: message,
            },
            Err(error) => Outcome::Failed(error.to_string()),
        },
        // A watch can be begun again by anyone, and what it has written stays right.
        () = context.shutdown.cancelled() => Outcome::HandedOver,
    }
}

/// Watches everything on the engine, or the given containers, watched or not.
pub async fn handle(
    watcher: &Watcher,
    containers: &[ContainerId],
    asked: Asked,
    cause: WatchCause,
) -> Result<(), WatchError> {
    let freshness = match asked {
        Asked::BySchedule => Freshness::Cached { max_age: CACHE_TTL },
        Asked::ByRequest => Freshness::NotOlderThan(Utc::now()),
    };
    let app = watcher.app();
    let known = facts(watcher, containers).await?;
    let before: Vec<KnownContainer> = known.iter().map(KnownContainer::from).collect();
    let known = checks(watcher, containers, known);
    let mut cycle = Cycle {
        watcher,
        freshness,
        cause,
        asked: HashSet::new(),
    };
    let began = app.tell_watch(watcher.reference(), "checking", known.len());
    let early = cycle.ask(&known);
    let look = async {
        match containers {
            [] => watcher.inventory().recheck(&before).await,
            some => {
                let changes = watcher.inventory().refresh(some).await?;
                Ok(!changes.is_empty())
            }
        }
    };
    let (changed, early, ()) = tokio::join!(look, gather(early), began);
    let (checks, late) = if changed? {
        let checks = checks(watcher, containers, facts(watcher, containers).await?);
        let late = cycle.ask(&checks);
        (checks, Some(late))
    } else {
        (known, None)
    };
    let total = checks.len();
    let unnamed = cycle.settle(checks, early, late).await?;
    app.tell_watch(watcher.reference(), "complete", total).await;
    if containers.is_empty() {
        let store = watcher.app().store();
        store
            .watcher_ran(watcher.reference())
            .await
            .map_err(AppError::from)?;
    }
    let time = match asked {
        Asked::BySchedule => LOOK,
        Asked::ByRequest => LOOK_SOON,
    };
    match timeout(time, cycle.name(unnamed)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the next cycle looks for standing tags"),
        Err(_) => tracing::debug!("the next cycle goes on looking for standing tags"),
    }
    Ok(())
}

/// What the store has of the containers that a cycle checks, or of the given ones.
async fn facts(
    watcher: &Watcher,
    containers: &[ContainerId],
) -> Result<Vec<ContainerFacts>, WatchError> {
    let (store, reference) = (watcher.app().store(), watcher.reference());
    let facts = match containers {
        [] => {
            let read = watcher.inventory().checked().await?;
            read.values().map(|(_, facts)| (**facts).clone()).collect()
        }
        some => {
            let found = store.container_facts_by_id(reference, some).await;
            found.map_err(AppError::from)?
        }
    };
    Ok(facts)
}

/// What is to be checked: what somebody names, watched or not, and else what is watched.
fn checks(
    watcher: &Watcher,
    containers: &[ContainerId],
    mut facts: Vec<ContainerFacts>,
) -> Vec<Check> {
    if containers.is_empty() {
        facts.retain(|facts| watcher.selects(facts));
    }
    facts.into_iter().map(Check::new).collect()
}

type TagAnswer = (Repository, Result<Dated<Arc<TagList>>, RegistryError>);

/// Answers so far, and the stream that brings the others.
struct Early<S> {
    answers: Vec<TagAnswer>,
    rest: Option<S>,
}

/// Takes what comes in one go: all of it, unless a registry takes its time.
async fn gather<S: Stream<Item = TagAnswer> + Unpin>(mut stream: S) -> Early<S> {
    let mut answers = Vec::new();
    loop {
        match timeout(TOGETHER, stream.next()).await {
            Ok(Some(answer)) => answers.push(answer),
            Ok(None) => {
                return Early {
                    answers,
                    rest: None,
                };
            }
            Err(_) => {
                return Early {
                    answers,
                    rest: Some(stream),
                };
            }
        }
    }
}

/// Results on mutable tags, whose versions are still to be looked for.
#[derive(Default)]
struct Unnamed {
    outcomes: Vec<WatchOutcome>,
    candidates: Candidates,
    known: Known,
}

impl Unnamed {
    fn add(&mut self, other: Self) {
        self.outcomes.extend(other.outcomes);
        self.candidates.extend(other.candidates);
        self.known.extend(other.known);
    }
}

struct Cycle<'w> {
    watcher: &'w Watcher,
    freshness: Freshness,
    cause: WatchCause,
    asked: HashSet<Repository>,
}

impl Cycle<'_> {
    fn registries(&self) -> &Registries {
        self.watcher.registries()
    }

    /// Asks for the tags of the repositories that have not been asked for yet.
    fn ask(&mut self, checks: &[Check]) -> impl Stream<Item = TagAnswer> + Send + Unpin + use<> {
        let new: BTreeSet<Repository> = checks
            .iter()
            .filter_map(Check::repository)
            .filter(|repository| !self.asked.contains(repository))
            .collect();
        self.asked.extend(new.iter().cloned());
        self.registries().tags_stream(new, self.freshness)
    }

    /// Writes results as their answers come, in as few batches as the registries' speed allows.
    async fn settle(
        &self,
        checks: Vec<Check>,
        early: Early<impl Stream<Item = TagAnswer> + Unpin>,
        late: Option<impl Stream<Item = TagAnswer> + Unpin>,
    ) -> Result<Unnamed, WatchError> {
        let mut waiting: HashMap<Repository, Vec<Check>> = HashMap::new();
        let mut settled = Vec::new();
        for check in checks {
            match check.repository() {
                Some(repository) => waiting.entry(repository).or_default().push(check),
                None => settled.push(check.unasked(Utc::now())),
            }
        }
        let mut rest = stream::select(
            stream::iter(early.rest).flatten(),
            stream::iter(late).flatten(),
        );
        let mut batch = early.answers;
        let mut unnamed = Unnamed::default();
        let mut open = true;
        loop {
            while open {
                match timeout(TOGETHER, rest.next()).await {
                    Ok(Some(answer)) => batch.push(answer),
                    Ok(None) => open = false,
                    Err(_) => break,
                }
            }
            let answered: Vec<_> = std::mem::take(&mut batch)
                .into_iter()
                .filter_map(|(repository, answer)| Some((waiting.remove(&repository)?, answer)))
                .collect();
            unnamed.add(self.write(answered, std::mem::take(&mut settled)).await?);
            if !open {
                return Ok(unnamed);
            }
            match rest.next().await {
                Some(answer) => batch.push(answer),
                None => return Ok(unnamed),
            }
        }
    }

    /// Decides and writes one batch.
    async fn write(
        &self,
        answered: Vec<Answered>,
        settled: Vec<WatchOutcome>,
    ) -> Result<Unnamed, WatchError> {
        // A repository may have 100,000 tags, and a container a slow expression.
        let decided = move || watch_result::decide_all(answered, Utc::now());
        let decided = spawn_blocking(decided).await;
        let decided =
            decided.map_err(|e| AppError::Internal(format!("a decision ended badly: {e}")))?;
        let (mut outcomes, open) = (settled, decided.open);
        let candidates = decided.standing;
        outcomes.extend(decided.outcomes);
        let digests = self.digests(&open).await;
        let open = watch_result::with_digests(open, &digests, &mut outcomes, Utc::now());
        let mut fetched = Vec::new();
        if !open.is_empty() {
            let details = self.details(&open, &mut fetched).await?;
            watch_result::with_details(open, &details, &mut outcomes, Utc::now());
        }
        let app = self.watcher.app();
        let known = Known::read(app.store(), &candidates).await?;
        standing::fill(&mut outcomes, &candidates, &known);
        app.record_watch(&outcomes, &fetched).await?;
        if self.cause.may_update() {
            app.update_automatically(&outcomes).await?;
        }
        let outcomes = standing::open(&outcomes, &candidates, &known, Utc::now());
        Ok(Unnamed {
            outcomes,
            candidates,
            known,
        })
    }

    /// Looks for the versions that mutable tags stand for, and writes what it finds.
    async fn name(&self, unnamed: Unnamed) -> Result<(), AppError> {
        if unnamed.outcomes.is_empty() {
            return Ok(());
        }
        let (app, registries) = (self.watcher.app(), self.registries());
        let found = standing::look(
            app.store(),
            registries,
            unnamed.outcomes,
            &unnamed.candidates,
            unnamed.known,
        );
        app.amend_watch(&found.await?).await?;
        Ok(())
    }

    /// One question per distinct image whose digest matters.
    async fn digests(
        &self,
        open: &[Open],
    ) -> HashMap<ImageRef, Result<Dated<Digest>, RegistryError>> {
        let wanted: BTreeSet<ImageRef> = open
            .iter()
            .filter_map(|open| match &open.question {
                Question::Digest(image) => Some(image.clone()),
                Question::Details { .. } => None,
            })
            .collect();
        match wanted.is_empty() {
            true => HashMap::new(),
            false => {
                let answers = self.registries().digests_stream(wanted, self.freshness);
                answers.collect().await
            }
        }
    }

    /// What is known of the candidates; what had to be fetched for it is added to `fetched`.
    async fn details(
        &self,
        open: &[Open],
        fetched: &mut Vec<(ImageKey, ImageDetails)>,
    ) -> Result<HashMap<ImageKey, Result<ImageDetails, String>>, WatchError> {
        let mut wanted = HashMap::new();
        for open in open {
            if let Question::Details { image, digest } = &open.question {
                wanted.insert(open.key(image), (image, open.facts(), digest));
            }
        }
        let keys: Vec<ImageKey> = wanted.keys().cloned().collect();
        let stored = self
            .watcher
            .app()
            .store()
            .image_details(&keys)
            .await
            .map_err(AppError::from)?;
        let mut known = HashMap::new();
        for (key, details) in stored {
            // A tag that has moved since is another image.
            let current = |w: &(_, _, &Option<String>)| {
                w.2.as_ref().is_none_or(|digest| *digest == details.digest)
            };
            if wanted.get(&key).is_some_and(current) {
                known.insert(key, Ok(details));
            }
        }
        wanted.retain(|key, _| !known.contains_key(key));
        let questions: Vec<BoxFuture<'_, _>> = wanted
            .into_iter()
            .map(|(key, (image, facts, _))| self.fetch(key, image, facts).boxed())
            .collect();
        let mut answers = stream::iter(questions).buffer_unordered(PARALLEL);
        while let Some((key, answer)) = answers.next().await {
            if let Ok(details) = &answer {
                fetched.push((key.clone(), details.clone()));
            }
            known.insert(key, answer);
        }
        Ok(known)
    }

    async fn fetch(
        &self,
        key: ImageKey,
        image: &ImageRef,
        facts: &ContainerFacts,
    ) -> (ImageKey, Result<ImageDetails, String>) {
        let running = &facts.image;
        let platform = Platform::new(
            &running.os,
            &running.architecture,
            running.variant.as_deref(),
        );
        let answer = match self.registries().details(image, &platform).await {
            Ok(found) => Ok(ImageDetails {
                digest: found.digest.as_str().to_owned(),
                created: found.created,
                labels: serde_json::to_value(&found.labels).ok(),
            }),
            Err(error) => Err(error.to_string()),
        };
        (key, answer)
    }
}
