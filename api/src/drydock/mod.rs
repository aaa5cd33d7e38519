//! Drydock's API, the canonical dialect (contract/drydock-app-api.md,
//! contract/drydock-container-api.md).
//!
//! One resource, one file, each an `#[OpenApi] impl` on a unit struct; handlers take what they need
//! as arguments: [`Authorized`](crate::auth::Authorized) first, then
//! [`ApiState`](crate::ApiState), [`RequestContext`](crate::middleware::context::RequestContext),
//! parameters, body. To add a resource: write the file, name its struct in [`Resources`] and in
//! [`resources`], and regenerate `openapi/drydock.json`
//! (`cargo run -p plimsoll-api -- openapi > openapi/drydock.json`). The authorisation matrix
//! (`tests/it/matrix.rs`) reads there who may call what.

pub mod actions;
pub mod agents;
pub mod app;
pub mod audit;
pub mod auth;
pub mod authentications;
pub mod backups;
pub mod batch_updates;
pub mod body;
pub mod bulk_updates;
pub mod components;
pub mod compose_mismatches;
pub mod confirm;
pub mod container_logs;
pub mod containers;
pub mod deletions;
pub mod described;
pub mod env_reveals;
pub mod error;
pub mod events;
pub mod explorer;
pub mod groups;
pub mod health;
pub mod inspections;
pub mod instant;
pub mod labels;
pub mod lines;
pub mod log;
pub mod metrics;
pub mod model;
pub mod notifications;
pub mod oidc;
pub mod operation_groups;
pub mod operations;
pub mod page;
pub mod prefer;
pub mod previews;
pub mod raw;
pub mod recent_status;
pub mod registries;
pub mod registry_tags;
pub mod registry_webhooks;
pub mod release_notes;
pub mod removals;
pub mod rollbacks;
pub mod sboms;
pub mod scans;
pub mod scripts;
pub mod security_runtime;
pub mod self_updates;
pub mod server;
pub mod spec;
pub mod stacks;
pub mod stats;
pub mod store;
pub mod strategies;
pub mod summary;
pub mod tokens;
pub mod trigger_runs;
pub mod triggers;
pub mod ui_settings;
pub mod update_operations;
pub mod update_policies;
pub mod updates;
pub mod users;
pub mod vulnerabilities;
pub mod watchers;
pub mod watches;
pub mod webhook_deliveries;
pub mod webhook_endpoints;
pub mod webhooks;

use poem::{Endpoint, EndpointExt, Response, Route};
use poem_openapi::{OpenApiService, Tags};

use crate::{
    VERSION,
    openapi::{docs, merged::Merged, v3_1},
};

/// Groups of operations in the document.
#[derive(Tags)]
pub enum Tag {
    /// Whether this replica serves, and how it does.
    Health,
    /// Sessions and sign-in.
    Authentication,
    /// Scoped API tokens.
    Tokens,
    /// Who may sign in, and what they may do.
    Users,
    /// The application and its configuration.
    App,
    /// Watched containers, their candidates, updates and ways back.
    Containers,
    /// Compose projects, and containers outside of any.
    Stacks,
    /// Images, networks and volumes of engines, and the tags of registries.
    Engines,
    /// Watchers, registries, triggers and agents as configured.
    Components,
    /// What triggers are told of.
    Notifications,
    /// What happened.
    Audit,
    /// Live events.
    Events,
    /// Scans of images, and what they found.
    Security,
    /// Calls from other systems, and to them.
    Webhooks,
}

