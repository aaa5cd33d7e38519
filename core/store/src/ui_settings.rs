//! Preferences of the user interface, for everyone (contract/drydock-app-api.md, "Settings").

use deadpool_postgres::GenericClient;

use crate::{Store, StoreError};

statements! {
    GET = "SELECT internetless_mode FROM ui_settings";
    CHANGE = "UPDATE ui_settings SET internetless_mode = coalesce($1, internetless_mode),
                     updated_at = now()
              RETURNING internetless_mode";
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UiSettings {
    /// Nothing is asked of the Internet for display: no icons, no release notes.
    pub internetless_mode: bool,
}

/// What to change; `None` stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct UiSettingsChange {
    pub internetless_mode: Option<bool>,
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

/// Changes them, and answers what they are then.
pub async fn change(
    client: &impl GenericClient,
    change: UiSettingsChange,
) -> Result<UiSettings, StoreError> {
    let statement = client.prepare_cached(CHANGE).await?;
    let row = client
        .query_one(&statement, &[&change.internetless_mode])
        .await?;
    Ok(UiSettings {
        internetless_mode: row.get(0),
    })
}
