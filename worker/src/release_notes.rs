//! GitHub's releases (docs.github.com, "Releases" of the REST API), asked for people who look at an
//! update. Answers are shared by all workers through Redis, one flight per question; an entity tag
//! makes asking again free, and the pauses that GitHub asks for hold for the whole fleet.

use std::{sync::Arc, time::Duration};

use chrono::Utc;
use http::{HeaderValue, Method, StatusCode, header};
use plimsoll_app::{
    Queue,
    queue::{
        QueueError,
        registry_cache::{Claim, Known},
    },
    release_notes::{ReleaseNotes, ReleaseNotesQuestion},
};
use plimsoll_domain::release_notes::{SourceRepository, release_tags};
use plimsoll_outbound::{Answer, Ask, Outbound, OutboundError, Reach, Tls};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};
use url::Url;

use crate::registry::limits::{Verdict, verdict};

/// An answer this old is as good as a new one.
const FRESH: Duration = Duration::from_secs(3600);
/// How long an answer is kept, to be asked for again by its entity tag.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A flight that takes longer is somebody else's.
const FLIGHT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(50);
/// One person's question, whatever it takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of GitHub's answer. A release lists its files beside its text.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
/// Bytes of a text that are kept.
const MAX_BODY: usize = 64 * 1024;
const MAX_TITLE: usize = 300;
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where GitHub is, and who asks.
#[derive(Clone, Debug)]
pub struct GithubSettings {
    /// The API's base.
    pub base: Url,
    pub token: Option<SecretString>,
    /// What the base may reach.
    pub reach: Reach,
}

impl GithubSettings {
    /// # Errors
    /// A base that is no address.
    pub fn from_settings(settings: &plimsoll_runtime::Settings) -> anyhow::Result<Self> {
        let notes = &settings.release_notes;
        Ok(Self {
            base: Url::parse(&notes.github_url)?,
            token: notes.github_token.as_ref().map(|token| token.0.clone()),
            reach: plimsoll_runtime::reach(settings),
        })
    }
}

/// Why there is no answer, for people.
#[derive(Debug, thiserror::Error)]
pub enum NotesError {
    #[error("GitHub allows no more questions for {} s; a token in PLIMSOLL_RELEASE_NOTES_GITHUB_TOKEN allows more", .0.as_secs())]
    Limited(Duration),
    #[error("GitHub answered {0}")]
    Status(StatusCode),
    #[error("GitHub's answer cannot be read: {0}")]
    Unreadable(serde_json::Error),
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    #[error("another worker asks GitHub and does not hear back")]
    Slow,
    #[error("the answers that workers share are not available: {0}")]
    Queue(#[from] QueueError),
}

/// Asks GitHub. Cheap to clone.
#[derive(Clone)]
pub struct Github {
    inner: Arc<Inner>,
}

struct Inner {
    queue: Queue,
    settings: GithubSettings,
    outbound: Outbound,
    /// The hosts whose repositories this API knows.
    hosts: Vec<String>,
    /// Names the API in what workers share.
    place: String,
}

/// What is kept of one answer.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    etag: Option<String>,
    notes: Option<ReleaseNotes>,
}

/// What is read of a release.
#[derive(Deserialize)]
struct Release {
    name: Option<String>,
    tag_name: String,
    body: Option<String>,
    html_url: String,
    published_at: Option<String>,
}

impl Github {
    pub fn new(queue: Queue, settings: GithubSettings) -> Self {
        let host = settings.base.host_str().unwrap_or_default();
        let mut hosts = vec![host.strip_prefix("api.").unwrap_or(host).to_owned()];
        if !hosts.iter().any(|known| known == "github.com") {
            hosts.push("github.com".to_owned());
        }
        let port = settings.base.port_or_known_default().unwrap_or_default();
        Self {
            inner: Arc::new(Inner {
                queue,
                outbound: Outbound::new(settings.reach, TIMEOUT, Tls::default()),
                place: format!("github:{host}:{port}"),
                hosts,
                settings,
            }),
        }
    }

    /// The notes of the release that `question` is about; `None` where there is no such release, or
    /// the source is not kept at GitHub.
    pub async fn notes(
        &self,
        question: &ReleaseNotesQuestion,
    ) -> Result<Option<ReleaseNotes>, NotesError> {
        let hosts: Vec<&str> = self.inner.hosts.iter().map(String::as_str).collect();
        let Some(repository) = SourceRepository::parse(&question.source, &hosts) else {
            return Ok(None);
        };
        let deadline = Instant::now() + PATIENCE;
        for tag in release_tags(repository.name(), &question.image, &question.tag) {
            if let Some(notes) = self.release(&repository, &tag, deadline).await? {
                return Ok(Some(notes));
            }
        }
        Ok(None)
    }

    /// One release by its tag, from what is known or from GitHub.
    async fn release(
        &self,
        repository: &SourceRepository,
        tag: &str,
        deadline: Instant,
    ) -> Result<Option<ReleaseNotes>, NotesError> {
        let Inner { queue, place, .. } = &*self.inner;
        let key = [format!("{place}:{repository}:{tag}")];
        loop {
            let lookup = queue.registry_lookup(place, &key, FRESH, FLIGHT).await?;
            match lookup.known.into_iter().next() {
                Some(Known::Answer { body, .. }) => {
                    let kept: Kept =
                        serde_json::from_slice(&body).map_err(NotesError::Unreadable)?;
                    return Ok(kept.notes);
                }
                Some(Known::Claimed(claim)) => {
                    let stale = self.stale(&key).await?;
                    let over = lookup.pause.is_some();
                    return self.ask(repository, tag, claim, stale, over).await;
                }
                // What was true an hour ago is better than nothing.
                Some(Known::Paused) => {
                    return match self.stale(&key).await? {
                        Some(kept) => Ok(kept.notes),
                        None => Err(NotesError::Limited(lookup.pause.unwrap_or_default())),
                    };
                }
                Some(Known::InFlight) | None => {}
            }
            if Instant::now() >= deadline {
                return Err(NotesError::Slow);
            }
            sleep(POLL).await;
        }
    }

