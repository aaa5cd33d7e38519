//! What happens to every request before and after its handler. The order is in [`crate::edge`].

pub mod body;
pub mod compress;
pub mod context;
pub mod cors;
pub mod csrf;
pub mod headers;
pub mod rate_limit;
pub mod wudcard;
