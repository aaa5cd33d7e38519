//! Operations against the real engine, registry and database.

mod actions;
mod compose;
mod dependants;
mod hooks;
mod labels;
mod process;
mod reconcile;
mod removals;
mod self_update;
mod steps;
mod updates;
mod weather;
mod world;
