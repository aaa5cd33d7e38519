//! What is around every route, in order:
//!
//! 1. `/health`, before anything else: probes must not depend on limits.
//! 2. Questions of other origins' pages, where they may ask. Context: request id, client address, presented credential.
//! 3. The dialect, by listener and prefix; there `/api/*` becomes `/api/v1/*` (its alias) in
//!    Drydock's, `HEAD` becomes `GET`.
//! 4. Limits on the number of requests, on browsers from elsewhere, on bodies.
//! 5. The route, with panics caught.
//! 6. Errors in the dialect's words, headers, compression, metrics, one log line.

use std::{net::SocketAddr, panic::AssertUnwindSafe, sync::OnceLock, time::Instant};

use futures::FutureExt;
use plimsoll_trace::TraceContext;
use poem::{
    Endpoint, EndpointExt, IntoResponse, Request, Response, Result,
    endpoint::BoxEndpoint,
    http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header},
};
use tracing::{Instrument, Span, field::Empty};

use crate::{
    ApiState,
    auth::cookie::Transport,
    docksmith::{self, access::Open},
    drydock::{
        self,
        error::{self, ApiError, Cause},
        health, ui_settings,
    },
    middleware::{
        body::{self, ContentType},
        compress,
        context::RequestContext,
        csrf, headers,
        rate_limit::{self, Verdict},
        wudcard,
    },
    openapi::routes::{Route, Routes},
};

/// Of requests that are about no operation of the document.
const UNMATCHED: &str = "unmatched";

/// What clients of Docksmith name their requests by.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// Longer ones are not sent back.
const CORRELATION_LENGTH: usize = 128;

/// What a listener has at its root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// Drydock's paths, and the other dialects at prefixes.
    Main,
    /// Docksmith's paths, at this address.
    Docksmith(SocketAddr),
}

/// The whole API as one endpoint.
pub fn root(state: ApiState, root: Root) -> impl Endpoint<Output = Response> + use<> {
    let own = match root {
        Root::Main => None,
        Root::Docksmith(address) => Some(address),
    };
    Edge {
        docksmith_is_open: Open::of(state.settings.docksmith, own),
        root,
        state,
        drydock: OnceLock::new(),
        docksmith: OnceLock::new(),
    }
}

/// One of the APIs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Drydock,
    Docksmith,
}

/// A dialect's handlers, and what its document says of paths.
struct Served {
    endpoint: BoxEndpoint<'static, Response>,
    routes: Routes,
}

struct Edge {
    root: Root,
    state: ApiState,
    docksmith_is_open: Open,
    drydock: OnceLock<Served>,
    docksmith: OnceLock<Served>,
}

impl Endpoint for Edge {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let started = Instant::now();
        if request.uri().path() == "/health" && request.method() == Method::GET {
            return Ok(self.health(&request, started).await);
        }
        let cors = self.state.settings.cors.as_ref();
        if let Some(answer) = cors.and_then(|cors| cors.preflight(&request)) {
            return Ok(answer);
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        let asked = request.method().clone();
        if asked == Method::HEAD {
            // The connection drops the body.
            request.set_method(Method::GET);
        }
        let head = self.head(&mut request);
        let span = span(&request, &asked, &head);
        let answered = self.answer(request, &head).instrument(span.clone());
        let mut response = answered.await;
        if let Some(cors) = cors {
            cors.describe(origin.as_ref(), response.headers_mut());
        }
        self.record(&head, &response, started);
        plimsoll_trace::answered(&span, response.status());
        Ok(response)
    }
}

/// What is remembered of a request while it is answered.
struct Head<'a> {
    dialect: Dialect,
    served: &'a Served,
    /// What it is about, also where it is refused before it is routed.
    route: Option<Route<'a>>,
    method: Method,
    /// As the router sees it.
    path: String,
    context: RequestContext,
    /// A list is answered without what is around it.
    bare: bool,
    /// The client's own name for the request.
    correlation: Option<HeaderValue>,
}

impl Head<'_> {
    /// For metrics and the log.
    fn operation(&self) -> &str {
        self.route.map_or(UNMATCHED, |route| route.operation)
    }
}

