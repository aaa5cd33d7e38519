//! End to end, on real parts: one binary, so that it is linked once.
//!
//! Add a file per subject and name it here.

mod access;
mod actions;
mod agents;
mod api_binary;
mod automatic;
mod compose;
mod contract;
mod crashes;
mod events;
mod fleet;
mod fuzz;
mod garbage;
mod listener;
mod lists;
mod logs;
mod matrix;
mod notifications;
mod oidc;
mod readme;
mod reads;
mod release_notes;
mod replica;
mod replicas;
mod rpc;
mod secrets;
mod security;
mod socket;
mod standalone;
mod statements;
mod stats;
mod stream;
mod support;
mod trigger_runs;
mod updates;
mod users;
mod watch;
mod weather;
mod worker;
mod world;
