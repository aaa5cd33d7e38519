//! Pushover: a form to `/1/messages.json`.

use futures::future::BoxFuture;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    Notifier, Outgoing, Sent, address, secret,
    web::{Web, below, cut},
};

/// Characters, by Pushover's documentation.
const TITLE: usize = 250;
const TEXT: usize = 1024;

pub struct Pushover {
    web: Web,
    url: Url,
    user: SecretString,
    token: SecretString,
    device: Option<String>,
    sound: Option<String>,
    priority: i32,
    retry: Option<u32>,
    expire: Option<u32>,
}

impl Pushover {
    pub fn new(own: &configured::Pushover, reach: Reach) -> Result<Self, String> {
        let (user, token) = (secret(&own.user, "user")?, secret(&own.token, "token")?);
        Ok(Self {
            web: Web::new(reach)
                .hiding(user.expose_secret())
                .hiding(token.expose_secret()),
            url: below(&address(Some(&own.url))?, &["1", "messages.json"]),
            user,
            token,
            device: own.device.clone(),
            sound: own.sound.clone(),
            priority: own.priority,
            retry: own.retry,
            expire: own.expire,
        })
    }
}

impl Notifier for Pushover {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let (title, text) = (
                cut(&message.text.title, TITLE),
                cut(&message.text.body, TEXT),
            );
            // An empty message is refused.
            let text = if text.is_empty() { &title } else { &text };
            let priority = self.priority.to_string();
            let seconds = |value: Option<u32>| value.map(|seconds| seconds.to_string());
            let (retry, expire) = (seconds(self.retry), seconds(self.expire));
            let mut form = vec![
                ("token", self.token.expose_secret()),
                ("user", self.user.expose_secret()),
                ("title", &title),
                ("message", text),
                ("priority", &priority),
            ];
            let optional = [
                ("device", &self.device),
                ("sound", &self.sound),
                ("retry", &retry),
                ("expire", &expire),
            ];
            for (name, value) in optional {
                form.extend(value.as_deref().map(|value| (name, value)));
            }
            self.web
                .send(Ask::post(self.url.clone()).form(&form))
                .await?;
            Ok(None)
        })
    }
}
