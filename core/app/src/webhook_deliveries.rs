//! What endpoints of outgoing webhooks are told: every event of the stream, as the stream tells it,
//! at least once.
//!
//! Events are queued for each endpoint from its own place in the event table, so neither a worker nor
//! Redis that dies makes one be missed; what was forgotten before it could be queued is told as a gap
//! (`dd:resync-required`, as on the stream).

use std::time::Duration;

use plimsoll_domain::{
    access::Scope,
    ids::{WebhookDeliveryId, WebhookEndpointId},
    webhook::{self, next_attempt},
};
pub use plimsoll_store::webhook_deliveries::{Attempt, ClaimedDelivery, WebhookDelivery};
use plimsoll_store::{
    StoreError,
    audit::{self, AuditStatus, NewAudit},
    begin, commit, retrying,
    webhook_deliveries::{self, FailedAttempt},
    webhook_endpoints as endpoints,
};
use serde_json::json;

use crate::{
    App, AppError,
    requests::Caller,
    totals::Total,
    webhook_endpoints::{append, not_found, origin},
};

pub const NOT_FOUND: &str = "Delivery not found";
/// The states that deliveries can be asked for.
pub const STATES: &[&str] = &["pending", "sending", "delivered", "dead"];
/// Events that are queued for an endpoint by one statement.
const BATCH: i64 = 200;
/// Deliveries that wait for one endpoint; what comes then waits among the events.
const MAX_OPEN: i64 = 2_000;
/// Characters of an error that are kept.
const MAX_ERROR: usize = 500;

/// How an attempt failed, without secrets.
#[derive(Clone, Debug)]
pub struct DeliveryFailure {
    pub why: String,
    /// Of the answer, where there was one.
    pub status: Option<u16>,
    /// How long the receiver wants to be left alone.
    pub again_after: Option<Duration>,
}

/// The answer of a receiver that wants to hear nothing any more.
const GONE: u16 = 410;

impl App {
    /// The newest events first, and how many deliveries there are.
    ///
    /// # Errors
    /// `NotFound` endpoint; `Invalid` for a state that does not exist.
    pub async fn webhook_deliveries(
        &self,
        endpoint: WebhookEndpointId,
        state: Option<&str>,
        (offset, limit): (u64, u64),
        caller: &Caller<'_>,
    ) -> Result<(Vec<WebhookDelivery>, u64), AppError> {
        self.webhook_endpoint(endpoint, caller).await?;
        if state.is_some_and(|state| !STATES.contains(&state)) {
            return Err(AppError::Invalid("Invalid state filter value".to_owned()));
        }
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (deliveries, total) = self
            .store()
            .webhook_deliveries(endpoint, state, number(offset), number(limit))
            .await?;
        Ok((deliveries, u64::try_from(total).unwrap_or(0)))
    }

    /// Sends something that is no event.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for an endpoint that is switched off.
    pub async fn test_webhook_endpoint(
        &self,
        id: WebhookEndpointId,
        caller: &Caller<'_>,
    ) -> Result<WebhookDelivery, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let endpoint = endpoints::get(&tx, id).await?.ok_or_else(not_found)?;
        if !endpoint.enabled {
            return Err(AppError::conflict(
                "The webhook endpoint is switched off; switch it on first",
            ));
        }
        let data = json!({ "endpointId": id, "message": "This is a test" }).to_string();
        let added = webhook_deliveries::add_test(&tx, id, webhook::TEST, &data).await?;
        commit(tx).await?;
        Ok(added)
    }

    /// Makes a delivery due now, with all its attempts before it; also a dead one.
    ///
    /// # Errors
    /// `NotFound`, `Conflict` for one that is being sent or was delivered.
    pub async fn retry_webhook_delivery(
        &self,
        endpoint: WebhookEndpointId,
        id: WebhookDeliveryId,
        caller: &Caller<'_>,
    ) -> Result<WebhookDelivery, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        if let Some(delivery) = webhook_deliveries::retry(&tx, endpoint, id).await? {
            let details = format!("{} to {endpoint}", delivery.type_);
            append(&tx, "webhook-delivery-retry", &details, caller).await?;
            commit(tx).await?;
            return Ok(delivery);
        }
        Err(match self.store().webhook_delivery(endpoint, id).await? {
            None => AppError::NotFound(NOT_FOUND.to_owned()),
            Some(found) if found.state == "delivered" => {
                AppError::conflict("The event was delivered")
            }
            Some(_) => AppError::conflict("The event is being sent; try again shortly"),
        })
    }

    /// Turns what happened into deliveries; whether there is more. Any number of workers may do it.
    pub async fn queue_webhooks(&self) -> Result<bool, StoreError> {
        self.store().queue_webhooks(BATCH, MAX_OPEN).await
    }

    /// Notes that the receiver took it.
    pub async fn webhook_delivered(&self, attempt: Attempt, status: u16) -> Result<(), StoreError> {
        self.count("delivered");
        let status = i32::from(status);
        self.store().webhook_delivered(attempt, status).await
    }

    /// Notes a failed attempt: when it is made again, if at all, and whether the endpoint is to be
    /// left alone from now on. `chance` is 0 to 1.
    pub async fn webhook_failed(
        &self,
        attempt: Attempt,
        attempts: i32,
        failure: &DeliveryFailure,
        chance: f64,
    ) -> Result<(), AppError> {
        let gone = failure.status == Some(GONE);
        let made = u32::try_from(attempts).unwrap_or(1);
        let again_after = match gone {
            true => None,
            false => next_attempt(made, chance, failure.again_after),
        };
        self.count(match again_after {
            Some(_) => "failed",
            None => "dead",
        });
        let error: String = failure.why.chars().take(MAX_ERROR).collect();
        let how = FailedAttempt {
            status_code: failure.status.map(i32::from),
            error: &error,
            again_after,
            switch_off: gone.then_some("The receiver answered 410 Gone"),
            patience: webhook::PATIENCE,
        };
        retrying(|| async {
            let mut client = self.store().client().await?;
            let tx = begin(&mut client).await?;
            if let Some(off) = webhook_deliveries::failed(&tx, attempt, &how).await? {
                let endpoint = attempt.endpoint;
                let details = format!("{endpoint} at {}: {}", origin(&off.url), off.reason);
                let entry = NewAudit {
                    details: Some(&details),
                    ..NewAudit::new("webhook-endpoint-disabled", "", AuditStatus::Error)
                };
                audit::append(&tx, &entry).await?;
                tracing::warn!(%endpoint, why = off.reason, "a webhook endpoint is switched off");
            }
            Ok::<_, AppError>(commit(tx).await?)
        })
        .await
    }

    fn count(&self, outcome: &str) {
        self.tally().add(Total::WebhookDeliveries, &[outcome], 1.0);
    }
}
