//! Docksmith's API (contract/docksmith-api.md): what its scripts and widgets ask, answered here.

mod access;
mod containers;
mod events;
mod history;
mod registries;
mod stacks;
mod walk;
