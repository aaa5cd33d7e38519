//! Apprise API: `POST /notify` with the addresses, or `/notify/{key}` for a configuration that the
//! server keeps.

use futures::future::BoxFuture;
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;

use super::{
    Notifier, Outgoing, Sent, address,
    web::{Web, below},
};

pub struct Apprise {
    web: Web,
    url: Url,
    urls: Option<SecretString>,
    tag: Option<String>,
}

impl Apprise {
    pub fn new(own: &configured::Apprise, reach: Reach) -> Result<Self, String> {
        let base = address(own.url.as_deref())?;
        let url = match &own.config {
            Some(key) => below(&base, &["notify", key]),
            None => below(&base, &["notify"]),
        };
        let urls = own.urls.as_ref().map(|urls| urls.0.clone());
        let mut web = Web::new(reach);
        for one in urls.iter().flat_map(|urls| urls.expose_secret().split(',')) {
            web = web.hiding(one.trim());
        }
        Ok(Self {
            web,
            url,
            urls,
            tag: own.tag.clone(),
        })
    }
}

impl Notifier for Apprise {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let mut body = json!({
                "title": message.text.title,
                "body": message.text.body,
                "format": "text",
                "type": "info",
            });
            if let Some(urls) = &self.urls {
                body["urls"] = urls.expose_secret().into();
            }
            if let Some(tag) = &self.tag {
                body["tag"] = tag.as_str().into();
            }
            self.web
                .send(Ask::post(self.url.clone()).json(&body)?)
                .await?;
            Ok(None)
        })
    }
}