    /// An answer that is kept, however old.
    async fn stale(&self, key: &[String; 1]) -> Result<Option<Kept>, NotesError> {
        let Inner { queue, place, .. } = &*self.inner;
        let lookup = queue.registry_lookup(place, key, KEPT, FLIGHT).await?;
        Ok(match lookup.known.into_iter().next() {
            Some(Known::Answer { body, .. }) => serde_json::from_slice(&body).ok(),
            // Nothing is kept: what was claimed by looking is given up.
            Some(Known::Claimed(claim)) => {
                queue.registry_store(&[(claim, None)], KEPT).await?;
                None
            }
            _ => None,
        })
    }

    /// Asks GitHub, and shares what it says. `paused`: GitHub has limited us, and the pause is
    /// over.
    async fn ask(
        &self,
        repository: &SourceRepository,
        tag: &str,
        claim: Claim,
        stale: Option<Kept>,
        paused: bool,
    ) -> Result<Option<ReleaseNotes>, NotesError> {
        let etag = stale.as_ref().and_then(|kept| kept.etag.as_deref());
        let answer = self.send(repository, tag, etag).await;
        let queue = &self.inner.queue;
        let heard = match answer {
            Ok(answer) => self.heard(&answer, stale, paused).await,
            Err(error) => Err(error.into()),
        };
        let body = heard
            .as_ref()
            .ok()
            .and_then(|kept| serde_json::to_vec(kept).ok());
        queue.registry_store(&[(claim, body)], KEPT).await?;
        heard.map(|kept| kept.notes)
    }

    async fn send(
        &self,
        repository: &SourceRepository,
        tag: &str,
        etag: Option<&str>,
    ) -> Result<Answer, OutboundError> {
        let settings = &self.inner.settings;
        let mut url = settings.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            // A tag with a slash is one segment: it is percent-encoded.
            path.pop_if_empty().extend([
                "repos",
                repository.owner(),
                repository.name(),
                "releases",
                "tags",
                tag,
            ]);
        }
        let mut ask = Ask::get(url).limit(MAX_ANSWER).header(
            header::ACCEPT,
            HeaderValue::from_static("application/vnd.github+json"),
        );
        if let Some(etag) = etag.and_then(|etag| HeaderValue::from_str(etag).ok()) {
            ask = ask.header(header::IF_NONE_MATCH, etag);
        }
        if let Some(token) = &settings.token
            && let Ok(value) = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        {
            ask = ask.secret(header::AUTHORIZATION, value);
        }
        self.inner.outbound.send(ask).await
    }

    async fn heard(
        &self,
        answer: &Answer,
        stale: Option<Kept>,
        paused: bool,
    ) -> Result<Kept, NotesError> {
        let Inner { queue, place, .. } = &*self.inner;
        // GitHub says 403 where others say 429.
        let headers = &answer.headers;
        let exhausted = headers
            .get("x-ratelimit-remaining")
            .is_some_and(|left| left == "0");
        let status = match answer.status {
            StatusCode::FORBIDDEN if exhausted || headers.contains_key(header::RETRY_AFTER) => {
                StatusCode::TOO_MANY_REQUESTS
            }
            status => status,
        };
        let judged = verdict(&Method::GET, status, headers, Utc::now());
        if let Verdict::Limited(pause) = judged {
            let pause = queue.registry_limited(place, pause).await?;
            if !answer.status.is_success() && answer.status != StatusCode::NOT_MODIFIED {
                return stale.ok_or(NotesError::Limited(pause));
            }
        } else if paused {
            queue.registry_lifted(place).await?;
        }
        match (answer.status, stale) {
            (StatusCode::NOT_MODIFIED, Some(kept)) => Ok(kept),
            (StatusCode::NOT_FOUND, _) => Ok(Kept {
                etag: None,
                notes: None,
            }),
            (status, _) if status.is_success() => Ok(Kept {
                etag: headers
                    .get(header::ETAG)
                    .and_then(|etag| etag.to_str().ok())
                    .map(str::to_owned),
                notes: Some(
                    answer
                        .json::<Release>()
                        .map_err(NotesError::Unreadable)?
                        .notes(),
                ),
            }),
            (status, _) => Err(NotesError::Status(status)),
        }
    }
}

impl Release {
    fn notes(self) -> ReleaseNotes {
        let title = self.name.filter(|name| !name.trim().is_empty());
        let is_web = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        ReleaseNotes {
            title: cut(title.unwrap_or(self.tag_name), MAX_TITLE),
            body: cut(self.body.unwrap_or_default(), MAX_BODY),
            // It becomes a link in browsers.
            url: Some(self.html_url)
                .filter(|url| is_web(url))
                .unwrap_or_default(),
            published_at: self.published_at,
            provider: "github".to_owned(),
        }
    }
}

/// At most `limit` bytes, without control characters that are no line ends or tabs.
fn cut(mut text: String, limit: usize) -> String {
    text.retain(|c| !c.is_control() || matches!(c, '\n' | '\t'));
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit.saturating_sub('…'.len_utf8())));
        text.push('…');
    }
    text
}
