//! Plimsoll's rules, as pure functions of values: no I/O, no async runtime, no clock.
//!
//! The current time is always an argument. Everything a store row, a job or a dialect shares by
//! name is defined here once.

pub mod ids;
pub mod job;
pub mod operation;
