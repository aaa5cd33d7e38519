use secrecy::SecretString;

use super::{password::PasswordHash, tokens::random_text};
use crate::{App, AppError};

/// The account that is made when none is configured.
const OWNER: &str = "owner";

/// Shown once, at the start that made it.
pub struct GeneratedOwner {
    pub username: &'static str,
    pub password: SecretString,
}

impl App {
    /// Makes the configured accounts, and an owner with a random password when nobody could sign in
    /// otherwise. Of several replicas that start at once, one gets the password. Only its argon2id
    /// hash is stored. Nothing waits for this call: until it is done, requests are refused.
    pub async fn ensure_owner(&self) -> Result<Option<GeneratedOwner>, AppError> {
        self.reconcile_users().await?;
        let settings = &self.access().settings;
        if !settings.users.is_empty() || settings.lets_everybody_in() {
            return Ok(None);
        }
        // Hashing takes longer than everything else at start.
        if self.store().any_owner().await? {
            return Ok(None);
        }
        let password = random_text::<18>();
        let secret = password.clone();
        let hash = tokio::task::spawn_blocking(move || PasswordHash::create(&secret).to_text())
            .await
            .map_err(|error| AppError::Internal(error.to_string()))?;
        let created = self.store().create_first_owner(OWNER, &hash).await?;
        Ok(created.then(|| GeneratedOwner {
            username: OWNER,
            password: SecretString::from(password),
        }))
    }
}
