use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use plimsoll_domain::ids::OperationId;
use plimsoll_runtime::{CommonArgs, SETTINGS_HELP};

/// Keeps the Docker containers of this host up to date: watches what runs, finds newer images,
/// updates safely, and rolls back by itself when the new image is bad.
///
/// Everything in one process: HTTP API, worker, and a PostgreSQL and a Redis of its own in the
/// data directory. They are reachable by nobody else and end with this process. Set DATABASE_URL
/// or REDIS_URL to use servers that run elsewhere.
///
/// The first start prints the address and, unless users are configured, the generated password of
/// the user `owner`, once.
#[derive(Parser)]
#[command(name = "plimsoll", version, max_term_width = 100, after_long_help = SETTINGS_HELP)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Ask the Plimsoll on this machine for /health; exit status 0 if it serves
    Healthcheck,
    /// Run one operation and nothing else
    ///
    /// For the helper container that is started when the operation is on the container that
    /// Plimsoll itself runs in.
    #[command(hide = true)]
    Assist {
        operation: OperationId,
        /// The engine's own socket, where the settings name another way to it
        #[arg(long)]
        socket: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(plimsoll_worker::STACK)
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(run(args)));
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("plimsoll: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        None => plimsoll::run(&args.common).await?,
        Some(Command::Healthcheck) => return plimsoll_api::healthcheck(&args.common).await,
        Some(Command::Assist { operation, socket }) => {
            plimsoll::assist(&args.common, operation, socket.as_deref()).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
