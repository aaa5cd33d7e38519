//! What every Plimsoll process needs around its work: configuration, telemetry, orderly shutdown,
//! child processes.

pub mod child;
