//! Everything in one process for one host: the API, a worker, and Postgres and Redis as supervised
//! children. The same code and the same SQL as the processes that run apart.

mod directory;
mod postgres;
mod redis;
mod services;
mod supervisor;

use anyhow::Context;
use plimsoll_runtime::CommonArgs;
use tokio::net::TcpListener;

use services::Services;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What keeps it from starting, worded for people.
pub async fn run(args: &CommonArgs) -> anyhow::Result<()> {
    let runtime = plimsoll_runtime::init(args, "plimsoll")?;
    let settings = runtime.settings.clone();
    let mut services = Services::claim(&settings)?;
    let address = settings.listen_address();
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("cannot listen on {address}; choose another address with --listen")
    })?;
    let services = tokio::task::spawn_blocking({
        let settings = settings.clone();
        move || services.start(&settings).map(|()| services)
    })
    .await??;
    let (store, _queue) = services.connect(&settings).await?;
    plimsoll_store::migrate(&store).await?;
    tracing::info!("listening on http://{}", listener.local_addr()?);
    runtime.shutdown.cancelled().await;
    tokio::task::spawn_blocking(move || drop(services)).await?;
    tracing::info!("stopped");
    Ok(())
}
