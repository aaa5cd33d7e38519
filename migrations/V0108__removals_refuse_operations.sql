-- No operation is accepted for a container that a removal is at work on. Whoever reserves a container
-- for a removal and whoever asks for an operation on its engine wait for each other, and the look
-- comes after the wait: each statement of a volatile function sees what was committed by then.
CREATE FUNCTION is_being_removed(of_agent text, of_watcher text, of_container text, of_name text)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(hashtextextended(of_agent || '/' || of_watcher, 18));
    RETURN EXISTS (SELECT 1 FROM removal_items i JOIN removals r ON r.id = i.removal_id
                    WHERE i.kind = 'container' AND i.state = 'planned' AND i.reserved_at IS NOT NULL
                      AND (i.object_id = of_container OR i.name = of_name)
                      AND r.agent = of_agent AND r.watcher = of_watcher AND r.completed_at IS NULL);
END $$;

CREATE FUNCTION refuse_while_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF is_being_removed(NEW.agent, NEW.watcher, NEW.container_id, NEW.container_name) THEN
        RAISE EXCEPTION 'the container % is being removed', NEW.container_name
            USING ERRCODE = 'check_violation', CONSTRAINT = 'update_operations_removal';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER update_operations_removal BEFORE INSERT ON update_operations
    FOR EACH ROW EXECUTE FUNCTION refuse_while_removed();
