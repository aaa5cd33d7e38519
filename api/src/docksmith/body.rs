//! JSON bodies, whatever their `Content-Type` says: half of the scripts send none.

use poem::{Request, RequestBody};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    payload::{Json, Payload},
    registry::{MetaMediaType, MetaRequest, Registry},
    types::{ParseFromJSON, Type},
};

use super::error::BAD_BODY;
use crate::drydock::error::ApiError;

/// A body that must be there.
pub struct Required<T>(pub T);

/// One that may be left out.
pub struct Optional<T>(pub Option<T>);

macro_rules! extractor {
    ($name:ident, $required:literal, $read:expr) => {
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
                let bytes = body.take()?.into_bytes().await?;
                $read(&bytes).map(Self).map_err(Into::into)
            }
        }
    };
}

extractor!(Required, true, read);
extractor!(Optional, false, |bytes: &[u8]| {
    match bytes.iter().all(u8::is_ascii_whitespace) {
        true => Ok(None),
        false => read(bytes).map(Some),
    }
});

fn read<T: ParseFromJSON>(bytes: &[u8]) -> Result<T, ApiError> {
    let value = serde_json::from_slice(bytes).map_err(|_| ApiError::bad_request(BAD_BODY))?;
    T::parse_from_json(Some(value))
        .map_err(|error| ApiError::bad_request(format!("{BAD_BODY}: {}", error.into_message())))
}
