//! Request bodies that may be left out.

use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    payload::{Json, Payload},
    registry::{MetaMediaType, MetaRequest, Registry},
    types::{ParseFromJSON, Type},
};

use super::error::{ApiError, INVALID_PARAMETERS};

/// A JSON body that an action may come without: `Json<Option<T>>` answers 415 to a POST that has
/// no `Content-Type`, which is what every `curl -X POST` of the contract sends.
pub struct LenientJson<T>(pub Option<T>);

impl<'a, T: ParseFromJSON> ApiExtractor<'a> for LenientJson<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    const PARAM_IS_REQUIRED: bool = false;
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(MetaRequest {
            description: None,
            content: vec![MetaMediaType {
                content_type: Json::<T>::CONTENT_TYPE,
                schema: <T as Type>::schema_ref(),
            }],
            required: false,
        })
    }

    async fn from_request(
        _request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let bytes = body.take()?.into_bytes().await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(None));
        }
        let value = serde_json::from_slice(&bytes)
            .map_err(|_| ApiError::bad_request(INVALID_PARAMETERS))?;
        match T::parse_from_json(Some(value)) {
            Ok(value) => Ok(Self(Some(value))),
            Err(_) => Err(ApiError::bad_request(INVALID_PARAMETERS).into()),
        }
    }
}
