//! What was done to containers, operations and removals alike
//! (reference/docksmith-dokploy-dockup.md 1.2, "History").

pub use plimsoll_store::history::{HistoryFilter, Past};

use crate::{App, AppError};

impl App {
    /// What was done to all containers, also to those that are gone, newest first.
    pub async fn history(&self, filter: &HistoryFilter, limit: u64) -> Result<Vec<Past>, AppError> {
        // Postgres stores no NUL, so no container has such a name.
        let name = filter.container.as_deref();
        if name.is_some_and(|name| name.contains('\0')) {
            return Ok(Vec::new());
        }
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        Ok(self.store().history(filter, limit).await?)
    }
}
