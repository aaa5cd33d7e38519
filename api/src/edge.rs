//! What is around every route, in order:
//!
//! 1. `/health`, before anything else: probes must not depend on limits.
//! 2. Questions of other origins' pages, where they may ask. Context: request id, client address, presented credential.
//! 3. `/api/*` becomes `/api/v1/*` (its alias), `HEAD` becomes `GET`.
//! 4. Limits on the number of requests, on browsers from elsewhere, on bodies.
//! 5. The route, with panics caught.
//! 6. Errors in the contract's words, headers, compression, metrics, one log line.

use std::{panic::AssertUnwindSafe, sync::OnceLock, time::Instant};

use futures::FutureExt;
use poem::{
    Endpoint, IntoResponse, Request, Response, Result,
    http::{HeaderValue, Method, StatusCode, Uri, header},
};
use poem_openapi::OperationId;

use crate::{
    ApiState,
    auth::cookie::Transport,
    drydock::{
        self,
        error::{self, ApiError, Cause},
        health,
    },
    middleware::{
        body, compress,
        context::RequestContext,
        csrf, headers,
        rate_limit::{self, Verdict},
    },
    openapi::routes::Routes,
};

/// The whole API as one endpoint.
pub fn root(state: ApiState) -> impl Endpoint<Output = Response> + use<> {
    Edge {
        inner: drydock::endpoint(),
        state,
        routes: OnceLock::new(),
    }
}

struct Edge<E> {
    inner: E,
    state: ApiState,
    routes: OnceLock<Routes>,
}

impl<E: Endpoint<Output = Response>> Endpoint for Edge<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let started = Instant::now();
        if request.uri().path() == "/health" && request.method() == Method::GET {
            return Ok(self.health(started).await);
        }
        let cors = self.state.settings.cors.as_ref();
        if let Some(answer) = cors.and_then(|cors| cors.preflight(&request)) {
            return Ok(answer);
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        let context = RequestContext::of(&request, &self.state.settings);
        if let Some(canonical) = canonical(request.uri()) {
            *request.uri_mut() = canonical;
        }
        if request.method() == Method::HEAD {
            // The connection drops the body.
            request.set_method(Method::GET);
        }
        let method = request.method().clone();
        let path = request.uri().path().to_owned();
        let gzip =
            self.state.settings.compression.is_enabled() && compress::accepts(request.headers());

        let verdict = rate_limit::check(&path, &self.state, &context).await;
        let mut response = match self.admit(&mut request, &context, verdict).await {
            Ok(()) => self.handle(request, &context).await,
            Err(refusal) => refusal.into_response(),
        };

        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            self.allow(&path, &mut response);
        }
        if response.status() == StatusCode::UNAUTHORIZED && !from_browser(&context) {
            response
                .headers_mut()
                .entry(header::WWW_AUTHENTICATE)
                .or_insert(HeaderValue::from_static("Bearer"));
        }
        if let Some(verdict) = verdict {
            verdict.describe(response.headers_mut());
        }
        headers::secure(response.headers_mut(), context.transport);
        headers::request_id(response.headers_mut(), context.id());
        if gzip {
            response =
                compress::compress(response, self.state.settings.compression_threshold).await;
        }
        if let Some(cors) = cors {
            cors.describe(origin.as_ref(), response.headers_mut());
        }
        self.record(&method, &path, &context, &response, started);
        Ok(response)
    }
}

impl<E: Endpoint<Output = Response>> Edge<E> {
    async fn health(&self, started: Instant) -> Response {
        let mut response = health::respond(&self.state).await;
        headers::secure(response.headers_mut(), Transport::Any);
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
        context: &RequestContext,
        verdict: Option<Verdict>,
    ) -> Result<(), ApiError> {
        if let Some(refused) = verdict.filter(|verdict| !verdict.allowed) {
            return Err(refused.refusal());
        }
        csrf::check(request, context, &self.state.settings)?;
        body::admit(request, self.state.settings.body_deadline).await
    }

    async fn handle(&self, mut request: Request, context: &RequestContext) -> Response {
        request.set_data(self.state.clone());
        request.set_data(context.clone());
        let answer = AssertUnwindSafe(self.inner.call(request))
            .catch_unwind()
            .await;
        match answer {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                let operation = error.data::<OperationId>().copied();
                let mut response = error::to_response(error);
                if let Some(operation) = operation {
                    response.set_data(operation);
                }
                response
            }
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

    /// RFC 9110: a 405 names what is allowed; poem's router does not.
    fn allow(&self, path: &str, response: &mut Response) {
        let routes = self.routes.get_or_init(Routes::of_drydock);
        let methods = routes.methods(path);
        if let Ok(value) = HeaderValue::from_str(&methods.join(", ")) {
            response.headers_mut().insert(header::ALLOW, value);
        }
    }

    fn record(
        &self,
        method: &Method,
        path: &str,
        context: &RequestContext,
        response: &Response,
        started: Instant,
    ) {
        let operation = response
            .data::<OperationId>()
            .map_or("unmatched", |operation| operation.0);
        let status = response.status();
        let took = started.elapsed();
        self.state.metrics.observe(operation, status.as_u16(), took);
        let cause = response.data::<Cause>().map(|cause| cause.0.as_str());
        let actor = context.principal().map(|principal| principal.name());
        macro_rules! line {
            ($level:expr) => {
                tracing::event!(
                    $level,
                    request = context.id(),
                    %method,
                    path,
                    operation,
                    status = status.as_u16(),
                    took_ms = took.as_secs_f64() * 1e3,
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
