//! Outgoing webhooks: who is told of events by HTTP. What they are told, and when, is in
//! [`webhook_deliveries`](crate::webhook_deliveries).
//!
//! An endpoint's key has to sign, so it is stored as it is; it is shown once, in the answer that
//! makes it, and appears in no other answer, log or audit entry. Neither does the path of an address,
//! which is a secret with some services, outside this resource.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use plimsoll_domain::{access::Scope, ids::WebhookEndpointId, webhook};
use plimsoll_outbound::{Denied, Reach, check_literal, resolve};
pub use plimsoll_store::webhook_endpoints::WebhookEndpoint;
use plimsoll_store::{
    Transaction,
    audit::{self, AuditStatus, NewAudit},
    begin, commit,
    webhook_endpoints::{self, NewWebhookEndpoint, WebhookEndpointChange},
};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use url::Url;

use crate::{App, AppError, access::random_bytes, requests::Caller};

pub const NOT_FOUND: &str = "Webhook endpoint not found";
/// Endpoints of an installation.
const MAX_ENDPOINTS: i64 = 50;
/// Bytes of an address.
const MAX_URL: usize = 2048;
/// Characters of a description.
const MAX_DESCRIPTION: usize = 200;
/// What a key begins with when it is shown (Standard Webhooks, "Signature scheme").
const KEY_PREFIX: &str = "whsec_";
/// The key before the present one signs too for so long, so that receivers can be changed one by one.
const OVERLAP: Duration = Duration::from_secs(24 * 60 * 60);
/// How long a name may take to be looked up.
const LOOK_UP: Duration = Duration::from_secs(2);

/// What an endpoint should be.
#[derive(Clone)]
pub struct NewEndpoint {
    pub url: String,
    pub description: String,
    /// Names of events, or `*` for all.
    pub events: Vec<String>,
    pub enabled: bool,
}

/// What changes; the rest stays.
#[derive(Clone, Default)]
pub struct EndpointChange {
    pub url: Option<String>,
    pub description: Option<String>,
    pub events: Option<Vec<String>>,
    pub enabled: Option<bool>,
}

/// An endpoint and the only sight of its new key.
pub struct EndpointWithKey {
    pub endpoint: WebhookEndpoint,
    pub key: SecretString,
}

