use std::time::Duration;

use crate::{Store, StoreError};

mod embedded {
    refinery::embed_migrations!("../../migrations");
}

/// Any number; every Plimsoll process that migrates takes the same advisory lock, because the
/// migration runner has none of its own.
const LOCK: i64 = 0x706c_696d_736f_6c6c;

/// Brings the schema up to date. Safe to run from many processes at once: one applies, the others
/// wait and find nothing to do.
pub async fn migrate(store: &Store) -> Result<usize, StoreError> {
    // A connection of its own: migrations may take longer than a request may wait.
    let mut client = store.dedicated(Duration::from_secs(600)).await?;
    client
        .execute("SELECT pg_advisory_lock($1)", &[&LOCK])
        .await?;
    let report = embedded::migrations::runner()
        .run_async(&mut **client)
        .await
        .map_err(|e| StoreError::corrupt("schema history", e));
    // The lock ends with the connection too, if this fails.
    let _ = client
        .execute("SELECT pg_advisory_unlock($1)", &[&LOCK])
        .await;
    Ok(report?.applied_migrations().len())
}