impl Edge {
    /// Finds the dialect, and gives the request the path that its router knows.
    fn head(&self, request: &mut Request) -> Head<'_> {
        let context = RequestContext::of(request, &self.state.settings);
        let correlation = request.headers().get(CORRELATION_ID).cloned();
        let own = request.uri().path();
        let (dialect, canonical) = match self.root {
            Root::Docksmith(_) => (
                Dialect::Docksmith,
                docksmith::route::canonical(request.uri(), own),
            ),
            Root::Main => match docksmith::route::below_prefix(own) {
                Some(below) => (
                    Dialect::Docksmith,
                    docksmith::route::canonical(request.uri(), below),
                ),
                None => (Dialect::Drydock, canonical(request.uri())),
            },
        };
        let served = self.served(dialect);
        let context = match dialect {
            Dialect::Drydock => context,
            Dialect::Docksmith => docksmith::access::context(
                request,
                context,
                &self.state.settings,
                self.docksmith_is_open,
            ),
        };
        // By the path as it came.
        let bare = dialect == Dialect::Drydock
            && self.state.settings.bare_lists
            && wudcard::wants(request);
        if let Some(canonical) = canonical {
            *request.uri_mut() = canonical;
        }
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        Head {
            dialect,
            route: served.routes.route(&method, &path),
            served,
            method,
            path,
            context,
            bare,
            correlation: correlation.filter(|id| id.len() <= CORRELATION_LENGTH),
        }
    }

    fn served(&self, dialect: Dialect) -> &Served {
        match dialect {
            Dialect::Drydock => self.drydock.get_or_init(|| Served {
                endpoint: drydock::endpoint().boxed(),
                routes: Routes::of::<drydock::Resources>(""),
            }),
            Dialect::Docksmith => self.docksmith.get_or_init(|| Served {
                endpoint: docksmith::endpoint().boxed(),
                routes: Routes::of::<docksmith::Resources>("docksmith."),
            }),
        }
    }

    async fn answer(&self, mut request: Request, head: &Head<'_>) -> Response {
        let Head { path, context, .. } = head;
        let gzip =
            self.state.settings.compression.is_enabled() && compress::accepts(request.headers());
        let verdict = match head.dialect {
            Dialect::Drydock => rate_limit::check(path, &self.state, context).await,
            Dialect::Docksmith => rate_limit::by_caller(&self.state, context).await,
        };
        let mut response = match self.admit(&mut request, head, verdict).await {
            Ok(()) => self.handle(request, head).await,
            Err(refusal) => refusal.into_response(),
        };

        if head.bare {
            response = wudcard::unwrap(response).await;
        }
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            allow(head, &mut response);
        }
        if response.status() == StatusCode::UNAUTHORIZED && !from_browser(context) {
            response
                .headers_mut()
                .entry(header::WWW_AUTHENTICATE)
                .or_insert(HeaderValue::from_static("Bearer"));
        }
        // An operation's own limit, where that has refused the request.
        let own = response.data::<ApiError>();
        let own = own.and_then(|refusal| refusal.limit.as_deref().copied());
        if let Some(verdict) = own.or(verdict) {
            verdict.describe(response.headers_mut());
        }
        ui_settings::describe(head.operation(), response.headers_mut());
        headers::secure(response.headers_mut(), context.transport);
        headers::request_id(response.headers_mut(), context.id());
        if head.dialect == Dialect::Docksmith {
            response = docksmith::error::reword(response, head.operation());
            let made = || HeaderValue::from_str(context.id()).ok();
            if let Some(id) = head.correlation.clone().or_else(made) {
                response.headers_mut().insert(CORRELATION_ID, id);
            }
        }
        if gzip {
            response =
                compress::compress(response, self.state.settings.compression_threshold).await;
        }
        response
    }

    async fn health(&self, request: &Request, started: Instant) -> Response {
        let context = RequestContext::of(request, &self.state.settings);
        let mut response = health::respond(&self.state).await;
        headers::secure(response.headers_mut(), Transport::Any);
        headers::request_id(response.headers_mut(), context.id());
        self.state.metrics.observe(
            health::OPERATION,
            response.status().as_u16(),
            started.elapsed(),
        );
        response
    }

    async fn admit(
        &self,
        request: &mut Request,
        head: &Head<'_>,
        verdict: Option<Verdict>,
    ) -> Result<(), ApiError> {
        if let Some(refused) = verdict.filter(|verdict| !verdict.allowed) {
            return Err(refused.refusal());
        }
        let settings = &self.state.settings;
        let content_type = match head.dialect {
            Dialect::Drydock => {
                csrf::check(request, &head.context, settings)?;
                ContentType::Checked
            }
            Dialect::Docksmith => {
                let changes = docksmith::route::changes(&head.method, head.operation());
                csrf::check_open(request, &head.context, settings, changes)?;
                docksmith::access::check(&head.context, self.docksmith_is_open)?;
                ContentType::Ignored
            }
        };
        body::admit(request, settings.body_deadline, content_type).await
    }

    async fn handle(&self, mut request: Request, head: &Head<'_>) -> Response {
        request.set_data(self.state.clone());
        request.set_data(head.context.clone());
        let answer = AssertUnwindSafe(head.served.endpoint.call(request))
            .catch_unwind()
            .await;
        match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => error::to_response(error),
            Err(panic) => {
                let what = panic
                    .downcast_ref::<&str>()
                    .map(|text| (*text).to_owned())
                    .or_else(|| panic.downcast_ref::<String>().cloned())
                    .unwrap_or_default();
                ApiError::internal(format!("panic: {what}")).into_response()
            }
        }
    }

    fn record(&self, head: &Head<'_>, response: &Response, started: Instant) {
        let Head {
            method,
            path,
            context,
            ..
        } = head;
        let operation = head.operation();
        let status = response.status();
        let took = started.elapsed();
        self.state.metrics.observe(operation, status.as_u16(), took);
        let cause = response.data::<Cause>().map(|cause| cause.0.as_str());
        let actor = context.principal().map(|principal| principal.name());
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    request_id = context.id(),
                    operation_id = operation,
                    %method,
                    path,
                    status = status.as_u16(),
                    took_ms = took.as_micros() as f64 / 1e3,
                    actor,
                    client = %context.client,
                    cause,
                    "request"
                )
            };
        }
        // Reading is the bulk of the traffic and changes nothing: it is for debugging.
        if status.is_server_error() {
            line!(tracing::Level::WARN);
        } else if *method != Method::GET {
            line!(tracing::Level::INFO);
        } else {
            line!(tracing::Level::DEBUG);
        }
    }
}

