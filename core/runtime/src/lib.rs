//! What every Plimsoll process needs around its work: configuration, telemetry, orderly shutdown,
//! child processes.

mod allocator;
pub mod app;
pub mod args;
pub mod child;
mod collector;
mod log_format;
mod log_ring;
pub mod settings;
pub mod shutdown;
pub mod telemetry;

pub use app::{ConfigurationError, app_settings, reach};
pub use args::{CommonArgs, SETTINGS_HELP};
pub use settings::{Secret, Settings, SettingsError};

/// What a `main` needs before it starts its work.
pub struct Runtime {
    pub settings: Settings,
    /// Names of settings that were given by an older name.
    pub legacy: Vec<String>,
    /// Cancelled at SIGTERM or SIGINT.
    pub shutdown: tokio_util::sync::CancellationToken,
    _telemetry: telemetry::Telemetry,
}

/// Installs the TLS provider, reads the settings, starts logging, and listens for signals. The
/// first thing a `main` does, inside its tokio runtime.
///
/// # Errors
/// A configuration that cannot be used, worded for people.
pub fn init(args: &CommonArgs, service: &'static str) -> anyhow::Result<Runtime> {
    install_tls();
    let loaded = Settings::load(args, utf8_environment())?;
    let telemetry = telemetry::init(&loaded.settings, service)?;
    for notice in &loaded.notices {
        match notice {
            settings::Notice::Unknown { .. }
            | settings::Notice::LoosePermissions { .. }
            | settings::Notice::Legacy { .. } => {
                tracing::warn!("{notice}");
            }
            settings::Notice::Ignored { .. } | settings::Notice::File { .. } => {
                tracing::info!("{notice}");
            }
        }
    }
    let legacy = loaded
        .notices
        .into_iter()
        .filter_map(|notice| match notice {
            settings::Notice::Legacy { name, .. } => Some(name),
            _ => None,
        });
    Ok(Runtime {
        legacy: legacy.collect(),
        settings: loaded.settings,
        shutdown: shutdown::on_signal()?,
        _telemetry: telemetry,
    })
}

/// The settings of a process like this one, for a command that only asks about it and logs nothing.
///
/// # Errors
/// A configuration that cannot be used, worded for people.
pub fn read_settings(args: &CommonArgs) -> Result<Settings, SettingsError> {
    install_tls();
    Ok(Settings::load(args, utf8_environment())?.settings)
}

/// Makes ring the process's TLS provider. May be called any number of times.
pub fn install_tls() {
    // The error says that one is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// The environment. Variables that are not UTF-8 cannot be ours.
fn utf8_environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}
