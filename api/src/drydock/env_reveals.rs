use std::time::Duration;

use plimsoll_app::env_reveals::RevealedVariable;
use poem_openapi::{Object, OpenApi, param::Path, payload::Json};
use secrecy::ExposeSecret;

use super::{
    Tag,
    error::{ErrorOf, ReadsOne},
    operations::plain_caller,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    middleware::{context::RequestContext, rate_limit::Scope},
};

/// `POST /api/v1/containers/{id}/env/reveal`.
pub struct EnvReveals;

/// reference/drydock.md 1.1.
const LIMIT: Scope = Scope {
    name: "env-reveal",
    max: 10,
    window: Duration::from_secs(60),
};

#[derive(Object)]
struct RevealedEnvironment {
    env: Vec<RevealedVariableView>,
}

#[derive(Object)]
#[oai(rename = "RevealedVariable")]
struct RevealedVariableView {
    key: String,
    /// As it is, whether or not it is sensitive.
    value: String,
    sensitive: bool,
}

impl From<&RevealedVariable> for RevealedVariableView {
    fn from(variable: &RevealedVariable) -> Self {
        Self {
            key: variable.key.clone(),
            value: variable.value.expose_secret().to_owned(),
            sensitive: variable.sensitive,
        }
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl EnvReveals {
    /// Reveal a container's environment
    ///
    /// With the values that are redacted everywhere else. At most 10 in a minute for each user;
    /// each is written to the audit trail.
    #[oai(
        path = "/containers/:id/env/reveal",
        method = "post",
        operation_id = "revealContainerEnvironment",
        tag = "Tag::Containers"
    )]
    async fn reveal(
        &self,
        who: Authorized<perm::ContainersReveal>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<Json<RevealedEnvironment>, ErrorOf<ReadsOne>> {
        let verdict = state.limiter.take(LIMIT, who.name()).await;
        if let Some(refused) = verdict.filter(|verdict| !verdict.allowed) {
            return Err(refused.refusal().into());
        }
        let caller = plain_caller(who.principal(), &context);
        let revealed = state.app.reveal_environment(&id, &caller).await?;
        let env = revealed.iter().map(RevealedVariableView::from).collect();
        Ok(Json(RevealedEnvironment { env }))
    }
}
