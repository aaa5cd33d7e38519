//! From questions to answers with as few requests as possible: this process' memory, then the
//! fleet's cache, then the registry, ten requests at a time.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::Utc;
use plimsoll_app::{
    queue::registry_cache::{Claim, Known},
    totals::{Tally, Total},
};
use plimsoll_domain::image::{Digest, ImageRef};
use tokio::{sync::mpsc, task::JoinSet};
use tracing::Instrument;

use super::{
    Freshness,
    budget::Shared,
    error::RegistryError,
    host::{self, Repository},
    manifest,
    shelf::{Begin, Dated, Flight, KEEP, Shelf},
    tags::{self, TagList},
    upstream::Upstream,
};

/// How long a claim keeps other workers from fetching the same. A crash delays them by this much.
const CLAIM: Duration = Duration::from_secs(30);
/// How often a worker looks whether another one has come back.
const POLL: Duration = Duration::from_millis(20);
const SLOWEST_POLL: Duration = Duration::from_millis(250);
/// Answers are stored in pieces of this many, or of this age, or when all are there.
const STORE_AT: usize = 64;
const STORE_AFTER: Duration = Duration::from_millis(300);
/// A larger answer is not worth a place in Redis.
const MAX_SHARED: usize = 4 * 1024 * 1024;

/// Something that is asked of a registry once for everyone.
pub(super) trait Question: Clone + Eq + Hash + Send + Sync + 'static {
    type Answer: Clone + Send + Sync + 'static;
    /// What is counted of answers that were known, and of those that were not.
    const COUNTED: Option<(Total, Total)>;

    fn registry(&self) -> String;
    /// Unique among all questions of its kind.
    fn key(&self) -> String;
    fn ask(
        &self,
        upstream: &Upstream,
    ) -> impl Future<Output = Result<Self::Answer, RegistryError>> + Send;
    fn encode(answer: &Self::Answer) -> Vec<u8>;
    fn decode(bytes: &[u8]) -> Option<Self::Answer>;
    fn weight(answer: &Self::Answer) -> usize;
}

impl Question for Repository {
    type Answer = Arc<TagList>;
    const COUNTED: Option<(Total, Total)> = None;

    fn registry(&self) -> String {
        Repository::registry(self).to_owned()
    }

    fn key(&self) -> String {
        format!("tags:{self}")
    }

    async fn ask(&self, upstream: &Upstream) -> Result<Arc<TagList>, RegistryError> {
        tags::list(upstream, self).await.map(Arc::new)
    }

    fn encode(answer: &Arc<TagList>) -> Vec<u8> {
        answer.encode()
    }

    fn decode(bytes: &[u8]) -> Option<Arc<TagList>> {
        TagList::decode(bytes).map(Arc::new)
    }

    fn weight(answer: &Arc<TagList>) -> usize {
        answer.weight()
    }
}

impl Question for ImageRef {
    type Answer = Digest;
    const COUNTED: Option<(Total, Total)> =
        Some((Total::DigestCacheHits, Total::DigestCacheMisses));

    fn registry(&self) -> String {
        host::canonical(ImageRef::registry(self))
    }

    fn key(&self) -> String {
        format!("digest:{self}")
    }

    async fn ask(&self, upstream: &Upstream) -> Result<Digest, RegistryError> {
        manifest::digest(upstream, self).await
    }

    fn encode(answer: &Digest) -> Vec<u8> {
        answer.as_str().as_bytes().to_vec()
    }

    fn decode(bytes: &[u8]) -> Option<Digest> {
        Digest::parse(std::str::from_utf8(bytes).ok()?)
    }

    fn weight(answer: &Digest) -> usize {
        answer.as_str().len()
    }
}

type Results<Q> = mpsc::Sender<(Q, Result<Dated<<Q as Question>::Answer>, RegistryError>)>;

/// The questions of one caller to one registry.
pub(super) struct Round<Q: Question> {
    pub upstream: Arc<Upstream>,
    pub shared: Arc<Shared>,
    pub shelf: Shelf<Q::Answer>,
    pub freshness: Freshness,
    pub results: Results<Q>,
    pub tally: Tally,
}

/// A question that this process has to find the answer to.
struct Open<Q: Question> {
    question: Q,
    flight: Flight<Q::Answer>,
}

impl<Q: Question> Round<Q> {
    /// Answers all `questions`; ends early when nobody listens any more.
    pub(super) async fn run(&self, questions: &[Q]) {
        for batch in questions.chunks(self.upstream.budget.batch()) {
            if self.results.is_closed() {
                return;
            }
            self.run_batch(batch.to_vec()).await;
        }
    }

    async fn run_batch(&self, mut pending: Vec<Q>) {
        while !pending.is_empty() && !self.results.is_closed() {
            let mut open = Vec::new();
            let mut joined = Vec::new();
            let asked = pending.len();
            for question in pending.drain(..) {
                match self.shelf.begin(&question.key(), self.freshness) {
                    Begin::Known(answer) => self.tell(question, Ok(answer)).await,
                    Begin::Mine(flight) => open.push(Open { question, flight }),
                    Begin::Joined(outcome) => joined.push((question, outcome)),
                }
            }
            self.count_hits(asked - open.len() - joined.len());
            let mut pause = POLL;
            while !open.is_empty() {
                let (mine, elsewhere) = self.look_up(open).await;
                self.fetch(mine).await;
                open = elsewhere;
                if !open.is_empty() {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(SLOWEST_POLL);
                }
            }
            // Only now, holding no flight that another round could be waiting for.
            for (question, mut outcome) in joined {
                let told = outcome.wait_for(Option::is_some).await;
                let told = told.ok().and_then(|outcome| outcome.clone());
                match told {
                    Some(Ok(dated)) if self.freshness.accepts(dated.begun, Utc::now()) => {
                        self.count_hits(1);
                        self.tell(question, Ok(dated)).await;
                    }
                    Some(Err(error)) => self.tell(question, Err(error)).await,
                    // Older than asked for, or abandoned.
                    _ => pending.push(question),
                }
            }
        }
    }

