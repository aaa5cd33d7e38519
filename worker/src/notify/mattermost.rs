//! Mattermost: an incoming webhook.

use futures::future::BoxFuture;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use serde_json::json;
use url::Url;

use super::{
    Notifier, Outgoing, Sent, secret_address,
    web::{Web, cut},
};

/// Characters of a post.
const LIMIT: usize = 16_383;

pub struct Mattermost {
    web: Web,
    url: Url,
}

impl Mattermost {
    pub fn new(own: &configured::Mattermost, reach: Reach) -> Result<Self, String> {
        let url = secret_address(&own.url)?;
        Ok(Self {
            web: Web::new(reach).hiding_path(&url),
            url,
        })
    }
}

impl Notifier for Mattermost {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let text = message.text.titled(|title| format!("#### {title}\n\n"));
            let body = json!({ "text": cut(&text, LIMIT) });
            self.web
                .send(Ask::post(self.url.clone()).json(&body)?)
                .await?;
            Ok(None)
        })
    }
}
