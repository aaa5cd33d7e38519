//! Any address: the container as JSON, or a list of them, by POST; its main fields in the query of
//! a GET. `X-Plimsoll-Event` says what happened, and `Idempotency-Key` is the same for every attempt.

use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, header};
use plimsoll_outbound::{Ask, Reach};
use plimsoll_runtime::settings::notifiers::{self as configured, HttpAuthType, HttpMethod};
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

use super::{
    Failure, Notifier, Outgoing, Sent, address, needed, secret, secret_address,
    web::{Web, basic, bearer, header_value},
};

pub struct Http {
    web: Web,
    url: Url,
    method: HttpMethod,
    authorization: Option<HeaderValue>,
}

impl Http {
    pub fn new(own: &configured::Http, reach: Reach) -> Result<Self, String> {
        let url = secret_address(&own.url)?;
        let mut web = Web::new(reach).hiding_path(&url);
        if let Some(proxy) = &own.proxy {
            let proxy = address(Some(proxy.expose_secret()))?;
            web = web
                .hiding(proxy.password().unwrap_or_default())
                .through(proxy);
        }
        let auth = &own.auth;
        let kind = auth.type_.or(match (&auth.bearer, &auth.user) {
            (Some(_), _) => Some(HttpAuthType::Bearer),
            (None, Some(_)) => Some(HttpAuthType::Basic),
            (None, None) => None,
        });
        let authorization = match kind {
            Some(HttpAuthType::Bearer) => {
                let token = secret(&auth.bearer, "auth.bearer")?;
                web = web.hiding(token.expose_secret());
                Some(bearer(&token)?)
            }
            Some(HttpAuthType::Basic) => {
                let password = secret(&auth.password, "auth.password")?;
                web = web.hiding(password.expose_secret());
                Some(basic(&needed(&auth.user, "auth.user")?, &password)?)
            }
            None => None,
        };
        Ok(Self {
            web,
            url,
            method: own.method,
            authorization,
        })
    }

    fn ask(&self, message: &Outgoing) -> Result<Ask, Failure> {
        Ok(match self.method {
            HttpMethod::Post => Ask::post(self.url.clone()).json(&message.data())?,
            HttpMethod::Get => {
                let mut url = self.url.clone();
                let first = message.first();
                let kind = &first["updateKind"];
                let fields = [
                    ("id", &first["id"]),
                    ("name", &first["name"]),
                    ("watcher", &first["watcher"]),
                    ("kind", &kind["kind"]),
                    ("local", &kind["localValue"]),
                    ("remote", &kind["remoteValue"]),
                ];
                let mut query = url.query_pairs_mut();
                query.append_pair("event", &message.event);
                query.append_pair("title", &message.text.title);
                for (name, value) in fields {
                    if let Value::String(value) = value {
                        query.append_pair(name, value);
                    }
                }
                drop(query);
                Ask::get(url)
            }
        })
    }
}

impl Notifier for Http {
    fn send<'a>(&'a self, message: &'a Outgoing) -> BoxFuture<'a, Sent> {
        Box::pin(async {
            let mut ask = self.ask(message)?;
            if let Some(authorization) = &self.authorization {
                ask = ask.secret(header::AUTHORIZATION, authorization.clone());
            }
            for (name, value) in [
                ("x-plimsoll-event", message.event.clone()),
                ("idempotency-key", message.id.to_string()),
            ] {
                let value = header_value(&value).map_err(Failure::new)?;
                ask = ask.header(HeaderName::from_static(name), value);
            }
            self.web.send(ask).await?;
            Ok(None)
        })
    }
}
