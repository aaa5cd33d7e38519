//! Ways back, as clients see them (contract/drydock-container-api.md, "List all backups").

pub use plimsoll_store::backups::Backup;

use crate::{App, AppError};

impl App {
    /// Newest first; of every container, or of those with this name.
    pub async fn backups(&self, container_name: Option<&str>) -> Result<Vec<Backup>, AppError> {
        // Postgres stores no NUL, so no container has such a name.
        if container_name.is_some_and(|name| name.contains('\0')) {
            return Ok(Vec::new());
        }
        Ok(self.store().backups(container_name).await?)
    }

    /// Of one container across its re-creations, newest first.
    pub async fn backups_of(&self, container: &str) -> Result<Vec<Backup>, AppError> {
        let entry = self.get_container(container).await?;
        Ok(self.store().backups_of(&entry.state.identity_key).await?)
    }
}
