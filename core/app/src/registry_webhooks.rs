//! What registries tell of pushes: which containers run an image of what was pushed, and a check of
//! each repository, now. However often it is told, one check runs and one waits
//! (`store::registry_webhooks`); whether an update follows is decided as after any watch that
//! somebody asked for.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    access::Scope,
    push_event::{self, PushEvent, PushEventError, PushSource, RegistryEvent},
};
use plimsoll_store::{
    audit::{AuditStatus, NewAudit},
    registry_webhooks::PushedCheck,
};
use sha2::{Digest, Sha256};
use tracing::Instrument;

use crate::{
    App, AppError, WebhookTokens,
    freshness::Failure,
    inventory::Entry,
    requests::Caller,
    turns::Turns,
    webhook_signature::Signatures,
    webhooks::{basic_password, bearer, same_secret},
};

/// A repository is checked no more often, however many pushes are told of (reliability.md W4).
const SPACING: Duration = Duration::from_secs(5);
/// Container names that the audit trail repeats.
const NAMED: usize = 10;

/// Deliveries of the same push share a statement: a storm of them waits for one, not for a thousand.
pub(crate) type Pushes = Turns<Vec<PushedCheck>, Result<(), Failure>>;

/// What came, its credential checked.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// `X-GitHub-Event`
    pub github_event: Option<&'a str>,
    /// What the sender calls this delivery: the same when it is sent again.
    pub id: Option<&'a str>,
    pub body: &'a [u8],
}

/// What became of a delivery.
#[derive(Debug)]
pub struct Delivered {
    pub source: PushSource,
    /// What was pushed, in the canonical form. Empty: the event tells of something else.
    pub images: Vec<String>,
    /// The containers whose versions are looked up there.
    pub matched: Vec<Arc<Entry>>,
    /// Checks that begin after this delivery, one for each engine and repository. One that waits
    /// already serves this delivery, too.
    pub checks: usize,
    /// It was dealt with before, and nothing was done.
    pub duplicate: bool,
}

impl App {
    /// Checks what a delivery proves itself with: a signature, or, where there is none, the token of
    /// the webhooks that watch everything, as a bearer token or as a password of Basic
    /// authentication, because some senders know only addresses.
    ///
    /// # Errors
    /// `Forbidden` where neither a secret nor a token is configured; `Unauthenticated`.
    pub fn authenticate_delivery(
        &self,
        signatures: &Signatures<'_>,
        authorization: Option<&str>,
        body: &[u8],
        now: DateTime<Utc>,
    ) -> Result<(), AppError> {
        let settings = self.settings();
        let token = match &settings.webhooks {
            WebhookTokens::Disabled => None,
            WebhookTokens::One(token) => Some(token),
            WebhookTokens::Each { watch_all, .. } => Some(watch_all),
        };
        let secrets = &settings.webhook_secrets;
        if token.is_none() && secrets.is_empty() {
            return Err(AppError::Forbidden("Webhooks are disabled".to_owned()));
        }
        let refused = |text: &str| Err(AppError::Unauthenticated(text.to_owned()));
        if signatures.is_signed() {
            return match signatures.verify(body, secrets, now) {
                true => Ok(()),
                false => refused("Invalid signature"),
            };
        }
        let password = authorization.and_then(basic_password);
        match password.as_deref().or(authorization.and_then(bearer)) {
            None => refused("Missing signature or authorization header"),
            Some(given) if token.is_some_and(|token| same_secret(given, token)) => Ok(()),
            Some(_) => refused("Invalid token"),
        }
    }

    /// Finds the containers that what was pushed concerns, and has them checked.
    ///
    /// # Errors
    /// `Invalid` for a body that is not JSON, `Unprocessable` for one that is no event.
    pub async fn registry_webhook(
        &self,
        delivery: &Delivery<'_>,
        caller: &Caller<'_>,
    ) -> Result<Delivered, AppError> {
        caller.authorise(Scope::ContainersWatch)?;
        let event = match push_event::parse(delivery.github_event, delivery.body)? {
            RegistryEvent::Push(event) => event,
            RegistryEvent::Other(source) => return Ok(Delivered::nothing(source)),
        };
        let mut delivered = Delivered::nothing(event.source);
        delivered.images = event.images.iter().map(ToString::to_string).collect();
        let snapshot = self.snapshot().await?;
        let repositories: BTreeSet<String> =
            event.images.iter().map(|i| i.registry_key()).collect();
        let mut checks = BTreeSet::new();
        for repository in repositories {
            let entries = snapshot.inventory.of_repository(&repository);
            let open = |e: &&Arc<Entry>| e.state.facts.rules.webhook_enabled != Some(false);
            for entry in entries.filter(open) {
                checks.insert(PushedCheck {
                    watcher: entry.state.facts.watcher.clone(),
                    repository: repository.clone(),
                });
                delivered.matched.push(entry.clone());
            }
        }
        if checks.is_empty() {
            return Ok(delivered);
        }
        let marks = marks(delivery, &event);
        delivered.duplicate = self.queue().knows_delivery(&marks).await.unwrap_or_else(|error| {
            tracing::debug!(%error, "whether a delivery came before is not known; it is dealt with");
            false
        });
        if delivered.duplicate {
            return Ok(delivered);
        }
        let checks: Vec<PushedCheck> = checks.into_iter().collect();
        let asked = checks.len();
        self.check_pushed(checks, &delivered, caller).await?;
        delivered.checks = asked;
        if let Err(error) = self.queue().remember_delivery(&marks).await {
            tracing::debug!(%error, "a delivery that comes again will be dealt with again");
        }
        Ok(delivered)
    }

