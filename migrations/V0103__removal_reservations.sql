-- A container that a removal is about to stop and remove: no operation begins to work on it until
-- the removal has settled it.
ALTER TABLE removal_items ADD COLUMN reserved_at timestamptz;
CREATE INDEX removal_items_reserved ON removal_items (removal_id)
    WHERE state = 'planned' AND reserved_at IS NOT NULL;
