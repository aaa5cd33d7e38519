use plimsoll_store::sessions::Remember;

use super::{Presented, soon, unauthenticated};
use crate::{App, AppError};

impl App {
    /// Ends the session that was presented; anything else is no session and needs no end.
    pub async fn sign_out(&self, presented: &Presented) -> Result<(), AppError> {
        if let Presented::Session(digest) = presented {
            soon(self.store().end_session(digest.as_bytes())).await?;
        }
        Ok(())
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
