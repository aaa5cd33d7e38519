//! Rocket.Chat: `chat.postMessage`.

use futures::future::BoxFuture;
use http::HeaderName;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::{
    Failure, Notifier, Outgoing, Sent, address, needed, secret,
    web::{Web, below, cut, header_value},
};

/// Characters, as servers are set up by default.
const LIMIT: usize = 5000;

pub struct Rocketchat {
    web: Web,
    url: Url,
    user: String,
    token: SecretString,
    channel: String,
}

impl Rocketchat {
    pub fn new(own: &configured::Rocketchat, reach: Reach) -> Result<Self, String> {
        let token = secret(&own.auth.token, "auth.token")?;
        Ok(Self {
            web: Web::new(reach).hiding(token.expose_secret()),
            url: below(
                &address(own.url.as_deref())?,
                &["api", "v1", "chat.postMessage"],
            ),
            user: needed(&own.user.id, "user.id")?,
            token,
            channel: needed(&own.channel, "channel")?,
        })
    }
}

impl Notifier for Rocketchat {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let text = message.text.titled(|title| format!("*{title}*\n"));
            let body = json!({ "channel": self.channel, "text": cut(&text, LIMIT) });
            let header = |text: &str| header_value(text).map_err(Failure::new);
            let ask = Ask::post(self.url.clone())
                .header(HeaderName::from_static("x-user-id"), header(&self.user)?)
                .secret(
                    HeaderName::from_static("x-auth-token"),
                    header(self.token.expose_secret())?,
                )
                .json(&body)?;
            let answer = self.web.send(ask).await?;
            let said: Value = answer.json().unwrap_or_default();
            match &said["success"] {
                Value::Bool(false) => {
                    let why = said["error"].as_str().unwrap_or("without a reason");
                    Err(self.web.refused(why))
                }
                _ => Ok(None),
            }
        })
    }
}
