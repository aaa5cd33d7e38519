//! What every success is wrapped in (reference/docksmith-dokploy-dockup.md 1.1).

use chrono::Utc;
use plimsoll_domain::iso;
use poem_openapi::{
    ApiResponse, Object,
    payload::Json,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::{ParseFromJSON, ToJSON, Type},
};
use serde::Serialize;

use crate::{
    VERSION,
    drydock::{instant::Instant, raw::RawPayload},
};

/// A success.
#[derive(Object)]
pub struct Envelope<T: Type + ParseFromJSON + ToJSON> {
    /// Always `true`.
    success: bool,
    data: T,
    /// When it was answered.
    timestamp: Instant,
    /// Of Plimsoll.
    version: String,
}

/// For answers that have more beside their data.
pub fn now() -> Instant {
    Instant(Utc::now())
}

/// The answer with `data`.
pub fn ok<T: Type + ParseFromJSON + ToJSON>(data: T) -> Json<Envelope<T>> {
    Json(Envelope {
        success: true,
        data,
        timestamp: now(),
        version: VERSION.to_owned(),
    })
}

/// An answer that is written without a tree of values, for what grows with the fleet. `T` is what
/// the document says of `data`.
pub fn raw<T: Type + ParseFromJSON + ToJSON>(data: &impl Serialize) -> RawPayload<Envelope<T>> {
    raw_with(data, &())
}

/// The same, with the fields of `beside` next to `data`, documented as an `E`.
pub fn raw_with<E>(data: &impl Serialize, beside: &impl Serialize) -> RawPayload<E> {
    #[derive(Serialize)]
    struct Written<'a, D: Serialize, B: Serialize> {
        success: bool,
        data: &'a D,
        #[serde(flatten)]
        beside: &'a B,
        timestamp: String,
        version: &'static str,
    }
    let written = Written {
        success: true,
        data,
        beside,
        timestamp: iso::to_string(Utc::now()),
        version: VERSION,
    };
    // Our own types: strings as keys, and nothing that can fail.
    RawPayload::new(serde_json::to_vec(&written).unwrap_or_default().into())
}

impl<T: Type> ApiResponse for RawPayload<T> {
    fn meta() -> MetaResponses {
        MetaResponses {
            responses: vec![MetaResponse {
                description: "",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType {
                    content_type: "application/json",
                    schema: T::schema_ref(),
                }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}
