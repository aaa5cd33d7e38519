//! Preferences of the user interface (contract/drydock-app-api.md, "Settings").

use plimsoll_domain::access::Scope;
pub use plimsoll_store::ui_settings::{UiSettings, UiSettingsChange};
use plimsoll_store::{
    audit::{self, AuditStatus, NewAudit},
    begin, commit, ui_settings,
};

use crate::{App, AppError, requests::Caller};

impl App {
    pub async fn ui_settings(&self) -> Result<UiSettings, AppError> {
        Ok(self.store().ui_settings().await?)
    }

    /// # Errors
    /// `Invalid` where nothing is to be changed.
    pub async fn change_ui_settings(
        &self,
        change: UiSettingsChange,
        caller: &Caller<'_>,
    ) -> Result<UiSettings, AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let Some(internetless) = change.internetless_mode else {
            return Err(AppError::Invalid("Invalid request parameters".to_owned()));
        };
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        let settings = ui_settings::change(&tx, change).await?;
        let details = format!("internetlessMode={internetless}");
        let mut entry = NewAudit::new("settings-changed", "", AuditStatus::Info);
        entry.details = Some(&details);
        entry.actor = Some(caller.principal.name());
        entry.request_id = caller.request_id;
        audit::append(&tx, &entry).await?;
        commit(tx).await?;
        Ok(settings)
    }
}
