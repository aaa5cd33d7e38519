//! The ways to sign in (reference/drydock.md 1.2).

use plimsoll_app::access::Strategy;
use poem_openapi::{Object, OpenApi, payload::Json};

use super::{
    Tag,
    error::{ErrorOf, Public},
};
use crate::ApiState;

/// `/auth/strategies`, `/api/auth/methods` and `/auth/status`.
pub struct Strategies;

/// The ways to sign in.
#[derive(Object)]
#[oai(rename = "AuthStrategies")]
struct StrategyList {
    strategies: Vec<StrategyView>,
    /// What is wrong with some of them.
    warnings: Vec<String>,
}

/// The ways to sign in, and those that do not work.
#[derive(Object)]
struct AuthStatus {
    providers: Vec<StrategyView>,
    errors: Vec<StrategyError>,
}

#[derive(Object)]
#[oai(
    rename_all = "camelCase",
    rename = "AuthStrategy",
    skip_serializing_if_is_none
)]
struct StrategyView {
    /// `basic`, `oidc` or `anonymous`.
    #[oai(rename = "type")]
    kind: String,
    name: String,
    /// Whether the login page goes to the provider by itself.
    redirect: Option<bool>,
    /// Where the provider ends its own session.
    logout_url: Option<String>,
}

#[derive(Object)]
#[oai(rename = "AuthStrategyError")]
struct StrategyError {
    provider: String,
    error: String,
}

#[OpenApi]
impl Strategies {
    /// List the ways to sign in
    #[oai(
        path = "/auth/strategies",
        method = "get",
        operation_id = "listAuthStrategies",
        tag = "Tag::Authentication"
    )]
    async fn strategies(&self, state: ApiState) -> Result<Json<StrategyList>, ErrorOf<Public>> {
        Ok(Json(strategies(&state)))
    }

    /// List the ways to sign in (alias)
    ///
    /// Also at `/api/auth/methods`.
    #[oai(
        path = "/api/v1/auth/methods",
        method = "get",
        operation_id = "listAuthMethods",
        tag = "Tag::Authentication"
    )]
    async fn methods(&self, state: ApiState) -> Result<Json<StrategyList>, ErrorOf<Public>> {
        Ok(Json(strategies(&state)))
    }

    /// Tell which ways to sign in work
    ///
    /// An identity provider that did not answer when it was last asked is among the errors.
    #[oai(
        path = "/auth/status",
        method = "get",
        operation_id = "getAuthStatus",
        tag = "Tag::Authentication"
    )]
    async fn status(&self, state: ApiState) -> Result<Json<AuthStatus>, ErrorOf<Public>> {
        Ok(Json(status(&state)))
    }

    /// Tell which ways to sign in work (alias)
    #[oai(
        path = "/api/v1/auth/status",
        method = "get",
        operation_id = "getApiAuthStatus",
        tag = "Tag::Authentication"
    )]
    async fn api_status(&self, state: ApiState) -> Result<Json<AuthStatus>, ErrorOf<Public>> {
        Ok(Json(status(&state)))
    }
}

fn strategies(state: &ApiState) -> StrategyList {
    let errors = state.app.strategy_errors().into_iter();
    StrategyList {
        strategies: views(state),
        warnings: errors
            .map(|(provider, error)| format!("{provider}: {error}"))
            .collect(),
    }
}

fn status(state: &ApiState) -> AuthStatus {
    let errors = state.app.strategy_errors().into_iter();
    AuthStatus {
        providers: views(state),
        errors: errors
            .map(|(provider, error)| StrategyError { provider, error })
            .collect(),
    }
}

fn views(state: &ApiState) -> Vec<StrategyView> {
    let strategies = state.app.strategies().into_iter();
    strategies.map(StrategyView::from).collect()
}

impl From<Strategy> for StrategyView {
    fn from(strategy: Strategy) -> Self {
        Self {
            kind: strategy.kind.to_owned(),
            name: strategy.name,
            redirect: strategy.redirect,
            logout_url: strategy.logout_url,
        }
    }
}
