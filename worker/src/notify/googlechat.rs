//! Google Chat: an incoming webhook.

use futures::future::BoxFuture;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use serde_json::json;
use url::Url;

use super::{
    Notifier, Outgoing, Sent, secret_address,
    web::{Web, cut},
};

/// Characters of a message.
const LIMIT: usize = 4096;

pub struct Googlechat {
    web: Web,
    url: Url,
}

impl Googlechat {
    pub fn new(own: &configured::Googlechat, reach: Reach) -> Result<Self, String> {
        let url = secret_address(&own.url)?;
        Ok(Self {
            web: Web::new(reach).hiding_path(&url),
            url,
        })
    }
}

impl Notifier for Googlechat {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let text = message.text.titled(|title| format!("*{title}*\n\n"));
            let body = json!({ "text": cut(&text, LIMIT) });
            self.web
                .send(Ask::post(self.url.clone()).json(&body)?)
                .await?;
            Ok(None)
        })
    }
}
