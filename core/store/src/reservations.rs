//! Which containers an operation may touch besides its own (reliability.md S17), and which one a
//! removal may.
//!
//! The unique index gives an operation its own container. Those that live in its namespaces are
//! reserved before anything is touched, so that two operations never work on one container; the
//! later one waits for the first. A removal reserves each container before it stops it: one that an
//! operation was asked for stays, and until the removal has settled it no operation is accepted for
//! it and none that needs it beside its own begins.

use std::collections::HashSet;

use plimsoll_domain::{
    ids::{ContainerId, OperationId, RemovalId, WatcherRef},
    operation::Phase,
};

use crate::{
    Store, StoreError, Transaction,
    jobs::Lease,
    journal::FencedError,
    removals::{Item, Removal},
    update_operations::Operation,
};

/// The constraint that an operation breaks on whose container a removal is at work.
pub const REMOVED: &str = "update_operations_removal";

statements! {
    /// One reservation at a time per engine, until the end of the transaction.
    LOCK = "SELECT pg_advisory_xact_lock(hashtextextended($1::text || '/' || $2::text, 17))";
    /// An operation that holds one of the same containers; where one of the two has its engine to
    /// itself, any. One that waits to have it lets nobody else begin, or it would wait for ever.
    HOLDER = "SELECT other.id, other.container_name, other.phase
                FROM update_operations other, update_operations own
               WHERE own.id = $3 AND other.agent = $1 AND other.watcher = $2 AND other.id <> $3
                 AND other.completed_at IS NULL
                 AND CASE WHEN other.dependants IS NOT NULL
                     THEN (array[other.container_name] || other.dependants)
                              && (array[$4::text] || $5::text[])
                          OR other.exclusive OR own.exclusive
                     ELSE other.exclusive AND NOT own.exclusive AND own.dependants IS NULL END
               ORDER BY other.dependants IS NULL
               LIMIT 1";
    /// No request for an operation on the engine, until the end of the transaction: see the
    /// function `is_being_removed`.
    LOCK_REQUESTS = "SELECT pg_advisory_xact_lock(hashtextextended($1::text || '/' || $2::text, 18))";
    /// A removal that is at work on one of the containers.
    REMOVER = "SELECT r.id, i.name
                 FROM removal_items i JOIN removals r ON r.id = i.removal_id
                WHERE r.agent = $1 AND r.watcher = $2 AND r.completed_at IS NULL
                  AND i.kind = 'container' AND i.state = 'planned' AND i.reserved_at IS NOT NULL
                  AND (i.object_id = ANY ($3) OR i.name = ANY ($4))
                LIMIT 1";
    /// Of these containers, those that a removal is at work on.
    BEING_REMOVED = "SELECT i.object_id
                       FROM removal_items i JOIN removals r ON r.id = i.removal_id
                      WHERE i.kind = 'container' AND i.state = 'planned'
                        AND i.reserved_at IS NOT NULL AND i.object_id = ANY ($1)
                        AND r.completed_at IS NULL";
    /// An operation that was asked for the container, or reserved it, and is not over; and the
    /// container's name.
    USER = "SELECT id, CASE WHEN $4 = ANY (dependants) THEN $4 ELSE container_name END
              FROM update_operations
             WHERE agent = $1 AND watcher = $2 AND completed_at IS NULL
               AND ($3 IN (container_id, old_container_id, new_container_id)
                    OR container_name = $4 OR $4 = ANY (dependants))
             LIMIT 1";
    RESERVE_REMOVED = "UPDATE removal_items SET reserved_at = now()
                        WHERE removal_id = $1 AND place = $2 AND state = 'planned'
                          AND EXISTS (SELECT 1 FROM jobs
                                       WHERE id = $3 AND lease_owner = $4 AND lease_epoch = $5
                                         AND state = 'running')";
    RESERVE = "UPDATE update_operations SET dependants = $2
                WHERE id = $1 AND container_id = $3 AND completed_at IS NULL
                  AND EXISTS (SELECT 1 FROM jobs
                               WHERE id = $4 AND lease_owner = $5 AND lease_epoch = $6
                                 AND state = 'running')";
    FOLLOW = "UPDATE update_operations SET container_id = $2, updated_at = now()
               WHERE agent = $3 AND watcher = $4 AND container_id = $1 AND completed_at IS NULL
                 AND dependants IS NULL";
}

/// What became of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reservation {
    /// The containers are this operation's until it has completed.
    Held,
    /// Another operation works on one of them.
    HeldBy {
        operation: OperationId,
        container_name: String,
        phase: Phase,
    },
    /// A removal works on one of them.
    HeldByRemoval {
        removal: RemovalId,
        container_name: String,
    },
    /// The operation is not what it was when it was loaded: its container was made again, or the
    /// lease is lost.
    Outdated,
}

