//! A connection to one engine: version negotiation, deadlines, and one way to make a call.

use std::fmt;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use bollard::{API_DEFAULT_VERSION, BollardRequest, ClientVersion, Docker, body_full};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use plimsoll_domain::spec::ApiVersion;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::timeout;

use super::address::EngineAddress;
use super::error::EngineError;
use super::transport::{Transport, TransportError};

/// How long each kind of call may take (reliability.md D3). A hung engine costs the caller this
/// long and nobody else anything.
pub mod deadline {
    use std::time::Duration;

    pub const INSPECT: Duration = Duration::from_secs(10);
    /// A list of everything; longer than one inspection, because busy engines take long over it.
    pub const LIST: Duration = Duration::from_secs(30);
    pub const CHANGE: Duration = Duration::from_secs(60);
    /// Added to the grace that the container is given.
    pub const STOP_EXTRA: Duration = Duration::from_secs(30);
    pub const PULL_IDLE: Duration = Duration::from_secs(60);
    pub const PULL_TOTAL: Duration = Duration::from_secs(30 * 60);
}

/// The largest answer that is read. An inventory of 10,000 containers is about 40 MiB.
const ANSWER_LIMIT: usize = 256 << 20;
/// The largest error message that is read.
const MESSAGE_LIMIT: usize = 64 << 10;

/// The newest version whose requests are known here; the negotiation takes the lower of this and
/// the engine's.
const NEWEST_KNOWN: ApiVersion = ApiVersion::new(
    API_DEFAULT_VERSION.major_version as u16,
    API_DEFAULT_VERSION.minor_version as u16,
);

/// One Docker engine. Cheap to clone; clones share the negotiated version. Every call has a
/// deadline, and every error names the engine.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    address: EngineAddress,
    shown: String,
    transport: Arc<Transport>,
    /// Forgotten when the engine cannot be reached, because it may come back as another version.
    version: RwLock<Option<ApiVersion>>,
}

/// What a call is about, for its errors.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) action: &'static str,
    pub(super) subject: &'a str,
}

