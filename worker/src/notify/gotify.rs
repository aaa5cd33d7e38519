//! Gotify: `POST /message`.

use futures::future::BoxFuture;
use http::HeaderName;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;

use super::{
    Notifier, Outgoing, Sent, address, secret,
    web::{Web, below, header_value},
};

pub struct Gotify {
    web: Web,
    url: Url,
    token: SecretString,
    priority: Option<u16>,
}

impl Gotify {
    pub fn new(own: &configured::Gotify, reach: Reach) -> Result<Self, String> {
        let token = secret(&own.token, "token")?;
        header_value(token.expose_secret())?;
        Ok(Self {
            web: Web::new(reach).hiding(token.expose_secret()),
            url: below(&address(own.url.as_deref())?, &["message"]),
            token,
            priority: own.priority,
        })
    }
}

impl Notifier for Gotify {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let mut body = json!({ "title": message.text.title, "message": message.text.body });
            if let Some(priority) = self.priority {
                body["priority"] = priority.into();
            }
            let token = header_value(self.token.expose_secret()).map_err(super::Failure::new)?;
            let ask = Ask::post(self.url.clone())
                .secret(HeaderName::from_static("x-gotify-key"), token)
                .json(&body)?;
            self.web.send(ask).await?;
            Ok(None)
        })
    }
}