impl Store {
    /// Reserves the operation's own container and `dependants` (names) for it. May be repeated.
    pub async fn reserve_containers(
        &self,
        lease: &Lease,
        operation: &Operation,
        dependants: &[String],
    ) -> Result<Reservation, StoreError> {
        let WatcherRef { agent, name } = &operation.watcher;
        let id = operation.id.as_uuid();
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        lock(&tx, &operation.watcher).await?;
        let statement = tx.prepare_cached(HOLDER).await?;
        let own = &operation.container_name;
        let holder = tx
            .query_opt(&statement, &[agent, name, &id, own, &dependants])
            .await?;
        if let Some(row) = holder {
            let phase: &str = row.get(2);
            return Ok(Reservation::HeldBy {
                operation: OperationId::from_uuid(row.get(0)),
                container_name: row.get(1),
                phase: Phase::parse(phase)
                    .ok_or_else(|| StoreError::corrupt("operation phase", phase))?,
            });
        }
        let statement = tx.prepare_cached(REMOVER).await?;
        let names: Vec<&str> = std::iter::once(own)
            .chain(dependants)
            .map(String::as_str)
            .collect();
        let ids = [operation.container_id.as_str()];
        let remover = tx
            .query_opt(&statement, &[agent, name, &ids.as_slice(), &names])
            .await?;
        if let Some(row) = remover {
            return Ok(Reservation::HeldByRemoval {
                removal: RemovalId::from_uuid(row.get(0)),
                container_name: row.get(1),
            });
        }
        let statement = tx.prepare_cached(RESERVE).await?;
        let reserved = tx
            .execute(
                &statement,
                &[
                    &id,
                    &dependants,
                    &operation.container_id,
                    &lease.job.as_uuid(),
                    &lease.owner,
                    &lease.epoch,
                ],
            )
            .await?;
        tx.commit().await?;
        Ok(match reserved {
            0 => Reservation::Outdated,
            _ => Reservation::Held,
        })
    }

    /// Reserves the container of a removal's item until the item is settled or the removal is over.
    /// May be repeated. False where an operation that is not over has it.
    pub async fn reserve_removed(
        &self,
        lease: &Lease,
        removal: &Removal,
        item: &Item,
    ) -> Result<bool, FencedError> {
        let reserved = self.try_reserve_removed(lease, removal, item).await?;
        match reserved {
            None => Ok(false),
            Some(0) => Err(FencedError::LeaseLost),
            Some(_) => Ok(true),
        }
    }

    async fn try_reserve_removed(
        &self,
        lease: &Lease,
        removal: &Removal,
        item: &Item,
    ) -> Result<Option<u64>, StoreError> {
        let WatcherRef { agent, name } = &removal.watcher;
        let mut client = self.client().await?;
        let tx = client.transaction().await?;
        lock(&tx, &removal.watcher).await?;
        let statement = tx.prepare_cached(LOCK_REQUESTS).await?;
        tx.execute(&statement, &[agent, name]).await?;
        // What the worker before reserved is the removal's, whoever asks for it since.
        if !item.is_reserved {
            let user = user(&tx, &removal.watcher, &item.id, &item.name).await?;
            if user.is_some() {
                return Ok(None);
            }
        }
        let statement = tx.prepare_cached(RESERVE_REMOVED).await?;
        let reserved = tx
            .execute(
                &statement,
                &[
                    &removal.id.as_uuid(),
                    &item.place,
                    &lease.job.as_uuid(),
                    &lease.owner,
                    &lease.epoch,
                ],
            )
            .await?;
        tx.commit().await?;
        Ok(Some(reserved))
    }

    /// A removal that is at work on one of these containers, by id or name, and the container's name.
    pub async fn removal_at_work(
        &self,
        watcher: &WatcherRef,
        ids: &[&str],
        names: &[&str],
    ) -> Result<Option<(RemovalId, String)>, StoreError> {
        let WatcherRef { agent, name } = watcher;
        let client = self.client().await?;
        let statement = client.prepare_cached(REMOVER).await?;
        let row = client
            .query_opt(&statement, &[agent, name, &ids, &names])
            .await?;
        Ok(row.map(|row| (RemovalId::from_uuid(row.get(0)), row.get(1))))
    }

    /// Those of the containers that a removal is at work on.
    pub async fn being_removed(&self, ids: &[&str]) -> Result<HashSet<String>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(BEING_REMOVED).await?;
        let rows = client.query(&statement, &[&ids]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Operations that were asked for a container and have not touched it go on with the one that
    /// was made in its stead. May be repeated.
    pub async fn follow_container(
        &self,
        watcher: &WatcherRef,
        from: &ContainerId,
        to: &ContainerId,
    ) -> Result<(), StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(FOLLOW).await?;
        client
            .execute(
                &statement,
                &[&from.as_str(), &to.as_str(), &watcher.agent, &watcher.name],
            )
            .await?;
        Ok(())
    }
}

/// An operation that is not over and was asked for the container, or reserved it; and the
/// container's name.
pub async fn user(
    tx: &Transaction<'_>,
    watcher: &WatcherRef,
    container: &str,
    name: &str,
) -> Result<Option<(OperationId, String)>, StoreError> {
    let statement = tx.prepare_cached(USER).await?;
    let row = tx
        .query_opt(
            &statement,
            &[&watcher.agent, &watcher.name, &container, &name],
        )
        .await?;
    Ok(row.map(|row| (OperationId::from_uuid(row.get(0)), row.get(1))))
}

async fn lock(tx: &Transaction<'_>, watcher: &WatcherRef) -> Result<(), StoreError> {
    let statement = tx.prepare_cached(LOCK).await?;
    tx.execute(&statement, &[&watcher.agent, &watcher.name])
        .await?;
    Ok(())
}
