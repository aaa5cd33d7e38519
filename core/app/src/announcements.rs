//! Telling triggers of what happened: messages are rows, written in the transaction that makes them
//! true, so that none is lost and none is sent twice by a restart, a second worker or a re-creation.
//!
//! An update is announced at the moment it becomes available: found, or let through by a policy
//! that held it back. The triggers that there are then are told, if their rule is switched on. One
//! that comes later does not hear of what was known before.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use plimsoll_domain::{
    assessment::{assess, candidate_key},
    container::{ContainerFacts, ContainerState},
    ids::IdentityKey,
    iso,
    notification::{Recipient, Rule},
    security::{ScanReport, Severity, Vulnerability},
    view::{ViewContext, view},
};
use plimsoll_store::{
    StoreError, Transaction, begin, commit, containers,
    notifications::{self, ATTEMPTS, NewMessage},
    retrying,
    update_operations::Operation,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{App, AppError};

/// Something to be told.
struct News<'a> {
    rule: Rule,
    identity: &'a str,
    occasion: &'a str,
    subject: &'a str,
    payload: &'a Value,
}

impl News<'_> {
    /// Addressed to one recipient.
    fn to(
        &self,
        recipient: &Recipient,
        facts: Option<&ContainerFacts>,
        kind: Option<&plimsoll_domain::assessment::UpdateKind<'_>>,
        now: DateTime<Utc>,
    ) -> Vec<NewMessage> {
        let forms = recipient.forms_for(self.rule, facts, kind);
        forms
            .iter()
            .map(|form| NewMessage {
                id: Uuid::now_v7(),
                rule: self.rule.as_str(),
                agent: recipient.agent.clone(),
                type_: recipient.type_.clone(),
                name: recipient.name.clone(),
                form: *form,
                identity: self.identity.to_owned(),
                occasion: self.occasion.to_owned(),
                subject: self.subject.to_owned(),
                payload: self.payload.clone(),
                place: recipient.order,
                due_at: recipient.due(*form, now),
                max_attempts: ATTEMPTS,
            })
            .collect()
    }
}

/// Who hears of available updates, and whether one of them wants to hear of them again and again.
pub(crate) struct Listeners {
    recipients: Vec<Recipient>,
}

impl Listeners {
    pub(crate) async fn of(tx: &Transaction<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            recipients: notifications::recipients(tx, Rule::UpdateAvailable).await?,
        })
    }

    /// Whether each watch has to be told, not only what it changed.
    pub(crate) fn want_repetition(&self) -> bool {
        self.recipients.iter().any(|recipient| !recipient.once)
    }
}

/// Announces what is available among `states`. Those that were announced before are told again to
/// recipients that want that, if a watch has just found them.
pub(crate) async fn available(
    tx: &Transaction<'_>,
    listeners: &Listeners,
    states: &[ContainerState],
    context: &ViewContext,
    found_by_watch: bool,
) -> Result<u64, StoreError> {
    let now = Utc::now();
    let available: Vec<(&ContainerState, String)> = states
        .iter()
        .filter(|state| assess(state, &context.maturity, now).available())
        .filter_map(|state| {
            let result = state.current_result()?;
            Some((state, candidate_key(&state.facts, result)?))
        })
        .collect();
    let pairs: Vec<(&IdentityKey, &str)> = available
        .iter()
        .map(|(state, candidate)| (&state.identity_key, candidate.as_str()))
        .collect();
    let new = notifications::announce(tx, &pairs).await?;
    let mut messages = Vec::new();
    for (state, candidate) in &available {
        let is_new = new
            .iter()
            .any(|(identity, occasion)| *identity == state.identity_key && occasion == candidate);
        let repeats = found_by_watch && listeners.want_repetition();
        if !is_new && !repeats {
            continue;
        }
        let kind = assess(state, &context.maturity, now).kind;
        let payload = json!({
            "event": Rule::UpdateAvailable.as_str(),
            "candidate": candidate,
            "container": shown(state, context, now),
        });
        let again = format!("{candidate}@{}", iso::to_string(now));
        for recipient in &listeners.recipients {
            let Some(occasion) = recipient.occasion(is_new, candidate, &again) else {
                continue;
            };
            let news = News {
                rule: Rule::UpdateAvailable,
                identity: state.identity_key.as_str(),
                occasion,
                subject: &state.facts.name,
                payload: &payload,
            };
            messages.extend(news.to(recipient, Some(&state.facts), Some(&kind), now));
        }
    }
    notifications::put(tx, &messages).await
}

