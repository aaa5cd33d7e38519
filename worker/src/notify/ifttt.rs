//! IFTTT Webhooks: name, new version, and the container as JSON.

use futures::future::BoxFuture;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use secrecy::ExposeSecret;
use serde_json::json;
use url::Url;

use super::{
    Notifier, Outgoing, Sent, address, secret,
    web::{Web, below},
};

pub struct Ifttt {
    web: Web,
    url: Url,
}

impl Ifttt {
    pub fn new(own: &configured::Ifttt, reach: Reach) -> Result<Self, String> {
        let key = secret(&own.key, "key")?;
        let key = key.expose_secret();
        Ok(Self {
            web: Web::new(reach).hiding(key),
            url: below(
                &address(Some(&own.url))?,
                &["trigger", &own.event, "with", "key", key],
            ),
        })
    }
}

impl Notifier for Ifttt {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let body = match message.many {
                true => json!({ "value1": message.data().to_string() }),
                false => json!({
                    "value1": message.first()["name"],
                    "value2": message.first()["updateKind"]["remoteValue"],
                    "value3": message.data().to_string(),
                }),
            };
            self.web
                .send(Ask::post(self.url.clone()).json(&body)?)
                .await?;
            Ok(None)
        })
    }
}