impl App {
    /// In the order they were made in.
    pub async fn webhook_endpoints(
        &self,
        caller: &Caller<'_>,
    ) -> Result<Vec<WebhookEndpoint>, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        Ok(self.store().webhook_endpoints().await?)
    }

    /// # Errors
    /// `NotFound`.
    pub async fn webhook_endpoint(
        &self,
        id: WebhookEndpointId,
        caller: &Caller<'_>,
    ) -> Result<WebhookEndpoint, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let found = self.store().webhook_endpoint(id).await?;
        found.ok_or_else(not_found)
    }

    /// Tells somebody of what happens from now on.
    ///
    /// # Errors
    /// `Invalid` for an address that cannot be used, for events that do not exist and for a long
    /// description; `Conflict` where there are too many endpoints.
    pub async fn create_webhook_endpoint(
        &self,
        new: NewEndpoint,
        caller: &Caller<'_>,
    ) -> Result<EndpointWithKey, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let url = checked(&new.url, self.settings().reach).await?;
        let events = events(&new.events)?;
        check_description(&new.description)?;
        let secret = new_secret();
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let stored = NewWebhookEndpoint {
            id: WebhookEndpointId::generate(),
            url: url.as_str(),
            description: &new.description,
            events: &events,
            secret: &secret,
        };
        let created = webhook_endpoints::create(&tx, &stored, MAX_ENDPOINTS).await?;
        let mut endpoint = created.ok_or_else(|| {
            AppError::conflict(format!(
                "There are {MAX_ENDPOINTS} webhook endpoints already; delete one"
            ))
        })?;
        if !new.enabled {
            let off = WebhookEndpointChange {
                enabled: Some(false),
                ..WebhookEndpointChange::default()
            };
            let changed = webhook_endpoints::change(&tx, endpoint.id, &off).await?;
            endpoint = changed.ok_or_else(not_found)?;
        }
        record(&tx, "webhook-endpoint-created", &endpoint, "", caller).await?;
        commit(tx).await?;
        let key = shown(&secret);
        Ok(EndpointWithKey { endpoint, key })
    }

    /// While an endpoint is switched off nothing is sent to it; what happens meanwhile waits for as
    /// long as events are kept.
    ///
    /// # Errors
    /// `NotFound`; `Invalid` as for a new one, and for no change.
    pub async fn change_webhook_endpoint(
        &self,
        id: WebhookEndpointId,
        change: EndpointChange,
        caller: &Caller<'_>,
    ) -> Result<WebhookEndpoint, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let mut what = Vec::new();
        let url = match &change.url {
            Some(url) => Some(checked(url, self.settings().reach).await?),
            None => None,
        };
        if url.is_some() {
            what.push("address");
        }
        let events = change.events.as_deref().map(events).transpose()?;
        if events.is_some() {
            what.push("events");
        }
        if let Some(description) = &change.description {
            check_description(description)?;
            what.push("description");
        }
        match change.enabled {
            Some(true) => what.push("switched on"),
            Some(false) => what.push("switched off"),
            None => {}
        }
        if what.is_empty() {
            return Err(AppError::Invalid(
                "Nothing to change: name url, description, events or enabled".to_owned(),
            ));
        }
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let stored = WebhookEndpointChange {
            url: url.as_ref().map(Url::as_str),
            description: change.description.as_deref(),
            events: events.as_deref(),
            enabled: change.enabled,
        };
        let changed = webhook_endpoints::change(&tx, id, &stored).await?;
        let endpoint = changed.ok_or_else(not_found)?;
        let what = what.join(", ");
        record(&tx, "webhook-endpoint-changed", &endpoint, &what, caller).await?;
        commit(tx).await?;
        Ok(endpoint)
    }

    /// With what it was still to be told.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn delete_webhook_endpoint(
        &self,
        id: WebhookEndpointId,
        caller: &Caller<'_>,
    ) -> Result<(), AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let url = webhook_endpoints::delete(&tx, id).await?;
        let url = url.ok_or_else(not_found)?;
        let details = format!("{id} at {}", origin(&url));
        append(&tx, "webhook-endpoint-removed", &details, caller).await?;
        commit(tx).await?;
        Ok(())
    }

    /// Gives the endpoint a new key. The one before signs beside it for a day.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn rotate_webhook_secret(
        &self,
        id: WebhookEndpointId,
        caller: &Caller<'_>,
    ) -> Result<EndpointWithKey, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let secret = new_secret();
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let rotated = webhook_endpoints::rotate(&tx, id, &secret, OVERLAP).await?;
        let endpoint = rotated.ok_or_else(not_found)?;
        record(&tx, "webhook-endpoint-changed", &endpoint, "secret", caller).await?;
        commit(tx).await?;
        let key = shown(&secret);
        Ok(EndpointWithKey { endpoint, key })
    }
}

/// The part of an address that may be told: scheme, host and port.
pub(crate) fn origin(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => String::new(),
    }
}

/// 256 bits; Standard Webhooks takes 192 to 512.
fn new_secret() -> SecretSlice<u8> {
    SecretSlice::from(random_bytes::<32>().to_vec())
}

fn shown(secret: &SecretSlice<u8>) -> SecretString {
    let text = BASE64_STANDARD.encode(secret.expose_secret());
    SecretString::from(format!("{KEY_PREFIX}{text}"))
}

fn events(names: &[String]) -> Result<Vec<String>, AppError> {
    webhook::events(names).map_err(|error| AppError::Invalid(error.to_string()))
}

fn check_description(text: &str) -> Result<(), AppError> {
    if text.chars().count() <= MAX_DESCRIPTION && !text.chars().any(char::is_control) {
        return Ok(());
    }
    Err(AppError::Invalid(format!(
        "description must have at most {MAX_DESCRIPTION} printable characters"
    )))
}

