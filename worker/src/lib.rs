pub mod docker;
pub mod jobs;
pub mod operations;
pub mod registry;
pub mod watchers;
