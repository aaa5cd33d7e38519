//! ntfy: a message as JSON to the root of the server.

use futures::future::BoxFuture;
use http::{HeaderValue, header};
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use secrecy::ExposeSecret;
use serde_json::json;
use url::Url;

use super::{
    Notifier, Outgoing, Sent, address, needed, secret,
    web::{Web, basic, bearer, cut_bytes},
};

/// Bytes; a longer text becomes an attachment.
const TEXT: usize = 4096;
const TITLE: usize = 250;

pub struct Ntfy {
    web: Web,
    url: Url,
    topic: String,
    priority: Option<u16>,
    authorization: Option<HeaderValue>,
}

impl Ntfy {
    pub fn new(own: &configured::Ntfy, reach: Reach) -> Result<Self, String> {
        let auth = &own.auth;
        let mut web = Web::new(reach);
        let authorization = match (&auth.token, &auth.user) {
            (Some(token), _) => {
                web = web.hiding(token.expose_secret());
                Some(bearer(token)?)
            }
            (None, Some(user)) => {
                let password = secret(&auth.password, "auth.password")?;
                web = web.hiding(password.expose_secret());
                Some(basic(user, &password)?)
            }
            (None, None) => None,
        };
        Ok(Self {
            web,
            url: address(Some(&own.url))?,
            topic: needed(&own.topic, "topic")?,
            priority: own.priority.filter(|priority| *priority > 0),
            authorization,
        })
    }
}

impl Notifier for Ntfy {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let mut body = json!({
                "topic": self.topic,
                "title": cut_bytes(&message.text.title, TITLE),
                "message": cut_bytes(&message.text.body, TEXT),
            });
            if let Some(priority) = self.priority {
                body["priority"] = priority.into();
            }
            let mut ask = Ask::post(self.url.clone()).json(&body)?;
            if let Some(authorization) = &self.authorization {
                ask = ask.secret(header::AUTHORIZATION, authorization.clone());
            }
            self.web.send(ask).await?;
            Ok(None)
        })
    }
}