/// An address that can be used as far as can be told now: where its name leads is looked at again
/// with each connection, on the worker.
async fn checked(text: &str, reach: Reach) -> Result<Url, AppError> {
    let url = parse(text)?;
    // Without TLS everybody on the way could read what is told, so it is not sent over the internet.
    let reach = match url.scheme() {
        "https" => reach,
        _ => reach.nearby(),
    };
    check_literal(&url, reach).map_err(|denied| unusable(&url, &denied))?;
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(invalid("must have a host"));
    };
    // Workers may know names that this machine does not, so one that is not found is let pass.
    let found = tokio::time::timeout(LOOK_UP, resolve(host, port, reach)).await;
    if let Ok(Err(error)) = found
        && let Some(denied) = error.get_ref().and_then(|e| e.downcast_ref::<Denied>())
    {
        return Err(unusable(&url, denied));
    }
    Ok(url)
}

fn parse(text: &str) -> Result<Url, AppError> {
    if text.len() > MAX_URL {
        return Err(invalid(&format!("must have at most {MAX_URL} bytes")));
    }
    let url = Url::parse(text).map_err(|_| invalid("is no address"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err(invalid("must begin with https:// or http://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("must hold no credentials: the signature is one"));
    }
    Ok(url)
}

fn unusable(url: &Url, denied: &Denied) -> AppError {
    match url.scheme() {
        "https" => invalid(&format!("cannot be used: {denied}")),
        _ => invalid(&format!(
            "cannot be used: {denied} without https, which only this machine and private networks \
             are told by"
        )),
    }
}

fn invalid(what: &str) -> AppError {
    AppError::Invalid(format!("url {what}"))
}

async fn record(
    tx: &Transaction<'_>,
    action: &str,
    endpoint: &WebhookEndpoint,
    what: &str,
    caller: &Caller<'_>,
) -> Result<(), AppError> {
    let mut details = format!("{} at {}", endpoint.id, origin(&endpoint.url));
    if !what.is_empty() {
        details = format!("{details}: {what}");
    }
    append(tx, action, &details, caller).await
}

pub(crate) async fn append(
    tx: &Transaction<'_>,
    action: &str,
    details: &str,
    caller: &Caller<'_>,
) -> Result<(), AppError> {
    let entry = NewAudit {
        details: Some(details),
        actor: Some(caller.principal.name()),
        request_id: caller.request_id,
        ..NewAudit::new(action, "", AuditStatus::Info)
    };
    Ok(audit::append(tx, &entry).await?)
}

pub(crate) fn not_found() -> AppError {
    AppError::NotFound(NOT_FOUND.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn verdict(url: &str) -> Result<Url, String> {
        let verdict = checked(url, Reach::HOME).await;
        verdict.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn events_are_sent_where_they_may_be_read() {
        for good in [
            "https://93.184.216.34/hook",
            "http://127.0.0.1:9/hook",
            "http://10.1.2.3/hook?token=1",
        ] {
            assert!(verdict(good).await.is_ok(), "{good}");
        }
        for (bad, why) in [
            ("http://93.184.216.34/hook", "without https"),
            ("https://169.254.169.254/latest", "169.254.169.254"),
            ("http://2852039166/", "169.254.169.254"),
            ("https://[fd00:ec2::254]/", "fd00:ec2::254"),
            ("https://me:pw@93.184.216.34/", "no credentials"),
            ("ftp://93.184.216.34/", "https://"),
            ("hook", "no address"),
        ] {
            let refused = verdict(bad).await.unwrap_err();
            assert!(refused.contains(why), "{bad}: {refused}");
        }
        let long = format!("https://93.184.216.34/{}", "x".repeat(MAX_URL));
        assert!(verdict(&long).await.is_err());
    }

    #[test]
    fn keys_are_shown_as_receivers_take_them() {
        let key = shown(&new_secret());
        let bytes = key.expose_secret().strip_prefix("whsec_").unwrap();
        assert_eq!(BASE64_STANDARD.decode(bytes).unwrap().len(), 32);
        let printed = format!("{:?} {key:?}", new_secret());
        assert!(printed.contains("REDACTED"), "{printed}");
    }
}
