//! The OpenAPI documents: generated from the handlers, turned into valid 3.1.0, committed under
//! `openapi/`, and served from there.

pub mod docs;
pub mod merged;
pub mod readable;
pub mod routes;
pub mod v3_1;
