//! Sign-in with an identity provider (reference/drydock.md 1.2).

use std::time::{Duration, Instant};

use plimsoll_app::{
    AppError,
    access::{OidcReturn, Origin, Remember, oidc::LOGIN_SECONDS},
};
use poem::http::{HeaderMap, header};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use secrecy::{ExposeSecret, SecretString};

use super::{Tag, error::ErrorOf};
use crate::{ApiState, auth::cookie, error_set, middleware::context::RequestContext};

/// `/auth/oidc/{name}/*`.
pub struct Oidc;

error_set!(
    /// On the way to a provider and back.
    pub ThroughProvider = 400, 404
);

/// Where the login page sends the browser.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct OidcRedirect {
    /// The provider's page, with our request in its query.
    redirect: String,
    /// The addresses, without their queries, that `redirect` may lead to.
    strict_endpoints: Vec<String>,
    allowed_origins: Vec<String>,
}

#[derive(ApiResponse)]
enum Leaving {
    /// For programs of the login page, which go on by themselves
    #[oai(status = 200)]
    Told(Json<OidcRedirect>, #[oai(header = "Set-Cookie")] String),
    /// For browsers that follow a link
    #[oai(status = 302)]
    Sent(
        #[oai(header = "Location")] String,
        #[oai(header = "Set-Cookie")] String,
    ),
}

#[derive(ApiResponse)]
enum Back {
    /// Signed in; the application's own page is next
    #[oai(status = 302)]
    SignedIn(
        #[oai(header = "Location")] String,
        #[oai(header = "Set-Cookie")] String,
    ),
}

#[OpenApi]
impl Oidc {
    /// Begin to sign in with an identity provider
    ///
    /// Tells where the browser goes, or sends it there if it follows a link. What begins here is
    /// bound to the browser by a cookie, works once, on any replica, and for ten minutes.
    #[oai(
        path = "/auth/oidc/:name/redirect",
        method = "get",
        operation_id = "beginOidcLogin",
        tag = "Tag::Authentication"
    )]
    async fn begin(
        &self,
        state: ApiState,
        context: RequestContext,
        headers: &HeaderMap,
        name: Path<String>,
        /// Keep the session for 30 days instead of 7.
        remember: Query<Option<bool>>,
    ) -> Result<Leaving, ErrorOf<ThroughProvider>> {
        let remember = Remember::from_flag(remember.0.unwrap_or(false));
        let start = state.app.begin_oidc(&name.0, remember).await?;
        let cookie = cookie::login(
            &start.state,
            start.browser.expose_secret(),
            Duration::from_secs(LOGIN_SECONDS),
            context.transport,
        );
        let redirect = start.authorization_url.to_string();
        if navigates(headers) {
            return Ok(Leaving::Sent(redirect, cookie));
        }
        let view = OidcRedirect {
            redirect,
            strict_endpoints: vec![start.endpoint.to_string()],
            allowed_origins: vec![start.endpoint.origin().ascii_serialization()],
        };
        Ok(Leaving::Told(Json(view), cookie))
    }

    /// Come back from an identity provider
    ///
    /// The provider sends the browser here. Begins a session in the cookie `drydock.sid`.
    #[oai(
        path = "/auth/oidc/:name/cb",
        method = "get",
        operation_id = "finishOidcLogin",
        tag = "Tag::Authentication"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn finish(
        &self,
        api: ApiState,
        context: RequestContext,
        headers: &HeaderMap,
        name: Path<String>,
        code: Query<Option<String>>,
        state: Query<Option<String>>,
        error: Query<Option<String>>,
        /// The provider's issuer (RFC 9207).
        iss: Query<Option<String>>,
    ) -> Result<Back, ErrorOf<ThroughProvider>> {
        let browser = state.0.as_deref();
        let browser = browser.and_then(|state| cookie::login_of(headers, state));
        let back = OidcReturn {
            browser: browser.map(|secret| SecretString::from(secret.to_owned())),
            code: code.0,
            state: state.0,
            error: error.0,
            issuer: iss.0,
        };
        let origin = Origin {
            client: context.client,
            request_id: context.id(),
        };
        let began = Instant::now();
        let outcome = api.app.finish_oidc(&name.0, back, origin).await;
        let result = match &outcome {
            Ok(_) => "success",
            Err(AppError::Unauthenticated(_) | AppError::Forbidden(_)) => "invalid",
            Err(_) => "error",
        };
        api.metrics.login(result, "oidc", began.elapsed());
        let (session, home) = outcome?;
        let cookie = cookie::begin(
            session.session_id.expose_secret(),
            Duration::from_secs(session.remember.seconds()),
            api.settings.same_site,
            context.transport,
        );
        Ok(Back::SignedIn(home.to_string(), cookie))
    }
}

/// Whether a browser follows a link, and not a program of the page asks.
fn navigates(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("sec-fetch-mode") {
        Some(mode) => mode == "navigate",
        None => text(header::ACCEPT.as_str()).is_some_and(|accept| accept.contains("text/html")),
    }
}
