//! Forgetting a container (contract/drydock-container-api.md, "Delete a Container").

use plimsoll_domain::access::Scope;
use plimsoll_store::{
    audit::{self, AuditStatus, NewAudit},
    begin, commit, containers, events,
};

use crate::{App, AppError, containers::NOT_FOUND, requests::Caller};

impl App {
    /// Forgets the container until it is re-created. The container on the host is not touched.
    ///
    /// # Errors
    /// `Forbidden` when deletion is off, `NotFound`.
    pub async fn forget_container(
        &self,
        container: &str,
        caller: &Caller<'_>,
    ) -> Result<(), AppError> {
        caller.authorise(Scope::ContainersDelete)?;
        if !self.settings().container_deletion.is_enabled() {
            return Err(AppError::Forbidden(
                "Container deletion is disabled".to_owned(),
            ));
        }
        let known = self.get_container(container).await?;
        let state = &known.state;
        let payload = String::from_utf8_lossy(&known.json);
        let mut entry = NewAudit::new("container-removed", &state.facts.name, AuditStatus::Success);
        entry.identity_key = Some(state.identity_key.as_str());
        entry.details = Some("forgotten on request");
        entry.actor = Some(caller.principal.name());
        entry.request_id = caller.request_id;
        let mut client = self.store().client().await?;
        let tx = begin(&mut client).await?;
        if !containers::forget(&tx, &state.facts.id).await? {
            return Err(AppError::NotFound(NOT_FOUND.to_owned()));
        }
        audit::append(&tx, &entry).await?;
        events::append(&tx, "dd:container-removed", &payload).await?;
        commit(tx).await?;
        self.announce().await;
        Ok(())
    }
}
