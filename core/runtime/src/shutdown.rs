//! Orderly stopping.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled at the first SIGTERM or SIGINT. The second ends the process at once,
/// with the exit status of a process killed by it, for people who do not want to wait.
///
/// # Errors
/// When the operating system refuses signal handlers.
pub fn on_signal() -> std::io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let token = CancellationToken::new();
    let cancelled = token.clone();
    tokio::spawn(async move {
        loop {
            let (name, number) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", 15),
                _ = interrupt.recv() => ("SIGINT", 2),
            };
            if cancelled.is_cancelled() {
                tracing::warn!("second signal ({name}): ending at once");
                std::process::exit(128 + number);
            }
            tracing::info!("{name}: stopping");
            cancelled.cancel();
        }
    });
    Ok(token)
}
