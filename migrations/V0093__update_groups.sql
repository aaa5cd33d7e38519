-- Updates of several containers of a stack that come one after another, and the request that asked
-- for several such groups at once.
ALTER TABLE operation_groups DROP CONSTRAINT operation_groups_kind_check;
ALTER TABLE operation_groups ADD CONSTRAINT operation_groups_kind_check
    CHECK (kind IN ('restart-stack', 'restart-container', 'update-stack'));
ALTER TABLE operation_groups ADD COLUMN batch uuid;
CREATE INDEX operation_groups_batch ON operation_groups (batch) WHERE batch IS NOT NULL;
