//! Ways back: the images that containers ran before their updates. Each is pinned on its engine by
//! a tag, so that no prune takes it while it is kept (reliability.md R-5, I-8).

use chrono::{DateTime, Utc};
use deadpool_postgres::GenericClient;
use plimsoll_domain::ids::{BackupId, ContainerId, IdentityKey, OperationId, WatcherRef};
use uuid::Uuid;

use crate::{Store, StoreError};

macro_rules! columns {
    () => {
        "id, agent, watcher, identity_key, container_id, container_name, image_name, image_tag, \
         image_digest, image_id, pinned_as, trigger_name, operation_id, created_at"
    };
}

statements! {
    /// Once per operation, however often its write is repeated.
    INSERT = "INSERT INTO backups (id, agent, watcher, identity_key, container_id, container_name,
                                   image_name, image_tag, image_digest, image_id, pinned_as,
                                   trigger_name, operation_id)
              SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
               WHERE NOT EXISTS (SELECT 1 FROM backups WHERE operation_id = $13)";
    RETAIN = "DELETE FROM backups
               WHERE identity_key = $1
                 AND id NOT IN (SELECT id FROM backups WHERE identity_key = $1
                                 ORDER BY created_at DESC, id DESC LIMIT $2)
              RETURNING pinned_as";
    GET = concat!("SELECT ", columns!(), " FROM backups WHERE id = $1");
    LIST = concat!("SELECT ", columns!(), " FROM backups
                     WHERE ($1::text IS NULL OR container_name = $1)
                     ORDER BY created_at DESC, id DESC");
    OF_IDENTITY = concat!("SELECT ", columns!(), " FROM backups WHERE identity_key = $1
                     ORDER BY created_at DESC, id DESC");
    /// What an engine must keep: pins of backups, and of operations that are not over.
    PINS = "SELECT pinned_as FROM backups WHERE agent = $1 AND watcher = $2";
}

/// A way back. `pinned_as` is the local tag that keeps the image.
#[derive(Clone, Debug)]
pub struct Backup {
    pub id: BackupId,
    pub watcher: WatcherRef,
    pub identity: IdentityKey,
    /// The container that ran the image; it is gone.
    pub container: String,
    pub container_name: String,
    pub image_name: String,
    pub image_tag: String,
    pub image_digest: Option<String>,
    pub image_id: String,
    pub pinned_as: String,
    pub trigger_name: String,
    pub operation: OperationId,
    pub created_at: DateTime<Utc>,
}

/// A way back to be written.
#[derive(Clone, Debug)]
pub struct NewBackup {
    pub watcher: WatcherRef,
    pub identity: IdentityKey,
    pub container: ContainerId,
    pub container_name: String,
    /// The repository as the user reads it, without tag.
    pub image_name: String,
    pub image_tag: String,
    /// The registry's digest, where the image came from one.
    pub image_digest: Option<String>,
    /// The engine's id of the image.
    pub image_id: String,
    pub pinned_as: String,
    pub trigger_name: String,
    pub operation: OperationId,
}

/// Keeps a way back, in the transaction that passes the point of no return, and lets go of those
/// beyond the `keep` newest. Answers the pins that are free now.
pub async fn insert(
    client: &impl GenericClient,
    new: &NewBackup,
    keep: i64,
) -> Result<Vec<String>, StoreError> {
    let statement = client.prepare_cached(INSERT).await?;
    client
        .execute(
            &statement,
            &[
                &BackupId::generate().as_uuid(),
                &new.watcher.agent,
                &new.watcher.name,
                &new.identity.as_str(),
                &new.container.as_str(),
                &new.container_name,
                &new.image_name,
                &new.image_tag,
                &new.image_digest,
                &new.image_id,
                &new.pinned_as,
                &new.trigger_name,
                &new.operation.as_uuid(),
            ],
        )
        .await?;
    let statement = client.prepare_cached(RETAIN).await?;
    let rows = client
        .query(&statement, &[&new.identity.as_str(), &keep])
        .await?;
    Ok(rows.into_iter().map(|row| row.get(0)).collect())
}

impl Store {
    pub async fn backup(&self, id: BackupId) -> Result<Option<Backup>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(GET).await?;
        let row = client.query_opt(&statement, &[&id.as_uuid()]).await?;
        Ok(row.map(|row| read(&row)))
    }

    /// All ways back, newest first, of every container or of those with this name.
    pub async fn backups(&self, container_name: Option<&str>) -> Result<Vec<Backup>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(LIST).await?;
        let rows = client.query(&statement, &[&container_name]).await?;
        Ok(rows.iter().map(read).collect())
    }

    /// The ways back of one container across re-creations, newest first.
    pub async fn backups_of(&self, identity: &IdentityKey) -> Result<Vec<Backup>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(OF_IDENTITY).await?;
        let rows = client.query(&statement, &[&identity.as_str()]).await?;
        Ok(rows.iter().map(read).collect())
    }

    /// The pins of an engine's backups.
    pub async fn backup_pins(&self, watcher: &WatcherRef) -> Result<Vec<String>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(PINS).await?;
        let rows = client
            .query(&statement, &[&watcher.agent, &watcher.name])
            .await?;
        Ok(rows.into_iter().map(|row| row.get(0)).collect())
    }
}

fn read(row: &tokio_postgres::Row) -> Backup {
    Backup {
        id: BackupId::from_uuid(row.get(0)),
        watcher: WatcherRef {
            agent: row.get(1),
            name: row.get(2),
        },
        identity: IdentityKey::from_stored(row.get(3)),
        container: row.get(4),
        container_name: row.get(5),
        image_name: row.get(6),
        image_tag: row.get(7),
        image_digest: row.get(8),
        image_id: row.get(9),
        pinned_as: row.get(10),
        trigger_name: row.get(11),
        operation: OperationId::from_uuid(row.get::<_, Uuid>(12)),
        created_at: row.get(13),
    }
}
