//! Slack: `chat.postMessage`, and `chat.delete` for what is not true any more.

use futures::future::BoxFuture;
use http::{HeaderValue, header};
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

use super::{
    Failure, Notifier, Outgoing, Sent, address, needed, secret,
    web::{Web, bearer, below, cut},
};

/// Characters that Slack recommends at most.
const LIMIT: usize = 4000;

pub struct Slack {
    web: Web,
    api: Url,
    authorization: HeaderValue,
    channel: String,
}

impl Slack {
    pub fn new(own: &configured::Slack, reach: Reach) -> Result<Self, String> {
        let token = secret(&own.token, "token")?;
        Ok(Self {
            web: Web::new(reach).hiding(token.expose_secret()),
            api: address(Some(&own.url))?,
            authorization: bearer(&token)?,
            channel: needed(&own.channel, "channel")?,
        })
    }

    /// Slack says no with a 200.
    async fn call(&self, method: &str, body: &Value) -> Result<Value, Failure> {
        let ask = Ask::post(below(&self.api, &[method]))
            .secret(header::AUTHORIZATION, self.authorization.clone())
            .json(body)?;
        let said: Value = self.web.send(ask).await?.json().unwrap_or_default();
        match &said["ok"] {
            Value::Bool(true) => Ok(said),
            _ => {
                let why = said["error"].as_str().unwrap_or("without a reason");
                Err(self.web.refused(why))
            }
        }
    }
}

impl Notifier for Slack {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let text = message.text.titled(|title| format!("*{title}*\n\n"));
            let body = json!({ "channel": self.channel, "text": cut(&escaped(&text), LIMIT) });
            let said = self.call("chat.postMessage", &body).await?;
            Ok(Some(
                json!({ "channel": said["channel"], "ts": said["ts"] }),
            ))
        })
    }

    fn take_back<'a>(&'a self, receipt: &'a Value) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            self.call("chat.delete", receipt).await?;
            Ok(None)
        })
    }
}

/// As Slack's documentation wants texts: nothing in them is a link or a mention.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
