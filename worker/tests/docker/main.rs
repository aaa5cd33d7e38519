//! The real engine: what it is asked, what it answers, and whether a container comes back as it was.

mod engine;
mod host;
mod preview;
mod spec;
