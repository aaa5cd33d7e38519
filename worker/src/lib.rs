pub mod docker;
pub mod jobs;
pub mod live;
pub mod operations;
pub mod registry;
pub mod watchers;
