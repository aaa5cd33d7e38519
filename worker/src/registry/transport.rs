//! One HTTP exchange: sent, redirects followed by our rules, errors put into words.

use std::{
    error::Error as _,
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderMap, Method, StatusCode, header};
use plimsoll_outbound::{
    self as net, BodyError, Client, Denied, Line, Reach, Redirect, Request, Response, Tls,
};
use url::Url;

use super::error::{RegistryError, excerpt};

const MAX_REDIRECTS: usize = 5;

/// A request to a registry.
pub(super) struct Ask<'a> {
    pub method: Method,
    pub url: Url,
    pub accept: &'static str,
    /// The repository whose scope the token needs.
    pub repository: &'a str,
    /// For messages: "the tags of library/nginx".
    pub what: String,
    /// Most bytes of the body.
    pub limit: usize,
}

/// A registry's answer, whatever its status.
pub(super) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

/// Why an exchange brought nothing.
pub(super) enum Failure {
    /// Refused for now; with the pause asked for, if any.
    Limited(Option<Duration>),
    Error(RegistryError),
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::Error(error)
    }
}

/// Where requests of one registry go out. Reading the machine's certificates takes time, so each
/// client is made when it is first needed.
pub(super) struct Wire {
    pub registry: Arc<str>,
    tls: Tls,
    line: Line,
    home: Reach,
    foreign_reach: Reach,
    plain: OnceLock<Client>,
    own: OnceLock<Client>,
    foreign: OnceLock<Client>,
}

impl Wire {
    /// `home`: where the registry itself may be; `foreign_reach`: where it may redirect to.
    pub(super) fn new(
        registry: Arc<str>,
        tls: Tls,
        line: Line,
        home: Reach,
        foreign_reach: Reach,
    ) -> Self {
        Self {
            registry,
            tls,
            line,
            home,
            foreign_reach,
            plain: OnceLock::new(),
            own: OnceLock::new(),
            foreign: OnceLock::new(),
        }
    }

    pub(super) const fn home(&self) -> Reach {
        self.home
    }

    /// For the registry itself and its token service.
    pub(super) fn own(&self, url: &Url) -> Result<&Client, RegistryError> {
        if url.scheme() == "http" {
            return self.made(&self.plain, self.home, &Tls::none());
        }
        self.made(&self.own, self.home, &self.tls)
    }

    /// For where they redirect to: neither the client certificate nor a check that is switched off
    /// goes along.
    fn foreign(&self) -> Result<&Client, RegistryError> {
        self.made(&self.foreign, self.foreign_reach, &self.tls.for_strangers())
    }

