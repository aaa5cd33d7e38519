use plimsoll_app::{totals::LegacySource, ui_settings::UiSettings};
use poem::{
    IntoResponse, Response,
    http::{HeaderMap, HeaderValue},
};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    payload::Json,
    registry::{MetaHeader, MetaResponses, Registry},
    types::Type,
};

use super::{
    Tag,
    body::RequiredJson,
    error::{ApiError, ErrorOf, INVALID_PARAMETERS, Reads},
    operations::plain_caller,
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    error_set,
    middleware::context::RequestContext,
};

/// `/api/v1/settings`.
pub struct UiPreferences;

error_set!(pub Changing = 400, 413, 415);

#[derive(Object)]
#[oai(rename_all = "camelCase", rename = "Settings")]
struct SettingsView {
    /// Nothing is asked of the Internet for display: no icons, no release notes.
    internetless_mode: bool,
}

impl From<UiSettings> for SettingsView {
    fn from(settings: UiSettings) -> Self {
        Self {
            internetless_mode: settings.internetless_mode,
        }
    }
}

/// 2026-03-01, when the contract's 1.4 made PATCH canonical.
const DEPRECATED: HeaderValue = HeaderValue::from_static("@1772323200");
const SUNSET: HeaderValue = HeaderValue::from_static("Fri, 31 Dec 2027 23:59:59 GMT");
/// `PUT` means `PATCH`, until it goes away.
const GOING: &str = "replaceSettings";

/// Says of an operation that goes away that it does, however it answers.
pub fn describe(operation: &str, headers: &mut HeaderMap) {
    if operation == GOING {
        headers.insert("deprecation", DEPRECATED);
        headers.insert("sunset", SUNSET);
    }
}

/// What an operation that goes away answers.
struct Going<R>(R);

impl<R: ApiResponse> ApiResponse for Going<R> {
    fn meta() -> MetaResponses {
        let header = |name: &str, description: &str| MetaHeader {
            name: name.to_owned(),
            description: Some(description.to_owned()),
            required: true,
            deprecated: false,
            schema: String::schema_ref(),
        };
        let mut meta = R::meta();
        for response in &mut meta.responses {
            response.headers.extend([
                header("Deprecation", "Since when it is deprecated (RFC 9745)."),
                header("Sunset", "When it goes away (RFC 8594)."),
            ]);
        }
        meta
    }

    fn register(registry: &mut Registry) {
        R::register(registry);
    }
}

impl<R: IntoResponse> IntoResponse for Going<R> {
    fn into_response(self) -> Response {
        self.0.into_response()
    }
}

impl<R: Into<poem::Error>> From<Going<R>> for poem::Error {
    fn from(answer: Going<R>) -> Self {
        answer.0.into()
    }
}

#[OpenApi(prefix_path = "/api/v1")]
impl UiPreferences {
    /// Get the settings of the user interface
    #[oai(
        path = "/settings",
        method = "get",
        operation_id = "getSettings",
        tag = "Tag::App"
    )]
    async fn get(
        &self,
        _who: Authorized<perm::SystemRead>,
        state: ApiState,
    ) -> Result<Json<SettingsView>, ErrorOf<Reads>> {
        Ok(Json(state.app.ui_settings().await?.into()))
    }

    /// Change the settings of the user interface
    #[oai(
        path = "/settings",
        method = "patch",
        operation_id = "updateSettings",
        tag = "Tag::App"
    )]
    async fn change(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        body: RequiredJson<SettingsView>,
    ) -> Result<Json<SettingsView>, ErrorOf<Changing>> {
        Ok(Json(changed(&who, &state, &context, body).await?))
    }

    /// Change the settings of the user interface, as older clients do
    ///
    /// The same as `PATCH`, which is to be used instead.
    #[oai(
        path = "/settings",
        method = "put",
        operation_id = "replaceSettings",
        tag = "Tag::App",
        deprecated
    )]
    async fn put(
        &self,
        who: Authorized<perm::SettingsWrite>,
        state: ApiState,
        context: RequestContext,
        body: RequiredJson<SettingsView>,
    ) -> Result<Going<Json<SettingsView>>, Going<ErrorOf<Changing>>> {
        let settings = changed(&who, &state, &context, body).await.map_err(Going)?;
        let tally = state.app.tally();
        tally.legacy(LegacySource::Api, "PUT /settings");
        Ok(Going(Json(settings)))
    }
}

async fn changed(
    who: &Authorized<perm::SettingsWrite>,
    state: &ApiState,
    context: &RequestContext,
    body: RequiredJson<SettingsView>,
) -> Result<SettingsView, ErrorOf<Changing>> {
    let caller = plain_caller(who.principal(), context);
    let wanted = body
        .0
        .ok_or_else(|| ApiError::bad_request(INVALID_PARAMETERS))?;
    let wanted = UiSettings {
        internetless_mode: wanted.internetless_mode,
    };
    state.app.change_ui_settings(wanted, &caller).await?;
    Ok(wanted.into())
}
