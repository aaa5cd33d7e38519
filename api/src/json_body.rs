//! JSON bodies, whatever their `Content-Type` says: `Json<Option<T>>` answers 415 to a POST that has
//! none, which is what every `curl -X POST` of the contracts sends.

use poem::RequestBody;
use poem_openapi::types::ParseFromJSON;

/// Makes `$name<T>` an extractor whose value is what `$read` makes of the body's bytes.
macro_rules! json_body {
    ($name:ident, $required:literal, $read:expr) => {
        impl<'a, T: poem_openapi::types::ParseFromJSON> poem_openapi::ApiExtractor<'a>
            for $name<T>
        {
            const TYPES: &'static [poem_openapi::ApiExtractorType] =
                &[poem_openapi::ApiExtractorType::RequestObject];
            const PARAM_IS_REQUIRED: bool = false;
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut poem_openapi::registry::Registry) {
                T::register(registry);
            }

            fn request_meta() -> Option<poem_openapi::registry::MetaRequest> {
                use poem_openapi::{payload::Payload, types::Type};
                Some(poem_openapi::registry::MetaRequest {
                    description: None,
                    content: vec![poem_openapi::registry::MetaMediaType {
                        content_type: poem_openapi::payload::Json::<T>::CONTENT_TYPE,
                        schema: <T as Type>::schema_ref(),
                    }],
                    required: $required,
                })
            }

            async fn from_request(
                _request: &'a poem::Request,
                body: &mut poem::RequestBody,
                _options: poem_openapi::ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let found = $crate::json_body::read(body).await?;
                $read(found).map(Self).map_err(Into::into)
            }
        }
    };
}

pub(crate) use json_body;

/// Why a body is none.
#[derive(Debug)]
pub(crate) enum Unreadable {
    NoJson,
    /// With what is wrong, for people.
    Other(String),
}

/// `None`: there is nothing but white space.
pub(crate) async fn read<T: ParseFromJSON>(
    body: &mut RequestBody,
) -> poem::Result<Option<Result<T, Unreadable>>> {
    let bytes = body.take()?.into_bytes().await?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let Ok(value) = serde_json::from_slice(&bytes) else {
        return Ok(Some(Err(Unreadable::NoJson)));
    };
    let parsed = T::parse_from_json(Some(value));
    Ok(Some(
        parsed.map_err(|error| Unreadable::Other(error.into_message())),
    ))
}
