//! Destructive actions say what they confirm (contract/drydock-app-api.md, "Destructive action
//! confirmation").

use std::marker::PhantomData;

use poem::{Request, RequestBody, http::StatusCode};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaParamIn, MetaSchemaRef, Registry},
    types::Type,
};

use super::error::ApiError;

const HEADER: &str = "X-DD-Confirm-Action";

/// The word that an action is confirmed with.
pub trait Confirmation: Send + Sync + 'static {
    const TOKEN: &'static str;
}

pub enum ContainerRollback {}

impl Confirmation for ContainerRollback {
    const TOKEN: &'static str = "container-rollback";
}

pub enum ContainerDelete {}

impl Confirmation for ContainerDelete {
    const TOKEN: &'static str = "container-delete";
}

/// Proof that the request carried `X-DD-Confirm-Action: <token>`; without it the answer is 428.
/// Comes after [`Authorized`](crate::auth::Authorized), so that it tells nothing to strangers:
///
/// `#[oai(name = "X-DD-Confirm-Action")] _confirmed: Confirmed<ContainerDelete>`
pub struct Confirmed<C>(PhantomData<fn() -> C>);

impl<'a, C: Confirmation> ApiExtractor<'a> for Confirmed<C> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = true;
    type ParamType = String;
    type ParamRawType = String;

    fn register(registry: &mut Registry) {
        <String as Type>::register(registry);
    }

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        let mut schema = match String::schema_ref() {
            MetaSchemaRef::Inline(schema) => schema,
            reference => return Some(reference),
        };
        schema.enum_items = vec![C::TOKEN.into()];
        Some(MetaSchemaRef::Inline(schema))
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<String>,
    ) -> poem::Result<Self> {
        let confirmed = request
            .header(HEADER)
            .is_some_and(|value| value.trim().eq_ignore_ascii_case(C::TOKEN));
        if confirmed {
            return Ok(Self(PhantomData));
        }
        Err(ApiError::new(
            StatusCode::PRECONDITION_REQUIRED,
            format!("Confirmation required: {HEADER}={}", C::TOKEN),
        )
        .into())
    }
}
