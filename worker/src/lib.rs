pub mod docker;
pub mod registry;
