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

/// A JSON body that must be there. Unlike [`Json`] it answers 400 to a request that has none, as
/// the contract does, and not 415.
pub struct RequiredJson<T>(pub Option<T>);

macro_rules! extractor {
    ($name:ident, $required:literal) => {
        impl<'a, T: ParseFromJSON> ApiExtractor<'a> for $name<T> {
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
                    required: $required,
                })
            }

            async fn from_request(
                _request: &'a Request,
                body: &mut RequestBody,
                _options: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                Ok(Self(read(body).await?))
            }
        }
    };
}

extractor!(LenientJson, false);
extractor!(RequiredJson, true);

/// `None`: there is none. A use case refuses that where it needs one.
async fn read<T: ParseFromJSON>(body: &mut RequestBody) -> poem::Result<Option<T>> {
    let bytes = body.take()?.into_bytes().await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let invalid = || ApiError::bad_request(INVALID_PARAMETERS);
    let value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
    let parsed = T::parse_from_json(Some(value));
    Ok(Some(parsed.map_err(|_| invalid())?))
}
