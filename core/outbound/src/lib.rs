//! Everything that Plimsoll asks of other machines by HTTP: registries, notifications, identity
//! providers, release notes. The only crate that builds such clients, so that the limits on time,
//! size, redirects and addresses hold for all of them.
//!
//! [`Outbound`] is for calls with one answer. Registries, which have budgets and logins of their
//! own, build on [`client`]. Protocols other than HTTP begin with [`dial`], past the same guard.

mod client;
mod dial;
mod outbound;
mod reach;
mod redirect;
mod tls;

pub use client::{BodyError, CONNECTIONS, HEADERS, Line, Proxy, TOTAL, client, execute, read_body};
pub use dial::{Stream, Wire, dial};
pub use outbound::{Answer, Ask, Outbound, OutboundError};
pub use reach::{Denied, Reach, check_literal, resolve};
pub use redirect::Redirect;
pub use reqwest::{Client, Error, Request, Response};
pub use tls::{Roots, Tls, Verify};
