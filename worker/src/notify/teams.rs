//! Microsoft Teams: a webhook that takes an adaptive card.

use futures::future::BoxFuture;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use serde_json::json;
use url::Url;

use super::{
    Notifier, Outgoing, Sent, secret_address,
    web::{Web, cut_bytes},
};

/// Bytes of the text; the whole message may have 28 kB.
const LIMIT: usize = 16 * 1024;

pub struct Teams {
    web: Web,
    url: Url,
}

impl Teams {
    pub fn new(own: &configured::Teams, reach: Reach) -> Result<Self, String> {
        let url = secret_address(&own.url)?;
        Ok(Self {
            web: Web::new(reach).hiding_path(&url),
            url,
        })
    }
}

impl Notifier for Teams {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let block = |text: String, weight: &str| json!({ "type": "TextBlock", "text": text, "weight": weight, "wrap": true });
            let body = json!({
                "type": "message",
                "attachments": [{
                    "contentType": "application/vnd.microsoft.card.adaptive",
                    "contentUrl": null,
                    "content": {
                        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                        "type": "AdaptiveCard",
                        "version": "1.4",
                        "body": [
                            block(cut_bytes(&message.text.title, 1024), "Bolder"),
                            block(cut_bytes(&message.text.body, LIMIT), "Default"),
                        ],
                    },
                }],
            });
            self.web
                .send(Ask::post(self.url.clone()).json(&body)?)
                .await?;
            Ok(None)
        })
    }
}