impl Engine {
    /// Prepares a connection; does not connect. Fails only when the TLS files cannot be read
    /// (`Unreachable`, naming the file).
    pub fn new(address: EngineAddress) -> Result<Self, EngineError> {
        let shown = address.to_string();
        let transport = Transport::new(&address).map_err(|e| EngineError::Unreachable {
            engine: shown.clone(),
            message: e.to_string(),
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                address,
                shown,
                transport: Arc::new(transport),
                version: RwLock::new(None),
            }),
        })
    }

    pub fn address(&self) -> &EngineAddress {
        &self.inner.address
    }

    /// The engine's name in messages.
    pub(super) fn shown(&self) -> String {
        self.inner.shown.clone()
    }

    /// Whether the engine answers at all.
    pub async fn ping(&self) -> Result<(), EngineError> {
        let about = About {
            action: "answer",
            subject: "a ping",
        };
        self.exchange(Method::GET, "/_ping", None, about, deadline::INSPECT)
            .await
            .map(drop)
    }

    /// `GET /info`, as the engine says it. `DefaultRuntime`, `SecurityOptions`, `Name` and
    /// `OSType` are what the rest of the worker reads.
    pub async fn info(&self) -> Result<Value, EngineError> {
        let about = About {
            action: "describe",
            subject: "itself",
        };
        self.get("/info", about, deadline::INSPECT).await
    }

    /// The negotiated version: the lower of the engine's and ours. Asks once.
    pub async fn api_version(&self) -> Result<ApiVersion, EngineError> {
        if let Some(version) = *self.version_slot_read() {
            return Ok(version);
        }
        let about = About {
            action: "tell",
            subject: "its version",
        };
        let bytes = self
            .exchange(Method::GET, "/version", None, about, deadline::INSPECT)
            .await?;
        let answer: Value = self.parse(&bytes)?;
        let theirs = answer["ApiVersion"]
            .as_str()
            .and_then(ApiVersion::parse)
            .ok_or_else(|| self.protocol("no ApiVersion in the answer to /version"))?;
        let version = theirs.min(NEWEST_KNOWN);
        *self.version_slot_write() = Some(version);
        Ok(version)
    }

    /// bollard's typed client on the same transport and version, for reads whose typed answer
    /// loses nothing that matters (statistics, exec, volumes). Its own timeout covers response
    /// headers only; callers bound the rest.
    pub async fn docker(&self) -> Result<Docker, EngineError> {
        let version = self.api_version().await?;
        let transport = Arc::clone(&self.inner.transport);
        let send = move |mut request: BollardRequest| {
            let transport = Arc::clone(&transport);
            async move {
                version_path(&mut request, version)?;
                transport.send(request).await.map_err(|error| match error {
                    TransportError::Connect(err) => bollard::errors::Error::IOError { err },
                    TransportError::Exchange(err) => {
                        bollard::errors::Error::HyperResponseError { err }
                    }
                })
            }
        };
        let negotiated = ClientVersion {
            major_version: version.major.into(),
            minor_version: version.minor.into(),
        };
        let seconds = deadline::PULL_TOTAL.as_secs();
        Docker::connect_with_custom_transport(send, Some("http://docker"), seconds, &negotiated)
            .map_err(|e| self.protocol(&e.to_string()))
    }

    /// A `GET` whose whole answer is JSON.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        about: About<'_>,
        within: Duration,
    ) -> Result<T, EngineError> {
        let bytes = self.call(Method::GET, path, None, about, within).await?;
        self.parse(&bytes)
    }

    /// A versioned call whose whole answer is read. 304 counts as success: the engine is already
    /// in the state that was asked for.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        about: About<'_>,
        within: Duration,
    ) -> Result<Bytes, EngineError> {
        let version = self.api_version().await?;
        self.exchange(method, &format!("/v{version}{path}"), body, about, within)
            .await
    }

    /// A versioned call whose answer is a stream. `within` bounds the wait for its beginning.
    pub(super) async fn open(
        &self,
        request: http::request::Builder,
        path: &str,
        about: About<'_>,
        within: Duration,
    ) -> Result<Incoming, EngineError> {
        let version = self.api_version().await?;
        let request = request
            .uri(format!("/v{version}{path}"))
            .body(body_full(Bytes::new()))
            .map_err(|e| self.protocol(&e.to_string()))?;
        match timeout(within, self.send(request, about)).await {
            Ok(response) => Ok(response?.into_body()),
            Err(_) => Err(self.timed_out(about, within)),
        }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        about: About<'_>,
        within: Duration,
    ) -> Result<Bytes, EngineError> {
        let mut request = Request::builder().method(method).uri(path);
        let bytes = match body {
            Some(body) => {
                request = request.header(http::header::CONTENT_TYPE, "application/json");
                Bytes::from(body.to_string())
            }
            None => Bytes::new(),
        };
        let request = request
            .body(body_full(bytes))
            .map_err(|e| self.protocol(&e.to_string()))?;
        let work = async {
            let response = self.send(request, about).await?;
            Limited::new(response.into_body(), ANSWER_LIMIT)
                .collect()
                .await
                .map(http_body_util::Collected::to_bytes)
                .map_err(|e| self.interrupted(about, &e.to_string()))
        };
        match timeout(within, work).await {
            Ok(result) => result,
            Err(_) => Err(self.timed_out(about, within)),
        }
    }

    async fn send(
        &self,
        request: BollardRequest,
        about: About<'_>,
    ) -> Result<Response<Incoming>, EngineError> {
        let response = match self.inner.transport.send(request).await {
            Ok(response) => response,
            Err(TransportError::Connect(error)) => {
                *self.version_slot_write() = None;
                return Err(EngineError::Unreachable {
                    engine: self.shown(),
                    message: error.to_string(),
                });
            }
            Err(TransportError::Exchange(error)) => {
                return Err(self.interrupted(about, &error.to_string()));
            }
        };
        let status = response.status();
        if status.is_success() || status == StatusCode::NOT_MODIFIED {
            return Ok(response);
        }
        let body = Limited::new(response.into_body(), MESSAGE_LIMIT);
        let bytes = match body.collect().await {
            Ok(collected) => collected.to_bytes(),
            Err(_) => Bytes::new(),
        };
        Err(self.refusal(status, &bytes, about))
    }

    fn refusal(&self, status: StatusCode, body: &[u8], about: About<'_>) -> EngineError {
        let message = serde_json::from_slice::<Value>(body)
            .ok()
            .and_then(|answer| answer["message"].as_str().map(str::to_owned))
            .unwrap_or_else(|| String::from_utf8_lossy(body).trim().to_owned());
        let (engine, subject, action) = (self.shown(), about.subject.to_owned(), about.action);
        match status {
            StatusCode::NOT_FOUND => EngineError::NotFound {
                engine,
                subject,
                message,
            },
            StatusCode::CONFLICT => EngineError::Conflict {
                engine,
                action,
                subject,
                message,
            },
            status if status.is_server_error() => EngineError::Server {
                engine,
                action,
                subject,
                message,
            },
            status if status.is_client_error() => EngineError::Rejected {
                engine,
                action,
                subject,
                status: status.as_u16(),
                message,
            },
            status => self.protocol(&format!("unexpected status {status}")),
        }
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, EngineError> {
        crate::json::read(bytes).map_err(|e| self.protocol(&e.to_string()))
    }

    pub(super) fn protocol(&self, message: &str) -> EngineError {
        EngineError::Protocol {
            engine: self.shown(),
            message: message.to_owned(),
        }
    }

    pub(super) fn interrupted(&self, about: About<'_>, message: &str) -> EngineError {
        EngineError::Interrupted {
            engine: self.shown(),
            action: about.action,
            subject: about.subject.to_owned(),
            message: message.to_owned(),
        }
    }

    pub(super) fn timed_out(&self, about: About<'_>, after: Duration) -> EngineError {
        EngineError::Timeout {
            engine: self.shown(),
            action: about.action,
            subject: about.subject.to_owned(),
            after,
        }
    }

    // A poisoned lock holds a plain value that cannot be half-written.
    fn version_slot_read(&self) -> std::sync::RwLockReadGuard<'_, Option<ApiVersion>> {
        self.inner
            .version
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn version_slot_write(&self) -> std::sync::RwLockWriteGuard<'_, Option<ApiVersion>> {
        self.inner
            .version
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("address", &self.inner.shown)
            .finish_non_exhaustive()
    }
}

/// bollard joins its path onto the base in a way that loses the version prefix; an unversioned
/// request means the engine's newest version, whose answers bollard's models may not fit.
fn version_path(
    request: &mut BollardRequest,
    version: ApiVersion,
) -> Result<(), bollard::errors::Error> {
    let path = request
        .uri()
        .path_and_query()
        .map_or("/", |path| path.as_str());
    if !path.starts_with("/v1.") {
        *request.uri_mut() = format!("/v{version}{path}").parse()?;
    }
    Ok(())
}

/// A value inside a URL's path or query. Slashes and colons of image references stay, because
/// the engine's router takes them literally.
pub(super) fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'A'..=b'Z'
            | b'a'..=b'z'
            | b'0'..=b'9'
            | b'-'
            | b'_'
            | b'.'
            | b'~'
            | b'/'
            | b':'
            | b'@' => escaped.push(byte as char),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