/// Tells of critical and high vulnerabilities in an image of the container: once for these findings
/// in this image, and again after each scan to recipients that want that. `true` if they are news.
pub(crate) async fn security_alert(
    tx: &Transaction<'_>,
    state: &ContainerState,
    report: &ScanReport,
    found: &[Vulnerability],
    context: &ViewContext,
) -> Result<bool, StoreError> {
    if report.summary.serious() == 0 {
        return Ok(false);
    }
    let found = fingerprint(found);
    let subject = report.subject();
    let named = |name: &str| format!("security:{name}:{found}");
    let occasion = named(subject.key());
    let occasions: Vec<String> = subject.names(&state.facts).into_iter().map(named).collect();
    let pairs: Vec<_> = occasions
        .iter()
        .map(|occasion| (&state.identity_key, occasion.as_str()))
        .collect();
    let told = notifications::announce(tx, &pairs).await?;
    let is_new = told.len() == pairs.len();
    let now = Utc::now();
    let mut container = shown(state, context, now);
    // Of the image that the alert is about, which may be the update's.
    container["security"]["scan"] = serde_json::to_value(report).unwrap_or_default();
    let payload = json!({
        "event": Rule::SecurityAlert.as_str(),
        "container": container,
        "image": report.image,
        "summary": report.summary,
    });
    let again = format!("{occasion}@{}", iso::to_string(report.scanned_at));
    let mut messages = Vec::new();
    for recipient in &notifications::recipients(tx, Rule::SecurityAlert).await? {
        let Some(occasion) = recipient.occasion(is_new, &occasion, &again) else {
            continue;
        };
        let news = News {
            rule: Rule::SecurityAlert,
            identity: state.identity_key.as_str(),
            occasion,
            subject: &state.facts.name,
            payload: &payload,
        };
        messages.extend(news.to(recipient, Some(&state.facts), None, now));
    }
    notifications::put(tx, &messages).await?;
    Ok(is_new)
}

/// Names the set of critical and high vulnerabilities, whichever packages they are in.
fn fingerprint(found: &[Vulnerability]) -> String {
    let serious: BTreeSet<&str> = found
        .iter()
        .filter(|one| one.severity >= Severity::High)
        .map(|one| one.id.as_str())
        .collect();
    let mut hash = Sha256::new();
    for id in serious {
        hash.update(id);
        hash.update([0]);
    }
    hex::encode(&hash.finalize()[..12])
}

/// The container as templates see it.
fn shown(state: &ContainerState, context: &ViewContext, now: DateTime<Utc>) -> Value {
    // The view holds strings, numbers and maps with text keys: nothing JSON cannot say.
    serde_json::to_value(view(state, context, now)).unwrap_or_default()
}

