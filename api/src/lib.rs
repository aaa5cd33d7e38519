//! The HTTP API. The only crate that names poem; it holds no rule and no SQL: a handler takes a
//! principal, parses, calls one use case of `plimsoll_app`, and maps the answer.
//!
//! [`edge`] is around everything, [`auth`] is who may call what, and each dialect is a folder.

pub mod auth;
pub mod configuration;
pub mod docksmith;
pub mod drydock;
pub mod edge;
mod heads;
mod health;
mod json_body;
mod metrics;
pub mod middleware;
pub mod openapi;
mod owner;
mod probe;
mod server;
mod settings;
pub mod sockets;
mod state;
pub mod tls;

pub use health::Health;
pub use owner::prepare_access;
pub use probe::{ProbeAnswer, healthcheck, probe};
pub use server::{Listeners, serve};
pub use settings::{ApiSettings, DocksmithAccess, MetricsAccess, RateLimitKey, SameSite};
pub use state::ApiState;

/// The version that `GET /api/v1/app` and the OpenAPI document name.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
