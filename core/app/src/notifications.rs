//! Notification rules and the outbox of messages (contract/drydock-app-api.md, "Notification
//! rules").

use chrono::Utc;
use plimsoll_domain::{
    access::Scope,
    acting::ActingKind,
    message::{self, Templates, Text},
    notification::Rule,
    template::Template,
    view::view,
};
use plimsoll_store::{
    audit::{self, AuditStatus, NewAudit},
    begin, commit,
    notifications::{self, Message, NotificationRule},
};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{App, AppError, components::Component, requests::Caller};

const INVALID: &str = "Invalid request parameters";
const RULE_NOT_FOUND: &str = "Notification rule not found";
const MESSAGE_NOT_FOUND: &str = "Message not found";
/// Triggers that a rule may name.
const MAX_TRIGGERS: usize = 200;

/// What a message would say through one trigger.
#[derive(Clone, Debug)]
pub struct Previewed {
    /// The trigger's id.
    pub trigger: String,
    pub text: Text,
}

/// The states that the outbox can be asked for.
pub const MESSAGE_STATES: &[&str] = &["pending", "sending", "delivered", "dead", "withdrawn"];

impl App {
    pub async fn notification_rules(&self) -> Result<Vec<NotificationRule>, AppError> {
        Ok(self.store().notification_rules().await?)
    }

    /// Changes `enabled` and `triggers`, whichever the body has; other keys mean nothing.
    ///
    /// # Errors
    /// `Invalid` for a body that changes nothing or is malformed, `NotFound`, `Invalid` for triggers
    /// that do not exist or do not notify.
    pub async fn change_notification_rule(
        &self,
        id: &str,
        body: &Value,
        caller: &Caller<'_>,
    ) -> Result<NotificationRule, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let (enabled, triggers) = parse(body)?;
        if Rule::parse(id).is_none() {
            return Err(AppError::NotFound(RULE_NOT_FOUND.to_owned()));
        }
        if let Some(named) = &triggers {
            let known: Vec<String> = self.notifiers().await?.iter().map(Component::id).collect();
            let unknown: Vec<&str> = named
                .iter()
                .filter(|one| !known.contains(one))
                .map(String::as_str)
                .collect();
            if !unknown.is_empty() {
                return Err(AppError::Invalid(format!(
                    "Unsupported notification triggers: {}",
                    unknown.join(", ")
                )));
            }
        }
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let changed = notifications::change_rule(&tx, id, enabled, triggers.as_deref())
            .await?
            .ok_or_else(|| AppError::NotFound(RULE_NOT_FOUND.to_owned()))?;
        let details = format!(
            "{id}: {}, triggers: {}",
            if changed.enabled {
                "enabled"
            } else {
                "disabled"
            },
            match changed.triggers.is_empty() {
                true => "all".to_owned(),
                false => changed.triggers.join(", "),
            }
        );
        audit_by(&tx, "notification-rule-change", &details, caller).await?;
        commit(tx).await?;
        Ok(changed)
    }

    /// Triggers that notify, of every agent.
    pub(crate) async fn notifiers(&self) -> Result<Vec<Component>, AppError> {
        let mut triggers = self.triggers().await?;
        triggers.retain(|trigger| ActingKind::parse(&trigger.type_).is_none());
        Ok(triggers)
    }

    /// The outbox, newest first, and how many messages there are.
    ///
    /// # Errors
    /// `Invalid` for a state that does not exist.
    pub async fn messages(
        &self,
        state: Option<&str>,
        offset: u64,
        limit: u64,
    ) -> Result<(Vec<Message>, u64), AppError> {
        if state.is_some_and(|state| !MESSAGE_STATES.contains(&state)) {
            return Err(AppError::Invalid("Invalid state filter value".to_owned()));
        }
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (messages, total) = self
            .store()
            .messages(state, number(offset), number(limit))
            .await?;
        Ok((messages, u64::try_from(total).unwrap_or(0)))
    }

    /// Makes a message due now, with all its attempts before it; also a dead one.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for one that is being sent, was delivered or was withdrawn.
    pub async fn retry_message(&self, id: Uuid, caller: &Caller<'_>) -> Result<Message, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        match notifications::retry(&tx, id).await? {
            Some(message) => {
                let details = format!("{} for {}", message.rule, message.subject);
                audit_by(&tx, "notification-retry", &details, caller).await?;
                commit(tx).await?;
                Ok(message)
            }
            None => Err(self.not_changeable(id).await?),
        }
    }

    /// Takes a message out of the outbox.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for one that is being sent.
    pub async fn delete_message(&self, id: Uuid, caller: &Caller<'_>) -> Result<(), AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        if !notifications::delete(&tx, id).await? {
            return Err(self.not_changeable(id).await?);
        }
        audit_by(&tx, "notification-delete", &id.to_string(), caller).await?;
        commit(tx).await?;
        Ok(())
    }

    async fn not_changeable(&self, id: Uuid) -> Result<AppError, AppError> {
        Ok(match self.store().message(id).await? {
            None => AppError::NotFound(MESSAGE_NOT_FOUND.to_owned()),
            Some(message) => AppError::conflict(match message.state.as_str() {
                "sending" => "The message is being sent; try again shortly",
                "delivered" => "The message was delivered",
                _ => "The message was withdrawn",
            }),
        })
    }

    /// What each trigger would say of a container under a rule.
    ///
    /// # Errors
    /// `NotFound` rule or container.
    pub async fn preview_notification(
        &self,
        rule: &str,
        container: &str,
    ) -> Result<Vec<Previewed>, AppError> {
        let rule =
            Rule::parse(rule).ok_or_else(|| AppError::NotFound(RULE_NOT_FOUND.to_owned()))?;
        let entry = self.get_container(container).await?;
        let context = self.settings().view_context();
        let shown = serde_json::to_value(view(&entry.state, &context, Utc::now()))
            .map_err(|e| AppError::Internal(e.to_string()))?;
        let payload = json!({ "event": rule.as_str(), "container": shown });
        Ok(self
            .notifiers()
            .await?
            .iter()
            .map(|trigger| Previewed {
                trigger: trigger.id(),
                text: message::simple(rule.as_str(), &templates(&trigger.configuration), &payload),
            })
            .collect())
    }
}

