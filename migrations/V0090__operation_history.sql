-- The history of all containers, a page at a time.
CREATE INDEX update_operations_created ON update_operations (created_at DESC, id DESC);
