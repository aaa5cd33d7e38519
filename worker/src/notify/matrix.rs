//! Matrix: an event in a room. The transaction id is the message's own, so that a repeated attempt
//! shows nothing twice.

use futures::future::BoxFuture;
use http::{HeaderValue, Method, header};
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers as configured;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

use super::{
    Notifier, Outgoing, Sent, address, needed, secret,
    web::{Web, bearer, below, cut_bytes},
};

/// Bytes of a text; a whole event may have 64 KiB.
const LIMIT: usize = 32 * 1024;

pub struct Matrix {
    web: Web,
    room: Url,
    authorization: HeaderValue,
    kind: &'static str,
}

impl Matrix {
    pub fn new(own: &configured::Matrix, reach: Reach) -> Result<Self, String> {
        let token = secret(&own.accesstoken, "accesstoken")?;
        let room = needed(&own.roomid, "roomid")?;
        let path = ["_matrix", "client", "v3", "rooms", &room];
        Ok(Self {
            web: Web::new(reach).hiding(token.expose_secret()),
            room: below(&address(own.url.as_deref())?, &path),
            authorization: bearer(&token)?,
            kind: own.msgtype.as_str(),
        })
    }

    fn ask(&self, path: &[&str], body: &Value) -> serde_json::Result<Ask> {
        Ask::new(Method::PUT, below(&self.room, path))
            .secret(header::AUTHORIZATION, self.authorization.clone())
            .json(body)
    }
}

impl Notifier for Matrix {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let body = cut_bytes(&message.text.joined(), LIMIT);
            let body = json!({ "msgtype": self.kind, "body": body });
            let transaction = message.id.to_string();
            let path = ["send", "m.room.message", &transaction];
            let answer = self.web.send(self.ask(&path, &body)?).await?;
            let said: Value = answer.json().unwrap_or_default();
            Ok(said.get("event_id").cloned())
        })
    }

    fn take_back<'a>(&'a self, receipt: &'a Value) -> BoxFuture<'a, Sent> {
        Box::pin(async move {
            let event = receipt.as_str().unwrap_or_default();
            let path = ["redact", event, event];
            let body = json!({ "reason": "The update was applied" });
            self.web.send(self.ask(&path, &body)?).await?;
            Ok(None)
        })
    }
}
