//! Plimsoll's rules, as pure functions of values: no I/O, no async runtime, no clock.
//!
//! The current time is always an argument. Everything a store row, a job or a dialect shares by
//! name is defined here once.

pub mod access;
pub mod acting;
pub mod action;
pub mod assessment;
pub mod candidate;
pub mod change;
pub mod check_status;
pub mod component;
pub mod compose;
pub mod container;
pub mod eligibility;
pub mod explorer;
pub mod gate;
pub mod hooks;
pub mod identity;
pub mod ids;
pub mod image;
pub mod iso;
pub mod job;
pub mod labels;
pub mod link;
pub mod message;
pub mod notification;
pub mod operation;
pub mod pattern;
pub mod policy;
pub mod push_event;
pub mod recovery;
pub mod redact;
pub mod registry;
pub mod release_notes;
pub mod schedule;
pub mod security;
pub mod spec;
pub mod stack;
pub mod stats;
pub mod tag;
pub mod target;
pub mod template;
pub mod trigger;
pub mod update_check;
pub mod view;
pub mod webhook;

#[cfg(test)]
mod testing;