async fn audit_by(
    tx: &plimsoll_store::Transaction<'_>,
    action: &str,
    details: &str,
    caller: &Caller<'_>,
) -> Result<(), AppError> {
    let entry = NewAudit {
        details: Some(details),
        actor: Some(caller.principal.name()),
        request_id: caller.request_id,
        ..NewAudit::new(action, "", AuditStatus::Success)
    };
    Ok(audit::append(tx, &entry).await?)
}

fn parse(body: &Value) -> Result<(Option<bool>, Option<Vec<String>>), AppError> {
    let invalid = || AppError::Invalid(INVALID.to_owned());
    let enabled = match &body["enabled"] {
        Value::Null if body.get("enabled").is_none() => None,
        Value::Bool(enabled) => Some(*enabled),
        _ => return Err(invalid()),
    };
    let triggers = match &body["triggers"] {
        Value::Null if body.get("triggers").is_none() => None,
        Value::Array(named) if named.len() <= MAX_TRIGGERS => {
            let mut triggers: Vec<String> = Vec::new();
            for one in named {
                let one = one.as_str().map(str::trim).filter(|one| !one.is_empty());
                let one = one.ok_or_else(invalid)?.to_owned();
                if !triggers.contains(&one) {
                    triggers.push(one);
                }
            }
            Some(triggers)
        }
        _ => return Err(invalid()),
    };
    match (enabled, triggers) {
        (None, None) => Err(invalid()),
        change => Ok(change),
    }
}

/// As the worker published them; it has checked them at its start.
fn templates(configuration: &Value) -> Templates {
    let parse = |key: &str| {
        let source = configuration[key].as_str().unwrap_or_default();
        Template::parse(source).unwrap_or_else(|_| Template::empty())
    };
    Templates {
        simple_title: parse("simpletitle"),
        simple_body: parse("simplebody"),
        batch_title: parse("batchtitle"),
        security_title: parse("securitydigesttitle"),
        security_body: parse("securitydigestbody"),
    }
}
