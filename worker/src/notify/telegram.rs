//! Telegram: `sendMessage` of the bot API, and `deleteMessage` for what is not true any more.

use futures::future::BoxFuture;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

use super::{
    Notifier, Outgoing, Sent, address, needed, secret,
    web::{Web, below, cut},
};

/// Characters, by Telegram's documentation.
const LIMIT: usize = 4096;

pub struct Telegram {
    web: Web,
    bot: Url,
    chat: String,
}

impl Telegram {
    pub fn new(own: &configured::Telegram, reach: Reach) -> Result<Self, String> {
        let token = secret(&own.bottoken, "bottoken")?;
        let bot = format!("bot{}", token.expose_secret());
        Ok(Self {
            web: Web::new(reach).hiding(token.expose_secret()),
            bot: below(&address(Some(&own.url))?, &[&bot]),
            chat: needed(&own.chatid, "chatid")?,
        })
    }
}

impl Notifier for Telegram {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let body = json!({
                "chat_id": self.chat,
                "text": cut(&message.text.joined(), LIMIT),
                "link_preview_options": { "is_disabled": true },
            });
            let ask = Ask::post(below(&self.bot, &["sendMessage"])).json(&body)?;
            let said: Value = self.web.send(ask).await?.json().unwrap_or_default();
            Ok(said["result"].get("message_id").cloned())
        })
    }

    fn take_back<'a>(&'a self, receipt: &'a Value) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let body = json!({ "chat_id": self.chat, "message_id": receipt });
            let ask = Ask::post(below(&self.bot, &["deleteMessage"])).json(&body)?;
            self.web.send(ask).await?;
            Ok(None)
        })
    }
}
