//! The accounts that a fresh installation needs before anyone can sign in.

use std::time::Duration;

use plimsoll_app::{App, AppError, access::GeneratedOwner};
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

/// Makes accounts, and prints the owner's password if there was none before.
pub async fn prepare_access(app: App, shutdown: CancellationToken) {
    let mut pause = Duration::from_millis(200);
    loop {
        match app.ensure_owner().await {
            Ok(owner) => {
                if let Some(owner) = owner {
                    announce(&owner);
                }
                return;
            }
            Err(AppError::Unavailable { .. }) => {}
            Err(error) => tracing::error!(%error, "accounts could not be made"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(Duration::from_secs(5)),
        }
    }
}

/// To the terminal and not to the log, which is kept and shipped.
fn announce(owner: &GeneratedOwner) {
    eprintln!(
        "\n  No user is configured, so one was made. The password is shown this once:\n\n    \
         user      {}\n    password  {}\n",
        owner.username,
        owner.password.expose_secret()
    );
}