    fn made<'c>(
        &self,
        place: &'c OnceLock<Client>,
        reach: Reach,
        tls: &Tls,
    ) -> Result<&'c Client, RegistryError> {
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let client =
            net::client(reach, tls, self.line).map_err(|error| RegistryError::Misconfigured {
                registry: self.registry.clone(),
                detail: error.to_string(),
            })?;
        Ok(place.get_or_init(|| client))
    }

    /// Sends `ask` with `authorization`, which never leaves the origin of `ask.url`.
    pub(super) async fn exchange(
        &self,
        ask: &Ask<'_>,
        authorization: Option<&header::HeaderValue>,
    ) -> Result<Reply, RegistryError> {
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let at_home = url.origin() == ask.url.origin();
            let (client, reach) = if at_home {
                (self.own(&url)?, self.home)
            } else {
                (self.foreign()?, self.foreign_reach)
            };
            net::check_literal(&url, reach).map_err(|denied| self.untrusted(denied.to_string()))?;
            let mut request = Request::new(ask.method.clone(), url.clone());
            let headers = request.headers_mut();
            headers.insert(header::ACCEPT, header::HeaderValue::from_static(ask.accept));
            if let Some(value) = authorization.filter(|_| at_home) {
                headers.insert(header::AUTHORIZATION, value.clone());
            }
            let response = self.send(client, request, &ask.what).await?;
            url = match Redirect::of(&response, &url) {
                Redirect::None => return self.read(response, ask).await,
                Redirect::To(target) => target,
                Redirect::Nowhere => {
                    return Err(self.untrusted("it redirects to nowhere".to_owned()));
                }
                Redirect::Insecure(target) => {
                    let host = excerpt(target.host_str().unwrap_or(target.scheme()));
                    return Err(self.untrusted(format!("it redirects to {host} without https")));
                }
            };
        }
        Err(self.untrusted(format!(
            "it redirects {} more than {MAX_REDIRECTS} times",
            ask.what
        )))
    }

    /// One hop: the headers are there within ten seconds.
    pub(super) async fn send(
        &self,
        client: &Client,
        request: Request,
        what: &str,
    ) -> Result<Response, RegistryError> {
        let patience = net::HEADERS.min(self.line.timeout);
        match tokio::time::timeout(patience, net::execute(client, request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.describe(&error, what)),
            Err(_) => Err(RegistryError::Slow {
                registry: self.registry.clone(),
                detail: format!("{what}: no answer within {} s", patience.as_secs()),
            }),
        }
    }

    async fn read(&self, response: Response, ask: &Ask<'_>) -> Result<Reply, RegistryError> {
        let status = response.status();
        let headers = response.headers().clone();
        // Of a refusal only the first words matter.
        let limit = if status.is_success() {
            ask.limit
        } else {
            16 * 1024
        };
        let body = if ask.method == Method::HEAD {
            Vec::new()
        } else {
            match self.body(response, limit, &ask.what).await {
                Err(_) if !status.is_success() => Vec::new(),
                body => body?,
            }
        };
        Ok(Reply {
            status,
            headers,
            body,
        })
    }

    pub(super) async fn body(
        &self,
        response: Response,
        limit: usize,
        what: &str,
    ) -> Result<Vec<u8>, RegistryError> {
        net::read_body(response, limit)
            .await
            .map_err(|error| match error {
                BodyError::TooLarge => RegistryError::TooLarge {
                    registry: self.registry.clone(),
                    what: what.to_owned(),
                    limit,
                },
                BodyError::Broken(error) => self.describe(&error, what),
            })
    }

    pub(super) fn untrusted(&self, detail: String) -> RegistryError {
        RegistryError::Untrusted {
            registry: self.registry.clone(),
            detail,
        }
    }

    /// Finds the cause that a person can act on.
    pub(super) fn describe(&self, error: &net::Error, what: &str) -> RegistryError {
        let registry = self.registry.clone();
        let mut causes = Vec::new();
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(denied) = inner.downcast_ref::<Denied>() {
                return self.untrusted(denied.to_string());
            }
            // An I/O error hides what it wraps from `source`.
            let wrapped = inner
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref);
            if let Some(tls) = wrapped.and_then(|e| e.downcast_ref::<rustls::Error>()) {
                return RegistryError::Tls {
                    registry,
                    detail: excerpt(&tls.to_string()),
                };
            }
            causes.push(inner.to_string());
            cause = inner.source();
        }
        let detail = excerpt(&format!(
            "{what}: {}",
            causes.last().cloned().unwrap_or_else(|| error.to_string())
        ));
        if error.is_timeout() {
            return RegistryError::Slow { registry, detail };
        }
        if causes
            .iter()
            .any(|c| c.contains("invalid peer certificate"))
        {
            return RegistryError::Tls { registry, detail };
        }
        if error.is_body() || error.is_decode() {
            // Half an answer is an outage when the line broke, and nonsense when its form is wrong.
            let broken_line = causes.iter().any(|c| {
                c.contains("connection")
                    || c.contains("reset")
                    || c.contains("before message completed")
            });
            if !broken_line {
                return RegistryError::Malformed {
                    registry,
                    what: what.to_owned(),
                    detail,
                };
            }
        }
        RegistryError::Unreachable { registry, detail }
    }
}

/// What a refusal says: the distribution specification's `errors`, or that it is no registry.
pub(super) fn complaint(reply: &Reply) -> String {
    #[derive(serde::Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    if let Ok(Errors { errors }) = serde_json::from_slice(&reply.body)
        && let Some(first) = errors.first()
    {
        return excerpt(&format!(": {} {}", first.code, first.message));
    }
    if is_html(reply) {
        return " and a web page; is this a registry, or something in front of it?".to_owned();
    }
    let text = excerpt(&String::from_utf8_lossy(&reply.body));
    match text.trim() {
        "" => String::new(),
        text => format!(": {text}"),
    }
}

pub(super) fn is_html(reply: &Reply) -> bool {
    let declared = reply
        .headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.starts_with("text/html"));
    declared || reply.body.trim_ascii_start().starts_with(b"<")
}
