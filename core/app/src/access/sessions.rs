use std::time::Duration;

use plimsoll_store::sessions::Remember;

use super::{Presented, soon, unauthenticated};
use crate::{App, AppError};

/// How long signing out waits to learn where the provider ends its session.
const PROVIDER_PATIENCE: Duration = Duration::from_secs(2);

impl App {
    /// Ends the session that was presented; anything else is no session and needs no end. Returns
    /// where the identity provider ends its own, if the session began with one.
    pub async fn sign_out(&self, presented: &Presented) -> Result<Option<String>, AppError> {
        let Presented::Session(digest) = presented else {
            return Ok(None);
        };
        let Some(provider) = soon(self.store().end_session(digest.as_bytes())).await? else {
            return Ok(None);
        };
        // The session here has ended, whether the provider answers or not.
        let url = tokio::time::timeout(PROVIDER_PATIENCE, self.provider_logout(&provider)).await;
        Ok(url.ok().flatten().map(String::from))
    }

    /// Changes how long the presented session lives. A request without a session keeps nothing.
    ///
    /// # Errors
    /// `Unauthenticated` when the session is over.
    pub async fn remember(
        &self,
        presented: &Presented,
        remember: Remember,
    ) -> Result<(), AppError> {
        let Presented::Session(digest) = presented else {
            return Ok(());
        };
        let there = soon(self.store().remember_session(digest.as_bytes(), remember)).await?;
        if there {
            Ok(())
        } else {
            Err(unauthenticated())
        }
    }
}
