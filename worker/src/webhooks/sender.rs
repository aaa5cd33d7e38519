//! One attempt.

use std::time::Duration;

use chrono::Utc;
use http::{HeaderName, HeaderValue, StatusCode};
use plimsoll_app::webhook_deliveries::{ClaimedDelivery, DeliveryFailure};
use plimsoll_domain::iso;
use plimsoll_outbound::{Ask, Outbound, Reach, Tls};
use secrecy::ExposeSecret;
use serde::Serialize;
use serde_json::value::RawValue;
use url::Url;

use super::signature::signatures;
use crate::notify::{
    Failure,
    web::{self, Hidden},
};

/// One attempt from start to end.
pub(super) const PATIENCE: Duration = Duration::from_secs(15);

/// The way out to every endpoint: by TLS, or to what is near.
pub(super) struct Sender {
    secure: Outbound,
    clear: Outbound,
}

/// The body, as Standard Webhooks has it.
#[derive(Serialize)]
struct Message<'a> {
    r#type: &'a str,
    timestamp: String,
    data: &'a RawValue,
}

impl Sender {
    pub fn new(reach: Reach) -> Self {
        let way = |reach| Outbound::new(reach, PATIENCE, Tls::default()).patient();
        Self {
            secure: way(reach),
            clear: way(reach.nearby()),
        }
    }

    /// Sends an event, and takes nothing but success for it.
    pub async fn send(&self, delivery: &ClaimedDelivery) -> Result<StatusCode, DeliveryFailure> {
        let sent = async {
            let url = Url::parse(&delivery.url)
                .map_err(|_| Failure::new("the endpoint's url is no address"))?;
            let mut hidden = Hidden::default();
            hidden.add_path(&url);
            let way = match url.scheme() {
                "https" => &self.secure,
                _ => &self.clear,
            };
            web::send(way, &hidden, ask(url, delivery)?).await
        };
        let answer = sent.await.map_err(|failure| DeliveryFailure {
            why: failure.why,
            status: failure.status.map(|status| status.as_u16()),
            again_after: failure.again_after,
        })?;
        Ok(answer.status)
    }
}

fn ask(url: Url, delivery: &ClaimedDelivery) -> Result<Ask, Failure> {
    let body = body(delivery)?;
    let id = delivery.id.to_string();
    let timestamp = Utc::now().timestamp();
    let keys = [Some(&delivery.secret), delivery.old_secret.as_ref()];
    let keys = keys.into_iter().flatten().map(|key| key.expose_secret());
    let signature = signatures(keys, &id, timestamp, &body);
    let mut ask = Ask::post(url).body("application/json", body).status_only();
    for (name, value) in [
        ("webhook-id", id),
        ("webhook-timestamp", timestamp.to_string()),
        ("webhook-signature", signature),
    ] {
        let value = HeaderValue::from_str(&value)
            .map_err(|_| Failure::new("the event has characters that no header may have"))?;
        ask = ask.header(HeaderName::from_static(name), value);
    }
    Ok(ask)
}

/// The same in every attempt.
fn body(delivery: &ClaimedDelivery) -> Result<String, Failure> {
    let message = Message {
        r#type: &delivery.type_,
        timestamp: iso::to_string(delivery.happened_at),
        data: serde_json::from_str(&delivery.data)?,
    };
    Ok(serde_json::to_string(&message)?)
}
