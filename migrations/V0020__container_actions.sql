-- Starting, stopping and restarting a container are operations too: they share the lock, the lease
-- and the journal of updates, so that neither runs while the other does.
ALTER TABLE update_operations DROP CONSTRAINT update_operations_kind_check;
ALTER TABLE update_operations ADD CONSTRAINT update_operations_kind_check
    CHECK (kind IN ('update', 'rollback', 'start', 'stop', 'restart'));
