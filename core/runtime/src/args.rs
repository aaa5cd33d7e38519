//! The command line that every binary shares.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Flatten it into a binary's own arguments. Everything here can also be set in the environment
/// or in the file; the command line wins.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Common settings")]
pub struct CommonArgs {
    /// File with settings [env: PLIMSOLL_CONFIG] [default: ./plimsoll.toml, else plimsoll.toml in
    /// the data directory, if there is one]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Where the HTTP API listens [env: PLIMSOLL_LISTEN] [default: 127.0.0.1:3000]
    #[arg(long, global = true, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,

    /// Directory for data that this machine keeps [env: PLIMSOLL_DATA_DIR] [default: .plimsoll]
    #[arg(long, global = true, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// Least important level that is logged: error, warn, info, debug or trace
    /// [env: PLIMSOLL_LOG_LEVEL] [default: info]
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
}

/// For `after_long_help` of every binary.
pub const SETTINGS_HELP: &str = "\
Settings:
  Every setting can be given in the environment, as PLIMSOLL_<PATH> or DD_<PATH>, or in the TOML
  file; <NAME>__FILE reads it from a file. The most used:
    DATABASE_URL          Postgres, e.g. postgresql://user:password@host/plimsoll
    REDIS_URL             Redis, e.g. redis://host:6379
    DOCKER_HOST           Docker engine of the watcher `local`
    PLIMSOLL_WATCHER_<NAME>_SOCKET, _HOST, _CRON
                          further Docker engines
    PLIMSOLL_REGISTRY_<TYPE>_<NAME>_URL, _LOGIN, _PASSWORD, _TOKEN
                          registries that need credentials
    PLIMSOLL_AUTH_BASIC_<NAME>_USER, _HASH
                          users
  `plimsoll-api settings` and docs/settings.md list them all.";