    async fn check_pushed(
        &self,
        checks: Vec<PushedCheck>,
        delivered: &Delivered,
        caller: &Caller<'_>,
    ) -> Result<(), AppError> {
        let mut names: Vec<&str> = delivered
            .matched
            .iter()
            .take(NAMED)
            .map(|entry| entry.state.facts.name.as_str())
            .collect();
        let more = delivered.matched.len() - names.len();
        let more = (more > 0).then(|| format!("{more} more"));
        names.extend(more.as_deref());
        let details = format!("{}: {}", delivered.source, names.join(", "));
        let images = delivered.images.join(", ");
        let name = match delivered.matched.as_slice() {
            [only] => only.state.facts.name.as_str(),
            _ => "",
        };
        let mut audit = NewAudit::new("webhook-registry", name, AuditStatus::Success);
        audit.container_image = Some(&images);
        audit.details = Some(&details);
        audit.actor = Some(caller.principal.name());
        audit.request_id = caller.request_id;
        let store = self.store();
        let asked = self.pushes().take(&checks, async {
            let span = plimsoll_trace::producing(format_args!("accept push"));
            let due = store
                .request_pushed_checks(&checks, SPACING, &audit)
                .instrument(span)
                .await?;
            self.wake(due.iter().map(|(job, watcher)| (watcher, *job)))
                .await;
            Ok(())
        });
        Ok(asked.await?)
    }
}

impl Delivered {
    const fn nothing(source: PushSource) -> Self {
        Self {
            source,
            images: Vec::new(),
            matched: Vec::new(),
            checks: 0,
            duplicate: false,
        }
    }
}

impl From<PushEventError> for AppError {
    fn from(error: PushEventError) -> Self {
        match error {
            PushEventError::NotJson(_) => Self::Invalid(error.to_string()),
            PushEventError::Unknown | PushEventError::Nameless(..) => {
                Self::Unprocessable(error.to_string())
            }
        }
    }
}

/// What a delivery is known by when it comes again: the sender's id, and its body, where equal
/// bodies are the same push.
fn marks(delivery: &Delivery<'_>, event: &PushEvent) -> Vec<String> {
    let mark = |kind: &str, bytes: &[u8]| {
        let mut hasher = Sha256::new();
        hasher.update(kind);
        hasher.update([0]);
        hasher.update(bytes);
        hex::encode(&hasher.finalize()[..16])
    };
    let id = delivery
        .id
        .map(|id| mark(event.source.as_str(), id.as_bytes()));
    let body = event.unique.then(|| mark("body", delivery.body));
    id.into_iter().chain(body).collect()
}

#[cfg(test)]
mod tests {
    use plimsoll_domain::image::ImageRef;

    use super::*;

    #[test]
    fn a_delivery_is_known_by_its_id_and_by_a_body_that_is_unique() {
        let of = |id, body: &str, unique| {
            let delivery = Delivery {
                github_event: None,
                id,
                body: body.as_bytes(),
            };
            let event = PushEvent {
                source: PushSource::Generic,
                images: vec![ImageRef::parse("nginx").unwrap()],
                unique,
            };
            marks(&delivery, &event)
        };
        assert!(of(None, "{}", false).is_empty());
        assert_eq!(of(Some("1"), "{}", false), of(Some("1"), "{ }", false));
        assert_ne!(of(Some("1"), "{}", false), of(Some("2"), "{}", false));
        assert_eq!(of(None, "{}", true), of(None, "{}", true));
        assert_eq!(of(Some("1"), "{}", true).len(), 2);
        assert_ne!(of(Some("{}"), "", false), of(None, "{}", true));
    }
}
