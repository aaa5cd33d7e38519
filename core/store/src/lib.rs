//! Postgres, which holds the truth. The only crate that names `tokio_postgres`.
//!
//! One resource, one file, with its SQL beside the functions that run it. Statements are declared
//! with `statements!`, so that a test prepares every one of them against the migrated schema.

#[macro_use]
mod statements;

pub mod accounts;
pub mod agents;
pub mod audit;
pub mod automatic_updates;
pub mod backups;
pub mod components;
pub mod containers;
mod error;
pub mod events;
pub mod history;
pub mod idempotency;
pub mod identities;
pub mod image_details;
pub mod image_documents;
pub mod image_reports;
pub mod inventory;
pub mod jobs;
pub mod journal;
pub mod login_failures;
mod migrate;
pub mod notifications;
pub mod operation_groups;
pub mod operation_inputs;
pub mod policies;
mod pool;
pub mod registry_webhooks;
pub mod removals;
pub mod requests;
pub mod reservations;
pub mod rolled_back_targets;
pub mod scripts;
pub mod self_updates;
pub mod sessions;
pub mod sightings;
pub mod stack_directories;
pub mod tag_digests;
pub mod tokens;
pub mod totals;
pub mod ui_settings;
pub mod update_operations;
pub mod users;
pub mod watchers;
pub mod webhook_deliveries;
pub mod webhook_endpoints;
pub mod workers;

pub use error::StoreError;
pub use migrate::migrate;
pub use pool::{
    Client, MaybeRetry, Place, Store, StoreSettings, Transaction, begin, commit, retrying,
};

/// Every statement of the crate, by name, for the test that prepares them all.
pub fn all_statements() -> Vec<(&'static str, &'static str)> {
    [
        accounts::STATEMENTS,
        agents::STATEMENTS,
        audit::STATEMENTS,
        automatic_updates::STATEMENTS,
        components::STATEMENTS,
        containers::STATEMENTS,
        events::STATEMENTS,
        history::STATEMENTS,
        idempotency::STATEMENTS,
        identities::STATEMENTS,
        image_details::STATEMENTS,
        image_documents::STATEMENTS,
        image_reports::STATEMENTS,
        inventory::STATEMENTS,
        notifications::STATEMENTS,
        operation_groups::STATEMENTS,
        operation_inputs::STATEMENTS,
        policies::STATEMENTS,
        sightings::STATEMENTS,
        stack_directories::STATEMENTS,
        watchers::STATEMENTS,
        workers::STATEMENTS,
        jobs::STATEMENTS,
        update_operations::STATEMENTS,
        removals::STATEMENTS,
        requests::STATEMENTS,
        registry_webhooks::STATEMENTS,
        reservations::STATEMENTS,
        backups::STATEMENTS,
        journal::STATEMENTS,
        rolled_back_targets::STATEMENTS,
        scripts::STATEMENTS,
        login_failures::STATEMENTS,
        self_updates::STATEMENTS,
        sessions::STATEMENTS,
        tag_digests::STATEMENTS,
        tokens::STATEMENTS,
        totals::STATEMENTS,
        ui_settings::STATEMENTS,
        users::STATEMENTS,
        webhook_deliveries::STATEMENTS,
        webhook_endpoints::STATEMENTS,
    ]
    .concat()
}
