//! Everything that Plimsoll asks of other machines by HTTP: registries, notifications, identity
//! providers, release notes. The only crate that builds such clients, so that the limits on time,
//! size, redirects and addresses hold for all of them.
//!
//! [`Outbound`] is for calls with one answer. Registries, which have budgets and logins of their
//! own, build on [`client`].

mod client;
mod outbound;
mod reach;
mod tls;

pub use client::{BodyError, CONNECTIONS, HEADERS, Line, Proxy, TOTAL, client, read_body};
pub use outbound::{Answer, Ask, Outbound, OutboundError};
pub use reach::{Denied, Reach, check_literal, resolve};
pub use reqwest::{Client, Error, Request, Response};
pub use tls::{Roots, Tls, Verify};
