-- The removals of containers are listed with operations, a page at a time: each with the name of its
-- container, as it was asked for until there is a plan.
ALTER TABLE removals ADD COLUMN container_name text;  -- of the removal of one container only
UPDATE removals r
   SET container_name = coalesce((SELECT i.name FROM removal_items i
                                   WHERE i.removal_id = r.id AND i.place = 0),
                                 r.request ->> 'reference')
 WHERE r.request ->> 'kind' = 'container';
CREATE INDEX removals_of_containers ON removals (created_at DESC, id DESC)
    WHERE container_name IS NOT NULL;
-- And what was done to one container.
CREATE INDEX removals_name ON removals (container_name, created_at DESC, id DESC)
    WHERE container_name IS NOT NULL;
CREATE INDEX update_operations_name ON update_operations (container_name, created_at DESC, id DESC);
