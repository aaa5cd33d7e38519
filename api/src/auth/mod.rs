//! Who may call what.
//!
//! [`Authorized`] is the first argument of every handler, because arguments are extracted in order
//! and a stranger must hear 401 before anything about the request's form. The permission is in its
//! type, so a handler cannot be written without one.

pub mod cookie;
pub mod credential;
pub mod perm;

use std::{marker::PhantomData, ops::Deref, sync::Arc};

use plimsoll_app::{Snapshot, access::Authenticated};
use plimsoll_domain::access::Principal;
use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaSecurityScheme, Registry},
};

use crate::{ApiState, drydock::error::ApiError, middleware::context::RequestContext};

/// Security schemes of this name are not credentials: they carry the permission of an operation
/// into the document, where `openapi::v3_1` turns them into `security` and `x-permission`.
pub const PERMISSION_MARK: &str = "permission ";

/// A principal who holds the permission `P`.
pub struct Authorized<P> {
    principal: Arc<Principal>,
    snapshot: Arc<Snapshot>,
    permission: PhantomData<fn() -> P>,
}

impl<P> Authorized<P> {
    pub fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// The inventory that came with the check of the credential: no older than the request, so
    /// lists answer from it instead of reading again.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }
}

impl<P> Deref for Authorized<P> {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

impl<'a, P: perm::Needs> ApiExtractor<'a> for Authorized<P> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        for (name, scheme) in schemes() {
            registry.create_security_scheme(name, scheme);
        }
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![P::MARK]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let Authenticated {
            principal,
            snapshot,
        } = authenticate(request).await?;
        match P::PERMISSION {
            Some(permission) if !principal.may(permission) => {
                Err(ApiError::forbidden(format!("This needs the permission {permission}")).into())
            }
            _ => Ok(Self {
                principal,
                snapshot,
                permission: PhantomData,
            }),
        }
    }
}

/// The principal behind a request, whatever they may do.
pub async fn authenticate(request: &Request) -> Result<Authenticated, ApiError> {
    let (state, context) = parts(request)?;
    let authenticated = state
        .app
        .authenticate(&context.presented, context.client)
        .await?;
    context.seen(&authenticated.principal);
    Ok(authenticated)
}

/// What the edge attached to the request.
pub fn parts(request: &Request) -> Result<(&ApiState, &RequestContext), ApiError> {
    match (request.data::<ApiState>(), request.data::<RequestContext>()) {
        (Some(state), Some(context)) => Ok((state, context)),
        _ => Err(ApiError::internal("a handler ran outside the edge")),
    }
}

pub const SESSION_SCHEME: &str = "session";
pub const BASIC_SCHEME: &str = "basic";
pub const TOKEN_SCHEME: &str = "token";

fn schemes() -> [(&'static str, MetaSecurityScheme); 3] {
    let scheme = |ty, description| MetaSecurityScheme {
        ty,
        description: Some(description),
        name: None,
        key_in: None,
        scheme: None,
        bearer_format: None,
        flows: None,
        openid_connect_url: None,
    };
    [
        (
            SESSION_SCHEME,
            MetaSecurityScheme {
                name: Some(cookie::SESSION),
                key_in: Some("cookie"),
                ..scheme("apiKey", "The session that POST /auth/login begins")
            },
        ),
        (
            BASIC_SCHEME,
            MetaSecurityScheme {
                scheme: Some("basic"),
                ..scheme("http", "User name and password with each request")
            },
        ),
        (
            TOKEN_SCHEME,
            MetaSecurityScheme {
                scheme: Some("bearer"),
                ..scheme("http", "A scoped API token from POST /api/v1/tokens")
            },
        ),
    ]
}
