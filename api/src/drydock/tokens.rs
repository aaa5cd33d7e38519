use chrono::{DateTime, Utc};
use plimsoll_app::access::{TokenRequest, TokenRow};
use plimsoll_domain::{access::Scope, ids::TokenId};
use poem_openapi::{
    ApiResponse, Object, OpenApi, param::Path, payload::Json, registry::MetaSchema,
};
use secrecy::ExposeSecret;

use super::{
    Tag,
    described::{Description, Text},
    error::{ApiError, ErrorOf, Reads},
    instant::Instant,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set, words,
};

/// `/api/v1/tokens`.
pub struct Tokens;

error_set!(pub Creating = 400, 409, 413, 415);
error_set!(pub Revoking = 404);

#[derive(Object)]
#[oai(rename = "CreateTokenRequest", rename_all = "camelCase")]
struct NewTokenBody {
    /// What it is for, 1 to 100 characters.
    name: Text<TokenName>,
    /// Permissions, such as `containers:read`; none that you do not have.
    scopes: Vec<Text<ScopeName>>,
    /// Absent: until it is revoked.
    #[oai(skip_serializing_if_is_none)]
    expires_at: Option<DateTime<Utc>>,
}

words!(TokenName = 1..=100, r"^[^\p{C}]*[^\p{C}\s][^\p{C}]*$");

/// A permission.
enum ScopeName {}

impl Description for ScopeName {
    const NAME: Option<&'static str> = Some("Permission");

    fn schema() -> MetaSchema {
        let mut schema = MetaSchema::new("string");
        schema.enum_items = Scope::ALL.iter().map(|s| s.as_str().into()).collect();
        schema
    }
}

/// A token without its secret.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "Token")]
struct TokenView {
    id: String,
    name: String,
    /// How the token begins, to recognise it by.
    prefix: String,
    scopes: Vec<String>,
    created_at: Instant,
    #[oai(skip_serializing_if_is_none)]
    expires_at: Option<Instant>,
    /// To the minute.
    #[oai(skip_serializing_if_is_none)]
    last_used_at: Option<Instant>,
}

/// A new token. Its secret is never shown again.
#[derive(Object)]
#[oai(rename = "CreatedToken", rename_all = "camelCase")]
struct CreatedTokenView {
    /// For `Authorization: Bearer`.
    token: String,
    id: String,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    created_at: Instant,
    #[oai(skip_serializing_if_is_none)]
    expires_at: Option<Instant>,
}

#[derive(Object)]
struct TokenList {
    data: Vec<TokenView>,
    total: u64,
}

#[derive(ApiResponse)]
enum Created {
    #[oai(status = 201)]
    Created(Json<CreatedTokenView>),
}

#[derive(ApiResponse)]
enum Revoked {
    #[oai(status = 204)]
    Revoked,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Tokens {
    /// List your API tokens
    #[oai(
        path = "/tokens",
        method = "get",
        operation_id = "listTokens",
        tag = "Tag::Tokens"
    )]
    async fn list(
        &self,
        who: Authorized<perm::TokensWrite>,
        state: ApiState,
    ) -> Result<Json<TokenList>, ErrorOf<Reads>> {
        let data: Vec<TokenView> = state
            .app
            .tokens(&who)
            .await?
            .into_iter()
            .map(TokenView::from)
            .collect();
        let total = data.len() as u64;
        Ok(Json(TokenList { data, total }))
    }

    /// Create an API token
    ///
    /// The answer is the only place that shows the secret.
    #[oai(
        path = "/tokens",
        method = "post",
        operation_id = "createToken",
        tag = "Tag::Tokens"
    )]
    async fn create(
        &self,
        who: Authorized<perm::TokensWrite>,
        state: ApiState,
        body: Json<NewTokenBody>,
    ) -> Result<Created, ErrorOf<Creating>> {
        let request = TokenRequest {
            name: body.0.name.0,
            scopes: body.0.scopes.into_iter().map(|scope| scope.0).collect(),
            expires_at: body.0.expires_at,
        };
        let created = state.app.create_token(&who, request, Utc::now()).await?;
        let view = TokenView::from(created.row);
        Ok(Created::Created(Json(CreatedTokenView {
            token: created.secret.expose_secret().to_owned(),
            id: view.id,
            name: view.name,
            prefix: view.prefix,
            scopes: view.scopes,
            created_at: view.created_at,
            expires_at: view.expires_at,
        })))
    }

    /// Revoke an API token
    ///
    /// Every replica refuses it from the next request on.
    #[oai(
        path = "/tokens/:id",
        method = "delete",
        operation_id = "revokeToken",
        tag = "Tag::Tokens"
    )]
    async fn revoke(
        &self,
        who: Authorized<perm::TokensWrite>,
        state: ApiState,
        id: Path<String>,
    ) -> Result<Revoked, ErrorOf<Revoking>> {
        let id: TokenId = id
            .parse()
            .map_err(|_| ApiError::not_found("Token not found"))?;
        state.app.revoke_token(&who, id).await?;
        Ok(Revoked::Revoked)
    }
}

impl From<TokenRow> for TokenView {
    fn from(row: TokenRow) -> Self {
        Self {
            id: row.id.to_string(),
            name: row.name,
            prefix: row.prefix,
            scopes: row.scopes.iter().map(|scope| scope.to_string()).collect(),
            created_at: Instant(row.created_at),
            expires_at: row.expires_at.map(Instant),
            last_used_at: row.last_used_at.map(Instant),
        }
    }
}
