use plimsoll_app::users::{self, AccountRow, NewUser, UserChange};
use plimsoll_domain::{access::Role, ids::UserId};
use poem::http::Uri;
use poem_openapi::{
    ApiResponse, Enum, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use secrecy::SecretString;

use super::{
    Tag,
    error::{ApiError, Changes, ErrorOf, INVALID_PARAMETERS, Reads},
    instant::Instant,
    operations::plain_caller,
    page::{List, Page, PageNumber},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `/api/v1/users`.
pub struct Users;

error_set!(pub CreatingUser = 400, 409, 413, 415);
error_set!(pub RemovingUser = 404, 409);

/// What a user may do; each may also do what the one after it may.
#[derive(Clone, Copy, Enum)]
#[oai(rename_all = "lowercase", rename = "Role")]
enum RoleName {
    Owner,
    Admin,
    Operator,
    Viewer,
}

/// A user without secrets.
#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "User")]
struct UserView {
    id: String,
    username: String,
    role: RoleName,
    /// `configuration` (changed there only), `generated` (the first owner), `local` (made here) or
    /// `oidc` (comes from an identity provider).
    source: String,
    /// The identity provider's.
    #[oai(skip_serializing_if_is_none)]
    issuer: Option<String>,
    disabled: bool,
    created_at: Instant,
}

#[derive(Object)]
#[oai(rename = "CreateUserRequest", rename_all = "camelCase")]
struct NewUserBody {
    /// 1 to 100 printable characters without a colon.
    username: String,
    /// At least 12 bytes.
    password: String,
    role: RoleName,
}

/// What to change; at least one field.
#[derive(Object)]
#[oai(
    rename = "UpdateUserRequest",
    rename_all = "camelCase",
    skip_serializing_if_is_none
)]
struct UserChangeBody {
    username: Option<String>,
    /// At least 12 bytes.
    password: Option<String>,
    role: Option<RoleName>,
    disabled: Option<bool>,
}

#[derive(ApiResponse)]
enum UserCreated {
    #[oai(status = 201)]
    Created(Json<UserView>),
}

#[derive(ApiResponse)]
enum UserRemoved {
    #[oai(status = 204)]
    Removed,
}

#[OpenApi(prefix_path = "/api/v1")]
impl Users {
    /// List users
    ///
    /// By name.
    #[oai(
        path = "/users",
        method = "get",
        operation_id = "listUsers",
        tag = "Tag::Users"
    )]
    async fn list(
        &self,
        who: Authorized<perm::UsersWrite>,
        state: ApiState,
        context: RequestContext,
        uri: &Uri,
        /// At most 200; 0 means all.
        limit: Query<Option<PageNumber>>,
        offset: Query<Option<PageNumber>>,
    ) -> Result<Json<List<UserView>>, ErrorOf<Reads>> {
        let page = Page::all(limit.0, offset.0);
        let all = state.app.users(&plain_caller(&who, &context)).await?;
        let total = all.len() as u64;
        let data = page.slice(&all).iter().cloned().map(UserView::from);
        let query = uri.query().unwrap_or("");
        let list = List::of(page, data.collect(), total, "/api/v1/users", query);
        Ok(Json(list))
    }

    /// Create a user
    ///
    /// Admins create operators and viewers, owners everybody.
    #[oai(
        path = "/users",
        method = "post",
        operation_id = "createUser",
        tag = "Tag::Users"
    )]
    async fn create(
        &self,
        who: Authorized<perm::UsersWrite>,
        state: ApiState,
        context: RequestContext,
        body: Json<NewUserBody>,
    ) -> Result<UserCreated, ErrorOf<CreatingUser>> {
        let new = NewUser {
            username: body.0.username,
            password: SecretString::from(body.0.password),
            role: body.0.role.into(),
        };
        let caller = plain_caller(&who, &context);
        let row = state.app.create_user(new, &caller).await?;
        Ok(UserCreated::Created(Json(row.into())))
    }

    /// Change a user
    ///
    /// What the body does not name stays. The user's sessions end; sessions and tokens lose what
    /// the user loses on every replica at once. Users of the configuration are changed there, the
    /// last owner remains one.
    #[oai(
        path = "/users/:id",
        method = "patch",
        operation_id = "updateUser",
        tag = "Tag::Users"
    )]
    async fn change(
        &self,
        who: Authorized<perm::UsersWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        body: Json<UserChangeBody>,
    ) -> Result<Json<UserView>, ErrorOf<Changes>> {
        let body = body.0;
        let change = UserChange {
            username: body.username,
            password: body.password.map(SecretString::from),
            role: body.role.map(Role::from),
            disabled: body.disabled,
        };
        let nothing = change.username.is_none()
            && change.password.is_none()
            && change.role.is_none()
            && change.disabled.is_none();
        if nothing {
            return Err(ApiError::bad_request(INVALID_PARAMETERS).into());
        }
        let caller = plain_caller(&who, &context);
        let row = state.app.change_user(user(&id)?, change, &caller).await?;
        Ok(Json(row.into()))
    }

    /// Remove a user
    ///
    /// With sessions and tokens. Somebody who comes from an identity provider may come back as a
    /// new user; disable them to keep them out.
    #[oai(
        path = "/users/:id",
        method = "delete",
        operation_id = "deleteUser",
        tag = "Tag::Users"
    )]
    async fn remove(
        &self,
        who: Authorized<perm::UsersWrite>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
    ) -> Result<UserRemoved, ErrorOf<RemovingUser>> {
        let caller = plain_caller(&who, &context);
        state.app.delete_user(user(&id)?, &caller).await?;
        Ok(UserRemoved::Removed)
    }
}

fn user(id: &str) -> Result<UserId, ApiError> {
    id.parse()
        .map_err(|_| ApiError::not_found(users::NOT_FOUND))
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Owner => Self::Owner,
            RoleName::Admin => Self::Admin,
            RoleName::Operator => Self::Operator,
            RoleName::Viewer => Self::Viewer,
        }
    }
}

impl From<Role> for RoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Admin => Self::Admin,
            Role::Operator => Self::Operator,
            Role::Viewer => Self::Viewer,
        }
    }
}

impl From<AccountRow> for UserView {
    fn from(row: AccountRow) -> Self {
        Self {
            id: row.id.to_string(),
            username: row.username,
            role: row.role.into(),
            source: row.source,
            issuer: row.issuer,
            disabled: row.disabled,
            created_at: Instant(row.created_at),
        }
    }
}
