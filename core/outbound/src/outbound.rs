//! One question, one answer, within limits.

use std::{error::Error, sync::OnceLock, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use reqwest::{Client, Request, Response};
use serde::{Serialize, de::DeserializeOwned};
use url::Url;

use crate::{
    client::{BodyError, HEADERS, Line, Proxy, builder, execute, read_body},
    reach::{Denied, Reach, check_literal},
    redirect::Redirect,
    tls::Tls,
};

/// Redirects that are followed for one GET or HEAD.
const MAX_REDIRECTS: usize = 3;
/// Of a refusal only the first words matter.
const REFUSAL: usize = 16 * 1024;

/// A way out to services of one kind: where it may connect to, how long it waits, whom it trusts.
pub struct Outbound {
    reach: Reach,
    line: Line,
    /// Until the headers of an answer are there.
    patience: Duration,
    tls: Tls,
    proxy: Option<Url>,
    own: OnceLock<Client>,
    foreign: OnceLock<Client>,
}

/// A request. Made by [`Ask::get`] and its like.
pub struct Ask {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Bytes>,
    limit: usize,
    reads_success: bool,
}

/// What came back, whatever its status.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer. Messages name the host and never the path: some services keep their
/// secrets in it.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    #[error("{host}: {reason}")]
    Refused { host: String, reason: String },
    #[error("{host} did not answer within {} s", .after.as_secs())]
    Slow { host: String, after: Duration },
    #[error("{host} cannot be reached: {cause}")]
    Unreachable { host: String, cause: String },
    #[error("{host} answered with more than {limit} bytes")]
    TooLarge { host: String, limit: usize },
    #[error("{0}")]
    Misconfigured(String),
}

impl Ask {
    pub fn new(method: Method, url: Url) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: None,
            limit: 1024 * 1024,
            reads_success: true,
        }
    }

    pub fn get(url: Url) -> Self {
        Self::new(Method::GET, url)
    }

    pub fn post(url: Url) -> Self {
        Self::new(Method::POST, url)
    }

    /// Bytes of the answer that are read, 1 MiB unless told.
    #[must_use]
    pub fn limit(self, limit: usize) -> Self {
        Self { limit, ..self }
    }

    /// Of success only the headers are awaited: its body is left unread, whatever its size.
    #[must_use]
    pub fn status_only(self) -> Self {
        Self {
            reads_success: false,
            ..self
        }
    }

    /// Headers go to the origin of the URL only, not to where it redirects.
    #[must_use]
    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// A header whose value is not printed.
    #[must_use]
    pub fn secret(self, name: header::HeaderName, mut value: HeaderValue) -> Self {
        value.set_sensitive(true);
        self.header(name, value)
    }

    #[must_use]
    pub fn body(mut self, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        self.body = Some(body.into());
        self.header(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
    }

    /// # Errors
    /// A value that has no JSON form.
    pub fn json(self, value: &impl Serialize) -> serde_json::Result<Self> {
        Ok(self.body("application/json", serde_json::to_vec(value)?))
    }

    #[must_use]
    pub fn form(self, pairs: &[(&str, &str)]) -> Self {
        let form = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(pairs)
            .finish();
        self.body("application/x-www-form-urlencoded", form)
    }
}

impl Answer {
    /// # Errors
    /// A body that is no such JSON.
    pub fn json<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.body)
    }

    /// The first 200 characters of the body, on one line, for people.
    pub fn excerpt(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .filter(|c| !c.is_control())
            .take(200)
            .collect()
    }
}

impl Outbound {
    /// `timeout`: one request from start to end, at most a minute.
    pub fn new(reach: Reach, timeout: Duration, tls: Tls) -> Self {
        let timeout = timeout.clamp(Duration::from_millis(1), crate::TOTAL);
        Self {
            reach,
            line: Line {
                proxy: Proxy::FromEnvironment,
                timeout,
            },
            patience: HEADERS.min(timeout),
            tls,
            proxy: None,
            own: OnceLock::new(),
            foreign: OnceLock::new(),
        }
    }

    /// Waits for the headers of an answer as long as for the whole of it, where a service does its
    /// work before it answers.
    #[must_use]
    pub fn patient(self) -> Self {
        Self {
            patience: self.line.timeout,
            ..self
        }
    }

    /// Sends everything through this proxy instead of the environment's. What it connects to is
    /// then the proxy's choice, except for addresses that are written in the URL itself.
    #[must_use]
    pub fn through(self, proxy: Url) -> Self {
        Self {
            proxy: Some(proxy),
            ..self
        }
    }

