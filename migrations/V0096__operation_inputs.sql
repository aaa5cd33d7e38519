-- Changing labels makes a container anew as an update does, and is an operation of its own kind. Which
-- kinds there are is said in one place, domain::operation: a list here would have to be replaced with
-- each new one.
ALTER TABLE update_operations DROP CONSTRAINT update_operations_kind_check;
ALTER TABLE update_operations ADD CONSTRAINT update_operations_kind_check
    CHECK (kind ~ '^[a-z][a-z-]{0,31}$');

-- What a request asks for beside its target.
CREATE TABLE operation_inputs (
    operation_id    uuid        PRIMARY KEY REFERENCES update_operations (id) ON DELETE CASCADE,
    script          text,                             -- the check of this one update, instead of another
    labels          jsonb                             -- domain::labels::LabelRequest
);
