//! Operations against the real engine, registry and database.

mod actions;
mod compose;
mod dependants;
mod hooks;
mod process;
mod reconcile;
mod removals;
mod self_update;
mod updates;
mod weather;
mod world;