    /// Asks the fleet's cache in one round trip. Returns what to fetch, and what another worker
    /// fetches.
    async fn look_up(&self, open: Vec<Open<Q>>) -> (Vec<(Open<Q>, Option<Claim>)>, Vec<Open<Q>>) {
        let keys: Vec<String> = open.iter().map(|open| open.question.key()).collect();
        let now = Utc::now();
        let max_age = self.freshness.max_age(now);
        let registry = self.upstream.name.clone();
        let reply = self
            .shared
            .ask(|queue| async move {
                queue
                    .registry_lookup(&registry, &keys, max_age, CLAIM)
                    .await
            })
            .await;
        let Some(reply) = reply else {
            return (open.into_iter().map(|open| (open, None)).collect(), vec![]);
        };
        if let Some(left) = reply.pause {
            self.upstream.budget.heard_of_pause(left);
        }
        let mut mine = Vec::new();
        let mut elsewhere = Vec::new();
        let mut hits = 0;
        for (open, known) in open.into_iter().zip(reply.known) {
            match known {
                Known::Answer { body, age } => match Q::decode(&body) {
                    Some(answer) => {
                        let age = chrono::Duration::from_std(age).unwrap_or(KEEP);
                        let begun = now - age;
                        hits += 1;
                        self.land(open, Ok(Dated { answer, begun })).await;
                    }
                    None => mine.push((open, None)),
                },
                Known::Claimed(claim) => mine.push((open, Some(claim))),
                Known::InFlight => elsewhere.push(open),
                Known::Paused => {
                    let error = RegistryError::RateLimited {
                        registry: self.upstream.name.clone(),
                        until: now + reply.pause.unwrap_or_default(),
                    };
                    self.land(open, Err(error)).await;
                }
            }
        }
        self.count_hits(hits);
        (mine, elsewhere)
    }

    fn count_hits(&self, count: usize) {
        self.count(Q::COUNTED.map(|(hits, _)| hits), count);
    }

    fn count(&self, total: Option<Total>, count: usize) {
        if let Some(total) = total.filter(|_| count > 0) {
            self.tally.add(total, &[], count as f64);
        }
    }

    /// Asks the registry, as many at a time as it has connections, and stores what it says.
    async fn fetch(&self, questions: Vec<(Open<Q>, Option<Claim>)>) {
        self.count(Q::COUNTED.map(|(_, misses)| misses), questions.len());
        let mut asked = JoinSet::new();
        for (open, claim) in questions {
            let upstream = self.upstream.clone();
            let asking = async move {
                let begun = Utc::now();
                let outcome = open.question.ask(&upstream).await;
                (open, claim, outcome.map(|answer| Dated { answer, begun }))
            };
            asked.spawn(asking.in_current_span());
        }
        let mut unstored: Vec<(Claim, Option<Vec<u8>>)> = Vec::new();
        let mut stored_at = Instant::now();
        while let Some(done) = asked.join_next().await {
            // A panic loses one question, whose caller hears that it is missing.
            let Ok((open, claim, outcome)) = done else {
                continue;
            };
            if let Some(claim) = claim {
                let body = outcome.as_ref().ok().map(|dated| Q::encode(&dated.answer));
                unstored.push((claim, body.filter(|body| body.len() <= MAX_SHARED)));
            }
            self.land(open, outcome).await;
            if self.results.is_closed() {
                asked.abort_all();
            }
            let due =
                asked.is_empty() || unstored.len() >= STORE_AT || stored_at.elapsed() > STORE_AFTER;
            if due && !unstored.is_empty() {
                let batch = std::mem::take(&mut unstored);
                let keep = KEEP.to_std().unwrap_or_default();
                self.shared
                    .ask(|queue| async move { queue.registry_store(&batch, keep).await })
                    .await;
                stored_at = Instant::now();
            }
        }
    }

    async fn land(&self, open: Open<Q>, outcome: Result<Dated<Q::Answer>, RegistryError>) {
        let Open { question, flight } = open;
        let weight = outcome.as_ref().map_or(0, |dated| Q::weight(&dated.answer));
        flight.land(outcome.clone(), weight);
        self.tell(question, outcome).await;
    }

    async fn tell(&self, question: Q, outcome: Result<Dated<Q::Answer>, RegistryError>) {
        // A caller that has gone away needs no answer.
        let _ = self.results.send((question, outcome)).await;
    }
}

/// Distinct questions, by registry.
pub(super) fn by_registry<Q: Question>(
    questions: impl IntoIterator<Item = Q>,
) -> HashMap<String, Vec<Q>> {
    let mut groups: HashMap<String, Vec<Q>> = HashMap::new();
    let mut seen = std::collections::HashSet::new();
    for question in questions {
        if seen.insert(question.clone()) {
            groups
                .entry(question.registry())
                .or_default()
                .push(question);
        }
    }
    groups
}