/// Every resource. Tuples end at 16: nest them.
pub type Resources = Merged<(Core, Access, Commands, Reads, Live, Components, Security)>;
type Core = (
    health::Health,
    metrics::MetricsPage,
    spec::Document,
    app::Application,
    server::Server,
    store::DataStore,
    ui_settings::UiPreferences,
);
type Access = (
    strategies::Strategies,
    auth::Authentication,
    oidc::Oidc,
    tokens::Tokens,
    users::Users,
);
type Reads = (
    containers::Containers,
    summary::Summary,
    groups::Groups,
    stacks::Stacks,
    operation_groups::OperationGroups,
    recent_status::RecentStatuses,
    backups::Backups,
    update_operations::UpdateOperations,
    audit::Audit,
    events::Events,
    self_updates::SelfUpdates,
);
type Live = (
    container_logs::ContainerLogs,
    stats::Stats,
    env_reveals::EnvReveals,
    log::Log,
    inspections::Inspections,
    explorer::Explorer,
    registry_tags::RegistryTags,
);
type Components = (
    agents::Agents,
    watchers::Watchers,
    registries::Registries,
    authentications::Authentications,
    triggers::Triggers,
    notifications::Notifications,
    webhook_endpoints::WebhookEndpoints,
    webhook_deliveries::WebhookDeliveries,
);
type Security = (
    release_notes::ReleaseNotes,
    sboms::Sboms,
    scans::Scans,
    vulnerabilities::Vulnerabilities,
    security_runtime::SecurityRuntime,
);
type Commands = (
    actions::Actions,
    watches::Watches,
    updates::Updates,
    batch_updates::BatchUpdates,
    bulk_updates::BulkUpdates,
    compose_mismatches::ComposeMismatches,
    rollbacks::Rollbacks,
    deletions::Deletions,
    removals::Removals,
    update_policies::UpdatePolicies,
    previews::Previews,
    trigger_runs::TriggerRuns,
    webhooks::Webhooks,
    registry_webhooks::RegistryWebhooks,
    labels::Labels,
    scripts::Scripts,
);

const fn resources() -> Resources {
    let core = (
        health::Health,
        metrics::MetricsPage,
        spec::Document,
        app::Application,
        server::Server,
        store::DataStore,
        ui_settings::UiPreferences,
    );
    let access = (
        strategies::Strategies,
        auth::Authentication,
        oidc::Oidc,
        tokens::Tokens,
        users::Users,
    );
    let commands = (
        actions::Actions,
        watches::Watches,
        updates::Updates,
        batch_updates::BatchUpdates,
        bulk_updates::BulkUpdates,
        compose_mismatches::ComposeMismatches,
        rollbacks::Rollbacks,
        deletions::Deletions,
        removals::Removals,
        update_policies::UpdatePolicies,
        previews::Previews,
        trigger_runs::TriggerRuns,
        webhooks::Webhooks,
        registry_webhooks::RegistryWebhooks,
        labels::Labels,
        scripts::Scripts,
    );
    let reads = (
        containers::Containers,
        summary::Summary,
        groups::Groups,
        stacks::Stacks,
        operation_groups::OperationGroups,
        recent_status::RecentStatuses,
        backups::Backups,
        update_operations::UpdateOperations,
        audit::Audit,
        events::Events,
        self_updates::SelfUpdates,
    );
    let live = (
        container_logs::ContainerLogs,
        stats::Stats,
        env_reveals::EnvReveals,
        log::Log,
        inspections::Inspections,
        explorer::Explorer,
        registry_tags::RegistryTags,
    );
    let components = (
        agents::Agents,
        watchers::Watchers,
        registries::Registries,
        authentications::Authentications,
        triggers::Triggers,
        notifications::Notifications,
        webhook_endpoints::WebhookEndpoints,
        webhook_deliveries::WebhookDeliveries,
    );
    let security = (
        release_notes::ReleaseNotes,
        sboms::Sboms,
        scans::Scans,
        vulnerabilities::Vulnerabilities,
        security_runtime::SecurityRuntime,
    );
    Merged((core, access, commands, reads, live, components, security))
}

/// The dialect as one endpoint, at the root: its paths are what the contract names.
pub fn endpoint() -> impl Endpoint<Output = Response> {
    let service = OpenApiService::new(resources(), TITLE, VERSION);
    docs::mount(Route::new())
        .nest_no_strip("/", service)
        .map_to_response()
}

const TITLE: &str = "Plimsoll";

/// The document as it is committed and served: OpenAPI 3.1.0.
pub fn document() -> String {
    let service = OpenApiService::new(resources(), TITLE, VERSION)
        .summary("Keeps fleets of Docker containers up to date")
        .description(
            "Drydock's API, and what Plimsoll adds to it. Errors are \
             `{\"error\": string, \"details\"?: object}`.",
        )
        .license(poem_openapi::LicenseObject::new("Apache License 2.0").identifier("Apache-2.0"));
    let document = v3_1::transform(&service.spec()).expect("a generated document is valid JSON");
    let mut text = serde_json::to_string_pretty(&document).expect("JSON can be written");
    text.push('\n');
    text
}
