//! Preferences of the user interface (contract/drydock-app-api.md, "Settings").

use plimsoll_domain::access::Scope;
pub use plimsoll_store::ui_settings::UiSettings;
use plimsoll_store::{
    audit::{self, AuditStatus, NewAudit},
    begin, commit, ui_settings,
};

use crate::{App, AppError, requests::Caller};

impl App {
    pub async fn ui_settings(&self) -> Result<UiSettings, AppError> {
        Ok(self.store().ui_settings().await?)
    }

    pub async fn change_ui_settings(
        &self,
        wanted: UiSettings,
        caller: &Caller<'_>,
    ) -> Result<(), AppError> {
        caller.authorise(Scope::SettingsWrite)?;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        ui_settings::put(&tx, wanted).await?;
        let details = format!("internetlessMode={}", wanted.internetless_mode);
        let mut entry = NewAudit::new("settings-changed", "", AuditStatus::Info);
        entry.details = Some(&details);
        entry.actor = Some(caller.principal.name());
        entry.request_id = caller.request_id;
        audit::append(&tx, &entry).await?;
        commit(tx).await?;
        Ok(())
    }
}
