-- What ended lately on an engine is asked for every few seconds.
CREATE INDEX update_operations_ended ON update_operations (agent, watcher, completed_at)
    WHERE completed_at IS NOT NULL;
