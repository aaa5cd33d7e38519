//! Preferences of the user interface, for everyone (contract/drydock-app-api.md, "Settings").

use deadpool_postgres::GenericClient;

use crate::{Store, StoreError};

statements! {
    GET = "SELECT internetless_mode FROM ui_settings";
    PUT = "UPDATE ui_settings SET internetless_mode = $1, updated_at = now()";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UiSettings {
    /// Nothing is asked of the Internet for display: no icons, no release notes.
    pub internetless_mode: bool,
}

impl Store {
    pub async fn ui_settings(&self) -> Result<UiSettings, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let row = client.query_one(&statement, &[]).await?;
        Ok(UiSettings {
            internetless_mode: row.get(0),
        })
    }
}

pub async fn put(client: &impl GenericClient, settings: UiSettings) -> Result<(), StoreError> {
    let statement = client.prepare_cached(PUT).await?;
    client
        .execute(&statement, &[&settings.internetless_mode])
        .await?;
    Ok(())
}
