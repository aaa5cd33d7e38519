//! Everything in one process for one host: the API, a worker, and Postgres and Redis as supervised
//! children. The same code and the same SQL as the processes that run apart.

mod directory;
mod postgres;
mod redis;
mod services;
mod supervisor;

use std::path::Path;

use anyhow::Context;
use plimsoll_api::{Listeners, configuration};
use plimsoll_app::App;
use plimsoll_domain::ids::OperationId;
use plimsoll_runtime::CommonArgs;
use plimsoll_worker::WorkerSettings;

use services::Services;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, worded for people.
pub async fn run(args: &CommonArgs) -> anyhow::Result<()> {
    let runtime = plimsoll_runtime::init(args, "plimsoll")?;
    let settings = runtime.settings.clone();
    let mut services = Services::claim(&settings)?;
    let listeners = Listeners::bind(&settings).await?;
    let services = tokio::task::spawn_blocking({
        let settings = settings.clone();
        move || services.start(&settings).map(|()| services)
    })
    .await??;
    let (store, queue) = services.connect(&settings).await?;
    plimsoll_store::migrate(&store).await?;
    let app = App::new(store, queue, plimsoll_runtime::app_settings(&settings)?);
    app.tally().legacy_settings(&runtime.legacy);
    let worker_settings = WorkerSettings::from_settings(&settings)?;
    // One that fails ends the other: half of Plimsoll must not look like the whole.
    let shutdown = &runtime.shutdown;
    tokio::spawn(plimsoll_api::prepare_access(app.clone(), shutdown.clone()));
    let api_settings = configuration::api_settings(&settings)?;
    let scheme = if api_settings.tls.is_some() {
        "https"
    } else {
        "http"
    };
    println!(
        "Plimsoll is ready: {scheme}://{}",
        listeners.main.local_addr()?
    );
    if let Some(docksmith) = &listeners.docksmith {
        println!("Docksmith's API: {scheme}://{}", docksmith.local_addr()?);
    }
    let api = plimsoll_api::serve(app.clone(), api_settings, listeners, shutdown.clone());
    let worker = plimsoll_worker::run(app, worker_settings, shutdown.clone());
    let ended = tokio::try_join!(
        async {
            let ended = api.await.context("the API ended");
            shutdown.cancel();
            ended
        },
        async {
            let ended = worker.await.context("the worker ended");
            shutdown.cancel();
            ended
        },
    );
    tokio::task::spawn_blocking(move || drop(services)).await?;
    tracing::info!("stopped");
    ended.map(|_| ())
}

/// Runs one operation and nothing else, with servers that run elsewhere.
///
/// # Errors
/// Without such servers; and as `plimsoll_worker::assist`.
pub async fn assist(
    args: &CommonArgs,
    operation: OperationId,
    socket: Option<&Path>,
) -> anyhow::Result<()> {
    let runtime = plimsoll_runtime::init(args, "plimsoll")?;
    let settings = &runtime.settings;
    let elsewhere = settings.database.url.is_some() && settings.redis.url.is_some();
    anyhow::ensure!(
        elsewhere,
        "a helper needs DATABASE_URL and REDIS_URL: it shares them with the container it replaces"
    );
    let services = Services::claim(settings)?;
    let (store, queue) = services.connect(settings).await?;
    let app = App::new(store, queue, plimsoll_runtime::app_settings(settings)?);
    let worker = WorkerSettings::from_settings(settings)?;
    plimsoll_worker::assist(app, worker, operation, socket, runtime.shutdown.clone()).await
}
