use std::{
    io::{self, Read},
    time::Duration,
};

use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::{Stream, StreamExt, stream};
use plimsoll_app::{
    sboms::{ImageDocument, SbomAnswer},
    scans::NOT_CONFIGURED,
};
use plimsoll_domain::{iso, security::SbomFormat};
use poem::{Body, IntoResponse, Response, http::StatusCode};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Header, Path, Query},
    payload::Payload,
    registry::{MetaSchemaRef, Registry},
    types::{Any, Type},
};
use serde_json::{Value, json};

use super::{
    Tag,
    described::Text,
    error::{ApiError, ErrorOf},
    instant::Instant,
    operations::plain_caller,
    prefer::Preference,
    scans::{self, limited},
};
use crate::{
    ApiState,
    auth::{Authorized, perm},
    choices, error_set,
    middleware::{context::RequestContext, rate_limit},
};

choices!(Format as "SbomFormat" = "spdx-json", "cyclonedx-json");

/// `GET /api/v1/containers/{id}/sbom`.
pub struct Sboms;

error_set!(pub ReadsSbom = 400, 404, 429, 500, 503);

/// Of those that have to be made.
const MADE: rate_limit::Scope = rate_limit::Scope {
    name: "sbom",
    ..scans::ONE
};
/// Workers look every minute whether a program is there, in seconds.
const LOOKED_FOR: u64 = 60;
/// Bytes that are decompressed at a time.
const PIECE: usize = 64 * 1024;

/// A bill of materials of the image that a container runs.
#[derive(Object)]
#[oai(rename_all = "camelCase")]
pub struct Sbom {
    /// `syft` or `trivy`
    generator: String,
    image: String,
    generated_at: Instant,
    /// `spdx-json` or `cyclonedx-json`
    format: String,
    /// In that format, up to 64 MiB
    document: Any<Value>,
    #[oai(nullable)]
    error: Option<String>,
}

/// The document as it is kept, in pieces: it is never in memory as a whole.
pub struct SbomBody {
    document: ImageDocument,
    format: SbomFormat,
}

impl IntoResponse for SbomBody {
    fn into_response(self) -> Response {
        let ImageDocument {
            generator,
            generated_at,
            image,
            document,
        } = self.document;
        let before = format!(
            "{{\"generator\":{},\"image\":{},\"generatedAt\":{},\"format\":{},\"document\":",
            Value::from(generator),
            Value::from(image),
            Value::from(iso::to_string(generated_at)),
            Value::from(self.format.as_str()),
        );
        let piece = |text: String| stream::iter([Ok(Bytes::from(text))]);
        let body = piece(before)
            .chain(pieces(document))
            .chain(piece(",\"error\":null}".to_owned()));
        Response::builder()
            .content_type("application/json; charset=utf-8")
            .body(Body::from_bytes_stream(body))
    }
}

/// What `compressed` says, piece by piece.
fn pieces(compressed: Vec<u8>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let decoder = GzDecoder::new(io::Cursor::new(compressed));
    stream::unfold(Some(decoder), |decoder| async move {
        let mut decoder = decoder?;
        let mut piece = Vec::with_capacity(PIECE);
        match decoder.by_ref().take(PIECE as u64).read_to_end(&mut piece) {
            Ok(0) => None,
            Ok(_) => Some((Ok(piece.into()), Some(decoder))),
            Err(error) => Some((Err(error), None)),
        }
    })
}

impl Payload for SbomBody {
    const CONTENT_TYPE: &'static str = "application/json; charset=utf-8";

    fn schema_ref() -> MetaSchemaRef {
        Sbom::schema_ref()
    }

    fn register(registry: &mut Registry) {
        Sbom::register(registry);
    }
}

#[derive(ApiResponse)]
pub enum SbomFound {
    #[oai(status = 200)]
    Found(SbomBody),
}

#[OpenApi(prefix_path = "/api/v1")]
impl Sboms {
    /// Get a bill of materials of what a container runs
    ///
    /// The one that was made last of this image. If there is none yet in the format, it is made:
    /// 503 with `Retry-After` if that takes longer than the client waits, and without where nothing
    /// can make one. At most 30 a minute are made: 429.
    #[oai(
        path = "/containers/:id/sbom",
        method = "get",
        operation_id = "getContainerSbom",
        tag = "Tag::Security"
    )]
    async fn get(
        &self,
        who: Authorized<perm::ContainersRead>,
        state: ApiState,
        context: RequestContext,
        id: Path<String>,
        /// `spdx-json` (the default) or `cyclonedx-json`
        format: Query<Option<Text<Format>>>,
        /// `wait=N` (seconds)
        #[oai(name = "Prefer")]
        prefer: Header<Option<String>>,
    ) -> Result<SbomFound, ErrorOf<ReadsSbom>> {
        let format = match &format.0 {
            None => SbomFormat::default(),
            Some(text) if text.0.is_empty() => SbomFormat::default(),
            Some(text) => SbomFormat::parse(&text.0).ok_or_else(unsupported)?,
        };
        let caller = plain_caller(who.principal(), &context);
        let answer = match state.app.known_sbom(&id, format, &caller).await? {
            Some(answer) => answer,
            None => {
                limited(&state, MADE).await?;
                let patience = Preference::parse(prefer.as_deref()).patience;
                let made = state.app.make_sbom(&id, format, patience, &caller);
                made.await?
            }
        };
        match answer {
            SbomAnswer::Ready(document) => Ok(SbomFound::Found(SbomBody { document, format })),
            other => Err(refusal(other).into()),
        }
    }
}

fn unsupported() -> ApiError {
    let known: Vec<&str> = SbomFormat::ALL
        .iter()
        .map(|format| format.as_str())
        .collect();
    ApiError::bad_request(format!(
        "Unsupported SBOM format. Supported values: {}",
        known.join(", ")
    ))
}

fn refusal(answer: SbomAnswer) -> ApiError {
    let because = |error: ApiError, why: String| error.with_details(json!({ "reason": why }));
    let unavailable = |text: &'static str, again: u64| {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text)
            .with_retry_after(Duration::from_secs(again))
    };
    match answer {
        SbomAnswer::NotConfigured(None) => unavailable(NOT_CONFIGURED, LOOKED_FOR),
        SbomAnswer::NotConfigured(Some(why)) => {
            because(unavailable(NOT_CONFIGURED, LOOKED_FOR), why)
        }
        SbomAnswer::Failed(why) => {
            let failed = ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "Error generating SBOM");
            because(failed, why)
        }
        SbomAnswer::Running | SbomAnswer::Ready(_) => {
            unavailable("The SBOM is still being generated", 5)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use chrono::Utc;

    use super::*;

    #[tokio::test]
    async fn a_document_is_given_out_whole() {
        let text = format!("{{\"a\":\"{}\"}}", "x".repeat(3 * PIECE + 7));
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
        encoder.write_all(text.as_bytes()).unwrap();
        let document = ImageDocument {
            generator: "syft".to_owned(),
            generated_at: Utc::now(),
            image: "app:\"1\"".to_owned(),
            document: encoder.finish().unwrap(),
        };
        let format = SbomFormat::CyclonedxJson;
        let response = SbomBody { document, format }.into_response();
        let body = response.into_body().into_string().await.unwrap();
        let shown: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(shown["document"].to_string(), text);
        assert_eq!(shown["image"], "app:\"1\"");
        assert_eq!(shown["error"], Value::Null);
        assert_eq!(shown["format"], "cyclonedx-json");
    }
}
