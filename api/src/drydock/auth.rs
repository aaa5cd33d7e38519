//! Sign-in (reference/drydock.md 1.2).

use std::time::{Duration, Instant};

use plimsoll_app::{
    AppError,
    access::{Origin, Presented, Remember},
};
use poem_openapi::{ApiResponse, Object, OpenApi, payload::Json};
use secrecy::{ExposeSecret, SecretString};

use super::{
    Tag,
    body::RequiredJson,
    error::{ApiError, ErrorOf, INVALID_PARAMETERS, Reads},
};
use crate::{
    ApiState,
    auth::{Authorized, cookie, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `/auth/login` and what concerns one's own session.
pub struct Authentication;

error_set!(
    /// Signing in.
    pub SigningIn = 400, 413, 415, 423
);
error_set!(
    /// Changes to one's own session.
    pub OwnSession = 400, 413, 415
);

#[derive(Object)]
struct Credentials {
    username: String,
    password: String,
    /// Keep the session for 30 days instead of 7.
    #[oai(skip_serializing_if_is_none)]
    remember: Option<bool>,
}

#[derive(Object)]
#[oai(rename = "RememberSessionRequest")]
struct RememberChoice {
    remember: bool,
}

/// Who is signed in.
#[derive(Object)]
#[oai(rename = "CurrentUser")]
struct UserView {
    username: String,
}

#[derive(Object)]
#[oai(rename_all = "camelCase")]
struct LoggedOut {
    /// Where the identity provider ends its own session, if there is such a place.
    #[oai(skip_serializing_if_is_none)]
    logout_url: Option<String>,
}

#[derive(Object)]
struct Done {
    ok: bool,
}

#[derive(ApiResponse)]
enum SessionBegun {
    #[oai(status = 200)]
    Begun(Json<UserView>, #[oai(header = "Set-Cookie")] String),
}

#[derive(ApiResponse)]
enum SessionEnded {
    #[oai(status = 200)]
    Ended(Json<LoggedOut>, #[oai(header = "Set-Cookie")] String),
}

#[derive(ApiResponse)]
enum SessionKept {
    #[oai(status = 200)]
    Kept(Json<Done>, #[oai(header = "Set-Cookie")] Option<String>),
}

#[OpenApi]
impl Authentication {
    /// Sign in
    ///
    /// With user name and password in the body, or in an `Authorization: Basic` header. Begins a
    /// session in the cookie `drydock.sid`. Five failures of an account, or 25 of an address, lock
    /// it for 15 minutes.
    #[oai(
        path = "/auth/login",
        method = "post",
        operation_id = "login",
        tag = "Tag::Authentication"
    )]
    async fn login(
        &self,
        state: ApiState,
        context: RequestContext,
        body: RequiredJson<Credentials>,
    ) -> Result<SessionBegun, ErrorOf<SigningIn>> {
        let remember = body.0.as_ref().and_then(|body| body.remember);
        let (username, password) = match (body.0, &context.presented) {
            (Some(body), _) => (body.username, SecretString::from(body.password)),
            (
                None,
                Presented::Password {
                    username, password, ..
                },
            ) => (username.clone(), password.clone()),
            (None, _) => return Err(ApiError::bad_request(INVALID_PARAMETERS).into()),
        };
        let origin = Origin {
            client: context.client,
            request_id: context.id(),
        };
        let remember = Remember::from_flag(remember.unwrap_or(false));
        let began = Instant::now();
        let outcome = state
            .app
            .sign_in(&username, &password, remember, origin)
            .await;
        let result = match &outcome {
            Ok(_) => "success",
            Err(AppError::Locked { .. }) => "locked",
            Err(AppError::Unauthenticated(_)) => "invalid",
            Err(_) => "error",
        };
        state.metrics.login(result, "basic", began.elapsed());
        let session = outcome?;
        let cookie = cookie::begin(
            session.session_id.expose_secret(),
            Duration::from_secs(session.remember.seconds()),
            state.settings.same_site,
            context.transport,
        );
        let user = UserView {
            username: session.username,
        };
        Ok(SessionBegun::Begun(Json(user), cookie))
    }

    /// Get the signed-in user
    #[oai(
        path = "/auth/user",
        method = "get",
        operation_id = "getCurrentUser",
        tag = "Tag::Authentication"
    )]
    async fn user(
        &self,
        who: Authorized<perm::SignedIn>,
    ) -> Result<Json<UserView>, ErrorOf<Reads>> {
        Ok(Json(UserView {
            username: who.name().to_owned(),
        }))
    }

    /// Sign out
    ///
    /// Ends the session on every replica.
    #[oai(
        path = "/auth/logout",
        method = "post",
        operation_id = "logout",
        tag = "Tag::Authentication"
    )]
    async fn logout(
        &self,
        _who: Authorized<perm::SignedIn>,
        state: ApiState,
        context: RequestContext,
    ) -> Result<SessionEnded, ErrorOf<OwnSession>> {
        let logout_url = state.app.sign_out(&context.presented).await?;
        let cookie = cookie::end(state.settings.same_site, context.transport);
        Ok(SessionEnded::Ended(Json(LoggedOut { logout_url }), cookie))
    }

    /// Choose how long the session is kept
    #[oai(
        path = "/auth/remember",
        method = "post",
        operation_id = "rememberSession",
        tag = "Tag::Authentication"
    )]
    async fn remember(
        &self,
        _who: Authorized<perm::SignedIn>,
        state: ApiState,
        context: RequestContext,
        body: RequiredJson<RememberChoice>,
    ) -> Result<SessionKept, ErrorOf<OwnSession>> {
        let choice = body
            .0
            .ok_or_else(|| ApiError::bad_request(INVALID_PARAMETERS))?;
        let remember = Remember::from_flag(choice.remember);
        state.app.remember(&context.presented, remember).await?;
        // The id stays; the browser learns the new age.
        let cookie = context.session_id().map(|id| {
            cookie::begin(
                id.expose_secret(),
                Duration::from_secs(remember.seconds()),
                state.settings.same_site,
                context.transport,
            )
        });
        Ok(SessionKept::Kept(Json(Done { ok: true }), cookie))
    }
}
