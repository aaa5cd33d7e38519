use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use plimsoll_api::{Listeners, configuration, docksmith, drydock};
use plimsoll_app::{App, Queue, Store, store::StoreSettings};
use plimsoll_runtime::{CommonArgs, Runtime, SETTINGS_HELP};
use secrecy::SecretString;

/// The HTTP API of Plimsoll, which keeps fleets of Docker containers up to date.
///
/// A replica is stateless: it decides, writes Postgres and wakes workers through Redis. Run as many
/// as you like behind any load balancer; sessions, limits and events work on all of them. It never
/// talks to Docker or to a registry: `plimsoll-worker` does.
#[derive(Parser)]
#[command(name = "plimsoll-api", version, after_long_help = SETTINGS_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API until SIGTERM; requests under way are finished, event streams end at once.
    ///
    /// Needs DATABASE_URL with a migrated schema, and REDIS_URL. While Postgres is away requests
    /// are answered 503; while Redis is away everything works, some of it a little later.
    Serve,
    /// Bring the database schema up to date, and exit. Safe to run from many places at once.
    Migrate,
    /// Print the OpenAPI 3.1 document of a dialect, and exit.
    Openapi {
        #[arg(value_enum, default_value_t = Dialect::Drydock)]
        dialect: Dialect,
    },
    /// Ask the replica on this machine for /health; exit status 0 if it serves.
    Healthcheck,
    /// Print every setting with its default and meaning, and exit.
    Settings,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Dialect {
    Drydock,
    Docksmith,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("plimsoll-api: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Openapi { dialect } => match dialect {
            Dialect::Drydock => print!("{}", drydock::document()),
            Dialect::Docksmith => print!("{}", docksmith::document()),
        },
        Command::Settings => print!("{}", plimsoll_runtime::settings::reference()),
        Command::Serve => runtime()?.block_on(serve(&arguments.common))?,
        Command::Migrate => runtime()?.block_on(migrate(&arguments.common))?,
        Command::Healthcheck => {
            return runtime()?.block_on(plimsoll_api::healthcheck(&arguments.common));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}

async fn serve(common: &CommonArgs) -> anyhow::Result<()> {
    let runtime = plimsoll_runtime::init(common, "plimsoll-api")?;
    let settings = &runtime.settings;
    let listeners = Listeners::bind(settings).await?;
    let app = App::new(
        store(&runtime)?,
        queue(&runtime)?,
        plimsoll_runtime::app_settings(settings)?,
    );
    tracing::info!(
        address = %settings.listen_address(),
        docksmith = settings.listen_docksmith.map(tracing::field::display),
        "serving"
    );
    // Beside the requests: nothing at start waits for Postgres.
    tokio::spawn(plimsoll_api::prepare_access(
        app.clone(),
        runtime.shutdown.clone(),
    ));
    app.tally().legacy_settings(&runtime.legacy);
    let counting = tokio::spawn(app.clone().keep_tally(runtime.shutdown.clone()));
    plimsoll_api::serve(
        app,
        configuration::api_settings(settings)?,
        listeners,
        runtime.shutdown.clone(),
    )
    .await?;
    counting.await?;
    Ok(())
}

async fn migrate(common: &CommonArgs) -> anyhow::Result<()> {
    let runtime = plimsoll_runtime::init(common, "plimsoll-api")?;
    let applied = plimsoll_app::store::migrate(&store(&runtime)?)
        .await
        .context("the schema could not be brought up to date")?;
    match applied {
        0 => println!("the schema is up to date"),
        n => println!("applied {n} migration(s)"),
    }
    Ok(())
}

fn store(runtime: &Runtime) -> anyhow::Result<Store> {
    let database = &runtime.settings.database;
    let url = database
        .url
        .as_ref()
        .context("DATABASE_URL is missing, e.g. postgresql://user:password@host/plimsoll")?;
    let settings = StoreSettings {
        url: SecretString::clone(url),
        connections: usize::from(database.max_connections),
    };
    Store::new(&settings).context("DATABASE_URL cannot be used")
}

fn queue(runtime: &Runtime) -> anyhow::Result<Queue> {
    let url = runtime
        .settings
        .redis
        .url
        .as_ref()
        .context("REDIS_URL is missing, e.g. redis://host:6379")?;
    Ok(Queue::new(&SecretString::clone(url))?)
}
