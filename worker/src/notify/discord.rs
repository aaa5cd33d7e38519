//! Discord: a webhook that takes a card.

use futures::future::BoxFuture;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use serde_json::json;
use url::Url;

use super::{
    Notifier, Outgoing, Sent, secret_address,
    web::{Web, cut},
};

/// Characters, by Discord's documentation.
const TITLE: usize = 256;
const TEXT: usize = 2000;
const FIELD: usize = 1024;

pub struct Discord {
    web: Web,
    url: Url,
    username: String,
    color: u32,
    label: Option<String>,
}

impl Discord {
    pub fn new(own: &configured::Discord, reach: Reach) -> Result<Self, String> {
        let url = secret_address(&own.url)?;
        Ok(Self {
            web: Web::new(reach).hiding_path(&url),
            url,
            username: cut(&own.botusername, 80),
            color: own.cardcolor,
            label: own.cardlabel.clone().filter(|label| !label.is_empty()),
        })
    }
}

impl Notifier for Discord {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let text = &message.text;
            let mut card = json!({ "title": cut(&text.title, TITLE), "color": self.color });
            match &self.label {
                Some(label) => {
                    card["fields"] =
                        json!([{ "name": cut(label, TITLE), "value": cut(&text.body, FIELD) }]);
                }
                None => card["description"] = cut(&text.body, TEXT).into(),
            }
            // Names of containers and images mention nobody.
            let body = json!({
                "username": self.username,
                "embeds": [card],
                "allowed_mentions": { "parse": [] },
            });
            self.web
                .send(Ask::post(self.url.clone()).json(&body)?)
                .await?;
            Ok(None)
        })
    }
}