/// RFC 9110: a 405 names what is allowed; poem's router does not.
fn allow(head: &Head<'_>, response: &mut Response) {
    let methods = head.served.routes.methods(&head.path);
    if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
        response.headers_mut().insert(header::ALLOW, value);
    }
}

/// Named by the operation. Goes on with the client's trace, and gives lines of the log the request's
/// ids. Queries and credentials are not in it.
fn span(request: &Request, asked: &Method, head: &Head<'_>) -> Span {
    let route = head.route;
    let span = tracing::error_span!(
        target: plimsoll_trace::LOGGED,
        "request",
        request_id = head.context.id(),
        operation_id = head.operation(),
        trace_id = Empty,
        otel.name = route.map_or(asked.as_str(), |route| route.operation),
        otel.kind = "server",
        otel.status_code = Empty,
        error.type = Empty,
        http.request.method = asked.as_str(),
        http.route = route.map(|route| route.template),
        http.response.status_code = Empty,
        // What matches nothing may be anything, also somebody's secret.
        url.path = route.map(|_| head.path.as_str()),
        url.scheme = request.scheme().as_str(),
    );
    let parent = TraceContext::of_headers(request.headers());
    plimsoll_trace::follow(&span, parent.as_ref());
    span
}

/// Browsers open a password dialog on `WWW-Authenticate: Basic`; programs want to know the scheme.
fn from_browser(context: &RequestContext) -> bool {
    matches!(
        context.presented,
        plimsoll_app::access::Presented::Session(_)
    )
}

/// `/api/*` is an alias of `/api/v1/*`.
fn canonical(uri: &Uri) -> Option<Uri> {
    let rest = uri.path().strip_prefix("/api/")?;
    if rest == "v1" || rest.starts_with("v1/") {
        return None;
    }
    let path_and_query = match uri.query() {
        Some(query) => format!("/api/v1/{rest}?{query}"),
        None => format!("/api/v1/{rest}"),
    };
    // What was a valid path stays one with a longer prefix.
    path_and_query.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unversioned_paths_are_the_versioned_ones() {
        let to = |from: &str| canonical(&from.parse().unwrap()).map(|uri| uri.to_string());
        assert_eq!(
            to("/api/containers?limit=1").as_deref(),
            Some("/api/v1/containers?limit=1")
        );
        assert_eq!(to("/api/v1/containers"), None);
        assert_eq!(to("/api/v1x").as_deref(), Some("/api/v1/v1x"));
        assert_eq!(to("/auth/login"), None);
    }
}