    /// Sends `ask` and reads the answer. GET and HEAD follow redirects, never to a worse scheme;
    /// elsewhere than at home they carry none of the ask's headers and reach public addresses, or
    /// what the first address could reach.
    pub async fn send(&self, ask: Ask) -> Result<Answer, OutboundError> {
        let repeatable = matches!(ask.method, Method::GET | Method::HEAD);
        let mut url = ask.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let at_home = url.origin() == ask.url.origin();
            let response = self.hop(&ask, &url, at_home).await?;
            if !repeatable {
                return read(response, &ask, &url).await;
            }
            url = match Redirect::of(&response, &url) {
                Redirect::None => return read(response, &ask, &url).await,
                Redirect::To(target) => target,
                Redirect::Nowhere => return Err(refused(&url, "it redirects to nowhere")),
                Redirect::Insecure(_) => {
                    return Err(refused(&url, "it redirects to an address without https"));
                }
            };
        }
        Err(refused(
            &url,
            &format!("it redirects more than {MAX_REDIRECTS} times"),
        ))
    }

    async fn hop(&self, ask: &Ask, url: &Url, at_home: bool) -> Result<Response, OutboundError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refused(url, "only http and https are spoken"));
        }
        check_literal(url, self.reach).map_err(|denied| refused(url, &denied.to_string()))?;
        let mut request = Request::new(ask.method.clone(), url.clone());
        if at_home {
            *request.headers_mut() = ask.headers.clone();
            *request.body_mut() = ask.body.clone().map(Into::into);
        } else if let Some(accept) = ask.headers.get(header::ACCEPT) {
            request.headers_mut().insert(header::ACCEPT, accept.clone());
        }
        let patience = self.patience;
        let client = self.client(at_home)?;
        match tokio::time::timeout(patience, execute(client, request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.describe(&error, url)),
            Err(_) => Err(OutboundError::Slow {
                host: host(url),
                after: patience,
            }),
        }
    }

    /// Neither the client certificate nor a check that is switched off goes along to strangers.
    fn client(&self, at_home: bool) -> Result<&Client, OutboundError> {
        let place = if at_home { &self.own } else { &self.foreign };
        if let Some(client) = place.get() {
            return Ok(client);
        }
        let mut made = match at_home {
            true => builder(self.reach, &self.tls, self.line),
            false => builder(self.reach, &self.tls.for_strangers(), self.line),
        };
        if let Some(proxy) = &self.proxy {
            let proxy = reqwest::Proxy::all(proxy.clone())
                .map_err(|_| OutboundError::Misconfigured("the proxy cannot be used".to_owned()))?;
            made = made.proxy(proxy);
        }
        let made = made.build();
        let made = made.map_err(|error| OutboundError::Misconfigured(error.to_string()))?;
        Ok(place.get_or_init(|| made))
    }

    /// Finds the cause that a person can act on, without the URL.
    fn describe(&self, error: &reqwest::Error, url: &Url) -> OutboundError {
        if error.is_timeout() {
            return OutboundError::Slow {
                host: host(url),
                after: self.line.timeout,
            };
        }
        let mut deepest = String::new();
        let mut cause = error.source();
        while let Some(inner) = cause {
            if let Some(denied) = inner.downcast_ref::<Denied>() {
                return refused(url, &denied.to_string());
            }
            let wrapped = inner
                .downcast_ref::<std::io::Error>()
                .and_then(std::io::Error::get_ref);
            if let Some(tls) = wrapped.and_then(|e| e.downcast_ref::<rustls::Error>()) {
                return refused(url, &format!("its certificate is not accepted: {tls}"));
            }
            deepest = inner.to_string();
            cause = inner.source();
        }
        OutboundError::Unreachable {
            host: host(url),
            cause: deepest,
        }
    }
}

async fn read(response: Response, ask: &Ask, url: &Url) -> Result<Answer, OutboundError> {
    let status = response.status();
    let headers = response.headers().clone();
    if status.is_success() && !ask.reads_success {
        let body = Bytes::new();
        return Ok(Answer {
            status,
            headers,
            body,
        });
    }
    let limit = match status.is_success() {
        true => ask.limit,
        false => ask.limit.min(REFUSAL),
    };
    let body = match read_body(response, limit).await {
        Ok(body) => body,
        Err(_) if !status.is_success() => Vec::new(),
        Err(BodyError::TooLarge) => {
            return Err(OutboundError::TooLarge {
                host: host(url),
                limit,
            });
        }
        Err(BodyError::Broken(error)) => {
            return Err(OutboundError::Unreachable {
                host: host(url),
                cause: error.without_url().to_string(),
            });
        }
    };
    Ok(Answer {
        status,
        headers,
        body: body.into(),
    })
}

fn refused(url: &Url, reason: &str) -> OutboundError {
    OutboundError::Refused {
        host: host(url),
        reason: reason.to_owned(),
    }
}

/// Host and port, which is all of a URL that may be shown.
fn host(url: &Url) -> String {
    let name = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{name}:{port}"),
        None => name.to_owned(),
    }
}