impl App {
    /// Tells of the end of an operation, within the transaction that writes it.
    pub async fn tell_of_operation(
        &self,
        tx: &Transaction<'_>,
        operation: &Operation,
        rule: Rule,
        error: Option<&str>,
    ) -> Result<(), StoreError> {
        if rule == Rule::UpdateApplied {
            notifications::take_back(tx, &operation.identity).await?;
        }
        let recipients = notifications::recipients(tx, rule).await?;
        if recipients.is_empty() {
            return Ok(());
        }
        let now = Utc::now();
        let new = operation.new_container_id.as_deref();
        let ids: Vec<&str> = new.into_iter().chain([&*operation.container_id]).collect();
        let states = containers::states(tx, &ids).await?;
        let find = |id: &str| states.iter().find(|state| state.facts.id.as_str() == id);
        let state = ids.iter().find_map(|id| find(id));
        let mut container = match state {
            Some(state) => shown(state, &self.settings().view_context(), now),
            // It was forgotten in the meantime.
            None => json!({
                "id": operation.container_id,
                "name": operation.container_name,
                "watcher": operation.watcher.name,
            }),
        };
        // What the operation changed, not what a watch has found since.
        let (from, to) = (&operation.from_version, &operation.to_version);
        container["updateKind"]["localValue"] = json!(from);
        container["updateKind"]["remoteValue"] = json!(to);
        let status = match rule {
            Rule::UpdateApplied => "succeeded",
            _ if operation.rollback_reason.is_some() => "rolled-back",
            _ => "failed",
        };
        let payload = json!({
            "event": rule.as_str(),
            "container": container,
            "operation": {
                "id": operation.id,
                "status": status,
                "fromVersion": from,
                "toVersion": to,
                "targetImage": operation.target_image,
            },
            "error": error,
        });
        let occasion = operation.id.to_string();
        let news = News {
            rule,
            identity: operation.identity.as_str(),
            occasion: &occasion,
            subject: &operation.container_name,
            payload: &payload,
        };
        let facts = state.map(|state| &*state.facts);
        let messages: Vec<NewMessage> = recipients
            .iter()
            .flat_map(|recipient| news.to(recipient, facts, None, now))
            .collect();
        notifications::put(tx, &messages).await?;
        Ok(())
    }

    /// Announces updates that became available without a watch: a snooze ended, a candidate grew
    /// old enough, a policy was taken back.
    pub async fn announce_ripe_updates(&self) -> Result<u64, AppError> {
        let context = self.settings().view_context();
        retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            let ids = notifications::unannounced(&tx).await?;
            if ids.is_empty() {
                return Ok(0);
            }
            let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
            let states = containers::states(&tx, &ids).await?;
            let listeners = Listeners::of(&tx).await?;
            let told = available(&tx, &listeners, &states, &context, false).await?;
            commit(tx).await?;
            Ok::<_, AppError>(told)
        })
        .await
    }

    /// Whether each of these candidates, by identity, is still what the container could be updated
    /// to.
    pub async fn still_available(&self, told: &[(&str, &str)]) -> Result<Vec<bool>, StoreError> {
        let client = self.store().client().await?;
        let identities: Vec<&str> = told.iter().map(|one| one.0).collect();
        let ids = notifications::of_identities(&client, &identities).await?;
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let states = containers::states(&client, &ids).await?;
        let (scale, now) = (self.settings().view_context().maturity, Utc::now());
        let is_true = |(identity, candidate): &(&str, &str)| {
            states.iter().any(|state| {
                let found = state
                    .current_result()
                    .and_then(|result| candidate_key(&state.facts, result));
                state.identity_key.as_str() == *identity
                    && found.as_deref() == Some(candidate)
                    && assess(state, &scale, now).available()
            })
        };
        Ok(told.iter().map(is_true).collect())
    }
}

/// Tells of an agent that is not connected any more, within the transaction that notes it.
pub(crate) async fn agent_lost(
    tx: &Transaction<'_>,
    agent: &str,
    reason: &str,
) -> Result<(), StoreError> {
    let now = Utc::now();
    let (identity, since) = (format!("agent:{agent}"), iso::to_string(now));
    let payload = json!({
        "event": Rule::AgentDisconnect.as_str(), "agent": agent, "since": since, "reason": reason,
    });
    let news = News {
        rule: Rule::AgentDisconnect,
        identity: &identity,
        occasion: &since,
        subject: agent,
        payload: &payload,
    };
    let recipients = notifications::recipients(tx, Rule::AgentDisconnect).await?;
    let messages: Vec<NewMessage> = recipients
        .iter()
        // The agents' own triggers are as far away as the agents.
        .filter(|recipient| recipient.agent.is_empty())
        .flat_map(|recipient| news.to(recipient, None, None, now))
        .collect();
    notifications::put(tx, &messages).await?;
    Ok(())
}
