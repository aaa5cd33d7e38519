//! Docksmith's API (contract/docksmith-api.md), at `/docksmith/api/…` of the main listener and at
//! `/api/…` of a listener of its own.
//!
//! A thin adapter: it reads Docksmith's names, calls the use cases that Drydock's dialect calls, and
//! writes Docksmith's shapes. To add a resource:
//!
//! 1. A file with a unit struct and `#[OpenApi(prefix_path = "/api")] impl`, like `system.rs`. Each
//!    operation has an id, a tag, a summary and [`Authorized`](crate::auth::Authorized) with its
//!    permission as the first argument (`let_in` decides who needs a credential, not the handler).
//!    Bodies are [`body::Required`] or [`body::Optional`]; name both spellings of a field in the
//!    body's type.
//! 2. Answer `Ok(envelope::ok(data))`, with a `#[derive(Object)]` type in snake_case, or
//!    [`envelope::raw`] for lists that grow with the fleet. Fail with
//!    [`error::ErrorOf`]`<error::Reads>` (or another set); `?` takes [`plimsoll_app::AppError`] and
//!    [`ApiError`](crate::drydock::error::ApiError).
//! 3. Name its struct in [`Resources`] and in [`resources`]. A parameter that contains slashes goes
//!    last in its path, and the path up to it into [`route::TAILS`]; then it is an ordinary
//!    `Path<String>`. A GET that changes something goes into [`route::CHANGING`].
//! 4. `cargo run -p plimsoll-api openapi docksmith > openapi/docksmith.json`; the authorisation
//!    matrix (`tests/it/matrix.rs`) and `tests/it/docksmith.rs` read it.
//!
//! A container is named, not numbered, here: [`named`](plimsoll_app::names::named) finds it, or says
//! what to do.

pub mod access;
pub mod batch_updates;
pub mod body;
pub mod checks;
pub mod compose_mismatches;
pub mod container_logs;
pub mod containers;
pub mod envelope;
pub mod error;
pub mod events;
pub mod explorer;
pub mod history;
pub mod inspections;
pub mod items;
pub mod labels;
pub mod operations;
pub mod registry_tags;
pub mod removals;
pub mod restarts;
pub mod route;
pub mod scripts;
pub mod spec;
pub mod stages;
pub mod status;
pub mod system;
pub mod told;
pub mod updates;

use poem::{Endpoint, EndpointExt, Response, Route};
use poem_openapi::{OpenApiService, ServerObject, Tags};

use crate::{
    VERSION,
    openapi::{merged::Merged, v3_1},
};

/// Groups of operations in the document.
#[derive(Tags)]
pub enum Tag {
    /// This installation.
    System,
    /// Looking for updates.
    Checking,
    /// Updating and going back.
    Updates,
    /// What was done.
    History,
    /// Restarting containers and stacks.
    Restart,
    /// Labels in Compose files.
    Labels,
    /// Programs that run before updates.
    Scripts,
    /// Tags of images.
    Registry,
    /// Live events.
    Events,
    /// Images, networks and volumes.
    Explorer,
    /// Single containers.
    Containers,
    /// Removing what is unused.
    Prune,
}

/// Every resource. Tuples end at 16: nest them.
pub type Resources = Merged<(Fleet, Hosts, Stacks, Labels)>;

/// All containers, and what is done to them.
type Fleet = (
    spec::Document,
    system::System,
    checks::Checks,
    updates::Updates,
    history::History,
    events::Events,
);

/// Labels and scripts.
type Labels = (labels::Labels, scripts::Scripts);

/// What Docker's hosts have, and single containers.
type Hosts = (
    explorer::Explorer,
    removals::Removals,
    registry_tags::RegistryTags,
    containers::Containers,
    container_logs::ContainerLogs,
    inspections::Inspections,
    restarts::Restarts,
);

/// Stacks and their files.
type Stacks = (
    batch_updates::BatchUpdates,
    compose_mismatches::ComposeMismatches,
);

const fn resources() -> Resources {
    let fleet = (
        spec::Document,
        system::System,
        checks::Checks,
        updates::Updates,
        history::History,
        events::Events,
    );
    let hosts = (
        explorer::Explorer,
        removals::Removals,
        registry_tags::RegistryTags,
        containers::Containers,
        container_logs::ContainerLogs,
        inspections::Inspections,
        restarts::Restarts,
    );
    let stacks = (
        batch_updates::BatchUpdates,
        compose_mismatches::ComposeMismatches,
    );
    let labels = (labels::Labels, scripts::Scripts);
    Merged((fleet, hosts, stacks, labels))
}

/// The dialect as one endpoint, at the root.
pub fn endpoint() -> impl Endpoint<Output = Response> {
    let service = OpenApiService::new(resources(), TITLE, VERSION);
    Route::new().nest_no_strip("/", service).map_to_response()
}

const TITLE: &str = "Plimsoll, as Docksmith";

/// The document as it is committed and served: OpenAPI 3.1.0.
pub fn document() -> String {
    let service = OpenApiService::new(resources(), TITLE, VERSION)
        .summary("Docksmith's API")
        .description(
            "What clients of Docksmith ask, answered by Plimsoll. Answers are `{success, data, \
             timestamp, version}`, errors `{success, error: {message, code}, timestamp, version}`. \
             A credential is needed unless `DOCKSMITH_AUTH=none` is set or the dialect's own \
             listener is on loopback.",
        )
        .license(poem_openapi::LicenseObject::new("Apache License 2.0").identifier("Apache-2.0"))
        .server(ServerObject::new("/docksmith").description("At the main listener"))
        .server(ServerObject::new("/").description("At the dialect's own listener"));
    let document = v3_1::transform(&service.spec()).expect("a generated document is valid JSON");
    let mut text = serde_json::to_string_pretty(&document).expect("JSON can be written");
    text.push('\n');
    text
}
